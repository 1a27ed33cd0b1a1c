//! Paths in their normal form, as Envoy has it: what URLs mean to browsers (the URL standard of
//! WHATWG), so that a route and an upstream take a path for the same.

use std::borrow::Cow;

/// A path with `%2F` as `/` and `%5C` as `\`; borrowed where there is neither. A query stays as it
/// is.
pub fn unescape_slashes(target: &str) -> Cow<'_, str> {
    let (path, query) = split(target);
    if !path.contains('%') {
        return Cow::Borrowed(target);
    }
    let mut made = String::with_capacity(target.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        made.push_str(&rest[..at]);
        let slash = match escape_at(&rest.as_bytes()[at..]) {
            Some(b'/') => '/',
            Some(b'\\') => '\\',
            _ => {
                made.push('%');
                rest = &rest[at + 1..];
                continue;
            }
        };
        made.push(slash);
        rest = &rest[at + 3..];
    }
    made.push_str(rest);
    if made == path {
        return Cow::Borrowed(target);
    }
    made.push_str(query);
    Cow::Owned(made)
}

/// A path with several slashes in a row as one; borrowed where there are none.
pub fn merge_slashes(target: &str) -> Cow<'_, str> {
    let (path, query) = split(target);
    if !path.contains("//") {
        return Cow::Borrowed(target);
    }
    let mut made = String::with_capacity(target.len());
    for character in path.chars() {
        if character != '/' || !made.ends_with('/') {
            made.push(character);
        }
    }
    made.push_str(query);
    Cow::Owned(made)
}

/// A path without `.` and `..`, with `/` for `\`, and with nothing escaped that need not be and all
/// that must; borrowed where it is so already. `None`: it has an escaped NUL, which nobody takes
/// for the same.
pub fn normalize(target: &str) -> Option<Cow<'_, str>> {
    let (path, query) = split(target);
    let bytes = path.as_bytes();
    if bytes.iter().all(|byte| is_plain(*byte)) {
        return Some(Cow::Borrowed(target));
    }
    let mut made: Vec<u8> = Vec::with_capacity(target.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        if let Some(dot) = dot_at(rest) {
            let directory = match made.last() {
                Some(b'/') => directory(&rest[dot..]),
                _ => Directory::None,
            };
            match directory {
                Directory::None => {
                    made.push(b'.');
                    at += dot;
                }
                Directory::Current(length) => at += dot + length,
                Directory::Parent(length) => {
                    at += dot + length;
                    made.pop();
                    while made.last().is_some_and(|last| *last != b'/') {
                        made.pop();
                    }
                    if made.is_empty() {
                        made.push(b'/');
                    }
                }
            }
            continue;
        }
        match (byte, escape_at(rest)) {
            (b'\\', _) => made.push(b'/'),
            (b'%', Some(0)) => return None,
            (b'%', Some(escaped)) => {
                if is_unreserved(escaped) {
                    made.push(escaped);
                } else {
                    made.extend_from_slice(&rest[..3]);
                }
                at += 2;
            }
            (byte, _) if is_escaped(byte) => {
                made.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
            (byte, _) => made.push(byte),
        }
        at += 1;
    }
    made.extend_from_slice(query.as_bytes());
    // Only ASCII was added to what was text.
    let made = String::from_utf8(made).ok()?;
    Some(if made == target {
        Cow::Borrowed(target)
    } else {
        Cow::Owned(made)
    })
}

/// The path, and the query with its `?`.
fn split(target: &str) -> (&str, &str) {
    target.split_at(target.find('?').unwrap_or(target.len()))
}

/// What a dot after a slash stands for, and the length of what belongs to it behind that dot.
enum Directory {
    None,
    Current(usize),
    Parent(usize),
}

/// What follows a dot that stands after a slash.
fn directory(after: &[u8]) -> Directory {
    match after.first() {
        None => return Directory::Current(0),
        Some(b'/' | b'\\') => return Directory::Current(1),
        Some(_) => {}
    }
    let Some(second) = dot_at(after) else {
        return Directory::None;
    };
    match after.get(second) {
        None => Directory::Parent(second),
        Some(b'/' | b'\\') => Directory::Parent(second + 1),
        Some(_) => Directory::None,
    }
}

/// The length of the dot that stands at the beginning, which may be escaped.
fn dot_at(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'.', ..] => Some(1),
        [b'%', b'2', b'e' | b'E', ..] => Some(3),
        _ => None,
    }
}

/// The byte that is escaped at the beginning.
fn escape_at(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

/// Neither a dot nor anything that must or might be escaped.
fn is_plain(byte: u8) -> bool {
    !matches!(byte, b'.' | b'%' | b'\\') && !is_escaped(byte)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~')
}

/// What is escaped in a path in any case.
fn is_escaped(byte: u8) -> bool {
    !byte.is_ascii_graphic()
        || matches!(
            byte,
            b'"' | b'#' | b'<' | b'>' | b'?' | b'^' | b'`' | b'{' | b'|' | b'}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dots_are_resolved_and_escapes_brought_into_one_form() {
        for (given, normal) in [
            ("/", "/"),
            ("/a/b?c=/../d", "/a/b?c=/../d"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/../../a", "/a"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/a/...", "/a/..."),
            ("/a/.b/..c", "/a/.b/..c"),
            ("/a.b", "/a.b"),
            ("/a%2eb", "/a.b"),
            ("/a\\b\\..\\c", "/a/c"),
            ("/%41%7e%2f%2F%zz%4", "/A~%2f%2F%zz%4"),
            ("/a//../b", "/a/b"),
            ("/\"{|}^", "/%22%7B%7C%7D%5E"),
        ] {
            assert_eq!(normalize(given).as_deref(), Some(normal), "{given}");
        }
        assert_eq!(normalize("/a%00"), None);
    }

    #[test]
    fn slashes_are_unescaped_and_merged_in_the_path_alone() {
        assert_eq!(unescape_slashes("/a%2Fb%5cc%2f?d%2Fe"), "/a/b\\c/?d%2Fe");
        assert!(matches!(unescape_slashes("/a%20?%2F"), Cow::Borrowed(_)));
        assert_eq!(merge_slashes("//a///b/?c//d"), "/a/b/?c//d");
        assert!(matches!(merge_slashes("/a/b?//"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn a_normal_path_stays_as_it_is_and_leads_nowhere_up(path in "/[a-c./\\\\%2eEfF5cC?]{0,24}") {
            let Some(normal) = normalize(&path) else { return Ok(()) };
            prop_assert!(normal.starts_with('/'));
            let (dir, _) = split(&normal);
            prop_assert!(!dir.split('/').any(|part| part == ".." || part == "."), "{}", normal);
            // What is undone may be an escape again (%252e), which is undone no second time.
            if !path.contains("%2") && !path.contains("%5") {
                prop_assert_eq!(normalize(&normal), Some(Cow::Borrowed(&*normal)));
            }
            let merged = merge_slashes(&normal);
            prop_assert!(!split(&merged).0.contains("//"));
        }
    }
}

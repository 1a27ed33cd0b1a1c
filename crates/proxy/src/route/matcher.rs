//! The route match: whether a request is one that a route is for (`RouteMatch`).

use super::RequestHead;
use crate::model::{HeaderMatch, HeaderMatcher, PathMatch, RouteMatch, StringMatch};
use http::Method;
use std::borrow::Cow;

/// Whether all parts of the match hold. `path` is the request's, by [`path_only`].
pub(super) fn route_matches(matcher: &RouteMatch, head: &RequestHead<'_>, path: &str) -> bool {
    path_matches(matcher, head.method, path)
        && matcher
            .headers
            .iter()
            .all(|header| header_matches(header, head))
}

/// A path without its query and fragment: what path matchers see (Envoy,
/// `PathUtil::removeQueryAndFragment`).
pub(super) fn path_only(path_and_query: &str) -> &str {
    let end = memchr::memchr2(b'?', b'#', path_and_query.as_bytes());
    end.map_or(path_and_query, |end| &path_and_query[..end])
}

/// A CONNECT has no path, and only a matcher of its own takes it.
fn path_matches(matcher: &RouteMatch, method: &Method, path: &str) -> bool {
    let ignore_case = !matcher.case_sensitive;
    match &matcher.path {
        PathMatch::Connect => *method == Method::CONNECT,
        _ if path.is_empty() => false,
        PathMatch::Prefix(prefix) => starts_with(path.as_bytes(), prefix, ignore_case),
        PathMatch::Exact(exact) => equals(path.as_bytes(), exact, ignore_case),
        PathMatch::Regex(regex) => regex.is_match(path),
    }
}

/// Whether a header matcher holds.
///
/// | header | `present_match` | value match |
/// |---|---|---|
/// | there | true, or false with `invert` | as its value, turned round by `invert` |
/// | missing | false, or true with `invert` | false, with `invert` too |
/// | missing, `treat_missing_header_as_empty` | as if there | as an empty value, turned round by `invert` |
///
/// So "must not be x" does not hold for a request without the header, unless a missing header is
/// treated as empty (Envoy, `HeaderUtility::matchHeaders`). Of several lines of a header any one
/// may match, and with `invert` none may: joined, a second line would hide the first.
fn header_matches(matcher: &HeaderMatcher, head: &RequestHead<'_>) -> bool {
    let Some(wanted) = &matcher.value else {
        let there = match &matcher.name {
            HeaderMatch::Name(name) => head.headers.contains_key(name),
            _ => true,
        };
        return (there || matcher.treat_missing_as_empty) != matcher.invert;
    };
    let pseudo = match &matcher.name {
        HeaderMatch::Method => head.method.as_str(),
        HeaderMatch::Authority => head.authority,
        HeaderMatch::Path => head.path,
        HeaderMatch::Scheme => head.scheme,
        HeaderMatch::Name(name) => {
            let mut lines = head.headers.get_all(name).iter().peekable();
            if lines.peek().is_none() {
                return matcher.treat_missing_as_empty
                    && string_matches(wanted, b"") != matcher.invert;
            }
            return lines.any(|line| string_matches(wanted, line.as_bytes())) != matcher.invert;
        }
    };
    string_matches(wanted, pseudo.as_bytes()) != matcher.invert
}

/// Whether a value is as wanted. Values are bytes: one that is not UTF-8 can still begin, end and
/// contain as wanted, but matches no regular expression.
pub(crate) fn string_matches(wanted: &StringMatch, value: &[u8]) -> bool {
    match wanted {
        StringMatch::Exact {
            value: exact,
            ignore_case,
        } => equals(value, exact, *ignore_case),
        StringMatch::Prefix {
            value: prefix,
            ignore_case,
        } => starts_with(value, prefix, *ignore_case),
        StringMatch::Suffix {
            value: suffix,
            ignore_case,
        } => value
            .len()
            .checked_sub(suffix.len())
            .is_some_and(|start| equals(&value[start..], suffix, *ignore_case)),
        StringMatch::Contains {
            value: part,
            ignore_case,
        } => contains(value, part, *ignore_case),
        StringMatch::Regex(regex) => {
            std::str::from_utf8(value).is_ok_and(|text| regex.is_match(text))
        }
    }
}

fn equals(value: &[u8], exact: &str, ignore_case: bool) -> bool {
    if ignore_case {
        value.eq_ignore_ascii_case(exact.as_bytes())
    } else {
        value == exact.as_bytes()
    }
}

fn starts_with(value: &[u8], prefix: &str, ignore_case: bool) -> bool {
    value
        .get(..prefix.len())
        .is_some_and(|start| equals(start, prefix, ignore_case))
}

fn contains(value: &[u8], part: &str, ignore_case: bool) -> bool {
    let value = if ignore_case {
        Cow::Owned(value.to_ascii_lowercase())
    } else {
        Cow::Borrowed(value)
    };
    // With `ignore_case` the model holds the pattern in lower case.
    memchr::memmem::find(&value, part.as_bytes()).is_some()
}

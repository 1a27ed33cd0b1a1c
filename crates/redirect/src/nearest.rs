//! What a mistyped word was most likely meant to be.

/// The known word that is nearest to `word`, if one is so near that a typing error explains it:
/// another case, another sign between words, or a few letters.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = plain(word);
    known
        .iter()
        .map(|known| (distance(&word, &plain(known)), *known))
        .filter(|(distance, known)| *distance <= known.chars().count().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Longer words than any that is known are near to none.
const LONGEST: usize = 64;

fn plain(word: &str) -> Vec<char> {
    let letters = word.chars().filter(|c| !matches!(c, '_' | '-'));
    letters.take(LONGEST).flat_map(char::to_lowercase).collect()
}

/// How many letters must be put in, left out or replaced to make one of the other.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_typing_error_has_a_nearest_word_and_another_word_has_none() {
        let known = ["port", "excludePorts", "excludeSources", "capture"];
        for (word, meant) in [
            ("prot", Some("port")),
            ("ports", Some("port")),
            ("exclude_ports", Some("excludePorts")),
            ("EXCLUDEPORTS", Some("excludePorts")),
            ("excludePort", Some("excludePorts")),
            ("exludeSuorces", Some("excludeSources")),
            ("captures", Some("capture")),
            ("selfCalls", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(1 << 20), &known), None);
        assert_eq!(nearest("port", &[]), None);
    }
}

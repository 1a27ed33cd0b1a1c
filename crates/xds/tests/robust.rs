//! No input makes the loader panic.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;
use shunt_xds::{Converter, load_bootstrap};
use std::fs;

const SIDECAR: &str = include_str!("data/sidecar.yaml");

/// Load these bytes; whatever comes of it, it comes as a value.
fn load(bytes: &[u8], name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    if let Err(error) = load_bootstrap(&path, &Converter::InProcess) {
        assert!(!error.to_string().is_empty());
        assert!(error.problems().is_none_or(|p| !p.list().is_empty()));
    }
}

/// A scalar of the sidecar's bootstrap replaced by something else.
fn mutated() -> impl Strategy<Value = String> {
    let values = prop_oneof![
        Just("~".to_owned()),
        Just("-1".to_owned()),
        Just("4294967296".to_owned()),
        Just("1e300".to_owned()),
        Just(".nan".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("[{}]".to_owned()),
        Just("\"\"".to_owned()),
        Just("9223372036854775807s".to_owned()),
        Just("-315576000000s".to_owned()),
        "[a-z*:.|/0-9]{1,12}",
    ];
    (any::<prop::sample::Index>(), values).prop_map(|(index, value)| {
        let places: Vec<(usize, usize)> = SIDECAR
            .match_indices(": ")
            .filter_map(|(i, _)| {
                let rest = &SIDECAR[i + 2..];
                let end = rest.find(['\n', ',', '}'])?;
                Some((i + 2, i + 2 + end))
            })
            .collect();
        let (start, end) = places[index.index(places.len())];
        format!("{}{value}{}", &SIDECAR[..start], &SIDECAR[end..])
    })
}

/// A line left out, or given twice.
fn shuffled() -> impl Strategy<Value = String> {
    (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(index, double)| {
        let lines: Vec<&str> = SIDECAR.lines().collect();
        let chosen = index.index(lines.len());
        let repeat = |i| {
            if i == chosen {
                if double { 2 } else { 0 }
            } else {
                1
            }
        };
        let lines = lines.iter().enumerate();
        lines
            .flat_map(|(i, line)| vec![*line; repeat(i)])
            .fold(String::new(), |text, line| text + line + "\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_refused_with_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        load(&bytes, "a.yaml");
        load(&bytes, "a.json");
    }

    #[test]
    fn arbitrary_text_with_the_letters_of_yaml_is_refused_with_an_error(text in "[-a: \\[\\]{}\"'&*!|>%@#,?\n0-9]{0,120}") {
        load(text.as_bytes(), "a.yaml");
    }

    #[test]
    fn a_bootstrap_with_one_value_changed_loads_or_is_refused(text in mutated()) {
        load(text.as_bytes(), "a.yaml");
    }

    #[test]
    fn a_bootstrap_with_a_line_missing_or_doubled_loads_or_is_refused(text in shuffled()) {
        load(text.as_bytes(), "a.yaml");
    }
}

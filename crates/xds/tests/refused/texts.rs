//! Files as a whole: what cannot be read, or says too much or nothing.

use std::path::Path;
use std::{fs, iter};

use shunt_xds::{Converter, LoadError, LoadErrorKind, load_bootstrap};

use crate::support::{SMALL, TCP, load, problems};

#[test]
fn the_small_bootstrap_loads_as_it_stands() {
    assert_eq!(problems(SMALL), []);
}

#[test]
fn text_that_is_neither_yaml_nor_json_is_told_with_line_and_column() {
    let cases = [
        ("a.yaml", "a: [1, 2", 1),
        ("a.yaml", "a: 1\nb: {c: 2\n", 2),
        ("a.yaml", "a:\n  b: 1\n c: 2\n", 3),
        ("a.yaml", "a: 1\na: 2\n", 2),
        ("a.yaml", "a: \"unfinished\n", 1),
        ("a.yaml", "a:\n\tb: 1\n", 2),
        ("a.yaml", "a: *nothing\n", 1),
        ("a.yaml", "a: 1\n---\nb: 2\n", 2),
        ("a.yaml", "{\"a\": 1, \"a\": 2}", 1),
        ("a.json", "{\"a\": 1,\n \"a\": 2}", 2),
        ("a.json", "{\"a\": }", 1),
        ("a.json", "{\"a\": 1} x", 1),
        ("a.json", "a: 1", 1),
    ];
    for (name, text, line) in cases {
        let error = load(text, name).map(drop).unwrap_err();
        assert_eq!(error.kind(), LoadErrorKind::Syntax, "{text:?}: {error}");
        let LoadError::Syntax { error, .. } = error else {
            panic!("{error}")
        };
        assert!(error.line.abs_diff(line) <= 1, "{text:?}: {error}");
        assert!(error.column > 0, "{text:?}: {error}");
        assert!(!error.message.is_empty());
    }
}

#[test]
fn an_alias_bomb_is_refused_and_not_expanded() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let aliases = vec![format!("*a{}", i - 1); 9].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
    }
    let error = load(&bomb, "a.yaml").map(drop).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Syntax, "{error}");
}

#[test]
fn a_long_value_cannot_be_multiplied_by_aliases() {
    // 64 KiB, a hundred thousand times: 6 GiB of text from a file of half a megabyte.
    let value = "x".repeat(64 << 10);
    let aliases = vec!["*a"; 100_000].join(", ");
    let error = load(&format!("a: &a {value}\nb: [{aliases}]\n"), "a.yaml").map(drop);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Syntax, "{error}");
    let error = error.to_string();
    assert!(error.contains("too large"), "{error}");
}

#[test]
fn a_text_that_is_too_deep_is_refused() {
    for (name, open) in [
        ("a.json", "["),
        ("a.yaml", "["),
        ("a.yaml", "- "),
        ("a.yaml", "{a: "),
    ] {
        let deep: String = iter::repeat_n(open, 50_000).collect();
        let error = load(&deep, name).map(drop).unwrap_err();
        assert_eq!(error.kind(), LoadErrorKind::Syntax, "{name} {open} {error}");
    }
}

#[test]
fn a_bootstrap_where_nothing_listens_is_refused() {
    for text in ["{}", "static_resources: {}", "node: { id: a }"] {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, "static_resources.listeners");
        assert!(
            found[0].message.contains("no listener binds a port"),
            "{found:?}"
        );
    }
    let unbound = SMALL
        .replace(
            "  - name: web\n",
            "  - name: web\n    bind_to_port: false\n",
        )
        .replace("  - name: db\n", "  - name: db\n    bind_to_port: false\n");
    assert_eq!(problems(&unbound)[0].path, "static_resources.listeners");
    // One that is wrong in itself may have been meant to listen: one problem, not two.
    let wrong = unbound.replace("stat_prefix: db", "stat_prefix: \"\"");
    let found = problems(&wrong);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].path, format!("{TCP}.stat_prefix"));
}

#[test]
fn all_problems_of_a_file_are_told_at_once_up_to_twenty() {
    let text = SMALL
        .replace("cluster: app }", "cluster: nowhere }")
        .replace("stat_prefix: db", "stat_prefix: \"\"")
        .replace("port_value: 80 ", "port_value: 0 ");
    assert_eq!(problems(&text).len(), 3);

    let fields: String = (0..50).map(|i| format!("nothing{i}: 1\n")).collect();
    let error = load(&fields, "a.yaml").map(drop).unwrap_err();
    let told = error.problems().unwrap();
    assert_eq!((told.list().len(), told.more()), (20, 30));
    assert!(error.to_string().ends_with("and 30 more"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_its_name_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, Option<&[u8]>, &str); 4] = [
        ("missing.yaml", None, "no such file"),
        ("empty.yaml", Some(b" \n"), "it is empty"),
        ("binary.yaml", Some(b"a: \xff\xfe"), "not UTF-8"),
        (
            "large.yaml",
            Some(&[b'#'; (64 << 20) + 1]),
            "larger than 64 MiB",
        ),
    ];
    for (name, content, says) in cases {
        let path = folder.path().join(name);
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let error = load_bootstrap(&path, &Converter::InProcess)
            .map(drop)
            .unwrap_err();
        assert_eq!(error.kind(), LoadErrorKind::Unreadable);
        assert!(
            error.to_string().contains(name) && error.to_string().contains(says),
            "{error}"
        );
    }
    let error = load_bootstrap(Path::new("/"), &Converter::InProcess)
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("it is a directory"), "{error}");
}

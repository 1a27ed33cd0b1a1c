//! What is to be done with a policy, where, and what is told beside.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::{config, parse, parse_with};
use crate::backend::BackendChoice;
use crate::compat::istio::FLAGS;
use crate::compat::{Action, wants_json};
use crate::facts::PodFacts;
#[test]
fn a_policy_that_captures_nothing_on_a_side_is_warned_of() {
    for (list, outbound, inbound) in [
        (&[][..], true, true),
        (&["-i", "", "-b", ""], true, true),
        (&["-x", "10.0.0.0/8", "-d", "80", "-o", "53"], true, true),
        (&["--dry-run"], true, true),
        (&["-i", "*"], false, true),
        (&["-i", "10.0.0.0/8"], false, true),
        (&["-q", "80"], false, true),
        (&["-b", "*"], true, false),
        (&["-b", "80"], true, false),
        (&["-i", "*", "-b", "*"], false, false),
    ] {
        let warnings = parse(list).unwrap().warnings(&PodFacts::default(), &[]);
        let told = |words: &[&str]| {
            warnings
                .iter()
                .any(|warning| words.iter().all(|word| warning.contains(word)))
        };
        assert_eq!(
            told(&["nothing outbound (no -i, no -q)", "`-i '*'`"]),
            outbound,
            "{list:?}: {warnings:?}"
        );
        assert_eq!(
            told(&["nothing inbound (no -b)", "`-b '*'`"]),
            inbound,
            "{list:?}: {warnings:?}"
        );
    }
}

#[test]
fn what_counts_only_beside_another_flag_is_told_without_it() {
    for (list, variables, words) in [
        (
            &["--probe-timeout", "1s"][..],
            &[][..],
            "--probe-timeout=1s has no effect: it counts only with --run-validation",
        ),
        (
            &[],
            &[("IPTABLES_PROBE_PORT", "15003")],
            "IPTABLES_PROBE_PORT=15003 has no effect",
        ),
        (
            &[],
            &[("DRY_RUN_FILE_PATH", "/tmp/rules")],
            "DRY_RUN_FILE_PATH=/tmp/rules has no effect: rules are written to a file only with",
        ),
    ] {
        let notes = parse_with(list, variables).unwrap().notes;
        assert!(
            matches!(&notes[..], [note] if note.starts_with(words)),
            "{notes:?}"
        );
        let all = [list, &["--run-validation"]].concat();
        let dry = [list, &["--dry-run"]].concat();
        let silent = [&all, &dry].map(|list| parse_with(list, variables).unwrap().notes.is_empty());
        assert!(silent.contains(&true), "{list:?}");
    }
}

#[test]
fn how_and_where_it_is_done_is_followed() {
    let request = parse(&["--network-namespace", "/proc/1/ns/net"]).unwrap();
    assert_eq!(
        request.network_namespace,
        Some(PathBuf::from("/proc/1/ns/net"))
    );
    for (list, backend) in [
        (&[][..], BackendChoice::Auto),
        (&["--native-nftables"], BackendChoice::Nft),
        (
            &["--force-iptables-binary", "legacy"],
            BackendChoice::IptablesLegacy,
        ),
        (
            &["--force-iptables-binary", "nft"],
            BackendChoice::IptablesNft,
        ),
        (
            &["--backend", "iptables-legacy"],
            BackendChoice::IptablesLegacy,
        ),
        (
            &["--backend", "nft", "--native-nftables"],
            BackendChoice::Nft,
        ),
    ] {
        assert_eq!(parse(list).unwrap().backend, backend, "{list:?}");
    }
    let validation = |list: &[&str]| {
        let validation = parse(list).unwrap().validation?;
        Some((validation.probe_port.get(), validation.timeout))
    };
    let second = Duration::from_secs(1);
    assert_eq!(validation(&["--probe-timeout", "1s"]), None);
    assert_eq!(validation(&["--run-validation"]), Some((15002, 5 * second)));
    assert_eq!(
        validation(&[
            "--run-validation",
            "--skip-rule-apply",
            "--iptables-probe-port",
            "7",
            "--probe-timeout",
            "1m30s"
        ]),
        Some((7, 90 * second))
    );
    let file = [("DRY_RUN_FILE_PATH", "/tmp/rules")];
    assert_eq!(
        parse_with(&["-n"], &file).unwrap().action,
        Action::Print {
            file: Some(PathBuf::from("/tmp/rules"))
        }
    );
    assert_eq!(parse_with(&[], &file).unwrap().action, Action::Apply);
}

#[test]
fn switches_are_true_alone_and_take_all_of_gos_words() {
    for (list, action) in [
        (&["--dry-run"][..], Action::Print { file: None }),
        (&["-n"], Action::Print { file: None }),
        (&["--dry-run=T"], Action::Print { file: None }),
        (&["--dry-run=false"], Action::Apply),
        (&["--dry-run=0", "--cleanup-only"], Action::Remove),
        (&["--skip-rule-apply"], Action::Leave),
    ] {
        assert_eq!(parse(list).unwrap().action, action, "{list:?}");
    }
    for harmless in [
        "--reconcile",
        "--force-apply",
        "--cni-mode",
        "--redirect-dns=false",
        "--native-nftables",
    ] {
        assert_eq!(config(&[harmless]), config(&[]), "{harmless}");
    }
}

#[test]
fn json_messages_are_asked_for_as_any_switch_is() {
    for (list, json) in [
        (&[][..], false),
        (&["--log_as_json"], true),
        (&["-b", "80", "--log_as_json=T"], true),
        (&["--log_as_json=false"], false),
        (&["--log_as_json_too"], false),
        (&["log_as_json"], false),
        (&["--log-format", "json"], true),
        (&["--log-format=json"], true),
        (&["--log-format", "plain", "json"], false),
        (&["--log-formats=json"], false),
    ] {
        let arguments: Vec<_> = list.iter().map(Into::into).collect();
        assert_eq!(wants_json(&arguments), json, "{list:?}");
    }
    assert_eq!(config(&["--log_as_json"]), config(&[]));
    let error = parse(&["--log_as_json=maybe"]).unwrap_err().to_string();
    assert!(
        error.starts_with("--log_as_json=maybe is not one of"),
        "{error}"
    );
}

#[test]
fn every_name_is_given_once() {
    let mut names = BTreeSet::new();
    for flag in FLAGS {
        assert!(names.insert(flag.long.to_owned()), "{}", flag.long);
        assert!(
            flag.short
                .is_none_or(|short| names.insert(short.to_string())),
            "{}",
            flag.long
        );
    }
    // The original's, --ipv6, --backend and the two of its log.
    assert_eq!(FLAGS.len(), 36);
}

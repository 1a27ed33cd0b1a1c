//! From one backend or mode to another: nothing of the former stays.

use shunt_redirect::backend::{self, BackendChoice};
use shunt_redirect::iptables::Flavour;
use shunt_redirect::{Backend, remove};

use super::child::Wrapped;
use super::{FAMILIES, FLAVOURS, iptables, ours, saved};
use crate::cases::named;
use crate::support::{everything, in_pod, output};
use shunt_redirect::ruleset::Family;

/// All that any backend may have written, whatever the order of tables.
fn all() -> String {
    // Empty legacy tables come into being when they are looked at, and cannot be made to go.
    let legacy = FAMILIES.map(|family| ours(Flavour::Legacy, family).text());
    let everything = everything();
    let (tables, rest) = everything.split_once("\n---\n").unwrap();
    let mut tables: Vec<_> = tables.split("table ").collect();
    tables.sort_unstable();
    format!("{}\n{}\n{rest}", legacy.concat(), tables.concat())
}

const BACKENDS: [(BackendChoice, Backend); 3] = [
    (BackendChoice::Nft, Backend::Nft),
    (
        BackendChoice::IptablesLegacy,
        Backend::Iptables(Flavour::Legacy),
    ),
    (BackendChoice::IptablesNft, Backend::Iptables(Flavour::Nft)),
];
const POLICIES: [&str; 3] = [
    "injector_with_both_families",
    "tproxy_with_everything",
    "ipv6_off",
];

/// A backend, a policy, and what it leaves in a fresh pod.
type WayToWrite = ((BackendChoice, Backend), &'static str, String);

fn ways() -> Vec<WayToWrite> {
    let fresh = |choice, policy: &str| {
        in_pod(|| {
            let applied = backend::apply(&named(policy), choice).unwrap();
            assert!(applied.replaced.is_empty());
            all()
        })
    };
    BACKENDS
        .iter()
        .flat_map(|backend| POLICIES.map(|policy| (*backend, policy)))
        .map(|(backend, policy)| (backend, policy, fresh(backend.0, policy)))
        .collect()
}

#[test]
fn tables_that_a_killed_run_had_emptied_go_with_the_next_that_changes_or_removes() {
    // Where the table has been emptied, and is not yet gone.
    let dies = "case $NAME in *-restore) $REAL \"$@\"; kill -9 $PPID; sleep 5;; esac";
    let half_way = || {
        backend::apply(&named("tproxy_with_everything"), BackendChoice::IptablesNft).unwrap();
        for _ in 0..2 {
            let ended = Wrapped::new(Flavour::Nft, dies).run("ipv6_off", "iptables-nft");
            assert!(!ended.status.success(), "{ended:?}");
        }
        assert!(output("nft", &["list", "tables"]).contains("mangle"));
    };
    in_pod(|| {
        let before = all();
        half_way();
        remove().unwrap();
        assert_eq!(all(), before);
    });
    in_pod(|| {
        half_way();
        let policy = named("injector_with_both_families");
        backend::apply(&policy, BackendChoice::IptablesNft).unwrap();
        let tables = output("nft", &["list", "tables"]);
        let mut tables: Vec<_> = tables.lines().collect();
        tables.sort_unstable();
        assert_eq!(tables, ["table ip nat", "table ip6 nat"]);
    });
}

#[test]
fn nothing_is_left_of_a_first_run_that_fails_and_is_killed_while_it_takes_back() {
    let fails_then_dies = r#"
case $NAME in *tables-*-restore)
    if [ -e $DIR/failed ]; then $REAL "$@"; kill -9 $PPID; sleep 5; fi
    touch $DIR/failed
    sed '/COMMIT/q' | $REAL "$@"
    echo "$NAME: line 7 failed: No chain/target/match by that name." >&2
    exit 1
esac"#;
    in_pod(|| {
        let before = all();
        let wrapped = Wrapped::new(Flavour::Nft, fails_then_dies);
        let ended = wrapped.run("tproxy_with_everything", "iptables-nft");
        assert!(
            ended.error.is_empty() || ended.error.contains("line 7"),
            "{ended:?}"
        );
        remove().unwrap();
        assert_eq!(all(), before);
    });
}

#[test]
fn earlier_rules_that_cannot_be_removed_are_told_of_and_go_with_the_next_run() {
    in_pod(|| {
        let policy = "injector_with_both_families";
        backend::apply(&named(policy), BackendChoice::IptablesLegacy).unwrap();
        let fails = "case $NAME in *-restore) echo 'it is broken' >&2; exit 1;; esac";
        let ended = Wrapped::new(Flavour::Legacy, fails).run(policy, "nft");
        assert!(ended.error.starts_with("KernelRefused: "), "{ended:?}");
        for words in [
            "it is broken",
            "act beside the new ones",
            "`shunt-init remove`",
        ] {
            assert!(ended.error.contains(words), "{words}: {ended:?}");
        }
        // As it says.
        assert!(everything().contains("table inet shunt"));
        assert!(!ours(Flavour::Legacy, Family::V4).is_empty());
        let again = backend::apply(&named(policy), BackendChoice::Nft).unwrap();
        assert_eq!(again.replaced, [Backend::Iptables(Flavour::Legacy)]);
        for family in FAMILIES {
            assert!(ours(Flavour::Legacy, family).is_empty());
        }
    });
}

/// Does two things at once.
fn at_once(one: impl FnOnce() + Send, other: impl FnOnce() + Send) {
    // A thread starts in the namespace of the one that made it.
    std::thread::scope(|scope| {
        scope.spawn(one);
        scope.spawn(other);
    });
}

#[test]
fn of_two_runs_at_once_one_is_left_whole_whatever_they_write() {
    let ways = ways();
    for (i, (one, policy, left_by_one)) in ways.iter().enumerate() {
        in_pod(|| {
            let empty = all();
            let write = |policy: &str, choice| {
                backend::apply(&named(policy), choice).unwrap();
            };
            for (other, another, left_by_other) in &ways[i + 1..] {
                at_once(|| write(policy, one.0), || write(another, other.0));
                let left = all();
                assert!(
                    [left_by_one, left_by_other].contains(&&left),
                    "{one:?} {policy} and {other:?} {another}: {left:#?}"
                );
            }
            at_once(
                || write(policy, one.0),
                || {
                    remove().unwrap();
                },
            );
            let left = all();
            assert!(
                [left_by_one, &empty].contains(&&left),
                "{one:?} {policy} and a removal: {left:#?}"
            );
        });
    }
}

#[test]
fn no_backend_and_no_mode_leaves_anything_behind_when_another_follows() {
    let ways = ways();
    for (from, before, _) in &ways {
        in_pod(|| {
            let empty = all();
            for (to, after, expected) in &ways {
                backend::apply(&named(before), from.0).unwrap();
                let applied = backend::apply(&named(after), to.0).unwrap();
                assert_eq!(applied.backend, to.1);
                let replaced: &[Backend] = if from == to { &[] } else { &[from.1] };
                assert_eq!(applied.replaced, replaced);
                assert_eq!(&all(), expected, "from {from:?} {before} to {to:?} {after}");
                let removed = remove().unwrap();
                assert_eq!(removed.table, to.1 == Backend::Nft);
                assert_eq!(removed.iptables.is_empty(), to.1 == Backend::Nft);
                assert_eq!(all(), empty, "after {from:?} {before} and {to:?} {after}");
            }
        });
    }
}

#[test]
fn iptables_goes_where_the_rules_of_others_are() {
    for (family, arguments, flavour) in [
        (Family::V4, "-t filter -A INPUT -j ACCEPT", Flavour::Legacy),
        (Family::V6, "-t nat -A OUTPUT -j RETURN", Flavour::Legacy),
        (Family::V4, "-t filter -A INPUT -j ACCEPT", Flavour::Nft),
    ] {
        in_pod(|| {
            // Tables that are there, but empty, say nothing.
            saved(Flavour::Legacy);
            iptables(Flavour::Legacy, Family::V4, "-t nat -L -n");
            iptables(flavour, family, arguments);
            let config = named("injector_with_both_families");
            let applied = backend::apply(&config, BackendChoice::Iptables).unwrap();
            assert_eq!(applied.backend, Backend::Iptables(flavour));
            let again = backend::apply(&config, BackendChoice::Iptables).unwrap();
            assert_eq!(again.backend, applied.backend);
            assert_eq!(again.change, shunt_redirect::Change::Unchanged);
        });
    }
}

#[test]
fn by_nf_tables_no_program_is_run_unless_there_are_legacy_tables() {
    in_pod(|| {
        let count = "echo $NAME >>$DIR/run";
        for policy in [
            "injector_with_both_families",
            "tproxy_with_everything",
            "remove",
        ] {
            let wrapped: Vec<_> = FLAVOURS.map(|flavour| Wrapped::new(flavour, count)).into();
            for wrapped in &wrapped {
                for choice in ["auto", "nft"] {
                    let ended = wrapped.run(policy, choice);
                    assert_eq!((ended.status.code(), ended.error.as_str()), (Some(0), ""));
                    assert_eq!(wrapped.read("run"), "");
                }
            }
        }
        iptables(Flavour::Legacy, Family::V4, "-t nat -L -n");
        let wrapped = Wrapped::new(Flavour::Legacy, count);
        wrapped.run("injector_with_both_families", "nft");
        assert_eq!(wrapped.read("run"), "iptables-legacy-save\n");
    });
}

#[test]
fn iptables_is_used_where_the_kernel_has_no_nf_tables_and_only_if_the_choice_is_free() {
    // The third question is asked before the first change.
    for (sockets, flavour) in [(1, Flavour::Nft), (3, Flavour::Legacy)] {
        in_pod(|| {
            let policy = "tproxy_with_everything";
            let wrapped = Wrapped::new(flavour, "");
            let before = all();
            let forced = wrapped.run_without_nf_tables(sockets, policy, "nft");
            assert!(forced.error.starts_with("KernelLacks: "), "{forced:?}");
            assert_eq!(all(), before);

            let free = wrapped.run_without_nf_tables(sockets, policy, "auto");
            assert_eq!(free.error, "", "{free:?}");
            let expected = format!("{flavour}, Some(\"cannot open a netlink socket");
            assert!(free.backend.starts_with(&expected), "{free:?}");
            super::applied(&named(policy), flavour);

            let usual = wrapped.run(policy, "auto");
            assert_eq!(usual.backend, "nft, None");
        });
    }
}

#[test]
fn a_foreign_table_of_our_name_does_not_keep_our_chains() {
    for flavour in [BackendChoice::IptablesLegacy, BackendChoice::IptablesNft] {
        in_pod(|| {
            output("nft", &["add", "table", "inet", "shunt"]);
            let before = all();
            backend::apply(&named(POLICIES[0]), flavour).unwrap();
            let error = remove().unwrap_err();
            assert!(error.to_string().contains("rename or delete it"), "{error}");
            assert_eq!(all(), before, "{flavour:?}");
        });
    }
}

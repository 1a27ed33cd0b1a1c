//! A program that fails or is gone, and runs that die half-way.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use shunt_redirect::backend::{self, BackendChoice};
use shunt_redirect::error::Cause;
use shunt_redirect::iptables::Flavour;
use shunt_redirect::ruleset::Family;
use shunt_redirect::{Change, remove};

use super::child::Wrapped;
use super::{FAMILIES, FLAVOURS, applied, apply, choice, ours, program, saved};
use crate::cases::named;
use crate::support::{everything, in_pod, nft, shell};

/// What there is to lose.
const BEFORE: [&str; 3] = ["", "injector_with_both_families", "tproxy"];
/// What is written over it, in all tables of both families.
const AFTER: &str = "tproxy_with_everything";

/// Starts with what `before` says.
fn start(before: &str, flavour: Flavour) {
    // So that the tables are there; legacy ones come into being when they are looked at.
    for family in FAMILIES {
        let save = program(flavour, family, "-save");
        let tables = ["raw", "mangle", "nat"].map(|table| format!("{save} -t {table} >/dev/null"));
        shell(&tables.join(";"));
    }
    if !before.is_empty() {
        applied(&named(before), flavour);
    }
}

/// The second of several tables fails, as the kernel would have it.
const SECOND_TABLE_FAILS: &str = r#"
case $NAME in *tables-*-restore)
    cat >$DIR/script
    [ $(grep -c COMMIT $DIR/script) -lt 2 ] && exec $REAL "$@" <$DIR/script
    sed '/COMMIT/q' $DIR/script | $REAL "$@"
    echo "$NAME: line 7 failed: No chain/target/match by that name." >&2
    exit 1
esac"#;

const IPV6_FAILS: &str = r#"
case $NAME in ip6tables-*-restore)
    cat >/dev/null
    echo "Error occurred at line: 2" >&2
    echo "ip6tables-restore v1.8.9: Couldn't load match \`owner':No such file or directory" >&2
    echo "Try \`ip6tables-restore -h' or 'ip6tables-restore --help' for more information." >&2
    exit 2
esac"#;

#[test]
fn what_was_there_before_is_there_again_when_a_table_or_a_family_fails() {
    for flavour in FLAVOURS {
        for (wrapper, cause, words) in [
            (SECOND_TABLE_FAILS, Cause::KernelLacks, "xt_owner"),
            (IPV6_FAILS, Cause::KernelLacks, "complete package"),
        ] {
            for before in BEFORE {
                in_pod(|| {
                    start(before, flavour);
                    let state = (everything_else(), saved(flavour));
                    let wrapped = Wrapped::new(flavour, wrapper);
                    let ended = wrapped.apply(AFTER, flavour);
                    assert!(
                        ended.error.starts_with(&format!("{cause:?}: ")),
                        "{ended:?}"
                    );
                    assert!(ended.error.contains(words), "{ended:?}");
                    assert!(ended.error.contains("-restore failed (exit"), "{ended:?}");
                    assert!(!ended.error.contains("Try `"), "{ended:?}");
                    assert_eq!((everything_else(), saved(flavour)), state, "{before}");
                    applied(&named(AFTER), flavour);
                });
            }
        }
    }
}

/// Addresses and routes; the rules of nf_tables are compared as iptables prints them, because
/// empty chains of iptables-nft mean nothing.
fn everything_else() -> String {
    let all = everything();
    let (_, rest) = all.split_once("\n---\n").unwrap();
    rest.to_owned()
}

#[test]
fn a_table_that_nft_has_changed_is_refused_by_its_program_and_the_others_rolled_back() {
    in_pod(|| {
        nft("add table ip nat");
        nft("add chain ip nat OUTPUT { type nat hook output priority 7; }");
        let before = everything_else();
        let error = apply(&named(AFTER), Flavour::Nft).unwrap_err();
        assert!(error.to_string().contains("`nft list table"), "{error}");
        assert_eq!(everything_else(), before);
        for family in FAMILIES {
            assert!(ours(Flavour::Nft, family).is_empty());
        }
    });
}

/// Each table of ours, as text.
fn tables(flavour: Flavour) -> Vec<Vec<String>> {
    let families = FAMILIES.map(|family| {
        let text = ours(flavour, family).text();
        let table = |name: &str| {
            let mut tables = text.split_inclusive("COMMIT\n");
            tables
                .find(|table| table.starts_with(name))
                .unwrap_or_default()
                .to_owned()
        };
        vec![table("*raw"), table("*mangle"), table("*nat")]
    });
    families.into()
}

/// Ends the run before its program of number `$DIR/step`, or, with `$DIR/tables`, once so many
/// tables of a family are written.
fn killer(step: u32, tables: u32) -> String {
    format!(
        r#"
n=$(cat $DIR/count 2>/dev/null); n=$((n+1)); echo $n >$DIR/count
[ $n = {step} ] && {{ kill -9 $PPID; exit 1; }}
case $NAME in *-restore)
    [ {tables} = 0 ] && exec $REAL "$@"
    cat >$DIR/script
    total=$(grep -c COMMIT $DIR/script)
    written=$(cat $DIR/written 2>/dev/null); written=${{written:-0}}
    left=$(({tables} - written))
    [ $left -gt $total ] && {{ echo $((written + total)) >$DIR/written; exec $REAL "$@" <$DIR/script; }}
    awk -v n=$left '{{ print }} /COMMIT/ {{ if (++i == n) exit }}' $DIR/script | $REAL "$@"
    kill -9 $PPID; exit 1
esac"#
    )
}

#[test]
fn a_run_that_dies_at_any_step_leaves_whole_tables_and_the_next_run_heals() {
    for flavour in FLAVOURS {
        for before in BEFORE {
            let (mut old, mut new) = (Vec::new(), Vec::new());
            in_pod(|| {
                start(before, flavour);
                old = tables(flavour);
                applied(&named(AFTER), flavour);
                new = tables(flavour);
            });
            let mut deaths = 0;
            // Six programs in all; six tables.
            let steps = (1..=6)
                .map(|step| (step, 0))
                .chain((1..=6).map(|tables| (0, tables)));
            for (step, written) in steps {
                in_pod(|| {
                    start(before, flavour);
                    let wrapped = Wrapped::new(flavour, &killer(step, written));
                    let ended = wrapped.apply(AFTER, flavour);
                    assert_eq!(
                        ended.status.signal(),
                        Some(9),
                        "step {step}, table {written}: {ended:?}"
                    );
                    deaths += 1;
                    let now = tables(flavour);
                    let mut changed = 0;
                    for ((now, old), new) in now
                        .iter()
                        .flatten()
                        .zip(old.iter().flatten())
                        .zip(new.iter().flatten())
                    {
                        assert!(now == old || now == new, "half a table:\n{now}");
                        changed += u32::from(now == new && old != new);
                    }
                    if written > 0 {
                        assert_eq!(changed, written, "tables written when it died");
                    }
                    applied(&named(AFTER), flavour);
                    remove().unwrap();
                    for family in FAMILIES {
                        assert!(ours(flavour, family).is_empty());
                    }
                });
            }
            assert_eq!(deaths, 12);
        }
    }
}

#[test]
fn a_removal_that_dies_is_finished_by_the_next() {
    in_pod(|| {
        applied(&named(AFTER), Flavour::Legacy);
        for tables in [1, 2, 2] {
            let wrapped = Wrapped::new(Flavour::Legacy, &killer(0, tables));
            let ended = wrapped.run("remove", "");
            assert_eq!(ended.status.signal(), Some(9), "{ended:?}");
            assert!(saved(Flavour::Legacy).contains("shunt:"));
        }
        remove().unwrap();
        assert!(!saved(Flavour::Legacy).contains("SHUNT"));
    });
}

/// Hides all programs of the machine from this thread.
fn without_programs() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    for folder in ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"] {
        mount(Some("none"), folder, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
}

#[test]
fn programs_that_are_missing_are_named_and_nothing_is_changed() {
    for (choice, name) in [
        (
            BackendChoice::Iptables,
            "iptables-nft-restore nor iptables-legacy-restore",
        ),
        (choice(Flavour::Nft), "iptables-nft-restore"),
        (choice(Flavour::Legacy), "iptables-legacy-restore"),
    ] {
        in_pod(|| {
            let before = everything();
            let config = named("injector_with_both_families");
            let error = std::thread::scope(|scope| {
                let hidden = scope.spawn(|| {
                    without_programs();
                    backend::apply(&config, choice).unwrap_err()
                });
                hidden.join().unwrap()
            });
            assert_eq!(error.cause(), Cause::ProgramMissing);
            assert!(error.to_string().contains(name), "{error}");
            assert!(error.to_string().contains("--backend nft"), "{error}");
            assert_eq!(everything(), before);
        });
    }
}

#[test]
fn without_programs_rules_of_iptables_nft_still_go_and_legacy_ones_are_told_of() {
    in_pod(|| {
        let config = named(AFTER);
        let fresh = {
            backend::apply(&config, BackendChoice::Nft).unwrap();
            let fresh = everything();
            remove().unwrap();
            fresh
        };
        for (flavour, told) in [(Flavour::Nft, false), (Flavour::Legacy, true)] {
            applied(&config, flavour);
            std::thread::scope(|scope| {
                let hidden = scope.spawn(|| {
                    without_programs();
                    let applied = backend::apply(&config, BackendChoice::Nft).unwrap();
                    assert_eq!(applied.change, Change::Created);
                    let unchecked = applied.unchecked.unwrap_or_default();
                    assert_eq!(
                        unchecked.contains("tables-legacy-restore"),
                        told,
                        "{unchecked}"
                    );
                    assert_eq!(remove().unwrap().unchecked.is_some(), told);
                    backend::apply(&config, BackendChoice::Nft).unwrap();
                });
                hidden.join().unwrap();
            });
            assert_eq!(everything(), fresh);
        }
    });
}

#[test]
fn a_missing_ip6tables_matters_only_if_ipv6_is_captured() {
    in_pod(|| {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        // Programs of IPv4 alone, without the program of many names.
        let folder = std::env::temp_dir().join(format!("shunt-v4-only-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        for what in ["", "-save", "-restore"] {
            let name = program(Flavour::Legacy, Family::V4, what);
            fs::copy("/usr/sbin/xtables-legacy-multi", folder.join(name)).unwrap();
        }
        mount(Some(&folder), "/usr/sbin", none, MsFlags::MS_BIND, none).unwrap();
        let both = apply(&named("injector_with_both_families"), Flavour::Legacy);
        let one = apply(&named("ipv6_off"), Flavour::Legacy);
        nix::mount::umount("/usr/sbin").unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let error = both.unwrap_err();
        assert_eq!(error.cause(), Cause::ProgramMissing);
        assert!(
            error.to_string().contains("ip6tables-legacy-restore"),
            "{error}"
        );
        assert!(error.to_string().contains("--ipv6 never"), "{error}");
        assert_eq!(one.unwrap().change, Change::Created);
    });
}

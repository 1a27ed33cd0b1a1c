//! Applying twice, after tampering, beside others' rules, and removing without a trace.

use shunt_redirect::capture::{CaptureConfig, Ipv6Mode};
use shunt_redirect::error::Cause;
use shunt_redirect::iptables::Flavour;
use shunt_redirect::ruleset::Family;
use shunt_redirect::{Change, remove};

use super::child::Wrapped;
use super::{FLAVOURS, applied, apply, iptables, program, saved};
use crate::cases;
use crate::support::{INJECTOR, everything, in_pod, ip, nft, output, policy, shell};

/// Rules in each table and of every verdict.
fn full() -> CaptureConfig {
    cases::named("tproxy_with_everything")
}

#[test]
fn a_second_run_changes_nothing_and_remove_leaves_nothing() {
    for flavour in FLAVOURS {
        in_pod(|| {
            let before = everything();
            let config = full();
            assert_eq!(applied(&config, flavour).change, Change::Created);
            let state = (everything(), saved(flavour));
            assert_eq!(applied(&config, flavour).change, Change::Unchanged);
            assert_eq!((everything(), saved(flavour)), state);
            let removed = remove().unwrap();
            assert_eq!(removed.iptables, [flavour]);
            assert!(removed.routing && removed.inbound_source);
            assert!(!saved(flavour).contains("SHUNT"), "{}", saved(flavour));
            assert_eq!(everything(), before);
            assert!(remove().unwrap().iptables.is_empty());
        });
    }
}

#[test]
fn whatever_was_tampered_with_is_healed() {
    const V4: Family = Family::V4;
    const V6: Family = Family::V6;
    let tamperings: [(Family, &str, &str); 15] = [
        (V4, "-t nat -F SHUNT_OUTPUT", "is missing"),
        (V6, "-t nat -F SHUNT_OUTPUT", "is missing"),
        (V4, "-t nat -D SHUNT_OUTPUT 3", "not in its place"),
        (V4, "-t nat -I SHUNT_OUTPUT -j ACCEPT", "not in its place"),
        (V6, "-t nat -A SHUNT_OUTPUT -j RETURN", "more rules"),
        (V4, "-t raw -A SHUNT_PREROUTING -j RETURN", "more rules"),
        (
            V4,
            "-t mangle -R SHUNT_PREROUTING 1 -j ACCEPT",
            "not in its place",
        ),
        (V4, "-t mangle -F SHUNT_MARK_1337", "is missing"),
        (V4, "-t nat -N SHUNT_OTHER", "not needed"),
        (V4, "-t nat -F OUTPUT", "0 jumps"),
        (V6, "-t mangle -F PREROUTING", "0 jumps"),
        (
            V4,
            "-t nat -A OUTPUT -m comment --comment shunt:jump\u{a0}schema=1 -j SHUNT_OUTPUT",
            "2 jumps",
        ),
        (
            V4,
            "-t nat -I OUTPUT -p tcp -j SHUNT_OUTPUT",
            "another rule",
        ),
        (V6, "-t mangle -I INPUT -j SHUNT_MARK_1337", "another rule"),
        (
            V4,
            "-t mangle -A FORWARD -g SHUNT_MARK_1337",
            "another rule",
        ),
    ];
    for flavour in FLAVOURS {
        in_pod(|| {
            let config = full();
            applied(&config, flavour);
            let intact = saved(flavour);
            for (family, tampering, expected) in tamperings {
                // The space within the comment.
                let arguments: Vec<_> = tampering.split(' ').collect();
                let arguments: Vec<_> = arguments
                    .iter()
                    .map(|argument| argument.replace('\u{a0}', " "))
                    .collect();
                let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
                output(&program(flavour, family, ""), &arguments);
                assert_ne!(saved(flavour), intact, "{tampering} has an effect");
                match applied(&config, flavour).change {
                    Change::Replaced { difference } => {
                        assert!(difference.contains(expected), "{tampering}: {difference}");
                    }
                    other => panic!("{tampering}: {other:?}"),
                }
                assert_eq!(saved(flavour), intact, "{tampering} is healed");
            }
        });
    }
}

#[test]
fn rules_in_another_order_are_put_right() {
    for flavour in FLAVOURS {
        in_pod(|| {
            applied(&policy(&INJECTOR), flavour);
            let intact = saved(flavour);
            let rule = "-m comment --comment shunt:outbound/loopback-interface -o lo -j RETURN";
            iptables(
                flavour,
                Family::V4,
                &format!("-t nat -D SHUNT_OUTPUT {rule}"),
            );
            iptables(
                flavour,
                Family::V4,
                &format!("-t nat -I SHUNT_OUTPUT 1 {rule}"),
            );
            assert_ne!(saved(flavour), intact);
            applied(&policy(&INJECTOR), flavour);
            assert_eq!(saved(flavour), intact);
        });
    }
}

/// What others may have in the same tables.
fn foreign_rules(flavour: Flavour) {
    for (family, source) in [(Family::V4, "10.0.0.9"), (Family::V6, "fd00::9")] {
        for arguments in [
            "-t nat -N CNI-HOSTPORT-DNAT",
            "-t nat -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
            "-t nat -A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
            "-t nat -A CNI-HOSTPORT-DNAT -p tcp --dport 8443 -j REDIRECT --to-ports 443",
            "-t mangle -A PREROUTING -p tcp -m socket -j MARK --set-mark 0x10/0xff",
            "-t mangle -A OUTPUT -m statistic --mode random --probability 0.5 -j ACCEPT",
            "-t filter -A INPUT -m limit --limit 5/min -j LOG --log-prefix SHUNT_OUTPUT",
            &format!("-t nat -A POSTROUTING -s {source} -j MASQUERADE"),
        ] {
            iptables(flavour, family, arguments);
        }
    }
    nft("add table inet firewalld");
    nft("add chain inet firewalld nat_OUTPUT { type nat hook output priority -90; }");
    nft("add rule inet firewalld nat_OUTPUT ct state new meta l4proto tcp counter accept");
    nft("add table inet other { comment \"not ours\"; }");
    nft("add map inet other m { type ipv4_addr : verdict; elements = { 10.0.0.1 : accept }; }");
}

/// Rules and chains that are not ours, in their order.
fn theirs(saved: &str) -> Vec<&str> {
    let lines = saved.lines().filter(|line| {
        let of_chain = line.starts_with("-A ") || line.starts_with(":CNI");
        of_chain && !(line.contains("shunt:") || line.contains(" SHUNT_"))
            || line.contains("--log-prefix")
    });
    lines.collect()
}

#[test]
fn the_rules_of_others_stay_in_their_order_and_after_ours() {
    for flavour in FLAVOURS {
        in_pod(|| {
            foreign_rules(flavour);
            ip("rule add fwmark 7 table 77");
            let before = (everything(), saved(flavour));
            assert_eq!(theirs(&before.1).len(), 16);
            for config in [full(), policy(&INJECTOR), full()] {
                applied(&config, flavour);
                assert_eq!(applied(&config, flavour).change, Change::Unchanged);
                let now = saved(flavour);
                assert_eq!(theirs(&now), theirs(&before.1));
                for table in now.split("*nat\n").skip(1) {
                    let first = table.lines().find(|line| line.starts_with("-A OUTPUT"));
                    assert!(first.unwrap().contains("-j SHUNT_OUTPUT"), "{now}");
                }
            }
            remove().unwrap();
            assert_eq!(theirs(&saved(flavour)), theirs(&before.1));
            assert!(!saved(flavour).contains("shunt:"));
            assert_eq!(everything(), before.0);
        });
    }
}

#[test]
fn a_jump_behind_the_rules_of_others_stays_there() {
    for flavour in FLAVOURS {
        in_pod(|| {
            applied(&policy(&INJECTOR), flavour);
            let early = "-t nat -I OUTPUT -p tcp --dport 25 -j ACCEPT";
            iptables(flavour, Family::V4, early);
            let before = saved(flavour);
            assert_eq!(
                applied(&policy(&INJECTOR), flavour).change,
                Change::Unchanged
            );
            applied(&policy(&["-i", "10.0.0.0/8", "-b", "80"]), flavour);
            applied(&policy(&INJECTOR), flavour);
            assert_eq!(saved(flavour), before);
        });
    }
}

#[test]
fn without_ipv6_nothing_is_written_to_ip6tables_and_ours_goes() {
    for flavour in FLAVOURS {
        in_pod(|| {
            let mut config = full();
            config.ipv6 = Ipv6Mode::Off;
            applied(&config, flavour);
            assert!(!output(&program(flavour, Family::V6, "-save"), &[]).contains("SHUNT"));
            let other = "-t nat -A OUTPUT -p tcp --dport 25 -j ACCEPT";
            iptables(flavour, Family::V6, other);
            let without = output(&program(flavour, Family::V6, "-save"), &["-t", "nat"]);
            applied(&full(), flavour);
            applied(&config, flavour);
            let text = output(&program(flavour, Family::V6, "-save"), &["-t", "nat"]);
            let rules = |text: &str| -> Vec<String> {
                let rules = text.lines().filter(|line| !line.starts_with(['#', ':']));
                rules.map(str::to_owned).collect()
            };
            assert_eq!(rules(&text), rules(&without));
            assert!(!ip("-6 addr show dev lo").contains("::6/128"));
        });
    }
}

#[test]
fn rules_of_a_newer_shunt_are_refused_and_left_alone() {
    for flavour in FLAVOURS {
        in_pod(|| {
            applied(&policy(&INJECTOR), flavour);
            let save = program(flavour, Family::V4, "-save");
            let restore = program(flavour, Family::V4, "-restore");
            shell(&format!("{save} | sed s/schema=1/schema=2/ | {restore}"));
            let before = (everything(), saved(flavour));
            let refused = apply(&policy(&["-i", "*"]), flavour).unwrap_err();
            assert_eq!(refused.cause(), Cause::Conflict);
            assert!(refused.to_string().contains("schema 2"), "{refused}");
            assert_eq!((everything(), saved(flavour)), before);
        });
    }
}

#[test]
fn writers_at_the_same_time_end_in_one_of_their_policies() {
    for flavour in FLAVOURS {
        in_pod(|| {
            let policies = [policy(&INJECTOR), full()];
            std::thread::scope(|scope| {
                for config in &policies {
                    scope.spawn(move || {
                        for _ in 0..6 {
                            apply(config, flavour).unwrap();
                        }
                    });
                }
            });
            let left = saved(flavour);
            let ends = policies.map(|config| {
                applied(&config, flavour);
                saved(flavour)
            });
            let rules = |text: &str| text.matches("shunt:").count();
            assert!(
                ends.iter().any(|end| rules(end) == rules(&left)),
                "{left}\n{ends:?}"
            );
        });
    }
}

/// Libraries of matches without one, for the programs alone.
const WITHOUT_STRING: &str = r#"
mkdir -p $DIR/lib
[ -e $DIR/lib/done ] || {
    cp /usr/lib/*/xtables/*.so $DIR/lib; rm $DIR/lib/libxt_string.so; touch $DIR/lib/done
}
export XTABLES_LIBDIR=$DIR/lib"#;

#[test]
fn rules_of_others_with_unknown_matches_do_no_harm() {
    for flavour in FLAVOURS {
        in_pod(|| {
            for table in ["filter", "mangle", "nat"] {
                let rule = format!("-t {table} -A OUTPUT -m string --string x --algo bm -j RETURN");
                iptables(flavour, Family::V4, &rule);
            }
            let wrapped = Wrapped::new(flavour, WITHOUT_STRING);
            let ran = |policy: &str| {
                let ended = wrapped.apply(policy, flavour);
                assert_eq!((ended.status.code(), ended.error.as_str()), (Some(0), ""));
                saved(flavour)
            };
            let before = theirs(&saved(flavour)).join("\n");
            for policy in ["tproxy_with_everything", "injector_with_both_families"] {
                let now = ran(policy);
                assert_eq!(theirs(&now).join("\n"), before);
                assert_eq!(
                    applied(&cases::named(policy), flavour).change,
                    Change::Unchanged
                );
                assert_eq!(ran(policy), now);
            }
            iptables(flavour, Family::V4, "-t nat -F SHUNT_OUTPUT");
            iptables(flavour, Family::V4, "-t nat -D OUTPUT 1");
            ran("injector_with_both_families");
            assert_eq!(
                applied(&policy(&INJECTOR), flavour).change,
                Change::Unchanged
            );
            ran("remove");
            let now = saved(flavour);
            assert!(!now.contains("SHUNT_"), "{now}");
            assert_eq!(theirs(&now).join("\n"), before);
        });
    }
}

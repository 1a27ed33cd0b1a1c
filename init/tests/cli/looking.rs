//! Verbs and flags that only look, and change nothing.

use std::net::TcpStream;
use std::process::Command;

use crate::support::{INJECTOR, PROGRAM, Ran, in_namespace, init, ip, nft, ran};

#[test]
fn it_tells_version_commit_and_schema() {
    let Ran(code, output, _) = init("--version");
    assert_eq!(code, 0);
    let words: Vec<_> = output.split_whitespace().collect();
    let [name, version, "(commit", commit, "schema", "1)"] = words[..] else {
        panic!("{output}");
    };
    assert_eq!((name, version), ("shunt-init", env!("CARGO_PKG_VERSION")));
    let hash = commit.trim_end_matches(',');
    assert!(hash == "unknown" || (hash.len() == 12 && hash.bytes().all(|b| b.is_ascii_hexdigit())));
}

#[test]
fn help_tells_that_the_rules_are_proved() {
    let Ran(code, output, _) = init("--help");
    assert_eq!(code, 0);
    assert!(output.contains("proves them"), "{output}");
    let Ran(code, output, _) = init("apply --help");
    assert_eq!(code, 0);
    assert!(output.contains("--verify"), "{output}");
}

#[test]
fn a_dry_run_prints_what_would_be_written_and_changes_nothing() {
    in_namespace(|| {
        let Ran(code, text, _) = init(&format!("istio-iptables {INJECTOR} --dry-run"));
        assert_eq!((code, nft("list ruleset").as_str()), (0, ""));
        assert_eq!(init(&format!("istio-iptables {INJECTOR}")).0, 0);
        assert_eq!(
            ran(Command::new("nft").args(["-s", "list", "ruleset"])).1,
            text
        );
    });
}

#[test]
fn list_says_what_it_has_to_say_as_json_if_asked() {
    in_namespace(|| {
        let Ran(code, output, error) = init("list --log_as_json");
        assert_eq!((code, error.as_str()), (0, ""));
        let message: serde_json::Value = serde_json::from_str(&output).unwrap();
        assert_eq!(message["level"], "info");
    });
}

#[test]
fn a_dry_run_writes_its_file_too() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let run = |file: &std::path::Path| {
            let mut command = Command::new(PROGRAM);
            command.args(["istio-iptables", "-i", "*", "-b", "*", "-n"]);
            command.env("DRY_RUN_FILE_PATH", file).output().unwrap()
        };
        let file = folder.path().join("rules");
        let output = run(&file);
        assert!(output.status.success());
        assert!(!output.stdout.is_empty());
        assert_eq!(std::fs::read(&file).unwrap(), output.stdout);
        let output = run(&folder.path().join("none/rules"));
        assert_eq!(output.status.code(), Some(2));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("none/rules: No such file"), "{error}");
    });
}

#[test]
fn list_shows_the_rules_with_counters_and_fields_and_diff_what_a_policy_would_change() {
    in_namespace(|| {
        nft("list ruleset");
        ran(Command::new("ip").args(["link", "set", "lo", "up"]));
        let Ran(code, output, _) = init("list");
        assert_eq!(code, 0);
        assert!(output.contains("Shunt has no rules"), "{output}");
        let asked = format!("istio-iptables {INJECTOR} -o 25");
        let Ran(code, output, error) = init(&format!("diff {asked}"));
        assert_eq!((code, error.as_str()), (3, ""));
        assert!(
            output.contains("there is none; it would be created with"),
            "{output}"
        );

        assert_eq!(init(&asked).0, 0);
        let Ran(code, output, _) = init(&format!("diff {asked}"));
        assert_eq!((code, output.as_str()), (0, ""));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let Ran(_, output, _) = init("list");
        let line = output
            .lines()
            .find(|line| line.contains("outbound/loopback-interface"));
        let line = line.unwrap_or_else(|| panic!("{output}"));
        assert!(line.trim_start().starts_with("1 packet "), "{line}");
        assert!(
            line.contains("oif \"lo\" return") && line.ends_with(']'),
            "{line}"
        );
        assert!(line.contains("outbound.capture"), "{line}");
        assert!(output.contains("set proxy_uids { 1337 }"), "{output}");

        let Ran(code, output, _) = init(&format!("diff istio-iptables {INJECTOR} -o 26"));
        assert_eq!(code, 3);
        assert_eq!(output, "set outbound_exclude_ports +26 -25\n");
        nft("flush chain inet shunt nat_prerouting");
        let Ran(code, output, _) = init(&format!("diff {asked}"));
        assert_eq!(code, 3);
        assert!(
            output.starts_with("chain nat_prerouting\n  + 1: "),
            "{output}"
        );
        nft("add rule inet shunt nat_output accept");
        let Ran(_, output, _) = init("list");
        assert!(output.contains("what Shunt does not write"), "{output}");
        // Those that Shunt wrote are told all the same.
        let line = output
            .lines()
            .find(|line| line.contains("outbound/proxy-uid"));
        let line = line.unwrap_or_else(|| panic!("{output}"));
        assert!(line.contains("meta skuid @proxy_uids return"), "{line}");
        assert!(line.ends_with(", linkerd --proxy-uid]"), "{line}");
        assert!(
            output.contains("bytes  a rule with a match that"),
            "{output}"
        );
        let Ran(code, output, _) = init(&format!("diff {asked}"));
        assert_eq!(code, 3);
        assert!(output.contains("would be replaced"), "{output}");
    });
}

#[test]
fn diff_sees_what_is_missing_or_left_beside_the_rules() {
    in_namespace(|| {
        ip("link set lo up");
        let asked = "apply --tproxy --ipv6 always";
        assert_eq!(init(asked).0, 0);
        let diff = |asked: &str| {
            let Ran(code, output, error) = init(&format!("diff {asked}"));
            assert_eq!(error, "");
            (code, output)
        };
        assert_eq!(diff(asked), (0, String::new()));
        for (drift, line) in [
            (
                "rule del fwmark 1337",
                "policy routing: would add the IPv4 policy rule for mark 1337 and table 133\n",
            ),
            (
                "-6 rule del fwmark 1337",
                "policy routing: would add the IPv6 policy rule for mark 1337 and table 133\n",
            ),
            (
                "route flush table 133",
                "policy routing: would add the local IPv4 default route of table 133\n",
            ),
            (
                "addr del ::6/128 dev lo",
                "lo: would add the address ::6/128\n",
            ),
        ] {
            ip(drift);
            assert_eq!(diff(asked), (3, line.to_owned()), "{drift}");
            assert_eq!(init(asked).0, 0);
            assert_eq!(diff(asked), (0, String::new()), "{drift}");
        }
        let (code, output) = diff("apply --ipv6 never");
        assert_eq!(code, 3);
        for line in [
            "policy routing: would delete the IPv4 policy rule for mark 1337 and table 133\n",
            "policy routing: would delete the local IPv6 default route of table 133\n",
            "lo: would delete the address ::6/128\n",
        ] {
            assert!(output.contains(line), "{output}");
        }
        // What an apply cannot add is none of what it would change.
        let asked = "apply --ipv6 always";
        assert_eq!(init(asked).0, 0);
        let disabled = "net.ipv6.conf.lo.disable_ipv6=1";
        assert_eq!(ran(Command::new("sysctl").args(["-w", disabled])).0, 0);
        assert_eq!(init(asked).0, 0);
        assert_eq!(diff(asked), (0, String::new()));
    });
}

#[test]
fn list_and_diff_know_the_chains_of_iptables() {
    in_namespace(|| {
        let asked = "apply --backend iptables-legacy";
        let Ran(code, _, error) = init(asked);
        assert_eq!(code, 0, "{error}");
        let Ran(code, output, _) = init("list");
        assert_eq!(code, 0);
        assert!(output.contains(", IPv4\n*nat\n"), "{output}");
        assert!(output.contains("--uid-owner 1337"), "{output}");
        ran(Command::new("ip").args(["link", "set", "lo", "up"]));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let Ran(_, output, _) = init("list");
        let lines = output.lines();
        let mut lines = lines.filter(|line| line.contains("outbound/loopback-interface"));
        let line = lines.next().unwrap_or_else(|| panic!("{output}"));
        assert!(line.trim_start().starts_with("1 packet "), "{line}");
        assert!(
            line.contains("-o lo -m comment") && line.contains("[outbound.capture"),
            "{line}"
        );
        let Ran(code, output, _) = init(&format!("diff {asked}"));
        assert_eq!((code, output.as_str()), (0, ""));
        let Ran(code, output, _) = init(&format!("diff {asked} --exclude-outbound-ports 25"));
        assert_eq!(code, 3, "{output}");
        assert!(output.starts_with("IPv4: table nat: "), "{output}");
        let Ran(code, output, _) = init("diff apply --backend nft");
        assert_eq!(code, 3);
        assert!(
            output.contains("of an earlier run would be removed"),
            "{output}"
        );
    });
}

#[test]
fn a_proof_is_offered_only_where_rules_are_written() {
    in_namespace(|| {
        for arguments in [
            "remove --verify",
            "list --verify",
            "preflight --verify",
            "policy apply --verify",
            "diff apply --verify",
            "--verify remove",
            "--verify apply",
        ] {
            let Ran(code, output, error) = init(arguments);
            assert_eq!((code, output.as_str()), (2, ""), "{arguments}");
            assert!(error.contains("'--verify'"), "{arguments}: {error}");
        }
        for (arguments, words) in [
            (
                "apply --dry-run --verify",
                "--verify has no effect with --dry-run, which only prints rules; leave one",
            ),
            (
                "linkerd-init -p 1 -o 2 -u 3 --simulate --verify=on",
                "--verify has no effect with --simulate, which only prints rules",
            ),
            (
                "istio-iptables --cleanup-only --verify",
                "--verify has no effect with --cleanup-only, which removes rules",
            ),
            (
                "istio-iptables --skip-rule-apply --verify",
                "use --run-validation to prove that program's",
            ),
            (
                "istio-iptables --run-validation --verify=off",
                "--verify=off cannot be combined with --run-validation",
            ),
        ] {
            let Ran(code, output, error) = init(arguments);
            assert_eq!((code, output.as_str()), (2, ""), "{arguments}: {error}");
            assert!(error.contains(words), "{arguments}: {error}");
        }
        assert_eq!(nft("list ruleset"), "");
    });
}

#[test]
fn what_a_looking_verb_has_no_use_for_is_an_error_of_ours_and_told_of_others() {
    in_namespace(|| {
        for (arguments, code, words) in [
            (
                "policy apply --dry-run",
                2,
                "shunt-init: --dry-run has no effect with `policy`",
            ),
            (
                "policy apply --backend nft",
                2,
                "shunt-init: the choice of a backend has no effect with `policy`",
            ),
            (
                "diff apply --dry-run",
                2,
                "shunt-init: --dry-run has no effect with `diff`",
            ),
            (
                "policy istio-iptables -i * -b * --run-validation",
                0,
                "shunt-init: warning: --run-validation has no effect with `policy`",
            ),
            (
                "policy linkerd-init -p 1 -o 2 -u 3 --iptables-mode legacy",
                0,
                "shunt-init: warning: the choice of a backend has no effect with `policy`",
            ),
            (
                "diff istio-iptables -i * -b * --cleanup-only",
                3,
                "shunt-init: warning: --cleanup-only has no effect with `diff`",
            ),
        ] {
            let Ran(found, _, error) = init(arguments);
            assert_eq!(found, code, "{arguments}: {error}");
            assert!(error.starts_with(words), "{arguments}: {error}");
        }
    });
}

#[test]
fn a_dry_run_prints_what_the_chosen_backend_would_write() {
    in_namespace(|| {
        let Ran(code, text, error) = init("apply --backend iptables-nft --dry-run");
        assert_eq!(code, 0, "{error}");
        assert_eq!(init("apply --backend iptables-nft").0, 0);
        let Ran(_, listed, _) = init("list");
        let rules = text.lines().filter_map(|line| line.strip_prefix("-A "));
        let rules: Vec<_> = rules.filter_map(|rule| rule.split_once(' ')).collect();
        assert!(rules.len() > 10, "{text}");
        for (chain, rule) in rules {
            let mut chains = listed.split("chain ").filter(|of| of.starts_with(chain));
            assert!(
                chains.any(|of| of.contains(&format!("bytes  {rule}"))),
                "{listed}\n{rule}"
            );
        }
    });
}

//! Policy files, and warnings of what they may not mean.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::support::{PROGRAM, Ran, in_namespace, init, init_reading, ip, nft, ran};

const POLICY: &str = "apiVersion: shunt.dev/v1\nkind: CapturePolicy\nspec:\n  outbound:\n    \
                      excludeCidrs: [10.9.0.0/16]\n    excludePorts: [9000-9010]\n";

#[test]
fn a_policy_file_is_applied_and_flags_replace_what_it_says() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.yaml");
        std::fs::write(&file, POLICY).unwrap();
        let file = file.to_str().unwrap();
        let Ran(code, _, error) = init(&format!("apply --policy {file}"));
        assert_eq!((code, error.as_str()), (0, ""));
        let rules = nft("list table inet shunt");
        assert!(rules.contains("10.9.0.0/16"), "{rules}");
        assert!(rules.contains("9000-9010"), "{rules}");
        let Ran(code, output, error) = init_reading(&["apply", "--policy", "-"], POLICY);
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(output.contains("unchanged"), "{output}");
        let Ran(code, _, error) = init(&format!(
            "apply --policy {file} --exclude-outbound-cidrs 10.8.0.0/16 --dns all"
        ));
        assert_eq!((code, error.as_str()), (0, ""));
        let rules = nft("list table inet shunt");
        assert!(rules.contains("10.8.0.0/16"), "{rules}");
        assert!(!rules.contains("10.9.0.0/16"), "{rules}");
        assert!(rules.contains("9000-9010"), "{rules}");
        assert!(rules.contains("redirect to :15053"), "{rules}");

        let wrong = POLICY.replace("9000-9010", "9010-9000");
        let Ran(code, _, error) = init_reading(&["apply", "--policy", "-"], &wrong);
        assert_eq!(code, 2, "{error}");
        assert!(
            error.starts_with(
                "shunt-init: standard input: line 6, column 20: spec.outbound.excludePorts[0] is `9010-9000`: "
            ),
            "{error}"
        );
        let mut command = Command::new("sh");
        let latin = format!("printf 'kind: \\351' | {PROGRAM} apply --policy -");
        let Ran(code, _, error) = ran(command.args(["-c", &latin]));
        assert_eq!(code, 2, "{error}");
        assert_eq!(
            error,
            "shunt-init: standard input: line 1, column 7: the byte 0xe9 is not UTF-8; save the file \
             as UTF-8\n"
        );
        assert_eq!(nft("list table inet shunt"), rules);
    });
}

/// Command lines of every kind, with each flag that says what is captured.
const COMMAND_LINES: &[&str] = &[
    "apply",
    "apply --proxy-uids 7,8 --proxy-gids  --tproxy --exclude-inbound-ports 1,5-7",
    "apply --inbound-port 1 --outbound-port 2 --capture-inbound-ports 80,8000-8010",
    "apply --capture-inbound-ports none --exclude-inbound-sources 10.0.0.0/8,fd00::/8",
    "apply --capture-outbound-cidrs 10.0.0.0/8,fd00::/8 --exclude-outbound-cidrs 10.1.0.0/16",
    "apply --capture-outbound-cidrs none --include-outbound-ports 80,90-99",
    "apply --exclude-outbound-ports 22,53 --dns all --ipv6 always",
    "apply --exclude-interfaces eth1,net+ --dns 10.96.0.10,fd00::a --ipv6 never",
    "apply --dns resolv-conf --ipv6 istio",
    "istio-iptables",
    "istio-iptables -i * -b *",
    "istio-iptables -i * -b 80,8000:8010 -m TPROXY -u 7,8 --redirect-dns --capture-all-dns \
     -o 22 -x 10.0.0.0/8,fd00::/8 --ipv6 always",
    "istio-iptables -i 10.0.0.0/8,127.0.0.0/8 -b * -d 15090,15021,15020 -q 80,443 -u 5 -g 6",
    "istio-iptables -i * -b * -m TPROXY -t 0x11 -r 77 -c eth7 -k vnet7 --drop-invalid",
    "istio-iptables -i * -b * -p 1 -z 2 -e 3 --redirect-dns",
    "istio-iptables -i * -b * --ipv6 istio --dual-stack",
    "istio-iptables -i * -b * -x 0.0.0.0/0,::/0 -o 1:65535",
    "linkerd-init -p 4143 -o 4140 -u 2102",
    "linkerd-init -p 4143 -o 4140 -g 2102 --ipv6=false -r 80,90",
    "linkerd-init -p 4143 -o 4140 -u 2102 --inbound-ports-to-ignore 25,8000-8010 \
     --outbound-ports-to-ignore 4567 --subnets-to-ignore 10.0.0.0/8,fd00::/8",
];

/// A network that has both families, as a pod's has.
fn with_addresses() {
    ip("link set lo up");
    ip("link add eth0 type veth peer name outer");
    ip("addr add 10.0.0.2/24 dev eth0");
    ip("addr add fd00::2/64 dev eth0 nodad");
}

#[test]
fn the_effective_policy_of_any_arguments_gives_the_same_rules_and_warnings() {
    in_namespace(|| {
        with_addresses();
        for arguments in COMMAND_LINES {
            let dry = match arguments.starts_with("linkerd") {
                true => "--simulate",
                false => "--dry-run",
            };
            let Ran(code, rules, warnings) = init(&format!("{arguments} {dry}"));
            assert_eq!(code, 0, "{arguments}: {warnings}");
            let Ran(code, policy, warned) = init(&format!("policy {arguments}"));
            assert_eq!((code, &warned), (0, &warnings), "{arguments}");
            let from_file = ["apply", "--policy", "-", "--dry-run"];
            let Ran(code, again, error) = init_reading(&from_file, &policy);
            assert_eq!(code, 0, "{arguments}: {policy}: {error}");
            assert_eq!(again, rules, "{arguments}: {policy}");
            assert_eq!(
                error.lines().count(),
                warnings.lines().count(),
                "{arguments}: {error}{warnings}"
            );
        }
        assert_eq!(nft("list ruleset"), "");
    });
}

#[test]
fn the_effective_policy_can_be_applied_instead_of_the_arguments() {
    in_namespace(|| {
        with_addresses();
        for arguments in [COMMAND_LINES[1], COMMAND_LINES[11], COMMAND_LINES[19]] {
            let Ran(code, policy, _) = init(&format!("policy {arguments}"));
            assert_eq!(code, 0, "{arguments}");
            let Ran(code, _, error) = init(arguments);
            assert_eq!(code, 0, "{arguments}: {error}");
            let Ran(code, output, error) = init_reading(&["apply", "--policy", "-"], &policy);
            assert_eq!(code, 0, "{policy}: {error}");
            assert!(
                output.contains("unchanged"),
                "{arguments}: {output}{policy}"
            );
            assert_eq!(init("remove").0, 0);
        }
    });
}

/// What a policy leaves open is told by each verb that is given it.
#[test]
fn every_verb_that_takes_arguments_warns_alike() {
    in_namespace(|| {
        with_addresses();
        let open = "apply --exclude-outbound-cidrs 0.0.0.0/1,128.0.0.0/1";
        let expected = "shunt-init: warning: --exclude-outbound-cidrs excludes every IPv4 address";
        for arguments in [
            format!("policy {open}"),
            format!("diff {open}"),
            format!("{open} --dry-run"),
            open.to_owned(),
            format!("diff {open}"),
        ] {
            let Ran(_, _, error) = init(&arguments);
            assert!(
                error.starts_with(expected) && error.lines().count() == 1,
                "{arguments}: {error}"
            );
        }
    });
}

#[test]
fn a_side_of_which_nothing_is_captured_is_warned_of_and_no_error() {
    in_namespace(|| {
        for (arguments, outbound, inbound) in [
            ("istio-iptables", true, true),
            ("istio-iptables --dry-run", true, true),
            ("istio-iptables -i *", false, true),
            ("istio-iptables -b *", true, false),
            ("istio-iptables -i * -b *", false, false),
            ("istio-iptables --cleanup-only", false, false),
        ] {
            let Ran(code, output, error) = init(arguments);
            assert_eq!(code, 0, "{arguments}: {error}");
            assert!(!output.contains("captures nothing"), "{output}");
            let warned = |side: &str| {
                let warning = format!("shunt-init: warning: captures nothing {side} (no ");
                error.lines().any(|line| line.starts_with(&warning))
            };
            assert_eq!(
                (warned("outbound"), warned("inbound")),
                (outbound, inbound),
                "{arguments}: {error}"
            );
        }
    });
}

#[test]
fn warnings_name_the_flag_or_the_field_that_was_written() {
    in_namespace(|| {
        ip("link add eth0 type veth peer name outer");
        ip("addr add 10.0.0.2/24 dev eth0");
        let excluding = |what: &str| {
            format!("apiVersion: shunt.dev/v1\nkind: CapturePolicy\nspec: {{{what}}}\n")
        };
        let nothing = excluding("outbound: {excludeCidrs: [0.0.0.0/0]}");
        for (arguments, input, words) in [
            (
                &["apply", "--exclude-outbound-cidrs=0.0.0.0/0"][..],
                "",
                "--exclude-outbound-cidrs excludes every IPv4 address",
            ),
            (
                &["apply", "--policy=-"],
                &nothing,
                "outbound.excludeCidrs excludes every IPv4 address",
            ),
            (
                &[
                    "apply",
                    "--policy=-",
                    "--exclude-outbound-cidrs=0.0.0.0/1,128.0.0.0/1",
                ],
                &nothing,
                "--exclude-outbound-cidrs excludes every IPv4 address",
            ),
            (
                &["istio-iptables", "-i*", "-b*", "-x0.0.0.0/0"],
                "",
                "-x excludes every IPv4 address",
            ),
            (
                &[
                    "linkerd-init",
                    "-p1",
                    "-o2",
                    "-u3",
                    "--outbound-ports-to-ignore=1-65535",
                ],
                "",
                "--outbound-ports-to-ignore excludes every port",
            ),
            (
                &["apply", "--exclude-interfaces=e+"],
                "",
                "--exclude-interfaces names every interface of the pod that has an address (eth0)",
            ),
            (
                &["istio-iptables", "-i*", "-b*", "-ceth1,eth+"],
                "",
                "-c names every interface of the pod that has an address (eth0)",
            ),
        ] {
            let Ran(code, _, error) = init_reading(arguments, input);
            assert_eq!(code, 0, "{arguments:?}: {error}");
            let warning = format!("shunt-init: warning: {words}");
            assert!(error.starts_with(&warning), "{arguments:?}: {error}");
            assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
        }
    });
}

#[test]
fn an_init_container_that_runs_as_the_proxy_warns_of_the_application() {
    in_namespace(|| {
        let mut dry_run = Command::new(PROGRAM);
        let Ran(code, _, error) = ran(dry_run.args(["apply", "--dry-run"]).uid(1337).gid(1000));
        assert_eq!(code, 0, "{error}");
        assert!(
            error.contains("most likely the application, runs under the proxy's user id 1337"),
            "{error}"
        );
    });
}

#[test]
fn a_policy_longer_than_any_is_refused_with_what_to_do() {
    // To the byte what is read at most.
    let text = "#".repeat((8 << 20) + 1);
    let Ran(code, _, error) = init_reading(&["policy", "apply", "--policy", "-"], &text);
    assert_eq!(code, 2);
    assert!(
        error.contains("it is longer than 8 MiB; write wider CIDR blocks and port ranges"),
        "{error}"
    );
}

//! Arguments and variables: what they mean, and the words for what is wrong with them.

use std::collections::BTreeSet;

use clap::{Args as _, Command, FromArgMatches as _};

use super::{Action, ArgumentError, FLAGS, IstioArgs, Request, log_as_json};
use crate::capture::{CaptureConfig, InboundCapture, Ipv6Mode, OutboundCapture};

fn arguments(list: &[&str]) -> Result<IstioArgs, clap::Error> {
    let command = IstioArgs::augment_args(Command::new("istio-iptables"));
    let matches = command.try_get_matches_from(["istio-iptables"].iter().chain(list))?;
    IstioArgs::from_arg_matches(&matches)
}

fn parse_with(list: &[&str], variables: &[(&str, &str)]) -> Result<Request, ArgumentError> {
    arguments(list).unwrap().parse(|name| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn parse(list: &[&str]) -> Result<Request, ArgumentError> {
    parse_with(list, &[])
}

fn config(list: &[&str]) -> CaptureConfig {
    parse(list).unwrap().config
}

const INJECTOR: &str = "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x= -b * -d 15090,15021,15020 \
                        --log_output_level=default:info";

#[test]
fn what_the_injector_passes_is_the_default_policy() {
    let list: Vec<_> = INJECTOR.split(' ').collect();
    let request = parse(&list).unwrap();
    assert_eq!(request.config, CaptureConfig::default());
    assert_eq!(request.action, Action::Apply);
}

#[test]
fn without_arguments_only_what_the_original_captures_is_captured() {
    let config = config(&[]);
    assert_eq!(config.inbound.capture, InboundCapture::Nothing);
    assert_eq!(config.outbound.capture, OutboundCapture::Only(Vec::new()));
    assert_eq!(config.proxy, CaptureConfig::default().proxy);
}

#[test]
fn a_policy_that_captures_nothing_on_a_side_is_warned_of() {
    for (list, outbound, inbound) in [
        (&[][..], true, true),
        (&["-i", "", "-b", ""], true, true),
        (&["-x", "10.0.0.0/8", "-d", "80", "-o", "53"], true, true),
        (&["--dry-run"], true, true),
        (&["--cleanup-only"], false, false),
        (&["-i", "*"], false, true),
        (&["-i", "10.0.0.0/8"], false, true),
        (&["-q", "80"], false, true),
        (&["-b", "*"], true, false),
        (&["-b", "80"], true, false),
        (&["-i", "*", "-b", "*"], false, false),
    ] {
        let warnings = parse(list).unwrap().warnings();
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
fn long_names_and_attached_values_mean_the_same() {
    let short = config(&[
        "-p", "1", "-z", "2", "-e", "3", "-u", "4", "-g", "5", "-q", "6", "-o", "7",
    ]);
    let long = config(&[
        "--envoy-port=1",
        "--inbound-capture-port=2",
        "--inbound-tunnel-port",
        "3",
        "-u4",
        "--proxy-gid",
        "5",
        "-q=6",
        "--istio-local-outbound-ports-exclude",
        "7",
    ]);
    assert_eq!(short, long);
}

#[test]
fn group_ids_follow_the_user_ids_unless_given() {
    let followed = config(&["-u", "7,8"]).proxy;
    assert_eq!(followed.gids, BTreeSet::from([7, 8]));
    let given = config(&["-u", "7,8", "-g", "9"]).proxy;
    assert_eq!(
        (given.uids, given.gids),
        (BTreeSet::from([7, 8]), BTreeSet::from([9]))
    );
}

#[test]
fn excluded_inbound_ports_count_only_when_all_are_captured() {
    assert_eq!(
        config(&["-b", "80", "-d", "90"]).inbound.capture,
        InboundCapture::Only([(80, 80)].into_iter().collect())
    );
    assert_eq!(
        config(&["-d", "90"]).inbound.capture,
        InboundCapture::Nothing
    );
}

#[test]
fn the_command_line_wins_over_the_additional_variable_over_the_own_one() {
    let variables = [("PROXY_UID", "1"), ("ENVOY_USER", "2"), ("PROXY_GID", "")];
    let uids = |list: &[&str], variables| parse_with(list, variables).unwrap().config.proxy.uids;
    assert_eq!(uids(&["-u", "3"], &variables), BTreeSet::from([3]));
    assert_eq!(uids(&[], &variables), BTreeSet::from([2]));
    assert_eq!(uids(&[], &variables[..1]), BTreeSet::from([1]));
    // The original binds no variable to -p.
    let port = parse_with(&[], &[("ENVOY_PORT", "1")])
        .unwrap()
        .config
        .outbound
        .port;
    assert_eq!(port.get(), 15001);
}

#[test]
fn switches_are_true_alone_and_take_all_of_gos_words() {
    for (list, action) in [
        (&["--dry-run"][..], Action::Print),
        (&["-n"], Action::Print),
        (&["--dry-run=T"], Action::Print),
        (&["--dry-run=false"], Action::Apply),
        (&["--dry-run=0", "--cleanup-only"], Action::Remove),
    ] {
        assert_eq!(parse(list).unwrap().action, action, "{list:?}");
    }
    for harmless in [
        "--reconcile",
        "--native-nftables",
        "--redirect-dns=false",
        "--cni-mode=F",
    ] {
        assert_eq!(config(&[harmless]), config(&[]), "{harmless}");
    }
}

#[test]
fn ipv6_modes_are_read_and_dual_stack_widens_istios() {
    for (list, mode) in [
        (&[][..], Ipv6Mode::Auto),
        (&["--ipv6", "auto"], Ipv6Mode::Auto),
        (&["--ipv6", "istio"], Ipv6Mode::Istio),
        (&["--ipv6", "istio", "--dual-stack"], Ipv6Mode::Auto),
        (&["--ipv6", "off", "--dual-stack"], Ipv6Mode::Off),
    ] {
        assert_eq!(config(list).ipv6, mode, "{list:?}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_remedy() {
    for (list, message) in [
        (
            &["-p", "0"][..],
            "-p '0' (--envoy-port) has the item `0`: a port is a number from 1 to 65535",
        ),
        (
            &["-p", "-1"],
            "-p '-1' (--envoy-port) has the item `-1`: a port is a number from 1 to 65535",
        ),
        (
            &["-u", "-2"],
            "-u '-2' (--proxy-uid) has the item `-2`: an id is a number",
        ),
        (&["-p", "65536"], "a port is a number from 1 to 65535"),
        (
            &["-z", "http"],
            "-z 'http' (--inbound-capture-port) has the item `http`",
        ),
        (&["-p", "+80"], "`+80`: a port is a number"),
        (
            &["-d", "80,,90"],
            "-d '80,,90' (--istio-local-exclude-ports) has an empty item: remove the comma",
        ),
        (&["-d", "80,"], "has an empty item"),
        (&["-b", "*,80"], "the item `*`: `*` stands alone"),
        (
            &["-o", "90:80"],
            "the item `90:80`: a range goes from the smaller",
        ),
        (&["-o", "0:80"], "the item `0`"),
        (
            &["-u", "istio-proxy"],
            "the item `istio-proxy`: an id is a number; names are not looked up",
        ),
        (&["-u", "4294967295"], "an id is a number"),
        (&["-g", "1,-2"], "the item `-2`: an id is a number"),
        (
            &["-i", "10.0.0.0/33"],
            "the item `10.0.0.0/33`: a CIDR block is",
        ),
        (
            &["-i", "example.com"],
            "the item `example.com`: a CIDR block is",
        ),
        (
            &["-x", "*"],
            "-x '*' (--istio-service-exclude-cidr) has the item `*`",
        ),
        (
            &["-m", "redirect"],
            "-m 'redirect' (--istio-inbound-interception-mode) is not one of: 'REDIRECT'",
        ),
        (
            &["--ipv6", "on"],
            "--ipv6=on is not one of: 'auto', 'istio', 'off'",
        ),
        (
            &["--dry-run=yes"],
            "-n 'yes' (--dry-run) is not one of: 'true', 'false'",
        ),
        (&["--dual-stack=maybe"], "--dual-stack=maybe is not one of"),
        (
            &["-z", "15001"],
            "-z '15001' (--inbound-capture-port) is also the value of --envoy-port",
        ),
        (
            &["-p", "15006"],
            "--inbound-capture-port by default is also the value of --envoy-port",
        ),
        (
            &["--cleanup-only", "--dry-run"],
            "--cleanup-only=true cannot be combined with --dry-run",
        ),
    ] {
        let error = parse(list).unwrap_err();
        assert!(error.to_string().contains(message), "{list:?}: {error}");
        assert!(!error.is_unsupported(), "{list:?}");
    }
}

#[test]
fn what_is_right_in_istio_but_not_done_is_refused_by_name() {
    for (list, message) in [
        (
            &["-m", "TPROXY"][..],
            "-m 'TPROXY' (--istio-inbound-interception-mode) is not supported",
        ),
        (
            &["-c", "eth1"],
            "-c 'eth1' (--istio-exclude-interfaces) is not supported",
        ),
        (&["-k", "vnet0"], "use ''"),
        (&["-t", "7"], "only with TPROXY"),
        (&["-r", "7"], "use '', '133'"),
        (&["--redirect-dns"], "--redirect-dns=true is not supported"),
        (&["--capture-all-dns"], "use 'false'"),
        (&["--drop-invalid"], "--drop-invalid=true"),
        (&["--run-validation"], "no probe yet"),
        (
            &["--skip-rule-apply"],
            "--skip-rule-apply=true is not supported: it leaves the rules to a CNI plugin",
        ),
        (&["--skip-rule-apply"], "--dry-run prints rules"),
        (&["--network-namespace", "/proc/1/ns/net"], "nsenter"),
        (
            &["--force-iptables-binary", "legacy"],
            "no iptables program",
        ),
        (&["--force-apply"], "always rewritten"),
    ] {
        let error = parse(list).unwrap_err();
        assert!(error.to_string().contains(message), "{list:?}: {error}");
        assert!(error.is_unsupported(), "{list:?}");
    }
    for (variable, value) in [
        ("ISTIO_META_DNS_CAPTURE", "true"),
        ("INVALID_DROP", "1"),
        ("ISTIO_OUTBOUND_OWNER_GROUPS", "java,202"),
        ("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "root"),
        ("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", "127.0.0.0/8"),
        ("DRY_RUN_FILE_PATH", "/tmp/rules"),
    ] {
        let error = parse_with(&[], &[(variable, value)]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("{variable}={value} is not supported"))
        );
        assert!(error.is_unsupported());
    }
    let neutral = [
        ("ISTIO_META_DNS_CAPTURE", "false"),
        ("ISTIO_OUTBOUND_OWNER_GROUPS", "*"),
    ];
    assert!(parse_with(&[], &neutral).is_ok());
}

#[test]
fn a_flag_in_the_place_of_a_value_is_told_with_the_flag_that_lacks_one() {
    for list in [
        &["-i", "-b", "80"][..],
        &["-i", "--istio-inbound-ports", "80"],
        &["--istio-service-cidr", "-b"],
        &["-b", "80", "-i", "--dry-run"],
    ] {
        let error = arguments(list).unwrap_err().to_string();
        assert!(error.contains("--istio-service-cidr"), "{list:?}: {error}");
        assert!(error.contains("a value is required"), "{list:?}: {error}");
    }
}

#[test]
fn the_help_says_of_each_flag_that_is_refused_that_it_is() {
    let command = IstioArgs::augment_args(Command::new("istio-iptables"));
    for flag in FLAGS {
        let arg = command
            .get_arguments()
            .find(|arg| arg.get_id() == flag.long)
            .unwrap();
        let help = arg.get_help().unwrap().to_string();
        let said = (
            help.starts_with("Not supported yet: "),
            arg.get_help_heading().is_some(),
        );
        let refused = flag.only.is_some();
        assert_eq!(said, (refused, refused), "{}: {help}", flag.long);
    }
    for refused in ["redirect-dns", "drop-invalid", "run-validation"] {
        assert!(
            FLAGS
                .iter()
                .any(|flag| flag.long == refused && flag.only.is_some())
        );
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
    ] {
        let arguments: Vec<_> = list.iter().map(Into::into).collect();
        assert_eq!(log_as_json(&arguments), json, "{list:?}");
    }
    assert_eq!(config(&["--log_as_json"]), config(&[]));
    let error = parse(&["--log_as_json=maybe"]).unwrap_err().to_string();
    assert!(
        error.starts_with("--log_as_json=maybe is not one of"),
        "{error}"
    );
}

#[test]
fn a_flag_given_twice_is_refused() {
    let error = arguments(&["-p", "1", "--envoy-port", "2"]).unwrap_err();
    assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
    assert!(error.to_string().contains("--envoy-port"));
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
    // The original's, and --ipv6 and the two of its log.
    assert_eq!(FLAGS.len(), 35);
}

proptest::proptest! {
    #[test]
    fn any_value_is_judged_without_panic(flag in 0..FLAGS.len(), value in "\\PC{0,20}") {
        let flag = &FLAGS[flag];
        let attached = format!("--{}={value}", flag.long);
        if let Ok(arguments) = arguments(&[&attached]) {
            let _judged = arguments.parse(|_variable| None);
        }
    }

    #[test]
    fn ports_and_blocks_that_are_accepted_are_those_written(
        ports in proptest::collection::vec(1u16.., 1..8),
        address: std::net::Ipv4Addr,
        length in 0u8..=32,
    ) {
        let list = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let block = format!("{address}/{length}");
        let config = config(&["-b", &list, "-i", &block]);
        let written = ports.iter().map(|port| (*port, *port)).collect();
        proptest::prop_assert_eq!(config.inbound.capture, InboundCapture::Only(written));
        let block: ipnet::IpNet = block.parse().unwrap();
        proptest::prop_assert_eq!(config.outbound.capture, OutboundCapture::Only(vec![block]));
    }
}

//! Arguments and variables: what they mean, and the words for what is wrong with them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as _, Command, FromArgMatches as _};

use super::{FLAGS, IstioArgs, VARIABLES};
use crate::arbitrary;
use crate::backend::BackendChoice;
use crate::capture::{
    CaptureConfig, DnsServers, InboundCapture, InboundMode, Ipv6Mode, Mark, OutboundCapture,
    OwnerGroups,
};
use crate::compat::{Accounts, Action, ArgumentError, Request, wants_json};
use crate::facts::PodFacts;

fn arguments(list: &[&str]) -> Result<IstioArgs, clap::Error> {
    let command = IstioArgs::augment_args(Command::new("istio-iptables"));
    let matches = command.try_get_matches_from(["istio-iptables"].iter().chain(list))?;
    IstioArgs::from_arg_matches(&matches)
}

fn parse_with(list: &[&str], variables: &[(&str, &str)]) -> Result<Request, ArgumentError> {
    parse_in("/nowhere", list, variables)
}

/// With the users and groups of this folder.
fn parse_in(
    folder: impl Into<PathBuf>,
    list: &[&str],
    variables: &[(&str, &str)],
) -> Result<Request, ArgumentError> {
    let environment = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    arguments(list)
        .unwrap()
        .parse(environment, &Accounts::in_folder(folder))
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
    let variables = [("DUAL_STACK", "true"), ("ISTIO_DUAL_STACK", "false")];
    let mode = |list: &[&str], variables| {
        let list: Vec<_> = ["--ipv6", "istio"].iter().chain(list).copied().collect();
        parse_with(&list, variables).unwrap().config.ipv6
    };
    assert_eq!(mode(&["--dual-stack"], &variables), Ipv6Mode::Auto);
    assert_eq!(mode(&[], &variables), Ipv6Mode::Istio);
    assert_eq!(mode(&[], &variables[..1]), Ipv6Mode::Auto);
    let variables = [("DUAL_STACK", "true"), ("ISTIO_DUAL_STACK", "")];
    assert_eq!(mode(&[], &variables), Ipv6Mode::Auto);
    // The original binds no variable to -p.
    let port = parse_with(&[], &[("ENVOY_PORT", "1")])
        .unwrap()
        .config
        .outbound
        .port;
    assert_eq!(port.get(), 15001);
}

#[test]
fn without_a_user_id_it_is_that_of_the_named_user_or_of_istio_proxy_or_1337() {
    let folder = accounts();
    let uids = |list: &[&str], variables: &[(&str, &str)]| {
        let request = parse_in(folder.path(), list, variables).unwrap();
        Vec::from_iter(request.config.proxy.uids)
    };
    let named = [("ENVOY_USER", "envoy")];
    let all = [("PROXY_UID", "1"), ("ENVOY_USER", "envoy")];
    assert_eq!(uids(&[], &[]), [7001]);
    assert_eq!(uids(&[], &named), [7002]);
    assert_eq!(uids(&[], &[("ENVOY_USER", "55")]), [55]);
    assert_eq!(uids(&[], &all), [1]);
    assert_eq!(uids(&["-u", "3"], &all), [3]);
    let without = parse_with(&[], &[]).unwrap().config.proxy;
    assert_eq!(Vec::from_iter(without.uids), [1337]);
    let error = parse_with(&[], &named).unwrap_err().to_string();
    assert_eq!(
        error,
        "ENVOY_USER=envoy has the item `envoy`: there is no user of this name in /etc/passwd: \
         give its number"
    );
}

/// A folder with users and groups.
fn accounts() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let users = "root:x:0:0::/:\nistio-proxy:x:7001:7001::/:\nenvoy:x:7002:7003::/:\n";
    let groups = "root:x:0:\njava:x:8001:a,b\nbatch:x:8002:\n";
    std::fs::write(folder.path().join("passwd"), users).unwrap();
    std::fs::write(folder.path().join("group"), groups).unwrap();
    folder
}

#[test]
fn owner_groups_are_names_or_numbers_and_two_lists_are_one_too_many() {
    let folder = accounts();
    let parse = |only: Option<&str>, except: Option<&str>| {
        let only = only.map(|only| ("ISTIO_OUTBOUND_OWNER_GROUPS", only));
        let except = except.map(|except| ("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", except));
        let variables: Vec<_> = only.into_iter().chain(except).collect();
        parse_in(folder.path(), &["-i", "*", "-b", "*"], &variables)
    };
    for (only, except, owners) in [
        (None, None, OwnerGroups::Except(BTreeSet::new())),
        (Some("*"), None, OwnerGroups::Except(BTreeSet::new())),
        (
            Some("*"),
            Some("java, 202"),
            OwnerGroups::Except([8001, 202].into()),
        ),
        (None, Some("0"), OwnerGroups::Except([0].into())),
        (
            Some("batch,java"),
            None,
            OwnerGroups::Only([8001, 8002].into()),
        ),
        (Some(""), None, OwnerGroups::Only(BTreeSet::new())),
        (Some("202"), Some("java"), OwnerGroups::Only([202].into())),
    ] {
        let request = parse(only, except).unwrap();
        assert_eq!(request.config.outbound.owners, owners);
        let warned = request.warnings(&PodFacts::default(), &[]).join("\n");
        let both = only == Some("202");
        let told = warned.contains("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE=java has no effect");
        assert_eq!(told, both, "{warned}");
    }
    let many: Vec<_> = (1..=65).map(|id: u32| id.to_string()).collect();
    for (only, except, words) in [
        (Some("perl"), None, "no group of this name in /etc/group"),
        (Some("java,*"), None, "`*` stands alone"),
        (None, Some("*"), "`*` stands alone"),
        (Some("java,"), None, "an empty item"),
        (Some("4294967295"), None, "no process has this id"),
        (
            Some("99999999999"),
            None,
            "`99999999999`: no process has this id",
        ),
        (
            Some(&many.join(",")),
            None,
            "names 65 groups, and at most 64",
        ),
    ] {
        let error = parse(only, except).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(parse(Some(&many[..64].join(",")), None).is_ok());
}

#[test]
fn tproxy_takes_its_mark_and_table_and_is_told_of_without_it() {
    let tproxy = |mark, table| InboundMode::Tproxy {
        mark: Mark::new(mark).unwrap(),
        table,
    };
    let all = ["-i", "*", "-b", "*"];
    for (list, mode) in [
        (&["-m", "TPROXY"][..], tproxy(1337, 133)),
        (&["-m", "TPROXY", "-t", "0x11", "-r", "7"], tproxy(17, 7)),
        (&["-m", "REDIRECT"], InboundMode::Redirect),
        (&["-m", ""], InboundMode::Redirect),
        (&["-t", "17", "-r", "7"], InboundMode::Redirect),
    ] {
        let list: Vec<_> = all.iter().chain(list).copied().collect();
        let request = parse(&list).unwrap();
        assert_eq!(request.config.inbound.mode, mode, "{list:?}");
        let ineffective = list.contains(&"-t") && mode == InboundMode::Redirect;
        assert_eq!(
            request.warnings(&PodFacts::default(), &[]).len(),
            if ineffective { 2 } else { 0 }
        );
    }
    let variables = [
        ("ISTIO_INBOUND_INTERCEPTION_MODE", "TPROXY"),
        ("ISTIO_INBOUND_TPROXY_MARK", "5"),
    ];
    let config = parse_with(&[], &variables).unwrap().config;
    assert_eq!(config.inbound.mode, tproxy(5, 133));
}

#[test]
fn dns_is_captured_if_asked_for_and_then_by_servers_or_for_all() {
    let servers = |list: &[&str], variables: &[(&str, &str)]| {
        let config = parse_with(list, variables).unwrap().config;
        config.dns.map(|dns| (dns.port.get(), dns.servers))
    };
    let from_file = Some((15053, DnsServers::ResolvConf));
    assert_eq!(servers(&["--redirect-dns"], &[]), from_file);
    assert_eq!(
        servers(&[], &[("ISTIO_META_DNS_CAPTURE", "true")]),
        from_file
    );
    assert_eq!(
        servers(&["--redirect-dns", "--capture-all-dns"], &[]),
        Some((15053, DnsServers::All))
    );
    assert_eq!(servers(&["--capture-all-dns"], &[]), None);
    let pod = PodFacts {
        nameservers: vec!["10.96.0.10".parse().unwrap()],
        ..PodFacts::default()
    };
    for (list, words) in [
        (
            &["--capture-all-dns"][..],
            "--capture-all-dns=true has no effect",
        ),
        (&["--redirect-dns", "--cni-mode"], "may be the node's"),
        (
            &["--redirect-dns", "--network-namespace", "/a"],
            "may be the node's",
        ),
    ] {
        let list: Vec<_> = ["-i", "*", "-b", "*"].iter().chain(list).copied().collect();
        let warnings = parse(&list).unwrap().warnings(&pod, &[]);
        assert!(
            matches!(&warnings[..], [warning] if warning.contains(words)),
            "{warnings:?}"
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
fn what_else_the_rules_depend_on_is_followed() {
    let list = ["-c", "eth1,net+", "-k", "vnet0", "--drop-invalid"];
    let variables = [("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", "127.0.0.0/8")];
    let config = parse_with(&list, &variables).unwrap().config;
    let names = |set: &BTreeSet<crate::capture::InterfaceName>| {
        set.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(&config.interfaces.exclude), ["eth1", "net+"]);
    assert_eq!(names(&config.interfaces.reroute), ["vnet0"]);
    assert!(config.drop_invalid);
    assert_eq!(config.loopback_v4.to_string(), "127.0.0.0/8");
    assert!(
        parse_with(&[], &[("INVALID_DROP", "1")])
            .unwrap()
            .config
            .drop_invalid
    );
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
fn ipv6_modes_are_read_and_dual_stack_widens_istios() {
    for (list, mode) in [
        (&[][..], Ipv6Mode::Auto),
        (&["--ipv6", "auto"], Ipv6Mode::Auto),
        (&["--ipv6", "istio"], Ipv6Mode::Istio),
        (&["--ipv6", "istio", "--dual-stack"], Ipv6Mode::Auto),
        (&["--ipv6", "never", "--dual-stack"], Ipv6Mode::Off),
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
            &["-p", "015001"],
            "the item `015001`: a zero before a number makes it octal to some programs",
        ),
        (&["-u", "01337"], "a zero before a number makes it octal"),
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
            "the item `istio-proxy`: an id is a number from 0 to 4294967294; names are not looked up",
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
            "-m 'redirect' (--istio-inbound-interception-mode) is not one of: 'REDIRECT', 'TPROXY'",
        ),
        (&["-m", "NONE"], "means that no rules are written at all"),
        (
            &["--ipv6", "on"],
            "--ipv6=on is not one of: 'auto', 'istio', 'always', 'never'",
        ),
        (
            &["-t", "0"],
            "-t '0' (--istio-inbound-tproxy-mark) has the item `0`: a mark is",
        ),
        (&["-t", "0x"], "a mark is a number"),
        (&["-t", "1337/0xff"], "a mark is a number"),
        (
            &["-m", "TPROXY", "-t", "1338"],
            "-t '1338' (--istio-inbound-tproxy-mark) is 1338, which marks the proxy's calls",
        ),
        (
            &["-m", "TPROXY", "-r", "254"],
            "-r '254' (--istio-inbound-tproxy-route-table) is 254: 0 is no table, and 253",
        ),
        (
            &["-r", "main"],
            "the item `main`: a route table is a number",
        ),
        (
            &["-c", "lo"],
            "-c 'lo' (--istio-exclude-interfaces) has the item `lo`: a name",
        ),
        (&["-k", "a b"], "the item `a b`: a name of an interface"),
        (
            &["--probe-timeout", "5"],
            "--probe-timeout=5 is not a duration above zero, like 5s",
        ),
        (&["--probe-timeout", "0s"], "is not a duration above zero"),
        (
            &["--run-validation", "-n"],
            "--run-validation=true cannot be combined with --dry-run",
        ),
        (
            &["--run-validation", "--cleanup-only"],
            "--run-validation=true cannot be combined with --cleanup-only",
        ),
        (
            &["--skip-rule-apply", "--cleanup-only"],
            "--skip-rule-apply=true cannot be combined with --cleanup-only",
        ),
        (
            &["--skip-rule-apply", "-n"],
            "--skip-rule-apply=true cannot be combined with --dry-run",
        ),
        (
            &["--cleanup-only", "--backend=nft"],
            "--backend=nft cannot be combined with --cleanup-only, which removes the rules of every",
        ),
        (
            &["--skip-rule-apply", "--backend=nft"],
            "--backend=nft cannot be combined with --skip-rule-apply, which writes none",
        ),
        (
            &["--native-nftables", "--force-iptables-binary=nft"],
            "--force-iptables-binary=nft cannot be combined with --native-nftables",
        ),
        (
            &["--backend=nft", "--force-iptables-binary=nft"],
            "--backend=nft cannot be combined with --force-iptables-binary",
        ),
        (
            &["--force-iptables-binary=/sbin/nft"],
            "is not one of: 'legacy', 'nft'",
        ),
        (&["--backend=pf"], "is not one of: 'auto', 'nft'"),
        (&["--cni-mode=x"], "--cni-mode=x is not one of"),
        (&["--force-apply=x"], "--force-apply=x is not one of"),
        (
            &["-x", "::ffff:10.0.0.0/104"],
            "no packet has an IPv4-mapped address",
        ),
        (
            &["-e", "15006"],
            "-e '15006' (--inbound-tunnel-port) is also the value of --inbound-capture-port",
        ),
        (
            &["-p", "15053", "--redirect-dns"],
            "-p '15053' (--envoy-port) is also the value of the port of captured DNS queries",
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
    }
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
    // The original's, --ipv6, --backend and the two of its log.
    assert_eq!(FLAGS.len(), 36);
}

/// What some flag takes, more often than not.
fn value() -> impl proptest::strategy::Strategy<Value = String> {
    proptest::prop_oneof![
        "\\*|true|false|TPROXY|REDIRECT|auto|istio|always|never|nft|legacy|5s|eth[0-9]\\+?",
        "[0-9]{1,5}(,[0-9]{1,5}){0,2}",
        "[1-9]{1,2}:[0-9]{3,5}",
        "10\\.[0-9]\\.0\\.0/(8|16|24),fd00:[0-9a-f]::/(32|64)",
        "127\\.[0-9]\\.0\\.0/(8|16|32)",
    ]
}

proptest::proptest! {
    #[test]
    fn any_value_is_judged_without_panic(flag in 0..FLAGS.len(), value in "\\PC{0,20}") {
        let flag = &FLAGS[flag];
        let attached = format!("--{}={value}", flag.long);
        if let Ok(arguments) = arguments(&[&attached])
            && let Ok(request) = arguments.parse(|_variable| None, &Accounts::default())
        {
            arbitrary::is_sound(&request.config)?;
        }
    }

    #[test]
    fn what_is_accepted_of_many_flags_is_sound(
        flags in proptest::collection::btree_map(0..FLAGS.len(), value(), 0..8),
        variables in proptest::collection::vec((0..VARIABLES.len(), value()), 0..3),
    ) {
        let attached: Vec<_> = flags
            .iter()
            .map(|(flag, value)| format!("--{}={value}", FLAGS[*flag].long))
            .collect();
        let list: Vec<_> = attached.iter().map(String::as_str).collect();
        let variables: Vec<_> = variables
            .iter()
            .map(|(variable, value)| (VARIABLES[*variable], value.as_str()))
            .collect();
        if let Ok(request) = parse_with(&list, &variables) {
            arbitrary::is_sound(&request.config)?;
            let _told = request.warnings(&PodFacts::default(), &[]);
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
        let block = block.parse::<ipnet::IpNet>().unwrap().trunc();
        proptest::prop_assert_eq!(config.outbound.capture, OutboundCapture::Only(vec![block]));
    }
}

//! Which policy arguments and variables ask for.

use std::collections::BTreeSet;

use super::{INJECTOR, config, parse, parse_in, parse_with};
use crate::capture::{
    CaptureConfig, DnsServers, InboundCapture, InboundMode, Ipv6Mode, Mark, OutboundCapture,
    OwnerGroups,
};
use crate::compat::Action;
use crate::facts::PodFacts;
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

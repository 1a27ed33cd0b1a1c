//! Arguments: what they mean, the words for what is wrong with them, and the rules they lead to.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use clap::{Args as _, Command, FromArgMatches as _};

use super::{FLAGS, LinkerdArgs, chart_defaults};
use crate::arbitrary;
use crate::backend::BackendChoice;
use crate::capture::{CaptureConfig, InboundCapture, Ipv6Mode};
use crate::compat::{Action, ArgumentError, Request};
use crate::explain::{Flow, Protocol, Rules, explain};
use crate::facts::PodFacts;
use crate::field::Vocabulary;
use crate::nft::render;
use crate::plan::plan;
use crate::routing::{PodAddress, PodAddresses};

/// What Linkerd's chart passes.
const CHART: &str = "--ipv6=false --incoming-proxy-port 4143 --outgoing-proxy-port 4140 \
                     --proxy-uid 2102 --inbound-ports-to-ignore 4190,4191,4567,4568 \
                     --outbound-ports-to-ignore 4567,4568";

fn arguments(list: &[&str]) -> Result<LinkerdArgs, clap::Error> {
    let command = LinkerdArgs::augment_args(Command::new("linkerd-init"));
    let matches = command.try_get_matches_from(["linkerd-init"].iter().chain(list))?;
    LinkerdArgs::from_arg_matches(&matches)
}

fn parse(list: &[&str]) -> Result<Request, ArgumentError> {
    arguments(list).unwrap().parse()
}

/// With the flags without which nothing goes.
fn with(list: &[&str]) -> Result<Request, ArgumentError> {
    let needed = ["-p", "4143", "-o", "4140", "-u", "2102"];
    parse(&needed.iter().chain(list).copied().collect::<Vec<_>>())
}

fn config(list: &[&str]) -> CaptureConfig {
    with(list).unwrap().config
}

#[test]
fn what_the_chart_passes_is_what_annotations_start_from() {
    let list: Vec<_> = CHART.split(' ').collect();
    let request = parse(&list).unwrap();
    let defaults = CaptureConfig {
        ipv6: Ipv6Mode::Off,
        ..chart_defaults()
    };
    assert_eq!(request.config, defaults);
    assert_eq!(request.action, Action::Apply);
    assert_eq!(request.backend, BackendChoice::Auto);
}

#[test]
fn lists_take_ranges_and_may_be_given_in_parts() {
    let config = config(&[
        "--inbound-ports-to-ignore",
        "25,587,8000-8010",
        "--inbound-ports-to-ignore=9000",
        "--inbound-ports-to-ignore=",
        "--outbound-ports-to-ignore",
        "443",
        "--subnets-to-ignore",
        "10.0.0.0/8,fd00::/8",
        "-r",
        "80,8080",
    ]);
    let ports = |list: &[(u16, u16)]| list.iter().copied().collect();
    assert_eq!(
        config.inbound.exclude_ports,
        ports(&[(25, 25), (587, 587), (8000, 8010), (9000, 9000)])
    );
    assert_eq!(config.outbound.exclude_ports, ports(&[(443, 443)]));
    assert_eq!(
        config.inbound.capture,
        InboundCapture::Only(ports(&[(80, 80), (8080, 8080)]))
    );
    let subnets: Vec<_> = config
        .inbound
        .exclude_sources
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(subnets, ["10.0.0.0/8", "fd00::/8"]);
}

#[test]
fn ids_of_0_and_below_are_none_and_one_is_needed() {
    let ids = |list: &[&str]| {
        let needed = ["-p", "4143", "-o", "4140"];
        let list: Vec<_> = needed.iter().chain(list).copied().collect();
        parse(&list).map(|request| (request.config.proxy.uids, request.config.proxy.gids))
    };
    let some = |id| BTreeSet::from([id]);
    assert_eq!(ids(&["-u", "7"]), Ok((some(7), BTreeSet::new())));
    assert_eq!(ids(&["-u", "0", "-g", "8"]), Ok((BTreeSet::new(), some(8))));
    assert_eq!(
        ids(&["--proxy-uid=-1", "--proxy-gid=8"]),
        Ok((BTreeSet::new(), some(8)))
    );
    for (list, words) in [
        (&[][..], "--proxy-uid names nobody"),
        (&["-u", "0"], "-u '0' (--proxy-uid) names nobody"),
        (
            &["-u", "-1", "-g", "0"],
            "captured and come back to it without end; give the proxy's user id (--proxy-uid)",
        ),
    ] {
        let error = ids(list).unwrap_err().to_string();
        assert!(error.contains(words), "{list:?}: {error}");
    }
}

#[test]
fn how_and_where_it_is_done_is_followed() {
    let request = with(&[
        "--simulate",
        "--netns",
        "/proc/1/ns/net",
        "--timeout-close-wait-secs",
        "3600",
        "-w",
        "--iptables-mode",
        "nft",
        "--firewall-bin-path",
        "/sbin/iptables-nft",
        "--log-level",
        "debug",
        "--log-format",
        "json",
        "--backend",
        "nft",
    ])
    .unwrap();
    assert_eq!(request.action, Action::Print { file: None });
    assert_eq!(
        request.network_namespace.as_deref(),
        Some(std::path::Path::new("/proc/1/ns/net"))
    );
    assert_eq!(
        request.close_wait_timeout.map(std::num::NonZero::get),
        Some(3600)
    );
    assert_eq!(request.backend, BackendChoice::Nft);
    assert_eq!(request.config.ipv6, Ipv6Mode::Auto);
    let zero = with(&["--timeout-close-wait-secs=0"]).unwrap();
    assert_eq!(zero.close_wait_timeout, None);
}

#[test]
fn what_is_wrong_is_named_with_its_remedy() {
    for (list, message) in [
        (
            &["-o", "4140", "-u", "1"][..],
            "--incoming-proxy-port is missing: give the port at which",
        ),
        (
            &["-p", "4143", "-o", "-1", "-u", "1"],
            "-o '-1' (--outgoing-proxy-port) is missing",
        ),
        (
            &["-p", "4140", "-o", "4140", "-u", "1"],
            "-p '4140' (--incoming-proxy-port) is also the value of --outgoing-proxy-port",
        ),
        (
            &["-p", "0", "-o", "1", "-u", "1"],
            "a port is a number from 1",
        ),
    ] {
        let error = parse(list).unwrap_err().to_string();
        assert!(error.contains(message), "{list:?}: {error}");
    }
    for (list, message) in [
        // The original skips these in silence.
        (
            &["--inbound-ports-to-ignore", "25,smtp"][..],
            "--inbound-ports-to-ignore=25,smtp has the item `smtp`: a port is a number",
        ),
        (
            &["--outbound-ports-to-ignore", "90-80"],
            "the item `90-80`: a range goes from the smaller",
        ),
        (&["--outbound-ports-to-ignore", "80:90"], "the item `80:90`"),
        (
            &["--subnets-to-ignore", "10.0.0.0/8,nowhere"],
            "the item `nowhere`: a CIDR block is",
        ),
        (&["-g", "proxy"], "the item `proxy`: an id is a number"),
        (&["-g", "4294967295"], "an id is a number"),
        (
            &[
                "--iptables-mode",
                "legacy",
                "--firewall-bin-path",
                "iptables-nft",
            ],
            "--iptables-mode=legacy cannot be combined with --firewall-bin-path",
        ),
        (
            &[
                "--iptables-mode",
                "plain",
                "--firewall-bin-path",
                "iptables-nft",
            ],
            "--iptables-mode=plain cannot be combined with --firewall-bin-path",
        ),
        (
            &["--iptables-mode", "legacy", "--backend", "nft"],
            "--backend=nft cannot be combined with --iptables-mode",
        ),
        (
            &["--firewall-bin-path", "iptables-legacy", "--backend", "nft"],
            "--backend=nft cannot be combined with --firewall-bin-path",
        ),
        (
            &["--firewall-bin-path", "/sbin/iptables-foo"],
            "--firewall-bin-path=/sbin/iptables-foo names no program",
        ),
        (
            &["--iptables-mode", "pf"],
            "is not one of: 'legacy', 'nft', 'plain'",
        ),
        (&["--log-level", "foo"], "is not one of: 'panic', 'fatal',"),
        (&["--log-format", "xml"], "is not one of: 'plain', 'json'"),
        (&["--timeout-close-wait-secs", "1h"], "a number of seconds"),
        (&["--ipv6=maybe"], "is not one of: 'true', 'false'"),
    ] {
        let error = with(list).unwrap_err().to_string();
        assert!(error.contains(message), "{list:?}: {error}");
    }
}

#[test]
fn ipv6_that_passes_is_warned_of() {
    let address = PodAddress {
        interface: 2,
        address: "fd00::2".parse().unwrap(),
    };
    let pod = PodFacts::with_addresses(PodAddresses::new(vec![address]));
    let warnings = with(&["--ipv6=false"]).unwrap().warnings(&pod, &[]);
    assert!(
        matches!(&warnings[..], [one] if one.contains("capture it (--ipv6=true)")),
        "{warnings:?}"
    );
    assert!(with(&[]).unwrap().warnings(&pod, &[]).is_empty());
}

/// Rule by rule: what the original's chains do (linkerd2-proxy-init), in one order for each hook.
#[test]
fn the_rules_are_those_of_the_original() {
    let list: Vec<_> = CHART.split(' ').collect();
    let list: Vec<_> = list[1..]
        .iter()
        .chain(&["--subnets-to-ignore", "192.0.2.0/24,2001:db8::/32"])
        .copied()
        .collect();
    let config = parse(&list).unwrap().config;
    let addresses = ["10.0.0.2", "fd00::2"].map(|address| PodAddress {
        interface: 2,
        address: address.parse().unwrap(),
    });
    let pod = PodFacts::with_addresses(PodAddresses::new(addresses.to_vec()));
    let plan = plan(&config, &pod);
    let chains: Vec<(String, Vec<&str>)> = plan
        .ruleset
        .chains
        .iter()
        .map(|chain| {
            let keys = chain.rules.iter().map(|rule| rule.key.as_str());
            (format!("{:?}", chain.hook), keys.collect())
        })
        .collect();
    let expected: [(&str, &[&str]); 2] = [
        (
            "NatPrerouting",
            &[
                "inbound/exclude-ports",
                "inbound/exclude-sources-v4",
                "inbound/exclude-sources-v6",
                "inbound/capture",
            ],
        ),
        (
            "NatOutput",
            &[
                "outbound/exclude-ports-tcp",
                "outbound/exclude-ports-udp",
                "outbound/inbound-source-v4",
                "outbound/inbound-source-v6",
                "outbound/proxy-uid",
                "outbound/loopback-interface",
                "outbound/loopback-v4",
                "outbound/loopback-v6",
                "outbound/capture",
            ],
        ),
    ];
    let expected = expected.map(|(hook, keys)| (hook.to_owned(), keys.to_vec()));
    assert_eq!(chains, expected);
    assert_eq!(plan.routing, None);
    let text = render::table(&plan.ruleset);
    for words in [
        "elements = { 4190-4191, 4567-4568 }",
        "elements = { 192.0.2.0/24 }",
        "elements = { 2001:db8::/32 }",
        "redirect to :4143",
        "redirect to :4140",
        "elements = { 2102 }",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // No call of the proxy to its own pod is captured: one rule for each direction redirects.
    assert_eq!(text.matches("redirect to").count(), 2, "{text}");
    let loopback = text
        .lines()
        .find(|line| line.contains("outbound/loopback-interface"));
    let loopback = loopback.unwrap().trim();
    assert!(
        loopback.starts_with("oif \"lo\"") || loopback.starts_with("oifname \"lo\""),
        "{loopback}"
    );
    assert!(!loopback.contains("dport"), "{loopback}");
}

/// The flows that the original's rules were seen to decide on, and how.
#[test]
fn each_flow_is_decided_as_by_the_original() {
    let list: Vec<_> = CHART.split(' ').collect();
    let list: Vec<_> = list[1..]
        .iter()
        .chain(&[
            "-g",
            "2103",
            "--subnets-to-ignore",
            "10.9.8.0/24,fd00:8::/32",
        ])
        .copied()
        .collect();
    let policy = parse(&list).unwrap().config;
    let listed = CaptureConfig {
        inbound: crate::capture::Inbound {
            capture: InboundCapture::Only([(80, 80)].into_iter().collect()),
            ..policy.inbound.clone()
        },
        ..policy.clone()
    };
    let addresses = ["10.9.0.2", "fd00:9::2"].map(|address| PodAddress {
        interface: 2,
        address: address.parse().unwrap(),
    });
    let pod = PodFacts::with_addresses(PodAddresses::new(addresses.to_vec()));
    let captured = |config: &CaptureConfig, flow: &Flow| {
        let explained = explain(&Rules::from_plan(&plan(config, &pod)), flow);
        explained.verdict.certain().unwrap().captured_by()
    };
    let app = (1000, 1000);
    let proxy = (2102, 0);
    let by_group = (1000, 2103);
    let sent = |owner, from: &str, to: &str| {
        let to: SocketAddr = to.parse().unwrap();
        let own = to.ip().is_loopback() || to.ip().to_string() == from.rsplit_once(':').unwrap().0;
        let interface = if own { "lo" } else { "eth0" };
        Flow::sent(interface, owner, Protocol::Tcp, from.parse().unwrap(), to)
    };
    let v4 = "10.9.0.2:40000";
    for (owner, to, port) in [
        (app, "10.9.0.7:80", Some(4140)),
        (app, "10.9.0.7:15008", Some(4140)),
        (app, "10.9.0.7:4567", None),
        (app, "127.0.0.1:80", None),
        (app, "10.9.0.2:80", None),
        (proxy, "10.9.0.7:80", None),
        (by_group, "10.9.0.7:80", None),
        // Unlike in a pod of Istio's.
        (proxy, "10.9.0.2:80", None),
        (by_group, "10.9.0.2:80", None),
    ] {
        let flow = sent(owner, v4, to);
        assert_eq!(captured(&policy, &flow), port, "{owner:?} to {to}");
    }
    let v6 = sent(app, "[fd00:9::2]:40000", "[fd00:9::7]:80");
    assert_eq!(captured(&policy, &v6), Some(4140));
    let arrives = |from: &str, to: &str| {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        Flow::arriving("eth0", Protocol::Tcp, from, to)
    };
    for (from, to, all, port_80) in [
        ("10.9.0.7:4000", "10.9.0.2:80", Some(4143), Some(4143)),
        ("10.9.0.7:4000", "10.9.0.2:81", Some(4143), None),
        ("10.9.0.7:4000", "10.9.0.2:15008", Some(4143), None),
        ("10.9.0.7:4000", "10.9.0.2:4191", None, None),
        ("10.9.8.7:4000", "10.9.0.2:80", None, None),
        ("[fd00:9::7]:4000", "[fd00:9::2]:80", Some(4143), Some(4143)),
        ("[fd00:8::7]:4000", "[fd00:9::2]:80", None, None),
    ] {
        let flow = arrives(from, to);
        assert_eq!(captured(&policy, &flow), all, "{from} to {to}");
        assert_eq!(captured(&listed, &flow), port_80, "{from} to {to}, listed");
    }
    // Of UDP nothing is captured, DNS included.
    let to = "10.9.0.7:53".parse().unwrap();
    let query = Flow::sent("eth0", app, Protocol::Udp, v4.parse().unwrap(), to);
    assert_eq!(captured(&policy, &query), None);
}

#[test]
fn words_for_a_contradiction_are_linkerds() {
    let error = parse(&["-p", "1", "-o", "1", "-u", "1"]).unwrap_err();
    let name = crate::field::Field::OutboundPort.name(Vocabulary::Linkerd);
    assert!(error.to_string().contains(name), "{error}");
    // The original's, --backend and --log_as_json.
    assert_eq!(FLAGS.len(), 20);
}

#[test]
fn the_mode_or_the_program_of_the_original_chooses_the_backend() {
    for (list, backend) in [
        (&[][..], BackendChoice::Auto),
        (&["--iptables-mode", "plain"], BackendChoice::Auto),
        (&["--iptables-mode", "nft"], BackendChoice::Nft),
        (
            &["--iptables-mode", "legacy"],
            BackendChoice::IptablesLegacy,
        ),
        (
            &[
                "--firewall-bin-path",
                "iptables-nft",
                "--firewall-save-bin-path",
                "x",
            ],
            BackendChoice::Nft,
        ),
        (
            &["--firewall-bin-path", "/usr/sbin/iptables-legacy"],
            BackendChoice::IptablesLegacy,
        ),
        (&["--firewall-bin-path", "iptables"], BackendChoice::Auto),
        (
            &[
                "--firewall-bin-path",
                "iptables",
                "--backend",
                "iptables-nft",
            ],
            BackendChoice::IptablesNft,
        ),
        (
            &["--iptables-mode", "plain", "--backend", "iptables"],
            BackendChoice::Iptables,
        ),
        (
            &["--iptables-mode", "legacy", "--backend", "iptables-legacy"],
            BackendChoice::IptablesLegacy,
        ),
    ] {
        assert_eq!(with(list).unwrap().backend, backend, "{list:?}");
    }
}

proptest::proptest! {
    #[test]
    fn any_value_is_judged_without_panic(flag in 0..FLAGS.len(), value in "\\PC{0,20}") {
        let attached = format!("--{}={value}", FLAGS[flag].long);
        let needed = ["-p", "4143", "-o", "4140", "-u", "2102", &attached];
        if let Ok(arguments) = arguments(&needed)
            && let Ok(request) = arguments.parse()
        {
            arbitrary::is_sound(&request.config)?;
        }
    }
}

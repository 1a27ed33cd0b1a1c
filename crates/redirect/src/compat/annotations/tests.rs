//! Annotations: what they mean, and that what is wrong is named.

use proptest::prelude::*;

use super::{Annotations, ContainerUser, istio, linkerd};
use crate::arbitrary;
use crate::capture::{CaptureConfig, InboundCapture, InboundMode, Mark, OutboundCapture, Ports};
use crate::compat::linkerd::chart_defaults;

const TRAFFIC: &str = "traffic.sidecar.istio.io/";
const NOBODY: ContainerUser = ContainerUser {
    uid: None,
    gid: None,
};

fn annotations(list: &[(&str, &str)]) -> Annotations {
    let pairs = list.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Names without a slash are Istio's about traffic.
fn of_istio(list: &[(&str, &str)]) -> Result<CaptureConfig, String> {
    let list: Vec<_> = list
        .iter()
        .map(|(name, value)| match name.contains('/') {
            true => ((*name).to_owned(), *value),
            false => (format!("{TRAFFIC}{name}"), *value),
        })
        .collect();
    let list: Vec<_> = list
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    istio(&annotations(&list), NOBODY, &CaptureConfig::default()).map_err(|error| error.to_string())
}

fn ports(list: &[(u16, u16)]) -> Ports {
    list.iter().copied().collect()
}

#[test]
fn without_annotations_it_is_the_meshs_policy() {
    let other = [
        ("app.kubernetes.io/name", "x"),
        ("sidecar.istio.io/inject", "true"),
    ];
    assert_eq!(of_istio(&other), Ok(CaptureConfig::default()));
    let none = Annotations::new();
    assert_eq!(
        linkerd(&none, &none, NOBODY, &chart_defaults()),
        Ok(chart_defaults())
    );
}

#[test]
fn each_annotation_of_istios_sets_its_field() {
    let config = of_istio(&[
        ("includeOutboundIPRanges", "10.0.0.0/8, fd00::/8"),
        ("excludeOutboundIPRanges", "10.1.0.0/16"),
        ("includeInboundPorts", "*"),
        ("excludeInboundPorts", "80, 8000:8010"),
        ("includeOutboundPorts", "5432"),
        ("excludeOutboundPorts", "53"),
        ("excludeInterfaces", "eth1"),
        ("istio.io/reroute-virtual-interfaces", "vnet0,vnet1"),
        ("status.sidecar.istio.io/port", "16000"),
        ("sidecar.istio.io/interceptionMode", "TPROXY"),
    ])
    .unwrap();
    let OutboundCapture::Only(blocks) = &config.outbound.capture else {
        panic!("{config:?}");
    };
    assert_eq!(blocks.len(), 2);
    assert_eq!(config.outbound.exclude_cidrs.len(), 1);
    assert_eq!(config.outbound.include_ports, ports(&[(5432, 5432)]));
    assert_eq!(config.outbound.exclude_ports, ports(&[(53, 53)]));
    assert_eq!(config.inbound.capture, InboundCapture::All);
    assert_eq!(
        config.inbound.exclude_ports,
        ports(&[
            (80, 80),
            (8000, 8010),
            (15020, 15021),
            (15090, 15090),
            (16000, 16000)
        ])
    );
    assert_eq!(config.interfaces.exclude.len(), 1);
    assert_eq!(config.interfaces.reroute.len(), 2);
    let tproxy = InboundMode::Tproxy {
        mark: Mark::new(1337).unwrap(),
        table: 133,
    };
    assert_eq!(config.inbound.mode, tproxy);
}

#[test]
fn the_own_ports_pass_whatever_is_excluded_but_not_if_they_are_listed() {
    let own = ports(&[(15020, 15021), (15090, 15090)]);
    assert_eq!(
        of_istio(&[("excludeInboundPorts", "")])
            .unwrap()
            .inbound
            .exclude_ports,
        own
    );
    let listed = of_istio(&[("includeInboundPorts", "80,15020")])
        .unwrap()
        .inbound;
    assert_eq!(
        listed.capture,
        InboundCapture::Only(ports(&[(80, 80), (15020, 15020)]))
    );
    assert!(listed.exclude_ports.is_empty());
    assert_eq!(
        of_istio(&[("includeInboundPorts", "")])
            .unwrap()
            .inbound
            .capture,
        InboundCapture::Nothing
    );
    assert_eq!(
        of_istio(&[("includeOutboundIPRanges", "")])
            .unwrap()
            .outbound
            .capture,
        OutboundCapture::Only(Vec::new())
    );
}

#[test]
fn the_proxy_is_who_its_container_runs_as_but_never_root() {
    let ids = |uid, gid| {
        let user = ContainerUser { uid, gid };
        let config = istio(&Annotations::new(), user, &CaptureConfig::default()).unwrap();
        (
            Vec::from_iter(config.proxy.uids),
            Vec::from_iter(config.proxy.gids),
        )
    };
    assert_eq!(ids(None, None), (vec![1337], vec![1337]));
    assert_eq!(ids(Some(0), Some(1337)), (vec![1337], vec![1337]));
    assert_eq!(ids(Some(7), Some(8)), (vec![7], vec![8]));
}

#[test]
fn what_is_wrong_with_istios_is_named_with_its_remedy() {
    for (list, words) in [
        (
            &[("includeInboundPort", "80")][..],
            "annotation traffic.sidecar.istio.io/includeInboundPort: '80' is not known: remove it, \
             or correct its name to includeInboundPorts; known are traffic.sidecar.istio.io/inc",
        ),
        (
            &[("excludeInboundPorts", "80,http")],
            "annotation traffic.sidecar.istio.io/excludeInboundPorts: '80,http' has the item \
             `http`: a port is a number from 1 to 65535",
        ),
        (
            &[("excludeInboundPorts", "*")],
            "the item `*`: `*` stands alone",
        ),
        (
            &[("excludeOutboundPorts", "*")],
            "the item `*`: `*` stands alone",
        ),
        (
            &[("includeOutboundPorts", "*")],
            "the item `*`: `*` stands alone",
        ),
        (
            &[("excludeOutboundIPRanges", "*")],
            "the item `*`: `*` stands alone",
        ),
        (
            &[("excludeOutboundIPRanges", "10.0.0.0/40")],
            "a CIDR block is",
        ),
        (
            &[("excludeInterfaces", "eth0/1")],
            "a name of an interface has",
        ),
        (
            &[("status.sidecar.istio.io/port", "0")],
            "annotation status.sidecar.istio.io/port: '0' has the item `0`",
        ),
        (
            &[("sidecar.istio.io/interceptionMode", "tproxy")],
            "is not one of: 'REDIRECT', 'TPROXY', 'NONE'",
        ),
        (
            &[
                ("includeInboundPorts", "80,90"),
                ("excludeInboundPorts", "85:95"),
            ],
            "annotation traffic.sidecar.istio.io/excludeInboundPorts: '85:95' contradicts \
             annotation traffic.sidecar.istio.io/includeInboundPorts: '80,90': port 90 is in both",
        ),
        (
            &[
                ("includeOutboundPorts", "80"),
                ("excludeOutboundPorts", "80"),
            ],
            "port 80 is in both; remove it from one",
        ),
        (
            &[
                ("istio.io/reroute-virtual-interfaces", "a"),
                ("kubevirtInterfaces", "b"),
            ],
            "annotation traffic.sidecar.istio.io/kubevirtInterfaces: 'b' contradicts annotation \
             istio.io/reroute-virtual-interfaces: 'a': remove the former, which is deprecated",
        ),
    ] {
        let error = of_istio(list).unwrap_err();
        assert!(error.contains(words), "{list:?}: {error}");
    }
    let agree = [
        ("istio.io/reroute-virtual-interfaces", "a,b"),
        ("kubevirtInterfaces", "b,a"),
    ];
    assert!(of_istio(&agree).is_ok());
    let apart = [("includeInboundPorts", "80"), ("excludeInboundPorts", "90")];
    assert!(of_istio(&apart).is_ok());
}

#[test]
fn no_capture_is_told_apart_from_what_is_wrong() {
    for (mode, none) in [("NONE", true), ("none", false)] {
        let annotations = annotations(&[("sidecar.istio.io/interceptionMode", mode)]);
        let error = istio(&annotations, NOBODY, &CaptureConfig::default()).unwrap_err();
        assert_eq!(error.asks_for_no_capture(), none);
    }
}

#[test]
fn linkerds_annotations_append_inbound_and_replace_the_rest() {
    let pod = annotations(&[
        ("config.linkerd.io/skip-inbound-ports", "25,8000-8010"),
        (
            "config.linkerd.io/skip-subnets",
            "192.0.2.0/24,2001:db8::/32",
        ),
        ("config.linkerd.io/proxy-log-level", "debug"),
    ]);
    let namespace = annotations(&[
        ("config.linkerd.io/skip-inbound-ports", "9999"),
        ("config.linkerd.io/skip-outbound-ports", "443"),
        ("config.linkerd.io/proxy-uid", "7"),
    ]);
    let user = ContainerUser {
        uid: Some(8),
        gid: Some(9),
    };
    let config = linkerd(&pod, &namespace, user, &chart_defaults()).unwrap();
    assert_eq!(
        config.inbound.exclude_ports,
        ports(&[(25, 25), (4190, 4191), (4567, 4568), (8000, 8010)])
    );
    assert_eq!(config.outbound.exclude_ports, ports(&[(443, 443)]));
    assert_eq!(config.inbound.exclude_sources.len(), 2);
    assert_eq!(Vec::from_iter(config.proxy.uids), [7]);
    assert_eq!(Vec::from_iter(config.proxy.gids), [9]);
}

#[test]
fn what_is_wrong_with_linkerds_is_named() {
    for (name, value, words) in [
        (
            "skip-inbound-port",
            "25",
            "config.linkerd.io/skip-inbound-port: '25' is not known",
        ),
        (
            "skip-inbound-ports",
            "25,smtp",
            "the item `smtp`: a port is a number",
        ),
        (
            "skip-outbound-ports",
            "9-8",
            "from the smaller to the larger",
        ),
        ("skip-subnets", "10.0.0.0", ""),
        ("skip-subnets", "here", "a CIDR block is"),
        ("proxy-uid", "0", "the proxy's id is a number above 0"),
        ("proxy-gid", "root", "the proxy's id is a number above 0"),
    ] {
        let name = format!("config.linkerd.io/{name}");
        let wrong = annotations(&[(&name, value)]);
        let none = Annotations::new();
        for (pod, namespace) in [(&wrong, &none), (&none, &wrong)] {
            match linkerd(pod, namespace, NOBODY, &chart_defaults()) {
                Ok(config) => assert_eq!(
                    (value, config.inbound.exclude_sources.len()),
                    ("10.0.0.0", 1)
                ),
                Err(error) => {
                    assert!(
                        !words.is_empty() && error.to_string().contains(words),
                        "{error}"
                    );
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_accepted_is_valid(
        name in prop::sample::select(vec![
            "traffic.sidecar.istio.io/includeOutboundIPRanges",
            "traffic.sidecar.istio.io/excludeOutboundIPRanges",
            "traffic.sidecar.istio.io/includeInboundPorts",
            "traffic.sidecar.istio.io/excludeInboundPorts",
            "traffic.sidecar.istio.io/includeOutboundPorts",
            "traffic.sidecar.istio.io/excludeOutboundPorts",
            "traffic.sidecar.istio.io/excludeInterfaces",
            "traffic.sidecar.istio.io/kubevirtInterfaces",
            "istio.io/reroute-virtual-interfaces",
            "status.sidecar.istio.io/port",
            "sidecar.istio.io/interceptionMode",
            "config.linkerd.io/skip-outbound-ports",
            "config.linkerd.io/skip-inbound-ports",
            "config.linkerd.io/skip-subnets",
            "config.linkerd.io/proxy-uid",
            "config.linkerd.io/proxy-gid",
        ]),
        value in "[0-9,:*-]{0,12}|[0-9a-f.:/, ]{0,20}|[A-Z]{4,8}|\\PC{0,20}",
        uid in proptest::option::of(any::<u32>()),
    ) {
        let annotations = annotations(&[(name, &value)]);
        let user = ContainerUser { uid, gid: uid };
        if let Ok(config) = istio(&annotations, user, &CaptureConfig::default()) {
            arbitrary::is_sound(&config)?;
        }
        if let Ok(config) = linkerd(&annotations, &Annotations::new(), user, &chart_defaults()) {
            arbitrary::is_sound(&config)?;
        }
    }
}

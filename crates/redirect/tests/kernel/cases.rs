//! Named policies, at least one for each field of [`CaptureConfig`] and each value of a kind.
//!
//! Most are the default policy with one thing changed, without IPv6 where that adds nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;

use shunt_redirect::capture::{
    CaptureConfig, CgroupPath, Dns, DnsServers, InboundCapture, InboundMode, InterfaceName,
    Ipv6Mode, Mark, OutboundCapture, OwnerGroups, Port, Ports, ProxyIdentity,
};

use crate::golden;

/// The cgroup that one of the policies names.
pub(crate) const CGROUP: &str = "shunt-golden/proxy";

macro_rules! cases {
    ($($name:ident: $edit:expr;)+) => {
        /// A policy for each name.
        pub(crate) fn named(name: &str) -> CaptureConfig {
            let mut config = CaptureConfig::default();
            let edit: fn(&mut CaptureConfig) = match name {
                $(stringify!($name) => $edit,)+
                _ => panic!("no case {name}"),
            };
            edit(&mut config);
            config
        }

        mod each {
            $(#[test]
            fn $name() {
                super::golden::check(stringify!($name), &super::named(stringify!($name)));
            })+
        }
    };
}

cases! {
    injector_with_both_families: |_config| {};
    ipv6_by_address: |config| config.ipv6 = Ipv6Mode::Auto;
    ipv6_as_istio_decides: |config| config.ipv6 = Ipv6Mode::Istio;
    ipv6_always: |config| config.ipv6 = Ipv6Mode::On;
    ipv6_off: |config| {
        config.ipv6 = Ipv6Mode::Off;
        config.outbound.exclude_cidrs = cidrs("10.0.0.0/8 fd00::/8");
    };

    proxy_by_several_uids_and_gids: |config| {
        v4(config);
        config.proxy.uids = [0, 1337, 4_294_967_294].into();
        config.proxy.gids = [5, 6, 7].into();
    };
    proxy_by_gid_alone: |config| {
        v4(config);
        config.proxy.uids = BTreeSet::new();
    };
    proxy_by_mark: |config| {
        v4(config);
        config.proxy = ProxyIdentity { mark: Mark::new(0x539), self_calls: true, ..none() };
    };
    proxy_by_cgroup: |config| {
        v4(config);
        let cgroup = CgroupPath::new(CGROUP);
        config.proxy = ProxyIdentity { cgroup, self_calls: true, ..none() };
    };
    self_calls_pass: |config| config.proxy.self_calls = false;

    inbound_port_and_tunnel: |config| {
        v4(config);
        config.inbound.port = port(4143);
        config.inbound.tunnel = Some(port(4144));
    };
    no_tunnel: |config| {
        v4(config);
        config.inbound.tunnel = None;
    };
    nothing_inbound: |config| {
        v4(config);
        config.inbound.capture = InboundCapture::Nothing;
    };
    inbound_ports_listed: |config| {
        v4(config);
        config.inbound.capture = InboundCapture::Only(ports("80 443 8000-8010"));
    };
    one_inbound_range: |config| {
        v4(config);
        config.inbound.capture = InboundCapture::Only(ports("8000-65535"));
        config.inbound.exclude_ports = ports("15090");
    };
    inbound_list_empty: |config| {
        v4(config);
        config.inbound.capture = InboundCapture::Only(Ports::default());
    };
    no_inbound_port_excluded: |config| {
        v4(config);
        config.inbound.exclude_ports = Ports::default();
    };
    more_ports_than_one_rule_of_iptables_holds: |config| {
        v4(config);
        config.inbound.exclude_ports =
            ports("1 3 5 7 9 11 13 15 17 19 21 23 25 27 29-30 40-50 60-70 65535");
    };
    inbound_sources_excluded: |config| {
        config.inbound.exclude_sources = cidrs("10.1.0.0/16 192.0.2.7/32 fd00:1::/32");
    };

    outbound_port: |config| {
        v4(config);
        config.outbound.port = port(4140);
    };
    outbound_blocks_listed: |config| {
        config.outbound.capture =
            OutboundCapture::Only(cidrs("10.96.0.0/12 192.168.1.7/32 fd00:96::/108"));
    };
    outbound_blocks_of_one_family: |config| {
        config.outbound.capture = OutboundCapture::Only(cidrs("10.96.0.0/12"));
    };
    no_outbound_destination: |config| {
        v4(config);
        config.outbound.capture = OutboundCapture::Only(Vec::new());
    };
    loopback_asked_for: |config| {
        v4(config);
        config.outbound.capture = OutboundCapture::Only(cidrs("127.0.0.0/8 10.96.0.0/12"));
    };
    outbound_blocks_excluded: |config| {
        config.outbound.exclude_cidrs = cidrs(
            "10.1.2.3/32 10.1.2.0/24 10.0.0.0/9 10.128.0.0/9 fd00:1::/32 fd00::7/128",
        );
    };
    outbound_blocks_that_merge_unevenly: |config| {
        config.outbound.exclude_cidrs =
            cidrs("10.0.0.0/32 10.0.0.1/32 10.0.0.2/32 fd00::/127 fd00::2/128");
    };
    everything_excluded: |config| config.outbound.exclude_cidrs = cidrs("0.0.0.0/0 ::/0");
    blocks_at_the_end_of_the_address_space: |config| {
        config.outbound.capture =
            OutboundCapture::Only(cidrs("240.0.0.0/4 ff00::/8 ::102:304/126"));
    };
    outbound_ports_included: |config| {
        v4(config);
        config.outbound.capture = OutboundCapture::Only(cidrs("10.96.0.0/12"));
        config.outbound.include_ports = ports("25 443");
    };
    outbound_ports_excluded: |config| {
        v4(config);
        config.outbound.exclude_ports = ports("22 9000-9100");
    };
    owner_groups_excluded: |config| {
        v4(config);
        config.outbound.owners = OwnerGroups::Except([0, 1, 2, 1000].into());
    };
    owner_groups_listed: |config| {
        v4(config);
        config.outbound.owners = OwnerGroups::Only([0, 1, 2, 1000].into());
    };
    nobody_captured: |config| {
        v4(config);
        config.outbound.owners = OwnerGroups::Only(BTreeSet::new());
    };

    dns_to_any_server: |config| config.dns = Some(dns(DnsServers::All));
    dns_to_listed_servers: |config| {
        config.dns = Some(dns(servers("10.96.0.10 127.0.0.53 fd00:96::a")));
    };
    dns_to_one_server_and_another_port: |config| {
        v4(config);
        config.dns = Some(Dns { port: port(5353), servers: servers("10.96.0.10") });
    };
    dns_without_servers: |config| {
        v4(config);
        config.dns = Some(dns(servers("")));
    };
    dns_to_servers_of_the_pod: |config| config.dns = Some(dns(DnsServers::ResolvConf));
    dns_excluded_by_port: |config| {
        v4(config);
        config.dns = Some(dns(DnsServers::All));
        config.outbound.exclude_ports = ports("53");
    };
    dns_of_a_proxy_by_mark_without_tunnel: |config| {
        v4(config);
        config.proxy = ProxyIdentity { mark: Mark::new(7), self_calls: true, ..none() };
        config.inbound.tunnel = None;
        config.dns = Some(dns(DnsServers::All));
    };

    interfaces_excluded: |config| {
        v4(config);
        config.interfaces.exclude = interfaces("eth1 tap+");
    };
    interfaces_rerouted: |config| {
        v4(config);
        config.interfaces.reroute = interfaces("vm0");
    };
    interfaces_rerouted_to_blocks: |config| {
        config.interfaces.reroute = interfaces("vm+");
        config.outbound.capture = OutboundCapture::Only(cidrs("10.96.0.0/12 fd00:96::/108"));
    };
    wide_loopback: |config| {
        v4(config);
        config.loopback_v4 = "127.0.0.0/8".parse().unwrap();
    };
    drop_invalid: |config| config.drop_invalid = true;

    tproxy: |config| config.inbound.mode = tproxy(1337, 133);
    tproxy_with_another_mark_and_table: |config| {
        v4(config);
        config.inbound.mode = tproxy(0x8000_0001, 77);
    };
    tproxy_ports_listed: |config| {
        v4(config);
        config.inbound.mode = tproxy(1337, 133);
        config.inbound.capture = InboundCapture::Only(ports("80 443"));
    };
    tproxy_of_nothing: |config| {
        v4(config);
        config.inbound.mode = tproxy(1337, 133);
        config.inbound.capture = InboundCapture::Nothing;
    };
    tproxy_with_everything: |config| {
        config.inbound.mode = tproxy(1337, 133);
        config.inbound.exclude_sources = cidrs("10.1.0.0/16 fd00:1::/32");
        config.interfaces.exclude = interfaces("eth1");
        config.interfaces.reroute = interfaces("vm0");
        config.dns = Some(dns(servers("10.96.0.10 fd00:96::a")));
        config.outbound.owners = OwnerGroups::Only([0, 1000].into());
        config.outbound.exclude_cidrs = cidrs("10.0.0.0/8 fd00::/8");
        config.loopback_v4 = "127.0.0.0/8".parse().unwrap();
        config.drop_invalid = true;
    };
}

fn v4(config: &mut CaptureConfig) {
    config.ipv6 = Ipv6Mode::Off;
}

/// Nothing by which the proxy is known.
fn none() -> ProxyIdentity {
    ProxyIdentity::default()
}

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn ports(text: &str) -> Ports {
    let ranges = text.split_whitespace().map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        (first.parse::<u16>().unwrap(), last.parse::<u16>().unwrap())
    });
    ranges.collect()
}

fn cidrs(text: &str) -> Vec<ipnet::IpNet> {
    let blocks = text.split_whitespace();
    blocks.map(|block| block.parse().unwrap()).collect()
}

fn dns(servers: DnsServers) -> Dns {
    Dns {
        port: port(15053),
        servers,
    }
}

fn servers(text: &str) -> DnsServers {
    let addresses = text.split_whitespace();
    let addresses: Vec<IpAddr> = addresses.map(|address| address.parse().unwrap()).collect();
    DnsServers::Only(addresses)
}

fn interfaces(text: &str) -> BTreeSet<InterfaceName> {
    let names = text.split_whitespace();
    names
        .map(|name| InterfaceName::new(name).unwrap())
        .collect()
}

fn tproxy(mark: u32, table: u32) -> InboundMode {
    InboundMode::Tproxy {
        mark: Mark::new(mark).unwrap(),
        table,
    }
}

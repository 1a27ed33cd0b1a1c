//! DNS: which queries go to the DNS proxy, and in which conntrack zone each packet is looked up.
//!
//! The application and the proxy may ask one server from one source port. In one zone, conntrack
//! would take the second for the first's connection: the application's query would go to the
//! resolver uncaptured, or the proxy's own would come back to it. So each has a zone.

use std::net::IpAddr;

use shunt_abi::name::set;
use shunt_abi::{mark, port, rule as key};

use super::identity::Keys;
use super::{Planner, rule, single_v4, single_v6};
use crate::capture::{Dns, DnsServers};
use crate::ranges::Ranges;
use crate::ruleset::{AddressTest, Elements, Family, Match, PortTest, Protocol, Rule, Verdict};

impl Planner<'_> {
    /// nat OUTPUT: queries to the DNS proxy.
    pub(super) fn dns_queries(&mut self, rules: &mut Vec<Rule>) {
        let Some(dns) = self.dns() else { return };
        let capture = Verdict::Redirect(dns.port);
        for (protocol, keys) in [
            (
                Protocol::Tcp,
                [key::DNS_TCP, key::DNS_TCP_V4, key::DNS_TCP_V6],
            ),
            (
                Protocol::Udp,
                [key::DNS_UDP, key::DNS_UDP_V4, key::DNS_UDP_V6],
            ),
        ] {
            let to_dns = Match::DestinationPort(protocol, PortTest::Is(port::DNS));
            for (key, server) in self.dns_servers(keys) {
                let matches = server
                    .map(Match::Destination)
                    .into_iter()
                    .chain([to_dns.clone()]);
                rules.push(rule(key, matches, capture));
            }
        }
    }

    /// The chain on raw OUTPUT, and its key for IPv6 that is off.
    pub(super) fn queries_by_zone(&mut self) -> (&'static str, Vec<Rule>) {
        let mut rules = Vec::new();
        if let Some(dns) = self.dns() {
            let to_dns = Match::DestinationPort(Protocol::Udp, PortTest::Is(port::DNS));
            let from_proxy = Match::SourcePort(Protocol::Udp, PortTest::Is(dns.port.get()));
            for (by, owner) in self.identities() {
                rules.push(rule(
                    QUERY.of(by),
                    [to_dns.clone(), owner.clone()],
                    Verdict::Zone(mark::DNS_ZONE_PROXY),
                ));
                rules.push(rule(
                    ANSWER.of(by),
                    [from_proxy.clone(), owner],
                    Verdict::Zone(mark::DNS_ZONE_APP),
                ));
            }
            let keys = [
                key::DNS_ZONE_APP,
                key::DNS_ZONE_APP_V4,
                key::DNS_ZONE_APP_V6,
            ];
            for (key, server) in self.dns_servers(keys) {
                let matches = server
                    .map(Match::Destination)
                    .into_iter()
                    .chain([to_dns.clone()]);
                rules.push(rule(key, matches, Verdict::Zone(mark::DNS_ZONE_APP)));
            }
        }
        (key::RAW_OUTBOUND_IPV6_OFF, rules)
    }

    /// The chain on raw PREROUTING, and its key for IPv6 that is off.
    pub(super) fn answers_by_zone(&mut self) -> (&'static str, Vec<Rule>) {
        let mut rules = Vec::new();
        if self.dns().is_some() {
            let from_dns = Match::SourcePort(Protocol::Udp, PortTest::Is(port::DNS));
            let keys = [
                key::DNS_ZONE_SERVER,
                key::DNS_ZONE_SERVER_V4,
                key::DNS_ZONE_SERVER_V6,
            ];
            for (key, server) in self.dns_servers(keys) {
                let matches = server
                    .map(Match::Source)
                    .into_iter()
                    .chain([from_dns.clone()]);
                rules.push(rule(key, matches, Verdict::Zone(mark::DNS_ZONE_PROXY)));
            }
        }
        (key::RAW_INBOUND_IPV6_OFF, rules)
    }

    /// DNS capture, if any query can be captured: port 53 is not excluded, and there are servers.
    fn dns(&self) -> Option<&Dns> {
        let dns = self.config.dns.as_ref()?;
        let excluded = self.config.outbound.exclude_ports.contains(port::DNS);
        let nobody = dns.servers != DnsServers::All && self.servers(dns).next().is_none();
        (!excluded && !nobody).then_some(dns)
    }

    /// The listed servers of captured families.
    fn servers<'d>(&'d self, dns: &'d Dns) -> impl Iterator<Item = IpAddr> + 'd {
        let servers = match &dns.servers {
            DnsServers::ResolvConf => self.pod.nameservers.as_slice(),
            DnsServers::Only(servers) => servers.as_slice(),
            DnsServers::All => &[],
        };
        let ipv6 = self.ipv6;
        servers
            .iter()
            .copied()
            .filter(move |server| server.is_ipv4() || ipv6)
    }

    /// A key and a test for each family that has servers; one without a test if all are meant.
    fn dns_servers(
        &mut self,
        [any, key_v4, key_v6]: [&'static str; 3],
    ) -> Vec<(&'static str, Option<AddressTest>)> {
        let Some(dns) = self.dns() else {
            return Vec::new();
        };
        if dns.servers == DnsServers::All {
            return vec![(any, None)];
        }
        let v4: Ranges<u32> = self
            .servers(dns)
            .filter_map(|server| match server {
                IpAddr::V4(server) => Some(single_v4(server)),
                IpAddr::V6(_) => None,
            })
            .collect();
        let v6: Ranges<u128> = self
            .servers(dns)
            .filter_map(|server| match server {
                IpAddr::V4(_) => None,
                IpAddr::V6(server) => Some(single_v6(server)),
            })
            .collect();
        let v4 = self.set(set::DNS_SERVERS_V4, v4.is_empty(), Elements::V4(v4));
        let v6 = self.set(set::DNS_SERVERS_V6, v6.is_empty(), Elements::V6(v6));
        [
            v4.map(|set| (key_v4, Some(AddressTest::In(Family::V4, set)))),
            v6.map(|set| (key_v6, Some(AddressTest::In(Family::V6, set)))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

const QUERY: Keys<&str> = Keys {
    uid: key::DNS_ZONE_QUERY_UID,
    gid: key::DNS_ZONE_QUERY_GID,
    mark: key::DNS_ZONE_QUERY_MARK,
    cgroup: key::DNS_ZONE_QUERY_CGROUP,
};

const ANSWER: Keys<&str> = Keys {
    uid: key::DNS_ZONE_ANSWER_UID,
    gid: key::DNS_ZONE_ANSWER_GID,
    mark: key::DNS_ZONE_ANSWER_MARK,
    cgroup: key::DNS_ZONE_ANSWER_CGROUP,
};

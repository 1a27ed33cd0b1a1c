//! The values that a policy tells apart, around which flows are chosen.

use std::net::IpAddr;

use ipnet::IpNet;
use shunt_redirect::CaptureConfig;
use shunt_redirect::capture::{
    Dns, DnsServers, InboundCapture, Mark, OutboundCapture, OwnerGroups, Port, Ports,
};

use super::{Cgroup, Owner, Proxy};

/// What a policy tells apart.
#[derive(Debug, Clone)]
pub struct Edges {
    /// Ports it names, the first and last of each interval.
    pub ports: Vec<u16>,
    /// Blocks of destinations it names.
    pub blocks: Vec<IpNet>,
    /// Blocks of sources it names.
    pub sources: Vec<IpNet>,
    /// User ids it names.
    pub uids: Vec<u32>,
    /// Group ids it names.
    pub gids: Vec<u32>,
    /// The mark by which it knows the proxy.
    pub mark: Option<u32>,
    /// The cgroup by which it knows the proxy.
    pub cgroup: Option<Cgroup>,
    /// The mark with which the proxy may call the application from a client's address.
    pub tproxy: Option<u32>,
    /// DNS servers it names; some, if it captures queries to any.
    pub resolvers: Vec<IpAddr>,
    /// Whose the proxy's sockets are.
    pub proxy: Owner,
}

impl Edges {
    /// Those of a policy, in a pod whose `/etc/resolv.conf` names these servers.
    pub fn of(config: &CaptureConfig, nameservers: &[IpAddr]) -> Self {
        let CaptureConfig {
            proxy,
            inbound,
            outbound,
            dns,
            loopback_v4,
            ..
        } = config;
        let mut ports = vec![inbound.port.get(), outbound.port.get()];
        ports.extend(inbound.tunnel.map(Port::get));
        let only = match &inbound.capture {
            InboundCapture::Only(ports) => Some(ports),
            InboundCapture::Nothing | InboundCapture::All => None,
        };
        let lists = [
            &inbound.exclude_ports,
            &outbound.include_ports,
            &outbound.exclude_ports,
        ];
        ports.extend(lists.into_iter().chain(only).flat_map(ends));
        ports.sort_unstable();
        ports.dedup();

        let mut blocks = outbound.exclude_cidrs.clone();
        if let OutboundCapture::Only(cidrs) = &outbound.capture {
            blocks.extend(cidrs);
        }
        blocks.push((*loopback_v4).into());
        let groups = match &outbound.owners {
            OwnerGroups::Except(groups) | OwnerGroups::Only(groups) => groups,
        };
        let resolvers = match dns {
            None => Vec::new(),
            Some(Dns {
                servers: DnsServers::Only(servers),
                ..
            }) => servers.clone(),
            Some(_) => nameservers.to_vec(),
        };
        Self {
            ports,
            blocks,
            sources: inbound.exclude_sources.clone(),
            uids: proxy.uids.iter().copied().collect(),
            gids: proxy.gids.union(groups).copied().collect(),
            mark: proxy.mark.map(Mark::get),
            cgroup: proxy.cgroup.as_ref().and_then(Cgroup::of),
            tproxy: inbound.tproxy().map(|(mark, _)| mark.get()),
            resolvers,
            proxy: Proxy::of(config).owner,
        }
    }
}

fn ends(ports: &Ports) -> impl Iterator<Item = u16> {
    ports.iter().flat_map(|(first, last)| [first, last])
}

//! Random flows around the edges of a policy: its ports and those next to them, the first and last
//! addresses of its blocks and those beside them, its users and others.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fastrand::Rng;
use ipnet::IpNet;

use super::edges::Edges;
use super::world::is_the_pods;
use super::{Cgroup, Flow, Owner, Place, Protocol, Source, Trial};
use crate::net::Family;

/// Ports that mean something to every policy.
const PORTS: [u16; 12] = [
    53, 80, 8080, 15001, 15006, 15008, 15020, 15021, 15053, 15090, 443, 9080,
];

/// How many parts of a hundred of the flows are what.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    /// IPv6.
    pub v6: u32,
    /// Pairs of DNS queries from one source port, if the policy captures DNS.
    pub dns_pairs: u32,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            v6: 33,
            dns_pairs: 60,
        }
    }
}

impl Edges {
    /// That many trials, the same for the same state of `rng`.
    pub fn trials(&self, count: usize, shares: Shares, rng: &mut Rng) -> Vec<Trial> {
        let mut fixed = HashSet::new();
        let mut trials = Vec::with_capacity(count);
        while trials.len() < count {
            let trial = self.trial(shares, rng);
            // Two flows at once from one port would meet in conntrack.
            let alone = trial.flows.iter().all(|flow| match flow.source {
                Source::Port(port) => fixed.insert((flow.protocol, flow.to.is_ipv4(), port)),
                Source::Any | Source::Address(_) => true,
            });
            if alone {
                trials.push(trial);
            }
        }
        trials
    }

    fn trial(&self, shares: Shares, rng: &mut Rng) -> Trial {
        let family = match rng.u32(..100) {
            percent if percent < shares.v6 => Family::V6,
            _ => Family::V4,
        };
        let resolvers: Vec<IpAddr> = self
            .resolvers
            .iter()
            .copied()
            .filter(|server| server.is_ipv4() == (family == Family::V4))
            .collect();
        if !resolvers.is_empty() && rng.u32(..100) < shares.dns_pairs {
            return dns_pair(self.proxy, (one_of(rng, &resolvers), 53).into(), rng);
        }
        let flow = match rng.u32(..100) {
            0..60 => self.opened(family, &resolvers, rng),
            60..82 => self.arriving(Place::Peer, family, rng),
            _ => self.arriving(Place::Far, family, rng),
        };
        if flow.protocol == Protocol::Tcp && rng.u32(..100) < 3 {
            // What a port led to before must not lead another flow there.
            let to = SocketAddr::from((flow.to.ip(), self.port(rng)));
            if to != flow.to {
                let second = Flow { to, ..flow };
                return Trial {
                    flows: vec![flow, second],
                };
            }
        }
        flow.into()
    }

    fn opened(&self, family: Family, resolvers: &[IpAddr], rng: &mut Rng) -> Flow {
        let (address, port) = match rng.u32(..100) {
            0..45 => (self.outside(family, rng), self.port(rng)),
            45..70 => (pod_address(family, rng), self.port(rng)),
            70..88 => (loopback(family, rng), self.port(rng)),
            _ => match resolvers {
                [] => (self.outside(family, rng), 53),
                some => (one_of(rng, some), 53),
            },
        };
        let mut owner = self.owner(rng);
        let protocol = protocol(port, rng);
        let mut source = source(address, protocol, rng);
        if let Some(mark) = self.tproxy
            && rng.u32(..100) < 12
        {
            // The proxy hands a connection on as its client.
            owner = Owner {
                mark: Some(mark),
                ..self.proxy
            };
            source = Source::Address(Place::Peer.own_address(family));
            let to = SocketAddr::from((pod_address(family, rng), port));
            return Flow {
                from: Place::Pod,
                owner,
                source,
                protocol: Protocol::Tcp,
                to,
            };
        }
        Flow {
            from: Place::Pod,
            owner,
            source,
            protocol,
            to: (address, port).into(),
        }
    }

    fn arriving(&self, from: Place, family: Family, rng: &mut Rng) -> Flow {
        let address = match (from, rng.u32(..100)) {
            (Place::Peer, 0..85) | (_, 0..50) => from.pod_address(family),
            (Place::Peer, _) => behind_eth1(family, rng),
            (_, _) => self.before_eth1(family, rng),
        };
        let port = self.port(rng);
        if is_the_pods(address) && rng.u32(..100) < 4 {
            return Flow {
                from,
                owner: Owner::APP,
                source: Source::Any,
                protocol: Protocol::Stray,
                to: (address, port).into(),
            };
        }
        let protocol = protocol(port, rng);
        let source = match (protocol, rng.u32(..100)) {
            (_, 0..40) => Source::Any,
            (Protocol::Udp, 85..) => Source::Port(53),
            _ => Source::Address(self.client(from, family, rng)),
        };
        Flow {
            from,
            owner: Owner::APP,
            source,
            protocol,
            to: (address, port).into(),
        }
    }

    fn port(&self, rng: &mut Rng) -> u16 {
        if self.ports.is_empty() || rng.u32(..100) < 35 {
            return one_of(rng, &PORTS);
        }
        let port = one_of(rng, &self.ports);
        let beside = match rng.u32(..100) {
            0..60 => port,
            60..80 => port.wrapping_add(1),
            _ => port.wrapping_sub(1),
        };
        beside.max(1)
    }

    fn owner(&self, rng: &mut Rng) -> Owner {
        let mut id = |named: &[u32]| match rng.u32(..100) {
            0..45 if !named.is_empty() => one_of(rng, named),
            45..60 if !named.is_empty() => one_of(rng, named).wrapping_add(1).min(u32::MAX - 1),
            60..65 => 0,
            _ => Owner::APP.uid,
        };
        let (uid, gid) = (id(&self.uids), id(&self.gids));
        let mark = self.mark.filter(|_| rng.u32(..100) < 40);
        let cgroup = self.cgroup.and_then(|named| match rng.u32(..100) {
            0..30 => Some(named),
            30..70 => Some(one_of(rng, &Cgroup::ALL)),
            _ => None,
        });
        Owner {
            uid,
            gid,
            mark,
            cgroup,
        }
    }

    /// An address that is neither the pod's nor its neighbours', preferably at an edge.
    fn outside(&self, family: Family, rng: &mut Rng) -> IpAddr {
        for _ in 0..8 {
            if let Some(edge) = edge_of(&self.blocks, family, rng)
                && rng.u32(..100) < 70
                && is_outside(edge)
            {
                return edge;
            }
        }
        match rng.u32(..100) {
            0..75 => self.before_eth1(family, rng),
            _ => behind_eth1(family, rng),
        }
    }

    /// An address behind `eth0`.
    fn before_eth1(&self, family: Family, rng: &mut Rng) -> IpAddr {
        let edge = edge_of(&self.blocks, family, rng);
        if let Some(edge) = edge.filter(|edge| place_behind(*edge) == Place::Peer) {
            return edge;
        }
        match family {
            Family::V4 => Ipv4Addr::new(10, 96, rng.u8(..), rng.u8(1..)).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, rng.u16(1..)).into(),
        }
    }

    fn client(&self, from: Place, family: Family, rng: &mut Rng) -> IpAddr {
        let other = match from {
            // What comes by eth1 from elsewhere than behind it is answered by eth0.
            Place::Far => behind_eth1(family, rng),
            _ => self.before_eth1(family, rng),
        };
        match edge_of(&self.sources, family, rng) {
            Some(edge) if from == Place::Peer && place_behind(edge) == Place::Peer => edge,
            _ => other,
        }
    }
}

/// Application and proxy ask one server from one port; either may be the first.
fn dns_pair(proxy: Owner, server: SocketAddr, rng: &mut Rng) -> Trial {
    let ask = |owner| Flow {
        from: Place::Pod,
        owner,
        source: Source::Any,
        protocol: Protocol::Udp,
        to: server,
    };
    let mut flows = vec![ask(Owner::APP), ask(proxy)];
    if rng.bool() {
        flows.reverse();
    }
    Trial { flows }
}

/// What a client in the pod may bind to reach an address. From a loopback address it reaches nobody
/// outside, and a connection cannot start from a port on which a server listens.
fn source(to: IpAddr, protocol: Protocol, rng: &mut Rng) -> Source {
    let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
    match (is_the_pods(to), protocol, rng.u32(..100)) {
        (true, _, 0..18) => Source::Address(family.inbound_source()),
        (true, _, 18..26) => Source::Address(family.loopback()),
        (_, _, 26..36) => Source::Address(Place::Pod.own_address(family)),
        (false, Protocol::Udp, 36..46) => Source::Port(53),
        (false, Protocol::Udp, 46..56) => Source::Port(15053),
        _ => Source::Any,
    }
}

fn protocol(port: u16, rng: &mut Rng) -> Protocol {
    let udp = if port == 53 { 50 } else { 15 };
    match rng.u32(..100) {
        percent if percent < udp => Protocol::Udp,
        _ => Protocol::Tcp,
    }
}

fn pod_address(family: Family, rng: &mut Rng) -> IpAddr {
    match rng.u32(..100) {
        0..75 => Place::Peer.pod_address(family),
        _ => Place::Far.pod_address(family),
    }
}

fn loopback(family: Family, rng: &mut Rng) -> IpAddr {
    match (family, rng.u32(..100)) {
        (Family::V4, 60..75) => Ipv4Addr::new(127, 0, 0, 2).into(),
        (Family::V4, 75..85) => Ipv4Addr::new(127, 0, 0, 6).into(),
        (Family::V4, 85..) => Ipv4Addr::new(127, rng.u8(..), rng.u8(..), rng.u8(1..255)).into(),
        (family, _) => family.loopback(),
    }
}

fn behind_eth1(family: Family, rng: &mut Rng) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(203, 0, 113, rng.u8(1..)).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, rng.u16(1..)).into(),
    }
}

/// The first or last address of a block of that family, or the one before or after.
fn edge_of(blocks: &[IpNet], family: Family, rng: &mut Rng) -> Option<IpAddr> {
    let blocks: Vec<&IpNet> = blocks
        .iter()
        .filter(|block| block.addr().is_ipv4() == (family == Family::V4))
        .collect();
    if blocks.is_empty() {
        return None;
    }
    let block = blocks[rng.usize(..blocks.len())];
    let (at, by) = match rng.u32(..4) {
        0 => (block.network(), -1),
        1 => (block.network(), 0),
        2 => (block.broadcast(), 0),
        _ => (block.broadcast(), 1),
    };
    Some(match at {
        IpAddr::V4(at) => Ipv4Addr::from_bits(at.to_bits().wrapping_add_signed(by)).into(),
        IpAddr::V6(at) => {
            Ipv6Addr::from_bits(at.to_bits().wrapping_add_signed(i128::from(by))).into()
        }
    })
}

/// To whom the pod's routes send packets to an address; to itself also what is not for flows.
fn place_behind(address: IpAddr) -> Place {
    match Place::of(address) {
        place if is_outside(address) => place,
        _ => Place::Pod,
    }
}

/// Whether packets to an address go out by an interface, to somebody who is not a neighbour.
fn is_outside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            !matches!(first, 0 | 127 | 224..) && [first, second] != [100, 64] && !v4.is_link_local()
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            !matches!(first, 0 | 0xfd64 | 0xfe80..)
        }
    }
}

fn one_of<T: Copy>(rng: &mut Rng, items: &[T]) -> T {
    items[rng.usize(..items.len())]
}

//! Nodes and the network between them.
//!
//! Each network has a router namespace with a bridge. The router answers for whatever no pod
//! owns (a service's cluster IP, say) with "unreachable", as a node without kube-proxy would.
//! Further nodes are bridges of their own in namespaces of their own, joined to the first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};

use super::netlink::VethEnd;
use super::{Namespace, PodBuilder};

/// Pods get addresses of these networks, in order of creation, unless told otherwise.
const PODS_V4: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 0);
const PODS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 0);
pub(super) const PREFIX_V4: u8 = 16;
pub(super) const PREFIX_V6: u8 = 64;

const BRIDGE: &str = "cni0";

/// A network of pods, apart from every other network and from the machine's own: two networks may
/// use the same addresses.
#[derive(Debug)]
pub struct Network {
    first: Node,
}

/// A node: a bridge to which pods are joined. The same on clone.
#[derive(Debug, Clone)]
pub struct Node {
    namespace: Namespace,
    bridge: u32,
    next_host: Arc<AtomicU16>,
    #[expect(
        dead_code,
        reason = "the way to other nodes leads through the first one's namespace"
    )]
    fabric: Option<Namespace>,
}

impl Network {
    /// Makes a network with its router and nothing else; `name` is what errors call it.
    ///
    /// # Errors
    /// Not root, or a kernel without bridges.
    pub fn new(name: &str) -> Result<Self> {
        let first = Node::new(name, Arc::new(AtomicU16::new(2)), None)?;
        // Answer "unreachable" at once instead of letting a connection wait for its timeout.
        first.namespace.sysctl("net/ipv4/ip_forward", "1")?;
        first
            .namespace
            .sysctl("net/ipv6/conf/all/forwarding", "1")?;
        let mut rtnl = first.namespace.rtnl()?;
        rtnl.add_address(BRIDGE, gateway_v4(), PREFIX_V4)?;
        rtnl.add_address(BRIDGE, gateway_v6(), PREFIX_V6)?;
        Ok(Self { first })
    }

    /// Begins a pod on the first node.
    pub fn pod(&self, name: &str) -> PodBuilder {
        self.first.pod(name)
    }

    /// Adds a node. Its pods reach those of every other node.
    ///
    /// # Errors
    /// The name is longer than an interface name may be (15 bytes) or taken.
    pub fn node(&self, name: &str) -> Result<Node> {
        const UPLINK: &str = "uplink";
        let node = Node::new(
            name,
            Arc::clone(&self.first.next_host),
            Some(self.first.namespace.clone()),
        )?;
        self.first.plug(name, &node.namespace, UPLINK)?;
        let mut rtnl = node.namespace.rtnl()?;
        rtnl.enslave(UPLINK, node.bridge)?;
        rtnl.up(UPLINK)?;
        Ok(node)
    }

    /// The first node's namespace, where the router is.
    pub fn router(&self) -> &Namespace {
        &self.first.namespace
    }
}

impl Node {
    fn new(name: &str, next_host: Arc<AtomicU16>, fabric: Option<Namespace>) -> Result<Self> {
        let namespace = Namespace::new(name)?;
        let bridge = namespace.rtnl()?.add_bridge(BRIDGE)?;
        Ok(Self {
            namespace,
            bridge,
            next_host,
            fabric,
        })
    }

    /// Begins a pod on this node.
    pub fn pod(&self, name: &str) -> PodBuilder {
        PodBuilder::new(self.clone(), name)
    }

    /// Joins another namespace to the bridge by a veth pair: `name` here, `inside` there.
    pub(super) fn plug(&self, name: &str, other: &Namespace, inside: &str) -> Result<()> {
        let peer = VethEnd {
            name: inside,
            namespace: other.as_fd(),
        };
        self.namespace
            .rtnl()?
            .add_veth(name, self.bridge, &peer)
            .with_context(|| {
                format!("joining `{name}` to the network (a name has at most 15 bytes)")
            })
    }

    /// The next unused pair of addresses.
    pub(super) fn next_addresses(&self) -> (Ipv4Addr, Ipv6Addr) {
        let host = self.next_host.fetch_add(1, Ordering::Relaxed);
        (nth_v4(host), nth_v6(host))
    }
}

pub(super) fn gateway_v4() -> IpAddr {
    nth_v4(1).into()
}

pub(super) fn gateway_v6() -> IpAddr {
    nth_v6(1).into()
}

fn nth_v4(host: u16) -> Ipv4Addr {
    (u32::from(PODS_V4) | u32::from(host)).into()
}

fn nth_v6(host: u16) -> Ipv6Addr {
    (u128::from(PODS_V6) | u128::from(host)).into()
}

//! A pod: a namespace with `lo` and `eth0`, in which closures, servers and programs run.

use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::{Context, Result};

use super::network::{PREFIX_V4, PREFIX_V6, gateway_v4, gateway_v6};
use super::{Family, Namespace, Node, User};
use crate::expect::eventually::eventually;
use crate::process::Command;

const NIC: &str = "eth0";

/// A pod, reachable from every other pod of its network.
#[derive(Debug)]
pub struct Pod {
    name: String,
    namespace: Namespace,
    /// Kept for as long as the pod: the other end of its veth pair is there. None in a process
    /// that was started inside the pod.
    #[expect(dead_code, reason = "its namespace must not end before the pod does")]
    node: Option<Node>,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

/// A pod to be made. By default it has the next free address of either family.
#[derive(Debug)]
#[must_use = "nothing is made before build()"]
pub struct PodBuilder {
    node: Node,
    name: String,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    disable_ipv6: bool,
    namespace: Option<Namespace>,
}

impl PodBuilder {
    pub(super) fn new(node: Node, name: &str) -> Self {
        let (v4, v6) = node.next_addresses();
        Self {
            node,
            name: name.to_owned(),
            v4: Some(v4),
            v6: Some(v6),
            disable_ipv6: false,
            namespace: None,
        }
    }

    /// Makes a pod of a namespace that is there already, with nothing in it.
    pub fn inside(mut self, namespace: Namespace) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// Sets the IPv4 address.
    pub fn v4(mut self, address: Ipv4Addr) -> Self {
        self.v4 = Some(address);
        self
    }

    /// Sets the IPv6 address.
    pub fn v6(mut self, address: Ipv6Addr) -> Self {
        self.v6 = Some(address);
        self
    }

    /// Gives the pod addresses of one family alone (and link-local ones of IPv6).
    pub fn only(mut self, family: Family) -> Self {
        match family {
            Family::V4 => self.v6 = None,
            Family::V6 => self.v4 = None,
        }
        self
    }

    /// Switches IPv6 off inside the pod (`net.ipv6.conf.*.disable_ipv6=1`), as on nodes booted
    /// without it: not even `::1` is there.
    pub fn disable_ipv6(mut self) -> Self {
        self.disable_ipv6 = true;
        self.only(Family::V4)
    }

    /// Makes the pod.
    ///
    /// # Errors
    /// Not root; or the pod's name is taken or longer than 15 bytes, since the node's end of the
    /// veth pair has it too.
    pub fn build(self) -> Result<Pod> {
        let Self {
            node,
            name,
            v4,
            v6,
            disable_ipv6,
            namespace,
        } = self;
        let make = || -> Result<Namespace> {
            let namespace = match namespace {
                Some(namespace) => namespace,
                None => Namespace::new(&name)?,
            };
            if disable_ipv6 {
                namespace.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
                namespace.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
            }
            node.plug(&name, &namespace, NIC)?;
            let mut rtnl = namespace.rtnl()?;
            rtnl.up(NIC)?;
            let wanted = [
                v4.map(|v4| (IpAddr::V4(v4), PREFIX_V4, gateway_v4())),
                v6.map(|v6| (IpAddr::V6(v6), PREFIX_V6, gateway_v6())),
            ];
            for (address, prefix, gateway) in wanted.into_iter().flatten() {
                rtnl.add_address(NIC, address, prefix)?;
                rtnl.add_default_route(gateway)?;
                namespace.run(|| wait_until_usable(address, gateway))?;
            }
            Ok(namespace)
        };
        let namespace = make().with_context(|| format!("making pod `{name}`"))?;
        Ok(Pod {
            name,
            namespace,
            node: Some(node),
            v4,
            v6,
        })
    }
}

/// Waits until the kernel sends from a new address: the carrier and the routes of IPv6 addresses
/// come a moment later, by a work queue of the kernel's.
fn wait_until_usable(address: IpAddr, gateway: IpAddr) -> Result<()> {
    const DISCARD: u16 = 9;
    let usable = || -> io::Result<()> {
        let socket = UdpSocket::bind((address, 0))?;
        socket.connect((gateway, DISCARD))?;
        socket.connect((address, DISCARD))
    };
    eventually(&format!("{address} can be used"), || usable().is_ok())
}

impl Pod {
    /// The pod inside which this process was started, for programs that use the harness's servers
    /// themselves. Its addresses are not known to them.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn here(name: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            namespace: Namespace::current(name)?,
            node: None,
            v4: Some(Ipv4Addr::UNSPECIFIED),
            v6: Some(Ipv6Addr::UNSPECIFIED),
        })
    }

    /// A pod that somebody else made, by its namespace and its address.
    pub fn at(name: &str, namespace: Namespace, v4: Ipv4Addr) -> Self {
        Self {
            name: name.to_owned(),
            namespace,
            node: None,
            v4: Some(v4),
            v6: None,
        }
    }

    /// The pod's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pod's network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The families in which the pod has an address.
    pub fn families(&self) -> impl Iterator<Item = Family> {
        Family::BOTH.into_iter().filter(|family| match family {
            Family::V4 => self.v4.is_some(),
            Family::V6 => self.v6.is_some(),
        })
    }

    /// The pod's IPv4 address with a port; `0.0.0.0` if it has none.
    pub fn v4(&self, port: u16) -> SocketAddr {
        (self.v4.unwrap_or(Ipv4Addr::UNSPECIFIED), port).into()
    }

    /// The pod's IPv6 address with a port; `::` if it has none.
    pub fn v6(&self, port: u16) -> SocketAddr {
        (self.v6.unwrap_or(Ipv6Addr::UNSPECIFIED), port).into()
    }

    /// The pod's address of a family with a port.
    pub fn on(&self, family: Family, port: u16) -> SocketAddr {
        match family {
            Family::V4 => self.v4(port),
            Family::V6 => self.v6(port),
        }
    }

    /// Whether an address is one of the pod's own on `eth0`.
    pub fn owns(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.v4 == Some(v4),
            IpAddr::V6(v6) => self.v6 == Some(v6),
        }
    }

    /// Runs a closure inside the pod as root, on a thread of its own; see [`Namespace::run`].
    ///
    /// # Errors
    /// What the closure returns.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.namespace
            .run(work)
            .with_context(|| format!("in pod `{}`", self.name))
    }

    /// Whatever is done through the returned handle is done by this user.
    pub fn as_user(&self, user: User) -> AsUser<'_> {
        AsUser { pod: self, user }
    }

    /// A program to be started inside the pod.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::new(program.as_ref(), self.namespace.clone())
    }
}

/// A user inside a pod. The clients in [`crate::client`] are its methods.
#[derive(Debug, Clone, Copy)]
pub struct AsUser<'a> {
    pod: &'a Pod,
    user: User,
}

impl AsUser<'_> {
    /// Runs a closure inside the pod; the sockets and files it makes belong to the user.
    ///
    /// # Errors
    /// What the closure returns.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.pod.run(|| self.user.act(work))
    }
}

//! The three namespaces of a lab, their links and addresses.
//!
//! ```text
//!  peer ── eth0 ── pod ── eth1 ── far
//! ```
//!
//! The pod routes 203.0.113.0/24 and 2001:db8:1::/48 to `far` and all else to `peer`; it forwards
//! between them, as a pod with a virtual machine in it does. `peer` and `far` send everything that
//! comes to them, whatever its destination, to one socket (TPROXY), so each address that nobody
//! else owns has an owner; and they may send from any address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use anyhow::{Context, Result};

use super::Bench;
use crate::expect::eventually::eventually;
use crate::net::{Family, Namespace};

/// One of the namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The pod whose rules are looked at.
    Pod,
    /// Behind `eth0`: the rest of the world.
    Peer,
    /// Behind `eth1`: a second network, or a virtual machine.
    Far,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pod, Self::Peer, Self::Far];

    /// The pod's own address on the link to this place; on `eth0` for the pod itself.
    pub fn pod_address(self, family: Family) -> IpAddr {
        self.address(family, 2)
    }

    /// This place's own address on its link to the pod; the pod's on `eth0` for the pod itself.
    pub fn own_address(self, family: Family) -> IpAddr {
        match self {
            Self::Pod => self.pod_address(family),
            Self::Peer | Self::Far => self.address(family, 1),
        }
    }

    /// Where the pod's routes send packets to an address.
    pub fn of(address: IpAddr) -> Self {
        let far = match address {
            IpAddr::V4(address) => matches!(address.octets(), [203, 0, 113, _] | [100, 64, 1, _]),
            IpAddr::V6(address) => {
                matches!(address.segments(), [0x2001, 0xdb8, 1, ..] | [0xfd64, 1, ..])
            }
        };
        match (is_the_pods(address), far) {
            (true, _) => Self::Pod,
            (false, true) => Self::Far,
            (false, false) => Self::Peer,
        }
    }

    /// The pod's interface towards it.
    pub fn nic(self) -> &'static str {
        match self {
            Self::Pod => "lo",
            Self::Peer => "eth0",
            Self::Far => "eth1",
        }
    }

    fn address(self, family: Family, host: u8) -> IpAddr {
        let net = match self {
            Self::Pod | Self::Peer => 0,
            Self::Far => 1,
        };
        match family {
            Family::V4 => Ipv4Addr::new(100, 64, net, host).into(),
            Family::V6 => Ipv6Addr::new(0xfd64, net.into(), 0, 0, 0, 0, 0, host.into()).into(),
        }
    }
}

/// Whether the pod owns an address, so that what is sent to it ends there.
pub fn is_the_pods(address: IpAddr) -> bool {
    let source: IpAddr = shunt_abi::addr::INBOUND_SOURCE_V6.into();
    address.is_loopback()
        || address == source
        || [Place::Peer, Place::Far].iter().any(|place| {
            Family::BOTH
                .iter()
                .any(|family| place.pod_address(*family) == address)
        })
}

/// Where the catch-all sockets of `peer` and `far` listen.
pub(super) const CATCH_ALL: u16 = 9;

/// What `peer` and `far` do with whatever comes.
const CATCH_ALL_RULES: &str = "
table inet lab {
    chain everything {
        type filter hook prerouting priority -150; policy accept;
        iif lo return
        meta l4proto { tcp, udp } tproxy to :9 meta mark set 1
    }
}
";

const CATCH_ALL_ROUTES: &str = "
rule add fwmark 1 lookup 100
route add local 0.0.0.0/0 dev lo table 100
-6 rule add fwmark 1 lookup 100
-6 route add local ::/0 dev lo table 100
";

/// The namespaces.
#[derive(Debug)]
pub(super) struct World {
    pod: Namespace,
    peer: Namespace,
    far: Namespace,
}

impl World {
    pub(super) fn new(bench: &Bench) -> Result<Self> {
        let world = Self {
            pod: Namespace::new("pod")?,
            peer: Namespace::new("peer")?,
            far: Namespace::new("far")?,
        };
        for place in Place::ALL {
            let namespace = world.namespace(place);
            namespace.sysctl("net/ipv4/conf/all/rp_filter", "0")?;
            namespace.sysctl("net/ipv4/conf/default/rp_filter", "0")?;
        }
        world.enter(Place::Pod)?;
        let mut links = String::new();
        for (place, nic) in [(Place::Peer, "eth0"), (Place::Far, "eth1")] {
            let far_end = world.namespace(place).as_fd().as_raw_fd();
            links += &format!(
                "link add {nic} type veth peer name {nic} netns /proc/{}/fd/{far_end}\n",
                nix::unistd::gettid()
            );
            links += &addresses(nic, [Family::V4, Family::V6].map(|f| place.pod_address(f)));
        }
        let [v4, v6] = Family::BOTH.map(|family| Place::Peer.own_address(family));
        let [far_v4, far_v6] = Family::BOTH.map(|family| Place::Far.own_address(family));
        links += &format!(
            "route add default via {v4}\n-6 route add default via {v6}\n\
             route add 203.0.113.0/24 via {far_v4}\n-6 route add 2001:db8:1::/48 via {far_v6}\n"
        );
        ip(bench, &links)?;
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            world.pod.sysctl(key, "1")?;
        }
        for (place, nic) in [(Place::Peer, "eth0"), (Place::Far, "eth1")] {
            world.enter(place)?;
            let own = Family::BOTH.map(|family| place.own_address(family));
            let [v4, v6] = Family::BOTH.map(|family| place.pod_address(family));
            let routes = format!("route add default via {v4}\n-6 route add default via {v6}\n");
            ip(bench, &(addresses(nic, own) + &routes + CATCH_ALL_ROUTES))?;
            bench.program(Command::new("nft").args(["-f", "-"]), CATCH_ALL_RULES)?;
        }
        for (place, key) in [
            (Place::Peer, "net/ipv4/conf/eth0/rp_filter"),
            (Place::Far, "net/ipv4/conf/eth1/rp_filter"),
            (Place::Pod, "net/ipv4/conf/eth0/rp_filter"),
            (Place::Pod, "net/ipv4/conf/eth1/rp_filter"),
        ] {
            world.namespace(place).sysctl(key, "0")?;
        }
        world.settled()?;
        Ok(world)
    }

    pub(super) fn namespace(&self, place: Place) -> &Namespace {
        match place {
            Place::Pod => &self.pod,
            Place::Peer => &self.peer,
            Place::Far => &self.far,
        }
    }

    /// Moves the calling thread into a namespace.
    pub(super) fn enter(&self, place: Place) -> Result<()> {
        self.namespace(place).enter()
    }

    /// Waits until packets go through: carrier and IPv6 routes come a moment after the links.
    fn settled(&self) -> Result<()> {
        for place in [Place::Peer, Place::Far] {
            for family in Family::BOTH {
                let (own, pod) = (place.own_address(family), place.pod_address(family));
                self.namespace(place).run(|| {
                    eventually(&format!("{pod} is reached from {own}"), || {
                        // Nobody listens there, which the pod says.
                        std::net::TcpStream::connect((pod, 1))
                            .is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
                    })
                })?;
            }
        }
        Ok(())
    }
}

/// Commands that give an interface its addresses, and set it up.
fn addresses(nic: &str, [v4, v6]: [IpAddr; 2]) -> String {
    format!(
        "link set {nic} addrgenmode none\nlink set {nic} up\n\
         addr add {v4}/24 dev {nic}\n-6 addr add {v6}/64 dev {nic} nodad\n"
    )
}

/// Runs commands of `ip` in the calling thread's namespace; a `-6` before one goes with it.
pub(super) fn ip(bench: &Bench, commands: &str) -> Result<()> {
    for (family, marker) in [("-4", false), ("-6", true)] {
        let mine: String = commands
            .lines()
            .filter(|line| line.starts_with("-6 ") == marker && !line.is_empty())
            .map(|line| format!("{}\n", line.trim_start_matches("-6 ")))
            .collect();
        bench
            .program(Command::new("ip").args([family, "-batch", "-"]), &mine)
            .context("setting up links and routes")?;
    }
    Ok(())
}

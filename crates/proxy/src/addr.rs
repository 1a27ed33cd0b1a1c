//! Address newtypes: past `accept()` a swapped socket address does not compile.

use nix::sys::socket::SockaddrStorage;
use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU32;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub SocketAddr);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

address! {
    /// The peer that connected to us.
    Downstream
}
address! {
    /// Where the downstream wanted to go before its connection was redirected.
    OrigDst
}
address! {
    /// Where we connect to.
    Upstream
}

/// Where a downstream connection was made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// What filter chains match: the original destination, or where the connection arrived.
    pub address: SocketAddr,
    /// Our end of the socket.
    pub arrived_at: SocketAddr,
    /// The original destination, where the connection was redirected.
    pub original: Option<OrigDst>,
    /// Whose address connections upstream leave from, where that is not ours.
    pub client: Option<Client>,
}

/// A client whose address connections upstream leave from (`original_src`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client {
    /// The address.
    pub ip: IpAddr,
    /// By what the redirect rules know such a connection from the client's own.
    pub mark: Option<NonZeroU32>,
}

/// An address without the v4-mapped form, so that one address has one spelling.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::V4(SocketAddrV4::new(v4, v6.port())),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

/// The first address of an interface that is not the loopback; of IPv4 where there is one.
pub fn of_this_pod() -> Option<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().ok()?;
    let address = |storage: SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    let all = interfaces.filter_map(|interface| address(interface.address?));
    let all: Vec<IpAddr> = all.filter(|address| !address.is_loopback()).collect();
    let v4 = all.iter().find(|address| address.is_ipv4());
    v4.or_else(|| all.first()).copied()
}

/// Whether two addresses are of one family.
pub fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

//! Address newtypes: past `accept()` a swapped socket address does not compile.

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

/// Whether two addresses are of one family.
pub fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

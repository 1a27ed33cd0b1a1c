//! What probes need: a link that leads nowhere, addresses from documentation blocks, sockets.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use shunt_abi::name;

use super::VerifyError;
use super::decide::PROTOCOLS;
use super::sockets::{Arrivals, FarEnd};
use crate::error::KernelError;
use crate::routing::Route;

/// Why no probe can be made here.
#[derive(Debug, thiserror::Error)]
pub(super) enum StageError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Rules(#[from] VerifyError),
    #[error("cannot {operation}: {source}")]
    System {
        operation: &'static str,
        source: io::Error,
    },
    #[error("another run verifies this network namespace all the time")]
    Busy,
    #[error("a policy rule of this network namespace would lead probes out of the pod")]
    Elsewhere,
    #[error("the time for probes was over")]
    Slow,
}

impl StageError {
    pub(super) fn watching(source: io::Error) -> Self {
        Self::System {
            operation: "send or watch a probe",
            source,
        }
    }
}

/// The addresses of one family that probes use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The link's own: where probes start from and arrive at.
    pub(super) own: IpAddr,
    /// Somewhere else: where application probes go.
    pub(super) elsewhere: IpAddr,
    /// Somebody else: where arriving probes come from.
    pub(super) client: IpAddr,
}

/// The link, and all that is seen on it. Gone when dropped.
pub(super) struct Stage {
    route: Route,
    /// One for each family that there is.
    pub(super) places: Vec<Place>,
    pub(super) arrivals: Vec<Arrivals>,
    pub(super) far_end: FarEnd,
    _lock: Lock,
}

impl Stage {
    pub(super) fn new(timeout: Duration) -> Result<Self, StageError> {
        let lock = Lock::wait(timeout)?;
        let mut route = Route::open()?;
        let made = Self::make(&mut route, timeout);
        match made {
            Ok((places, arrivals, far_end)) => Ok(Self {
                route,
                places,
                arrivals,
                far_end,
                _lock: lock,
            }),
            Err(error) => {
                // The first error is the one to tell.
                let _left = route.remove_probe_link();
                Err(error)
            }
        }
    }

    fn make(
        route: &mut Route,
        timeout: Duration,
    ) -> Result<(Vec<Place>, Vec<Arrivals>, FarEnd), StageError> {
        if route.probe_link()?.is_some() {
            route.remove_probe_link()?;
        }
        let link = route.add_probe_link()?;
        let mut places = Vec::new();
        for place in [Place::v4(), Place::v6()] {
            match route.add_probe_address(link, place.own) {
                Ok(()) => {}
                // There is no IPv6 here.
                Err(KernelError::Refused { .. }) if place.own.is_ipv6() => continue,
                Err(error) => return Err(error.into()),
            }
            wait_until_usable(place.own, timeout)?;
            if route.probe_leaves_by(place.own, place.elsewhere, 0)? != Some(link) {
                return Err(StageError::Elsewhere);
            }
            places.push(place);
        }
        let mut arrivals = Vec::new();
        for place in &places {
            for protocol in PROTOCOLS {
                arrivals.push(
                    Arrivals::new(place.own, protocol)
                        .map_err(system("open a raw socket (CAP_NET_RAW)"))?,
                );
            }
        }
        let far_end = FarEnd::open().map_err(system("open a packet socket (CAP_NET_RAW)"))?;
        Ok((places, arrivals, far_end))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Where this fails, the next run, or `remove`, takes it away.
        let _left = self.route.remove_probe_link();
    }
}

/// Removes what a run that was killed while it verified has left; what a run that lives uses stays.
pub(crate) fn remove_leftovers(route: &mut Route) -> Result<(), KernelError> {
    if route.probe_link()?.is_some()
        && let Ok(_lock) = Lock::wait(Duration::ZERO)
    {
        route.remove_probe_link()?;
    }
    Ok(())
}

fn system(operation: &'static str) -> impl FnOnce(io::Error) -> StageError {
    move |source| StageError::System { operation, source }
}

/// The kernel makes an IPv6 address usable a moment after it was told to.
fn wait_until_usable(own: IpAddr, timeout: Duration) -> Result<(), StageError> {
    let usable = || -> io::Result<()> {
        const DISCARD: u16 = 9;
        let socket = std::net::UdpSocket::bind((own, 0))?;
        // Nothing is sent.
        socket.connect((own, DISCARD))
    };
    poll(timeout, usable).map_err(system("use the address of a probe"))
}

/// Tries until it works, or the time is over.
fn poll<T>(timeout: Duration, attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let end = Instant::now() + timeout;
    loop {
        match attempt() {
            Err(_) if Instant::now() < end => thread::sleep(Duration::from_micros(200)),
            outcome => return outcome,
        }
    }
}

/// Held while one verifies; the kernel lets it go with the process.
struct Lock(#[expect(dead_code, reason = "it is held, not used")] UnixDatagram);

impl Lock {
    fn wait(timeout: Duration) -> Result<Self, StageError> {
        let take = || {
            let address = SocketAddr::from_abstract_name(name::PROBE_LOCK)?;
            UnixDatagram::bind_addr(&address)
        };
        match poll(timeout, take) {
            Ok(socket) => Ok(Self(socket)),
            Err(error) if error.raw_os_error() == Some(Errno::EADDRINUSE as i32) => {
                Err(StageError::Busy)
            }
            Err(source) => Err(StageError::System {
                operation: "take the lock of those who verify",
                source,
            }),
        }
    }
}

impl Place {
    /// TEST-NET-1 to -3 (RFC 5737).
    fn v4() -> Self {
        let [a, b, c, ..] = random().to_be_bytes();
        let host = |net: [u8; 3], host: u8| {
            IpAddr::V4(Ipv4Addr::new(net[0], net[1], net[2], host.clamp(1, 254)))
        };
        Self {
            own: host([192, 0, 2], a),
            elsewhere: host([198, 51, 100], b),
            client: host([203, 0, 113], c),
        }
    }

    /// Of 2001:db8::/32 (RFC 3849).
    fn v6() -> Self {
        let host = |net: u16| {
            let [a, b, c, d, e, f, g, h] = random().to_be_bytes();
            let word = |high, low| u16::from_be_bytes([high, low]);
            let low = [word(a, b), word(c, d), word(e, f), word(g, h)];
            IpAddr::V6(Ipv6Addr::new(
                0x2001, 0xdb8, 0x5368, net, low[0], low[1], low[2], low[3],
            ))
        };
        Self {
            own: host(1),
            elsewhere: host(2),
            client: host(3),
        }
    }
}

/// So that no connection which conntrack still remembers is met again.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

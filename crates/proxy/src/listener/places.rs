//! The addresses that the process is bound to, and what a new set of listeners makes of them.

use crate::addr::same_family;
use crate::listener::slot::{Slot, Socket};
use crate::listener::socket::{self, BindError};
use crate::model::{Invalid, ListenerSocket, Name};
use crate::snapshot::Listener;
use std::net::SocketAddr;
use std::sync::Arc;

/// Why a set of listeners has no sockets.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// They would take each other's connections.
    #[error(transparent)]
    Overlap(Invalid),
    /// The kernel refuses.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// A bound address.
#[derive(Debug, Clone)]
pub struct Place {
    key: Key,
    slot: Arc<Slot>,
    /// Where it really is: port 0 is chosen by the kernel.
    local: SocketAddr,
}

/// What makes two places the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    address: SocketAddr,
    /// `[::]` is bound too.
    v6_too: bool,
    /// Whose it is, where the kernel chooses the port.
    owner: Option<Name>,
    /// How its sockets are made.
    options: ListenerSocket,
}

/// Places of a set of listeners, bound and not used yet.
#[derive(Debug)]
pub struct Prepared {
    all: Vec<(Place, Arc<Listener>)>,
    /// New sockets, by worker.
    sockets: Vec<Vec<Socket>>,
}

/// How many sockets were opened and closed, all workers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Opened.
    pub opened: usize,
    /// Closed.
    pub closed: usize,
}

/// The places that the process is bound to.
#[derive(Debug, Default)]
pub struct Places {
    all: Vec<Place>,
}

impl Places {
    /// Where the listener of this name really is, at the first of its addresses.
    pub fn local_addr(&self, listener: &str) -> Option<SocketAddr> {
        let mut places = self.all.iter();
        let place = places.find(|place| &*place.slot.listener().name == listener)?;
        Some(place.local)
    }

    /// Bind what these listeners need and is not bound yet.
    ///
    /// # Errors
    /// Where they would take each other's connections, or the kernel refuses.
    pub fn prepare(
        &self,
        listeners: &[Arc<Listener>],
        workers: usize,
    ) -> Result<Prepared, PlaceError> {
        let wanted: Vec<(&Arc<Listener>, SocketAddr)> = listeners
            .iter()
            .filter(|listener| listener.bind_to_port)
            .flat_map(|listener| listener.addresses.iter().map(move |at| (listener, *at)))
            .collect();
        refuse_overlaps(&wanted).map_err(PlaceError::Overlap)?;
        let mut prepared = Prepared {
            all: Vec::with_capacity(wanted.len()),
            sockets: (0..workers).map(|_| Vec::new()).collect(),
        };
        for &(listener, address) in &wanted {
            let key = Key {
                address,
                v6_too: serves_both_families(listener, address, &wanted),
                owner: (address.port() == 0).then(|| Arc::clone(&listener.name)),
                options: listener.socket,
            };
            let place = match self.all.iter().find(|place| place.key == key) {
                Some(place) => place.clone(),
                None => prepared.bind(key, listener, workers)?,
            };
            prepared.all.push((place, Arc::clone(listener)));
        }
        Ok(prepared)
    }

    /// Use what was prepared: sockets that stay go to their listener of now, new ones to `give`
    /// with the index of their worker, and those that nobody wants are closed.
    pub fn commit(&mut self, prepared: Prepared, give: impl Fn(usize, Socket)) -> Moved {
        let mut moved = Moved {
            opened: 0,
            closed: 0,
        };
        let workers = prepared.sockets.len();
        let mut all = Vec::with_capacity(prepared.all.len());
        for (place, listener) in prepared.all {
            place.slot.set_listener(listener);
            all.push(place);
        }
        for (worker, sockets) in prepared.sockets.into_iter().enumerate() {
            moved.opened += sockets.len();
            sockets.into_iter().for_each(|socket| give(worker, socket));
        }
        for gone in &self.all {
            if !all.iter().any(|place| place.key == gone.key) {
                gone.slot.close();
                moved.closed += workers * (1 + usize::from(gone.key.v6_too));
            }
        }
        self.all = all;
        moved
    }
}

impl Prepared {
    fn bind(
        &mut self,
        key: Key,
        listener: &Arc<Listener>,
        workers: usize,
    ) -> Result<Place, BindError> {
        let slot = Slot::new(Arc::clone(listener));
        let mut local = key.address;
        let bound = socket::bind(listener, key.address, workers, key.v6_too)?;
        for (of_worker, sockets) in self.sockets.iter_mut().zip(bound) {
            if let Some(address) = sockets.first().and_then(|s| s.local_addr().ok()) {
                local = address;
            }
            of_worker.extend(sockets.into_iter().map(|socket| Socket {
                slot: Arc::clone(&slot),
                socket,
            }));
        }
        Ok(Place { key, slot, local })
    }
}

/// Whether a listener gets sockets on `[::]` too: it takes redirected connections on 0.0.0.0, a
/// captured family must be served, and no other listener of the configuration does that.
fn serves_both_families(
    listener: &Listener,
    address: SocketAddr,
    all: &[(&Arc<Listener>, SocketAddr)],
) -> bool {
    let has_v6 = |(_, other): &(_, SocketAddr)| other.is_ipv6() && other.port() == address.port();
    listener.is_capture()
        && address.is_ipv4()
        && address.ip().is_unspecified()
        && !all.iter().any(has_v6)
}

/// Two listeners on one port would share or steal each other's connections: the kernel spreads
/// them over sockets of one address, and prefers an exact address to a wildcard.
fn refuse_overlaps(wanted: &[(&Arc<Listener>, SocketAddr)]) -> Result<(), Invalid> {
    for (index, (one, a)) in wanted.iter().enumerate() {
        for (other, b) in &wanted[..index] {
            let ports = a.port() == b.port() && a.port() != 0;
            let ips = same_family(a.ip(), b.ip())
                && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified());
            if ports && ips {
                return Err(Invalid::new(format!(
                    "listeners `{}` ({b}) and `{}` ({a}) would take each other's connections; \
                     give one another port, or set bind_to_port: false where it is reached by its \
                     original destination",
                    other.name, one.name
                )));
            }
        }
    }
    Ok(())
}

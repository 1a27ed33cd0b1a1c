//! The lab itself: sends a batch of flows, answers them, and takes down what each end saw.
//!
//! One thread does all of it. Sockets stay in the namespace in which they were made, so one poller
//! serves the clients and servers of all three.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::Socket;

use super::conntrack::{Conntrack, Entry};
use super::listeners::{self, Listeners};
use super::world::{World, is_the_pods};
use super::{
    Arrival, Bench, Flow, Observation, Outcome, Place, Protocol, Proxy, Source, Track, Trial,
    clear, socket, stray,
};

/// A pod, what is around it, and all sockets.
pub struct Lab<'b> {
    bench: &'b Bench,
    world: World,
    epoll: Epoll,
    conntrack: Conntrack,
    listeners: Listeners,
    next_port: u16,
    patience: Duration,
}

/// Source ports of clients.
const PORTS: std::ops::Range<u16> = 20_000..60_000;

/// How long nothing may happen before the flows that are left are given up. Everything is on this
/// machine: a packet that is not dropped arrives while the call that sent it is running.
pub const PATIENCE: Duration = Duration::from_millis(60);

/// One look for events.
const GLANCE: Duration = Duration::from_millis(20);

/// A flow on its way.
struct Client {
    trial: usize,
    flow: Flow,
    port: u16,
    /// With its address.
    socket: Option<(Socket, IpAddr)>,
    outcome: Option<Outcome>,
}

/// An arrival, with the address it came from.
type Seen = (Arrival, SocketAddr, Protocol);

/// What the servers keep of a batch.
#[derive(Default)]
struct Served {
    seen: Vec<Seen>,
    streams: Vec<Socket>,
    stand_ins: HashMap<(Place, SocketAddr), Socket>,
}

impl<'b> Lab<'b> {
    /// Makes a lab. It belongs to the calling thread, which it moves between namespaces.
    ///
    /// # Errors
    /// Not root, or no `ip` or `nft`, or a kernel without TPROXY or ctnetlink.
    pub fn new(bench: &'b Bench) -> Result<Self> {
        let world = World::new(bench).context("making a lab")?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let listeners = Listeners::new(&world, &epoll)?;
        world.enter(Place::Pod)?;
        Ok(Self {
            bench,
            conntrack: Conntrack::open()?,
            world,
            epoll,
            listeners,
            next_port: PORTS.start,
            patience: PATIENCE,
        })
    }

    /// Sets how long nothing may happen before the flows that are left are given up.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Runs `work` inside the pod, on this thread; so do the programs that it starts.
    ///
    /// # Errors
    /// What `work` returns.
    pub fn in_pod<T>(&self, work: impl FnOnce(&Bench) -> Result<T>) -> Result<T> {
        self.world.enter(Place::Pod)?;
        work(self.bench)
    }

    /// Takes away what any program wrote into the pod: rules of every kind, policy rules, routes,
    /// `::6`.
    ///
    /// # Errors
    /// A tool fails.
    pub fn clear(&self) -> Result<()> {
        self.in_pod(clear::everything)
            .context("clearing the lab's pod")
    }

    /// Sends all trials at once, and tells for each of their flows what became of it.
    ///
    /// # Errors
    /// The lab itself fails; whatever happens to a flow is no error.
    pub fn run(&mut self, proxy: &Proxy, trials: &[Trial]) -> Result<Vec<Vec<Observation>>> {
        self.listeners
            .prepare(self.bench, &self.world, &self.epoll, proxy, trials)?;
        self.conntrack.flush()?;
        let ports: Vec<u16> = trials.iter().map(|_| self.port()).collect();
        let mut observations = vec![Vec::new(); trials.len()];
        let steps = trials.iter().map(|trial| trial.flows.len()).max();
        for step in 0..steps.unwrap_or(0) {
            let flows = trials.iter().zip(&ports).enumerate();
            let mut clients: Vec<Client> = flows
                .filter_map(|(trial, (trials, port))| {
                    let flow = *trials.flows.get(step)?;
                    Some(Client {
                        trial,
                        flow,
                        port: match flow.source {
                            Source::Port(port) => port,
                            Source::Any | Source::Address(_) => *port,
                        },
                        socket: None,
                        outcome: None,
                    })
                })
                .collect();
            let mut served = self.send(&mut clients)?;
            let entries = self.conntrack.list()?;
            served.streams.clear();
            for client in clients {
                let Client {
                    trial,
                    flow,
                    port,
                    socket,
                    outcome,
                } = client;
                let outcome = outcome.unwrap_or_else(|| {
                    let arrived = |(_, from, protocol): &&Seen| {
                        from.port() == port
                            && from.is_ipv4() == flow.to.is_ipv4()
                            && *protocol == flow.protocol
                    };
                    Outcome::Silent(
                        served
                            .seen
                            .iter()
                            .find(arrived)
                            .map(|(arrival, ..)| *arrival),
                    )
                });
                observations[trial].push(Observation {
                    outcome,
                    tracks: socket.map_or_else(Vec::new, |(_, address)| {
                        tracks(&entries, &flow, (address, port).into())
                    }),
                });
            }
        }
        Ok(observations)
    }

    /// The next source port that nobody listens on.
    fn port(&mut self) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = if port + 1 < PORTS.end {
                port + 1
            } else {
                PORTS.start
            };
            if !self.listeners.takes(port) {
                return port;
            }
        }
    }

    /// Sends flows and serves them until all have ended or nothing happens any more.
    fn send(&self, clients: &mut [Client]) -> Result<Served> {
        for place in Place::ALL {
            self.world.enter(place)?;
            let here = clients.iter_mut().enumerate();
            for (at, client) in here.filter(|(_, client)| client.flow.from == place) {
                match start(self.bench, client)? {
                    Ok((socket, address)) => {
                        let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::try_from(at)?);
                        self.epoll.add(&socket, event)?;
                        client.socket = Some((socket, address));
                    }
                    Err(errno) => client.outcome = Some(outcome_of(errno)),
                }
            }
        }
        let mut served = Served::default();
        let mut left = clients.iter().filter(|c| c.outcome.is_none()).count();
        let mut events = [EpollEvent::empty(); 256];
        // Counted in looks, not by the clock: a thread that was not run saw nothing either.
        let mut quiet = Duration::ZERO;
        while left > 0 && quiet < self.patience {
            let timeout = EpollTimeout::try_from(GLANCE).unwrap_or(EpollTimeout::ZERO);
            let count = match self.epoll.wait(&mut events, timeout) {
                Err(Errno::EINTR) => continue,
                count => count?,
            };
            quiet = if count == 0 {
                quiet + GLANCE
            } else {
                Duration::ZERO
            };
            for event in events.iter().take(count) {
                let number = event.data();
                if let Some(listener) = self.listeners.get(number) {
                    served.serve(&self.world, listener)?;
                } else if let Some(client) = clients.get_mut(usize::try_from(number)?) {
                    left -= usize::from(client.hear(&self.epoll, &served)?);
                }
            }
        }
        Ok(served)
    }
}

impl Client {
    /// Reads the answer. Says whether this ended the flow.
    fn hear(&mut self, epoll: &Epoll, served: &Served) -> Result<bool> {
        let Some((socket, _)) = &self.socket else {
            return Ok(false);
        };
        if self.flow.protocol == Protocol::Stray {
            let reset = stray::is_reset(socket, self.flow.to, self.port)?;
            if reset {
                epoll.delete(socket)?;
                self.outcome = Some(Outcome::Refused);
            }
            return Ok(reset);
        }
        let mut bytes = [0; 4];
        let outcome = match io::Read::read(&mut { socket }, &mut bytes) {
            Ok(4) => {
                let number = usize::try_from(u32::from_ne_bytes(bytes))?;
                let (arrival, from, _) = served.seen.get(number).context("an odd answer")?;
                Outcome::Answered(Arrival {
                    port_kept: from.port() == self.port,
                    ..*arrival
                })
            }
            Ok(_) => Outcome::Failed(Errno::ECONNRESET),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => outcome_of(errno(&error)),
        };
        epoll.delete(socket)?;
        self.outcome = Some(outcome);
        Ok(true)
    }
}

impl Served {
    /// Answers all that wait at a listener with the number of what was seen.
    fn serve(&mut self, world: &World, listener: &listeners::Listener) -> Result<()> {
        match listener.protocol {
            Protocol::Tcp => loop {
                let (stream, from) = match listener.socket.accept() {
                    Ok(accepted) => accepted,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                    Err(error) => return Err(error).context("accepting"),
                };
                let local = stream.local_addr()?.as_socket().context("no address")?;
                let from = from.as_socket().context("no address")?;
                let original = socket::original_destination(&stream, local.ip());
                let number = self.saw(listener, local, original.unwrap_or(local), from)?;
                // A client that is gone is not told.
                let _gone = io::Write::write(&mut &stream, &number.to_ne_bytes());
                self.streams.push(stream);
            },
            Protocol::Udp | Protocol::Stray => loop {
                let datagram = match socket::receive(&listener.socket) {
                    Ok(Some(datagram)) if datagram.is_request => datagram,
                    Ok(Some(_)) => continue,
                    Ok(None) => return Ok(()),
                    Err(error) => return Err(error).context("receiving"),
                };
                let to = match datagram.to.port() {
                    0 => SocketAddr::from((datagram.to.ip(), listener.port)),
                    _ => datagram.to,
                };
                let number = self.saw(listener, to, to, datagram.from)?;
                if listener.port == 0 {
                    let key = (listener.place, to);
                    let socket = match self.stand_ins.entry(key) {
                        std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                        std::collections::hash_map::Entry::Vacant(entry) => {
                            entry.insert(listeners::stand_in(world, listener.place, to)?)
                        }
                    };
                    // An answer that cannot be sent is an answer that does not arrive.
                    let _lost = socket.send_to(&number.to_ne_bytes(), &datagram.from.into());
                } else {
                    let _lost = socket::answer(&listener.socket, &datagram, number);
                }
            },
        }
    }

    fn saw(
        &mut self,
        listener: &listeners::Listener,
        local: SocketAddr,
        original: SocketAddr,
        from: SocketAddr,
    ) -> Result<u32> {
        let number = u32::try_from(self.seen.len())?;
        let arrival = Arrival {
            place: listener.place,
            listener: listener.port,
            local,
            original,
            source: from.ip(),
            port_kept: true,
        };
        self.seen.push((arrival, from, listener.protocol));
        Ok(number)
    }
}

/// Opens a client's socket in the calling thread's namespace and sends its first packet.
/// Also says which address it has.
fn start(bench: &Bench, client: &Client) -> Result<Result<(Socket, IpAddr), Errno>> {
    let Client { flow, port, .. } = client;
    let to = flow.to;
    let attempt = || -> io::Result<(Socket, IpAddr)> {
        let socket = socket::open(flow.protocol, to.ip(), flow.owner)?;
        socket.set_reuse_address(true)?;
        let source = match flow.source {
            Source::Address(address) => {
                if flow.from != Place::Pod || !is_the_pods(address) {
                    socket::transparent(&socket, address)?;
                }
                address
            }
            Source::Any | Source::Port(_) => listeners::unspecified(to.ip()),
        };
        socket.bind(&SocketAddr::from((source, *port)).into())?;
        match socket.connect(&to.into()) {
            Err(error) if errno(&error) != Errno::EINPROGRESS => return Err(error),
            _ => {}
        }
        let local = socket.local_addr()?.as_socket();
        let address = local.ok_or_else(|| io::Error::other("no address"))?.ip();
        match flow.protocol {
            Protocol::Tcp => {}
            Protocol::Udp => drop(socket.send(&socket::REQUEST)?),
            Protocol::Stray => {
                let own = flow.from.own_address(flow.family());
                stray::send(&socket, (own, *port).into(), to)?;
            }
        }
        Ok((socket, address))
    };
    bench.as_owner(flow.owner, || Ok(attempt().map_err(|error| errno(&error))))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

fn outcome_of(errno: Errno) -> Outcome {
    match errno {
        Errno::ECONNREFUSED => Outcome::Refused,
        other => Outcome::Failed(other),
    }
}

/// The entries that a flow made, in both directions. The client's port alone does not tell its
/// answer: what an application sends from its own port to any other machine may look like it.
fn tracks(entries: &[Entry], flow: &Flow, client: SocketAddr) -> Vec<Track> {
    let mut tracks: Vec<Track> = entries
        .iter()
        .filter(|entry| entry.protocol == flow.protocol)
        .filter_map(|entry| {
            let by_answer = if (entry.source, entry.destination) == (client, flow.to) {
                false
            } else if (entry.source, entry.destination) == (flow.to, client) {
                true
            } else {
                return None;
            };
            let zone = entry.zone;
            Some(Track { zone, by_answer })
        })
        .filter(|track| track.zone != 0 || track.by_answer)
        .collect();
    tracks.sort();
    tracks
}

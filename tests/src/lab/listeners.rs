//! Who listens: the proxy's stand-in and the application in the pod, a catch-all behind each
//! interface.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use shunt_redirect::CaptureConfig;
use shunt_redirect::capture::{InboundMode, Mark};
use socket2::Socket;

use super::world::{CATCH_ALL, World, is_the_pods};
use super::{Bench, Cgroup, Owner, Place, Protocol, Trial, socket};
use crate::net::Family;

/// The proxy that stands in the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proxy {
    /// Whose its sockets are.
    pub owner: Owner,
    /// Where captured outbound connections go.
    pub outbound: u16,
    /// Where captured inbound connections go.
    pub inbound: u16,
    /// Where captured DNS queries go, if any.
    pub dns: Option<u16>,
    /// Whether inbound connections come to a transparent socket.
    pub transparent: bool,
}

impl Proxy {
    /// As a policy expects it: what it is told from the application by, where it listens. Of
    /// several ways to tell it, it relies on one: its cgroup before its ids, these before its mark.
    pub fn of(config: &CaptureConfig) -> Self {
        let identity = &config.proxy;
        let first = |ids: &std::collections::BTreeSet<u32>| ids.first().copied();
        let cgroup = identity.cgroup.as_ref().and_then(Cgroup::of);
        let mark = identity.mark.map(Mark::get);
        let owner = match cgroup {
            Some(_) => Owner {
                cgroup,
                ..Owner::APP
            },
            None => Owner {
                uid: first(&identity.uids).unwrap_or(Owner::APP.uid),
                gid: first(&identity.gids).unwrap_or(Owner::APP.gid),
                mark: mark.filter(|_| identity.uids.is_empty() && identity.gids.is_empty()),
                cgroup,
            },
        };
        Self {
            owner,
            outbound: config.outbound.port.get(),
            inbound: config.inbound.port.get(),
            dns: config.dns.as_ref().map(|dns| dns.port.get()),
            transparent: matches!(config.inbound.mode, InboundMode::Tproxy { .. }),
        }
    }
}

/// Protocol, IP version, port.
type Key = (Protocol, bool, u16);

/// A socket that listens.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) place: Place,
    pub(super) protocol: Protocol,
    /// 0 for the catch-all.
    pub(super) port: u16,
    pub(super) socket: Socket,
    owner: Owner,
    transparent: bool,
}

/// All that listen, by the number under which the poller knows them.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    all: HashMap<u64, Listener>,
    in_pod: HashMap<Key, u64>,
    last: u64,
}

/// Numbers of listeners begin here.
pub(super) const FIRST: u64 = 1 << 32;

impl Listeners {
    /// Those behind the pod's interfaces, for good.
    pub(super) fn new(world: &World, epoll: &Epoll) -> Result<Self> {
        let mut listeners = Self {
            last: FIRST,
            ..Self::default()
        };
        for place in [Place::Peer, Place::Far] {
            world.enter(place)?;
            for family in Family::BOTH {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let address = (family.unspecified(), CATCH_ALL).into();
                    let socket = socket::listen(protocol, address, Owner::APP, true)
                        .with_context(|| format!("a catch-all socket in {place:?}"))?;
                    let listener = Listener {
                        place,
                        protocol,
                        port: 0,
                        socket,
                        owner: Owner::APP,
                        transparent: true,
                    };
                    listeners.add(epoll, listener)?;
                }
            }
        }
        Ok(listeners)
    }

    pub(super) fn get(&self, number: u64) -> Option<&Listener> {
        self.all.get(&number)
    }

    /// Whether something in the pod listens on this port.
    pub(super) fn takes(&self, port: u16) -> bool {
        self.in_pod.keys().any(|(_, _, taken)| *taken == port)
    }

    fn add(&mut self, epoll: &Epoll, listener: Listener) -> Result<u64> {
        self.last += 1;
        epoll.add(
            &listener.socket,
            EpollEvent::new(EpollFlags::EPOLLIN, self.last),
        )?;
        self.all.insert(self.last, listener);
        Ok(self.last)
    }

    /// Makes exactly those listen in the pod that the trials may meet: the proxy, and an
    /// application on each port that is asked for.
    pub(super) fn prepare(
        &mut self,
        bench: &Bench,
        world: &World,
        epoll: &Epoll,
        proxy: &Proxy,
        trials: &[Trial],
    ) -> Result<()> {
        let wanted = wanted(proxy, trials);
        self.in_pod.retain(|key, number| {
            let fits = self.all.get(number).is_some_and(|listener| {
                wanted.get(key) == Some(&(listener.owner, listener.transparent))
            });
            if !fits {
                self.all.remove(number);
            }
            fits
        });
        world.enter(Place::Pod)?;
        for (key, (owner, transparent)) in wanted {
            if self.in_pod.contains_key(&key) {
                continue;
            }
            let (protocol, is_v6, port) = key;
            let family = if is_v6 { Family::V6 } else { Family::V4 };
            let address = SocketAddr::from((family.unspecified(), port));
            let socket = bench
                .as_owner(owner, || {
                    Ok(socket::listen(protocol, address, owner, transparent)?)
                })
                .with_context(|| format!("listening on {protocol:?} {address} in the pod"))?;
            let listener = Listener {
                place: Place::Pod,
                protocol,
                port,
                socket,
                owner,
                transparent,
            };
            let number = self.add(epoll, listener)?;
            self.in_pod.insert(key, number);
        }
        Ok(())
    }
}

fn wanted(proxy: &Proxy, trials: &[Trial]) -> HashMap<Key, (Owner, bool)> {
    let targets: HashSet<(Protocol, SocketAddr)> = trials
        .iter()
        .flat_map(|trial| &trial.flows)
        .filter(|flow| is_the_pods(flow.to.ip()))
        .map(|flow| (flow.protocol, flow.to))
        .collect();
    let mut wanted: HashMap<_, _> = targets
        .into_iter()
        .map(|(protocol, to)| {
            let protocol = match protocol {
                Protocol::Stray => Protocol::Tcp,
                listened => listened,
            };
            ((protocol, to.is_ipv6(), to.port()), (Owner::APP, false))
        })
        .collect();
    for is_v6 in [false, true] {
        let mut proxys = vec![
            ((Protocol::Tcp, is_v6, proxy.outbound), false),
            ((Protocol::Tcp, is_v6, proxy.inbound), proxy.transparent),
        ];
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            proxys.extend(proxy.dns.map(|dns| ((protocol, is_v6, dns), false)));
        }
        for (key, transparent) in proxys {
            wanted.insert(key, (proxy.owner, transparent));
        }
    }
    wanted
}

/// A socket that answers a datagram that a catch-all got, from where it was sent to.
pub(super) fn stand_in(world: &World, place: Place, address: SocketAddr) -> Result<Socket> {
    world.enter(place)?;
    let socket = socket::open(Protocol::Udp, address.ip(), Owner::APP)?;
    socket.set_reuse_address(true)?;
    socket::transparent(&socket, address.ip())?;
    socket
        .bind(&address.into())
        .with_context(|| format!("standing in for {address} in {place:?}"))?;
    Ok(socket)
}

/// The address that stands for all of a family.
pub(super) fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() {
        Family::V4.unspecified()
    } else {
        Family::V6.unspecified()
    }
}

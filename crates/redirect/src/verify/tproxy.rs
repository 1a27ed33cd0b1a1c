//! What only a conversation shows of TPROXY: that later packets find the proxy, that answers find
//! whoever opened the connection, and that the application's do, though they are for the client.
//!
//! Both ends of each conversation are ours: a listener where the proxy would be, one where the
//! application would be.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use shunt_abi::{addr, lo, mark, rule as key};
use socket2::{Domain, Protocol as Transport, Socket, Type};

use super::decide::{Flow, Outcome, Sender, Way, decide};
use super::live::Watch;
use super::others::{ARRIVING, At, BY_LOOPBACK};
use super::report::Failure;
use super::shown::Shown;
use super::stage::{Place, StageError};
use super::values::random_port;
use super::wire::{Ends, Kind};
use crate::routing::Route;
use crate::ruleset::{Family, Protocol, Ruleset, Verdict};

/// Where the proxy listens, and the mark of what it gets and sends; `None` without TPROXY.
pub(super) fn capture(rules: &Ruleset) -> Option<(u16, u32)> {
    let mut rules = rules.chains.iter().flat_map(|chain| &chain.rules);
    rules.find_map(|rule| match rule.verdict {
        Verdict::Tproxy { port, mark } => Some((port.get(), mark)),
        _ => None,
    })
}

/// The proxy's transparent listeners: for what arrives by the link, and for what the pod sends to
/// itself. On any address they would take what is not ours.
pub(super) enum Listeners {
    /// Ours.
    Own(Vec<TcpListener>),
    /// Somebody listens there already.
    Taken,
}

impl Listeners {
    pub(super) fn open(places: &[Place], port: u16) -> Result<Self, StageError> {
        let mut listeners = Vec::new();
        for place in places {
            // The kernel looks for a listener on the first address of the interface, or on any.
            let addresses: [IpAddr; 3] = match place.own {
                own @ IpAddr::V4(_) => [own, Ipv4Addr::LOCALHOST.into(), own],
                own @ IpAddr::V6(_) => [
                    own,
                    Ipv6Addr::LOCALHOST.into(),
                    addr::INBOUND_SOURCE_V6.into(),
                ],
            };
            for (index, address) in addresses.into_iter().enumerate() {
                if addresses[..index].contains(&address) {
                    continue;
                }
                match transparent_listener(address, port) {
                    Ok(listener) => listeners.push(listener),
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        return Ok(Self::Taken);
                    }
                    // Where `lo` has no IPv6.
                    Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
                    Err(source) => {
                        return Err(StageError::System {
                            operation: "listen as TPROXY's proxy does",
                            source,
                        });
                    }
                }
            }
        }
        Ok(Self::Own(listeners))
    }

    /// Ours for what arrives.
    pub(super) fn arriving(&self, own: IpAddr) -> Option<&TcpListener> {
        let Self::Own(listeners) = self else {
            return None;
        };
        listeners.iter().find(|listener| {
            let address = listener.local_addr();
            address.is_ok_and(|address| address.ip() == own)
        })
    }
}

fn socket(family: Family) -> io::Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    Socket::new(domain, Type::STREAM, Some(Transport::TCP))
}

fn transparent_listener(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    let socket = socket(Family::of(address))?;
    setsockopt(&socket, sockopt::IpTransparent, &true)?;
    // As what the proxy sends to its own pod is marked by its uid.
    setsockopt(&socket, sockopt::Mark, &mark::SELF_CALL)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(address, port).into())?;
    socket.listen(16)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from(OwnedFd::from(socket)))
}

/// A client's connection, opened from the far end: its second packet must find the proxy too.
pub(super) fn inbound(
    watch: &mut Watch<'_>,
    place: &Place,
    listener: &TcpListener,
    port: u16,
) -> Result<Shown, StageError> {
    let ends = Ends {
        protocol: Protocol::Tcp,
        source: (place.client, random_port()),
        destination: (place.own, port),
    };
    let expected = format!(
        "a connection from {} to {} to be handed to the proxy",
        place.client, place.own
    );
    let far_end = &watch.stage.far_end;
    let mut first = far_end.send(&ends, Kind::First);
    let answer = watch.answer_to(&ends)?;
    if let Some(of) = answer {
        first = first.and_then(|()| far_end.send(&ends, Kind::Acknowledge { of }));
    }
    first.map_err(io_error)?;
    let accepted = answer.is_some().then(|| wait(watch, || listener.accept()));
    let ended = match accepted {
        Some(Ok((stream, _))) => match stream.local_addr() {
            Ok(to) if to == SocketAddr::from(ends.destination) => Ended::Right,
            other => Ended::Wrong(format!("the proxy sees {other:?} as its destination")),
        },
        Some(Err(error)) => Ended::Lost(format!("the proxy did not get it: {error}")),
        None => Ended::Lost("nobody answered".to_owned()),
    };
    far_end.send(&ends, Kind::Reset).map_err(io_error)?;
    let conversation = Conversation {
        expected,
        way: ARRIVING,
        family: Family::of(place.own),
        first: key::TPROXY_CAPTURE,
        keys: &[key::TPROXY_CAPTURED],
        blamed: key::TPROXY_CAPTURE,
    };
    watch.judge(&conversation, &ended)
}

/// A call of the proxy's to its own pod: the answers must come back to the socket that called,
/// which is no transparent one, and later packets find the proxy. `None`: the rules capture none.
pub(super) fn self_call(
    watch: &mut Watch<'_>,
    rules: &Ruleset,
    place: &Place,
    listeners: &Listeners,
    (uid, gid): (u32, u32),
    port: u16,
) -> Result<Option<Shown>, StageError> {
    let family = Family::of(place.own);
    let to = SocketAddr::new(place.own, port);
    let called = Flow {
        way: Way::Sent {
            sender: Sender {
                uid,
                gid,
                mark: mark::SELF_CALL,
            },
            by_loopback: true,
        },
        ends: Ends {
            protocol: Protocol::Tcp,
            source: (place.own, random_port()),
            destination: (place.own, port),
        },
        nonsense: false,
    };
    let Listeners::Own(listeners) = listeners else {
        return Ok(None);
    };
    if decide(rules, &called, true).outcome != Outcome::Transparent {
        return Ok(None);
    }
    let attempt = || -> io::Result<SocketAddr> {
        let proxy = socket(family)?;
        setsockopt(&proxy, sockopt::Mark, &mark::SELF_CALL)?;
        proxy.bind(&SocketAddr::from(called.ends.source).into())?;
        proxy.connect_timeout(&to.into(), watch.patience())?;
        let accepted = wait(watch, || {
            let mut found = Err(io::ErrorKind::WouldBlock.into());
            for listener in listeners {
                found = found.or_else(|_: io::Error| listener.accept());
            }
            found.map(|(accepted, _from)| accepted)
        })?;
        (&proxy).write_all(b"?")?;
        accepted.set_nonblocking(true)?;
        wait(watch, || (&accepted).read_exact(&mut [0]))?;
        accepted.local_addr()
    };
    let ended = match attempt() {
        Ok(seen) if seen == to => Ended::Right,
        Ok(seen) => Ended::Wrong(format!("the proxy sees {seen} as its destination")),
        Err(error) => Ended::Lost(error.to_string()),
    };
    let conversation = Conversation {
        expected: format!("the proxy's call to {to} of its own pod to be answered by the proxy"),
        way: BY_LOOPBACK,
        family,
        first: key::TPROXY_CAPTURE,
        keys: &[key::TPROXY_CAPTURED, key::TPROXY_ESTABLISHED],
        blamed: key::TPROXY_ESTABLISHED,
    };
    watch.judge(&conversation, &ended).map(Some)
}

/// The proxy's connection to the application in a client's name: the answers are for the client,
/// and must come back to the proxy.
pub(super) fn upstream(
    watch: &mut Watch<'_>,
    place: &Place,
    mark: u32,
) -> Result<Shown, StageError> {
    let family = Family::of(place.own);
    let expected = format!(
        "the proxy's connection to {} in the name of {} to be answered",
        place.own, place.client
    );
    let way_back = Route::open()?.probe_leaves_by(place.own, place.client, mark);
    // Where there is no way at all, the conversation tells.
    if let Ok(Some(interface)) = way_back
        && interface != lo::INDEX
    {
        let failure = Failure {
            expected: format!(
                "what is marked {mark:#x} and for {} to be routed to lo",
                place.client
            ),
            happened: format!(
                "it would leave by interface {interface} (`ip link`): a policy rule is missing, or \
                 another comes before it (`ip rule`), so nothing was sent"
            ),
        };
        return Ok(Shown {
            wrong: vec![(key::TPROXY_FROM_APP.to_owned(), failure)],
            ..Shown::default()
        });
    }
    let attempt = || -> io::Result<IpAddr> {
        let application = TcpListener::bind((place.own, 0))?;
        let to = application.local_addr()?;
        let socket = socket(family)?;
        setsockopt(&socket, sockopt::IpTransparent, &true)?;
        setsockopt(&socket, sockopt::Mark, &mark)?;
        socket.bind(&SocketAddr::new(place.client, 0).into())?;
        socket.connect_timeout(&to.into(), watch.patience())?;
        let proxy = TcpStream::from(OwnedFd::from(socket));
        application.set_nonblocking(true)?;
        let (accepted, from) = wait(watch, || application.accept())?;
        drop((accepted, proxy));
        Ok(from.ip())
    };
    let ended = match attempt() {
        Ok(from) if from == place.client => Ended::Right,
        Ok(from) => Ended::Wrong(format!("the application saw {from}")),
        Err(error) => Ended::Lost(error.to_string()),
    };
    let conversation = Conversation {
        expected,
        way: BY_LOOPBACK,
        family,
        first: key::TPROXY_TO_APP,
        keys: &[key::TPROXY_TO_APP, key::TPROXY_MARKED, key::TPROXY_FROM_APP],
        blamed: key::TPROXY_FROM_APP,
    };
    watch.judge(&conversation, &ended)
}

/// How a conversation ended.
enum Ended {
    /// As it should.
    Right,
    /// Somewhere else.
    Wrong(String),
    /// Half-way.
    Lost(String),
}

/// What a conversation shows.
struct Conversation<'a> {
    expected: String,
    /// The hooks that its first packet passes.
    way: &'a [At],
    family: Family,
    /// The rule that decides first on it.
    first: &'a str,
    /// The rules that should have counted some of its packets.
    keys: &'a [&'a str],
    /// The one to name if all of them have, and it fails yet.
    blamed: &'a str,
}

fn wait<T>(watch: &Watch<'_>, attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let end = Instant::now() + watch.patience();
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {
                thread::sleep(Duration::from_micros(50));
            }
            outcome => return outcome,
        }
    }
}

fn io_error(source: io::Error) -> StageError {
    StageError::System {
        operation: "hold a conversation over TPROXY",
        source,
    }
}

impl Watch<'_> {
    /// The sequence number with which a server answered an opening.
    fn answer_to(&self, ends: &Ends) -> Result<Option<u32>, StageError> {
        let end = Instant::now() + self.patience();
        loop {
            while let Some(seen) = self.stage.far_end.next().map_err(io_error)? {
                let back =
                    seen.ends.source == ends.destination && seen.ends.destination == ends.source;
                if back && seen.answer.is_some() {
                    return Ok(seen.answer);
                }
            }
            if Instant::now() > end {
                return Ok(None);
            }
            thread::sleep(Duration::from_micros(50));
        }
    }

    /// What a conversation shows of the rules that should have decided on its packets.
    fn judge(
        &mut self,
        conversation: &Conversation<'_>,
        ended: &Ended,
    ) -> Result<Shown, StageError> {
        let Conversation {
            expected,
            way,
            family,
            first,
            keys,
            blamed,
        } = conversation;
        let all = [&[*first], *keys].concat();
        let silent = self.passed_over(&all)?;
        let passed_over: Vec<&str> = keys
            .iter()
            .copied()
            .filter(|key| silent.iter().any(|silent| silent == key))
            .collect();
        if let Ended::Lost(how) = ended
            && !silent.iter().any(|key| key == first)
            && let Some(who) = self.behind(way, *family, first)
        {
            let why = format!(
                "{expected}: {how}; its first packet was decided on as planned, and behind that \
                 rule others' rules drop packets: {who}"
            );
            let hidden = keys.iter().map(|key| ((*key).to_owned(), why.clone()));
            return Ok(Shown {
                hidden: hidden.collect(),
                ..Shown::default()
            });
        }
        let seen = match ended {
            Ended::Right => "it was",
            Ended::Wrong(how) | Ended::Lost(how) => how,
        };
        let failure = |key: &str, happened: String| {
            let expected = expected.clone();
            (key.to_owned(), Failure { expected, happened })
        };
        let missed = |key: &str| {
            failure(
                key,
                format!("{seen}, and rule {key} counted none of its packets"),
            )
        };
        let mut wrong: Vec<_> = passed_over.into_iter().map(missed).collect();
        if wrong.is_empty() && !matches!(ended, Ended::Right) {
            wrong.push(failure(blamed, seen.to_owned()));
        }
        Ok(Shown {
            wrong,
            ..Shown::default()
        })
    }
}

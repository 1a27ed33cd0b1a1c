//! What a test finds on a packet.

use std::net::IpAddr;

use super::flow::Sender;
use super::model::{Condition, Dialect, End, Hook, NamePattern, Test, Way};
use super::packet::{Endpoint, Interface, NoConnection, Packet};
use crate::ranges::Ranges;
use crate::ruleset::Family;

/// What a test finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Yes,
    No,
    /// The packet does not have what is asked for.
    Absent,
    /// It is not known; why.
    Unknown(String),
}

impl From<bool> for Finding {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

/// A value that is not known is found so, with this reason.
fn known<T>(value: Option<T>, why: &str, test: impl FnOnce(T) -> bool) -> Finding {
    match value {
        Some(value) => test(value).into(),
        None => Finding::Unknown(why.to_owned()),
    }
}

impl Packet {
    /// What the test finds, in the language it is written in.
    pub(super) fn finds(&self, condition: &Condition, dialect: Dialect) -> Finding {
        let finding = self.test(&condition.test);
        match (finding, dialect) {
            // `th dport` takes what stands where ports would.
            (Finding::Absent, Dialect::Nft)
                if matches!(condition.test, Test::Port(_, None, _) | Test::EitherPort(_)) =>
            {
                Finding::Unknown("bytes of a header that has no ports".to_owned())
            }
            (Finding::Absent, Dialect::Nft) => Finding::No,
            // Without a connection, or a socket, these are not compared at all.
            (Finding::Absent, Dialect::Xtables)
                if matches!(
                    condition.test,
                    Test::ConnectionMark { .. } | Test::Original | Test::Cgroup { .. }
                ) =>
            {
                Finding::No
            }
            (Finding::Absent, Dialect::Xtables) => condition.negated.into(),
            (Finding::Yes, _) => (!condition.negated).into(),
            (Finding::No, _) => condition.negated.into(),
            (unknown @ Finding::Unknown(_), _) => unknown,
        }
    }

    fn test(&self, test: &Test) -> Finding {
        match test {
            Test::Family(family) => (self.family == *family).into(),
            Test::Interface(way, names) => self.interface(*way, names),
            Test::Protocol(numbers) => numbers.contains(u16::from(self.protocol.number())).into(),
            Test::V4(end, block) => match self.family {
                Family::V4 => self.address(*end, |address| match address {
                    IpAddr::V4(address) => block.contains(address.to_bits()),
                    IpAddr::V6(_) => false,
                }),
                Family::V6 => Finding::Absent,
            },
            Test::V6(end, block) => match self.family {
                Family::V6 => self.address(*end, |address| match address {
                    IpAddr::V6(address) => block.contains(address.to_bits()),
                    IpAddr::V4(_) => false,
                }),
                Family::V4 => Finding::Absent,
            },
            Test::Port(end, protocol, ports) => {
                let has = match protocol {
                    Some(protocol) => *protocol == self.protocol,
                    None => self.protocol.has_ports(),
                };
                if has {
                    self.port(*end, ports)
                } else {
                    Finding::Absent
                }
            }
            Test::EitherPort(ports) => self.either_port(ports),
            Test::Uid(ids) => self.owner(|sender| sender.0, ids, "the sender's uid"),
            Test::Gid(ids) => self.owner(|sender| sender.1, ids, "the sender's gid"),
            Test::Socket => match &self.sender {
                Some(Sender::Socket { .. }) => Finding::Yes,
                _ => self.no_socket(),
            },
            Test::Cgroup { path } => match &self.sender {
                Some(Sender::Socket { cgroup, .. }) => {
                    known(cgroup.as_deref(), "the sender's cgroup", |own| {
                        is_within(own, path)
                    })
                }
                _ => self.no_socket(),
            },
            Test::Mark { mask, values } => known(self.mark, "the packet's mark", |mark| {
                values.contains(mark & mask)
            }),
            Test::ConnectionMark { mask, values } => match self.connection_mark() {
                Ok(mark) => known(mark, "the connection's mark", |mark| {
                    values.contains(mark & mask)
                }),
                Err(NoConnection) => Finding::Absent,
            },
            Test::Original => match self.connection_mark() {
                Ok(_) => (!self.answers).into(),
                Err(NoConnection) => Finding::Absent,
            },
            Test::States(states) => states.contains(&self.state()).into(),
            Test::Local(end) => self.is_local(*end),
            Test::Unknown(what) => Finding::Unknown(what.clone()),
        }
    }

    fn interface(&self, way: Way, names: &[NamePattern]) -> Finding {
        let (interface, why) = match way {
            Way::In => (&self.arrived_by, "the interface it arrives by"),
            Way::Out => (&self.leaves_by, "the interface it leaves by"),
        };
        let name = match interface {
            Interface::None => Some(""),
            Interface::Named(name) => Some(name.as_str()),
            Interface::Unknown => None,
        };
        known(name, why, |name| {
            names.iter().any(|pattern| pattern.matches(name))
        })
    }

    fn end(&self, end: End) -> &Endpoint {
        match end {
            End::Source => &self.source,
            End::Destination => &self.destination,
        }
    }

    fn address(&self, end: End, test: impl FnOnce(IpAddr) -> bool) -> Finding {
        let why = match end {
            End::Source => "the translated source address",
            End::Destination => "the translated destination address",
        };
        known(self.end(end).address, why, test)
    }

    fn port(&self, end: End, ports: &Ranges<u16>) -> Finding {
        let why = match end {
            End::Source => "the translated source port",
            End::Destination => "the translated destination port",
        };
        known(self.end(end).port, why, |port| ports.contains(port))
    }

    fn either_port(&self, ports: &Ranges<u16>) -> Finding {
        if !self.protocol.has_ports() {
            return Finding::Absent;
        }
        let both = [End::Source, End::Destination].map(|end| self.port(end, ports));
        match both {
            [Finding::Yes, _] | [_, Finding::Yes] => Finding::Yes,
            [unknown @ Finding::Unknown(_), _] | [_, unknown @ Finding::Unknown(_)] => unknown,
            _ => Finding::No,
        }
    }

    fn owner(
        &self,
        id: impl FnOnce((Option<u32>, Option<u32>)) -> Option<u32>,
        ids: &Ranges<u32>,
        why: &str,
    ) -> Finding {
        match &self.sender {
            Some(Sender::Socket { uid, gid, .. }) => {
                known(id((*uid, *gid)), why, |id| ids.contains(id))
            }
            _ => self.no_socket(),
        }
    }

    /// Arriving packets may have been given the socket that waits for them, once they are known to
    /// be for this machine.
    fn no_socket(&self) -> Finding {
        if self.hook == Hook::Input {
            Finding::Unknown("the receiving socket".to_owned())
        } else {
            Finding::Absent
        }
    }

    fn is_local(&self, end: End) -> Finding {
        match self.end(end).address {
            Some(address) if address.is_loopback() => Finding::Yes,
            Some(address) if address.is_multicast() => Finding::No,
            _ => Finding::Unknown("which addresses this machine has".to_owned()),
        }
    }
}

/// Whether a cgroup is `path`, or below it.
fn is_within(own: &str, path: &str) -> bool {
    let own = own.trim_matches('/');
    match own.strip_prefix(path.trim_matches('/')) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

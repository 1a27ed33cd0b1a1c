//! A packet on its way, and what is done to it.

use std::net::IpAddr;

use super::flow::{Flow, Protocol, Sender, Side, State, loopback};
use super::model::{Hook, MarkValue, Translation};
use super::verdict::{Fate, NatNotAsked, Outcome, RedirectedTo};
use crate::ruleset::Family;

/// A packet as the next rule sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) hook: Hook,
    pub(super) family: Family,
    pub(super) protocol: Protocol,
    pub(super) source: Endpoint,
    pub(super) destination: Endpoint,
    pub(super) arrived_by: Interface,
    pub(super) leaves_by: Interface,
    pub(super) sender: Option<Sender>,
    state: State,
    /// Whether it goes against the way of its connection's first packet.
    pub(super) answers: bool,
    /// Whether conntrack has looked it up.
    tracked: bool,
    /// Whether a rule has said how conntrack is to look it up; later ones are ignored.
    tracking_decided: bool,
    pub(super) zone: u16,
    pub(super) mark: Option<u32>,
    connection_mark: Option<u32>,
    /// What a rule made of its destination.
    pub(super) capture: Option<Fate>,
    /// Whether NAT has decided on its destination.
    pub(super) destination_decided: bool,
    /// Whether NAT has decided on its source.
    pub(super) source_decided: bool,
    pub(super) assumes_listener: bool,
}

/// An address and a port; `None`: not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: Option<IpAddr>,
    pub(super) port: Option<u16>,
}

/// An interface of a packet at a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Interface {
    /// There is none: rules see an empty name.
    None,
    Named(String),
    Unknown,
}

impl Interface {
    pub(super) fn is_loopback(&self) -> bool {
        matches!(self, Self::Named(name) if name == "lo")
    }
}

impl Packet {
    pub(super) fn of(flow: &Flow) -> Self {
        let (hook, arrived_by, leaves_by, sender) = match &flow.side {
            Side::Arrives { interface, .. } => {
                let arrived_by = Interface::Named(interface.clone());
                (Hook::Prerouting, arrived_by, Interface::None, None)
            }
            Side::Sent { interface, sender } => {
                let leaves_by = Interface::Named(interface.clone());
                let sender = Some(sender.clone());
                (Hook::Output, Interface::None, leaves_by, sender)
            }
        };
        let endpoint = |at: std::net::SocketAddr| Endpoint {
            address: Some(at.ip()),
            port: Some(at.port()),
        };
        Self {
            hook,
            family: flow.family(),
            protocol: flow.protocol,
            source: endpoint(flow.source),
            destination: endpoint(flow.destination),
            // What comes by lo was looked up when it was sent.
            tracked: arrived_by.is_loopback(),
            tracking_decided: arrived_by.is_loopback(),
            arrived_by,
            leaves_by,
            sender,
            state: flow.state,
            answers: flow.answers,
            zone: 0,
            mark: Some(flow.mark),
            connection_mark: Some(flow.connection_mark),
            capture: None,
            destination_decided: false,
            source_decided: false,
            assumes_listener: false,
        }
    }

    /// It reaches a hook. The interfaces of a packet are those of the hook: none by which it leaves
    /// while it arrives, none by which it arrived while it is sent.
    pub(super) fn enter(&mut self, hook: Hook) {
        self.hook = hook;
        match hook {
            Hook::Ingress | Hook::Prerouting | Hook::Input => self.leaves_by = Interface::None,
            Hook::Output => self.arrived_by = Interface::None,
            Hook::Forward | Hook::Postrouting | Hook::Egress => {}
        }
    }

    /// What was sent by `lo` arrives there. It has no socket any more, and its connection already.
    pub(super) fn arrive_on_loopback(&mut self) {
        self.arrived_by = Interface::Named("lo".to_owned());
        self.sender = None;
        self.enter(Hook::Prerouting);
    }

    /// Conntrack looks it up, unless a rule has kept it from that.
    pub(super) fn track(&mut self) {
        self.tracked = true;
    }

    /// Its conntrack state as rules see it. Before it is looked up it looks as if it could not be
    /// placed.
    pub(super) fn state(&self) -> State {
        match self.state {
            State::Untracked => State::Untracked,
            state if self.tracked => state,
            _ => State::Invalid,
        }
    }

    /// The mark of its connection, if it has one.
    pub(super) fn connection_mark(&self) -> Result<Option<u32>, NoConnection> {
        match self.state() {
            State::Invalid | State::Untracked => Err(NoConnection),
            _ => Ok(self.connection_mark),
        }
    }

    /// What a mark expression comes to; `Ok(None)`: it is not known.
    fn value(&self, value: &MarkValue) -> Result<Option<u32>, NoConnection> {
        Ok(match value {
            MarkValue::Constant(mark) => Some(*mark),
            MarkValue::Packet => self.mark,
            MarkValue::Connection => self.connection_mark()?,
            MarkValue::And(value, mask) => self.value(value)?.map(|value| value & mask),
            MarkValue::Or(value, bits) => self.value(value)?.map(|value| value | bits),
            MarkValue::Xor(a, b) => match (self.value(a)?, self.value(b)?) {
                (Some(a), Some(b)) => Some(a ^ b),
                _ => None,
            },
        })
    }

    /// Marks it. Without a connection that is asked for, nothing happens, and the rule may end.
    pub(super) fn set_mark(&mut self, value: &MarkValue) -> Result<(), NoConnection> {
        self.mark = self.value(value)?;
        Ok(())
    }

    /// Marks its connection, if it has one.
    pub(super) fn set_connection_mark(&mut self, value: &MarkValue) -> Result<(), NoConnection> {
        let value = self.value(value)?;
        if self.connection_mark().is_ok() {
            self.connection_mark = value;
        }
        Ok(())
    }

    /// Has it looked up in a zone. The first to say so wins.
    pub(super) fn set_zone(&mut self, zone: u16) {
        if self.may_say_how_to_track() {
            self.zone = zone;
        }
    }

    /// Has it not looked up.
    pub(super) fn leave_untracked(&mut self) {
        if self.may_say_how_to_track() {
            self.state = State::Untracked;
        }
    }

    fn may_say_how_to_track(&mut self) -> bool {
        let first = !self.tracked && !self.tracking_decided && self.state != State::Untracked;
        self.tracking_decided |= first;
        first
    }

    /// Whether NAT can still decide on its connection: this is its first packet.
    pub(super) fn nat_state(&self) -> Result<(), NatNotAsked> {
        match self.state() {
            State::New => Ok(()),
            // An announced connection; an ICMP error belongs to the one it tells of.
            State::Related if self.protocol.has_ports() => Ok(()),
            State::Related | State::Established => Err(NatNotAsked::NotFirst),
            State::Invalid | State::Untracked => Err(NatNotAsked::NoConnection),
        }
    }

    /// It leaves by this interface.
    pub(super) fn leave_by(&mut self, interface: &str) {
        self.leaves_by = Interface::Named(interface.to_owned());
    }

    /// REDIRECT: to a port of this machine.
    pub(super) fn redirect(&mut self, ports: Option<(u16, u16)>) {
        let port = match ports {
            None => self.destination.port,
            Some((first, last)) => (first == last).then_some(first),
        };
        let to = match (&self.hook, &self.arrived_by) {
            (Hook::Prerouting, Interface::Named(interface)) => {
                self.destination.address = None;
                RedirectedTo::PrimaryAddressOf(interface.clone())
            }
            _ => {
                let address = loopback(self.family);
                self.destination.address = Some(address);
                RedirectedTo::Loopback(address)
            }
        };
        self.destination.port = port;
        self.destination_decided = true;
        self.capture = Some(Fate::Redirected { port, to });
    }

    /// DNAT.
    pub(super) fn translate_destination(&mut self, to: Translation) {
        let address = to.address.of(self.destination.address);
        let port = to.port.of(self.destination.port);
        self.destination = Endpoint { address, port };
        self.destination_decided = true;
        self.capture = Some(Fate::Translated { address, port });
    }

    /// SNAT.
    pub(super) fn translate_source(&mut self, to: Translation) {
        self.source = Endpoint {
            address: to.address.of(self.source.address),
            port: to.port.of(self.source.port),
        };
        self.source_decided = true;
    }

    /// TPROXY: to the socket on a port, `None` being its own. `false`: it has none.
    pub(super) fn hand_over(&mut self, port: Option<u16>) -> bool {
        let port = port.or(self.destination.port);
        let has = matches!(self.protocol, Protocol::Tcp | Protocol::Udp);
        match port {
            Some(port) if has => {
                self.capture = Some(Fate::Tproxy { port });
                self.assumes_listener = true;
                true
            }
            _ => false,
        }
    }

    /// Finds the interface by which it leaves, once NAT has decided on its destination.
    pub(super) fn route(&mut self) {
        if self.destination_decided {
            match self.destination.address {
                Some(address) if address.is_loopback() => self.leave_by("lo"),
                _ => self.leaves_by = Interface::Unknown,
            }
        }
    }

    /// How it ends when nothing more decides on it.
    pub(super) fn outcome(self, fate: Option<Fate>) -> Outcome {
        let connection_mark = self.connection_mark().unwrap_or(Some(0));
        Outcome {
            connection_mark,
            mark: self.mark,
            zone: self.zone,
            assumes_listener: self.assumes_listener,
            fate: fate.or(self.capture).unwrap_or(Fate::Passes),
        }
    }
}

/// Conntrack has no connection for the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoConnection;

//! What the evaluator says should become of a trial.
//!
//! The evaluator decides on packets; a client sees a flow. So the first packet is asked for, then
//! the answer to it, and conntrack between them is modelled by the entries of each zone.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use shunt_redirect::explain::{self, Fate, RedirectedTo, Rules, Sender, Side, State};
use shunt_redirect::{CaptureConfig, Plan};

use crate::lab::cgroup::Cgroups;
use crate::lab::world::is_the_pods;
use crate::lab::{
    Arrival, Flow, Observation, Outcome, Owner, Place, Protocol, Proxy, Source, Track, Trial,
};

/// The client's port; no rule of a lab's policies asks for it.
const CLIENT_PORT: u16 = 20_000;

/// A plan, as the evaluator knows it.
pub(super) struct Paper<'a> {
    rules: Rules,
    ipv6: bool,
    tproxy: Option<u32>,
    proxy: Proxy,
    cgroups: &'a Cgroups,
}

/// What conntrack knows of one client port: the zone, how it was made, where the first packet went.
struct Entry {
    track: Track,
    fate: Fate,
}

impl<'a> Paper<'a> {
    pub(super) fn new(config: &CaptureConfig, plan: &Plan, cgroups: &'a Cgroups) -> Self {
        Self {
            rules: Rules::from_plan(plan),
            ipv6: plan.ipv6,
            tproxy: plan.routing.map(|routing| routing.mark),
            proxy: Proxy::of(config),
            cgroups,
        }
    }

    /// What should be seen of each flow of a trial.
    pub(super) fn predict(&self, trial: &Trial) -> Result<Vec<Observation>> {
        let mut known: Vec<(Protocol, SocketAddr, Vec<Entry>)> = Vec::new();
        trial
            .flows
            .iter()
            .map(|flow| {
                let key = (flow.protocol, flow.to);
                let at = known
                    .iter()
                    .position(|(protocol, to, _)| (*protocol, *to) == key);
                let at = at.unwrap_or_else(|| {
                    known.push((flow.protocol, flow.to, Vec::new()));
                    known.len() - 1
                });
                let entries = &mut known[at].2;
                let outcome = self.flow(flow, entries)?;
                let mut tracks: Vec<Track> = entries.iter().map(|entry| entry.track).collect();
                tracks.retain(|track| track.zone != 0 || track.by_answer);
                tracks.sort();
                Ok(Observation { outcome, tracks })
            })
            .collect()
    }

    fn flow(&self, flow: &Flow, entries: &mut Vec<Entry>) -> Result<Outcome> {
        let source = match flow.source {
            Source::Address(address) => address,
            Source::Any | Source::Port(_) => chosen_source(flow.from, flow.to.ip()),
        };
        let lacks_source = IpAddr::V6(shunt_abi::addr::INBOUND_SOURCE_V6) == source;
        if lacks_source && !self.ipv6 && flow.from == Place::Pod {
            return Ok(Outcome::Failed(Errno::EADDRNOTAVAIL));
        }
        let port = match flow.source {
            Source::Port(port) => port,
            Source::Any | Source::Address(_) => CLIENT_PORT,
        };
        let client = SocketAddr::from((source, port));
        if flow.protocol == Protocol::Stray {
            let packet = explain::Flow {
                state: State::Invalid,
                ..self.first_packet(flow, client)?
            };
            return Ok(match self.ask(&packet)?.fate {
                Fate::Dropped => Outcome::Silent(None),
                // Whoever gets it knows of no such connection.
                _ => Outcome::Refused,
            });
        }
        let first = self.ask(&self.first_packet(flow, client)?)?;
        // In a zone where the connection is known already, nat is not asked again.
        let fate = match entries.iter().find(|entry| entry.track.zone == first.zone) {
            Some(entry) => entry.fate.clone(),
            None => {
                entries.push(Entry {
                    track: Track {
                        zone: first.zone,
                        by_answer: false,
                    },
                    fate: first.fate.clone(),
                });
                first.fate
            }
        };
        let Some(arrival) = self.arrival(flow, source, &fate)? else {
            return Ok(Outcome::Silent(None));
        };
        let mut answer = self.answer(flow, client, &arrival)?;
        answer.connection_mark = first.connection_mark.unwrap_or_default();
        let forwarded = matches!(
            &answer.side,
            Side::Arrives {
                forwarded_by: Some(_),
                ..
            }
        );
        let mut back = self.ask(&answer)?;
        if back.zone != first.zone {
            // There it is no answer, but the first packet of a connection of its own.
            answer.state = State::New;
            answer.answers = false;
            back = self.ask(&answer)?;
        }
        let answer = back;
        let by_mark = self.tproxy.is_some() && answer.mark == self.tproxy;
        if flow.from == Place::Pod && !is_the_pods(source) && !by_mark {
            // It goes to the client whose address the proxy took.
            return Ok(Outcome::Silent(None));
        }
        if forwarded && by_mark {
            // Policy routing takes it for this machine's, which knows of no such connection.
            return Ok(Outcome::Silent(None));
        }
        let translated = matches!(fate, Fate::Redirected { .. });
        if answer.zone != first.zone {
            if translated {
                // Its source is not translated back, so the client does not know it.
                return Ok(Outcome::Silent(Some(arrival)));
            }
            if !entries.iter().any(|entry| entry.track.zone == answer.zone) {
                entries.push(Entry {
                    track: Track {
                        zone: answer.zone,
                        by_answer: true,
                    },
                    fate: Fate::Passes,
                });
            }
        }
        match answer.fate {
            Fate::Passes => Ok(Outcome::Answered(arrival)),
            _ => Ok(Outcome::Silent(Some(arrival))),
        }
    }

    fn first_packet(&self, flow: &Flow, client: SocketAddr) -> Result<explain::Flow> {
        let to = flow.to.ip();
        let side = match flow.from {
            Place::Pod => Side::Sent {
                interface: match flow.owner.mark {
                    // Policy routing takes it for this machine's.
                    Some(mark) if self.tproxy == Some(mark) => "lo",
                    _ => Place::of(to).nic(),
                }
                .to_owned(),
                sender: self.sender(flow.owner)?,
            },
            Place::Peer | Place::Far => Side::Arrives {
                interface: flow.from.nic().to_owned(),
                forwarded_by: (!is_the_pods(to)).then(|| Place::of(to).nic().to_owned()),
            },
        };
        Ok(packet(
            flow,
            side,
            client,
            flow.to,
            flow.owner.mark,
            State::New,
        ))
    }

    /// The first packet back, as the rules meet it.
    fn answer(&self, flow: &Flow, client: SocketAddr, arrival: &Arrival) -> Result<explain::Flow> {
        let owner = if self.is_proxys(flow.protocol, arrival.listener) {
            self.proxy.owner
        } else {
            Owner::APP
        };
        let side = match (arrival.place, flow.from) {
            (Place::Pod, _) => Side::Sent {
                interface: Place::of(client.ip()).nic().to_owned(),
                sender: self.sender(owner)?,
            },
            (from, Place::Pod) => Side::Arrives {
                interface: from.nic().to_owned(),
                forwarded_by: None,
            },
            (from, to) => Side::Arrives {
                interface: from.nic().to_owned(),
                forwarded_by: Some(to.nic().to_owned()),
            },
        };
        let mark = match arrival.place {
            Place::Pod => owner.mark,
            Place::Peer | Place::Far => None,
        };
        Ok(packet(
            flow,
            side,
            arrival.local,
            client,
            mark,
            State::Established,
        ))
    }

    fn sender(&self, owner: Owner) -> Result<Sender> {
        let cgroup = match owner.cgroup {
            Some(cgroup) => self.cgroups.path(cgroup)?.as_str().to_owned(),
            // The test's own, which is none of a policy's.
            None => String::new(),
        };
        Ok(Sender::Socket {
            uid: Some(owner.uid),
            gid: Some(owner.gid),
            cgroup: Some(cgroup),
        })
    }

    fn is_proxys(&self, protocol: Protocol, listener: u16) -> bool {
        let Proxy {
            outbound,
            inbound,
            dns,
            ..
        } = self.proxy;
        match protocol {
            Protocol::Tcp => [Some(outbound), Some(inbound), dns].contains(&Some(listener)),
            Protocol::Udp | Protocol::Stray => dns == Some(listener),
        }
    }

    fn ask(&self, packet: &explain::Flow) -> Result<explain::Outcome> {
        let explained = explain::explain(&self.rules, packet);
        explained
            .verdict
            .certain()
            .cloned()
            .with_context(|| format!("the evaluator is not certain of {packet}: {explained}"))
    }

    /// Who gets the first packet, if anybody does.
    fn arrival(&self, flow: &Flow, source: IpAddr, fate: &Fate) -> Result<Option<Arrival>> {
        let (place, listener, local) = match fate {
            Fate::Dropped => return Ok(None),
            Fate::Passes => match is_the_pods(flow.to.ip()) {
                true => (Place::Pod, flow.to.port(), flow.to),
                false => (Place::of(flow.to.ip()), 0, flow.to),
            },
            Fate::Tproxy { port } => (Place::Pod, *port, flow.to),
            Fate::Redirected {
                port: Some(port),
                to,
            } => {
                let address = match to {
                    RedirectedTo::Loopback(address) => *address,
                    RedirectedTo::PrimaryAddressOf(nic) => place_of(nic).pod_address(flow.family()),
                };
                (Place::Pod, *port, SocketAddr::from((address, *port)))
            }
            other => anyhow::bail!("our rules never say `{other}`"),
        };
        let original = match flow.protocol {
            Protocol::Tcp => flow.to,
            Protocol::Udp | Protocol::Stray => local,
        };
        Ok(Some(Arrival {
            place,
            listener,
            local,
            original,
            source,
            port_kept: true,
        }))
    }
}

fn packet(
    flow: &Flow,
    side: Side,
    source: SocketAddr,
    destination: SocketAddr,
    mark: Option<u32>,
    state: State,
) -> explain::Flow {
    explain::Flow {
        side,
        protocol: match flow.protocol {
            Protocol::Tcp | Protocol::Stray => explain::Protocol::Tcp,
            Protocol::Udp => explain::Protocol::Udp,
        },
        source,
        destination,
        state,
        answers: state == State::Established,
        mark: mark.unwrap_or_default(),
        connection_mark: 0,
    }
}

fn place_of(nic: &str) -> Place {
    match nic {
        "eth0" => Place::Peer,
        "eth1" => Place::Far,
        _ => Place::Pod,
    }
}

/// The source that the kernel chooses for a destination.
fn chosen_source(from: Place, to: IpAddr) -> IpAddr {
    let family = if to.is_ipv4() {
        crate::net::Family::V4
    } else {
        crate::net::Family::V6
    };
    match (from, Place::of(to)) {
        (Place::Pod, Place::Pod) if to.is_loopback() => family.loopback(),
        (Place::Pod, Place::Pod) => to,
        (Place::Pod, place) => place.pod_address(family),
        (outside, _) => outside.own_address(family),
    }
}

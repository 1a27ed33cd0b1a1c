//! One probe at a time: sent, looked for, and the rules' counters read before and after.

use std::collections::HashMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::decide::{Outcome, Way};
use super::flows::Probe;
use super::report::Failure;
use super::sockets::Senders;
use super::stage::{Stage, StageError};
use super::wire::Kind;
use super::zone;
use crate::error::KernelError;
use crate::nft::Nft;
use crate::ruleset::Protocol;

/// The rules' counters, by key.
type Counters = HashMap<String, u64>;

/// Where the rules' counters are.
pub(super) enum Counting<'a> {
    /// In our table.
    Nft(&'a mut Nft),
    /// Only in the text of a program, which would take longer than all probes.
    Nowhere,
}

impl Counting<'_> {
    fn read(&mut self) -> Result<Counters, KernelError> {
        match self {
            Self::Nft(nft) => nft.counters(),
            Self::Nowhere => Ok(Counters::new()),
        }
    }
}

/// Sends probes, and watches.
pub(super) struct Watch<'a> {
    pub(super) stage: &'a Stage,
    senders: Senders,
    counting: Counting<'a>,
    /// Whether the rules put connections into conntrack zones.
    zones: bool,
    counters: Counters,
    /// How long a packet may take.
    patience: Duration,
}

/// How long a packet may take once another was lost.
const ONCE_LOST: Duration = Duration::from_millis(20);

/// Where a packet was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// In the pod, on its way to this port.
    Arrived(u16),
    /// At the far end of the link.
    Left,
    /// Nowhere.
    Nothing,
}

/// What a probe showed to be wrong about which rules.
pub(super) type Wrong = Vec<(String, Failure)>;

impl<'a> Watch<'a> {
    pub(super) fn new(
        stage: &'a Stage,
        mut counting: Counting<'a>,
        zones: bool,
        patience: Duration,
    ) -> Result<Self, KernelError> {
        Ok(Self {
            stage,
            senders: Senders::default(),
            counters: counting.read()?,
            counting,
            zones,
            patience,
        })
    }

    /// Tries one flow.
    pub(super) fn probe(&mut self, probe: &Probe) -> Result<Wrong, StageError> {
        self.forget().map_err(StageError::watching)?;
        if let Err(error) = self.send(probe) {
            let key = probe.decision.keys.last().cloned().unwrap_or_default();
            let failure = Failure {
                expected: expected(probe),
                happened: format!("it could not be sent: {error}"),
            };
            return Ok(vec![(key, failure)]);
        }
        let (sight, counters) = self.observe(probe)?;
        if sight == Sight::Nothing && probe.decision.outcome != Outcome::Dropped {
            // It fails anyhow; that others are lost too need not take as long to be told.
            self.patience = self.patience.min(ONCE_LOST);
        }
        let before = std::mem::replace(&mut self.counters, counters);
        self.take_back(probe).map_err(StageError::watching)?;

        let passed_over: Vec<&String> = probe
            .decision
            .keys
            .iter()
            .filter(|key| self.counts() && self.counters.get(*key) <= before.get(*key))
            .collect();
        let others = self.counted_instead(&before, probe);
        let mut wrong = Wrong::new();
        let expected = expected(probe);
        let seen = happened(sight, probe);
        let ended = ends_as_expected(sight, probe);
        for key in &passed_over {
            let others = if others.is_empty() {
                "no other rule of this table did".to_owned()
            } else {
                format!("instead decided: {}", others.join(", "))
            };
            wrong.push((
                (*key).clone(),
                Failure {
                    expected: expected.clone(),
                    happened: format!("{seen}, and rule {key} did not count it; {others}"),
                },
            ));
        }
        let last = probe.decision.keys.last();
        if !ended && passed_over.is_empty() {
            wrong.push((
                last.cloned().unwrap_or_default(),
                Failure {
                    expected,
                    happened: format!("{seen}, though the rules counted it"),
                },
            ));
        } else if let Some(zone) = self.wrong_zone(probe, &others)? {
            wrong.push(zone);
        }
        Ok(wrong)
    }

    fn counts(&self) -> bool {
        matches!(self.counting, Counting::Nft(_))
    }

    /// How long a packet may take.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Which of these rules have counted nothing since they were looked at last.
    pub(super) fn passed_over(&mut self, keys: &[&str]) -> Result<Vec<String>, KernelError> {
        let before = std::mem::replace(&mut self.counters, self.counting.read()?);
        let silent = |key: &&&str| self.counters.get(**key) <= before.get(**key);
        let keys = keys.iter().filter(|key| self.counts() && silent(key));
        Ok(keys.map(|key| (*key).to_owned()).collect())
    }

    /// Looks away from what came before.
    pub(super) fn forget(&self) -> io::Result<()> {
        for arrivals in &self.stage.arrivals {
            while arrivals.next()?.is_some() {}
        }
        while self.stage.far_end.next()?.is_some() {}
        Ok(())
    }

    fn send(&mut self, probe: &Probe) -> io::Result<()> {
        let flow = &probe.flow;
        match flow.way {
            Way::Sent { sender, .. } => self.senders.send(sender, &flow.ends),
            Way::Arrived if flow.nonsense => self.stage.far_end.send(&flow.ends, Kind::Nonsense),
            Way::Arrived => self.stage.far_end.send(&flow.ends, Kind::First),
        }
    }

    /// A server that was reached by what arrived shall not wait for more.
    fn take_back(&self, probe: &Probe) -> io::Result<()> {
        match probe.flow.way {
            Way::Arrived if probe.flow.ends.protocol == Protocol::Tcp => {
                self.stage.far_end.send(&probe.flow.ends, Kind::Reset)
            }
            _ => Ok(()),
        }
    }

    /// Waits until the packet is seen; if it should vanish, until the rules have counted it.
    fn observe(&mut self, probe: &Probe) -> Result<(Sight, Counters), StageError> {
        let end = Instant::now() + self.patience;
        loop {
            let counters = match probe.decision.outcome {
                Outcome::Dropped => Some(self.counting.read()?),
                _ => None,
            };
            let sight = self.look(probe).map_err(StageError::watching)?;
            let over = Instant::now() > end;
            match counters {
                Some(counters) if sight != Sight::Nothing || self.counted(&counters, probe) => {
                    return Ok((sight, counters));
                }
                None if sight != Sight::Nothing => return Ok((sight, self.counting.read()?)),
                _ if over => return Ok((sight, self.counting.read()?)),
                _ => thread::sleep(Duration::from_micros(50)),
            }
        }
    }

    fn counted(&self, counters: &Counters, probe: &Probe) -> bool {
        let mut keys = probe.decision.keys.iter();
        self.counts() && keys.all(|key| counters.get(key) > self.counters.get(key))
    }

    fn look(&self, probe: &Probe) -> io::Result<Sight> {
        let ends = &probe.flow.ends;
        for arrivals in &self.stage.arrivals {
            while let Some(seen) = arrivals.next()? {
                if arrivals.is_for(ends) && seen.ends.source == ends.source {
                    return Ok(Sight::Arrived(seen.ends.destination.1));
                }
            }
        }
        while let Some(seen) = self.stage.far_end.next()? {
            if seen.ends == *ends {
                return Ok(Sight::Left);
            }
        }
        Ok(Sight::Nothing)
    }

    /// Rules whose counters rose though they should not decide on this flow.
    fn counted_instead(&self, before: &Counters, probe: &Probe) -> Vec<String> {
        let mut others: Vec<String> = self
            .counters
            .iter()
            .filter(|(key, count)| {
                before.get(*key).is_some_and(|before| before < *count)
                    && !probe.decision.keys.contains(*key)
            })
            .map(|(key, _)| key.clone())
            .collect();
        others.sort();
        others
    }

    /// Whether conntrack keeps the flow in another zone than it should.
    fn wrong_zone(
        &self,
        probe: &Probe,
        others: &[String],
    ) -> Result<Option<(String, Failure)>, StageError> {
        let expected = probe.decision.zone;
        let tracked = probe.flow.ends.protocol == Protocol::Udp && !probe.flow.nonsense;
        if !self.zones || !tracked {
            return Ok(None);
        }
        let found = match zone::of(&probe.flow.ends, expected)? {
            zone::Found::Zone(zone) if zone == expected => return Ok(None),
            zone::Found::Zone(zone) => format!("it is in zone {zone}"),
            zone::Found::Nowhere if expected == 0 => return Ok(None),
            zone::Found::Nowhere => "conntrack does not know it".to_owned(),
            // The counters have told that the rule decided.
            zone::Found::Unreadable => return Ok(None),
        };
        let mut keys = probe.decision.keys.iter().chain(others);
        let key = keys.find(|key| key.starts_with("dns/zone"));
        let failure = Failure {
            expected: format!("{} in conntrack zone {expected}", text(probe)),
            happened: found,
        };
        Ok(Some((key.cloned().unwrap_or_default(), failure)))
    }
}

fn ends_as_expected(sight: Sight, probe: &Probe) -> bool {
    let own = probe.flow.ends.destination.1;
    let stays = !matches!(
        probe.flow.way,
        Way::Sent {
            by_loopback: false,
            ..
        }
    );
    match probe.decision.outcome {
        Outcome::Redirected(port) => sight == Sight::Arrived(port),
        Outcome::Passes if stays => sight == Sight::Arrived(own),
        Outcome::Passes => sight == Sight::Left,
        Outcome::Transparent => sight == Sight::Arrived(own),
        Outcome::Dropped => sight == Sight::Nothing,
    }
}

/// A flow in words.
fn text(probe: &Probe) -> String {
    let ends = &probe.flow.ends;
    let protocol = match ends.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    let to = std::net::SocketAddr::from(ends.destination);
    match probe.flow.way {
        Way::Arrived => format!("{protocol} that arrives from {} for {to}", ends.source.0),
        Way::Sent { sender, .. } => {
            let mark = if sender.mark == 0 {
                String::new()
            } else {
                format!(", mark {}", sender.mark)
            };
            format!(
                "{protocol} from uid {}, gid {}{mark} to {to}",
                sender.uid, sender.gid
            )
        }
    }
}

fn expected(probe: &Probe) -> String {
    let flow = text(probe);
    match probe.decision.outcome {
        Outcome::Passes => format!("{flow} to pass"),
        Outcome::Redirected(port) => format!("{flow} to be redirected to port {port}"),
        Outcome::Transparent => format!("{flow} to be handed to the proxy's socket"),
        Outcome::Dropped => format!("{flow} to be dropped"),
    }
}

fn happened(sight: Sight, probe: &Probe) -> String {
    match sight {
        Sight::Arrived(port) if port == probe.flow.ends.destination.1 => {
            "it passed uncaptured to its port".to_owned()
        }
        Sight::Arrived(port) => format!("it went to port {port}"),
        Sight::Left => "it left the pod's stack uncaptured".to_owned(),
        Sight::Nothing => "it was seen nowhere".to_owned(),
    }
}

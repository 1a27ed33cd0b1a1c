//! One probe at a time: sent, looked for, and the rules' counters read before and after.

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::VerifyError;
use super::counting::{Counters, Counting};
use super::decide::{Outcome, Way};
use super::flows::Probe;
use super::others::{self, At, Others, Place};
use super::report::Failure;
use super::shown::Shown;
use super::sockets::{Senders, Sent};
use super::stage::{Stage, StageError};
use super::text;
use super::values::next_port;
use super::wire::Kind;
use super::zone;
use crate::error::KernelError;
use crate::ruleset::{Family, Protocol, Ruleset};

/// Sends probes, and watches.
pub(super) struct Watch<'a> {
    pub(super) stage: &'a Stage,
    rules: &'a Ruleset,
    senders: Senders,
    counting: Counting,
    /// Whether the rules put connections into conntrack zones.
    zones: bool,
    counters: Counters,
    /// How long a packet may take.
    patience: Duration,
    /// Looked for once a packet is lost.
    others: Option<Others>,
    /// Rules and families that are known to count what others' rules, which are named, then drop.
    known: BTreeMap<(String, Family), String>,
}

/// How long a packet may take once another was lost.
const ONCE_LOST: Duration = Duration::from_millis(20);
/// And once it is known who drops them.
const ONCE_KNOWN: Duration = Duration::from_millis(4);

/// Where a packet was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// In the pod, on its way to this port.
    Arrived(u16),
    /// At the far end of the link.
    Left,
    /// Nowhere.
    Nothing,
}

/// How far a packet that was lost had come.
enum Lost {
    /// The rules decided on it as they should; then others' rules, which are named, dropped it.
    Hidden(String),
    /// These rules did not count it.
    Missed(Vec<String>),
    /// They all did, and nobody else is there who could have dropped it.
    Unexplained,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        stage: &'a Stage,
        rules: &'a Ruleset,
        mut counting: Counting,
        zones: bool,
        patience: Duration,
    ) -> Result<Self, VerifyError> {
        let counters = match &counting {
            Counting::Nft(_) => counting.read()?,
            Counting::Iptables(_) => Counters::new(),
        };
        Ok(Self {
            stage,
            rules,
            senders: Senders::default(),
            counters,
            counting,
            zones,
            patience,
            others: None,
            known: BTreeMap::new(),
        })
    }

    /// Tries one flow.
    pub(super) fn probe(&mut self, probe: &Probe) -> Result<Shown, StageError> {
        self.forget().map_err(StageError::watching)?;
        let sent = match self.send(probe) {
            Ok(sent) => sent,
            Err(error) => {
                let key = probe.decision.keys.last().cloned().unwrap_or_default();
                let happened = format!("it could not be sent: {error}");
                return Ok(Shown::wrong(key, probe, happened));
            }
        };
        let (sight, counted) = self.observe(probe, sent)?;
        self.take_back(probe).map_err(StageError::watching)?;
        let ended = ends_as_expected(sight, probe);
        if ended && self.rose(&counted, probe) {
            self.counters.extend(counted);
            return self.zone(probe);
        }
        let counters = self.count()?;
        let before = std::mem::replace(&mut self.counters, counters);
        if sight == Sight::Nothing && !ended {
            // It is lost anyhow; that others are lost too need not take as long to be told.
            self.patience = self.patience.min(ONCE_LOST);
            let missed = match self.lost(probe, &before)? {
                Lost::Hidden(who) => {
                    self.patience = self.patience.min(ONCE_KNOWN);
                    return Ok(Shown::hidden(probe, &who));
                }
                Lost::Missed(missed) => missed,
                Lost::Unexplained => Vec::new(),
            };
            return Ok(self.misled(probe, sight, ended, &missed, &before));
        }
        let missed = self.passed_over_since(&before, &probe.decision.keys);
        Ok(self.misled(probe, sight, ended, &missed, &before))
    }

    /// What is wrong where a packet was seen, or which rules it missed.
    fn misled(
        &mut self,
        probe: &Probe,
        sight: Sight,
        ended: bool,
        missed: &[String],
        before: &Counters,
    ) -> Shown {
        let mut shown = Shown::default();
        let seen = text::happened(sight, probe);
        let family = probe.flow.family();
        let way = others::way(probe);
        for key in missed {
            let others = self.counted_instead(before, probe);
            let others = if others.is_empty() {
                "no other rule of Shunt's did".to_owned()
            } else {
                format!("instead decided: {}", others.join(", "))
            };
            let mut happened = format!("{seen}, and rule {key} did not count it; {others}");
            let place = others::place(self.rules, key);
            if let Some(who) = self.others().between(way, family, None, place) {
                happened = format!("{happened}; before it come others' rules: {who}");
            }
            shown
                .wrong
                .extend(Shown::wrong(key.clone(), probe, happened).wrong);
        }
        if !ended && missed.is_empty() {
            let last = probe.decision.keys.last().cloned().unwrap_or_default();
            let mut happened = match (self.counts(), probe.decision.keys.is_empty()) {
                (true, false) => format!("{seen}, though the rules counted it"),
                _ => seen,
            };
            if let Some(who) = self.others().between(way, family, None, None) {
                happened = format!("{happened}; others' rules on its way: {who}");
            }
            shown
                .wrong
                .extend(Shown::wrong(last, probe, happened).wrong);
        }
        shown
    }

    /// Whose doing it is that a packet was seen nowhere.
    fn lost(&mut self, probe: &Probe, before: &Counters) -> Result<Lost, StageError> {
        let family = probe.flow.family();
        let keys = &probe.decision.keys;
        let way = others::way(probe);
        let leg = (keys.last().cloned().unwrap_or_default(), family);
        let missed = if self.counts() {
            self.passed_over_since(before, keys)
        } else if let Some(who) = self.known.get(&leg) {
            return Ok(Lost::Hidden(who.clone()));
        } else if self.others().between(way, family, None, None).is_some() {
            self.missed_again(probe)?
        } else {
            return Ok(Lost::Unexplained);
        };
        let seen = keys.iter().take_while(|key| !missed.contains(key)).count();
        if seen == 0 && !keys.is_empty() || keys[seen..].len() > missed.len() {
            return Ok(Lost::Missed(missed));
        }
        let place = |key: &String| others::place(self.rules, key);
        let from = seen.checked_sub(1).and_then(|index| place(&keys[index]));
        let to = keys.get(seen).and_then(place);
        let who = self.others().between(way, family, from, to);
        Ok(match who {
            Some(who) => {
                self.known.insert(leg, who.clone());
                Lost::Hidden(who)
            }
            None if missed.is_empty() => Lost::Unexplained,
            None => Lost::Missed(missed),
        })
    }

    /// Sends a lost packet again, from another port, while a program reads the counters: which
    /// rules did not count it?
    fn missed_again(&mut self, probe: &Probe) -> Result<Vec<String>, StageError> {
        const WELL_KNOWN: u16 = 1024;
        let before = self.counting.read()?;
        let mut again = probe.clone();
        if again.flow.ends.source.1 >= WELL_KNOWN {
            again.flow.ends.source.1 = next_port();
        }
        self.send(&again).map_err(StageError::watching)?;
        thread::sleep(ONCE_KNOWN);
        let after = self.counting.read()?;
        let silent = |key: &&String| after.get(*key) <= before.get(*key);
        let keys = probe.decision.keys.iter();
        Ok(keys.filter(silent).cloned().collect())
    }

    /// Others' rules; looked for once.
    fn others(&mut self) -> &Others {
        self.others.get_or_insert_with(Others::read)
    }

    /// Who could have dropped packets on a way behind a rule, and is named.
    pub(super) fn behind(&mut self, way: &[At], family: Family, key: &str) -> Option<String> {
        let from: Option<Place> = others::place(self.rules, key);
        self.others().between(way, family, from, None)
    }

    /// Which of these rules have counted nothing since then.
    fn passed_over_since(&self, before: &Counters, keys: &[String]) -> Vec<String> {
        let silent = |key: &&String| self.counters.get(*key) <= before.get(*key);
        let keys = keys.iter().filter(|key| self.counts() && silent(key));
        keys.cloned().collect()
    }

    fn counts(&self) -> bool {
        matches!(self.counting, Counting::Nft(_))
    }

    /// How long a packet may take.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Which of these rules have counted nothing since they were looked at last.
    pub(super) fn passed_over(&mut self, keys: &[&str]) -> Result<Vec<String>, StageError> {
        if !self.counts() {
            return Ok(Vec::new());
        }
        let before = std::mem::replace(&mut self.counters, self.counting.read()?);
        let silent = |key: &&&str| self.counters.get(**key) <= before.get(**key);
        let keys = keys.iter().filter(silent);
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

    fn send(&mut self, probe: &Probe) -> io::Result<Sent> {
        let flow = &probe.flow;
        let kind = if flow.nonsense {
            Kind::Nonsense
        } else {
            Kind::First
        };
        match flow.way {
            Way::Sent { sender, .. } => self.senders.send(sender, &flow.ends),
            Way::Arrived => {
                self.stage.far_end.send(&flow.ends, kind)?;
                Ok(Sent::Away)
            }
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
    fn observe(&mut self, probe: &Probe, sent: Sent) -> Result<(Sight, Counters), StageError> {
        let vanishes = probe.decision.outcome == Outcome::Dropped;
        let patience = match sent {
            Sent::Dropped => Duration::ZERO,
            // Nothing tells that it was dropped, but that it does not come.
            Sent::Away if vanishes && !self.counts() => ONCE_KNOWN,
            Sent::Away => self.patience,
        };
        let end = Instant::now() + patience;
        loop {
            let sight = self.look(probe).map_err(StageError::watching)?;
            let over = Instant::now() > end;
            if sight != Sight::Nothing || vanishes || over {
                let counted = self.counted(probe)?;
                let seen = sight != Sight::Nothing || (self.counts() && self.rose(&counted, probe));
                if seen || over {
                    return Ok((sight, counted));
                }
            }
            thread::sleep(Duration::from_micros(50));
        }
    }

    /// The counters of the rules that should decide on a probe, where that takes no program.
    fn counted(&mut self, probe: &Probe) -> Result<Counters, KernelError> {
        match &mut self.counting {
            Counting::Nft(table) => table.of(&probe.decision.keys),
            Counting::Iptables(_) => Ok(Counters::new()),
        }
    }

    /// All counters, where reading them takes no program.
    fn count(&mut self) -> Result<Counters, VerifyError> {
        if self.counts() {
            self.counting.read()
        } else {
            Ok(Counters::new())
        }
    }

    /// Whether all rules that should decide on a probe have counted it, as far as that is known.
    fn rose(&self, counted: &Counters, probe: &Probe) -> bool {
        let mut keys = probe.decision.keys.iter();
        !self.counts() || keys.all(|key| counted.get(key) > self.counters.get(key))
    }

    fn look(&self, probe: &Probe) -> io::Result<Sight> {
        let ends = &probe.flow.ends;
        let arrivals = self.stage.arrivals.iter();
        for arrivals in arrivals.filter(|arrivals| arrivals.is_for(ends)) {
            while let Some(seen) = arrivals.next()? {
                if seen.ends.source == ends.source {
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

    /// Whether conntrack keeps the flow in the zone that it should be in.
    fn zone(&mut self, probe: &Probe) -> Result<Shown, StageError> {
        let expected = probe.decision.zone;
        let tracked = probe.flow.ends.protocol == Protocol::Udp && !probe.flow.nonsense;
        if !self.zones || !tracked {
            return Ok(Shown::default());
        }
        let found = match zone::of(&probe.flow.ends, expected)? {
            zone::Found::Zone(zone) if zone == expected => return Ok(Shown::default()),
            zone::Found::Zone(zone) => format!("it is in zone {zone}"),
            zone::Found::Nowhere if expected == 0 => return Ok(Shown::default()),
            zone::Found::Nowhere => "conntrack does not know it".to_owned(),
            // The counters have told that the rule decided.
            zone::Found::Unreadable => return Ok(Shown::default()),
        };
        let counters = self.count()?;
        let before = std::mem::replace(&mut self.counters, counters);
        let others = self.counted_instead(&before, probe);
        let mut keys = probe.decision.keys.iter().chain(&others);
        let key = keys.find(|key| key.starts_with("dns/zone"));
        let failure = Failure {
            expected: format!("{} in conntrack zone {expected}", text::flow(probe)),
            happened: found,
        };
        Ok(Shown {
            wrong: vec![(key.cloned().unwrap_or_default(), failure)],
            ..Shown::default()
        })
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

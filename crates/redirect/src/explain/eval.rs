//! A packet's way through the rules, in the kernel's order.
//!
//! Arriving: PREROUTING, then INPUT, or FORWARD and POSTROUTING. Sent: OUTPUT, POSTROUTING, and if
//! it leaves by `lo`, PREROUTING and INPUT once more. At each hook the base chains of all tables by
//! priority, conntrack between those below -200 and the rest, and all NAT chains where NAT stands
//! (Linux, `net/netfilter/core.c`, `nf_nat_core.c`).
//!
//! Where a rule asks for what is not known, the way forks. Ways that meet again with equal packets
//! are one.

use std::collections::BTreeSet;

use super::Options;
use super::flow::{Flow, Side};
use super::model::{Base, Chain, Hook, Kind, Rules};
use super::packet::{Interface, Packet};
use super::rule::Exit;
use super::trail::{Footprint, Here, Trail};
use super::verdict::{Case, Explanation, Fate, Matched, NatNotAsked, Step, Verdict};

/// How many ways are followed at once.
const WAYS: usize = 64;

/// One of the ways that a packet may take.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) packet: Packet,
    /// Its last step in the trail.
    pub(super) last: Option<usize>,
}

/// The ways through a chain, by how they leave it.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub(super) returned: Vec<Way>,
    pub(super) accepted: Vec<Way>,
}

pub(super) fn explain(rules: &Rules, flow: &Flow, options: Options) -> Explanation {
    let mut walk = Walk {
        rules,
        options,
        ended: Vec::new(),
        doubts: BTreeSet::new(),
        ends: 0,
        visits: 0,
        trail: Trail::default(),
        exhaustive: true,
    };
    walk.start(flow);
    walk.explanation()
}

pub(super) struct Walk<'a> {
    pub(super) rules: &'a Rules,
    pub(super) options: Options,
    ended: Vec<Case>,
    pub(super) doubts: BTreeSet<String>,
    /// How many ways have ended.
    pub(super) ends: usize,
    /// How many rules were looked at.
    pub(super) visits: usize,
    trail: Trail<'a>,
    pub(super) exhaustive: bool,
}

impl<'a> Walk<'a> {
    fn start(&mut self, flow: &Flow) {
        let way = Way {
            packet: Packet::of(flow),
            last: None,
        };
        let missing = self.rules.missing.iter();
        for (_, what) in missing.filter(|(family, _)| *family == way.packet.family) {
            self.doubts.insert(what.clone());
            self.ended.push(Case {
                outcome: way.packet.clone().outcome(Some(Fate::Unknown)),
                trace: Vec::new(),
            });
        }
        if !self.ended.is_empty() {
            return;
        }
        let ways = match &flow.side {
            Side::Arrives { forwarded_by, .. } => {
                let ways = self.hook(Hook::Ingress, vec![way]);
                let ways = self.hook(Hook::Prerouting, ways);
                let (here, on): (Vec<_>, Vec<_>) = ways
                    .into_iter()
                    .partition(|way| way.packet.capture.is_some() || forwarded_by.is_none());
                let mut ways = self.hook(Hook::Input, here);
                if let Some(interface) = forwarded_by {
                    ways.extend(self.forward(interface, on));
                }
                ways
            }
            Side::Sent { .. } => self.sent(way),
        };
        for way in ways {
            self.end(way, None);
        }
    }

    fn forward(&mut self, interface: &str, mut ways: Vec<Way>) -> Vec<Way> {
        for way in &mut ways {
            way.packet.leave_by(interface);
        }
        let ways = self.hook(Hook::Forward, ways);
        let ways = self.hook(Hook::Postrouting, ways);
        self.hook(Hook::Egress, ways)
    }

    fn sent(&mut self, way: Way) -> Vec<Way> {
        let decided = self.hook(Hook::Output, vec![way]);
        let routed = decided.into_iter().flat_map(|way| self.routed(way));
        let routed = routed.collect();
        let ways = self.hook(Hook::Postrouting, routed);
        let ways = self.hook(Hook::Egress, ways);
        let (mut loopback, mut out): (Vec<_>, Vec<_>) = ways
            .into_iter()
            .partition(|way| way.packet.leaves_by.is_loopback());
        for way in &mut loopback {
            way.packet.arrive_on_loopback();
            self.step(way, Footprint::ArrivesOnLoopback);
        }
        let arrived = self.hook(Hook::Ingress, loopback);
        let arrived = self.hook(Hook::Prerouting, arrived);
        out.extend(self.hook(Hook::Input, arrived));
        out
    }

    /// Where a packet leaves after OUTPUT: its mark and its new destination may have changed that.
    fn routed(&mut self, mut way: Way) -> Vec<Way> {
        way.packet.route();
        let mut perhaps = way.packet.leaves_by == Interface::Unknown;
        if !way.packet.leaves_by.is_loopback() {
            let family = way.packet.family;
            let marks = self.rules.local_marks.iter();
            for local in marks.filter(|local| local.family == family) {
                match way.packet.mark {
                    Some(mark) if mark == local.mark => {
                        way.packet.leave_by("lo");
                        self.step(&mut way, Footprint::DeliveredByMark(mark));
                        return vec![way];
                    }
                    Some(_) => {}
                    None => perhaps = true,
                }
            }
        }
        if !perhaps {
            return vec![way];
        }
        self.doubts.insert(
            "whether the packet then leaves by lo: its mark or destination is not known".to_owned(),
        );
        let mut by_loopback = way.clone();
        by_loopback.packet.leave_by("lo");
        vec![way, by_loopback]
    }

    /// All base chains at a hook, one after the other.
    fn hook(&mut self, hook: Hook, mut ways: Vec<Way>) -> Vec<Way> {
        for way in &mut ways {
            way.packet.enter(hook);
        }
        if ways.is_empty() {
            return ways;
        }
        let family = ways[0].packet.family;
        let rules = self.rules;
        let mut chains: Vec<_> = rules
            .chains
            .iter()
            .filter(|chain| chain.family.is_none_or(|only| only == family))
            .filter_map(|chain| Some((chain, chain.base.as_ref()?)))
            .filter(|(_, base)| base.hook == hook)
            .collect();
        chains.sort_by_key(|(_, base)| base.order());
        for (chain, base) in chains {
            if !base.is_before_conntrack() {
                ways.iter_mut().for_each(|way| way.packet.track());
            }
            ways = self.base_chain(chain, base, ways);
        }
        if hook != Hook::Ingress {
            ways.iter_mut().for_each(|way| way.packet.track());
        }
        ways
    }

    fn base_chain(&mut self, chain: &'a Chain, base: &Base, ways: Vec<Way>) -> Vec<Way> {
        let mut through = Vec::new();
        let mut inside = Vec::new();
        for mut way in ways {
            let skip = match base.kind {
                Kind::Nat => nat_not_asked(base.hook, &way.packet),
                Kind::Filter | Kind::Route => None,
            };
            match skip {
                None => inside.push(way),
                Some(why) => {
                    // That an empty chain is not asked is not worth a word.
                    if let Some(why) = why.filter(|_| !chain.rules.is_empty()) {
                        self.not_asked(&mut way, base.hook, why);
                    }
                    through.push(way);
                }
            }
        }
        let left = self.chain(chain, inside, 0);
        for mut way in left.returned {
            if base.drops {
                self.step(&mut way, Footprint::Policy(chain));
                self.end(way, Some(Fate::Dropped));
            } else {
                through.push(way);
            }
        }
        through.extend(left.accepted);
        self.merged(through)
    }

    pub(super) fn chain(&mut self, chain: &'a Chain, mut ways: Vec<Way>, depth: usize) -> Left {
        let mut left = Left::default();
        for (index, rule) in chain.rules.iter().enumerate() {
            let here = Here {
                chain,
                rule,
                number: index + 1,
                depth,
            };
            let mut next = Vec::with_capacity(ways.len());
            for way in ways {
                for (way, exit) in self.rule(here, way) {
                    match exit {
                        Exit::Next => next.push(way),
                        Exit::Return => left.returned.push(way),
                        Exit::Accept => left.accepted.push(way),
                    }
                }
            }
            ways = self.merged(next);
            if ways.is_empty() {
                break;
            }
        }
        left.returned.extend(ways);
        left.returned = self.merged(left.returned);
        left.accepted = self.merged(left.accepted);
        left
    }

    pub(super) fn end(&mut self, way: Way, fate: Option<Fate>) {
        self.ends += 1;
        let outcome = way.packet.outcome(fate);
        if self.ended.iter().all(|case| case.outcome != outcome) {
            let trace = self.trail.told(way.last);
            self.ended.push(Case { outcome, trace });
        }
    }

    pub(super) fn step(&mut self, way: &mut Way, step: Footprint<'a>) {
        way.last = Some(self.trail.push(step, way.last));
    }

    /// Tells once of all NAT chains at a hook.
    fn not_asked(&mut self, way: &mut Way, hook: Hook, why: NatNotAsked) {
        let last = self.trail.last(way.last);
        if !matches!(last, Some(Footprint::NatNotAsked(told, _)) if told == hook) {
            self.step(way, Footprint::NatNotAsked(hook, why));
        }
    }

    /// Ways with equal packets are one.
    fn merged(&mut self, ways: Vec<Way>) -> Vec<Way> {
        if ways.len() < 2 {
            return ways;
        }
        let mut distinct: Vec<Way> = Vec::with_capacity(ways.len());
        for way in ways {
            if distinct.iter().all(|other| other.packet != way.packet) {
                distinct.push(way);
            }
        }
        if distinct.len() > WAYS {
            self.exhaustive = false;
            distinct.truncate(WAYS);
        }
        distinct
    }

    fn explanation(mut self) -> Explanation {
        // First what happens if no rule matches that only might.
        self.ended.sort_by_key(|case| {
            let rules = case.trace.iter();
            rules
                .filter(|step| matches!(step, Step::Rule(rule) if rule.matched == Matched::Perhaps))
                .count()
        });
        if self.exhaustive && self.ended.len() == 1 && self.ended[0].outcome.fate != Fate::Unknown {
            let case = self.ended.remove(0);
            return Explanation {
                verdict: Verdict::Certain(case.outcome),
                trace: case.trace,
            };
        }
        Explanation {
            trace: self
                .ended
                .first()
                .map(|case| case.trace.clone())
                .unwrap_or_default(),
            verdict: Verdict::Depends {
                cases: self.ended,
                on: self.doubts.into_iter().collect(),
                exhaustive: self.exhaustive,
            },
        }
    }
}

/// Whether NAT passes a packet by, and if that is worth telling, why.
#[expect(
    clippy::option_option,
    reason = "whether it is passed by, and whether there is more to say"
)]
fn nat_not_asked(hook: Hook, packet: &Packet) -> Option<Option<NatNotAsked>> {
    let decided = if hook.is_destination_nat() {
        packet.destination_decided
    } else {
        packet.source_decided
    };
    if decided {
        return Some(None);
    }
    // Sent packets have been through OUTPUT and POSTROUTING, where both ends were decided on.
    if matches!(hook, Hook::Prerouting | Hook::Input) && packet.arrived_by.is_loopback() {
        return Some(Some(NatNotAsked::DecidedWhenSent));
    }
    match packet.nat_state() {
        Ok(()) => None,
        Err(why) => Some(Some(why)),
    }
}

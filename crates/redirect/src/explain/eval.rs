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
use super::fields;
use super::flow::{Flow, Side};
use super::model::{Action, Base, Chain, Clause, Dialect, Hook, Kind, Rule, Rules, Tproxy};
use super::packet::{Finding, Interface, Packet};
use super::verdict::{Case, Explanation, Fate, Matched, NatNotAsked, RuleStep, Step, Verdict};

/// How many ways are followed at once.
const WAYS: usize = 64;
/// How many rules are looked at in all.
const STEPS: usize = 500_000;
/// How many steps of a way are told, the last ones.
const SHOWN: usize = 10_000;
/// How deep chains may call each other. nf_tables allows 16.
const DEPTH: usize = 64;

/// One of the ways that a packet may take.
#[derive(Clone, Debug)]
struct Way {
    packet: Packet,
    /// Its last step, in [`Walk::steps`].
    last: Option<usize>,
}

/// A step, and the one before it. Ways that fork have the same beginning.
struct Trodden<'a> {
    step: Footprint<'a>,
    before: Option<usize>,
}

/// What a step is made of.
#[derive(Clone, Copy)]
enum Footprint<'a> {
    Rule(Here<'a>, Matched),
    Policy(&'a Chain),
    NatNotAsked(Hook, NatNotAsked),
    DeliveredByMark(u32),
    ArrivesOnLoopback,
}

/// How a way leaves a rule or chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// On to the next rule.
    Next,
    /// Back to the caller.
    Return,
    /// Out of the base chain.
    Accept,
}

/// The ways through a chain, by how they leave it.
#[derive(Debug, Default)]
struct Left {
    returned: Vec<Way>,
    accepted: Vec<Way>,
}

pub(super) fn explain(rules: &Rules, flow: &Flow, options: Options) -> Explanation {
    let mut walk = Walk {
        rules,
        options,
        ended: Vec::new(),
        doubts: BTreeSet::new(),
        ends: 0,
        visits: 0,
        steps: Vec::new(),
        exhaustive: true,
    };
    walk.start(flow);
    walk.explanation()
}

struct Walk<'a> {
    rules: &'a Rules,
    options: Options,
    ended: Vec<Case>,
    doubts: BTreeSet<String>,
    /// How many ways have ended.
    ends: usize,
    /// How many rules were looked at.
    visits: usize,
    steps: Vec<Trodden<'a>>,
    exhaustive: bool,
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
                    if let Some(why) = why {
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

    fn chain(&mut self, chain: &'a Chain, mut ways: Vec<Way>, depth: usize) -> Left {
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

    /// One rule for one way. Where it forks, the case in which the rule does not match comes first.
    fn rule(&mut self, here: Here<'a>, way: Way) -> Vec<(Way, Exit)> {
        self.visits += 1;
        if self.visits > STEPS {
            self.exhaustive = false;
            self.end(way, Some(Fate::Unknown));
            return Vec::new();
        }
        let mut exits = Vec::new();
        let mut doubts = Vec::new();
        let ends = self.ends;
        let matched = self.clauses(here, way, &mut exits, &mut doubts);
        if let Some((way, exit)) = matched {
            exits.push((way, exit));
        }
        // A doubt that changes nothing is none.
        let alike = self.ends == ends
            && exits
                .iter()
                .all(|(way, exit)| way.packet == exits[0].0.packet && *exit == exits[0].1);
        if alike {
            exits.truncate(1);
        } else {
            self.doubts.extend(doubts);
        }
        exits
    }

    /// The way on which every test holds; ways that leave before are put into `exits`.
    fn clauses(
        &mut self,
        here: Here<'a>,
        mut way: Way,
        exits: &mut Vec<(Way, Exit)>,
        doubts: &mut Vec<String>,
    ) -> Option<(Way, Exit)> {
        let mut matched = Matched::Yes;
        let mut told = false;
        for clause in &here.rule.clauses {
            let action = match clause {
                Clause::Act(action) => action,
                Clause::Test(condition) => {
                    match way.packet.finds(condition, here.chain.dialect) {
                        Finding::Yes => {}
                        Finding::No | Finding::Absent => {
                            if self.options.all_rules && !told {
                                self.step(&mut way, Footprint::Rule(here, Matched::No));
                            }
                            exits.push((way, Exit::Next));
                            return None;
                        }
                        Finding::Unknown(what) => {
                            doubts.push(format!("{what}: {here}"));
                            exits.push((way.clone(), Exit::Next));
                            matched = Matched::Perhaps;
                        }
                    }
                    continue;
                }
            };
            if !told {
                self.step(&mut way, Footprint::Rule(here, matched));
                told = true;
            }
            match self.act(here, action, way, exits, doubts) {
                Done::GoOn(on) => way = on,
                Done::Left(way, exit) => return Some((way, exit)),
                Done::Gone => return None,
            }
        }
        if !told {
            self.step(&mut way, Footprint::Rule(here, matched));
        }
        Some((way, Exit::Next))
    }

    fn act(
        &mut self,
        here: Here<'a>,
        action: &Action,
        mut way: Way,
        exits: &mut Vec<(Way, Exit)>,
        doubts: &mut Vec<String>,
    ) -> Done {
        let packet = &mut way.packet;
        match action {
            Action::Nothing => {}
            Action::Accept => return Done::Left(way, Exit::Accept),
            Action::Return => return Done::Left(way, Exit::Return),
            Action::Drop => return self.gone(way, Fate::Dropped),
            Action::Reject => return self.gone(way, Fate::Rejected),
            Action::Jump(target) => return self.call(here, *target, Exit::Next, way, exits),
            Action::Goto(target) => return self.call(here, *target, Exit::Return, way, exits),
            Action::SetMark(value) => {
                if packet.set_mark(value).is_err() && here.chain.dialect == Dialect::Nft {
                    return Done::Left(way, Exit::Next);
                }
            }
            Action::SetConnectionMark(value) => {
                if packet.set_connection_mark(value).is_err() && here.chain.dialect == Dialect::Nft
                {
                    return Done::Left(way, Exit::Next);
                }
            }
            Action::Zone(zone) => packet.set_zone(*zone),
            Action::NoTrack => packet.leave_untracked(),
            Action::Redirect(ports) => {
                packet.redirect(*ports);
                return Done::Left(way, Exit::Accept);
            }
            Action::DestinationNat(to) => {
                packet.translate_destination(*to);
                return Done::Left(way, Exit::Accept);
            }
            Action::SourceNat(to) => {
                packet.translate_source(*to);
                return Done::Left(way, Exit::Accept);
            }
            Action::Tproxy(to) => return self.tproxy(to, way),
            Action::Unknown(what) => {
                doubts.push(format!("{what}: {here}"));
                exits.push((way.clone(), Exit::Next));
                return self.gone(way, Fate::Unknown);
            }
        }
        Done::GoOn(way)
    }

    fn tproxy(&mut self, to: &Tproxy, mut way: Way) -> Done {
        let found = self.options.listener && way.packet.hand_over(to.port);
        match to.xtables {
            Some((value, mask)) if found => {
                way.packet.mark = way.packet.mark.map(|mark| (mark & !mask) ^ value);
                Done::Left(way, Exit::Accept)
            }
            Some(_) => self.gone(way, Fate::Dropped),
            None if found => Done::GoOn(way),
            None => Done::Left(way, Exit::Next),
        }
    }

    /// Through another chain; what returns from it goes on as `back` says.
    fn call(
        &mut self,
        here: Here<'a>,
        target: usize,
        back: Exit,
        way: Way,
        exits: &mut Vec<(Way, Exit)>,
    ) -> Done {
        let rules = self.rules;
        let Some(target) = rules.chains.get(target).filter(|_| here.depth < DEPTH) else {
            self.doubts
                .insert(format!("chains that call each other without end: {here}"));
            return self.gone(way, Fate::Unknown);
        };
        let left = self.chain(target, vec![way], here.depth + 1);
        let accepted = left.accepted.into_iter().map(|way| (way, Exit::Accept));
        exits.extend(left.returned.into_iter().map(|way| (way, back)));
        exits.extend(accepted);
        Done::Gone
    }

    fn gone(&mut self, way: Way, fate: Fate) -> Done {
        self.end(way, Some(fate));
        Done::Gone
    }

    fn end(&mut self, way: Way, fate: Option<Fate>) {
        self.ends += 1;
        let outcome = way.packet.outcome(fate);
        if self.ended.iter().all(|case| case.outcome != outcome) {
            let trace = self.trace(way.last);
            self.ended.push(Case { outcome, trace });
        }
    }

    fn step(&mut self, way: &mut Way, step: Footprint<'a>) {
        let before = way.last.replace(self.steps.len());
        self.steps.push(Trodden { step, before });
    }

    /// Tells once of all NAT chains at a hook.
    fn not_asked(&mut self, way: &mut Way, hook: Hook, why: NatNotAsked) {
        let last = way.last.map(|last| self.steps[last].step);
        if !matches!(last, Some(Footprint::NatNotAsked(told, _)) if told == hook) {
            self.step(way, Footprint::NatNotAsked(hook, why));
        }
    }

    /// The steps up to this one.
    fn trace(&self, last: Option<usize>) -> Vec<Step> {
        let next = |at: &usize| self.steps[*at].before;
        let steps = std::iter::successors(last, next);
        let mut trace: Vec<_> = steps
            .take(SHOWN)
            .map(|at| self.steps[at].step.told())
            .collect();
        trace.reverse();
        trace
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

/// What became of a way in an action.
enum Done {
    /// On to the rule's next step.
    GoOn(Way),
    /// It leaves the rule.
    Left(Way, Exit),
    /// It has ended, or was sent on already.
    Gone,
}

/// Where a way is.
#[derive(Clone, Copy)]
struct Here<'a> {
    chain: &'a Chain,
    rule: &'a Rule,
    number: usize,
    depth: usize,
}

impl Footprint<'_> {
    fn told(self) -> Step {
        match self {
            Self::Rule(here, matched) => here.step(matched),
            Self::Policy(chain) => Step::Policy {
                table: chain.table.clone(),
                chain: chain.name.clone(),
            },
            Self::NatNotAsked(hook, why) => Step::NatNotAsked(hook, why),
            Self::DeliveredByMark(mark) => Step::DeliveredByMark(mark),
            Self::ArrivesOnLoopback => Step::ArrivesOnLoopback,
        }
    }
}

impl Here<'_> {
    fn step(&self, matched: Matched) -> Step {
        let label = &self.rule.label;
        Step::Rule(RuleStep {
            table: self.chain.table.clone(),
            chain: self.chain.name.clone(),
            number: self.number,
            comment: label.comment.clone(),
            text: label.text.clone(),
            matched,
            field: label.comment.as_deref().and_then(fields::of),
        })
    }
}

impl std::fmt::Display for Here<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Chain { table, name, .. } = self.chain;
        write!(
            f,
            "{table} {name} rule {}: {}",
            self.number, self.rule.label.text
        )
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

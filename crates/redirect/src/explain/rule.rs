//! One rule, for one of the ways that a packet may take.

use super::eval::{Walk, Way};
use super::finding::Finding;
use super::model::{Action, Clause, Dialect, Tproxy};
use super::trail::{Footprint, Here};
use super::verdict::{Fate, Matched};

/// How many rules are looked at in all.
const STEPS: usize = 500_000;
/// How deep chains may call each other. nf_tables allows 16.
const DEPTH: usize = 64;

/// How a way leaves a rule or chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// On to the next rule.
    Next,
    /// Back to the caller.
    Return,
    /// Out of the base chain.
    Accept,
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

impl<'a> Walk<'a> {
    /// One rule for one way. Where it forks, the case in which the rule does not match comes first.
    pub(super) fn rule(&mut self, here: Here<'a>, way: Way) -> Vec<(Way, Exit)> {
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
}

//! The values at which rules may decide otherwise than next to them: the ends of every interval that
//! a rule asks for, and their neighbours.

use std::collections::BTreeSet;

use super::model::{Clause, Rules, Test};
use crate::ranges::Scalar;

/// The intervals and names that rules ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    ports: Intervals<u16>,
    v4: Intervals<u32>,
    v6: Intervals<u128>,
    uids: Intervals<u32>,
    gids: Intervals<u32>,
    marks: Intervals<u32>,
    protocols: Intervals<u16>,
    interfaces: BTreeSet<String>,
    cgroups: BTreeSet<String>,
}

type Intervals<T> = BTreeSet<(T, T)>;

impl Asked {
    pub(super) fn by(rules: &Rules) -> Self {
        let mut asked = Self::default();
        let marks = rules
            .local_marks
            .iter()
            .map(|local| (local.mark, local.mark));
        asked.marks.extend(marks);
        let rules = rules.chains.iter().flat_map(|chain| &chain.rules);
        for clause in rules.flat_map(|rule| &rule.clauses) {
            if let Clause::Test(condition) = clause {
                asked.add(&condition.test);
            }
        }
        asked
    }

    fn add(&mut self, test: &Test) {
        match test {
            Test::Interface(_, patterns) => {
                let stems = patterns.iter().map(|pattern| pattern.stem.clone());
                self.interfaces.extend(stems);
            }
            Test::Protocol(numbers) => self.protocols.extend(numbers.iter()),
            Test::V4(_, block) => self.v4.extend(block.iter()),
            Test::V6(_, block) => self.v6.extend(block.iter()),
            Test::Port(_, protocol, ports) => {
                let number = protocol.map(|protocol| u16::from(protocol.number()));
                self.protocols.extend(number.map(|number| (number, number)));
                self.ports.extend(ports.iter());
            }
            Test::EitherPort(ports) => self.ports.extend(ports.iter()),
            Test::Uid(ids) => self.uids.extend(ids.iter()),
            Test::Gid(ids) => self.gids.extend(ids.iter()),
            Test::Mark { values, .. } | Test::ConnectionMark { values, .. } => {
                self.marks.extend(values.iter());
            }
            Test::Cgroup { path } => {
                self.cgroups.insert(path.clone());
            }
            Test::Family(_)
            | Test::Socket
            | Test::States(_)
            | Test::Original
            | Test::Local(_)
            | Test::Unknown(_) => {}
        }
    }
}

/// Values worth trying, by what they are values of.
#[derive(Clone, Debug)]
pub(super) struct Values {
    pub(super) ports: Vec<u16>,
    pub(super) v4: Vec<u32>,
    pub(super) v6: Vec<u128>,
    pub(super) uids: Vec<u32>,
    pub(super) gids: Vec<u32>,
    pub(super) marks: Vec<u32>,
    pub(super) interfaces: Vec<String>,
    pub(super) protocols: Vec<u16>,
    pub(super) cgroups: Vec<String>,
}

/// How many values of a kind are tried: some sets have thousands.
const MOST: usize = 400;

impl Values {
    /// For what only one of two rule sets asks.
    pub(super) fn differing(one: &Asked, other: &Asked) -> Self {
        fn only<T: Scalar + Neighbours>(one: &Intervals<T>, other: &Intervals<T>) -> Vec<T> {
            thinned(around(one.symmetric_difference(other)))
        }
        let names = |one: &BTreeSet<String>, other: &BTreeSet<String>| {
            thinned(
                one.symmetric_difference(other)
                    .flat_map(|name| beside(name))
                    .collect(),
            )
        };
        Self {
            ports: only(&one.ports, &other.ports),
            v4: only(&one.v4, &other.v4),
            v6: only(&one.v6, &other.v6),
            uids: only(&one.uids, &other.uids),
            gids: only(&one.gids, &other.gids),
            marks: only(&one.marks, &other.marks),
            protocols: only(&one.protocols, &other.protocols),
            interfaces: names(&one.interfaces, &other.interfaces),
            cgroups: names(&one.cgroups, &other.cgroups),
        }
    }

    /// For what either asks, and what none need ask for.
    pub(super) fn all(one: &Asked, other: &Asked) -> Self {
        fn any<T: Scalar + Neighbours>(
            one: &Intervals<T>,
            other: &Intervals<T>,
            usual: &[T],
        ) -> Vec<T> {
            let mut values = around(one.union(other));
            values.extend(usual);
            thinned(values)
        }
        let names = |one: &BTreeSet<String>, other: &BTreeSet<String>, usual: &[&str]| {
            let mut values: BTreeSet<_> = one.union(other).flat_map(|name| beside(name)).collect();
            values.extend(usual.iter().map(|&name| name.to_owned()));
            thinned(values)
        };
        let v6 = [(0xfd00_0009 << 96) + 7, 1, 6];
        Self {
            ports: any(&one.ports, &other.ports, &[53, 80, 40_000]),
            v4: any(&one.v4, &other.v4, &[0x0a09_0007, 0x7f00_0001, 0x7f00_0006]),
            v6: any(&one.v6, &other.v6, &v6),
            uids: any(&one.uids, &other.uids, &[1000]),
            gids: any(&one.gids, &other.gids, &[1000]),
            marks: any(&one.marks, &other.marks, &[0]),
            protocols: any(&one.protocols, &other.protocols, &[1, 6, 17]),
            interfaces: names(&one.interfaces, &other.interfaces, &["eth0", "lo"]),
            cgroups: names(&one.cgroups, &other.cgroups, &[""]),
        }
    }
}

/// Of very many, some from everywhere.
fn thinned<T>(values: BTreeSet<T>) -> Vec<T> {
    let step = values.len().div_ceil(MOST).max(1);
    values.into_iter().step_by(step).collect()
}

/// A name, one that begins with it, and one below it.
fn beside(name: &str) -> [String; 3] {
    [name.to_owned(), format!("{name}0"), format!("{name}/below")]
}

/// Both ends of each interval, and what lies just outside.
fn around<'a, T: Scalar + Neighbours + 'a>(
    intervals: impl Iterator<Item = &'a (T, T)>,
) -> BTreeSet<T> {
    let mut values = BTreeSet::new();
    for (first, last) in intervals {
        values.extend([*first, *last]);
        values.extend(first.before());
        values.extend(last.successor());
    }
    values
}

/// A number with one before it.
trait Neighbours: Sized {
    fn before(self) -> Option<Self>;
}

macro_rules! neighbours {
    ($($number:ty),+) => {$(
        impl Neighbours for $number {
            fn before(self) -> Option<Self> {
                self.checked_sub(1)
            }
        }
    )+};
}
neighbours!(u16, u32, u128);

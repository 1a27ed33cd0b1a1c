//! From one state to another: the text that `iptables-restore --noflush` carries out.
//!
//! Each table is one transaction. It empties and refills our chains, and touches of all other
//! chains only the rules that go to ours: jumps that are right stay where they are, others go, and
//! what is missing is put first, so that no rule of somebody else lets a connection past the mesh.

use std::fmt::Write as _;

use super::state::{State, Table, same, table_name};
use crate::ruleset::Stage;

/// The tables in an order in which no step lets through what is captured before and after.
///
/// Conntrack zones come before what relies on them, and go after it. Of `mangle` (TPROXY) and
/// `nat` (REDIRECT), that which captures from now on comes first: in between, both do.
pub(super) fn order(from: &State, to: &State) -> [Stage; 3] {
    let tproxy = |state: &State| {
        let rules = state.table(Stage::Mangle).into_iter();
        rules
            .flat_map(|table| &table.chains)
            .flat_map(|chain| &chain.rules)
            .any(|rule| rule.contains("-j TPROXY"))
    };
    let [first, second] = if tproxy(to) || !tproxy(from) {
        [Stage::Mangle, Stage::Nat]
    } else {
        [Stage::Nat, Stage::Mangle]
    };
    if to.table(Stage::Raw).is_some() {
        [Stage::Raw, first, second]
    } else {
        [first, second, Stage::Raw]
    }
}

/// What turns `from` into `to`; tables that are alike are left out. Empty if all are.
pub(super) fn script(from: &State, to: &State) -> String {
    let mut text = String::new();
    for stage in order(from, to) {
        let nothing = Table::new(stage);
        let from = from.table(stage).unwrap_or(&nothing);
        let to = to.table(stage).unwrap_or(&nothing);
        if !alike(from, to) {
            transaction(&mut text, from, to);
        }
    }
    text
}

fn alike(from: &Table, to: &Table) -> bool {
    let chains = from.chains.len() == to.chains.len()
        && from.chains.iter().zip(&to.chains).all(|(from, to)| {
            from.name == to.name
                && from.rules.len() == to.rules.len()
                && from.rules.iter().zip(&to.rules).all(|(a, b)| same(a, b))
        });
    chains && same_jumps(from, to)
}

fn same_jumps(from: &Table, to: &Table) -> bool {
    from.jumps.len() == to.jumps.len()
        && to.jumps.iter().all(|jump| {
            let count = |table: &Table| table.jumps.iter().filter(|other| other.is(jump)).count();
            count(from) == count(to)
        })
}

fn transaction(text: &mut String, from: &Table, to: &Table) {
    let _infallible = writeln!(text, "*{}", table_name(to.stage));
    let stale = || {
        let chains = from.chains.iter();
        chains.filter(|chain| to.chain(&chain.name).is_none())
    };
    // To declare a chain is to make it, or to empty it.
    for chain in to.chains.iter().chain(stale()) {
        let _infallible = writeln!(text, ":{} - [0:0]", chain.name);
    }
    if !same_jumps(from, to) {
        let mut kept = Vec::new();
        for jump in &from.jumps {
            let wanted = to.jumps.iter().any(|wanted| wanted.is(jump));
            if wanted && !kept.contains(&jump) {
                kept.push(jump);
            } else {
                let _infallible = writeln!(text, "-D {} {}", jump.chain, jump.rule);
            }
        }
        for jump in &to.jumps {
            if !kept.iter().any(|kept| kept.is(jump)) {
                let _infallible = writeln!(text, "-I {} 1 {}", jump.chain, jump.rule);
            }
        }
    }
    for chain in &to.chains {
        for rule in &chain.rules {
            let _infallible = writeln!(text, "-A {} {rule}", chain.name);
        }
    }
    for chain in stale() {
        let _infallible = writeln!(text, "-X {}", chain.name);
    }
    text.push_str("COMMIT\n");
}

/// Whether `now` is what a script from `from` to `to` leaves behind if it stops at some table:
/// those before it are done, the others as they were.
pub(super) fn reached(from: &State, to: &State, now: &State) -> bool {
    let is = |stage, state: &State| {
        let nothing = Table::new(stage);
        let table = |state: &State| {
            state
                .table(stage)
                .cloned()
                .unwrap_or_else(|| nothing.clone())
        };
        alike(&table(now), &table(state))
    };
    let mut rest = order(from, to)
        .into_iter()
        .skip_while(|stage| is(*stage, to));
    rest.all(|stage| is(stage, from))
}

/// What to go back to: tables that hold what we wrote to what they held initially, others not at
/// all.
pub(super) fn rollback(now: &State, written: &State, initial: &State) -> State {
    let mut back = State::default();
    for stage in super::state::STAGES {
        let nothing = Table::new(stage);
        let current = now.table(stage).unwrap_or(&nothing);
        let is_ours = alike(current, written.table(stage).unwrap_or(&nothing));
        let table = if is_ours {
            initial.table(stage)
        } else {
            Some(current)
        };
        back.push(table.cloned());
    }
    back
}

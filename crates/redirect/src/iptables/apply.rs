//! From a plan to the kernel, and away again, through iptables' programs.

use super::Flavour;
use super::detect::{Pair, Tools, legacy_tables};
use super::error::IptablesError;
use super::render;
use super::script::{reached, rollback, script};
use super::state::{STAGES, State, table_name};
use crate::backend::Change;
use crate::error::{Cause, KernelError};
use crate::nft::Nft;
use crate::plan::Plan;
use crate::ruleset::Family;

/// How often it is tried while other programs change the rules, or do not let ours be.
const ATTEMPTS: u32 = 8;

/// One family's programs, and what its tables shall hold.
pub(super) struct Half<'a> {
    pub(super) family: Family,
    pair: &'a Pair,
    pub(super) target: State,
}

/// Makes our part of iptables' tables follow a plan.
///
/// # Errors
/// If a program is missing or refuses. Then what was there before is there again.
pub(crate) fn apply(tools: &Tools, plan: &Plan) -> Result<Change, IptablesError> {
    let halves = halves(tools, plan)?;
    let mut change = Change::Unchanged;
    let mut first: Option<Vec<State>> = None;
    let mut last_difference = (Family::V4, String::new());
    for _ in 0..ATTEMPTS {
        let before = read(&halves)?;
        let Some((family, difference)) = difference(&halves, &before) else {
            if tools.flavour == Flavour::Nft && first.is_some() {
                sweep(&halves);
            }
            return Ok(change);
        };
        let initial = first.get_or_insert_with(|| before.clone());
        change = if initial.iter().all(State::is_empty) {
            Change::Created
        } else {
            Change::Replaced {
                difference: difference.clone(),
            }
        };
        last_difference = (family, difference);
        if let Err(error) = write(&halves, &before) {
            let now = read(&halves)?;
            if interfered(&halves, &before, &now) {
                continue;
            }
            return Err(match take_back(&halves, tools.flavour, initial) {
                Ok(()) => error,
                Err(second) => IptablesError::NotRolledBack {
                    first: Box::new(error),
                    second: Box::new(second),
                },
            });
        }
    }
    let (family, difference) = last_difference;
    Err(IptablesError::NotAsWritten {
        family,
        flavour: tools.flavour,
        difference,
    })
}

pub(super) fn halves<'a>(tools: &'a Tools, plan: &Plan) -> Result<Vec<Half<'a>>, IptablesError> {
    let half = |family, pair| Half {
        family,
        pair,
        target: render::state(&plan.ruleset, family),
    };
    let mut halves = vec![half(Family::V4, &tools.v4)];
    if plan.ipv6 {
        halves.push(half(Family::V6, tools.ipv6()?));
    } else if let Some(pair) = &tools.v6
        && ipv6_in_use(tools.flavour)
    {
        // Nothing of ours shall be there.
        halves.push(Half {
            family: Family::V6,
            pair,
            target: State::default(),
        });
    }
    Ok(halves)
}

/// Whether there may be IPv6 rules of this flavour.
fn ipv6_in_use(flavour: Flavour) -> bool {
    match flavour {
        Flavour::Legacy => legacy_tables(Family::V6),
        Flavour::Nft => Nft::open()
            .and_then(|mut nft| nft.has_iptables_chains())
            .unwrap_or(true),
    }
}

pub(super) fn read(halves: &[Half<'_>]) -> Result<Vec<State>, IptablesError> {
    halves
        .iter()
        .map(|half| {
            let state = half.pair.state()?;
            match state.schema() {
                Some(found) if found > shunt_abi::SCHEMA_VERSION => {
                    Err(IptablesError::Newer { found })
                }
                _ => Ok(state),
            }
        })
        .collect()
}

pub(super) fn difference(halves: &[Half<'_>], states: &[State]) -> Option<(Family, String)> {
    halves.iter().zip(states).find_map(|(half, state)| {
        let difference = state.difference(&half.target)?;
        let family = match half.family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        Some((half.family, format!("{family} {difference}")))
    })
}

fn write(halves: &[Half<'_>], before: &[State]) -> Result<(), IptablesError> {
    for (half, before) in halves.iter().zip(before) {
        let script = script(before, &half.target);
        if !script.is_empty() {
            half.pair.restore(&script)?;
        }
    }
    Ok(())
}

/// Whether a failed write is to be tried again: what is there now is not what our own script
/// leaves behind where it stops.
fn interfered(halves: &[Half<'_>], before: &[State], now: &[State]) -> bool {
    let mut states = halves.iter().zip(before).zip(now);
    let all_there = states
        .clone()
        .all(|((half, _), now)| now.difference(&half.target).is_none());
    all_there || states.any(|((half, before), now)| !reached(before, &half.target, now))
}

/// Brings the tables that we have written back to what they held.
fn take_back(
    halves: &[Half<'_>],
    flavour: Flavour,
    initial: &[State],
) -> Result<(), IptablesError> {
    // All at once, so that nothing is left wherever this run ends.
    if flavour == Flavour::Nft && initial.iter().all(State::is_empty) && clear_nft(None).is_ok() {
        return Ok(());
    }
    for (half, initial) in halves.iter().zip(initial).rev() {
        let now = half.pair.state()?;
        let script = script(&now, &rollback(&now, &half.target, initial));
        if !script.is_empty() {
            half.pair.restore(&script)?;
        }
    }
    if flavour == Flavour::Nft {
        sweep(halves);
    }
    Ok(())
}

/// Deletes tables of nf_tables that may have held rules of ours, of this run or of one that was
/// killed, and are empty now. To leave one does no harm, so an error is none.
fn sweep(halves: &[Half<'_>]) {
    let Ok(now) = read(halves) else { return };
    let mut emptied = Vec::new();
    for (half, now) in halves.iter().zip(&now) {
        let gone = STAGES.into_iter();
        let gone = gone.filter(|stage| now.table(*stage).is_none());
        emptied.extend(gone.map(|stage| (half.family, table_name(stage))));
    }
    if !emptied.is_empty() {
        let _left = Nft::open().and_then(|mut nft| nft.delete_bare_tables(&emptied));
    }
}

/// What [`clear`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cleared {
    /// The flavours that held something of ours.
    pub(crate) flavours: Vec<Flavour>,
    /// Why legacy tables could not be looked into.
    pub(crate) unchecked: Option<String>,
}

/// Takes away what is ours in iptables' tables, of both flavours but the one to be kept. No
/// program is run unless there are legacy tables. `nft`: a connection, if there is one.
pub(crate) fn clear(keep: Option<Flavour>, nft: Option<&mut Nft>) -> Result<Cleared, ClearError> {
    let mut cleared = Cleared::default();
    if keep != Some(Flavour::Nft) && clear_nft(nft)? {
        cleared.flavours.push(Flavour::Nft);
    }
    if keep != Some(Flavour::Legacy) {
        let families = [Family::V4, Family::V6];
        let listed: Vec<_> = families.into_iter().filter(|f| legacy_tables(*f)).collect();
        for family in listed {
            match Pair::legacy(family).and_then(|pair| clear_legacy(&pair)) {
                Ok(true) => {
                    if !cleared.flavours.contains(&Flavour::Legacy) {
                        cleared.flavours.push(Flavour::Legacy);
                    }
                }
                Ok(false) => {}
                Err(error)
                    if matches!(
                        error.cause(),
                        Cause::ProgramMissing | Cause::Permission | Cause::UserNamespace
                    ) =>
                {
                    cleared.unchecked = Some(error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(cleared)
}

/// [`clear`] failed.
#[derive(Debug)]
pub(crate) enum ClearError {
    Kernel(KernelError),
    Iptables(IptablesError),
}

impl From<IptablesError> for ClearError {
    fn from(error: IptablesError) -> Self {
        Self::Iptables(error)
    }
}

fn clear_nft(nft: Option<&mut Nft>) -> Result<bool, ClearError> {
    let cleared = match nft {
        Some(nft) => nft.clear_iptables(),
        None => Nft::open().and_then(|mut nft| nft.clear_iptables()),
    };
    match cleared {
        Ok(cleared) => Ok(cleared),
        // No nf_tables, nothing in it.
        Err(error) if error.cause() == Cause::KernelLacks => Ok(false),
        Err(error) => Err(ClearError::Kernel(error)),
    }
}

fn clear_legacy(pair: &Pair) -> Result<bool, IptablesError> {
    for _ in 0..ATTEMPTS {
        let state = pair.state()?;
        if state.is_empty() {
            return Ok(false);
        }
        let done = pair.restore(&script(&state, &State::default()));
        if pair.state()?.is_empty() {
            return Ok(true);
        }
        done?;
    }
    Err(IptablesError::NotAsWritten {
        family: Family::V4,
        flavour: Flavour::Legacy,
        difference: "chains of Shunt are there again and again".to_owned(),
    })
}

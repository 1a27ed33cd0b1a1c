//! The verbs: apply a policy to this network namespace, remove it again.
//!
//! Apply goes down the whole way: pod facts -> plan -> compare with the kernel -> one transaction
//! -> read back. What is already there is left alone, to the generation id; what differs in any
//! rule is replaced whole.

use crate::capture::CaptureConfig;
use crate::error::{ApplyError, KernelError, RemoveError};
use crate::facts::PodFacts;
use crate::nft::{Nft, Snapshot, Table};
use crate::plan::{Plan, plan};
use crate::routing::{AddedRouting, InboundSource, Route};
use crate::ruleset::Ruleset;
use crate::verify::remove_leftovers;

/// What [`apply`] found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What the kernel now holds, read back.
    pub plan: Plan,
    /// What was done to the table.
    pub change: Change,
    /// Whether IPv6 is captured; then, what became of `::6` on `lo`.
    pub ipv6: Option<InboundSource>,
    /// Whether a policy rule or a route was added.
    pub routing_added: bool,
    /// Whether policy rules or routes of an earlier run were removed.
    pub routing_removed: bool,
}

/// What was done to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It held these rules already.
    Unchanged,
    /// There was none.
    Created,
    /// It held other rules; all were replaced in one transaction.
    Replaced {
        /// The first difference.
        difference: String,
    },
}

/// What [`remove`] found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Whether there was a table of ours.
    pub table: bool,
    /// Whether there was an `::6` of ours on `lo`.
    pub inbound_source: bool,
    /// Whether there were policy rules or routes of ours.
    pub routing: bool,
}

/// How often a transaction is tried while other programs change rules.
const ATTEMPTS: u32 = 32;

/// Makes the network namespace of the calling thread follow `config`.
///
/// # Errors
/// If the policy names what is not there, a table of our name is not ours, or the kernel refuses.
/// Then nothing is changed; only where the rules cannot be read back once they are written are
/// they there, all of them.
pub fn apply(config: &CaptureConfig) -> Result<Applied, ApplyError> {
    let mut nft = Nft::open()?;
    // A refusal comes before any change.
    let snapshot = nft.read()?;
    if let Table::Refused(conflict) = snapshot.table {
        return Err(conflict.into());
    }
    let mut route = Route::open()?;
    remove_leftovers(&mut route)?;
    let pod = PodFacts::of(config, route.addresses()?)?;
    let plan = plan(config, &pod);

    let mut before = Before::default();
    let mut written = None;
    let done = before
        .prepare(&mut route, &plan, &pod)
        .map_err(ApplyError::from)
        .and_then(|()| write(&mut nft, snapshot, &plan.ruleset, &mut written));
    let change = match done {
        Ok(change) => change,
        Err(error) => {
            if written.is_none() {
                // Everything stays as it was; where this fails too, the next run continues.
                let _kept = before.undo(&mut route);
            }
            return Err(error);
        }
    };
    let routing_removed = route.remove_policy_routing(plan.routing.as_ref())?;
    if !plan.ipv6 {
        route.remove_own_inbound_source()?;
    }
    Ok(Applied {
        change,
        ipv6: before.ipv6,
        routing_added: !before.routing.is_empty(),
        routing_removed,
        plan,
    })
}

/// What precedes the rules, so that none of them ever waits for it.
#[derive(Debug, Default)]
struct Before {
    ipv6: Option<InboundSource>,
    routing: AddedRouting,
}

impl Before {
    fn prepare(
        &mut self,
        route: &mut Route,
        plan: &Plan,
        pod: &PodFacts,
    ) -> Result<(), KernelError> {
        if plan.ipv6 {
            self.ipv6 = Some(route.add_inbound_source(&pod.addresses)?);
        }
        if let Some(routing) = &plan.routing {
            route.add_policy_routing(routing, &mut self.routing)?;
        }
        Ok(())
    }

    fn undo(&self, route: &mut Route) -> Result<(), KernelError> {
        route.undo_policy_routing(&self.routing)?;
        if self.ipv6 == Some(InboundSource::Added) {
            route.remove_own_inbound_source()?;
        }
        Ok(())
    }
}

/// Bring the kernel's table to this rule set, where it differs. `written` becomes the generation
/// that our own transaction made, and nobody else's.
fn write(
    nft: &mut Nft,
    mut snapshot: Snapshot,
    ruleset: &Ruleset,
    written: &mut Option<u32>,
) -> Result<Change, ApplyError> {
    let mut change = Change::Unchanged;
    for _ in 0..ATTEMPTS {
        let difference = match &snapshot.table {
            Table::Ours(ours) => ours.difference(ruleset),
            _ => Some(String::new()),
        };
        let Some(difference) = difference else {
            return Ok(change);
        };
        if *written == Some(snapshot.generation) {
            return Err(KernelError::NotAsWritten { difference }.into());
        }
        if nft.replace(&snapshot, ruleset)? {
            *written = Some(snapshot.generation.wrapping_add(1));
            change = match snapshot.table {
                Table::Absent => Change::Created,
                _ => Change::Replaced { difference },
            };
        }
        snapshot = nft.read()?;
        if let Table::Refused(conflict) = &snapshot.table {
            if *written != Some(snapshot.generation) {
                return Err(conflict.clone().into());
            }
            nft.delete(&snapshot)?;
            *written = None;
            return Err(KernelError::NoComments.into());
        }
    }
    Err(KernelError::Busy { attempts: ATTEMPTS }.into())
}

/// Takes away what Shunt wrote into the network namespace of the calling thread, and nothing else.
///
/// # Errors
/// If a table of our name is not ours, or the kernel refuses.
pub fn remove() -> Result<Removed, RemoveError> {
    let mut nft = Nft::open()?;
    for _ in 0..ATTEMPTS {
        let snapshot = nft.read()?;
        let table = match &snapshot.table {
            Table::Absent => false,
            Table::Refused(conflict) => return Err(conflict.clone().into()),
            Table::Ours(_) => true,
        };
        if !table || nft.delete(&snapshot)? {
            // Last, so that no rule ever misses it; a run that dies here is continued by the next.
            let mut route = Route::open()?;
            remove_leftovers(&mut route)?;
            return Ok(Removed {
                table,
                routing: route.remove_policy_routing(None)?,
                inbound_source: route.remove_own_inbound_source()?,
            });
        }
    }
    Err(KernelError::Busy { attempts: ATTEMPTS }.into())
}

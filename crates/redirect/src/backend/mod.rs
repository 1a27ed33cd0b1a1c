//! The verbs: apply a policy to this network namespace, remove it again.
//!
//! Apply goes down the whole way: pod facts -> plan -> compare with the kernel -> one transaction
//! (a table, for iptables) -> read back. What is already there is left alone, to the generation id;
//! what differs in any rule is replaced whole. What another backend wrote earlier goes once the
//! new rules are there, so that no connection passes in between.

mod choice;
mod turn;

use crate::capture::CaptureConfig;
use crate::error::{ApplyError, Cause, KernelError, RemoveError};
use crate::facts::PodFacts;
use crate::iptables::{self, ClearError, Cleared, Flavour, IptablesError, Tools};
use crate::nft::{Nft, Snapshot, Table};
use crate::plan::{Plan, plan};
use crate::routing::{AddedRouting, InboundSource, Route};
use crate::ruleset::Ruleset;
use crate::userns;
use crate::verify::remove_leftovers;
pub use choice::{Backend, BackendChoice, UnknownBackend};
pub use turn::Turn;

/// What [`apply`] found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What the kernel now holds, read back.
    pub plan: Plan,
    /// What it was planned for.
    pub pod: PodFacts,
    /// What carries it out.
    pub backend: Backend,
    /// Why it is not nf_tables, where the choice was left to Shunt.
    pub fallback: Option<String>,
    /// What was done to the rules.
    pub change: Change,
    /// Whether IPv6 is captured; then, what became of `::6` on `lo`.
    pub ipv6: Option<InboundSource>,
    /// Whether a policy rule or a route was added.
    pub routing_added: bool,
    /// Whether policy rules or routes of an earlier run were removed.
    pub routing_removed: bool,
    /// Backends whose rules of an earlier run were removed.
    pub replaced: Vec<Backend>,
    /// Why it is not known whether legacy tables hold rules of an earlier run.
    pub unchecked: Option<String>,
}

/// What was done to the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// They were there already.
    Unchanged,
    /// There were none.
    Created,
    /// There were others; all were replaced in one transaction (a table, for iptables).
    Replaced {
        /// The first difference.
        difference: String,
    },
}

/// What [`remove`] found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Whether there was a table `inet shunt` of ours.
    pub table: bool,
    /// The flavours of iptables in whose tables something of ours was.
    pub iptables: Vec<Flavour>,
    /// Why it is not known whether there is something of ours in legacy tables.
    pub unchecked: Option<String>,
    /// Whether there was an `::6` of ours on `lo`.
    pub inbound_source: bool,
    /// Whether there were policy rules or routes of ours.
    pub routing: bool,
}

/// How often a transaction is tried while other programs change rules.
const ATTEMPTS: u32 = 32;

/// Makes the network namespace of the calling thread follow `config`, when it is our [`Turn`].
///
/// # Errors
/// If the policy contradicts itself ([`CaptureConfig::validate`]) or names what is not there, a
/// table of our name is not ours, or the kernel or a program refuses. Then nothing is changed; only
/// where the rules cannot be read back once they are written, or those of an earlier backend cannot
/// be removed, are they there, all of them.
pub fn apply(config: &CaptureConfig, choice: BackendChoice) -> Result<Applied, ApplyError> {
    config.validate()?;
    apply_valid(&Turn::take(), config, choice)
}

/// The same in a turn, with a policy whose parts are known to stand together.
pub(crate) fn apply_valid(
    _turn: &Turn,
    config: &CaptureConfig,
    choice: BackendChoice,
) -> Result<Applied, ApplyError> {
    match choice {
        BackendChoice::Nft => with_nft(config),
        BackendChoice::Iptables => with_iptables(config, Tools::choose()?),
        BackendChoice::IptablesLegacy => with_iptables(config, Tools::of(Flavour::Legacy)?),
        BackendChoice::IptablesNft => with_iptables(config, Tools::of(Flavour::Nft)?),
        BackendChoice::Auto => match with_nft(config) {
            Err(nft) if nft.cause() == Cause::KernelLacks => with_iptables_instead(config, nft),
            other => other,
        },
    }
}

/// The kernel has said that it cannot do it with nf_tables.
fn with_iptables_instead(config: &CaptureConfig, nft: ApplyError) -> Result<Applied, ApplyError> {
    let applied = Tools::choose()
        .map_err(ApplyError::from)
        .and_then(|tools| with_iptables(config, tools));
    match applied {
        Ok(applied) => Ok(Applied {
            fallback: Some(nft.to_string()),
            ..applied
        }),
        Err(iptables) => Err(ApplyError::NoBackend {
            nft: Box::new(nft),
            iptables: Box::new(iptables),
        }),
    }
}

fn with_nft(config: &CaptureConfig) -> Result<Applied, ApplyError> {
    let mut nft = Nft::open()?;
    // A refusal comes before any change.
    let snapshot = nft.read()?;
    if let Table::Refused(conflict) = snapshot.table {
        return Err(conflict.into());
    }
    carry_out(config, Backend::Nft, |plan, written| {
        let mut generation = None;
        let done = write(&mut nft, snapshot, &plan.ruleset, &mut generation);
        *written = generation.is_some();
        done
    })
}

fn with_iptables(config: &CaptureConfig, tools: Tools) -> Result<Applied, ApplyError> {
    if let Table::Refused(conflict) = table()?
        && conflict.is_newer()
    {
        return Err(conflict.into());
    }
    carry_out(config, Backend::Iptables(tools.flavour), |plan, written| {
        let done = iptables::apply(&tools, plan);
        *written = matches!(
            done,
            Err(IptablesError::NotAsWritten { .. } | IptablesError::NotRolledBack { .. })
        );
        Ok(done?)
    })
}

/// Our table in nf_tables; absent where the kernel has none.
fn table() -> Result<Table, KernelError> {
    match Nft::open().and_then(|mut nft| nft.read()) {
        Ok(snapshot) => Ok(snapshot.table),
        Err(error) if error.cause() == Cause::KernelLacks => Ok(Table::Absent),
        Err(error) => Err(error),
    }
}

/// The way that all backends have in common. `write` brings the rules to the kernel, and says
/// whether some are there though it fails.
fn carry_out(
    config: &CaptureConfig,
    backend: Backend,
    write: impl FnOnce(&Plan, &mut bool) -> Result<Change, ApplyError>,
) -> Result<Applied, ApplyError> {
    userns::check(config)?;
    let mut route = Route::open()?;
    remove_leftovers(&mut route)?;
    let pod = PodFacts::of(config, route.addresses()?)?;
    let plan = plan(config, &pod);

    let mut before = Before::default();
    let mut written = false;
    let done = before
        .prepare(&mut route, &plan, &pod)
        .map_err(ApplyError::from)
        .and_then(|()| write(&plan, &mut written));
    let change = match done {
        Ok(change) => change,
        Err(error) => {
            if !written {
                // Everything stays as it was; where this fails too, the next run continues.
                let _kept = before.undo(&mut route);
            }
            return Err(error);
        }
    };
    let (replaced, unchecked) =
        remove_earlier(backend).map_err(|error| ApplyError::Earlier(Box::new(error)))?;
    let routing_removed = route.remove_policy_routing(plan.routing.as_ref())?;
    if !plan.ipv6 {
        route.remove_own_inbound_source()?;
    }
    Ok(Applied {
        backend,
        fallback: None,
        change,
        ipv6: before.ipv6,
        routing_added: !before.routing.is_empty(),
        routing_removed,
        replaced,
        unchecked,
        plan,
        pod,
    })
}

/// Removes what backends other than this one have written. Says which had, and why that is not
/// known of legacy tables.
fn remove_earlier(backend: Backend) -> Result<(Vec<Backend>, Option<String>), ApplyError> {
    let mut replaced = Vec::new();
    if backend != Backend::Nft && remove_table()? {
        replaced.push(Backend::Nft);
    }
    let keep = match backend {
        Backend::Nft => None,
        Backend::Iptables(flavour) => Some(flavour),
    };
    let Cleared {
        flavours,
        unchecked,
    } = iptables::clear(keep)?;
    replaced.extend(flavours.into_iter().map(Backend::Iptables));
    Ok((replaced, unchecked))
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

/// Takes away what Shunt wrote into the network namespace of the calling thread, by whichever
/// backend, and nothing else, when it is our [`Turn`].
///
/// # Errors
/// If a table of our name is not ours (all else is removed then), or the kernel or a program
/// refuses.
pub fn remove() -> Result<Removed, RemoveError> {
    let _turn = Turn::take();
    let conflict = match table()? {
        Table::Refused(conflict) => Some(conflict),
        _ => None,
    };
    let table = conflict.is_none() && remove_table()?;
    let Cleared {
        flavours,
        unchecked,
    } = iptables::clear(None)?;
    // Last, so that no rule ever misses it; a run that dies here is continued by the next.
    let mut route = Route::open()?;
    remove_leftovers(&mut route)?;
    let removed = Removed {
        table,
        iptables: flavours,
        unchecked,
        routing: route.remove_policy_routing(None)?,
        inbound_source: route.remove_own_inbound_source()?,
    };
    match conflict {
        Some(conflict) => Err(conflict.into()),
        None => Ok(removed),
    }
}

/// Deletes our table in nf_tables. Says whether there was one; one that is not ours stays.
fn remove_table() -> Result<bool, KernelError> {
    let mut nft = match Nft::open() {
        Err(error) if error.cause() == Cause::KernelLacks => return Ok(false),
        other => other?,
    };
    for _ in 0..ATTEMPTS {
        let snapshot = match nft.read() {
            Err(error) if error.cause() == Cause::KernelLacks => return Ok(false),
            other => other?,
        };
        match snapshot.table {
            Table::Absent | Table::Refused(_) => return Ok(false),
            Table::Ours(_) if nft.delete(&snapshot)? => return Ok(true),
            Table::Ours(_) => {}
        }
    }
    Err(KernelError::Busy { attempts: ATTEMPTS })
}

impl From<ClearError> for ApplyError {
    fn from(error: ClearError) -> Self {
        match error {
            ClearError::Kernel(error) => error.into(),
            ClearError::Iptables(error) => error.into(),
        }
    }
}

impl From<ClearError> for RemoveError {
    fn from(error: ClearError) -> Self {
        match error {
            ClearError::Kernel(error) => error.into(),
            ClearError::Iptables(error) => error.into(),
        }
    }
}

//! The verbs: apply a policy to this network namespace, remove it again.
//!
//! Apply goes down the whole way: pod facts -> plan -> compare with the kernel -> one transaction
//! (a table, for iptables, and what is there then is read back). What is already there is left
//! alone, to the generation id; what differs in any rule is replaced whole. What another backend wrote earlier goes once the
//! new rules are there, so that no connection passes in between.

mod choice;
mod turn;

use shunt_abi::TableMark;

use crate::capture::CaptureConfig;
use crate::error::{ApplyError, Cause, KernelError, RemoveError};
use crate::facts::PodFacts;
use crate::iptables::{self, ClearError, Cleared, Flavour, IptablesError, Tools};
use crate::nft::{Nft, Snapshot, Table};
use crate::plan::{Plan, plan, plan_for_iptables};
use crate::routing::{AddedRouting, InboundSource, Route};
use crate::ruleset::Ruleset;
use crate::userns;
use crate::verify::remove_leftovers;
pub use choice::{Backend, BackendChoice, UnknownBackend};
pub use turn::Turn;

/// What [`apply`] found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What the kernel now holds.
    pub plan: Plan,
    /// The mark of its rules.
    pub mark: TableMark,
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
    carry_out(config, &mut Writer::Nft(nft, snapshot))
}

fn with_iptables(config: &CaptureConfig, tools: Tools) -> Result<Applied, ApplyError> {
    if let Table::Refused(conflict) = table()?
        && conflict.is_newer()
    {
        return Err(conflict.into());
    }
    carry_out(config, &mut Writer::Iptables(tools))
}

/// What brings the rules to the kernel.
enum Writer {
    /// And what was last seen in the kernel.
    Nft(Nft, Snapshot),
    Iptables(Tools),
}

impl Writer {
    fn backend(&self) -> Backend {
        match self {
            Self::Nft(..) => Backend::Nft,
            Self::Iptables(tools) => Backend::Iptables(tools.flavour),
        }
    }

    fn plan(&self, config: &CaptureConfig, pod: &PodFacts) -> Plan {
        match self {
            Self::Nft(..) => plan(config, pod),
            Self::Iptables(_) => plan_for_iptables(config, pod),
        }
    }

    /// `written`: whether rules are there though it fails.
    fn write(
        &mut self,
        plan: &Plan,
        mark: TableMark,
        written: &mut bool,
    ) -> Result<Change, ApplyError> {
        match self {
            Self::Nft(nft, snapshot) => {
                let mut generation = None;
                let done = write(nft, snapshot, &plan.ruleset, mark, &mut generation);
                *written = generation.is_some();
                done
            }
            Self::Iptables(tools) => {
                let done = iptables::apply(tools, plan);
                *written = matches!(
                    done,
                    Err(IptablesError::NotAsWritten { .. } | IptablesError::NotRolledBack { .. })
                );
                Ok(done?)
            }
        }
    }

    /// Removes what other backends have written. Says which had, and why that is not known of legacy
    /// tables.
    fn remove_earlier(&mut self) -> Result<(Vec<Backend>, Option<String>), ApplyError> {
        let mut replaced = Vec::new();
        let cleared = match self {
            Self::Nft(nft, _) => iptables::clear(None, Some(nft)),
            Self::Iptables(tools) => {
                if remove_table()? {
                    replaced.push(Backend::Nft);
                }
                iptables::clear(Some(tools.flavour), None)
            }
        };
        let Cleared {
            flavours,
            unchecked,
        } = cleared?;
        replaced.extend(flavours.into_iter().map(Backend::Iptables));
        Ok((replaced, unchecked))
    }
}

/// Our table in nf_tables; absent where the kernel has none.
fn table() -> Result<Table, KernelError> {
    match Nft::open().and_then(|mut nft| nft.read()) {
        Ok(snapshot) => Ok(snapshot.table),
        Err(error) if error.cause() == Cause::KernelLacks => Ok(Table::Absent),
        Err(error) => Err(error),
    }
}

/// The way that all backends have in common.
fn carry_out(config: &CaptureConfig, writer: &mut Writer) -> Result<Applied, ApplyError> {
    userns::check(config)?;
    let mut route = Route::open()?;
    remove_leftovers(&mut route)?;
    let pod = PodFacts::of(config, route.addresses()?)?;
    let plan = writer.plan(config, &pod);
    let mark = plan.ruleset.mark();

    let mut before = Before::default();
    let mut written = false;
    let done = before
        .prepare(&mut route, &plan, &pod)
        .map_err(ApplyError::from)
        .and_then(|()| writer.write(&plan, mark, &mut written));
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
    let (replaced, unchecked) = writer
        .remove_earlier()
        .map_err(|error| ApplyError::Earlier(Box::new(error)))?;
    let routing_removed = route.remove_policy_routing(plan.routing.as_ref())?;
    if !plan.ipv6 {
        route.remove_own_inbound_source()?;
    }
    Ok(Applied {
        backend: writer.backend(),
        fallback: None,
        change,
        ipv6: before.ipv6,
        routing_added: !before.routing.is_empty(),
        routing_removed,
        replaced,
        unchecked,
        plan,
        mark,
        pod,
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

/// Bring the kernel's table to this rule set of this mark, where it differs. `written` becomes the
/// generation that our own transaction made, and nobody else's.
///
/// What the kernel acknowledges is there as a whole, until somebody changes it; so of the table
/// only its mark is read back, which is all that a kernel may pass over without a word.
fn write(
    nft: &mut Nft,
    snapshot: &mut Snapshot,
    ruleset: &Ruleset,
    mark: TableMark,
    written: &mut Option<u32>,
) -> Result<Change, ApplyError> {
    let mut change = Change::Unchanged;
    for _ in 0..ATTEMPTS {
        let difference = match &snapshot.table {
            Table::Ours(ours) => ours.difference(ruleset, mark),
            _ => Some(String::new()),
        };
        let Some(difference) = difference else {
            return Ok(change);
        };
        if *written == Some(snapshot.generation) {
            return Err(KernelError::NotAsWritten { difference }.into());
        }
        if nft.replace(snapshot, ruleset, mark)? {
            *written = Some(snapshot.generation.wrapping_add(1));
            change = match snapshot.table {
                Table::Absent => Change::Created,
                _ => Change::Replaced { difference },
            };
            if nft.is_marked(mark)? {
                return Ok(change);
            }
        }
        *snapshot = nft.read()?;
        if let Table::Refused(conflict) = &snapshot.table {
            if *written != Some(snapshot.generation) {
                return Err(conflict.clone().into());
            }
            nft.delete(snapshot)?;
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
    } = iptables::clear(None, None)?;
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

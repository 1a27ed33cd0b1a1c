//! What is in the kernel, and how it differs from what a policy asks for. Neither changes anything.

use std::fmt::Write as _;

use shunt_redirect::compat::Request;
use shunt_redirect::diff::diff;
use shunt_redirect::error::{Cause, ListError};
use shunt_redirect::facts::PodFacts;
use shunt_redirect::iptables::{self, Listed, State, render};
use shunt_redirect::nft::{self, Installed};
use shunt_redirect::ruleset::Family;
use shunt_redirect::{Backend, BackendChoice, Plan, listing, plan, plan_for_iptables, routing};

use crate::backend::place;
use crate::failure::Failure;
use crate::message::{Message, print};

/// Prints the rules of every backend, with their counters.
pub(crate) fn list() -> Result<Vec<Message>, Failure> {
    let table = table()?;
    let chains = iptables::list().map_err(Failure::Iptables)?;
    let mut text = table.as_ref().map(listing::text).unwrap_or_default();
    for listed in &chains {
        let place = place(Backend::Iptables(listed.flavour));
        let rules = listing::iptables(listed);
        let _infallible = write!(text, "{place}, {}\n{rules}", name(listed.family));
    }
    print(&text).map_err(Failure::Output)?;
    let none = text.is_empty().then(|| {
        Message::info("Shunt has no rules in this network namespace: every connection passes")
    });
    Ok(none.into_iter().collect())
}

/// Prints what applying a policy would change. Says whether it would change anything.
pub(crate) fn difference(request: &Request, pod: &PodFacts) -> Result<bool, Failure> {
    let table = table()?;
    let chains = iptables::list().map_err(Failure::Iptables)?;
    let nft = matches!(request.backend, BackendChoice::Auto | BackendChoice::Nft);
    let plan = if nft {
        plan(&request.config, pod)
    } else {
        plan_for_iptables(&request.config, pod)
    };
    let rules = if nft {
        let left = chains.iter().map(|listed| listed.flavour);
        let mut places: Vec<_> = left
            .map(|flavour| place(Backend::Iptables(flavour)))
            .collect();
        places.dedup();
        table_difference(table.as_ref(), &plan) + &removals(&places)
    } else {
        let left = table.is_some().then(|| place(Backend::Nft));
        chain_difference(&chains, request.backend, &plan) + &removals(left.as_slice())
    };
    let beside = routing::to_do(&plan, &pod.addresses).map_err(Failure::Routing)?;
    let lines = beside.into_iter().map(|line| line + "\n");
    let text = rules + &lines.collect::<String>();
    print(&text).map_err(Failure::Output)?;
    Ok(!text.is_empty())
}

/// Our table; none where the kernel has no nf_tables.
fn table() -> Result<Option<Installed>, Failure> {
    match nft::list() {
        Err(error) if error.cause() == Cause::KernelLacks => Ok(None),
        other => other.map_err(|error: ListError| Failure::List(error)),
    }
}

fn table_difference(table: Option<&Installed>, plan: &Plan) -> String {
    let place = place(Backend::Nft);
    match table {
        None => format!(
            "{place}: there is none; it would be created with {} rules\n",
            plan.ruleset.rule_count()
        ),
        Some(Installed {
            ruleset: Err(what), ..
        }) => format!(
            "{place}: it would be replaced, because it holds what Shunt does not write: {what}\n"
        ),
        Some(Installed {
            ruleset: Ok(found),
            mark,
            ..
        }) => {
            let difference = diff(found, &plan.ruleset);
            if difference.is_empty() && *mark != plan.ruleset.mark() {
                return format!(
                    "{place}: marked `{mark}`, would be `{}`\n",
                    plan.ruleset.mark()
                );
            }
            difference.to_string()
        }
    }
}

fn chain_difference(chains: &[Listed], choice: BackendChoice, plan: &Plan) -> String {
    let wanted = |listed: &&Listed| match choice {
        BackendChoice::IptablesLegacy => listed.flavour == iptables::Flavour::Legacy,
        BackendChoice::IptablesNft => listed.flavour == iptables::Flavour::Nft,
        _ => true,
    };
    let mut text = String::new();
    for family in [Family::V4, Family::V6] {
        let planned = if family == Family::V4 || plan.ipv6 {
            render::state(&plan.ruleset, family)
        } else {
            State::default()
        };
        let mut found = chains.iter().filter(wanted);
        let found = found.find(|listed| listed.family == family);
        let empty = State::default();
        let found = found.map_or(&empty, |listed| &listed.state);
        if let Some(difference) = found.difference(&planned) {
            let _infallible = writeln!(text, "{}: {difference}", name(family));
        }
    }
    text
}

fn removals(places: &[String]) -> String {
    let lines = places
        .iter()
        .map(|place| format!("{place} of an earlier run would be removed\n"));
    lines.collect()
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

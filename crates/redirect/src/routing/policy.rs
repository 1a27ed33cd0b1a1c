//! Policy routing: packets with TPROXY's mark are for this machine, whatever their destination.
//!
//! One rule and one route a family, both with Shunt's protocol number, by which they are known
//! again: what is there is not added twice, and what is not needed any more goes.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, Parseable,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use shunt_abi::{lo, policy_route};

use super::Route;
use crate::error::{KernelError, Object};
use crate::nft::attr::{Attributes, Malformed};
use crate::plan::PolicyRouting;
use crate::ruleset::Family;

/// One family's half of a [`PolicyRouting`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Half {
    family: Family,
    mark: u32,
    table: u32,
}

/// What a run added, to be taken back if it fails later.
#[derive(Debug, Default)]
pub(crate) struct AddedRouting {
    routes: Vec<Half>,
    rules: Vec<Half>,
}

/// What is Shunt's, but not wanted any more.
struct Unwanted {
    rules: Vec<Half>,
    routes: Vec<Half>,
}

impl AddedRouting {
    pub(crate) fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.rules.is_empty()
    }
}

const OURS: RouteProtocol = RouteProtocol::Other(policy_route::PROTOCOL);

impl PolicyRouting {
    fn halves(&self) -> impl Iterator<Item = Half> + use<> {
        let Self { mark, table, ipv6 } = *self;
        [Some(Family::V4), ipv6.then_some(Family::V6)]
            .into_iter()
            .flatten()
            .map(move |family| Half {
                family,
                mark,
                table,
            })
    }
}

impl Route {
    /// Adds what is missing, the routes first: no marked packet ever meets a rule without one.
    pub(crate) fn add_policy_routing(
        &mut self,
        wanted: &PolicyRouting,
        added: &mut AddedRouting,
    ) -> Result<(), KernelError> {
        let rules = self.policy_rules()?;
        for half in wanted.halves() {
            let ours = rules.contains(&half);
            if self.add_route(&half, ours)? {
                added.routes.push(half);
            }
            // The kernel would take the same rule a second time.
            if !ours {
                let message = RouteNetlinkMessage::NewRule(half.rule());
                if self.add(&half.rule_text("add"), message)? {
                    added.rules.push(half);
                }
            }
        }
        Ok(())
    }

    /// Takes back what a run added.
    pub(crate) fn undo_policy_routing(&mut self, added: &AddedRouting) -> Result<(), KernelError> {
        for half in &added.rules {
            self.delete_rule(half)?;
        }
        for half in &added.routes {
            self.delete_route(half)?;
        }
        Ok(())
    }

    /// Removes Shunt's rules and routes but those wanted. Says whether there were any.
    pub(crate) fn remove_policy_routing(
        &mut self,
        wanted: Option<&PolicyRouting>,
    ) -> Result<bool, KernelError> {
        let mut removed = false;
        let Unwanted { rules, routes } = self.unwanted(wanted)?;
        for half in rules {
            removed |= self.delete_rule(&half)?;
        }
        for half in routes {
            removed |= self.delete_route(&half)?;
        }
        Ok(removed)
    }

    fn unwanted(&mut self, wanted: Option<&PolicyRouting>) -> Result<Unwanted, KernelError> {
        let wanted: Vec<Half> = wanted.into_iter().flat_map(PolicyRouting::halves).collect();
        let mut rules = self.policy_rules()?;
        rules.retain(|half| !wanted.contains(half));
        let mut routes = self.policy_routes()?;
        routes.retain(|half| {
            let serves = |wanted: &Half| wanted.family == half.family && wanted.table == half.table;
            !wanted.iter().any(serves)
        });
        Ok(Unwanted { rules, routes })
    }

    /// What an apply would do about it, a line each.
    pub(crate) fn policy_routing_to_do(
        &mut self,
        wanted: Option<&PolicyRouting>,
    ) -> Result<Vec<String>, KernelError> {
        let mut to_do = Vec::new();
        let rules = self.policy_rules()?;
        for half in wanted.into_iter().flat_map(PolicyRouting::halves) {
            if !self.serves(&half)? {
                to_do.push(half.route_text("add"));
            }
            if !rules.contains(&half) {
                to_do.push(half.rule_text("add"));
            }
        }
        let Unwanted { rules, routes } = self.unwanted(wanted)?;
        to_do.extend(rules.iter().map(|half| half.rule_text("delete")));
        to_do.extend(routes.iter().map(|half| half.route_text("delete")));
        Ok(to_do)
    }

    /// What of it is not there.
    pub(crate) fn missing_policy_routing(
        &mut self,
        wanted: &PolicyRouting,
    ) -> Result<Vec<String>, KernelError> {
        let rules = self.policy_rules()?;
        let routes = self.policy_routes()?;
        let mut missing = Vec::new();
        for half in wanted.halves() {
            if !rules.contains(&half) {
                missing.push(half.rule_text("find"));
            }
            let serves = |route: &Half| route.family == half.family && route.table == half.table;
            if !routes.iter().any(serves) {
                missing.push(half.route_text("find"));
            }
        }
        Ok(missing)
    }

    /// Shunt's rules.
    pub(crate) fn policy_rules(&mut self) -> Result<Vec<Half>, KernelError> {
        let operation = "list the policy rules of this network namespace";
        let message = RouteNetlinkMessage::GetRule(RuleMessage::default());
        let bodies = self.request_about(Object::Route, operation, message, NLM_F_DUMP)?;
        let mut rules = Vec::new();
        for body in bodies.iter().filter(|body| may_be_own_rule(body)) {
            rules.extend(own_rule(&parsed(operation, body)?));
        }
        Ok(rules)
    }

    /// The marks whose packets Shunt's rules deliver to this machine.
    pub(crate) fn delivered_marks(&mut self) -> Result<Vec<(Family, u32)>, KernelError> {
        let rules = self.policy_rules()?;
        Ok(rules.iter().map(|half| (half.family, half.mark)).collect())
    }

    /// Shunt's routes; their mark is 0.
    fn policy_routes(&mut self) -> Result<Vec<Half>, KernelError> {
        let operation = "list the routes of this network namespace";
        let message = RouteNetlinkMessage::GetRoute(RouteMessage::default());
        let bodies = self.request_about(Object::Route, operation, message, NLM_F_DUMP)?;
        let mut routes = Vec::new();
        for body in bodies.iter().filter(|body| may_be_own_route(body)) {
            routes.extend(own_route(&parsed(operation, body)?));
        }
        Ok(routes)
    }

    /// Whether it was not there before. Another default route in a table that our rule shows to be
    /// ours is drift, and is replaced; in any other table it is somebody's.
    fn add_route(&mut self, half: &Half, ours: bool) -> Result<bool, KernelError> {
        let operation = half.route_text("add");
        let message = || RouteNetlinkMessage::NewRoute(half.route());
        let flags = NLM_F_ACK | NLM_F_CREATE;
        match self.request_about(Object::Route, &operation, message(), flags | NLM_F_EXCL) {
            Ok(_) => Ok(true),
            Err(KernelError::Refused {
                errno: Errno::EEXIST,
                ..
            }) if self.serves(half)? => Ok(false),
            Err(KernelError::Refused {
                errno: Errno::EEXIST,
                ..
            }) if ours => {
                let flags = flags | NLM_F_REPLACE;
                self.request_about(Object::Route, &operation, message(), flags)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a default route of the table leads to this machine, whoever added it.
    fn serves(&mut self, half: &Half) -> Result<bool, KernelError> {
        let operation = "list the routes of this network namespace";
        let message = RouteNetlinkMessage::GetRoute(RouteMessage::default());
        for body in self.request_about(Object::Route, operation, message, NLM_F_DUMP)? {
            let route: RouteMessage = parsed(operation, &body)?;
            if leads_here(&route)
                && (family_of(route.header.address_family), table_of(&route))
                    == (Some(half.family), half.table)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether it was not there before.
    fn add(&mut self, operation: &str, message: RouteNetlinkMessage) -> Result<bool, KernelError> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        match self.request_about(Object::Route, operation, message, flags) {
            Ok(_) => Ok(true),
            Err(KernelError::Refused {
                errno: Errno::EEXIST,
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn delete_rule(&mut self, half: &Half) -> Result<bool, KernelError> {
        let message = RouteNetlinkMessage::DelRule(half.rule());
        self.delete(&half.rule_text("delete"), message)
    }

    fn delete_route(&mut self, half: &Half) -> Result<bool, KernelError> {
        let message = RouteNetlinkMessage::DelRoute(half.route());
        self.delete(&half.route_text("delete"), message)
    }

    /// Whether it was there.
    fn delete(
        &mut self,
        operation: &str,
        message: RouteNetlinkMessage,
    ) -> Result<bool, KernelError> {
        match self.request_about(Object::Route, operation, message, NLM_F_ACK) {
            Ok(_) => Ok(true),
            Err(KernelError::Refused {
                errno: Errno::ENOENT | Errno::ESRCH,
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

pub(super) fn parsed<M: Parseable<[u8]>>(operation: &str, body: &[u8]) -> Result<M, KernelError> {
    M::parse(body).map_err(|_error| KernelError::Malformed {
        operation: operation.to_owned(),
        what: Malformed("a rule or route of another shape"),
    })
}

impl Half {
    /// `ip rule add fwmark 1337 lookup 133 pref … protocol …`
    fn rule(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = address_family(self.family);
        message.header.action = RuleAction::ToTable;
        message.header.table = u8::try_from(self.table).unwrap_or_default();
        message.attributes = vec![
            RuleAttribute::Priority(policy_route::PREFERENCE),
            RuleAttribute::FwMark(self.mark),
            RuleAttribute::FwMask(u32::MAX),
            RuleAttribute::Table(self.table),
            RuleAttribute::Protocol(OURS),
        ];
        message
    }

    /// `ip route add local default dev lo table 133 protocol …`
    fn route(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = address_family(self.family);
        message.header.kind = RouteType::Local;
        message.header.scope = RouteScope::Host;
        message.header.protocol = OURS;
        message.header.table = u8::try_from(self.table).unwrap_or_default();
        message.attributes = vec![
            RouteAttribute::Table(self.table),
            RouteAttribute::Oif(lo::INDEX),
        ];
        message
    }

    fn rule_text(&self, verb: &str) -> String {
        format!(
            "{verb} the {} policy rule for mark {} and table {}",
            name(self.family),
            self.mark,
            self.table
        )
    }

    fn route_text(&self, verb: &str) -> String {
        format!(
            "{verb} the local {} default route of table {}",
            name(self.family),
            self.table
        )
    }
}

/// Whether a rule is worth to be read whole: a node may have thousands that are not ours.
fn may_be_own_rule(body: &[u8]) -> bool {
    let ours = [policy_route::PROTOCOL];
    Attributes::new(body.get(RULE_HEADER..).unwrap_or_default())
        .map_while(Result::ok)
        .any(|attribute| attribute.kind == RULE_PROTOCOL && attribute.value == ours)
}

/// The same of a route: its protocol stands in its header.
fn may_be_own_route(body: &[u8]) -> bool {
    body.get(ROUTE_PROTOCOL) == Some(&policy_route::PROTOCOL)
}

/// Bytes of `fib_rule_hdr`.
const RULE_HEADER: usize = 12;
/// `FRA_PROTOCOL`.
const RULE_PROTOCOL: u16 = 21;
/// Offset of `rtm_protocol` in `rtmsg`.
const ROUTE_PROTOCOL: usize = 5;

fn own_rule(message: &RuleMessage) -> Option<Half> {
    let family = family_of(message.header.family)?;
    let mut table = u32::from(message.header.table);
    let mut mark = None;
    let mut ours = false;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::FwMark(number) => mark = Some(*number),
            RuleAttribute::Protocol(protocol) => ours = *protocol == OURS,
            _ => {}
        }
    }
    ours.then_some(())?;
    Some(Half {
        family,
        mark: mark?,
        table,
    })
}

fn own_route(message: &RouteMessage) -> Option<Half> {
    let family = family_of(message.header.address_family)?;
    let ours = message.header.protocol == OURS && message.header.kind == RouteType::Local;
    ours.then(|| Half {
        family,
        mark: 0,
        table: table_of(message),
    })
}

/// `local default dev lo`
fn leads_here(message: &RouteMessage) -> bool {
    message.header.kind == RouteType::Local
        && message.header.destination_prefix_length == 0
        && message.attributes.contains(&RouteAttribute::Oif(lo::INDEX))
}

fn table_of(message: &RouteMessage) -> u32 {
    let table = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(number) => Some(*number),
            _ => None,
        });
    table.unwrap_or_else(|| u32::from(message.header.table))
}

pub(super) fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn family_of(family: AddressFamily) -> Option<Family> {
    match family {
        AddressFamily::Inet => Some(Family::V4),
        AddressFamily::Inet6 => Some(Family::V6),
        _ => None,
    }
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

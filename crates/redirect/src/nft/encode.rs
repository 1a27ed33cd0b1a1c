//! Ruleset to netlink: expressions for each rule, messages for the whole table.
//!
//! Above each expression list stands the nft text it means; goldens prove it against `nft`.

mod matches;

use shunt_abi::mark::CAPTURED;
use shunt_abi::{TableMark, name};

use super::attr::Writer;
use super::batch::Batch;
use super::expr::{Code, Expr};
use super::key::{Element, to_elements, to_singles};
use super::uapi::{
    DATA_VALUE, LIST_ELEM, POLICY_ACCEPT, chain as chain_abi, expr as abi, flag, msg,
    rule as rule_abi, set as set_abi, table as table_abi,
};
use crate::error::Object;
use crate::hashed;
use crate::ruleset::{Chain, Elements, Hook, Rule, Ruleset, Set, Stage, Verdict};
use matches::encode_match;
pub(crate) use matches::{INTERFACE_NAME_LEN, Side, address_field, port_offset, protocol_number};

/// Elements in one message: an attribute holds 64 KiB, an element takes at most 44 bytes.
const ELEMENTS_PER_MESSAGE: usize = 1000;

/// The table as a transaction's messages. `replace`: one of ours exists and goes first.
pub(crate) fn table(batch: &mut Batch, ruleset: &Ruleset, mark: TableMark, replace: bool) {
    if replace {
        delete(batch);
    }
    let create = flag::CREATE;
    let what = (
        Object::Tables,
        format!("create table inet {}", name::NFT_TABLE),
    );
    batch.push(msg::NEWTABLE, create, what, |table| {
        table.string(table_abi::NAME, name::NFT_TABLE);
        table.be32(table_abi::FLAGS, 0);
        table.comment(table_abi::USERDATA, &mark.to_string());
    });
    for (id, set) in (1..).zip(&ruleset.sets) {
        new_set(batch, set, id);
    }
    for chain in &ruleset.chains {
        new_chain(batch, chain);
        for rule in &chain.rules {
            new_rule(batch, chain, rule);
        }
    }
}

/// The message that deletes the table with all it holds.
pub(crate) fn delete(batch: &mut Batch) {
    let what = (
        Object::Tables,
        format!("delete table inet {}", name::NFT_TABLE),
    );
    batch.push(msg::DELTABLE, 0, what, |table| {
        table.string(table_abi::NAME, name::NFT_TABLE);
    });
}

fn new_set(batch: &mut Batch, set: &Set, id: u32) {
    let shape = shape(&set.elements);
    let what = |verb| {
        (
            Object::Set,
            format!("{verb} set {} of table inet {}", set.name, name::NFT_TABLE),
        )
    };
    batch.push(msg::NEWSET, flag::CREATE, what("create"), |attributes| {
        attributes.string(set_abi::TABLE, name::NFT_TABLE);
        attributes.string(set_abi::NAME, &set.name);
        attributes.be32(set_abi::FLAGS, shape.flags);
        attributes.be32(set_abi::KEY_TYPE, shape.key_type);
        attributes.be32(set_abi::KEY_LEN, shape.key_len);
        attributes.be32(set_abi::ID, id);
        if let Some(size) = hashed::size(&set.elements) {
            attributes.nest(set_abi::DESCRIPTION, |description| {
                description.be32(set_abi::DESCRIPTION_SIZE, size);
            });
        }
    });
    for chunk in elements(&set.elements).chunks(ELEMENTS_PER_MESSAGE) {
        batch.push(msg::NEWSETELEM, flag::CREATE, what("fill"), |attributes| {
            attributes.string(set_abi::ELEM_TABLE, name::NFT_TABLE);
            attributes.string(set_abi::ELEM_SET, &set.name);
            attributes.nest(set_abi::ELEM_ELEMENTS, |list| {
                for element in chunk {
                    write_element(list, element);
                }
            });
        });
    }
}

fn write_element(list: &mut Writer, element: &Element) {
    list.nest(LIST_ELEM, |attributes| {
        attributes.nest(set_abi::ELEM_KEY, |key| key.bytes(DATA_VALUE, &element.key));
        if element.end {
            attributes.be32(set_abi::ELEM_FLAGS, set_abi::ELEM_INTERVAL_END);
        }
    });
}

fn new_chain(batch: &mut Batch, chain: &Chain) {
    let text = format!(
        "create chain {} (type {}) of table inet {}",
        chain.hook.chain(),
        chain_type(chain.hook),
        name::NFT_TABLE
    );
    batch.push(
        msg::NEWCHAIN,
        flag::CREATE,
        (Object::Chain, text),
        |attributes| {
            attributes.string(chain_abi::TABLE, name::NFT_TABLE);
            attributes.string(chain_abi::NAME, chain.hook.chain());
            attributes.nest(chain_abi::HOOK, |hook| {
                hook.be32(chain_abi::HOOK_NUM, hook_number(chain.hook));
                hook.be32(
                    chain_abi::HOOK_PRIORITY,
                    chain.hook.stage().priority().cast_unsigned(),
                );
            });
            attributes.be32(chain_abi::POLICY, POLICY_ACCEPT);
            attributes.string(chain_abi::TYPE, chain_type(chain.hook));
        },
    );
}

fn new_rule(batch: &mut Batch, chain: &Chain, rule: &Rule) {
    let text = format!(
        "add rule {} to chain {} of table inet {}",
        rule.key,
        chain.hook.chain(),
        name::NFT_TABLE
    );
    let flags = flag::CREATE | flag::APPEND;
    batch.push(msg::NEWRULE, flags, (Object::Rule, text), |attributes| {
        attributes.string(rule_abi::TABLE, name::NFT_TABLE);
        attributes.string(rule_abi::CHAIN, chain.hook.chain());
        attributes.nest(rule_abi::EXPRESSIONS, |list| {
            for expression in expressions(rule) {
                expression.write(list);
            }
        });
        attributes.comment(rule_abi::USERDATA, &rule.key);
    });
}

/// Number of a hook in family inet.
pub(crate) fn hook_number(hook: Hook) -> u32 {
    if hook.is_output() {
        chain_abi::LOCAL_OUT
    } else {
        chain_abi::PREROUTING
    }
}

/// Type of the chain on a hook.
pub(crate) fn chain_type(hook: Hook) -> &'static str {
    match hook.stage() {
        Stage::Nat => "nat",
        // A packet whose mark it changes is routed again.
        Stage::Mangle if hook.is_output() => "route",
        Stage::Raw | Stage::Mangle => "filter",
    }
}

/// How a set is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) flags: u32,
    pub(crate) key_type: u32,
    pub(crate) key_len: u32,
}

/// The declaration of a set of this type.
pub(crate) fn shape(elements: &Elements) -> Shape {
    let (key_type, key_len) = match elements {
        Elements::Ports(_) => (set_abi::TYPE_SERVICE, 2),
        Elements::V4(_) => (set_abi::TYPE_IPV4, 4),
        Elements::V6(_) => (set_abi::TYPE_IPV6, 16),
        Elements::Uids(_) => (set_abi::TYPE_UID, 4),
        Elements::Gids(_) => (set_abi::TYPE_GID, 4),
    };
    let intervals = if hashed::size(elements).is_some() {
        0
    } else {
        set_abi::FLAG_INTERVAL
    };
    Shape {
        flags: intervals,
        key_type,
        key_len,
    }
}

/// The elements on the wire.
pub(crate) fn elements(elements: &Elements) -> Vec<Element> {
    if hashed::size(elements).is_some() {
        return match elements {
            Elements::V4(addresses) => to_singles(addresses),
            Elements::V6(addresses) => to_singles(addresses),
            _ => Vec::new(),
        };
    }
    match elements {
        Elements::Ports(ports) => to_elements(ports),
        Elements::V6(addresses) => to_elements(addresses),
        Elements::V4(numbers) | Elements::Uids(numbers) | Elements::Gids(numbers) => {
            to_elements(numbers)
        }
    }
}

/// A rule's expressions: its matches, a counter, its verdict.
pub(crate) fn expressions(rule: &Rule) -> Vec<Expr> {
    let mut list = Vec::new();
    for condition in &rule.matches {
        encode_match(condition, &mut list);
    }
    list.push(Expr::Counter {
        packets: 0,
        bytes: 0,
    });
    encode_verdict(rule.verdict, &mut list);
    list
}

fn encode_verdict(verdict: Verdict, list: &mut Vec<Expr>) {
    let port = |port: u16| Expr::Immediate(port.to_be_bytes().to_vec());
    let mark = |mark: u32| Expr::Immediate(mark.to_ne_bytes().to_vec());
    match verdict {
        // return
        Verdict::Return => list.push(Expr::Verdict(Code::Return)),
        // drop
        Verdict::Drop => list.push(Expr::Verdict(Code::Drop)),
        // redirect to :15001
        Verdict::Redirect(to) => list.extend([port(to.get()), Expr::Redirect]),
        // ct mark set 0x53685450 tproxy to :15006 meta mark set 0x00000539 accept
        Verdict::Tproxy { port: to, mark: m } => list.extend([
            mark(CAPTURED),
            Expr::SetConnection(abi::CT_MARK),
            port(to.get()),
            Expr::Tproxy,
            mark(m),
            Expr::SetMeta(abi::META_MARK),
            Expr::Verdict(Code::Accept),
        ]),
        // meta mark set 0x0000053a return
        Verdict::SetMark(m) => list.extend([
            mark(m),
            Expr::SetMeta(abi::META_MARK),
            Expr::Verdict(Code::Return),
        ]),
        // meta mark set ct mark return
        Verdict::RestoreMark => list.extend([
            Expr::Connection(abi::CT_MARK),
            Expr::SetMeta(abi::META_MARK),
            Expr::Verdict(Code::Return),
        ]),
        // ct mark set meta mark return
        Verdict::SaveMark => list.extend([
            Expr::Meta(abi::META_MARK),
            Expr::SetConnection(abi::CT_MARK),
            Expr::Verdict(Code::Return),
        ]),
        // ct zone set 1 return
        Verdict::Zone(zone) => list.extend([
            Expr::Immediate(zone.to_ne_bytes().to_vec()),
            Expr::SetConnection(abi::CT_ZONE),
            Expr::Verdict(Code::Return),
        ]),
    }
}

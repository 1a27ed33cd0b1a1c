//! Rules as the text that `nft list table inet shunt` prints, without the counters' values.
//!
//! People read it (`--dry-run`), `nft -f` loads it, goldens hold it, and its hash names a policy.

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};

use shunt_abi::name;

use crate::ranges::Ranges;
use crate::ruleset::{
    AddressTest, Chain, Elements, Family, Hook, Match, PRIORITY, PortTest, Protocol, Rule, Ruleset,
    Set, Verdict,
};

/// The whole table, with the comment by which Shunt knows it again.
#[must_use]
pub fn table(ruleset: &Ruleset) -> String {
    format!(
        "table inet {} {{\n\tcomment \"{}\"\n{}}}\n",
        name::NFT_TABLE,
        ruleset.mark(),
        body(ruleset)
    )
}

/// Sets and chains.
pub(crate) fn body(ruleset: &Ruleset) -> String {
    let mut text = String::new();
    let sets = ruleset.sets.iter().map(set);
    let chains = ruleset.chains.iter().map(chain);
    for (index, block) in sets.chain(chains).enumerate() {
        if index > 0 {
            text.push('\n');
        }
        text.push_str(&block);
    }
    text
}

fn set(set: &Set) -> String {
    let (kind, elements) = match &set.elements {
        Elements::Ports(ports) => ("inet_service", ranges(ports, number_range)),
        Elements::V4(blocks) => ("ipv4_addr", ranges(blocks, v4_range)),
        Elements::V6(blocks) => ("ipv6_addr", ranges(blocks, v6_range)),
        Elements::Uids(ids) => ("uid", ranges(ids, number_range)),
        Elements::Gids(ids) => ("gid", ranges(ids, number_range)),
    };
    format!(
        "\tset {} {{\n\t\ttype {kind}\n\t\tflags interval\n\t\telements = {{ {elements} }}\n\t}}\n",
        set.name
    )
}

fn ranges<T: crate::ranges::Scalar>(ranges: &Ranges<T>, text: fn(T, T) -> String) -> String {
    let items: Vec<_> = ranges
        .iter()
        .map(|(first, last)| text(first, last))
        .collect();
    items.join(", ")
}

fn number_range<T: PartialEq + fmt::Display>(first: T, last: T) -> String {
    if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    }
}

fn v4_range(first: u32, last: u32) -> String {
    let size = u128::from(last - first) + 1;
    let text = |bits| Ipv4Addr::from_bits(bits).to_string();
    block(u128::from(first), Some(size), 32, &text(first), &text(last))
}

fn v6_range(first: u128, last: u128) -> String {
    let text = |bits| Ipv6Addr::from_bits(bits).to_string();
    let size = (last - first).checked_add(1);
    block(first, size, 128, &text(first), &text(last))
}

/// `address`, `address/length` or `first-last`. A size of `None` is 2^128.
fn block(first: u128, size: Option<u128>, bits: u32, from: &str, to: &str) -> String {
    match size {
        None => format!("{from}/0"),
        Some(1) => from.to_owned(),
        Some(size) if size.is_power_of_two() && first.is_multiple_of(size) => {
            format!("{from}/{}", bits - size.trailing_zeros())
        }
        Some(_) => format!("{from}-{to}"),
    }
}

fn chain(chain: &Chain) -> String {
    // `nft` knows a name for this priority on the one hook only.
    let (hook, priority) = match chain.hook {
        Hook::Prerouting => ("prerouting", "dstnat".to_owned()),
        Hook::Output => ("output", PRIORITY.to_string()),
    };
    let mut text = format!(
        "\tchain {} {{\n\t\ttype nat hook {hook} priority {priority}; policy accept;\n",
        chain.name
    );
    for line in chain.rules.iter().map(rule) {
        text.push_str("\t\t");
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str("\t}\n");
    text
}

/// One rule, on one line.
#[must_use]
pub fn rule(rule: &Rule) -> String {
    let mut text = String::new();
    for condition in &rule.matches {
        text.push_str(&match_text(condition));
        text.push(' ');
    }
    text.push_str("counter ");
    match rule.verdict {
        Verdict::Return => text.push_str("return"),
        Verdict::Redirect(port) => {
            let _infallible = write!(text, "redirect to :{port}");
        }
    }
    let _infallible = write!(text, " comment \"{}\"", rule.key);
    text
}

fn match_text(condition: &Match) -> String {
    match condition {
        Match::Family(Family::V4) => "meta nfproto ipv4".to_owned(),
        Match::Family(Family::V6) => "meta nfproto ipv6".to_owned(),
        Match::OutLoopback => "oif \"lo\"".to_owned(),
        Match::Protocol(protocol) => format!("meta l4proto {}", protocol_name(*protocol)),
        Match::Source(test) => address("saddr", test),
        Match::Destination(test) => address("daddr", test),
        Match::DestinationPort(protocol, test) => {
            let test = match test {
                PortTest::Is(port) => port.to_string(),
                PortTest::IsNot(port) => format!("!= {port}"),
                PortTest::In(set) => format!("@{set}"),
            };
            format!("{} dport {test}", protocol_name(*protocol))
        }
        Match::OwnerUid(set) => format!("meta skuid @{set}"),
        Match::OwnerGid(set) => format!("meta skgid @{set}"),
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

fn address(side: &str, test: &AddressTest) -> String {
    let header = |v4| if v4 { "ip" } else { "ip6" };
    match test {
        AddressTest::Is(address) => format!("{} {side} {address}", header(address.is_ipv4())),
        AddressTest::IsNot(address) => format!("{} {side} != {address}", header(address.is_ipv4())),
        AddressTest::In(family, set) => format!("{} {side} @{set}", header(*family == Family::V4)),
    }
}

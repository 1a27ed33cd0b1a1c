//! Rules as the text that `nft list table inet shunt` prints, without the counters' values.
//!
//! People read it (`--dry-run`), `nft -f` loads it, and goldens hold it; the hash of a policy's mark
//! takes its rules.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shunt_abi::mark::CAPTURED;
use shunt_abi::name;

use super::encode::chain_type;
use crate::capture::InterfaceName;
use crate::hashed;
use crate::ranges::{Ranges, v6_text};
use crate::ruleset::{
    AddressTest, Chain, Elements, Family, Match, PortTest, Protocol, Rule, Ruleset, Set, Stage,
    Verdict,
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
fn body(ruleset: &Ruleset) -> String {
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
    let kind = match &set.elements {
        Elements::Ports(_) => "inet_service",
        Elements::V4(_) => "ipv4_addr",
        Elements::V6(_) => "ipv6_addr",
        Elements::Uids(_) => "uid",
        Elements::Gids(_) => "gid",
    };
    let shape = match hashed::size(&set.elements) {
        Some(size) => format!("size {size}"),
        None => "flags interval".to_owned(),
    };
    let elements = elements(&set.elements).join(", ");
    format!(
        "\tset {} {{\n\t\ttype {kind}\n\t\t{shape}\n\t\telements = {{ {elements} }}\n\t}}\n",
        set.name
    )
}

/// Each interval of a set; each address of one without intervals.
pub(crate) fn elements(elements: &Elements) -> Vec<String> {
    if hashed::size(elements).is_some() {
        return match elements {
            Elements::V4(addresses) => singles(addresses, v4_range),
            Elements::V6(addresses) => singles(addresses, v6_range),
            _ => Vec::new(),
        };
    }
    match elements {
        Elements::Ports(ports) => ranges(ports, number_range),
        Elements::V4(blocks) => ranges(blocks, v4_range),
        Elements::V6(blocks) => ranges(blocks, v6_range),
        Elements::Uids(ids) | Elements::Gids(ids) => ranges(ids, number_range),
    }
}

fn ranges<T: crate::ranges::Scalar>(ranges: &Ranges<T>, text: fn(T, T) -> String) -> Vec<String> {
    ranges
        .iter()
        .map(|(first, last)| text(first, last))
        .collect()
}

fn singles<T: crate::ranges::Scalar>(ranges: &Ranges<T>, text: fn(T, T) -> String) -> Vec<String> {
    ranges.values().map(|value| text(value, value)).collect()
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
    let text = |bits| v6_text(Ipv6Addr::from_bits(bits));
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
    // `nft` knows a name for the last priority on the one hook only.
    let (hook, nat) = if chain.hook.is_output() {
        ("output", "-100")
    } else {
        ("prerouting", "dstnat")
    };
    let priority = match chain.hook.stage() {
        Stage::Raw => "raw",
        Stage::Mangle => "mangle",
        Stage::Nat => nat,
    };
    let kind = chain_type(chain.hook);
    let name = chain.hook.chain();
    let mut text = format!(
        "\tchain {name} {{\n\t\ttype {kind} hook {hook} priority {priority}; policy accept;\n"
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
    text.push_str(&verdict(rule.verdict));
    let _infallible = write!(text, " comment \"{}\"", rule.key);
    text
}

fn verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Return => "return".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Redirect(port) => format!("redirect to :{port}"),
        Verdict::Tproxy { port, mark } => {
            format!(
                "ct mark set 0x{CAPTURED:08x} tproxy to :{port} meta mark set 0x{mark:08x} accept"
            )
        }
        Verdict::SetMark(mark) => format!("meta mark set 0x{mark:08x} return"),
        Verdict::RestoreMark => "meta mark set ct mark return".to_owned(),
        Verdict::SaveMark => "ct mark set meta mark return".to_owned(),
        Verdict::Zone(zone) => format!("ct zone set {zone} return"),
    }
}

fn match_text(condition: &Match) -> String {
    match condition {
        Match::Family(Family::V4) => "meta nfproto ipv4".to_owned(),
        Match::Family(Family::V6) => "meta nfproto ipv6".to_owned(),
        Match::InLoopback => "iif \"lo\"".to_owned(),
        Match::OutLoopback => "oif \"lo\"".to_owned(),
        Match::InInterface(name) => format!("iifname \"{}\"", interface(name)),
        Match::OutInterface(name) => format!("oifname \"{}\"", interface(name)),
        Match::Protocol(protocol) => format!("meta l4proto {}", protocol_name(*protocol)),
        Match::Source(test) => address("saddr", test),
        Match::Destination(test) => address("daddr", test),
        Match::SourcePort(protocol, test) => port(*protocol, "sport", test),
        Match::DestinationPort(protocol, test) => port(*protocol, "dport", test),
        Match::OwnerUid(set) => format!("meta skuid @{set}"),
        Match::OwnerGid(set) => format!("meta skgid @{set}"),
        Match::NotOwnerGid(set) => format!("meta skgid != @{set}"),
        Match::Cgroup(cgroup) => format!(
            "socket cgroupv2 level {} \"{}\"",
            cgroup.path.level(),
            cgroup.path
        ),
        Match::Mark(mark) => format!("meta mark 0x{mark:08x}"),
        Match::NotMark(mark) => format!("meta mark != 0x{mark:08x}"),
        Match::ConnectionMark(mark) => format!("ct mark 0x{mark:08x}"),
        Match::NotConnectionMark(mark) => format!("ct mark != 0x{mark:08x}"),
        Match::Original => "ct direction original".to_owned(),
        Match::Established => "ct state established,related".to_owned(),
        Match::Invalid => "ct state invalid".to_owned(),
    }
}

fn interface(name: &InterfaceName) -> String {
    match name.prefix() {
        Some(prefix) => format!("{prefix}*"),
        None => name.to_string(),
    }
}

fn port(protocol: Protocol, side: &str, test: &PortTest) -> String {
    let test = match test {
        PortTest::Is(port) => port.to_string(),
        PortTest::IsNot(port) => format!("!= {port}"),
        PortTest::In(set) => format!("@{set}"),
        PortTest::NotIn(set) => format!("!= @{set}"),
    };
    format!("{} {side} {test}", protocol_name(protocol))
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
        AddressTest::Is(address) => {
            format!("{} {side} {}", header(address.is_ipv4()), host(*address))
        }
        AddressTest::IsNot(address) => {
            format!("{} {side} != {}", header(address.is_ipv4()), host(*address))
        }
        AddressTest::In(family, set) => format!("{} {side} @{set}", header(*family == Family::V4)),
        AddressTest::NotIn(family, set) => {
            format!("{} {side} != @{set}", header(*family == Family::V4))
        }
    }
}

fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => v6_text(address),
    }
}

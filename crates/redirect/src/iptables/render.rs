//! A plan's rules in iptables' language, for one family, exactly as `iptables-save` prints them.
//!
//! What nf_tables says in one rule may take several here: one for each address block, each
//! interval of ids, each fifteen ports. All carry the key of the rule that they stand for.
//!
//! A verdict that does something and ends our chain is a `goto`: the helper chain does it, and
//! its end leads back to the built-in chain, whose later rules are others' business. `ACCEPT`
//! would skip them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shunt_abi::mark::CAPTURED;
use shunt_abi::{SCHEMA_VERSION, name::iptables};

use super::sets::{ids, multiports, port_range, v4_blocks, v6_blocks};
use super::state::{Jump, State, Table};
use crate::ranges::{Ranges, v6_text};
use crate::ruleset::{
    AddressTest, Elements, Family, Hook, Match, PortTest, Protocol, Rule, Ruleset, Verdict,
};

/// What the rules are in one family's tables.
#[must_use]
pub fn state(ruleset: &Ruleset, family: Family) -> State {
    let mut state = State::default();
    for stage in super::state::STAGES {
        let mut table = Table::new(stage);
        for chain in ruleset.chains.iter().filter(|c| c.hook.stage() == stage) {
            let renderer = Renderer { ruleset, family };
            renderer.chain(&mut table, chain.hook, &chain.rules);
        }
        state.push(Some(table));
    }
    state
}

/// Our chain for what comes to a hook.
pub(super) fn chain_name(hook: Hook) -> &'static str {
    if hook.is_output() {
        iptables::OUTPUT
    } else {
        iptables::PREROUTING
    }
}

/// The rule that leads from a built-in chain to ours.
pub(super) fn jump(built_in: &str, ours: &str) -> Jump {
    let comment = comment(&format!("{}{SCHEMA_VERSION}", iptables::JUMP));
    Jump {
        chain: built_in.to_owned(),
        rule: format!("{comment} -j {ours}"),
    }
}

fn comment(key: &str) -> String {
    format!("-m comment --comment \"{}{key}\"", iptables::COMMENT)
}

/// A rule of a helper chain.
fn step(key: &str, action: &str) -> String {
    format!("{} -j {action}", comment(key))
}

/// The mask that keeps every bit of a mark.
const ALL: &str = "0xffffffff";

/// A part of a rule. The first kinds stand before all matches, in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    Source(String),
    Destination(String),
    Input(String),
    Output(String),
    Protocol(&'static str),
    Match(String),
}

impl Piece {
    fn text(&self) -> String {
        let tested = |option: &str, test: &str| match test.strip_prefix("! ") {
            Some(test) => format!("! {option} {test}"),
            None => format!("{option} {test}"),
        };
        match self {
            Self::Source(test) => tested("-s", test),
            Self::Destination(test) => tested("-d", test),
            Self::Input(name) => format!("-i {name}"),
            Self::Output(name) => format!("-o {name}"),
            Self::Protocol(name) => format!("-p {name}"),
            Self::Match(text) => text.clone(),
        }
    }
}

/// Ways in which a condition can hold; each is a list of pieces that must all hold.
type Ways = Vec<Vec<Piece>>;

/// A condition that always holds.
fn always() -> Ways {
    vec![Vec::new()]
}

/// A condition that never holds.
fn never() -> Ways {
    Vec::new()
}

struct Renderer<'a> {
    ruleset: &'a Ruleset,
    family: Family,
}

impl Renderer<'_> {
    fn chain(&self, table: &mut Table, hook: Hook, rules: &[Rule]) {
        let built_in = if hook.is_output() {
            "OUTPUT"
        } else {
            "PREROUTING"
        };
        let name = chain_name(hook);
        let mut lines = Vec::new();
        for rule in rules {
            self.rule(table, rule, &mut lines);
        }
        if !lines.is_empty() {
            table.chain_mut(name).rules = lines;
            table.jumps.push(jump(built_in, name));
        }
    }

    fn rule(&self, table: &mut Table, rule: &Rule, lines: &mut Vec<String>) {
        let mut ways = always();
        for condition in &rule.matches {
            let alternatives = self.condition(condition);
            ways = ways
                .iter()
                .flat_map(|way| {
                    alternatives
                        .iter()
                        .map(|more| way.iter().chain(more).cloned().collect())
                })
                .collect();
        }
        if ways.is_empty() {
            return;
        }
        let target = self.target(table, rule.verdict);
        let comment = comment(&rule.key);
        for mut pieces in ways {
            // Stable: matches stay in the order of the plan.
            pieces.sort_by_key(|piece| match piece {
                Piece::Source(_) => 0,
                Piece::Destination(_) => 1,
                Piece::Input(_) => 2,
                Piece::Output(_) => 3,
                Piece::Protocol(_) => 4,
                Piece::Match(_) => 5,
            });
            // A protocol may be said twice, by itself and with a port.
            pieces.dedup();
            let mut line = String::new();
            for piece in &pieces {
                line.push_str(&piece.text());
                line.push(' ');
            }
            lines.push(format!("{line}{comment} {target}"));
        }
    }

    /// How a packet that matches goes on. Makes the helper chain that this takes.
    fn target(&self, table: &mut Table, verdict: Verdict) -> String {
        let (helper, steps) = match verdict {
            Verdict::Return => return "-j RETURN".to_owned(),
            Verdict::Drop => return "-j DROP".to_owned(),
            Verdict::Redirect(port) => return format!("-j REDIRECT --to-ports {port}"),
            Verdict::Tproxy { port, mark } => {
                let any = match self.family {
                    Family::V4 => "0.0.0.0",
                    Family::V6 => "::",
                };
                let remember = step(
                    "captured",
                    &format!("CONNMARK --set-xmark {CAPTURED:#x}/{ALL}"),
                );
                let target =
                    format!("TPROXY --on-port {port} --on-ip {any} --tproxy-mark {mark:#x}/{ALL}");
                // The target refuses rules that do not say it.
                let hand_over = format!("-p tcp {}", step("tproxy", &target));
                (iptables::TPROXY.to_owned(), vec![remember, hand_over])
            }
            Verdict::SetMark(mark) => (
                format!("{}{mark}", iptables::MARK),
                vec![step(
                    "set-mark",
                    &format!("MARK --set-xmark {mark:#x}/{ALL}"),
                )],
            ),
            Verdict::RestoreMark => {
                let action = format!("CONNMARK --restore-mark --nfmask {ALL} --ctmask {ALL}");
                let name = iptables::RESTORE_MARK.to_owned();
                (name, vec![step("restore-mark", &action)])
            }
            Verdict::SaveMark => {
                let action = format!("CONNMARK --save-mark --nfmask {ALL} --ctmask {ALL}");
                let name = iptables::SAVE_MARK.to_owned();
                (name, vec![step("save-mark", &action)])
            }
            Verdict::Zone(zone) => (
                format!("{}{zone}", iptables::ZONE),
                vec![step("zone", &format!("CT --zone {zone}"))],
            ),
        };
        table.chain_mut(&helper).rules = steps;
        format!("-g {helper}")
    }

    fn condition(&self, condition: &Match) -> Ways {
        let matching = |text: String| vec![vec![Piece::Match(text)]];
        match condition {
            Match::Family(family) if *family == self.family => always(),
            Match::Family(_) => never(),
            Match::InLoopback => vec![vec![Piece::Input("lo".to_owned())]],
            Match::OutLoopback => vec![vec![Piece::Output("lo".to_owned())]],
            Match::InInterface(name) => vec![vec![Piece::Input(name.to_string())]],
            Match::OutInterface(name) => vec![vec![Piece::Output(name.to_string())]],
            Match::Protocol(protocol) => vec![vec![Piece::Protocol(protocol_name(*protocol))]],
            Match::Source(test) => self.address(test, Piece::Source, "src"),
            Match::Destination(test) => self.address(test, Piece::Destination, "dst"),
            Match::SourcePort(protocol, test) => self.port(*protocol, "sport", test),
            Match::DestinationPort(protocol, test) => self.port(*protocol, "dport", test),
            Match::OwnerUid(set) => self.owners(set, "uid"),
            Match::OwnerGid(set) => self.owners(set, "gid"),
            Match::NotOwnerGid(set) => {
                // `! --gid-owner` holds for packets without a socket; with a test for a socket
                // before it, it does not, as nf_tables'.
                let mut pieces = vec![Piece::Match("-m owner --socket-exists".to_owned())];
                pieces.extend(
                    ids(&self.ids(set))
                        .map(|gids| Piece::Match(format!("-m owner ! --gid-owner {gids}"))),
                );
                vec![pieces]
            }
            Match::Cgroup(cgroup) => matching(format!("-m cgroup --path {}", quoted(&cgroup.path))),
            Match::Mark(mark) => matching(format!("-m mark --mark {mark:#x}")),
            Match::NotMark(mark) => matching(format!("-m mark ! --mark {mark:#x}")),
            Match::ConnectionMark(mark) => matching(format!("-m connmark --mark {mark:#x}")),
            Match::NotConnectionMark(mark) => matching(format!("-m connmark ! --mark {mark:#x}")),
            Match::Original => matching("-m conntrack --ctdir ORIGINAL".to_owned()),
            Match::Established => matching("-m conntrack --ctstate RELATED,ESTABLISHED".to_owned()),
            Match::Invalid => matching("-m conntrack --ctstate INVALID".to_owned()),
        }
    }

    fn address(&self, test: &AddressTest, piece: fn(String) -> Piece, side: &str) -> Ways {
        let family = match test {
            AddressTest::Is(IpAddr::V4(_)) | AddressTest::IsNot(IpAddr::V4(_)) => Family::V4,
            AddressTest::Is(IpAddr::V6(_)) | AddressTest::IsNot(IpAddr::V6(_)) => Family::V6,
            AddressTest::In(family, _) | AddressTest::NotIn(family, _) => *family,
        };
        if family != self.family {
            return never();
        }
        match test {
            AddressTest::Is(address) => vec![vec![piece(host(*address))]],
            AddressTest::IsNot(address) => vec![vec![piece(format!("! {}", host(*address)))]],
            AddressTest::In(_, set) => {
                let blocks = self.blocks(set).into_iter();
                blocks
                    .map(|block| block.map(piece).into_iter().collect())
                    .collect()
            }
            AddressTest::NotIn(_, set) => match self.blocks(set).as_slice() {
                [] => always(),
                [None] => never(),
                [Some(block)] => vec![vec![piece(format!("! {block}"))]],
                _ => {
                    let ranges = self.intervals(set).into_iter();
                    vec![
                        ranges
                            .map(|range| {
                                Piece::Match(format!("-m iprange ! --{side}-range {range}"))
                            })
                            .collect(),
                    ]
                }
            },
        }
    }

    fn port(&self, protocol: Protocol, side: &str, test: &PortTest) -> Ways {
        let name = protocol_name(protocol);
        let single = |not: &str, ports: String| {
            vec![vec![
                Piece::Protocol(name),
                Piece::Match(format!("-m {name} {not}--{side} {ports}")),
            ]]
        };
        match test {
            PortTest::Is(port) => single("", port.to_string()),
            PortTest::IsNot(port) => single("! ", port.to_string()),
            PortTest::In(set) => match self.ports(set).iter().collect::<Vec<_>>().as_slice() {
                [(0, u16::MAX)] => vec![vec![Piece::Protocol(name)]],
                [(first, last)] => single("", port_range(*first, *last)),
                _ => multiports(&self.ports(set))
                    .into_iter()
                    .map(|ports| {
                        vec![
                            Piece::Protocol(name),
                            Piece::Match(format!("-m multiport --{side}s {ports}")),
                        ]
                    })
                    .collect(),
            },
            PortTest::NotIn(set) => {
                match self.ports(set).iter().collect::<Vec<_>>().as_slice() {
                    [(0, u16::MAX)] => never(),
                    [(first, last)] => single("! ", port_range(*first, *last)),
                    _ => {
                        let mut pieces = vec![Piece::Protocol(name)];
                        pieces.extend(multiports(&self.ports(set)).into_iter().map(|ports| {
                            Piece::Match(format!("-m multiport ! --{side}s {ports}"))
                        }));
                        vec![pieces]
                    }
                }
            }
        }
    }

    fn owners(&self, set: &str, kind: &str) -> Ways {
        ids(&self.ids(set))
            .map(|ids| vec![Piece::Match(format!("-m owner --{kind}-owner {ids}"))])
            .collect()
    }

    /// The blocks of a set of addresses of our family; `None` is all addresses.
    fn blocks(&self, set: &str) -> Vec<Option<String>> {
        match self.elements(set) {
            Some(Elements::V4(ranges)) => v4_blocks(ranges),
            Some(Elements::V6(ranges)) => v6_blocks(ranges),
            _ => Vec::new(),
        }
    }

    /// The intervals of a set of addresses, as `iprange` takes them.
    fn intervals(&self, set: &str) -> Vec<String> {
        match self.elements(set) {
            Some(Elements::V4(ranges)) => ranges
                .iter()
                .map(|(first, last)| {
                    let text = Ipv4Addr::from_bits;
                    format!("{}-{}", text(first), text(last))
                })
                .collect(),
            Some(Elements::V6(ranges)) => ranges
                .iter()
                .map(|(first, last)| {
                    let text = |bits| v6_text(Ipv6Addr::from_bits(bits));
                    format!("{}-{}", text(first), text(last))
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    fn ports(&self, set: &str) -> Ranges<u16> {
        match self.elements(set) {
            Some(Elements::Ports(ports)) => ports.clone(),
            _ => Ranges::default(),
        }
    }

    fn ids(&self, set: &str) -> Ranges<u32> {
        match self.elements(set) {
            Some(Elements::Uids(ids) | Elements::Gids(ids)) => ids.clone(),
            _ => Ranges::default(),
        }
    }

    fn elements(&self, set: &str) -> Option<&Elements> {
        self.ruleset.set(set).map(|set| &set.elements)
    }
}

/// An address as iptables prints it.
fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}/32"),
        IpAddr::V6(address) => format!("{}/128", v6_text(address)),
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

fn quoted(text: &impl std::fmt::Display) -> String {
    format!("\"{text}\"")
}

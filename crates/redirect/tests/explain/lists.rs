//! Long lists of CIDRs, which nf_tables looks up in two sets: they hold what they held in one.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use shunt_redirect::capture::{CaptureConfig, InboundMode, Ipv6Mode, Mark, OutboundCapture};
use shunt_redirect::explain::Rules;
use shunt_redirect::ruleset::Ruleset;
use shunt_redirect::{PodFacts, plan, plan_for_iptables};

use crate::support::{APP, arrives, fate, from, opens};

/// Addresses and short blocks close to one another, and a few wide ones, in both families.
fn list() -> impl Strategy<Value = Vec<IpNet>> {
    let near = (
        0u32..1200,
        prop_oneof![20 => Just(0u8), 2 => Just(1), 1 => Just(2), 1 => 3u8..9],
    );
    let wide = (0u32..0x10_0000, 9u8..21);
    let block = |(host, bits): (u32, u8), ipv6: bool| {
        if ipv6 {
            let address = Ipv6Addr::from_bits((0xfd00_0077 << 96) + u128::from(host));
            IpNet::V6(Ipv6Net::new_assert(address, 128 - bits).trunc())
        } else {
            let address = Ipv4Addr::from_bits(0x1e00_0000 + host);
            IpNet::V4(Ipv4Net::new_assert(address, 32 - bits).trunc())
        }
    };
    let near = prop::collection::vec((near, any::<bool>()), 300..900);
    let wide = prop::collection::vec((wide, any::<bool>()), 0..3);
    (near, wide).prop_map(move |(near, wide)| {
        let blocks = near.into_iter().chain(wide);
        blocks
            .map(|(block_of, ipv6)| block(block_of, ipv6))
            .collect()
    })
}

/// The ends of some blocks, and what lies beside them.
fn edges(list: &[IpNet]) -> BTreeSet<IpAddr> {
    let some = list.iter().step_by(23).chain(list.iter().rev().take(3));
    let ends = some.flat_map(|block| [block.network(), block.broadcast()]);
    ends.flat_map(|end| [end, beside(end, -1), beside(end, 1)])
        .collect()
}

fn beside(address: IpAddr, step: i8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().wrapping_add_signed(step.into())).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().wrapping_add_signed(step.into())).into(),
    }
}

/// The rules for each kind of backend.
fn both(change: impl FnOnce(&mut CaptureConfig)) -> [Ruleset; 2] {
    let mut config = CaptureConfig {
        ipv6: Ipv6Mode::On,
        ..CaptureConfig::default()
    };
    change(&mut config);
    [plan, plan_for_iptables].map(|plan| plan(&config, &PodFacts::default()).ruleset)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn a_list_holds_what_any_of_its_cidrs_holds(list in list()) {
        let excluded = both(|config| config.outbound.exclude_cidrs.clone_from(&list));
        let included = both(|config| config.outbound.capture = OutboundCapture::Only(list.clone()));
        let clients = both(|config| config.inbound.exclude_sources.clone_from(&list));
        let by_tproxy = both(|config| {
            config.inbound.exclude_sources.clone_from(&list);
            let mark = Mark::new(1337).unwrap();
            config.inbound.mode = InboundMode::Tproxy { mark, table: 133 };
        });
        let [of_excluded, of_included, of_clients, of_tproxy] =
            [excluded, included, clients, by_tproxy]
                .map(|both| both.map(|ruleset| Rules::from_ruleset(&ruleset)));
        for address in edges(&list) {
            let held = list.iter().any(|block| block.contains(&address));
            let pod = if address.is_ipv4() { "10.9.0.2" } else { "fd00:9::2" };
            let sent = opens(APP, &address.to_string(), 80);
            let arriving = from(arrives(pod, 80), &address.to_string());
            for nth in 0..2 {
                let word = |passes: bool, else_to: &str| {
                    if passes { "passes".to_owned() } else { else_to.to_owned() }
                };
                prop_assert_eq!(fate(&of_excluded[nth], &sent), word(held, "15001"), "{}", address);
                prop_assert_eq!(fate(&of_included[nth], &sent), word(!held, "15001"), "{}", address);
                let inbound = fate(&of_clients[nth], &arriving);
                prop_assert_eq!(inbound, word(held, "15006"), "{}", address);
                let inbound = fate(&of_tproxy[nth], &arriving);
                prop_assert_eq!(inbound, word(held, "tproxy 15006"), "{}", address);
            }
        }
    }
}

#[test]
fn only_lists_of_many_addresses_are_looked_up_in_two_sets_and_never_by_iptables() {
    let block: IpNet = "30.0.0.0/9".parse().unwrap();
    let names = |ruleset: &Ruleset| -> Vec<String> {
        let sets = ruleset.sets.iter().map(|set| set.name.clone());
        sets.filter(|name| name.starts_with("outbound_exclude"))
            .collect()
    };
    let with = |addresses: u32, blocks: &[IpNet]| {
        let addresses =
            (0..addresses).map(|n| IpAddr::from(Ipv4Addr::from_bits(0x1f00_0000 + 2 * n)).into());
        let list: Vec<IpNet> = addresses.chain(blocks.iter().copied()).collect();
        both(|config| config.outbound.exclude_cidrs = list).map(|ruleset| names(&ruleset))
    };
    let one = vec!["outbound_exclude_v4".to_owned()];
    let two = vec!["outbound_exclude_blocks_v4".to_owned(), one[0].clone()];
    assert_eq!(with(256, &[block]), [two, one.clone()]);
    assert_eq!(with(255, &[block]), [one.clone(), one.clone()]);
    assert_eq!(with(256, &[]), [one.clone(), one.clone()]);
    let pair: IpNet = "30.0.0.2/31".parse().unwrap();
    assert_eq!(with(256, &[pair]), [one.clone(), one]);
}

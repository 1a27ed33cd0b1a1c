//! Can this kernel do what rules need? A transaction tells, which is never committed.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use shunt_abi::policy_route;

use super::Finding;
use crate::capture::{
    CaptureConfig, DNS_PROXY, Dns, DnsServers, InboundMode, Interfaces, Ipv6Mode, OwnerGroups,
    TPROXY_MARK,
};
use crate::error::Cause;
use crate::facts::PodFacts;
use crate::nft::Nft;
use crate::plan::plan;
use crate::routing::PodAddresses;
use crate::ruleset::{Hook, Ruleset};

/// What of the rules the kernel can do: the default policy, and apart from it what only some need.
pub(super) fn findings() -> Vec<Finding> {
    let default = rules(&CaptureConfig {
        ipv6: Ipv6Mode::On,
        ..CaptureConfig::default()
    });
    let tproxy = rules(&CaptureConfig {
        inbound: crate::capture::Inbound {
            mode: InboundMode::Tproxy {
                mark: TPROXY_MARK,
                table: policy_route::TABLE,
            },
            ..CaptureConfig::default().inbound
        },
        drop_invalid: true,
        ipv6: Ipv6Mode::On,
        ..CaptureConfig::default()
    });
    let everything = rules(&with_all_matches());
    let mut findings = vec![rehearse("nf_tables", &default, "", true)];
    // What is not there at all need not be said three times.
    if matches!(findings[0].state, super::State::Good) {
        findings.push(rehearse(
            "nf_tables for TPROXY",
            &tproxy,
            "Only TPROXY and --drop-invalid need it",
            false,
        ));
        findings.push(rehearse(
            "nf_tables for exceptions",
            &everything,
            "Only policies with DNS capture, interfaces, groups or blocks need it",
            false,
        ));
    }
    findings
}

fn rules(config: &CaptureConfig) -> Ruleset {
    plan(config, &PodFacts::with_addresses(PodAddresses::default())).ruleset
}

/// A policy whose rules hold every other match that there is.
fn with_all_matches() -> CaptureConfig {
    let block = |address: IpAddr| vec![IpNet::from(address)];
    let v4 = block(Ipv4Addr::new(192, 0, 2, 1).into());
    let v6 = block(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into());
    let blocks = [v4, v6].concat();
    let mut config = CaptureConfig {
        dns: Some(Dns {
            port: DNS_PROXY,
            servers: DnsServers::Only(blocks.iter().map(IpNet::addr).collect()),
        }),
        interfaces: Interfaces {
            exclude: crate::capture::InterfaceName::new("eth9")
                .into_iter()
                .collect(),
            ..Interfaces::default()
        },
        ipv6: Ipv6Mode::On,
        ..CaptureConfig::default()
    };
    config.inbound.exclude_sources.clone_from(&blocks);
    config.outbound.exclude_cidrs = blocks;
    config.outbound.exclude_ports = [(9, 9)].into_iter().collect();
    config.outbound.owners = OwnerGroups::Except(BTreeSet::from([1]));
    config
}

fn rehearse(check: &'static str, rules: &Ruleset, only: &str, needed: bool) -> Finding {
    let outcome = Nft::open().and_then(|mut nft| nft.rehearse(rules));
    let hooks = rules.chains.iter().map(|chain| chain.hook);
    let hooks: Vec<&str> = hooks.map(Hook::chain).collect();
    match outcome {
        Ok(()) => Finding::good(
            check,
            format!(
                "would take {} rules in {}",
                rules.rule_count(),
                hooks.join(", ")
            ),
        ),
        Err(error) if needed || error.cause() != Cause::KernelLacks => {
            Finding::of_error(check, &error)
        }
        Err(error) => Finding::note(check, format!("{error}. {only}")),
    }
}

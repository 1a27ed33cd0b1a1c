//! The rules of Linkerd's `proxy-init`, written down here by hand, in one pod; `shunt-init
//! linkerd-init` with the flags that they stand for in another; the same flows through both.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use clap::{Args as _, FromArgMatches as _};
use fastrand::Rng;
use shunt_redirect::CaptureConfig;
use shunt_redirect::compat::linkerd::LinkerdArgs;
use shunt_tests::lab::matrix::Shares;
use shunt_tests::lab::{Bench, Edges, Lab, Observation, Outcome, PATIENCE, Proxy, Trial};
use shunt_tests::prelude::*;

/// Flows for each set of flags.
const FLOWS: usize = 400;

/// Flags, and the rules that they stand for: those of each chain up to its last one.
struct Case {
    flags: &'static [&'static str],
    /// What passes inbound; `-s` in the IPv4 tables only.
    inbound: &'static [&'static str],
    /// What passes inbound in the IPv6 tables beside it.
    inbound_v6: &'static [&'static str],
    /// What is captured inbound.
    captured: &'static [&'static str],
    /// What passes outbound.
    outbound: &'static [&'static str],
}

const ALL_INBOUND: &[&str] = &["-p tcp -j REDIRECT --to-port 4143"];

#[rustfmt::skip]
const CASES: &[Case] = &[
    // What the chart gives.
    Case {
        flags: &["-p", "4143", "-o", "4140", "-u", "2102",
                 "--inbound-ports-to-ignore", "4190,4191,4567,4568",
                 "--outbound-ports-to-ignore", "4567,4568"],
        inbound: &["-p tcp -m multiport --dports 4190,4191,4567,4568 -j RETURN"],
        inbound_v6: &[],
        captured: ALL_INBOUND,
        outbound: &["-m owner --uid-owner 2102 -j RETURN",
                    "-o lo -j RETURN",
                    "-p tcp -m multiport --dports 4567,4568 -j RETURN"],
    },
    // By group alone, and nothing ignored.
    Case {
        flags: &["-p", "4143", "-o", "4140", "-g", "2102"],
        inbound: &[],
        inbound_v6: &[],
        captured: ALL_INBOUND,
        outbound: &["-m owner --gid-owner 2102 -j RETURN",
                    "-o lo -j RETURN"],
    },
    // Both, and ranges.
    Case {
        flags: &["-p", "4143", "-o", "4140", "-u", "2102", "-g", "3000",
                 "--inbound-ports-to-ignore", "25,8000-8010,65535",
                 "--outbound-ports-to-ignore", "1-79,443"],
        inbound: &["-p tcp -m multiport --dports 25,8000:8010,65535 -j RETURN"],
        inbound_v6: &[],
        captured: ALL_INBOUND,
        outbound: &["-m owner --uid-owner 2102 -j RETURN",
                    "-m owner --gid-owner 3000 -j RETURN",
                    "-o lo -j RETURN",
                    "-p tcp -m multiport --dports 1:79,443 -j RETURN"],
    },
    // Listed inbound ports.
    Case {
        flags: &["-p", "14143", "-o", "14140", "-u", "2102", "-r", "80,8080",
                 "--inbound-ports-to-ignore", "8080"],
        inbound: &["-p tcp -m multiport --dports 8080 -j RETURN"],
        inbound_v6: &[],
        captured: &["-p tcp --dport 80 -j REDIRECT --to-port 14143",
                    "-p tcp --dport 8080 -j REDIRECT --to-port 14143"],
        outbound: &["-m owner --uid-owner 2102 -j RETURN",
                    "-o lo -j RETURN"],
    },
    // Clients whose connections pass.
    Case {
        flags: &["-p", "4143", "-o", "4140", "-u", "2102",
                 "--subnets-to-ignore", "10.96.0.0/16,192.0.2.7/32,2001:db8:7::/64"],
        inbound: &["-s 10.96.0.0/16 -j RETURN", "-s 192.0.2.7/32 -j RETURN"],
        inbound_v6: &["-s 2001:db8:7::/64 -j RETURN"],
        captured: ALL_INBOUND,
        outbound: &["-m owner --uid-owner 2102 -j RETURN",
                    "-o lo -j RETURN"],
    },
];

impl Case {
    /// The nat table, for `iptables-restore`; `--subnets-to-ignore` is split by family, since the
    /// original fails otherwise.
    fn table(&self, family: Family) -> String {
        let outgoing = self.flags[3];
        let passing = match family {
            Family::V4 => self.inbound,
            Family::V6 if self.inbound_v6.is_empty() => self.inbound,
            Family::V6 => self.inbound_v6,
        };
        let rules = |chain: &str, rules: &[&str]| -> String {
            let rules = rules.iter().map(|rule| format!("-A {chain} {rule}\n"));
            rules.collect()
        };
        format!(
            "*nat\n:PROXY_INIT_REDIRECT - [0:0]\n:PROXY_INIT_OUTPUT - [0:0]\n{}{}{}\
             -A PROXY_INIT_OUTPUT -p tcp -j REDIRECT --to-port {outgoing}\n\
             -A PREROUTING -j PROXY_INIT_REDIRECT\n-A OUTPUT -j PROXY_INIT_OUTPUT\nCOMMIT\n",
            rules("PROXY_INIT_REDIRECT", passing),
            rules("PROXY_INIT_REDIRECT", self.captured),
            rules("PROXY_INIT_OUTPUT", self.outbound),
        )
    }

    /// What our own parser reads in the flags; by it flows are chosen, nothing else.
    fn policy(&self) -> Result<CaptureConfig> {
        let command = LinkerdArgs::augment_args(clap::Command::new("proxy-init"));
        let arguments = ["proxy-init"].iter().chain(self.flags);
        let matches = command.try_get_matches_from(arguments)?;
        Ok(LinkerdArgs::from_arg_matches(&matches)?.parse()?.config)
    }
}

struct Pair<'b> {
    linkerd: Lab<'b>,
    ours: Lab<'b>,
}

impl Pair<'_> {
    fn write(&self, case: &Case, flavour: &str) -> Result<()> {
        self.linkerd.clear()?;
        self.linkerd.in_pod(|bench| {
            for (program, family) in [("iptables", Family::V4), ("ip6tables", Family::V6)] {
                let mut restore = Command::new(format!("{program}-{flavour}-restore"));
                bench.program(&mut restore, &case.table(family))?;
            }
            // The original needs no `::6`; without it, no flow could start from there.
            let mut ip = Command::new("ip");
            bench.program(ip.args("-6 address add ::6/128 dev lo".split(' ')), "")?;
            Ok(())
        })?;
        self.ours.in_pod(|bench| {
            let mut init = Command::new(programs::shunt_init()?);
            bench.program(init.arg("linkerd-init").args(case.flags), "")?;
            Ok(())
        })
    }

    fn differences(
        &mut self,
        policy: &CaptureConfig,
        trials: &[Trial],
    ) -> Result<Vec<(Trial, [Vec<Observation>; 2])>> {
        let proxy = Proxy::of(policy);
        let linkerd = self.linkerd.run(&proxy, trials)?;
        let ours = self.ours.run(&proxy, trials)?;
        let both = trials.iter().zip(linkerd.into_iter().zip(ours));
        Ok(both
            .filter(|(_, (linkerd, ours))| linkerd != ours)
            .map(|(trial, (linkerd, ours))| (trial.clone(), [linkerd, ours]))
            .collect())
    }
}

/// Whether either got no answer.
fn is_silent(seen: &[Vec<Observation>; 2]) -> bool {
    let mut all = seen.iter().flatten();
    all.any(|seen| matches!(seen.outcome, Outcome::Silent(_)))
}

#[test]
fn linkerds_flags_do_what_its_rules_do() -> Result<()> {
    Bench::run(|bench| {
        bench.set_nameservers(&[IpAddr::from([10, 96, 0, 10])])?;
        let mut pair = Pair {
            linkerd: Lab::new(bench)?,
            ours: Lab::new(bench)?,
        };
        let mut captured = 0;
        for (seed, case) in (1..).zip(CASES) {
            let flavour = if seed % 2 == 0 { "legacy" } else { "nft" };
            let policy = case.policy()?;
            let edges = Edges::of(&policy, &[]);
            let trials = edges.trials(FLOWS, Shares::default(), &mut Rng::with_seed(seed));
            pair.write(case, flavour)
                .with_context(|| format!("{:?}", case.flags))?;
            let mut different = pair.differences(&policy, &trials)?;
            if different.iter().all(|(_, seen)| is_silent(seen)) && !different.is_empty() {
                // Once more, with time enough for a busy machine, which makes silence of answers.
                for lab in [&mut pair.linkerd, &mut pair.ours] {
                    lab.set_patience(Duration::from_secs(1));
                }
                different = pair.differences(&policy, &trials)?;
                for lab in [&mut pair.linkerd, &mut pair.ours] {
                    lab.set_patience(PATIENCE);
                }
            }
            if let Some((trial, [linkerd, ours])) = different.first() {
                bail!(
                    "{:?} ({flavour}): {} flows end differently, first\n  {trial}\n    Linkerd: \
                     {linkerd:?}\n    Shunt: {ours:?}",
                    case.flags,
                    different.len()
                );
            }
            let ports = [policy.inbound.port.get(), policy.outbound.port.get()];
            let seen = pair.ours.run(&Proxy::of(&policy), &trials)?;
            let seen = seen.iter().flatten().filter_map(Observation::arrival);
            captured += seen
                .filter(|arrival| ports.contains(&arrival.listener))
                .count();
        }
        ensure!(captured > 300, "only {captured} flows were captured");
        Ok(())
    })
}

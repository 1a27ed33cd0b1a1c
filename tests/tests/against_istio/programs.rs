//! Istio's program in two pods, by each of its two ways of writing rules, ours in a third.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use shunt_redirect::CaptureConfig;
use shunt_tests::lab::{Bench, Lab, Observation, PATIENCE, Proxy, Trial};
use shunt_tests::prelude::*;

use crate::flags::FlagSet;

/// The pod's DNS servers.
const NAMESERVERS: [&str; 3] = ["10.96.0.10", "fd00:96::10", "127.0.0.53"];

/// Long enough for any machine.
const LONG_PATIENCE: Duration = Duration::from_millis(600);

/// What Istio's program writes its rules with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// The legacy flavour of iptables.
    Legacy,
    /// The nft flavour of iptables.
    IptablesNft,
    /// `nft`.
    Nftables,
}

impl Way {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Legacy => &["--force-iptables-binary", "legacy"],
            Self::IptablesNft => &["--force-iptables-binary", "nft"],
            Self::Nftables => &["--native-nftables"],
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.arguments().join(" "))
    }
}

/// What both programs are told.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) flags: FlagSet,
    /// What the flows are chosen by.
    pub(crate) seed: u64,
    /// Whether ours is to decide about IPv6 as Istio does.
    pub(crate) ipv6_as_istio: bool,
}

/// A flow that ended differently.
#[derive(Debug, Clone)]
pub(crate) struct Mismatch {
    pub(crate) way: Way,
    pub(crate) trial: Trial,
    /// Which flow of the trial.
    pub(crate) at: usize,
    pub(crate) istio: Observation,
    pub(crate) ours: Observation,
}

/// Three labs on one thread.
pub(crate) struct Programs<'b> {
    iptables: Lab<'b>,
    nftables: Lab<'b>,
    ours: Lab<'b>,
    pub(crate) nameservers: Vec<IpAddr>,
}

impl<'b> Programs<'b> {
    pub(crate) fn new(bench: &'b Bench) -> Result<Self> {
        let nameservers = NAMESERVERS.iter().map(|server| server.parse());
        let nameservers: Vec<IpAddr> = nameservers.collect::<Result<_, _>>()?;
        bench.set_nameservers(&nameservers)?;
        Ok(Self {
            iptables: Lab::new(bench)?,
            nftables: Lab::new(bench)?,
            ours: Lab::new(bench)?,
            nameservers,
        })
    }

    fn of(&mut self, way: Way) -> &mut Lab<'b> {
        match way {
            Way::Legacy | Way::IptablesNft => &mut self.iptables,
            Way::Nftables => &mut self.nftables,
        }
    }

    /// Lets each program write its rules.
    pub(crate) fn write(&mut self, told: &Told, ways: &[Way]) -> Result<()> {
        let istio = programs::istio_iptables()?;
        for way in ways {
            let lab = self.of(*way);
            lab.clear()?;
            run(lab, &istio, way.arguments(), &told.flags)?;
        }
        let own: &[&str] = match told.ipv6_as_istio {
            true => &["istio-iptables", "--ipv6", "istio"],
            false => &["istio-iptables"],
        };
        run(&self.ours, &programs::shunt_init()?, own, &told.flags)
    }

    /// Sends the same flows through all pods.
    pub(crate) fn send(
        &mut self,
        policy: &CaptureConfig,
        ways: &[Way],
        trials: &[Trial],
    ) -> Result<Vec<Mismatch>> {
        let proxy = Proxy::of(policy);
        let ours = self.ours.run(&proxy, trials)?;
        let mut mismatches = Vec::new();
        for way in ways {
            let istio = self.of(*way).run(&proxy, trials)?;
            for ((trial, istio), ours) in trials.iter().zip(istio).zip(&ours) {
                let different = istio.iter().zip(ours).position(|(a, b)| a != b);
                if let Some(at) = different {
                    mismatches.push(Mismatch {
                        way: *way,
                        trial: trial.clone(),
                        at,
                        istio: istio[at].clone(),
                        ours: ours[at].clone(),
                    });
                }
            }
        }
        Ok(mismatches)
    }

    /// As [`Self::send`], with time enough for any machine.
    pub(crate) fn send_patiently(
        &mut self,
        policy: &CaptureConfig,
        ways: &[Way],
        trials: &[Trial],
    ) -> Result<Vec<Mismatch>> {
        self.set_patience(LONG_PATIENCE);
        let sent = self.send(policy, ways, trials);
        self.set_patience(PATIENCE);
        sent
    }

    fn set_patience(&mut self, patience: Duration) {
        for lab in [&mut self.iptables, &mut self.nftables, &mut self.ours] {
            lab.set_patience(patience);
        }
    }
}

/// Runs a program that writes rules, in a pod.
fn run(lab: &Lab<'_>, program: &Path, first: &[&str], flags: &FlagSet) -> Result<()> {
    lab.in_pod(|bench| {
        let mut command = Command::new(program);
        command.args(first).args(flags.arguments()).env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs(flags.variables());
        bench.program(&mut command, "").map(drop)
    })
}

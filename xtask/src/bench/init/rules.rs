//! The same policy in everybody's words: excluded blocks, and all that Istio's injector asks for.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::way::{Run, pod};
use crate::bench::{folder, program};
use crate::workspace::capture;

/// What Istio's injector passes.
const INJECTED: &str =
    "istio-iptables -p 15001 -z 15006 -u 1337 -m REDIRECT -i * -b * -d 15090,15021,15020";

/// A policy with this many excluded IPv4 addresses, none of which touch.
pub(super) struct Policy {
    excludes: Vec<String>,
}

impl Policy {
    pub(super) fn with_excludes(count: u32) -> Self {
        // Every second address: neighbours would merge into one interval.
        let address = |index: u32| std::net::Ipv4Addr::from_bits(0x0a00_0000 + 2 * index + 1);
        Self {
            excludes: (0..count).map(|index| address(index).to_string()).collect(),
        }
    }

    /// The same with blocks and neighbours: of ten, one is a block and two are neighbours.
    pub(super) fn with_mixed_excludes(count: u32) -> Self {
        let mut policy = Self::with_excludes(count);
        for (index, exclude) in (0..count).zip(&mut policy.excludes) {
            let other = match index % 10 {
                0 => (0x6400_0000 + (index << 9), "/24"),
                // It stands just before the next.
                1 => (0x0a00_0000 + 2 * index + 2, ""),
                _ => continue,
            };
            *exclude = format!("{}{}", std::net::Ipv4Addr::from_bits(other.0), other.1);
        }
        policy
    }

    /// `shunt-init` writing it.
    pub(super) fn shunt(&self) -> Run {
        let mut run = Run::new(program("shunt-init"), INJECTED);
        run.arguments.extend(self.flags());
        run
    }

    /// The real istio-iptables writing it.
    pub(super) fn istio(&self, program: PathBuf) -> Run {
        let arguments = INJECTED.strip_prefix("istio-iptables ").unwrap_or(INJECTED);
        let mut run = Run::new(program, arguments);
        run.arguments.extend(self.flags());
        run
    }

    fn flags(&self) -> Vec<std::ffi::OsString> {
        if self.excludes.is_empty() {
            return Vec::new();
        }
        vec!["-x".into(), self.excludes.join(",").into()]
    }

    /// The very rules of `shunt-init`, loaded by `nft -f`.
    ///
    /// # Errors
    /// When they cannot be printed or written to a file.
    pub(super) fn nft(&self) -> Result<Run> {
        let run = self.shunt();
        let text = pod()?.run(|| {
            capture(
                Command::new(&run.program)
                    .args(&run.arguments)
                    .arg("--dry-run"),
            )
        })?;
        let input = file(&format!("init-{}.nft", self.excludes.len()), &text)?;
        Ok(Run::new("nft", "-f -").with_input(input))
    }

    /// Istio's chains, by `iptables-restore` and `ip6tables-restore` of a flavour: `legacy`, `nft`.
    ///
    /// # Errors
    /// When they cannot be written to a file.
    pub(super) fn restore(&self, flavour: &str) -> Result<Vec<Run>> {
        let count = self.excludes.len();
        let v4 = file(
            &format!("init-{count}-v4.rules"),
            &self.chains("127.0.0.6/32", "127.0.0.1/32", &self.excludes),
        )?;
        let v6 = file(
            &format!("init-{count}-v6.rules"),
            &self.chains("::6/128", "::1/128", &[]),
        )?;
        let restore = |family: &str, input| {
            let program = format!("{family}tables-{flavour}-restore");
            Run::new(program, "--noflush").with_input(input)
        };
        Ok(vec![restore("ip", v4), restore("ip6", v6)])
    }

    fn chains(&self, source: &str, loopback: &str, excludes: &[String]) -> String {
        let excludes: String = excludes
            .iter()
            .map(|address| format!("-A ISTIO_OUTPUT -d {address}/32 -j RETURN\n"))
            .collect();
        include_str!("../data/istio.rules")
            .replace("@INBOUND_SOURCE@", source)
            .replace("@LOOPBACK@", loopback)
            .replace("@EXCLUDES@\n", &excludes)
    }
}

fn file(name: &str, text: &str) -> Result<PathBuf> {
    let path = folder()?.join(name);
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

//! `shunt-agent sidecar` in a pod, as its container would run it.

use std::fs::Permissions;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use shunt_abi::port;
use tempfile::NamedTempFile;

use crate::DEADLINE;
use crate::client::http::Request;
use crate::expect::access_log::AccessRecord;
use crate::expect::eventually::poll;
use crate::expect::metrics::Metrics;
use crate::net::{Pod, User};
use crate::process::{Command, Output, Running};
use crate::programs;

/// A sidecar that said it is ready. It is killed on drop.
#[derive(Debug)]
pub struct Sidecar {
    /// The process.
    pub process: Running,
    _config: NamedTempFile,
}

impl Pod {
    /// Starts a sidecar with this bootstrap, as the proxy's user, and waits until it is ready.
    ///
    /// # Errors
    /// It ends or does not become ready; what it said is in the error.
    pub fn sidecar(&self, bootstrap: &str) -> Result<Sidecar> {
        self.sidecar_under(bootstrap, |command| command)
    }

    /// As [`Pod::sidecar`], under further conditions.
    ///
    /// # Errors
    /// As for [`Pod::sidecar`].
    pub fn sidecar_under(
        &self,
        bootstrap: &str,
        conditions: impl FnOnce(Command) -> Command,
    ) -> Result<Sidecar> {
        let config = readable_file(bootstrap)?;
        let mut process = conditions(self.sidecar_command(config.path())?).start()?;
        self.wait_until_ready(|| match process.ended()? {
            Some(status) => bail!("the sidecar ended with {status}"),
            None => Ok(()),
        })
        .with_context(|| format!("it said:\n{}", process.stderr().text()))?;
        Ok(Sidecar {
            process,
            _config: config,
        })
    }

    /// `shunt-agent sidecar --config FILE` as the proxy's user, not started.
    ///
    /// # Errors
    /// It does not build.
    pub fn sidecar_command(&self, config: &Path) -> Result<Command> {
        let command = self.command(programs::shunt_agent()?);
        Ok(command
            .args(["sidecar", "--config"])
            .arg(config)
            .user(User::PROXY))
    }

    /// Waits until the pod's sidecar answers the readiness probe with 200; `alive` says whether
    /// there is still something to wait for.
    ///
    /// # Errors
    /// Not within [`DEADLINE`], or `alive` says no.
    pub fn wait_until_ready(&self, mut alive: impl FnMut() -> Result<()>) -> Result<()> {
        let outcome = poll(DEADLINE, || match alive() {
            Err(error) => Some(Err(error)),
            Ok(()) => (self.readiness().ok()? == 200).then_some(Ok(())),
        });
        outcome.with_context(|| {
            format!(
                "the sidecar of `{}` is not ready within {DEADLINE:?}",
                self.name()
            )
        })?
    }

    /// What the readiness probe answers, as the kubelet would ask it.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn readiness(&self) -> Result<u16> {
        let to = (Ipv4Addr::LOCALHOST, port::READINESS).into();
        let probe = Request::get("/healthz/ready").header("connection", "close");
        Ok(self.as_user(User::ROOT).request(to, &probe)?.status)
    }

    /// Scrapes the sidecar's admin interface on loopback.
    ///
    /// # Errors
    /// It does not answer 200, or not in the text format.
    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::parse(&self.admin("/stats/prometheus")?)
    }

    /// Asks the sidecar's admin interface on loopback.
    ///
    /// # Errors
    /// It does not answer 200.
    pub fn admin(&self, path: &str) -> Result<String> {
        let to = (Ipv4Addr::LOCALHOST, port::ADMIN).into();
        let request = Request::get(path).header("connection", "close");
        let response = self.as_user(User::ROOT).request(to, &request)?;
        ensure!(
            response.status == 200,
            "the admin interface of `{}` answers {path} with {}: {}",
            self.name(),
            response.status,
            response.text()
        );
        Ok(response.text())
    }
}

impl Sidecar {
    /// Waits until the access log on standard output holds `count` records that satisfy a
    /// condition, and returns these. The log is written by a thread of its own, a moment later.
    ///
    /// # Errors
    /// Not within [`DEADLINE`], or a line is no record.
    pub fn wait_for_records(
        &self,
        count: usize,
        wanted: impl Fn(&AccessRecord) -> bool,
    ) -> Result<Vec<AccessRecord>> {
        records(self.process.stdout(), count, wanted)
    }
}

fn records(
    output: &Output,
    count: usize,
    wanted: impl Fn(&AccessRecord) -> bool,
) -> Result<Vec<AccessRecord>> {
    output
        .wait_until(|lines| match AccessRecord::all(lines) {
            Err(error) => Some(Err(error)),
            Ok(mut records) => {
                records.retain(&wanted);
                (records.len() >= count).then_some(Ok(records))
            }
        })
        .with_context(|| format!("waiting for {count} access-log records"))?
}

/// A file that any user may read.
fn readable_file(text: &str) -> Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix("shunt-bootstrap-")
        .suffix(".yaml")
        .permissions(Permissions::from_mode(0o644))
        .tempfile()
        .context("making a file for the bootstrap")?;
    file.write_all(text.as_bytes())
        .context("writing the bootstrap")?;
    Ok(file)
}

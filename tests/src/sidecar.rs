//! `shunt-agent sidecar` in a pod, as its container would run it.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail, ensure};
use shunt_abi::port;

use crate::DEADLINE;
use crate::client::http::Request;
use crate::expect::access_log::AccessRecord;
use crate::expect::eventually::{eventually, poll};
use crate::expect::metrics::Metrics;
use crate::net::{Pod, User};
use crate::process::{Command, Output, Running};
use crate::programs;

/// A sidecar that said it is ready. It is killed on drop.
#[derive(Debug)]
pub struct Sidecar {
    /// The process.
    pub process: Running,
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
        let mut process = conditions(self.sidecar_command(bootstrap)?).start()?;
        self.wait_until_ready(|| match process.ended()? {
            Some(status) => bail!("the sidecar ended with {status}"),
            None => Ok(()),
        })
        .with_context(|| format!("it said:\n{}", process.stderr().text()))?;
        Ok(Sidecar { process })
    }

    /// `shunt-agent sidecar` with this bootstrap, as the proxy's user, not started.
    ///
    /// # Errors
    /// It does not build.
    pub fn sidecar_command(&self, bootstrap: &str) -> Result<Command> {
        let command = self.command(programs::shunt_agent()?);
        command
            .args(["sidecar", "--config", "/dev/stdin"])
            .user(User::PROXY)
            .stdin_text(bootstrap)
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

    /// Waits until no connection of a listener is open: a client hears of the end of its own a moment
    /// before it is counted.
    ///
    /// # Errors
    /// Some stay open.
    pub fn eventually_idle(&self) -> Result<()> {
        let open = "envoy_listener_downstream_cx_active";
        eventually("all connections are closed", || {
            self.metrics()
                .is_ok_and(|metrics| metrics.count(open, &[]) == 0)
        })
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

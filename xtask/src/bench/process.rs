//! Programs that run for a while: started with their output in a file, ended with their handle.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::folder;
use crate::workspace::shown;

/// A running program; killed and reaped when the handle goes.
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program with standard output discarded and standard error in
    /// `target/bench/NAME.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(name: &str, mut command: Command) -> Result<Self> {
        let log = folder()?.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting `{}`", shown(&command)))?;
        Ok(Self { child, log })
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, in bytes.
    ///
    /// # Errors
    /// When the process has ended.
    pub(super) fn resident(&self) -> Result<f64> {
        let path = format!("/proc/{}/status", self.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let kilobytes = text
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|number| number.parse::<f64>().ok())
            .with_context(|| format!("no VmRSS in {path}: has the process ended?"))?;
        Ok(kilobytes * 1024.0)
    }

    /// Waits until a request sent to `to` is answered with 200; to be called in the namespace of
    /// the process.
    ///
    /// # Errors
    /// When the process ends or 20 s pass.
    pub(super) fn wait_until_it_serves(&mut self, to: SocketAddr, authority: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if get(to, authority).is_ok_and(|status| status == "200") {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().context("asking for its end")? {
                bail!("it ended ({status}); it said: {}", self.said());
            }
            if Instant::now() > deadline {
                bail!("no 200 from {to} within 20 s; it said: {}", self.said());
            }
            // A pause between two polls; the condition is the answer above.
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let last = lines.len().saturating_sub(5);
        lines.get(last..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The status of one request.
fn get(to: SocketAddr, authority: &str) -> Result<String> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(
        stream,
        "GET /ready HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n"
    )?;
    // `HTTP/1.1 200`
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(String::from_utf8_lossy(&head)
        .split(' ')
        .next_back()
        .unwrap_or_default()
        .to_owned())
}

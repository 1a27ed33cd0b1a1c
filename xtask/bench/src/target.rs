//! Where a load goes to, and who sends it: behind capture it must be an application, not the proxy.

use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, Result};
use nix::unistd::{Gid, Uid, setgid, setuid};

/// Arguments that every load of requests has.
#[derive(clap::Args)]
pub struct Target {
    /// Where to send
    #[arg(long)]
    pub to: SocketAddr,
    /// The authority of each request
    #[arg(long)]
    pub authority: String,
    /// Send as this uid and gid, as an application would
    #[arg(long)]
    uid: Option<u32>,
}

impl Target {
    /// Gives up root for the uid and gid, if one is asked for.
    ///
    /// # Errors
    /// Without the privilege to.
    pub fn take_identity(&self) -> Result<()> {
        let Some(id) = self.uid else { return Ok(()) };
        setgid(Gid::from_raw(id)).with_context(|| format!("taking gid {id}"))?;
        setuid(Uid::from_raw(id)).with_context(|| format!("taking uid {id}"))
    }

    /// A connection to it.
    ///
    /// # Errors
    /// Refused, or no port is left.
    pub fn connect(&self) -> Result<TcpStream> {
        let to = self.to;
        let stream = TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

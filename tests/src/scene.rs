//! The scene of most tests: a pod in the mesh and a peer outside it.

use std::net::SocketAddr;

use anyhow::Result;

use crate::net::{AsUser, Family, Network, Pod, User};
use crate::process::Command;
use crate::sidecar::Sidecar;

/// The bootstrap of the pod's sidecar.
pub const BOOTSTRAP: &str = include_str!("../data/sidecar.yaml");

/// A pod with redirect rules and a sidecar, and a peer with neither.
#[derive(Debug)]
pub struct Scene {
    /// The pod, 10.244.0.2 and fd00:10:244::2.
    pub pod: Pod,
    /// The peer, 10.244.0.3 and fd00:10:244::3.
    pub peer: Pod,
    /// The pod's sidecar, ready.
    pub sidecar: Sidecar,
    _net: Network,
}

impl Scene {
    /// Makes the scene with the sidecar of `tests/data/sidecar.yaml`.
    ///
    /// # Errors
    /// Not root, or one of the programs fails; what it said is in the error.
    pub fn new(name: &str) -> Result<Self> {
        Self::under(name, |command| command)
    }

    /// As [`Scene::new`], with the sidecar under further conditions.
    ///
    /// # Errors
    /// As for [`Scene::new`].
    pub fn under(name: &str, conditions: impl FnOnce(Command) -> Command) -> Result<Self> {
        let net = Network::new(name)?;
        let pod = net.pod("pod").build()?;
        let peer = net.pod("peer").build()?;
        pod.apply_rules(&[])?;
        let sidecar = pod.sidecar_under(BOOTSTRAP, conditions)?;
        Ok(Self {
            pod,
            peer,
            sidecar,
            _net: net,
        })
    }

    /// An ordinary user of the pod.
    pub fn app(&self) -> AsUser<'_> {
        self.pod.as_user(User::APP)
    }

    /// An ordinary user of the peer.
    pub fn outsider(&self) -> AsUser<'_> {
        self.peer.as_user(User::APP)
    }

    /// Connections that listeners served so far.
    ///
    /// # Errors
    /// The admin interface does not answer.
    pub fn connections(&self) -> Result<u64> {
        Ok(self
            .pod
            .metrics()?
            .count("envoy_listener_downstream_cx_total", &[]))
    }

    /// HTTP requests that a connection manager got so far.
    ///
    /// # Errors
    /// The admin interface does not answer.
    pub fn requests(&self, stat_prefix: &str) -> Result<u64> {
        let prefix = ("envoy_http_conn_manager_prefix", stat_prefix);
        Ok(self
            .pod
            .metrics()?
            .count("envoy_http_downstream_rq_total", &[prefix]))
    }
}

/// The peer's HTTP service: an address that no machine owns.
pub fn reviews(family: Family) -> SocketAddr {
    match family {
        Family::V4 => SocketAddr::from(([10, 96, 0, 10], 9080)),
        Family::V6 => SocketAddr::from(([0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10], 9080)),
    }
}

/// The pod's own HTTP service.
pub fn own(family: Family) -> SocketAddr {
    match family {
        Family::V4 => SocketAddr::from(([10, 96, 0, 20], 9080)),
        Family::V6 => SocketAddr::from(([0xfd00, 0x96, 0, 0, 0, 0, 0, 0x20], 9080)),
    }
}

/// The peer's TCP service.
pub fn echo() -> SocketAddr {
    SocketAddr::from(([10, 96, 0, 11], 9000))
}

/// The port of HTTP applications.
pub const HTTP: u16 = 9080;
/// The port of TCP applications.
pub const TCP: u16 = 9000;

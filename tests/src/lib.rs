//! The harness of the end-to-end tests: a small Kubernetes network on one machine.
//!
//! A [`Network`](net::Network) holds pods, each a network namespace of its own joined to the others by veth
//! pairs and a bridge, made by netlink from this process. Nothing of it appears in the namespace
//! the tests were started in, and since namespaces are held by file descriptors alone nothing is
//! left behind, however a test ends. Needs root.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use shunt_tests::prelude::*;
//!
//! let net = Network::new("hello")?;
//! let server = net.pod("server").build()?;
//! let client = net.pod("client").build()?;
//!
//! let echo = server.echo("app", 8080)?;
//! let seen = client.as_user(User::APP).greet(server.v4(8080))?;
//! assert_eq!(seen.server, "app");
//! assert_eq!(seen.peer.ip(), client.v4(0).ip());
//! assert_eq!(echo.connections(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it gives |
//! |---|---|
//! | [`net`] | namespaces, pods, who a connection belongs to |
//! | [`server`] | servers that tell what they saw: source, original destination, headers |
//! | [`client`] | TCP with deadlines, an HTTP/1.1 client that can also misbehave |
//! | [`process`] | the programs under test inside a pod, with uid, limits, sandbox; their output |
//! | [`ca`], [`folder`] | certificates; files of configuration, and how they are replaced |
//! | [`istiod`] | what a real istiod sends, made fit to be served from files |
//! | [`init`] | runs `shunt-init` in a pod as Istio's injector does |
//! | [`sidecar`] | runs `shunt-agent sidecar` in a pod, asks its admin interface |
//! | [`scene`] | a pod in the mesh and a peer outside it, as most tests need them |
//! | [`lab`] | hundreds of flows at once through a pod, and who answered each |
//! | [`expect`] | polling, metrics, access-log records, byte streams with a checksum |
//! | [`programs`] | finds and builds `shunt-init` and `shunt-agent` |
//! | [`peers`] | the programs of others: which versions, where they are |
//! | [`cluster`] | a real Kubernetes of one node, with real pods |
//! | [`differential`] | the same traffic through Envoy and through Shunt, compared |
//! | [`oracle`] | what `nft` and `ip` say about a pod |

pub mod ca;
pub mod client;
pub mod cluster;
pub mod differential;
pub mod expect;
pub mod folder;
pub mod init;
pub mod istiod;
pub mod lab;
pub mod net;
pub mod oracle;
pub mod peers;
pub mod process;
pub mod programs;
pub mod scene;
pub mod server;
pub mod sidecar;

use std::time::Duration;

/// How long anything on this machine may take before a test calls it stuck. Generous, since the
/// machines that run the tests are shared and slow at times; nothing waits this long when all is
/// well.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What nearly every test needs.
pub mod prelude {
    pub use crate::DEADLINE;
    pub use crate::client::http::{HttpClient, Request, Response};
    pub use crate::expect::access_log::AccessRecord;
    pub use crate::expect::eventually::eventually;
    pub use crate::expect::metrics::Metrics;
    pub use crate::net::{Family, Network, Pod, User};
    pub use crate::process::{Finished, Running};
    pub use crate::programs;
    pub use crate::server::{Server, Sighting};
    pub use crate::sidecar::Sidecar;
    pub use anyhow::{Context as _, Error, Result, bail, ensure};
}

//! The application in the `reviews` pods: a plain HTTP server and a TCP server that count what
//! they get. It knows nothing of the mesh, and runs as a process of its own inside its pod.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use shunt_tests::net::{Pod, User};
use shunt_tests::server::{Answer, Speaks};

pub(super) const HTTP_PORT: u16 = 9080;
pub(super) const ECHO_PORT: u16 = 9000;
pub(super) const GREETER_PORT: u16 = 3306;
/// Where the application tells its counts, asked over the pod's loopback.
const COUNTS_PORT: u16 = 9999;

/// Which pod's application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Role {
    /// Its TCP server lets the client speak first.
    ReviewsV1,
    /// Its TCP server speaks first.
    ReviewsV2,
}

impl Role {
    /// The pod's name, which is also what the application calls itself in its answers.
    pub(super) fn pod(self) -> &'static str {
        match self {
            Self::ReviewsV1 => "reviews-v1",
            Self::ReviewsV2 => "reviews-v2",
        }
    }
}

/// What an application counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// HTTP requests.
    pub(super) requests: u64,
    /// Connections of the TCP server.
    pub(super) tcp_connections: u64,
}

impl Counts {
    /// Asks the application of a pod.
    pub(super) fn ask(pod: &Pod) -> Result<Self> {
        let to = (Ipv4Addr::LOCALHOST, COUNTS_PORT).into();
        let answer = pod.as_user(User::ROOT).get(to, "/")?;
        serde_json::from_slice(&answer.body).context("reading what the application counted")
    }
}

/// Is the application until it is killed.
pub(super) fn serve(role: Role) -> Result<()> {
    let pod = Pod::here(role.pod())?;
    let http = pod.http_app(role.pod(), HTTP_PORT)?;
    let (speaks, port) = match role {
        Role::ReviewsV1 => (Speaks::ClientFirst, ECHO_PORT),
        Role::ReviewsV2 => (Speaks::ServerFirst, GREETER_PORT),
    };
    let tcp = pod.echo_that_speaks(speaks, role.pod(), port)?;
    let _counts = pod.http_app_with("counts", COUNTS_PORT, move |_| {
        let counts = Counts {
            requests: http.requests(),
            tcp_connections: tcp.connections(),
        };
        Answer::ok(serde_json::json!(counts).to_string())
    })?;
    loop {
        std::thread::park();
    }
}

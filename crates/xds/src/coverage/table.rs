//! The table itself, a file for each part of a configuration. `docs/config.md` shows it.

mod balancing;
mod cluster;
mod files;
mod http;
mod listener;
mod process;
mod route;
mod tcp_proxy;
mod tls;

use super::Coverage;
use super::Verdict::{self, Inert};

const NO_TRACING: Verdict = Inert("nothing is traced yet");
const NO_RETRIES: Verdict = Inert("nothing is retried without `retry_on`, which is refused");
const NO_DNS: Verdict =
    Inert("only clusters that are resolved by DNS use it, and those are refused");
const FOR_OTHERS: Verdict = Inert("only filters and tools that Shunt does not have read it");
const NAMED_BY_TYPE: Verdict = Inert("the type of `typed_config` says which extension it is");
const STATIC_NAMES: Verdict = Inert("Shunt's metrics have their own names and labels");
const BOUNDED: Verdict =
    Inert("Shunt reads no more than it can pass on, so its buffers are bounded without it");

/// Everything that is not refused, by message and field.
pub fn table() -> impl Iterator<Item = &'static Coverage> {
    [
        process::PROCESS,
        files::FILES,
        listener::LISTENERS,
        tls::TLS,
        tcp_proxy::TCP_PROXY,
        http::HTTP,
        route::ROUTES,
        cluster::CLUSTERS,
        balancing::BALANCING,
    ]
    .into_iter()
    .flatten()
}

//! What the benches run, built with the same release profile as the programs they measure: the
//! load, the upstream, and the rows of the ladder. Started by `cargo xtask bench` in network
//! namespaces, pinned to a core; what it finds it prints as one line of JSON.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "results go to standard output")]

pub mod churn;
pub mod connect;
pub mod cpu;
pub mod exchange;
pub mod grpc;
pub mod hold;
pub mod load;
pub mod once;
pub mod outcome;
pub mod paced;
pub mod rows;
pub mod stream;
pub mod target;
pub mod upstream;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Load, upstream and rows of the ladder for `cargo xtask bench`.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Answer every request with the same response, until killed
    Upstream(upstream::Args),
    /// Send requests in a closed loop and report what they cost the proxy
    Load(load::Args),
    /// Send requests at a fixed rate and report how long after its time each is answered
    Paced(paced::Args),
    /// Call a gRPC method in a closed loop and report what a call costs the proxy
    Grpc(grpc::Args),
    /// Answer every such call with the same message, until killed
    GrpcUpstream(grpc::UpstreamArgs),
    /// Open connections one after the other and report what one costs
    Connect(connect::Args),
    /// Open a connection for each request and report what one costs the proxy
    Churn(churn::Args),
    /// Keep streams of bytes flowing both ways and report what they cost the proxy
    Stream(stream::Args),
    /// Be the far end of such streams, until killed
    Sink(stream::SinkArgs),
    /// Open idle connections and keep them until standard input ends
    Hold(hold::Args),
    /// Run a program once and report what it used
    Once(once::Args),
    /// Be one row of the ladder, until killed
    Row(rows::Args),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Upstream(args) => upstream::run(&args),
        Verb::Load(args) => load::run(&args),
        Verb::Paced(args) => paced::run(&args),
        Verb::Grpc(args) => grpc::run(&args),
        Verb::GrpcUpstream(args) => grpc::upstream(&args),
        Verb::Connect(args) => connect::run(&args),
        Verb::Churn(args) => churn::run(&args),
        Verb::Stream(args) => stream::run(&args),
        Verb::Sink(args) => stream::sink(&args),
        Verb::Hold(args) => hold::run(&args),
        Verb::Once(args) => once::run(&args),
        Verb::Row(args) => rows::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

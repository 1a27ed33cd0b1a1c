//! The application in the pods of a cluster. It knows nothing of the mesh.
//!
//! | call | what it does |
//! |---|---|
//! | `serve NAME PORT` | an HTTP server that answers with what it saw, as JSON |
//! | `get ADDRESS PATH` | one request; prints the answer's body, or why there is none |
//! | `try ADDRESS` | one connection; prints `connected` or the error, and always succeeds |
//! | `pause` | nothing, until it is asked to end |
#![expect(clippy::print_stdout, reason = "it talks to whoever runs it")]

use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use shunt_tests::DEADLINE;
use shunt_tests::net::{Pod, User};

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["serve", name, port] => serve(name, port.parse().context("reading the port")?),
        ["get", address, path] => get(address.parse().context("reading the address")?, path),
        ["try", address] => {
            let address: SocketAddr = address.parse().context("reading the address")?;
            match TcpStream::connect_timeout(&address, DEADLINE) {
                Ok(_) => println!("connected"),
                Err(error) => println!("{error}"),
            }
            Ok(())
        }
        ["pause"] => until_asked_to_end(),
        _ => bail!("serve NAME PORT | get ADDRESS PATH | try ADDRESS | pause"),
    }
}

fn serve(name: &str, port: u16) -> Result<()> {
    let ends = take_over_signals()?;
    let _server = Pod::here(name)?.http_app(name, port)?;
    println!("{name} serves on port {port}");
    ends.wait().context("waiting for a signal").map(drop)
}

fn get(address: SocketAddr, path: &str) -> Result<()> {
    let user = User {
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
    };
    let answer = Pod::here("client")?.as_user(user).get(address, path)?;
    println!("{}", answer.text());
    if answer.status != 200 {
        bail!("status {}", answer.status);
    }
    Ok(())
}

/// As process 1 of a pod it has no default action for signals, and inherits orphans of
/// containers that share its process namespace.
fn until_asked_to_end() -> Result<()> {
    let mut signals = take_over_signals()?;
    signals.add(Signal::SIGCHLD);
    signals.thread_block()?;
    while signals.wait()? == Signal::SIGCHLD {
        while matches!(nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG)), Ok(status) if status.pid().is_some())
        {
        }
    }
    Ok(())
}

fn take_over_signals() -> Result<SigSet> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("taking over signals")?;
    Ok(signals)
}

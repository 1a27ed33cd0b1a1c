//! `shunt-init`: writes a pod's redirect rules, or removes them, and exits.
//!
//! Only wiring: the policy is read by `shunt_redirect::compat`, carried out by `shunt_redirect`.
#![forbid(unsafe_code)]

mod backend;
mod exit;
mod failure;
mod list;
mod message;
mod preflight;
mod run;
mod termination;
mod verify;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    run::run(std::env::args_os()).code().into()
}

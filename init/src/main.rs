//! `shunt-init`: writes a pod's redirect rules, or removes them, and exits.
//!
//! Only wiring: the policy is read by `shunt_redirect::compat`, carried out by `shunt_redirect`.
#![cfg_attr(not(test), no_main)]
#![deny(unsafe_code)]

mod backend;
mod exit;
mod failure;
mod list;
mod message;
mod preflight;
mod run;
#[expect(unsafe_code, reason = "the C library calls it, with C's arguments")]
mod start;
mod termination;
mod verify;
mod words;

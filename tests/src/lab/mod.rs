//! The flow lab: many flows through one pod, rules swapped under it, and who answered each.
//!
//! A [`Lab`] is three network namespaces, made once: a pod with two interfaces, and behind each of
//! them a machine that answers for every address and port there is. [`Lab::run`] sends a batch of
//! [`Trial`]s at once from one thread, without blocking, and tells for each flow what became of it:
//! which listener answered, what it saw of source and original destination, and in which conntrack
//! zones the kernel kept it. So two programs that write rules can be compared by what they do.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mod@bench`] | the thread a lab lives on: its own `/run` and `/etc/resolv.conf` |
//! | [`mod@cgroup`] | cgroups to be in
//! | [`world`] | the namespaces, their links and addresses |
//! | [`flow`] | what is sent: by whom, from where, where to |
//! | [`outcome`] | what became of it |
//! | [`edges`] | the values that a policy tells apart |
//! | [`matrix`] | random flows around them |
//! | [`equivalence`] | random policies: every backend and the evaluator decide alike |

pub mod bench;
pub mod cgroup;
mod clear;
mod conntrack;
mod drive;
pub mod edges;
pub mod equivalence;
pub mod flow;
mod listeners;
pub mod matrix;
pub mod outcome;
mod socket;
mod stray;
#[cfg(test)]
mod tests;
pub mod world;

pub use bench::Bench;
pub use cgroup::Cgroup;
pub use drive::{Lab, PATIENCE};
pub use edges::Edges;
pub use flow::{Flow, Owner, Protocol, Source, Trial};
pub use listeners::Proxy;
pub use outcome::{Arrival, Observation, Outcome, Track};
pub use world::Place;

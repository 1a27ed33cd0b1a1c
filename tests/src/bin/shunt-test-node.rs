//! The guard and the first process of a cluster: see `shunt_tests::cluster::node`.

use std::process::ExitCode;

fn main() -> ExitCode {
    shunt_tests::cluster::node::main(std::env::args_os().skip(1))
}

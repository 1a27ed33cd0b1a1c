//! `cargo xtask cluster up|down|status`: the cluster of the tests, for a person.

use std::time::Instant;

use anyhow::{Result, bail};
use shunt_tests::cluster::{Cluster, Home};
use shunt_tests::programs;

use crate::setup::{self, Purpose};

/// The kind of cluster that a person starts; tests neither use nor remove it.
const KIND: &str = "person";

const EXAMPLES: &str = "tests/data/kubernetes";

/// Arguments of `cargo xtask cluster`.
#[derive(clap::Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Start a Kubernetes of one node (root); builds its parts the first time
    Up,
    /// Say whether it runs and how to reach it
    Status,
    /// End it; nothing is left
    Down,
}

/// `cargo xtask cluster`.
///
/// # Errors
/// The cluster does not start or end, or something it needs cannot be installed.
pub fn verb(args: &ClusterArgs) -> Result<()> {
    match args.verb {
        Verb::Up => up(),
        Verb::Status => status(),
        Verb::Down => down(),
    }
}

fn up() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("not root: the cluster needs namespaces and cgroups of its own; run with sudo");
    }
    if let Some(home) = living()? {
        println!("it runs already");
        return show(&home);
    }
    setup::install(Purpose::Test)?;
    println!("building the programs");
    let images = [programs::shunt_image()?, programs::envoy_image()?];
    let begun = Instant::now();
    let cluster = Cluster::keep(KIND, |step| {
        println!("{:>6.1} s  {step}", begun.elapsed().as_secs_f64());
    })?;
    for image in &images {
        cluster.import_image(image)?;
        println!(
            "{:>6.1} s  the image {} is there",
            begun.elapsed().as_secs_f64(),
            image.name()
        );
    }
    show(cluster.home())
}

fn status() -> Result<()> {
    match living()? {
        Some(home) => show(&home),
        None => {
            println!("no cluster runs; start one with: cargo xtask cluster up");
            Ok(())
        }
    }
}

fn down() -> Result<()> {
    let ended = Cluster::end_all(KIND)?;
    let left: Vec<_> = Home::all(KIND)?;
    if !left.is_empty() {
        bail!("still there: {left:?}");
    }
    println!("{ended} ended; no process, mount, cgroup, namespace or file is left");
    Ok(())
}

fn living() -> Result<Option<Home>> {
    let homes = Home::all(KIND)?;
    Ok(homes.into_iter().find(|home| home.guard().is_some()))
}

fn show(home: &Home) -> Result<()> {
    let cluster = Cluster::at(home)?;
    let kubectl = cluster.kubectl();
    print!("\n{}", kubectl.run(&["get", "nodes,pods"])?);
    println!(
        "
To use it:
  export KUBECONFIG={config}
  alias kubectl={program}
  kubectl apply -f {EXAMPLES}/bootstrap.yaml -f {EXAMPLES}/client.yaml -f {EXAMPLES}/pod.yaml
  kubectl wait --for=condition=Ready pod --all
  kubectl exec client -- shunt-test-app get $(kubectl get pod app -o jsonpath={{.status.podIP}}):9080 /
  kubectl logs app -c sidecar
Logs of its parts: {logs}
To end it:
  cargo xtask cluster down",
        config = home.kubeconfig().display(),
        program = kubectl.program().display(),
        logs = home.log("*").display(),
    );
    Ok(())
}

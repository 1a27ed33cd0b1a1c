//! `cargo xtask demo`: the main job on real input, as a person would want to read it.
//!
//! Three pods on a network of their own, the real `shunt-init` and a real sidecar in each, an
//! application in two of them. A client sends requests to an address that no machine owns, and
//! every witness (applications, client, sidecars, rule counters) must tell the same numbers.

mod app;
mod interrupt;
mod remains;
mod stage;
mod traffic;
mod witness;

use anyhow::{Context as _, Result, bail, ensure};
use shunt_tests::net::User;
use shunt_tests::programs;

use stage::{SERVICE, Stage};

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct DemoArgs {
    /// Leave everything standing, and print how to look around
    #[arg(long, conflicts_with = "clean")]
    keep: bool,
    /// Remove what an earlier --keep left
    #[arg(long)]
    clean: bool,
    /// Be the application of this pod; the demonstration starts itself so inside its pods
    #[arg(long, hide = true, value_name = "POD")]
    app: Option<app::Role>,
}

/// Runs the demonstration.
///
/// # Errors
/// Something was not observed as it should be, or the machine lacks what it needs.
pub fn run(args: DemoArgs) -> Result<()> {
    if let Some(role) = args.app {
        return app::serve(role);
    }
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the demonstration makes network namespaces and needs root; try: sudo -E cargo xtask demo"
    );
    if args.clean {
        return remains::clean();
    }
    remains::refuse_if_any()?;
    interrupt::clean_up_on_signals()?;
    let outcome = show(args.keep);
    if args.keep && outcome.is_err() {
        remains::clean()?;
    }
    outcome
}

fn show(keep: bool) -> Result<()> {
    say("programs", "building shunt-init and shunt-agent");
    programs::shunt_init()?;
    programs::shunt_agent()?;

    let mut stage = Stage::build(keep)?;
    say("pods", &stage.describe());

    let client = stage.client.pod.as_user(User::APP);
    match client.get(SERVICE, "/") {
        Ok(_) => bail!("{SERVICE} answers before any rule is there: it must not"),
        Err(error) => {
            say(
                "before",
                &format!("client -> {SERVICE}: {}", error.root_cause()),
            );
            say("", "as it should be: no machine owns that address");
        }
    }

    for line in stage.write_rules()? {
        say("shunt-init", &line);
    }
    stage.start_sidecars()?;
    for line in stage.describe_sidecars() {
        say("sidecar", &line);
    }

    let seen = traffic::send(&stage).context("sending requests as an ordinary user of `client`")?;
    say("http", &seen.describe());
    for line in traffic::try_tcp(&stage)? {
        say("tcp", &line);
    }

    println!("\n{}", witness::requests(&stage, &seen)?);
    println!("{}", witness::connections(&stage)?);
    println!("{}", witness::rules(&stage)?);
    println!("{}", witness::access_log(&stage)?);

    if keep {
        stage.keep()?;
        println!("{}", remains::how_to_look_around());
    } else {
        let pids = stage.pids();
        drop(stage);
        remains::expect_none(&pids)?;
        say("gone", "no namespace, rule, process or file is left");
    }
    Ok(())
}

/// One line of progress.
fn say(what: &str, how: &str) {
    println!("{what:>12}  {how}");
}

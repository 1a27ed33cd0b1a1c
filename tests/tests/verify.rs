//! `shunt-init` proves its rules: with the capabilities that Istio's injector gives, after drift,
//! while the pod's servers go on undisturbed, and with nothing left behind.

use shunt_tests::init::INJECTED;
use shunt_tests::oracle::Traces;
use shunt_tests::prelude::*;

/// What Istio's injector gives its init container.
const CAPABILITIES: &[&str] = &["--bounding-set=-all,+net_admin,+net_raw"];
/// Whom Istio's validation runs as, without any capability.
const PROXY: &[&str] = &[
    "--reuid=1337",
    "--regid=1337",
    "--clear-groups",
    "--bounding-set=-all",
];

/// Runs `shunt-init` with only these privileges.
fn init_as(pod: &Pod, privileges: &[&str], args: &[&str]) -> Result<Finished> {
    pod.command("setpriv")
        .args(privileges)
        .arg(programs::shunt_init()?)
        .args(args)
        .finish()
}

fn with(more: &[&'static str]) -> Vec<&'static str> {
    [INJECTED, more].concat()
}

/// The traces, without the counters' values.
fn uncounted(traces: &Traces) -> String {
    let text = format!("{traces:?}");
    let words: Vec<&str> = text.split(' ').collect();
    let mut kept: Vec<&str> = Vec::new();
    for (index, word) in words.iter().enumerate() {
        if index == 0 || !matches!(words[index - 1], "packets" | "bytes") {
            kept.push(word);
        }
    }
    kept.join(" ")
}

#[test]
fn with_the_injectors_capabilities_every_rule_but_the_proxys_is_proved_live() -> Result<()> {
    let net = Network::new("verify-caps")?;
    let pod = net.pod("pod").build()?;
    pod.apply_rules(&[])?;
    let before = pod.traces()?;
    let run = init_as(&pod, CAPABILITIES, &with(&["--verify"]))?.success()?;
    for line in [
        "live       outbound TCP is captured IPv4 (outbound/capture)",
        "live       outbound TCP is captured IPv6 (outbound/capture)",
        "live       inbound TCP is captured IPv4 (inbound/capture)",
        "live       inbound TCP is captured IPv6 (inbound/capture)",
        "live       excluded inbound ports pass IPv4 (inbound/exclude-ports)",
        "live       the tunnel port passes IPv6 (inbound/tunnel-port)",
        ": 15 legs live by ",
    ] {
        ensure!(run.stdout.contains(line), "no `{line}` in {run}");
    }
    let unproved = "a probe cannot be of another user or group without CAP_SETUID and CAP_SETGID";
    assert_eq!(run.stdout.matches(unproved).count(), 8, "{run}");
    assert_eq!(uncounted(&pod.traces()?), uncounted(&before));
    Ok(())
}

#[test]
fn it_is_done_unasked_in_kubernetes_and_can_be_refused() -> Result<()> {
    let net = Network::new("verify-auto")?;
    let pod = net.pod("pod").build()?;
    let run = |args: &[&str], kubernetes: bool| -> Result<bool> {
        let mut command = pod.command(programs::shunt_init()?).args(args);
        if kubernetes {
            command = command.env("KUBERNETES_SERVICE_HOST", "10.96.0.1");
        }
        Ok(command.finish()?.success()?.stdout.contains("\nlive "))
    };
    ensure!(run(INJECTED, true)?, "not verified");
    ensure!(!run(&with(&["--verify=off"]), true)?, "verified");
    ensure!(!run(INJECTED, false)?, "verified");
    ensure!(run(&with(&["--verify"]), false)?, "not verified");
    Ok(())
}

#[test]
fn a_foreign_rule_that_takes_connections_away_is_found_by_packets_alone() -> Result<()> {
    let net = Network::new("verify-foreign")?;
    let pod = net.pod("pod").build()?;
    pod.load_rules(
        "table ip other { chain c { type nat hook output priority -150; \
         ip daddr 198.51.100.0/24 tcp dport != 15001 redirect to :9; }; }",
    )?;
    let run = init_as(&pod, CAPABILITIES, &with(&["--verify"]))?;
    assert_eq!(run.status.code(), Some(126), "{run}");
    for words in [
        "outbound TCP is captured IPv4 (rule outbound/capture)",
        "it went to port 9",
    ] {
        ensure!(run.stderr.contains(words), "no `{words}` in {run}");
    }
    // Fail closed: the rules stay.
    pod.rules()?;
    Ok(())
}

#[test]
fn a_native_sidecar_that_runs_already_notices_nothing() -> Result<()> {
    let net = Network::new("verify-native")?;
    let pod = net.pod("pod").build()?;
    pod.apply_rules(&[])?;
    let servers = [15001, 15006, 15008, 15020, 15021, 15090]
        .map(|port| pod.echo("server", port))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    init_as(&pod, CAPABILITIES, &with(&["--verify"]))?.success()?;
    for server in &servers {
        assert_eq!(server.connections(), 0);
    }
    Ok(())
}

#[test]
fn nothing_that_a_probe_sends_leaves_the_pod() -> Result<()> {
    let net = Network::new("verify-leak")?;
    let pod = net.pod("pod").build()?;
    let arguments = [
        "istio-iptables",
        "-i",
        "*",
        "-b",
        "*",
        "-x",
        "10.97.0.0/16,fd00:97::/32",
        "-o",
        "9000",
        "--verify",
    ];
    // Whatever goes out by eth0 from or to an address of a probe is counted, and there is none.
    pod.load_rules(
        "table inet leak { chain c { type filter hook postrouting priority 300; \
         oifname \"eth0\" meta l4proto { tcp, udp, icmp } counter drop; \
         oifname \"eth0\" icmpv6 type { echo-request, destination-unreachable } counter drop; }; }",
    )?;
    let run = pod.init(&arguments)?.success()?;
    for family in ["IPv4", "IPv6"] {
        let line = format!("live       excluded destinations pass {family}");
        ensure!(run.stdout.contains(&line), "no `{line}` in {run}");
    }
    let listed = pod.command("nft").args(["list", "table", "inet", "leak"]);
    let listed = listed.finish()?.success()?.stdout;
    assert_eq!(listed.matches("packets 0 bytes 0").count(), 2, "{listed}");
    Ok(())
}

#[test]
fn a_run_killed_while_it_verifies_leaves_nothing_that_the_next_does_not_remove() -> Result<()> {
    let net = Network::new("verify-kill")?;
    let pod = net.pod("pod").build()?;
    pod.apply_rules(&[])?;
    let clean = uncounted(&pod.traces()?);
    for remove in [false, true] {
        // The first three calls find out whether sockets can be anybody's; the next make such a socket
        // for a probe, when the link is there.
        let killed = pod
            .command("strace")
            .args([
                "-f",
                "-o",
                "/dev/null",
                "-e",
                "inject=setfsuid:signal=KILL:when=5",
            ])
            .arg(programs::shunt_init()?)
            .args(with(&["--verify"]))
            .finish()?;
        ensure!(!killed.status.success(), "it was not killed");
        ensure!(
            pod.traces()?
                .addresses
                .contains(shunt_abi::name::PROBE_LINK),
            "it was killed too early or too late to matter"
        );
        if remove {
            pod.remove_rules()?;
        }
        pod.apply_rules(&[])?;
        assert_eq!(uncounted(&pod.traces()?), clean);
    }
    Ok(())
}

#[test]
fn two_runs_at_once_verify_one_after_the_other() -> Result<()> {
    let net = Network::new("verify-two")?;
    let pod = net.pod("pod").build()?;
    let start = || -> Result<_> {
        pod.command(programs::shunt_init()?)
            .args(with(&["--verify"]))
            .start()
    };
    let (one, two) = (start()?, start()?);
    for run in [one, two] {
        let run = run.finish()?.success()?;
        ensure!(run.stdout.contains("live       outbound TCP"), "{run}");
    }
    Ok(())
}

#[test]
fn istios_validation_proves_what_the_proxys_user_can_and_ends_with_126_else() -> Result<()> {
    let net = Network::new("verify-istio")?;
    let pod = net.pod("pod").build()?;
    // Where nothing is captured each probe waits in vain; where all is, the slowest machine has time.
    let validate = |timeout| {
        let arguments = ["--skip-rule-apply", "--run-validation", "--probe-timeout"];
        init_as(&pod, PROXY, &with(&[&arguments[..], &[timeout]].concat()))
    };
    let run = validate("300ms")?;
    assert_eq!(run.status.code(), Some(126), "{run}");
    ensure!(run.stderr.contains("it passed uncaptured"), "{run}");
    pod.apply_rules(&[])?;
    let run = validate("30s")?.success()?;
    for line in [
        "live       the proxy's calls to its own pod are captured IPv4",
        "live       the proxy's calls to its own pod are captured IPv6",
        "live       the proxy's calls to the application pass IPv6",
        "not proved outbound TCP is captured IPv4",
    ] {
        ensure!(run.stdout.contains(line), "no `{line}` in {run}");
    }
    Ok(())
}

#[test]
fn the_iptables_backends_rules_are_proved_by_where_packets_end() -> Result<()> {
    let net = Network::new("verify-iptables")?;
    let pod = net.pod("pod").build()?;
    for backend in ["iptables-nft", "iptables-legacy"] {
        let run = pod
            .init(&with(&["--backend", backend, "--verify"]))?
            .success()?;
        ensure!(
            run.stdout
                .contains("live       outbound TCP is captured IPv6"),
            "{run}"
        );
        ensure!(
            run.stdout
                .contains("live       inbound TCP is captured IPv4"),
            "{run}"
        );
    }
    Ok(())
}

#[test]
fn where_ipv6_is_disabled_its_rules_are_read_back_and_the_reason_is_named() -> Result<()> {
    let net = Network::new("verify-noipv6")?;
    let pod = net.pod("pod").disable_ipv6().build()?;
    let run = pod.init(&with(&["--ipv6", "always", "--verify"]))?;
    let run = run.success()?;
    let line = "read back  outbound TCP is captured IPv6 (outbound/capture): IPv6 is disabled here";
    ensure!(run.stdout.contains(line), "no `{line}` in {run}");
    ensure!(
        run.stdout
            .contains("live       outbound TCP is captured IPv4"),
        "{run}"
    );
    let wrong = run.stdout.lines().find(|line| {
        line.contains("IPv6 (") && line.contains("no packet of a probe is decided on by it")
    });
    assert_eq!(wrong, None, "{run}");
    Ok(())
}

#[test]
fn where_lo_is_down_that_is_the_one_failure() -> Result<()> {
    let net = Network::new("verify-lo-down")?;
    let pod = net.pod("pod").build()?;
    pod.apply_rules(&[])?;
    let down = pod
        .command("ip")
        .args(["link", "set", "lo", "down"])
        .finish()?;
    down.success()?;
    let run = pod.init(&with(&["--verify"]))?;
    assert_eq!(run.status.code(), Some(126), "{run}");
    ensure!(
        run.stderr.contains("interface lo is up (rule lo/up)"),
        "{run}"
    );
    ensure!(run.stderr.contains("ip link set lo up"), "{run}");
    ensure!(!run.stderr.contains("rules of others"), "{run}");
    let validate = with(&[
        "--skip-rule-apply",
        "--run-validation",
        "--probe-timeout",
        "300ms",
    ]);
    let run = init_as(&pod, PROXY, &validate)?;
    assert_eq!(run.status.code(), Some(126), "{run}");
    ensure!(
        run.stderr.contains("interface lo is up (rule lo/up)"),
        "{run}"
    );
    Ok(())
}

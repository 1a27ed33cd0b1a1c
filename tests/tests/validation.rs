//! Istio's validation (`--skip-rule-apply --run-validation`), above all with TPROXY: a process
//! without any capability tells rules that are right, whoever wrote them and by whatever, from
//! those that are not there.

use shunt_tests::prelude::*;

/// Whom Istio's validation runs as, and whom its proxy does with TPROXY.
const IDENTITIES: [[&str; 2]; 2] = [
    ["--reuid=1337", "--regid=1337"],
    ["--reuid=0", "--regid=1337"],
];
const VALIDATE: &[&str] = &[
    "--skip-rule-apply",
    "--run-validation",
    "--probe-timeout",
    "300ms",
];

/// Who writes rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    Shunt,
    Istio,
}

/// What the injector says of TPROXY, of a pod with these inbound ports.
fn policy(inbound: &'static str) -> Vec<&'static str> {
    vec![
        "-u",
        "1337",
        "-g",
        "1337",
        "-m",
        "TPROXY",
        "-i",
        "*",
        "-b",
        inbound,
        "-d",
        "15090,15021,15020",
    ]
}

impl Writer {
    fn write(self, pod: &Pod, how: &[&str], policy: &[&str]) -> Result<()> {
        let command = match self {
            Self::Shunt => pod
                .command(programs::shunt_init()?)
                .args(["istio-iptables"]),
            // It captures IPv6 if the pod's first address is one, or if it is told so.
            Self::Istio => pod
                .command(programs::istio_iptables()?)
                .env("ISTIO_DUAL_STACK", "true")
                .args(["--dual-stack"]),
        };
        command.args(how).args(policy).finish()?.success()?;
        Ok(())
    }
}

fn validate(pod: &Pod, identity: &[&str; 2], policy: &[&str]) -> Result<Finished> {
    pod.command("setpriv")
        .args(identity)
        .args(["--clear-groups", "--bounding-set=-all"])
        .arg(programs::shunt_init()?)
        .args(["istio-iptables"])
        .args(policy)
        .args(VALIDATE)
        .finish()
}

/// Validates before and after each way of writing.
fn told_from_none(net: &Network, writer: Writer, ways: &[&[&str]]) -> Result<()> {
    for (index, how) in ways.iter().enumerate() {
        for inbound in ["*", "8080", "80"] {
            let pod = net
                .pod(&format!("pod-{index}-{}", inbound.replace('*', "all")))
                .build()?;
            let policy = policy(inbound);
            let identities = match inbound {
                "*" => IDENTITIES.as_slice(),
                _ => &IDENTITIES[..1],
            };
            for identity in identities {
                let run = validate(&pod, identity, &policy)?;
                assert_eq!(run.status.code(), Some(126), "{run}");
                ensure!(run.stderr.contains("it passed uncaptured"), "{run}");
            }
            writer.write(&pod, how, &policy)?;
            for identity in identities {
                let run = validate(&pod, identity, &policy)?;
                // Istio's nft lets calls of its second identity pass while no proxy listens.
                if **how == ["--native-nftables"] && *identity == IDENTITIES[1] {
                    assert_eq!(run.status.code(), Some(126), "{run}");
                    continue;
                }
                let run = run
                    .success()
                    .with_context(|| format!("{writer:?} {how:?} {inbound} {identity:?}"))?;
                for family in ["IPv4", "IPv6"] {
                    let line = format!(
                        "live       the proxy's calls to its own pod are captured {family}"
                    );
                    ensure!(run.stdout.contains(&line), "no `{line}` in {run}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn shunts_rules_for_tproxy_are_told_from_none() -> Result<()> {
    let net = Network::new("validate-shunt")?;
    let ways: [&[&str]; 3] = [
        &["--backend", "nft"],
        &["--backend", "iptables-nft"],
        &["--backend", "iptables-legacy"],
    ];
    told_from_none(&net, Writer::Shunt, &ways)
}

#[test]
fn istios_rules_for_tproxy_are_told_from_none() -> Result<()> {
    let net = Network::new("validate-istio")?;
    let ways: [&[&str]; 3] = [
        &["--force-iptables-binary", "legacy"],
        &["--force-iptables-binary", "nft"],
        &["--native-nftables"],
    ];
    told_from_none(&net, Writer::Istio, &ways)
}

#[test]
fn a_firewall_that_drops_all_calls_to_the_pod_is_not_taken_for_tproxys_rules() -> Result<()> {
    let net = Network::new("validate-firewall")?;
    let pod = net.pod("pod").build()?;
    pod.load_rules(
        "table inet other { chain c { type filter hook input priority 0; iifname \"lo\" drop; }; }",
    )?;
    let run = validate(&pod, &IDENTITIES[0], &policy("*"))?;
    assert_eq!(run.status.code(), Some(126), "{run}");
    ensure!(
        run.stdout
            .contains("it vanished, as one from 127.0.0.6 did"),
        "{run}"
    );
    Ok(())
}

#[test]
fn in_a_dual_stack_pod_rules_for_ipv4_only_fail_unless_the_arguments_say_so() -> Result<()> {
    let net = Network::new("validate-dual")?;
    let pod = net.pod("pod").build()?;
    for mode in ["REDIRECT", "TPROXY"] {
        let policy: Vec<&str> = policy("*")
            .into_iter()
            .map(|word| if word == "TPROXY" { mode } else { word })
            .collect();
        pod.command(programs::istio_iptables()?)
            .args(["--reconcile"])
            .args(&policy)
            .finish()?
            .success()?;
        let run = validate(&pod, &IDENTITIES[0], &policy)?;
        assert_eq!(run.status.code(), Some(126), "{run}");
        let says = "the proxy's calls to its own pod are captured IPv6";
        ensure!(run.stderr.contains(says), "{run}");
        ensure!(run.stderr.contains("it passed uncaptured"), "{run}");
        for ipv6 in ["istio", "never"] {
            let told = [policy.as_slice(), &["--ipv6", ipv6]].concat();
            validate(&pod, &IDENTITIES[0], &told)?.success()?;
        }
    }
    Ok(())
}

//! Init containers that fail: what a person sees in `kubectl describe pod`, and the exit code.

use anyhow::{Result, ensure};
use shunt_tests::cluster::Cluster;
use shunt_tests::programs;

use crate::cluster;
use crate::inits::{self, INJECTED, Init, ended, said};

const NFT: &str = "shunt.test/nft:1";

/// A cgroup that is nowhere.
const NO_SUCH_CGROUP: &str = "
apiVersion: shunt.dev/v1
kind: CapturePolicy
spec:
  proxy: { cgroup: no/such/cgroup }
";

/// A pod of which the last init container fails.
struct Case<'a> {
    pod: &'a str,
    inits: Vec<Init<'a>>,
    code: i64,
    /// Of its cause.
    says: &'a [&'a str],
}

impl Case<'_> {
    fn start(&self, cluster: &Cluster) -> Result<()> {
        cluster.apply(&inits::pod(self.pod, &self.inits))
    }

    /// Passes if the kubelet tells the cause, on one line, as the container's log does.
    fn check(&self, cluster: &Cluster) -> Result<()> {
        let outcome = self.try_check(cluster);
        outcome.map_err(|error| error.context(cluster.report(self.pod)))?;
        cluster.delete(self.pod, 0)
    }

    fn try_check(&self, cluster: &Cluster) -> Result<()> {
        let Self {
            pod, code, says, ..
        } = *self;
        let Some((last, before)) = self.inits.split_last() else {
            return Ok(());
        };
        for init in before {
            said(cluster, pod, init.name)?;
        }
        let ended = ended(cluster, pod, last.name)?;
        ensure!(ended["exitCode"] == code, "{ended}");
        let cause = ended["message"].as_str().unwrap_or_default();
        for part in says {
            ensure!(cause.contains(part), "no `{part}` in: {cause}");
        }
        ensure!(
            !cause.is_empty() && !cause.contains('\n'),
            "not one line: {ended}"
        );

        let described = cluster.kubectl().run(&["describe", "pod", pod])?;
        for (field, value) in [("Message:", cause), ("Exit Code:", &code.to_string())] {
            let told = described.lines().any(|line| {
                let value_of = line.trim_start().strip_prefix(field);
                value_of.is_some_and(|told| told.trim_start() == value)
            });
            ensure!(told, "no `{field} {value}` in:\n{described}");
        }
        // Words may be wrapped differently.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let log = words(&cluster.logs(pod, last.name)?);
        ensure!(log.contains(&words(cause)), "the log says: {log}");
        let app = cluster.pod(pod)?;
        let app = app.pointer("/status/containerStatuses/0/state/waiting");
        ensure!(app.is_some(), "the application was started");
        Ok(())
    }
}

#[test]
fn a_failed_init_container_tells_its_cause_to_whoever_describes_the_pod() -> Result<()> {
    let cluster = cluster()?;
    let with = |more: &[&'static str]| [INJECTED, more].concat();
    let wrong_flag = with(&["--no-such-flag"]);
    let iptables = with(&["--backend", "iptables"]);
    let from_file = ["apply", "--policy", "/etc/shunt/policy.yaml"];
    cluster.apply(&inits::policy("no-cgroup", NO_SUCH_CGROUP))?;

    let cases = [
        Case {
            pod: "wrong-flag",
            inits: vec![Init::shunt(&wrong_flag)],
            code: 2,
            says: &["--no-such-flag"],
        },
        Case {
            pod: "no-cgroup",
            inits: vec![Init::shunt(&from_file)],
            code: 2,
            says: &["no/such/cgroup", "name the proxy by uid"],
        },
        Case {
            pod: "no-net-admin",
            inits: vec![Init {
                capabilities: &["NET_RAW"],
                ..Init::shunt(INJECTED)
            }],
            code: 4,
            says: &["NET_ADMIN"],
        },
        // As Linkerd's injector has it, whose program's file has capabilities of its own.
        Case {
            pod: "not-root",
            inits: vec![Init {
                uid: 65534,
                ..Init::shunt(INJECTED)
            }],
            code: 4,
            says: &["NET_ADMIN", "run as root"],
        },
        // The image is from scratch.
        Case {
            pod: "no-iptables",
            inits: vec![Init::shunt(&iptables)],
            code: 8,
            says: &["iptables", "--backend nft"],
        },
    ];
    for case in &cases {
        case.start(cluster)?;
    }
    cases.iter().try_for_each(|case| case.check(cluster))
}

#[test]
fn nft_is_chosen_where_nothing_is_said() -> Result<()> {
    let cluster = cluster()?;
    cluster.wait_ready("mesh")?;
    let said = said(cluster, "mesh", "shunt-init")?;
    ensure!(said.starts_with("table inet shunt: created, "), "{said}");
    ensure!(!said.contains("iptables"), "{said}");
    Ok(())
}

#[test]
fn rules_that_do_not_do_what_they_should_end_the_init_container_with_126() -> Result<()> {
    let cluster = cluster()?;
    cluster.import_image(&programs::nft_image()?)?;
    let validator = [
        INJECTED,
        &[
            "--skip-rule-apply",
            "--run-validation",
            "--probe-timeout",
            "1s",
        ],
    ]
    .concat();

    let nft = |args| Init {
        name: "other-program",
        image: NFT,
        command: &["nft"],
        ..Init::shunt(args)
    };
    // Redirects what arrives before Shunt's rules see it.
    let intercept = ["add table ip other; \
         add chain ip other prerouting { type nat hook prerouting priority -110; }; \
         add rule ip other prerouting tcp dport != 22 redirect to :9"];
    // Lets the proxy's calls to its own pod pass.
    let break_rules = ["insert rule inet shunt nat_output meta skuid 1337 accept"];
    let cases = [
        Case {
            pod: "intercepted",
            inits: vec![nft(&intercept), Init::shunt(INJECTED)],
            code: 126,
            says: &["rule inbound/", "it went to port 9"],
        },
        // As Istio's CNI plugin has it: rules are written by somebody else, and an init container
        // without any capability looks whether they work.
        Case {
            pod: "broken",
            inits: vec![
                Init::shunt(INJECTED),
                nft(&break_rules),
                Init {
                    name: "istio-validation",
                    uid: 1337,
                    capabilities: &[],
                    ..Init::shunt(&validator)
                },
            ],
            code: 126,
            says: &["outbound/self-call-uid-v4", "expected"],
        },
    ];
    for case in &cases {
        case.start(cluster)?;
    }
    cases.iter().try_for_each(|case| case.check(cluster))
}

#[test]
fn a_validator_without_capabilities_passes_where_the_rules_work() -> Result<()> {
    let cluster = cluster()?;
    let validator = [INJECTED, &["--skip-rule-apply", "--run-validation"]].concat();
    let inits = [
        Init::shunt(INJECTED),
        Init {
            name: "istio-validation",
            uid: 1337,
            capabilities: &[],
            ..Init::shunt(&validator)
        },
    ];
    cluster.apply(&inits::pod("validated", &inits))?;
    let said = said(cluster, "validated", "istio-validation")?;
    ensure!(inits::proofs(&said).contains(&"live"), "{said}");
    inits::summary(&said)?;
    cluster.delete("validated", 0)
}

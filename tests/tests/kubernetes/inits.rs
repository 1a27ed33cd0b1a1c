//! Pods of which only the init containers matter.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use shunt_tests::cluster::Cluster;

/// What Istio's injector passes to its init container.
pub(crate) use shunt_tests::init::INJECTED;

/// An init container. It has no capability but those named, and cannot write its root.
#[derive(Clone, Copy)]
pub(crate) struct Init<'a> {
    pub(crate) name: &'a str,
    pub(crate) image: &'a str,
    /// Empty: what the image runs.
    pub(crate) command: &'a [&'a str],
    pub(crate) args: &'a [&'a str],
    pub(crate) uid: u32,
    pub(crate) capabilities: &'a [&'a str],
}

impl<'a> Init<'a> {
    /// `shunt-init` with no more than it needs.
    pub(crate) const fn shunt(args: &'a [&'a str]) -> Self {
        Self {
            name: "shunt-init",
            image: "shunt.test/shunt:1",
            command: &[],
            args,
            uid: 0,
            capabilities: &["NET_ADMIN", "NET_RAW"],
        }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "image": self.image,
            "command": self.command,
            "args": self.args,
            "volumeMounts": [{"name": "policy", "mountPath": "/etc/shunt", "readOnly": true}],
            "securityContext": {
                "runAsUser": self.uid,
                "runAsGroup": self.uid,
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"], "add": self.capabilities},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        })
    }
}

/// A pod with these init containers, of which each runs once, and an application that does nothing.
/// At `/etc/shunt/policy.yaml` is the policy of the ConfigMap `name`, if there is one.
pub(crate) fn pod(name: &str, inits: &[Init<'_>]) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "initContainers": inits.iter().map(Init::json).collect::<Vec<_>>(),
            "containers": [{
                "name": "app",
                "image": "shunt.test/shunt:1",
                "command": ["shunt-test-app", "pause"],
                "securityContext": {"runAsUser": 1000, "runAsGroup": 1000},
            }],
            "volumes": [{"name": "policy", "configMap": {"name": name, "optional": true}}],
        },
    })
    .to_string()
}

/// The ConfigMap with a policy.
pub(crate) fn policy(name: &str, policy: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"policy.yaml": policy},
    })
    .to_string()
}

/// How an init container ended, once the last run of it has: as `state.terminated` of its status.
pub(crate) fn ended(cluster: &Cluster, pod: &str, container: &str) -> Result<Value> {
    let what = format!("its init container {container} has ended");
    cluster.wait_until(pod, &what, |json| {
        let statuses = json.pointer("/status/initContainerStatuses")?.as_array()?;
        let status = statuses.iter().find(|one| one["name"] == container)?;
        let ended = status.pointer("/state/terminated")?;
        Some(ended.clone())
    })
}

/// What an init container said, if it ended with success.
pub(crate) fn said(cluster: &Cluster, pod: &str, container: &str) -> Result<String> {
    let ended = ended(cluster, pod, container)?;
    let said = cluster.logs(pod, container)?;
    anyhow::ensure!(ended["exitCode"] == 0, "it ended with {ended}:\n{said}");
    Ok(said)
}

/// The proofs in what `shunt-init` said: a word for each leg.
pub(crate) fn proofs(said: &str) -> Vec<&'static str> {
    const WORDS: [&str; 4] = ["live ", "read back ", "not proved ", "FAILED "];
    said.lines()
        .filter_map(|line| WORDS.into_iter().find(|word| line.starts_with(word)))
        .map(str::trim_end)
        .collect()
}

/// The line with which it sums them up.
pub(crate) fn summary(said: &str) -> Result<&str> {
    let mut lines = said.lines();
    let line = lines.find(|line| line.starts_with("verified in "));
    line.with_context(|| format!("nothing was verified:\n{said}"))
}

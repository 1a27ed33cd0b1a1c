//! What tests ask of pods.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::Cluster;
use super::node::{NODE, NODE_ADDRESS};
use crate::net::{Namespace, Pod};
use crate::process::Finished;

/// What the API server knows of a pod.
#[derive(Debug, Clone)]
pub struct PodState {
    /// Its address.
    pub ip: Ipv4Addr,
    /// All of it, as in `kubectl get pod -o json`.
    pub json: Value,
}

impl Cluster {
    /// Creates or changes what a manifest (YAML or JSON) describes.
    ///
    /// # Errors
    /// It is refused; the API server's word is in the error.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        self.kubectl.feed(&["apply", "-f", "-"], manifest).map(drop)
    }

    /// Deletes a pod and waits until it is gone; `grace` is in seconds.
    ///
    /// # Errors
    /// There is no such pod, or it stays.
    pub fn delete(&self, pod: &str, grace: u32) -> Result<()> {
        let grace = format!("--grace-period={grace}");
        self.kubectl
            .run(&["delete", "pod", pod, &grace, "--wait=true"])
            .map(drop)
    }

    /// Waits until a pod is ready.
    ///
    /// # Errors
    /// Not within [`super::PATIENCE`]; its events and logs are in the error.
    pub fn wait_ready(&self, pod: &str) -> Result<PodState> {
        let json = self.wait_until(pod, "it is ready", |json| {
            (is_ready(json) && json.pointer("/metadata/deletionTimestamp").is_none())
                .then(|| json.clone())
        })?;
        let ip = json.pointer("/status/podIP").and_then(Value::as_str);
        let ip = ip.context("a ready pod has no address")?.parse()?;
        Ok(PodState { ip, json })
    }

    /// Waits until a pod's state (as in `kubectl get pod -o json`) satisfies a condition.
    ///
    /// # Errors
    /// Not within [`super::PATIENCE`]; its events and logs are in the error.
    pub fn wait_until<T>(
        &self,
        pod: &str,
        what: &str,
        mut condition: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        self.kubectl
            .watch(pod, |json| condition(json).map(Ok))
            .with_context(|| format!("waiting for pod `{pod}` until {what}"))
            .map_err(|error| error.context(self.report(pod)))
    }

    /// A pod as the API server knows it now.
    ///
    /// # Errors
    /// There is no such pod.
    pub fn pod(&self, name: &str) -> Result<Value> {
        self.kubectl.json(&["get", "pod", name])
    }

    /// A pod's address.
    ///
    /// # Errors
    /// It has none.
    pub fn pod_ip(&self, name: &str) -> Result<Ipv4Addr> {
        let json = self.pod(name)?;
        let ip = json.pointer("/status/podIP").and_then(Value::as_str);
        Ok(ip
            .with_context(|| format!("pod `{name}` has no address"))?
            .parse()?)
    }

    /// What a container has written so far.
    ///
    /// # Errors
    /// There is no such container, or it has not started.
    pub fn logs(&self, pod: &str, container: &str) -> Result<String> {
        self.kubectl.run(&["logs", pod, "-c", container])
    }

    /// Runs a program inside a container to its end, which may be a failure.
    ///
    /// # Errors
    /// `kubectl` does not end.
    pub fn exec(&self, pod: &str, container: &str, argv: &[&str]) -> Result<Finished> {
        let mut args = vec!["exec", pod, "-c", container, "--"];
        args.extend(argv);
        self.kubectl.finish(&args)
    }

    /// What happened to a pod, oldest first: `Reason: message`.
    ///
    /// # Errors
    /// The API server does not answer.
    pub fn events(&self, pod: &str) -> Result<Vec<String>> {
        let selector = format!("involvedObject.name={pod}");
        let sort = "--sort-by=.metadata.creationTimestamp";
        let json = self
            .kubectl
            .json(&["get", "events", "--field-selector", &selector, sort])?;
        let items = json.pointer("/items").and_then(Value::as_array);
        let word = |item: &Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
        Ok(items
            .into_iter()
            .flatten()
            .map(|item| format!("{}: {}", word(item, "reason"), word(item, "message")))
            .collect())
    }

    /// All that helps to see why a pod is not as it should be.
    pub fn report(&self, pod: &str) -> String {
        let mut report = format!("pod `{pod}`:\nevents:\n");
        match self.events(pod) {
            Ok(events) => report.push_str(&events.join("\n")),
            Err(error) => report.push_str(&format!("{error:#}")),
        }
        for container in self.pod(pod).iter().flat_map(containers) {
            let said = self
                .logs(pod, &container)
                .unwrap_or_else(|error| format!("{error:#}"));
            report.push_str(&format!("\nlog of {container}:\n{said}"));
        }
        report
    }

    /// The node as if it were a pod: a server started on it is reached by pods at its address.
    ///
    /// # Errors
    /// The cluster has ended.
    pub fn node(&self) -> Result<Pod> {
        let guard = self.home.guard().context("the cluster has ended")?;
        let mut children = String::new();
        let threads = format!("/proc/{guard}/task");
        for thread in fs::read_dir(&threads).with_context(|| format!("reading {threads}"))? {
            // A thread may end meanwhile; the one with the child does not.
            let path = thread?.path().join("children");
            children.push_str(&fs::read_to_string(path).unwrap_or_default());
        }
        let init = children
            .trim()
            .parse()
            .with_context(|| format!("the guard has not one child but these: `{children}`"))?;
        let namespace = Namespace::of_process(init, NODE)?;
        Ok(Pod::at(NODE, namespace, NODE_ADDRESS))
    }

    /// A pod's network namespace with the harness's own means: clients, rules, metrics, programs
    /// of the machine.
    ///
    /// # Errors
    /// It does not run.
    pub fn netns(&self, pod: &str) -> Result<Pod> {
        let namespace = Namespace::of_process(self.sandbox(pod)?, pod)?;
        Ok(Pod::at(pod, namespace, self.pod_ip(pod)?))
    }

    /// Runs a program of the machine in a pod's network namespace, as root.
    ///
    /// # Errors
    /// The pod does not run, or there is no such program.
    pub fn in_pod_netns(&self, pod: &str, argv: &[&str]) -> Result<Finished> {
        let (program, args) = argv.split_first().context("no program is named")?;
        self.netns(pod)?.command(program).args(args).finish()
    }

    /// The process that holds a pod's namespaces, as this process sees it.
    ///
    /// # Errors
    /// It does not run.
    pub fn sandbox(&self, pod: &str) -> Result<u32> {
        let json = self.pod(pod)?;
        let uid = json.pointer("/metadata/uid").and_then(Value::as_str);
        let marker = format!("/pod{}/", uid.context("a pod without a uid")?);
        let ours: Vec<_> = container_ids(&json).collect();
        let found = processes_in(&marker)?
            .into_iter()
            .find(|(_, cgroup)| !ours.iter().any(|id| cgroup.ends_with(id.as_str())));
        match found {
            Some((pid, _)) => Ok(pid),
            None => bail!("pod `{pod}` has no sandbox that runs"),
        }
    }

    /// The processes of a pod's container, as this process sees them.
    ///
    /// # Errors
    /// There is no such container.
    pub fn processes(&self, pod: &str, container: &str) -> Result<Vec<u32>> {
        let json = self.pod(pod)?;
        let status = statuses(&json)
            .find(|status| status["name"] == container)
            .with_context(|| format!("pod `{pod}` has no container `{container}`"))?;
        let id = container_id(status).context("the container has not started")?;
        let found = processes_in(&format!("/{id}"))?;
        Ok(found.into_iter().map(|(pid, _)| pid).collect())
    }

    /// Kills the process that holds a pod's namespaces: the kubelet then makes all of the pod
    /// anew, init containers included.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_sandbox(&self, pod: &str) -> Result<()> {
        let pid = Pid::from_raw(self.sandbox(pod)?.try_into()?);
        kill(pid, Signal::SIGKILL).with_context(|| format!("killing the sandbox of `{pod}`"))
    }

    /// Kills the first process of a container.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_container(&self, pod: &str, container: &str) -> Result<()> {
        let processes = self.processes(pod, container)?;
        ensure!(!processes.is_empty(), "`{container}` has no process");
        for pid in processes {
            kill(Pid::from_raw(pid.try_into()?), Signal::SIGKILL)
                .with_context(|| format!("killing `{container}` of `{pod}`"))?;
        }
        Ok(())
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The status of every container, init containers first.
fn statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    ["/status/initContainerStatuses", "/status/containerStatuses"]
        .into_iter()
        .filter_map(|path| pod.pointer(path)?.as_array())
        .flatten()
}

fn containers(pod: &Value) -> Vec<String> {
    statuses(pod)
        .filter_map(|status| Some(status["name"].as_str()?.to_owned()))
        .collect()
}

/// The runtime's name of a container: `containerd://<id>`.
fn container_id(status: &Value) -> Option<&str> {
    Some(status["containerID"].as_str()?.split_once("://")?.1)
}

fn container_ids(pod: &Value) -> impl Iterator<Item = String> {
    statuses(pod).filter_map(|status| container_id(status).map(str::to_owned))
}

/// Living processes in a cgroup whose path contains `marker`, with that path.
fn processes_in(marker: &str) -> Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        // A process that ends meanwhile has no files left.
        let Ok(cgroups) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
            continue;
        };
        let path = cgroups
            .lines()
            .filter_map(|line| line.splitn(3, ':').nth(2))
            .find(|path| path.contains(marker));
        if let Some(path) = path {
            found.push((pid, path.to_owned()));
        }
    }
    Ok(found)
}

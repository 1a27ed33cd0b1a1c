//! The programs that a node consists of, each with its command line.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

use super::mounts::Decoys;
use super::{API, NODE, NODE_ADDRESS};
use crate::cluster::Home;
use crate::peers;

/// A program that is to run as long as the cluster.
#[derive(Debug)]
pub(super) struct Part {
    name: &'static str,
    child: Child,
}

/// All that run.
#[derive(Debug)]
pub(super) struct Parts {
    home: Home,
    running: Vec<Part>,
}

impl Parts {
    pub(super) fn new(home: Home) -> Self {
        Self {
            home,
            running: Vec::new(),
        }
    }

    /// etcd, the API server and containerd: they need nobody else to start.
    pub(super) fn start_first(&mut self) -> Result<()> {
        let etcd = self.etcd();
        self.start("etcd", peers::program("etcd")?, &etcd, |_| ())?;
        let api = self.api_server();
        let program = peers::program("kube-apiserver")?;
        self.start("kube-apiserver", program, &api, |_| ())?;
        let config = self.path("containerd.toml");
        let program = peers::find("containerd").context("there is no containerd")?;
        self.start("containerd", program, &["--config".into(), config], |_| ())
    }

    /// The rest, once the API server answers.
    pub(super) fn start_second(&mut self) -> Result<()> {
        let program = peers::program("kube-controller-manager")?;
        let manager = self.controller_manager();
        self.start("kube-controller-manager", program, &manager, |_| ())?;
        let program = peers::program("kube-scheduler")?;
        let scheduler = self.scheduler();
        self.start("kube-scheduler", program, &scheduler, |_| ())?;
        let decoys = Decoys::new(&self.home)?;
        let program = peers::program("kubelet")?;
        let kubelet = self.kubelet();
        self.start("kubelet", program, &kubelet, |command| {
            // SAFETY: between fork and exec it makes system calls on strings that were made
            // before, and allocates nothing.
            unsafe {
                command.pre_exec(move || decoys.put_in_place());
            }
        })
    }

    /// Passes if all still run.
    pub(super) fn expect_alive(&mut self) -> Result<()> {
        for part in &mut self.running {
            if let Some(status) = part.child.try_wait().context("asking for a part")? {
                bail!("{}", obituary(&self.home, part.name, status));
            }
        }
        Ok(())
    }

    /// The part with this process id.
    pub(super) fn name_of(&self, pid: u32) -> Option<&'static str> {
        let part = self.running.iter().find(|part| part.child.id() == pid)?;
        Some(part.name)
    }

    fn start(
        &mut self,
        name: &'static str,
        program: PathBuf,
        args: &[String],
        conditions: impl FnOnce(&mut Command),
    ) -> Result<()> {
        let log = self.home.log(name);
        let file = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            // Network plugins and containerd call programs by name.
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", self.home.folder())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        conditions(&mut command);
        let child = command
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        self.running.push(Part { name, child });
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        self.home.file(name).display().to_string()
    }

    fn flag(&self, name: &str, file: &str) -> String {
        format!("--{name}={}", self.path(file))
    }

    fn etcd(&self) -> Vec<String> {
        let mut args = vec![self.flag("data-dir", "etcd"), "--unsafe-no-fsync".into()];
        for (flag, port) in [
            ("listen-client-urls", 2379),
            ("advertise-client-urls", 2379),
            ("listen-peer-urls", 2380),
        ] {
            args.push(format!("--{flag}=http://127.0.0.1:{port}"));
        }
        args
    }

    fn api_server(&self) -> Vec<String> {
        let mut args = strings(&[
            "--etcd-servers=http://127.0.0.1:2379",
            "--bind-address=0.0.0.0",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--api-audiences=https://kubernetes.default.svc,istio-ca",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--endpoint-reconciler-type=none",
            "--kubelet-preferred-address-types=InternalIP",
        ]);
        args.push(format!("--advertise-address={NODE_ADDRESS}"));
        args.push(format!("--secure-port={API}"));
        for (flag, file) in [
            ("cert-dir", "api-server"),
            ("token-auth-file", "tokens.csv"),
            ("tls-cert-file", "leaf.crt"),
            ("tls-private-key-file", "leaf.key"),
            ("client-ca-file", "ca.crt"),
            ("kubelet-certificate-authority", "ca.crt"),
            ("kubelet-client-certificate", "leaf.crt"),
            ("kubelet-client-key", "leaf.key"),
            ("service-account-key-file", "leaf.crt"),
            ("service-account-signing-key-file", "leaf.key"),
        ] {
            args.push(self.flag(flag, file));
        }
        args
    }

    /// Without the higher rates the default ServiceAccount takes five seconds.
    fn controller_manager(&self) -> Vec<String> {
        let mut args = strings(&[
            "--leader-elect=false",
            "--use-service-account-credentials",
            "--allocate-node-cidrs=false",
            "--kube-api-qps=300",
            "--kube-api-burst=600",
            "--secure-port=0",
        ]);
        for (flag, file) in [
            ("kubeconfig", "controller-manager.kubeconfig"),
            ("service-account-private-key-file", "leaf.key"),
            ("root-ca-file", "ca.crt"),
            ("cluster-signing-cert-file", "ca.crt"),
            ("cluster-signing-key-file", "ca.key"),
        ] {
            args.push(self.flag(flag, file));
        }
        args
    }

    fn scheduler(&self) -> Vec<String> {
        let mut args = strings(&["--leader-elect=false", "--secure-port=0"]);
        args.push(self.flag("kubeconfig", "scheduler.kubeconfig"));
        args
    }

    fn kubelet(&self) -> Vec<String> {
        vec![
            self.flag("config", "kubelet.yaml"),
            self.flag("kubeconfig", "node.kubeconfig"),
            format!("--hostname-override={NODE}"),
            format!("--node-ip={NODE_ADDRESS}"),
        ]
    }
}

/// What is said of a part that has ended: how, and the end of its log.
pub(super) fn obituary(home: &Home, name: &str, status: ExitStatus) -> String {
    const LINES: usize = 15;
    let log = fs::read_to_string(home.log(name))
        .unwrap_or_else(|error: io::Error| format!("its log cannot be read: {error}"));
    let lines: Vec<_> = log.lines().collect();
    let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
    format!("{name} of the cluster ended ({status}); the end of its log:\n{end}")
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

//! The files that the parts of a cluster read when they start.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{API, NODE, NODE_ADDRESS, POD_CIDR, SERVICE_API};
use crate::cluster::{Home, PAUSE};

/// Who may do what at the API server: name, and what the token stands for.
const USERS: [(&str, &str); 4] = [
    ("admin", "admin,1,system:masters"),
    ("node", "system:node:node1,2,system:nodes"),
    (
        "controller-manager",
        "system:kube-controller-manager,3,system:controllers",
    ),
    ("scheduler", "system:kube-scheduler,4,system:schedulers"),
];

/// Writes everything but what a person outside needs.
pub(super) fn write(home: &Home) -> Result<()> {
    keys(home)?;
    let mut tokens = String::new();
    for (name, user) in USERS {
        let token = random_token()?;
        writeln!(tokens, "{token},{user}")?;
        let kubeconfig = kubeconfig(home, &token, SocketAddr::from((NODE_ADDRESS, API)))?;
        put(home, &format!("{name}.kubeconfig"), &kubeconfig)?;
    }
    put(home, "tokens.csv", &tokens)?;
    put(home, "containerd.toml", &containerd(home))?;
    put(home, "kubelet.yaml", &kubelet(home))?;
    put(home, "resolv.conf", "nameserver 10.96.0.10\n")?;
    fs::create_dir(home.file("cni")).context("making the folder of the network configuration")?;
    put(home, "cni/10-pods.conflist", &network())
}

/// Writes what `kubectl` needs to reach the API server through the forwarder at `address`.
pub(super) fn write_outside(home: &Home, address: SocketAddr) -> Result<()> {
    let tokens = fs::read_to_string(home.file("tokens.csv")).context("reading the tokens")?;
    let token = tokens.split(',').next().unwrap_or_default();
    let kubeconfig = kubeconfig(home, token, address)?;
    let path = home.kubeconfig();
    fs::write(&path, kubeconfig).with_context(|| format!("writing {}", path.display()))
}

fn put(home: &Home, name: &str, text: &str) -> Result<()> {
    let path = home.file(name);
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

fn random_token() -> Result<String> {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("reading /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A certificate authority, and one key with a certificate for everything else: it serves the API
/// server and the kubelet, is the client of either, and signs the tokens of service accounts.
fn keys(home: &Home) -> Result<()> {
    let extensions = format!(
        "\
[req]
distinguished_name = name
prompt = no
[name]
O = system:masters
CN = shunt-test-cluster
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, DNS:kubernetes, DNS:kubernetes.default, \
DNS:kubernetes.default.svc, DNS:kubernetes.default.svc.cluster.local, DNS:{NODE}, \
IP:127.0.0.1, IP:{NODE_ADDRESS}, IP:{SERVICE_API}
"
    );
    put(home, "openssl.cnf", &extensions)?;
    request(home, "ca", &["-extensions", "authority"])?;
    request(
        home,
        "leaf",
        &["-extensions", "leaf", "-CA", "ca.crt", "-CAkey", "ca.key"],
    )
}

fn request(home: &Home, name: &str, more: &[&str]) -> Result<()> {
    let files = [format!("{name}.key"), format!("{name}.crt")];
    let output = Command::new("openssl")
        .args(["req", "-x509", "-config", "openssl.cnf", "-days", "30"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-noenc", "-keyout", &files[0], "-out", &files[1]])
        .args(more)
        .current_dir(home.folder())
        .output()
        .context("running openssl")?;
    ensure!(
        output.status.success(),
        "openssl could not make {name}.crt: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn kubeconfig(home: &Home, token: &str, address: SocketAddr) -> Result<String> {
    let authority = home.file("ca.crt");
    // JSON is YAML, and needs no care for quotes.
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://{address}"),
            "certificate-authority": authority,
        }}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    Ok(serde_json::to_string_pretty(&config)?)
}

/// `restrict_oom_score_adj`: without it no sandbox starts where the score may not be lowered.
fn containerd(home: &Home) -> String {
    format!(
        r#"version = 2
oom_score = 0
disabled_plugins = [
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{network}"
"#,
        socket = home.containerd().display(),
        network = home.file("cni").display(),
    )
}

/// No eviction, since a full disk of the machine is not this cluster's matter; no setting of the
/// machine is the kubelet's to change.
fn kubelet(home: &Home) -> String {
    let folder = home.folder().display();
    let name = home.name();
    let socket = home.containerd();
    let socket = socket.display();
    format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {NODE_ADDRESS}
authentication:
  anonymous: {{ enabled: false }}
  webhook: {{ enabled: true }}
  x509: {{ clientCAFile: {folder}/ca.crt }}
authorization: {{ mode: Webhook }}
tlsCertFile: {folder}/leaf.crt
tlsPrivateKeyFile: {folder}/leaf.key
containerRuntimeEndpoint: unix://{socket}
volumePluginDir: {folder}/volume-plugins
resolvConf: {folder}/resolv.conf
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /{name}
enforceNodeAllocatable: [pods]
localStorageCapacityIsolation: true
evictionHard:
  imagefs.available: "0%"
  imagefs.inodesFree: "0%"
  memory.available: "0%"
  nodefs.available: "0%"
  nodefs.inodesFree: "0%"
  pid.available: "0%"
imageGCHighThresholdPercent: 100
oomScoreAdj: 0
failSwapOn: false
crashLoopBackOff: {{ maxContainerRestartPeriod: 1s }}
makeIPTablesUtilChains: false
maxOpenFiles: 20000
registryPullQPS: 0
eventRecordQPS: 0
serializeImagePulls: false
syncFrequency: 10s
nodeStatusUpdateFrequency: 2s
"#
    )
}

/// Pods on a bridge with the node as their router. Nothing translates addresses.
fn network() -> String {
    let network = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "ipMasq": false,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": POD_CIDR}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    });
    format!("{network:#}\n")
}

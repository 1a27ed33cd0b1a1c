//! Makes the descriptor set that turns configuration text into protobuf and back.
//!
//! The `.proto` files come out of the envoy-types package, so that the descriptors and the Rust
//! types always agree. Two artefacts go to `OUT_DIR`: `descriptors.bin.gz` (a
//! `FileDescriptorSet` pruned to what a static bootstrap can reach), and `extensions.txt` (the
//! full names of the extension messages of Envoy's API, so that an extension that Envoy knows and
//! Shunt does not is refused by a better word than "unknown").

#[path = "build/prune.rs"]
mod prune;

use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

type Failure = Box<dyn Error>;

/// The package whose `.proto` files are compiled.
const PACKAGE: &str = "envoy-types";

/// Import roots inside the package's `proto` folder.
const INCLUDES: &[&str] = &[
    "data-plane-api",
    "xds",
    "googleapis",
    "protoc-gen-validate",
    "opentelemetry-proto",
    "client_model",
    "cel-spec/proto",
];

/// Where the messages of extensions are defined.
const EXTENSIONS: &[&str] = &[
    "data-plane-api/envoy/extensions",
    "data-plane-api/envoy/config/trace",
    "data-plane-api/envoy/watchdog",
    "xds/xds/type",
];

/// The messages a configuration text may consist of: the bootstrap, the file of a
/// `path_config_source`, and the type of each `Any` that the model understands.
const ROOTS: &[(&str, &str)] = &[
    (
        "envoy/config/bootstrap/v3/bootstrap.proto",
        "envoy.config.bootstrap.v3.Bootstrap",
    ),
    (
        "envoy/service/discovery/v3/discovery.proto",
        "envoy.service.discovery.v3.DiscoveryResponse",
    ),
    (
        "envoy/extensions/retry/host/omit_canary_hosts/v3/omit_canary_hosts.proto",
        "envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate",
    ),
    (
        "envoy/extensions/retry/host/omit_host_metadata/v3/omit_host_metadata_config.proto",
        "envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig",
    ),
    (
        "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    ),
    (
        "envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config.proto",
        "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
    ),
    (
        "envoy/extensions/http/header_formatters/preserve_case/v3/preserve_case.proto",
        "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig",
    ),
    (
        "envoy/extensions/filters/listener/original_src/v3/original_src.proto",
        "envoy.extensions.filters.listener.original_src.v3.OriginalSrc",
    ),
    (
        "envoy/extensions/filters/listener/original_dst/v3/original_dst.proto",
        "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
    ),
    (
        "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.proto",
        "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
    ),
    (
        "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    ),
    (
        "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.proto",
        "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    ),
    (
        "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    ),
    (
        "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    ),
    (
        "envoy/extensions/filters/http/router/v3/router.proto",
        "envoy.extensions.filters.http.router.v3.Router",
    ),
    (
        "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.proto",
        "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
    ),
    (
        "envoy/extensions/transport_sockets/tls/v3/tls.proto",
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    ),
    (
        "envoy/extensions/transport_sockets/tls/v3/tls.proto",
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    ),
    (
        "envoy/extensions/transport_sockets/tls/v3/secret.proto",
        "envoy.extensions.transport_sockets.tls.v3.Secret",
    ),
    (
        "envoy/extensions/access_loggers/file/v3/file.proto",
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    ),
    (
        "envoy/extensions/access_loggers/stream/v3/stream.proto",
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    ),
    (
        "envoy/extensions/access_loggers/stream/v3/stream.proto",
        "envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
    ),
    (
        "envoy/extensions/request_id/uuid/v3/uuid.proto",
        "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
    ),
    (
        "envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver.proto",
        "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
    ),
    (
        "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    ),
    (
        "envoy/extensions/load_balancing_policies/round_robin/v3/round_robin.proto",
        "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin",
    ),
    (
        "envoy/extensions/load_balancing_policies/random/v3/random.proto",
        "envoy.extensions.load_balancing_policies.random.v3.Random",
    ),
    (
        "envoy/extensions/load_balancing_policies/least_request/v3/least_request.proto",
        "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
    ),
    (
        "envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash.proto",
        "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash",
    ),
    (
        "envoy/extensions/load_balancing_policies/maglev/v3/maglev.proto",
        "envoy.extensions.load_balancing_policies.maglev.v3.Maglev",
    ),
    (
        "envoy/extensions/load_balancing_policies/cluster_provided/v3/cluster_provided.proto",
        "envoy.extensions.load_balancing_policies.cluster_provided.v3.ClusterProvided",
    ),
];

fn main() -> Result<(), Failure> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build/prune.rs");
    let package = package_directory()?;
    println!(
        "cargo::rerun-if-changed={}",
        package.join("Cargo.toml").display()
    );
    let protos = package.join("proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let files = compile(&protos)?;
    let keep: Vec<&str> = ROOTS.iter().map(|(_, message)| *message).collect();
    let set = FileDescriptorSet {
        file: prune::reachable(files, &keep)?,
    };
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gz.write_all(&set.encode_to_vec())?;
    fs::write(out.join("descriptors.bin.gz"), gz.finish()?)?;

    let mut names = BTreeSet::new();
    for folder in EXTENSIONS {
        extension_names(&protos.join(folder), &mut names)?;
    }
    let names: Vec<String> = names.into_iter().collect();
    fs::write(out.join("extensions.txt"), names.join("\n"))?;
    Ok(())
}

/// Where cargo unpacked the package, as `cargo metadata` says; without the network first.
fn package_directory() -> Result<PathBuf, Failure> {
    let manifest = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("Cargo.toml");
    let target = env::var("TARGET")?;
    let metadata = |offline: bool| -> Result<serde_json::Value, Failure> {
        let mut cargo = Command::new(env::var("CARGO")?);
        cargo
            .args(["metadata", "--format-version=1", "--locked"])
            .arg(format!("--filter-platform={target}"))
            .arg(format!("--manifest-path={}", manifest.display()));
        if offline {
            cargo.arg("--offline");
        }
        let output = cargo.output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("finding {PACKAGE} with cargo metadata failed: {said}").into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    let answer = metadata(true).or_else(|_| metadata(false))?;
    answer["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|p| p["name"] == PACKAGE))
        .and_then(|package| package["manifest_path"].as_str())
        .and_then(|path| Path::new(path).parent())
        .map(Path::to_path_buf)
        .ok_or_else(|| format!("cargo metadata names no package {PACKAGE}").into())
}

/// All files that the roots import, by name. Each root is compiled in a call of its own: together
/// they would see each other's packages, and names would resolve to the wrong one of two.
fn compile(protos: &Path) -> Result<BTreeMap<String, FileDescriptorProto>, Failure> {
    let mut files = BTreeMap::new();
    let roots: BTreeSet<&str> = ROOTS.iter().map(|(file, _)| *file).collect();
    for root in roots {
        let set = protox::Compiler::new(INCLUDES.iter().map(|i| protos.join(i)))?
            .include_imports(true)
            .include_source_info(false)
            .open_file(root)?
            .file_descriptor_set();
        for file in set.file {
            files.entry(file.name().to_owned()).or_insert(file);
        }
    }
    Ok(files)
}

/// The full names of the top-level messages of the v3 packages in a folder and below.
fn extension_names(folder: &Path, names: &mut BTreeSet<String>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            extension_names(&path, names)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            let text = fs::read_to_string(&path)?;
            let package = text
                .lines()
                .find_map(|line| line.strip_prefix("package ")?.strip_suffix(';'));
            let messages = text.lines().filter_map(|line| {
                let rest = line.strip_prefix("message ")?;
                rest.split([' ', '{']).next()
            });
            for message in messages {
                let package =
                    package.ok_or_else(|| format!("{} has no package", path.display()))?;
                names.insert(format!("{package}.{message}"));
            }
        }
    }
    Ok(())
}

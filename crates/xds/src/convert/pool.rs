//! The descriptors of the messages a configuration may consist of, and the names of those it may
//! not.

use flate2::read::GzDecoder;
use prost_reflect::DescriptorPool;
use std::io::Read;

/// What `build.rs` made of the `.proto` files.
static DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin.gz"));
static EXTENSIONS: &str = include_str!(concat!(env!("OUT_DIR"), "/extensions.txt"));

/// Packages of Istio's extensions, which are in no file that Shunt is built from.
const ISTIO: &[&str] = &[
    "istio.",
    "io.istio.",
    "stats.PluginConfig",
    "envoy.tcp.metadataexchange.",
    "udpa.type.v1.",
    "envoy.extensions.network_filters.peer_metadata.",
];

/// Unpack the descriptors: some milliseconds, and some megabytes as long as a part of it lives.
#[expect(
    clippy::expect_used,
    reason = "the bytes are compiled in; every test that converts anything unpacks them"
)]
pub(crate) fn descriptors() -> DescriptorPool {
    let mut bytes = Vec::new();
    GzDecoder::new(DESCRIPTORS)
        .read_to_end(&mut bytes)
        .expect("the descriptors are compressed by build.rs");
    DescriptorPool::decode(bytes.as_slice()).expect("the descriptors are checked by build.rs")
}

/// Whether a full message name is that of an extension of Envoy or Istio.
pub(super) fn is_extension(name: &str) -> bool {
    EXTENSIONS.lines().any(|known| known == name) || ISTIO.iter().any(|p| name.starts_with(p))
}

/// The full names of Envoy's extensions.
pub(super) fn extensions() -> impl Iterator<Item = &'static str> {
    EXTENSIONS.lines()
}

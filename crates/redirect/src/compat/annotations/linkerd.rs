//! Linkerd's annotations of a pod and of its namespace.

use std::collections::BTreeSet;

use super::{AnnotationError, Annotations, ContainerUser, Given, given, refuse_unknown};
use crate::capture::{CaptureConfig, Ports};
use crate::compat::values::{Reason, cidrs, id, item, ports};
use crate::field::Vocabulary;

const PREFIX: &str = "config.linkerd.io/skip-";
const SKIP_OUTBOUND_PORTS: &str = "config.linkerd.io/skip-outbound-ports";
const SKIP_INBOUND_PORTS: &str = "config.linkerd.io/skip-inbound-ports";
const SKIP_SUBNETS: &str = "config.linkerd.io/skip-subnets";
const PROXY_UID: &str = "config.linkerd.io/proxy-uid";
const PROXY_GID: &str = "config.linkerd.io/proxy-gid";

/// Linkerd has dozens of other annotations; only these are about capture.
const KNOWN: &[&str] = &[SKIP_OUTBOUND_PORTS, SKIP_INBOUND_PORTS, SKIP_SUBNETS];

/// The policy of a pod in a Linkerd mesh. `mesh` is what holds without annotations
/// ([`crate::compat::linkerd::chart_defaults`], with the mesh's own settings). The pod's annotation
/// counts before the namespace's. As for Linkerd, skipped inbound ports come on top of the mesh's,
/// skipped outbound ports and subnets stand in their place. `proxy` is the user of the proxy's
/// container; an annotated id counts before it, and the mesh's last.
///
/// # Errors
/// The first annotation that is wrong.
pub fn linkerd(
    pod: &Annotations,
    namespace: &Annotations,
    proxy: ContainerUser,
    mesh: &CaptureConfig,
) -> Result<CaptureConfig, AnnotationError> {
    for annotations in [pod, namespace] {
        refuse_unknown(annotations, PREFIX, KNOWN)?;
    }
    let get = |name| given(pod, name).or_else(|| given(namespace, name));
    let mut config = mesh.clone();
    for (name, container, ids) in [
        (PROXY_UID, proxy.uid, &mut config.proxy.uids),
        (PROXY_GID, proxy.gid, &mut config.proxy.gids),
    ] {
        let annotated = get(name).map(|given| given.read(own_id)).transpose()?;
        if let Some(id) = annotated.or_else(|| container.filter(|id| *id != 0)) {
            *ids = BTreeSet::from([id]);
        }
    }
    if let Some(ports) = get(SKIP_INBOUND_PORTS).filter(filled) {
        let skipped = ports.read(port_list)?;
        let own = &config.inbound.exclude_ports;
        config.inbound.exclude_ports = own.iter().chain(skipped.iter()).collect();
    }
    if let Some(ports) = get(SKIP_OUTBOUND_PORTS).filter(filled) {
        config.outbound.exclude_ports = ports.read(port_list)?;
    }
    if let Some(subnets) = get(SKIP_SUBNETS).filter(filled) {
        config.inbound.exclude_sources = subnets.read(cidrs)?;
    }
    config
        .validate()
        .map_err(|invalid| AnnotationError::of(invalid, Vocabulary::LinkerdAnnotations))?;
    Ok(config)
}

/// As for Linkerd, an empty annotation is none.
fn filled(given: &Given<'_>) -> bool {
    !given.value.trim().is_empty()
}

fn own_id(text: &str) -> Result<u32, Reason> {
    id(text)
        .filter(|id| *id != 0)
        .ok_or_else(|| item(text, "the proxy's id is a number above 0"))
}

fn port_list(text: &str) -> Result<Ports, Reason> {
    ports(text, '-')
}

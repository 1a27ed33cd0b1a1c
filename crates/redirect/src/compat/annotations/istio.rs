//! Istio's annotations of a pod.

use std::collections::BTreeSet;

use shunt_abi::{identity, port as port_of};

use super::{AnnotationError, Annotations, ContainerUser, Given, given, refuse_unknown};
use crate::capture::{
    self, CaptureConfig, InboundCapture, InboundMode, InterfaceName, OutboundCapture, Port, Ports,
};
use crate::compat::values::{Reason, cidrs, interfaces, port, ports};
use crate::field::{Field, Vocabulary};

const MODE: &str = "sidecar.istio.io/interceptionMode";
const STATUS_PORT: &str = "status.sidecar.istio.io/port";
const TRAFFIC: &str = "traffic.sidecar.istio.io/";
const INCLUDE_OUTBOUND: &str = "traffic.sidecar.istio.io/includeOutboundIPRanges";
const EXCLUDE_OUTBOUND: &str = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
const INCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeInboundPorts";
const EXCLUDE_INBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeInboundPorts";
const INCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/includeOutboundPorts";
const EXCLUDE_OUTBOUND_PORTS: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";
const EXCLUDE_INTERFACES: &str = "traffic.sidecar.istio.io/excludeInterfaces";
const REROUTE: &str = "istio.io/reroute-virtual-interfaces";
const REROUTE_OLD: &str = "traffic.sidecar.istio.io/kubevirtInterfaces";

/// All that is about capture under [`TRAFFIC`].
const KNOWN: &[&str] = &[
    INCLUDE_OUTBOUND,
    EXCLUDE_OUTBOUND,
    INCLUDE_INBOUND_PORTS,
    EXCLUDE_INBOUND_PORTS,
    INCLUDE_OUTBOUND_PORTS,
    EXCLUDE_OUTBOUND_PORTS,
    EXCLUDE_INTERFACES,
    REROUTE_OLD,
];

/// The policy of a pod in an Istio mesh. `mesh` is what holds without annotations:
/// [`CaptureConfig::default`] with the mesh's own settings (ports, DNS capture, IPv6,
/// `drop_invalid`); annotations replace its fields. `proxy` is the user of the proxy's container;
/// as for Istio, 0 and none mean 1337, and in TPROXY mode, where the proxy runs as root, its group
/// tells it.
///
/// Ports 15020, 15021, 15090 and that of `status.sidecar.istio.io/port` always pass inbound. Unlike
/// Istio's CNI plugin, port 15020 does not pass outbound unless excluded. Annotations of the
/// namespace are not read, as Istio reads none.
///
/// # Errors
/// The first annotation that is wrong; also if it asks for no capture
/// ([`AnnotationError::asks_for_no_capture`]).
pub fn istio(
    annotations: &Annotations,
    proxy: ContainerUser,
    mesh: &CaptureConfig,
) -> Result<CaptureConfig, AnnotationError> {
    refuse_unknown(annotations, TRAFFIC, KNOWN)?;
    let mut config = mesh.clone();
    identify(&mut config, proxy);
    let get = |name| given(annotations, name);
    if let Some(mode) = get(MODE) {
        config.inbound.mode = interception_mode(mode, mesh)?;
    }
    inbound(&mut config, annotations)?;
    if let Some(blocks) = get(INCLUDE_OUTBOUND) {
        config.outbound.capture = match blocks.value.trim() {
            "*" => OutboundCapture::All,
            _ => OutboundCapture::Only(listed(blocks, cidrs)?),
        };
    }
    if let Some(blocks) = get(EXCLUDE_OUTBOUND) {
        config.outbound.exclude_cidrs = listed(blocks, cidrs)?;
    }
    if let Some(ports) = get(INCLUDE_OUTBOUND_PORTS) {
        config.outbound.include_ports = listed(ports, port_list)?;
    }
    if let Some(ports) = get(EXCLUDE_OUTBOUND_PORTS) {
        config.outbound.exclude_ports = listed(ports, port_list)?;
        in_both(
            ports,
            &config.outbound.exclude_ports,
            get(INCLUDE_OUTBOUND_PORTS),
            &config.outbound.include_ports,
        )?;
    }
    if let Some(names) = get(EXCLUDE_INTERFACES) {
        config.interfaces.exclude = listed(names, interfaces)?;
    }
    if let Some(names) = rerouted(annotations)? {
        config.interfaces.reroute = names;
    }
    config
        .validate()
        .map_err(|invalid| AnnotationError::of(invalid, Vocabulary::IstioAnnotations))?;
    Ok(config)
}

fn identify(config: &mut CaptureConfig, proxy: ContainerUser) {
    let known = |id: Option<u32>| id.filter(|id| *id != 0).unwrap_or(identity::PROXY_UID);
    config.proxy.uids = BTreeSet::from([known(proxy.uid)]);
    config.proxy.gids = BTreeSet::from([known(proxy.gid)]);
}

fn interception_mode(
    mode: Given<'_>,
    mesh: &CaptureConfig,
) -> Result<InboundMode, AnnotationError> {
    match mode.value {
        "REDIRECT" => Ok(InboundMode::Redirect),
        "TPROXY" => Ok(match mesh.inbound.mode {
            tproxy @ InboundMode::Tproxy { .. } => tproxy,
            InboundMode::Redirect => InboundMode::Tproxy {
                mark: capture::TPROXY_MARK,
                table: capture::TPROXY_TABLE,
            },
        }),
        "NONE" => Err(AnnotationError {
            no_capture: true,
            ..mode.error(Reason::Is(
                "asks for no capture: write no rules for this pod".into(),
            ))
        }),
        _ => Err(mode.error(Reason::NotOneOf(&["REDIRECT", "TPROXY", "NONE"]))),
    }
}

fn inbound(config: &mut CaptureConfig, annotations: &Annotations) -> Result<(), AnnotationError> {
    let include = given(annotations, INCLUDE_INBOUND_PORTS);
    if let Some(ports) = include {
        config.inbound.capture = match ports.value.trim() {
            "*" => InboundCapture::All,
            "" => InboundCapture::Nothing,
            _ => InboundCapture::Only(ports.read(port_list)?),
        };
    }
    let status = given(annotations, STATUS_PORT)
        .map(|status| status.read(port))
        .transpose()?;
    let always = [port_of::STATUS, port_of::READINESS, port_of::METRICS];
    let always = always.into_iter().chain(status.map(Port::get));
    let mut excluded = config.inbound.exclude_ports.clone();
    if let Some(ports) = given(annotations, EXCLUDE_INBOUND_PORTS) {
        excluded = listed(ports, port_list)?;
        if let InboundCapture::Only(listed) = &config.inbound.capture {
            // Istio follows excluded ports only where all others are captured.
            in_both(ports, &excluded, include, listed)?;
        }
    }
    config.inbound.exclude_ports = excluded
        .iter()
        .chain(always.map(|port| (port, port)))
        .collect();
    if let InboundCapture::Only(_) = &config.inbound.capture {
        // What is listed is what is captured, even the ports that pass otherwise.
        config.inbound.exclude_ports = Ports::default();
    }
    Ok(())
}

/// The interfaces of virtual machines, by their new name or their old one.
fn rerouted(annotations: &Annotations) -> Result<Option<BTreeSet<InterfaceName>>, AnnotationError> {
    let read = |name| {
        let given = given(annotations, name);
        given.map(|given| listed(given, interfaces).map(|names| (given, names)))
    };
    let new = read(REROUTE).transpose()?;
    let old = read(REROUTE_OLD).transpose()?;
    if let (Some((new, names)), Some((old, others))) = (&new, &old)
        && names != others
    {
        return Err(old.error(Reason::Is(
            format!("contradicts {new}: remove the former, which is deprecated").into(),
        )));
    }
    Ok(new.or(old).map(|(_, names)| names))
}

/// A list; an empty value is an empty one.
fn listed<T: Default>(
    given: Given<'_>,
    parse: impl FnOnce(&str) -> Result<T, Reason>,
) -> Result<T, AnnotationError> {
    match given.value.trim() {
        "" => Ok(T::default()),
        _ => given.read(parse),
    }
}

fn port_list(text: &str) -> Result<Ports, Reason> {
    ports(text, ':')
}

/// Refuses a port that is both to pass and to be captured.
fn in_both(
    excluding: Given<'_>,
    excluded: &Ports,
    including: Option<Given<'_>>,
    included: &Ports,
) -> Result<(), AnnotationError> {
    let both = excluded.iter().find_map(|(first, last)| {
        let overlap = |(a, b): (u16, u16)| (a <= last && first <= b).then_some(a.max(first));
        included.iter().find_map(overlap)
    });
    let other = including.map_or_else(
        || {
            Field::InboundPorts
                .name(Vocabulary::IstioAnnotations)
                .to_owned()
        },
        |including| including.to_string(),
    );
    match both {
        None => Ok(()),
        Some(port) => Err(excluding.error(Reason::Is(
            format!("contradicts {other}: port {port} is in both; remove it from one").into(),
        ))),
    }
}

//! Socket addresses.

use crate::error::Report;
use crate::path::Path;
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress, address, socket_address};
use std::net::{IpAddr, SocketAddr};

/// An address that must be there.
pub(super) fn socket(
    address: Option<Address>,
    path: &Path<'_>,
    report: &mut Report,
) -> Option<SocketAddr> {
    match address.and_then(|a| a.address) {
        Some(address::Address::SocketAddress(address)) => {
            socket_address(address, &path.field("socket_address"), report)
        }
        Some(_) => {
            report.refused(path, "only socket_address is implemented");
            None
        }
        None => {
            report.invalid(
                path,
                "it is required; write socket_address with address and port_value",
            );
            None
        }
    }
}

/// An IP address and a port, which may be 0.
pub(super) fn socket_address(
    address: SocketAddress,
    path: &Path<'_>,
    report: &mut Report,
) -> Option<SocketAddr> {
    let ip = ip(&address.address, &path.field("address"), report);
    let at = path.field("port_value");
    let port = match address.port_specifier {
        Some(socket_address::PortSpecifier::PortValue(port)) => {
            let port = u16::try_from(port)
                .ok()
                .ok_or_else(|| format!("{port} is no port; it is 0 to 65535"));
            report.check(&at, port)
        }
        _ => {
            report.invalid(&at, "it is required");
            None
        }
    };
    Some(SocketAddr::new(ip?, port?))
}

fn ip(text: &str, path: &Path<'_>, report: &mut Report) -> Option<IpAddr> {
    let parsed = text
        .parse()
        .ok()
        .ok_or_else(|| format!("{text:?} is no IP address; names are not resolved here"));
    report.check(path, parsed)
}

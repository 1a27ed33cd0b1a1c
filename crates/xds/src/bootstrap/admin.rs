//! The admin interface and the runtime.

use super::reader::Reader;
use crate::path::Path;
use envoy_types::pb::envoy::config::bootstrap::v3 as pb;
use envoy_types::pb::google::protobuf::{Struct, value::Kind};
use std::net::SocketAddr;

/// Runtime keys that switch Envoy's own code; Shunt has nothing that they could change.
const INERT_RUNTIME: &[&str] = &[
    "envoy.reloadable_features",
    "envoy.restart_features",
    "envoy.deprecated_features",
    "re2",
];

impl Reader {
    /// Where the admin interface listens.
    pub(super) fn admin(
        &mut self,
        admin: Option<pb::Admin>,
        path: &Path<'_>,
    ) -> Option<SocketAddr> {
        let admin = admin?;
        #[expect(deprecated, reason = "bootstraps in use still send it to /dev/null")]
        let log = admin.access_log_path;
        if !matches!(log.as_str(), "" | "/dev/null") {
            self.report.refused(
                &path.field("access_log_path"),
                "requests to the admin interface are not logged; leave it out or at /dev/null",
            );
        }
        let address = admin.address?;
        let path = path.field("address");
        let address = self.address(Some(address), &path)?;
        if !address.ip().to_canonical().is_loopback() {
            self.report.refused(
                &path,
                format!("{address}: admin is loopback only, because it has no access control"),
            );
        }
        Some(address)
    }

    /// The runtime may hold only what means nothing to Shunt.
    pub(super) fn layered_runtime(&mut self, runtime: pb::LayeredRuntime, path: &Path<'_>) {
        use pb::runtime_layer::LayerSpecifier;
        let layers = path.field("layers");
        for (i, layer) in runtime.layers.into_iter().enumerate() {
            if let Some(LayerSpecifier::StaticLayer(values)) = layer.layer_specifier {
                self.runtime_keys(&values, "", &layers.index(i).field("static_layer"));
            }
        }
    }

    fn runtime_keys(&mut self, values: &Struct, prefix: &str, path: &Path<'_>) {
        for (key, value) in &values.fields {
            let full = format!("{prefix}{key}");
            let inert = INERT_RUNTIME.iter().any(|inert| {
                full.strip_prefix(inert)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', ':']))
            });
            match &value.kind {
                _ if inert => {}
                Some(Kind::StructValue(below)) => {
                    self.runtime_keys(below, &format!("{full}."), &path.key(key));
                }
                _ => self.report.refused(
                    &path.key(key),
                    format!("the runtime key {full} is not implemented by Shunt yet"),
                ),
            }
        }
    }
}

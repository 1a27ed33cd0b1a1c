//! Which of a cluster's transport sockets an endpoint is reached by.

use super::reader::Reader;
use crate::path::Path;
use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::google::protobuf::Struct;
use shunt_proxy::model::UpstreamTls;
use std::sync::Arc;

/// What of an endpoint's metadata is matched.
const METADATA: &str = "envoy.transport_socket_match";

/// The transport sockets of a cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transports {
    /// `transport_socket_matches`, in order.
    matches: Vec<(Struct, Transport)>,
    /// `transport_socket`.
    default: Transport,
}

/// `None` = plaintext.
type Transport = Option<Arc<UpstreamTls>>;

impl Transports {
    /// That of an endpoint with these metadata: the first whose fields all are in them, else the
    /// cluster's.
    pub(super) fn of(&self, metadata: Option<&Metadata>) -> Transport {
        let empty = Struct::default();
        let given = metadata
            .and_then(|metadata| metadata.filter_metadata.get(METADATA))
            .unwrap_or(&empty);
        let holds = |wanted: &Struct| {
            let mut fields = wanted.fields.iter();
            fields.all(|(name, value)| given.fields.get(name) == Some(value))
        };
        let found = self.matches.iter().find(|(wanted, _)| holds(wanted));
        found.map_or_else(|| self.default.clone(), |(_, transport)| transport.clone())
    }
}

impl Reader {
    /// The transport sockets of a cluster.
    pub(super) fn transports(
        &mut self,
        cluster: &mut pb::Cluster,
        path: &Path<'_>,
    ) -> Option<Transports> {
        let at = path.field("transport_socket");
        let default = self.upstream_socket(cluster.transport_socket.take(), &at);
        let at = path.field("transport_socket_matches");
        let matches = std::mem::take(&mut cluster.transport_socket_matches);
        let matches = self.each(matches, &at, |reader, entry, path| {
            let at = path.field("transport_socket");
            if entry.transport_socket.is_none() {
                reader.report.invalid(&at, "it is required");
            }
            let transport = reader.upstream_socket(entry.transport_socket, &at)?;
            Some((entry.r#match.unwrap_or_default(), transport))
        });
        Some(Transports {
            matches: matches.into_iter().collect::<Option<_>>()?,
            default: default?,
        })
    }
}

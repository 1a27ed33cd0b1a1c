//! Protobuf bytes to the JSON that `/config_dump` shows.

use super::BOOTSTRAP;
use super::redact::redact;
use crate::error::ConvertError;
use crate::files::{Kind, Shown};
use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

/// The version of a resource that waits for a part of it, on the way to the child.
const WARMING: &str = "warming";

/// Where resources of a kind stand in Envoy's dump.
struct Section {
    kind: Kind,
    /// Name of the message in `envoy.admin.v3`.
    message: &'static str,
    /// Its list, and that of what waits.
    lists: [&'static str; 2],
    /// The field of an element that holds the resource.
    field: &'static str,
}

const SECTIONS: [Section; 5] = [
    Section {
        kind: Kind::Clusters,
        message: "ClustersConfigDump",
        lists: ["dynamic_active_clusters", "dynamic_warming_clusters"],
        field: "cluster",
    },
    Section {
        kind: Kind::Listeners,
        message: "ListenersConfigDump",
        lists: ["dynamic_listeners", "dynamic_listeners"],
        field: "listener",
    },
    Section {
        kind: Kind::Routes,
        message: "RoutesConfigDump",
        lists: ["dynamic_route_configs", "dynamic_route_configs"],
        field: "route_config",
    },
    Section {
        kind: Kind::Endpoints,
        message: "EndpointsConfigDump",
        lists: ["dynamic_endpoint_configs", "dynamic_endpoint_configs"],
        field: "endpoint_config",
    },
    Section {
        kind: Kind::Secrets,
        message: "SecretsConfigDump",
        lists: ["dynamic_active_secrets", "dynamic_active_secrets"],
        field: "secret",
    },
];

/// A message as Envoy shows it: field names as in the `.proto`, defaults left out.
struct Readable(DynamicMessage);

impl Serialize for Readable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let options = SerializeOptions::new()
            .use_proto_field_name(true)
            .stringify_64_bit_integers(true);
        self.0.serialize_with_options(serializer, &options)
    }
}

/// A bootstrap, and resources of files, as they go to the child.
pub(super) fn pack(bootstrap: &[u8], resources: Vec<Shown>) -> Bytes {
    let packed = |name: &str, version: &str, wire: &[u8]| Resource {
        version: version.to_owned(),
        resource: Some(Any {
            type_url: format!("type.googleapis.com/{name}"),
            value: wire.to_vec(),
        }),
        ..Resource::default()
    };
    let first = packed(BOOTSTRAP, "", bootstrap);
    let others = resources.into_iter().map(|shown| {
        let version = if shown.warming { WARMING } else { "" };
        packed(&shown.kind.type_name(), version, &shown.wire)
    });
    let message = DeltaDiscoveryResponse {
        resources: std::iter::once(first).chain(others).collect(),
        ..DeltaDiscoveryResponse::default()
    };
    message.encode_to_vec().into()
}

/// The dump of what was packed.
pub(super) fn config_dump(pool: &DescriptorPool, packed: &[u8]) -> Result<String, ConvertError> {
    let packed = DeltaDiscoveryResponse::decode(packed)
        .map_err(|e| broken(format!("decoding what is to be shown: {e}")))?;
    let mut bootstraps = Vec::new();
    let mut dumps = SECTIONS.map(|section| Section::dump(section.message));
    for resource in packed.resources {
        let Some(any) = resource.resource else {
            continue;
        };
        let message = any.type_url.rsplit('/').next().unwrap_or_default();
        let shown = readable(pool, message, &any)?;
        let kinds = SECTIONS.iter().zip(&mut dumps);
        match kinds
            .into_iter()
            .find(|(section, _)| section.kind.type_name() == message)
        {
            None => {
                let mut dump = Section::dump("BootstrapConfigDump");
                dump.insert("bootstrap".to_owned(), shown);
                bootstraps.push(dump);
            }
            Some((section, dump)) => {
                let warming = resource.version == WARMING;
                let element = section.element(&any.type_url, shown, warming);
                let name = section.lists[usize::from(warming)];
                let list = dump.entry(name).or_insert_with(|| json!([]));
                if let Value::Array(list) = list {
                    list.push(element);
                }
            }
        }
    }
    // Beside its type a dump holds its lists.
    let filled = dumps.into_iter().filter(|dump| dump.len() > 1);
    let configs: Vec<_> = bootstraps.into_iter().chain(filled).collect();
    serde_json::to_string_pretty(&json!({ "configs": configs }))
        .map_err(|e| broken(format!("writing the configuration as JSON: {e}")))
}

impl Section {
    fn dump(message: &str) -> Map<String, Value> {
        let url = format!("type.googleapis.com/envoy.admin.v3.{message}");
        Map::from_iter([("@type".to_owned(), url.into())])
    }

    /// An element of its list.
    fn element(&self, type_url: &str, mut resource: Value, warming: bool) -> Value {
        resource["@type"] = type_url.into();
        let name = resource["name"].clone();
        match self.kind {
            Kind::Listeners => {
                let state = if warming {
                    "warming_state"
                } else {
                    "active_state"
                };
                json!({"name": name, state: {self.field: resource}})
            }
            Kind::Secrets => json!({"name": name, self.field: resource}),
            _ => json!({self.field: resource}),
        }
    }
}

/// A message without what must not be shown.
fn readable(pool: &DescriptorPool, name: &str, any: &Any) -> Result<Value, ConvertError> {
    let descriptor = pool
        .get_message_by_name(name)
        .ok_or_else(|| broken(format!("the descriptors lack {name}")))?;
    let mut message = DynamicMessage::decode(descriptor, any.value.as_slice())
        .map_err(|e| broken(format!("decoding the configuration to show it: {e}")))?;
    redact(&mut message);
    serde_json::to_value(Readable(message))
        .map_err(|e| broken(format!("writing {name} as JSON: {e}")))
}

fn broken(what: String) -> ConvertError {
    ConvertError::Broken(what)
}

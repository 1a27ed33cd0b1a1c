//! Protobuf bytes to the JSON that `/config_dump` shows.

use super::BOOTSTRAP;
use crate::error::ConvertError;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde::{Serialize, Serializer};

/// `envoy.admin.v3.ConfigDump` with the one part that a static configuration has.
#[derive(Serialize)]
struct ConfigDump {
    configs: [BootstrapConfigDump; 1],
}

#[derive(Serialize)]
struct BootstrapConfigDump {
    #[serde(rename = "@type")]
    type_url: &'static str,
    bootstrap: Readable,
}

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

/// The dump of a bootstrap.
pub(super) fn config_dump(pool: &DescriptorPool, wire: &[u8]) -> Result<String, ConvertError> {
    let broken = |what: String| ConvertError::Broken(what);
    let descriptor = pool
        .get_message_by_name(BOOTSTRAP)
        .ok_or_else(|| broken(format!("the descriptors lack {BOOTSTRAP}")))?;
    let bootstrap = DynamicMessage::decode(descriptor, wire)
        .map_err(|e| broken(format!("decoding the configuration to show it: {e}")))?;
    let dump = ConfigDump {
        configs: [BootstrapConfigDump {
            type_url: "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump",
            bootstrap: Readable(bootstrap),
        }],
    };
    serde_json::to_string_pretty(&dump)
        .map_err(|e| broken(format!("writing the configuration as JSON: {e}")))
}

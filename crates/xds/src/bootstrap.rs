//! A bootstrap file to the proxy's model.
//!
//! The first source on the way of configuration: a file, read once at start. Its modules follow
//! the file from the outside in; each turns one resource of Envoy's API into one of the model, and
//! reports whatever contradicts itself or another part with the path of the field.

mod access_log;
mod address;
mod admin;
mod certificates;
mod cluster;
mod endpoint;
mod file;
mod filter_chain;
mod http;
mod http2;
mod listener;
mod listener_filter;
mod matcher;
mod network;
mod reader;
mod route;
mod tls;
mod transports;
mod values;
mod virtual_host;

use crate::convert::Converter;
use crate::error::{ConvertError, LoadError};
use bytes::Bytes;
use shunt_proxy::model::Bootstrap;
use std::path::Path;

/// A configuration that can be served.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the proxy serves.
    pub model: Bootstrap,
    /// The same as protobuf bytes of `envoy.config.bootstrap.v3.Bootstrap`, to be shown with
    /// [`to_json`].
    pub wire: Bytes,
}

/// Load a bootstrap file, YAML or JSON (by the name `*.json`, or by its first character).
///
/// # Errors
/// Where the file cannot be read, is neither YAML nor JSON, or holds anything that is unknown, not
/// implemented or contradictory; all of it at once, up to 20 problems. Unknown fields are errors,
/// as in Envoy without `--allow-unknown-static-fields`.
pub fn load_bootstrap(path: &Path, converter: &Converter) -> Result<Loaded, LoadError> {
    let file = || path.to_path_buf();
    let text = file::read(path).map_err(|message| LoadError::Read {
        file: file(),
        message,
    })?;
    let wire = converter
        .to_wire(&text, file::format(path))
        .map_err(|error| match error {
            ConvertError::Syntax(error) => LoadError::Syntax {
                file: file(),
                error,
            },
            ConvertError::Invalid(problems) => LoadError::Invalid {
                file: file(),
                problems,
            },
            ConvertError::Broken(message) => LoadError::Convert {
                file: file(),
                message,
            },
        })?;
    let bootstrap = prost::Message::decode(wire.clone()).map_err(|e| LoadError::Convert {
        file: file(),
        message: format!("the converted bytes cannot be decoded: {e}"),
    })?;
    let model = reader::model(bootstrap).map_err(|problems| LoadError::Invalid {
        file: file(),
        problems,
    })?;
    Ok(Loaded { model, wire })
}

/// A loaded configuration as Envoy's `/config_dump` shows it: pretty-printed JSON of an
/// `envoy.admin.v3.ConfigDump`, every `Any` expanded, field names as in the `.proto`.
///
/// # Errors
/// Where the bytes are no bootstrap that was loaded, or the converter fails.
pub fn to_json(wire: &[u8], converter: &Converter) -> Result<String, ConvertError> {
    converter.to_json(wire)
}

//! A bootstrap file to the proxy's model.
//!
//! The first source on the way of configuration: a file, read once at start; what it refers to in
//! other files is read by [`crate::files`]. Its modules follow
//! the file from the outside in; each turns one resource of Envoy's API into one of the model, and
//! reports whatever contradicts itself or another part with the path of the field.

mod access_log;
mod address;
mod admin;
mod balancing;
pub(crate) mod certificates;
mod cluster;
mod config_source;
pub(crate) mod draft;
mod endpoint;
pub(crate) mod file;
mod filter_chain;
mod hash_policy;
mod head;
mod http;
mod http2;
mod listener;
mod listener_filter;
mod matcher;
mod network;
pub(crate) mod reader;
mod route;
mod socket;
mod tls;
pub(crate) mod transports;
mod values;
mod virtual_host;

use crate::convert::{Converter, Document};
use crate::error::{ConvertError, LoadError};
use crate::files::{FileResources, State, Updates};
use bytes::Bytes;
use shunt_proxy::model::Bootstrap;
use std::path::Path;

/// A configuration that can be served.
#[derive(Debug)]
pub struct Loaded {
    /// What the proxy serves at first.
    pub model: Bootstrap,
    /// The bootstrap as protobuf bytes of `envoy.config.bootstrap.v3.Bootstrap`, to be shown with
    /// [`to_json`].
    pub wire: Bytes,
    /// The files that it refers to; `None` = there are none, and nothing changes.
    pub updates: Option<Updates>,
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
        .to_wire(&text, file::format(path), Document::Bootstrap)
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
    let start = reader::read(bootstrap).map_err(|problems| LoadError::Invalid {
        file: file(),
        problems,
    })?;
    let admin = start.admin;
    let mut state = State::new(start);
    let updates = if state.has_files() {
        let updates = Updates::load(state, *converter);
        state = updates.state().clone();
        Some(updates)
    } else {
        None
    };
    let served = state.build().map_err(|message| LoadError::Convert {
        file: file(),
        message,
    })?;
    Ok(Loaded {
        model: Bootstrap {
            admin,
            resources: served.resources,
        },
        wire,
        updates,
    })
}

/// A loaded configuration as Envoy's `/config_dump` shows it: pretty-printed JSON of an
/// `envoy.admin.v3.ConfigDump`, every `Any` expanded, field names as in the `.proto`, private keys
/// left out. With it what files hold now, where there are any.
///
/// # Errors
/// Where the bytes are no bootstrap that was loaded, or the converter fails.
pub fn to_json(
    wire: &[u8],
    files: Option<&FileResources>,
    converter: &Converter,
) -> Result<String, ConvertError> {
    let resources = files.map(FileResources::get).unwrap_or_default();
    converter.to_json(wire, resources)
}

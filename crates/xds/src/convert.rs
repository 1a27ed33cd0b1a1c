//! Text to protobuf bytes and back, outside the serving process.
//!
//! On the way of configuration this is the first step after reading, and the last before
//! `/config_dump` is shown. Both need the descriptors of Envoy's API, which a serving process must
//! not hold: [`Converter::Child`] runs the program again under the name [`CHILD_NAME`], bytes in on
//! standard input, bytes out on standard output; the memory goes with the child.

mod child;
mod names;
mod pool;
mod redact;
mod render;
mod scalar;
mod secrets;
mod text;
mod transcode;

pub use child::{CHILD_NAME, convert_main, is_convert_child};
pub(crate) use secrets::HeldBack;
pub(crate) use text::Format;

pub(crate) use pool::descriptors;

use crate::error::{ConvertError, Report};
use crate::files::Shown;
use crate::path::Path;
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::DescriptorPool;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The message that a bootstrap file holds.
pub(crate) const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Document {
    /// A bootstrap.
    Bootstrap,
    /// The resources of a `path_config_source`.
    Resources,
}

impl Document {
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Bootstrap => BOOTSTRAP,
            Self::Resources => "envoy.service.discovery.v3.DiscoveryResponse",
        }
    }
}

/// Where conversions run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Converter {
    /// In a child process: this program, executed again. Its `main` has to call
    /// [`convert_main`] where [`is_convert_child`] says so.
    Child,
    /// In this process, which then keeps what the descriptors cost. For tests and tools.
    InProcess,
}

/// What is asked of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Task {
    /// The text of a file to protobuf bytes.
    ToWire(Format, Document),
    /// The text of a file of secrets to what `secrets` packs.
    Secrets(Format),
    /// What `render` packed to the JSON of `/config_dump`.
    ToJson,
}

impl Converter {
    /// Text to the protobuf bytes of a message, every field of which is covered.
    pub(crate) fn to_wire(
        self,
        text: &str,
        format: Format,
        document: Document,
    ) -> Result<Bytes, ConvertError> {
        self.run(Task::ToWire(format, document), text.as_bytes())
    }

    /// The same of a file of secrets, and what of it cannot be used. In the bytes that is a secret
    /// with its name and nothing else.
    pub(crate) fn secrets_to_wire(
        self,
        text: &str,
        format: Format,
    ) -> Result<(Bytes, Vec<HeldBack>), ConvertError> {
        secrets::unpack(self.run(Task::Secrets(format), text.as_bytes())?)
    }

    /// The protobuf bytes of a `Bootstrap`, and resources of files, to JSON.
    pub(crate) fn to_json(
        self,
        wire: &[u8],
        resources: Vec<Shown>,
    ) -> Result<String, ConvertError> {
        let json = self.run(Task::ToJson, &render::pack(wire, resources))?;
        String::from_utf8(json.into())
            .map_err(|e| ConvertError::Broken(format!("the converter wrote no text: {e}")))
    }

    fn run(self, task: Task, input: &[u8]) -> Result<Bytes, ConvertError> {
        match self {
            Self::Child => child::run(task, input),
            Self::InProcess => perform(task, input),
        }
    }
}

/// Do a conversion here.
fn perform(task: Task, input: &[u8]) -> Result<Bytes, ConvertError> {
    let pool = descriptors();
    match task {
        Task::ToWire(format, document) => to_wire(&pool, document, &parse(input, format)?),
        Task::Secrets(format) => {
            let mut tree = parse(input, format)?;
            let held_back = secrets::set_aside(&pool, &mut tree);
            let wire = to_wire(&pool, Document::Resources, &tree)?;
            secrets::pack(&held_back, &wire)
        }
        Task::ToJson => render::config_dump(&pool, input).map(Bytes::from),
    }
}

fn parse(input: &[u8], format: Format) -> Result<Value, ConvertError> {
    let text = std::str::from_utf8(input)
        .map_err(|e| ConvertError::Broken(format!("the converter was given no text: {e}")))?;
    Ok(text::parse(text, format)?)
}

fn to_wire(pool: &DescriptorPool, document: Document, tree: &Value) -> Result<Bytes, ConvertError> {
    let mut report = Report::default();
    let message = transcode::message(pool, document.message(), tree, &Path::ROOT, &mut report);
    if let Some(message) = &message {
        crate::coverage::check(message, &Path::ROOT, &mut report);
    }
    let wire = message.map_or_else(Bytes::new, |m| m.encode_to_vec().into());
    report.finish(wire).map_err(ConvertError::Invalid)
}

//! A file of secrets: what is wrong with one of them is no matter of the others.
//!
//! One that cannot be converted, or says what is not served, is set aside with its problems; in its
//! place stays its name alone, so that all others keep their positions.

use super::transcode;
use crate::error::{ConvertError, Problems, Report};
use crate::path::Path;
use bytes::Bytes;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use prost::Name;
use prost_reflect::DescriptorPool;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A secret that cannot be used, in a file with others that can.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HeldBack {
    pub(crate) name: String,
    pub(crate) problems: Problems,
}

/// Set aside what is wrong in itself and has a name.
pub(super) fn set_aside(pool: &DescriptorPool, tree: &mut Value) -> Vec<HeldBack> {
    let mut held_back = Vec::new();
    let Some(Value::Array(all)) = tree.get_mut("resources") else {
        return held_back;
    };
    let root = Path::ROOT;
    let path = root.field("resources");
    for (i, resource) in all.iter_mut().enumerate() {
        let Some(name) = name(resource) else { continue };
        let at = path.index(i);
        let mut report = Report::default();
        let any = transcode::message(pool, transcode::ANY, resource, &at, &mut report);
        if let Some(any) = &any {
            crate::coverage::check(any, &at, &mut report);
        }
        if let Err(problems) = report.finish(()) {
            *resource = json!({ "@type": resource["@type"], "name": name });
            held_back.push(HeldBack { name, problems });
        }
    }
    held_back
}

/// The name of a secret; `None` where it has none, or this is something else.
fn name(resource: &Value) -> Option<String> {
    let (_, of) = resource.get("@type")?.as_str()?.rsplit_once('/')?;
    let name = resource.get("name")?.as_str()?;
    (of == Secret::full_name() && !name.is_empty()).then(|| name.to_owned())
}

/// As one answer of a conversion: a line of JSON, and the bytes.
pub(super) fn pack(held_back: &[HeldBack], wire: &[u8]) -> Result<Bytes, ConvertError> {
    let packed = serde_json::to_vec(held_back);
    let mut packed =
        packed.map_err(|e| ConvertError::Broken(format!("problems cannot be written: {e}")))?;
    packed.push(b'\n');
    packed.extend_from_slice(wire);
    Ok(packed.into())
}

/// What [`pack`] packed.
pub(super) fn unpack(mut packed: Bytes) -> Result<(Bytes, Vec<HeldBack>), ConvertError> {
    let broken = |why: &str| ConvertError::Broken(format!("the converter's answer: {why}"));
    let end = packed.iter().position(|byte| *byte == b'\n');
    let mut line = packed.split_to(end.ok_or_else(|| broken("it has no end of line"))? + 1);
    line.truncate(line.len() - 1);
    let held_back = serde_json::from_slice(&line).map_err(|e| broken(&e.to_string()))?;
    Ok((packed, held_back))
}

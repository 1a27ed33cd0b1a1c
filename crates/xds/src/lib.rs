//! The source side of configuration: Envoy v3 text to the proxy's model.
//!
//! A bootstrap file goes through four steps: its text becomes protobuf bytes ([`Converter`], in a
//! short-lived child, because the descriptors that this takes cost several megabytes), each field
//! that it sets is looked up in the coverage table ([`coverage`]), the bytes are decoded, and what
//! they say becomes a [`shunt_proxy::model::Bootstrap`] or a list of problems, each with the path
//! of its field. Files that the bootstrap refers to go the same way, whenever they change
//! ([`files`]).
#![forbid(unsafe_code)]

pub mod bootstrap;
pub mod convert;
pub mod coverage;
mod error;
pub mod files;
mod path;

pub use bootstrap::{Loaded, load_bootstrap, to_json};
pub use convert::{CHILD_NAME, Converter, convert_main, is_convert_child};
pub use error::{
    ConvertError, LoadError, LoadErrorKind, Problem, ProblemKind, Problems, SyntaxError,
};

//! Policies in other people's words: flags and variables of Istio's and Linkerd's programs, and
//! annotations of both.

mod accounts;
pub mod annotations;
pub(crate) mod arguments;
mod duration;
pub mod istio;
pub mod linkerd;
mod request;
pub(crate) mod values;

pub use accounts::Accounts;
pub use arguments::{ArgumentError, wants_json};
pub use request::{Action, Request, Validation};

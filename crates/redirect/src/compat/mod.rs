//! Policies in other people's words.

mod accounts;
mod arguments;
mod duration;
pub mod istio;
mod request;
pub(crate) mod values;

pub use accounts::Accounts;
pub use arguments::ArgumentError;
pub use request::{Action, Request, Validation};

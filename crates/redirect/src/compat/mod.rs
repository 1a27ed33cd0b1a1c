//! Policies in other people's words.

pub mod istio;
pub mod values;

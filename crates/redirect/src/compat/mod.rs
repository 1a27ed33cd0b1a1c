//! Policies in other people's words.

pub mod istio;
mod values;

//! Bootstraps that cannot be served: each is refused with the path of the field and a remedy.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod balancing;
mod contradictions;
mod fields;
mod sources;
mod support;
mod texts;
mod unsupported;

//! TLS: terminated towards downstream, originated towards upstream.
//!
//! Configuration is compiled once and shared by all workers; a connection holds its own state in
//! one box, so that plaintext connections pay nothing for it.

pub mod client;
mod params;
mod peer;
pub mod pem;
pub mod rotating;
pub mod server;
mod verify;

pub use peer::{PeerCertificate, TlsInfo};
use verify::verify_failure;

use crate::model::{Invalid, Secret};
use rustls::sign::CertifiedKey;
use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::sync::Arc;

/// ALPN of Istio's TCP metadata exchange: who agrees on it must begin with 8 bytes and a message of
/// its own. Shunt does not speak it, so it never offers or selects it.
const NOT_SPOKEN: &str = "istio-peer-exchange";

/// The application protocols of a configuration, as they go on the wire.
fn alpn(names: &[String], not_served: &[&str]) -> Vec<Vec<u8>> {
    names
        .iter()
        .filter(|name| *name != NOT_SPOKEN && !not_served.contains(&name.as_str()))
        .map(|name| name.as_bytes().to_vec())
        .collect()
}

/// Whether a secret can be used, by whichever transport socket.
///
/// # Errors
/// Where a key is not its certificate's, or nobody can be verified with what is trusted.
pub fn check(secret: &Secret) -> Result<(), Invalid> {
    match secret {
        Secret::Identity(identity) => certified_key(identity).map(drop),
        Secret::Validation(validation) => verify::roots(&validation.trusted).map(drop),
    }
}

/// A certificate chain with its key, checked to belong together.
fn certified_key(identity: &crate::model::Identity) -> Result<Arc<CertifiedKey>, Invalid> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let (chain, key) = (identity.chain.clone(), identity.key.clone_key());
    CertifiedKey::from_der(chain, key, &provider)
        .map(Arc::new)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch) => Invalid::new(
                "private_key is not the key of the first certificate of certificate_chain; take \
                 both from one issuance, the certificate of the proxy itself first",
            ),
            other => Invalid::new(format!("the certificate cannot be used: {other}")),
        })
}

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeError {
    /// The peer showed no certificate.
    NoCertificate,
    /// The peer's certificate is not trusted.
    Untrusted(String),
    /// The peer's certificate is trusted, and names somebody else.
    WrongName(String),
    /// Anything else that TLS says.
    Protocol(String),
    /// The connection ended or failed below TLS.
    Connection(String),
}

impl HandshakeError {
    fn of(error: &io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            None => Self::Connection(error.to_string()),
            Some(rustls::Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(rustls::Error::InvalidCertificate(why)) => match verify_failure(why) {
                Some(mismatch) => Self::WrongName(mismatch.to_string()),
                None => Self::Untrusted(why.to_string()),
            },
            Some(other) => Self::Protocol(other.to_string()),
        }
    }

    /// `TRANSPORT_FAILURE_REASON`.
    pub fn reason(&self) -> Cow<'static, str> {
        match self {
            Self::NoCertificate => {
                Cow::Borrowed("TLS_error: peer did not provide required client certificate")
            }
            Self::Untrusted(why) => {
                Cow::Owned(format!("TLS_error: certificate verification failed: {why}"))
            }
            Self::WrongName(why) => Cow::Owned(format!(
                "TLS_error: certificate verification failed: SAN matcher: {why}"
            )),
            Self::Protocol(why) => Cow::Owned(format!("TLS_error: {why}")),
            Self::Connection(why) => Cow::Owned(format!("TLS handshake: {why}")),
        }
    }
}

impl std::fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason())
    }
}

impl Error for HandshakeError {}

/// Whether a stream of TLS ended without `close_notify`: bytes may be missing.
pub fn is_truncated(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

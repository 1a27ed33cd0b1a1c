//! Certificates and keys in PEM (RFC 7468).

use crate::model::Invalid;
use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// All certificates of a text, in order; at least one.
///
/// # Errors
/// Where it holds none, or one is broken.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Invalid> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| Invalid::new(format!("no certificates in PEM: {error}")))?;
    if found.is_empty() {
        return Err(Invalid::new(
            "there is no certificate in it; it begins with -----BEGIN CERTIFICATE-----",
        ));
    }
    Ok(found)
}

/// The first private key of a text: PKCS #8, PKCS #1 or SEC 1, not encrypted.
///
/// # Errors
/// Where it holds none, or it is broken.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Invalid> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        Error::NoItemsFound => Invalid::new(
            "there is no private key in it that can be used; it begins with -----BEGIN PRIVATE \
             KEY-----, RSA PRIVATE KEY or EC PRIVATE KEY, and must not be encrypted",
        ),
        error => Invalid::new(format!("no private key in PEM: {error}")),
    })
}

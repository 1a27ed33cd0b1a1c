//! Whether a peer's certificate is believed: a chain to what is trusted, and a name that matches.
//!
//! As in Envoy no host name is checked: a mesh tells peers apart by SPIFFE names, and a
//! configuration that wants a host name says so with a matcher.

use super::peer::{San, subject_alt_names};
use crate::model::{Invalid, SanKind, SanMatcher, StringMatch, Validation};
use crate::route::string_matches;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use std::sync::Arc;

/// A certificate that is trusted, and names nobody who is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("none of the certificate's names ({presented}) is allowed by the configuration")]
pub(super) struct SanMismatch {
    presented: String,
}

/// The mismatch of names that a certificate was refused for, where it was that.
pub(super) fn verify_failure(error: &CertificateError) -> Option<&SanMismatch> {
    match error {
        CertificateError::Other(other) => other.0.downcast_ref(),
        _ => None,
    }
}

pub(super) fn roots(trusted: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, Invalid> {
    let mut roots = RootCertStore::empty();
    for (i, certificate) in trusted.iter().enumerate() {
        roots.add(certificate.clone()).map_err(|error| {
            Invalid::new(format!(
                "certificate {i} of trusted_ca cannot be used: {error}"
            ))
        })?;
    }
    Ok(Arc::new(roots))
}

fn check_names(certificate: &CertificateDer<'_>, matchers: &[SanMatcher]) -> Result<(), Error> {
    if matchers.is_empty() {
        return Ok(());
    }
    let names = subject_alt_names(certificate);
    let matches = |matcher: &SanMatcher| names.iter().any(|name| name_matches(matcher, name));
    if matchers.iter().any(matches) {
        return Ok(());
    }
    let presented: Vec<String> = names.iter().map(ToString::to_string).collect();
    let presented = if presented.is_empty() {
        "it has none".to_owned()
    } else {
        presented.join(", ")
    };
    let mismatch = SanMismatch { presented };
    let other = OtherError(Arc::new(mismatch));
    Err(Error::InvalidCertificate(CertificateError::Other(other)))
}

fn name_matches(matcher: &SanMatcher, name: &San) -> bool {
    if matcher.kind != name.kind {
        return false;
    }
    match &matcher.value {
        // A certificate's wildcard stands for one label (RFC 6125 §6.4.3).
        StringMatch::Exact { value, .. } if name.kind == SanKind::Dns => {
            dns_matches(value, &name.value)
        }
        value => string_matches(value, name.value.as_bytes()),
    }
}

/// Whether a name in a certificate, perhaps a wildcard, names this host.
pub(super) fn dns_matches(host: &str, presented: &str) -> bool {
    if host.eq_ignore_ascii_case(presented) {
        return true;
    }
    match (presented.strip_prefix("*."), host.split_once('.')) {
        (Some(domain), Some((label, rest))) => {
            !label.is_empty() && !domain.is_empty() && rest.eq_ignore_ascii_case(domain)
        }
        _ => false,
    }
}

/// Verifies upstreams.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    /// What is trusted; `None` = anybody.
    roots: Option<Arc<RootCertStore>>,
    names: Vec<SanMatcher>,
    provider: Arc<CryptoProvider>,
}

impl ServerVerifier {
    pub(super) fn new(
        validation: Option<&Validation>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Invalid> {
        Ok(Self {
            roots: validation.map(|v| roots(&v.trusted)).transpose()?,
            names: validation.map(|v| v.names.clone()).unwrap_or_default(),
            provider,
        })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                roots,
                intermediates,
                now,
                algorithms,
            )?;
            check_names(end_entity, &self.names)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Verifies downstreams.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    names: Vec<SanMatcher>,
}

impl ClientVerifier {
    /// A client whose names must match must show a certificate, as Envoy has it.
    pub(super) fn new(
        validation: &Validation,
        required: bool,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Invalid> {
        let roots = roots(&validation.trusted)?;
        let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
        if !required && validation.names.is_empty() {
            builder = builder.allow_unauthenticated();
        }
        if !validation.announce_trusted {
            builder = builder.clear_root_hint_subjects();
        }
        let chain = builder
            .build()
            .map_err(|error| Invalid::new(format!("trusted_ca cannot be used: {error}")))?;
        Ok(Self {
            chain,
            names: validation.names.clone(),
        })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)?;
        check_names(end_entity, &self.names)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::dns_matches;

    #[test]
    fn a_wildcard_in_a_certificate_stands_for_one_label() {
        let rows = [
            ("api.example.com", "api.example.com", true),
            ("api.example.com", "API.Example.com", true),
            ("api.example.com", "*.example.com", true),
            ("a.b.example.com", "*.example.com", false),
            ("example.com", "*.example.com", false),
            (".example.com", "*.example.com", false),
            ("api.example.com", "*", false),
            ("api.example.com", "api.*", false),
            ("com", "*.", false),
        ];
        for (host, presented, expected) in rows {
            assert_eq!(dns_matches(host, presented), expected, "{host} {presented}");
        }
    }
}

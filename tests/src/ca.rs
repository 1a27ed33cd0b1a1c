//! Who vouches for everybody in a mesh.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, IsCa, KeyPair,
};

pub use rcgen::SanType;

/// An authority of its own.
#[derive(Debug)]
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
#[derive(Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: rcgen::Certificate,
    /// Its key.
    pub key: KeyPair,
}

impl Ca {
    /// A new authority.
    ///
    /// # Errors
    /// No key can be made.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self(issuer))
    }

    /// Its own certificate.
    pub fn certificate(&self) -> &rcgen::Certificate {
        self.0.as_ref()
    }

    /// A certificate for these names, and no subject.
    ///
    /// # Errors
    /// No key can be made.
    pub fn issue(&self, names: Vec<SanType>) -> Result<Issued> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        Ok(Issued { certificate, key })
    }

    /// A certificate for a SPIFFE name.
    ///
    /// # Errors
    /// It is no name, or no key can be made.
    pub fn issue_uri(&self, uri: &str) -> Result<Issued> {
        self.issue(vec![SanType::URI(uri.try_into()?)])
    }
}

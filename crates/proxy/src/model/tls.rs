//! Transport sockets with TLS (`envoy.extensions.transport_sockets.tls.v3`).

use super::StringMatch;
use super::secret::SecretRefs;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::fmt;

/// `DownstreamTlsContext`: how a filter chain terminates TLS.
#[derive(Debug, Clone, PartialEq)]
pub struct DownstreamTls {
    /// `common_tls_context.tls_params`.
    pub params: TlsParams,
    /// `common_tls_context.tls_certificates`; at least one, with those of `secrets`.
    pub identities: Vec<Identity>,
    /// `common_tls_context.alpn_protocols`, best first.
    pub alpn: Vec<String>,
    /// `common_tls_context.validation_context`; `None` = no certificate is asked for.
    pub validation: Option<Validation>,
    /// What of it is in secrets.
    pub secrets: SecretRefs,
    /// `require_client_certificate`; only with a validation.
    pub require_client_certificate: bool,
    /// `require_sni`: refuse a client that names no server.
    pub require_sni: bool,
    /// Not `disable_stateless_session_resumption`: hand out session tickets.
    pub session_tickets: bool,
    /// Not `disable_stateful_session_resumption`: remember sessions of TLS 1.2.
    pub session_memory: bool,
    /// `prefer_client_ciphers`.
    pub prefer_client_ciphers: bool,
}

/// `UpstreamTlsContext`: how connections to an upstream originate TLS.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamTls {
    /// `common_tls_context.tls_params`.
    pub params: TlsParams,
    /// `common_tls_context.tls_certificates`: what we show when asked.
    pub identity: Option<Identity>,
    /// `common_tls_context.alpn_protocols`, best first. Empty = what the protocol of the
    /// connection suggests.
    pub alpn: Vec<String>,
    /// `common_tls_context.validation_context`; `None` = whoever answers is believed.
    pub validation: Option<Validation>,
    /// What of it is in secrets.
    pub secrets: SecretRefs,
    /// `sni`; `None` = no server name is sent.
    pub sni: Option<ServerName<'static>>,
    /// `max_session_keys` is not 0: sessions are resumed.
    pub resumption: bool,
}

/// A certificate chain and its private key (`TlsCertificate`).
#[derive(PartialEq)]
pub struct Identity {
    /// The chain, leaf first; never empty.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the key nor pages of bytes.
        let certificates = self.chain.len();
        write!(f, "Identity({certificates} certificates)")
    }
}

/// `CertificateValidationContext`: whom to believe.
#[derive(Debug, Clone, PartialEq)]
pub struct Validation {
    /// `trusted_ca`; empty only where a secret brings it.
    pub trusted: Vec<CertificateDer<'static>>,
    /// `match_typed_subject_alt_names`, `match_subject_alt_names`: one of these must match one of
    /// the certificate's names; empty = any will do. No host name is checked besides.
    pub names: Vec<SanMatcher>,
    /// Not `suppress_client_ca_list`: tell clients whose certificates are trusted.
    pub announce_trusted: bool,
}

/// A matcher of names of one kind (`SubjectAltNameMatcher`).
#[derive(Debug, Clone, PartialEq)]
pub struct SanMatcher {
    /// Which names it looks at.
    pub kind: SanKind,
    /// What they must be.
    pub value: StringMatch,
}

/// A kind of subject alternative name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SanKind {
    /// `URI`, as SPIFFE's.
    Uri,
    /// `DNS`.
    Dns,
    /// `EMAIL`.
    Email,
    /// `IP_ADDRESS`.
    Ip,
}

impl SanKind {
    /// All kinds there are; what `match_subject_alt_names` looks at.
    pub const ALL: [Self; 4] = [Self::Uri, Self::Dns, Self::Email, Self::Ip];
}

impl fmt::Display for SanKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uri => "URI",
            Self::Dns => "DNS",
            Self::Email => "EMAIL",
            Self::Ip => "IP_ADDRESS",
        })
    }
}

/// `TlsParameters`: what may be agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsParams {
    /// TLS 1.2 is among the versions.
    pub tls12: bool,
    /// TLS 1.3 is among the versions.
    pub tls13: bool,
    /// `cipher_suites` for TLS 1.2, best first; `None` = all. Those of TLS 1.3 cannot be chosen.
    pub cipher_suites: Option<Vec<CipherSuite12>>,
    /// `ecdh_curves`, best first; `None` = all.
    pub groups: Option<Vec<KeyExchangeGroup>>,
}

impl Default for TlsParams {
    fn default() -> Self {
        Self {
            tls12: true,
            tls13: true,
            cipher_suites: None,
            groups: None,
        }
    }
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $(#[doc = concat!("`", $text, "`.")] $variant,)* }

        impl $name {
            /// Their names in Envoy's configuration.
            pub const NAMES: &'static [&'static str] = &[$($text,)*];

            /// The one of this name.
            pub fn named(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

named! {
    /// A cipher suite of TLS 1.2.
    CipherSuite12 {
        EcdheEcdsaAes128 "ECDHE-ECDSA-AES128-GCM-SHA256",
        EcdheEcdsaAes256 "ECDHE-ECDSA-AES256-GCM-SHA384",
        EcdheEcdsaChacha20 "ECDHE-ECDSA-CHACHA20-POLY1305",
        EcdheRsaAes128 "ECDHE-RSA-AES128-GCM-SHA256",
        EcdheRsaAes256 "ECDHE-RSA-AES256-GCM-SHA384",
        EcdheRsaChacha20 "ECDHE-RSA-CHACHA20-POLY1305",
    }
}

named! {
    /// A group for the exchange of keys.
    KeyExchangeGroup {
        X25519MlKem768 "X25519MLKEM768",
        X25519 "X25519",
        P256 "P-256",
        P384 "P-384",
    }
}

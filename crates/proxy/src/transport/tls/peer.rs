//! What is known of a TLS connection: what was agreed on, and who the peer is.

use super::params::sha256;
use crate::model::SanKind;
use rustls::CommonState;
use rustls::pki_types::CertificateDer;
use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

/// What is known of a downstream connection by TLS; made once for each connection.
#[derive(Debug, Default)]
pub struct TlsInfo {
    /// The server name that the client asked for, in lower case; empty = none.
    pub server_name: Box<str>,
    /// The application protocol that was agreed on; empty = none.
    pub alpn: Box<str>,
    /// `TLSv1.3`; empty where TLS is not terminated here.
    pub version: &'static str,
    /// The cipher suite, in OpenSSL's words; empty where TLS is not terminated here.
    pub cipher: &'static str,
    /// The peer's certificate, verified; `None` where it showed none.
    pub peer: Option<PeerCertificate>,
    /// URI names of our own certificates.
    pub local_uris: Box<[Box<str>]>,
}

impl TlsInfo {
    /// What a ClientHello says of a connection that is passed on as it is.
    pub fn passed_through(server_name: Box<str>) -> Self {
        Self {
            server_name,
            ..Self::default()
        }
    }

    /// Whether TLS is terminated here.
    pub fn is_terminated(&self) -> bool {
        !self.version.is_empty()
    }

    pub(super) fn of(connection: &CommonState, server_name: Option<&str>) -> Self {
        let alpn = connection.alpn_protocol().unwrap_or_default();
        let chain = connection.peer_certificates().unwrap_or_default();
        Self {
            server_name: server_name.unwrap_or_default().to_ascii_lowercase().into(),
            alpn: String::from_utf8_lossy(alpn).into(),
            version: match connection.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            cipher: connection
                .negotiated_cipher_suite()
                .map_or("", |suite| cipher_name(suite.suite())),
            peer: chain.first().map(|leaf| PeerCertificate::of(leaf)),
            local_uris: Box::default(),
        }
    }
}

/// Names of cipher suites as Envoy writes them.
fn cipher_name(suite: rustls::CipherSuite) -> &'static str {
    use rustls::CipherSuite as C;
    match suite {
        C::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        C::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        C::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        C::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        C::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        C::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        C::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        C::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "",
    }
}

/// What a peer's certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerCertificate {
    /// Its subject, as RFC 2253 writes it.
    pub subject: Box<str>,
    /// Its URI names.
    pub uris: Vec<Box<str>>,
    /// Its DNS names.
    pub dns: Vec<Box<str>>,
    /// SHA-256 of its DER form, in hexadecimal.
    pub sha256: Box<str>,
    /// It and those that vouch for it, in DER; only where they are to be told of.
    pub chain: Box<[Box<[u8]>]>,
}

impl PeerCertificate {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        let names = subject_alt_names(certificate);
        let of_kind = |kind| {
            let of_kind = names.iter().filter(|name| name.kind == kind);
            of_kind.map(|name| name.value.as_str().into()).collect()
        };
        let hash = sha256(certificate);
        Self {
            subject: subject(certificate).into(),
            uris: of_kind(SanKind::Uri),
            dns: of_kind(SanKind::Dns),
            sha256: hash
                .iter()
                .fold(String::new(), |mut hex, byte| {
                    // Writing to a string cannot fail.
                    let _ = write!(hex, "{byte:02x}");
                    hex
                })
                .into(),
            chain: Box::default(),
        }
    }
}

/// A name that a certificate has besides its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct San {
    pub(super) kind: SanKind,
    pub(super) value: String,
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value.escape_default())
    }
}

/// All such names of a certificate; none where it cannot be read.
pub(super) fn subject_alt_names(certificate: &CertificateDer<'_>) -> Vec<San> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let Ok(Some(names)) = parsed.subject_alternative_name() else {
        return Vec::new();
    };
    let san = |name: &GeneralName<'_>| {
        let (kind, value) = match name {
            GeneralName::URI(uri) => (SanKind::Uri, (*uri).to_owned()),
            GeneralName::DNSName(name) => (SanKind::Dns, (*name).to_owned()),
            GeneralName::RFC822Name(address) => (SanKind::Email, (*address).to_owned()),
            GeneralName::IPAddress(bytes) => (SanKind::Ip, ip(bytes)?.to_string()),
            _ => return None,
        };
        Some(San { kind, value })
    };
    names.value.general_names.iter().filter_map(san).collect()
}

/// The URI names of a certificate.
pub(super) fn uris(certificate: &CertificateDer<'_>) -> impl Iterator<Item = Box<str>> {
    subject_alt_names(certificate)
        .into_iter()
        .filter(|name| name.kind == SanKind::Uri)
        .map(|name| name.value.into())
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|b| Ipv4Addr::from(b).into());
    let v6 = <[u8; 16]>::try_from(bytes).map(|b| Ipv6Addr::from(b).into());
    v4.or(v6).ok()
}

fn subject(certificate: &CertificateDer<'_>) -> String {
    X509Certificate::from_der(certificate)
        .map(|(_, parsed)| rfc2253(parsed.subject()))
        .unwrap_or_default()
}

/// A distinguished name as RFC 2253 writes it: the last part first, special characters escaped.
fn rfc2253(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter().collect();
    let mut text = String::new();
    for part in parts.into_iter().rev() {
        for (i, attribute) in part.iter().enumerate() {
            if !text.is_empty() {
                text.push(if i == 0 { ',' } else { '+' });
            }
            let oid = attribute.attr_type();
            match oid2abbrev(oid, oid_registry()) {
                Ok(abbreviation) => text.push_str(abbreviation),
                Err(_) => text.push_str(&oid.to_id_string()),
            }
            text.push('=');
            match attribute.as_str() {
                Ok(value) => escape(value, &mut text),
                Err(_) => {
                    text.push('#');
                    for byte in attribute.attr_value().data {
                        // Writing to a string cannot fail.
                        let _ = write!(text, "{byte:02X}");
                    }
                }
            }
        }
    }
    text
}

fn escape(value: &str, into: &mut String) {
    let last = value.len().saturating_sub(1);
    for (at, c) in value.char_indices() {
        let at_the_edge = (c == ' ' && (at == 0 || at == last)) || (c == '#' && at == 0);
        match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => into.extend(['\\', c]),
            _ if at_the_edge => into.extend(['\\', c]),
            ' '..='~' => into.push(c),
            // Also what is not ASCII: it has to stand in a header.
            other => {
                let mut utf8 = [0; 4];
                for byte in other.encode_utf8(&mut utf8).bytes() {
                    // Writing to a string cannot fail.
                    let _ = write!(into, "\\{byte:02X}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PeerCertificate, escape, rfc2253};
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
    use x509_parser::prelude::{FromDer, X509Certificate};

    fn certificate(names: &[(DnType, &str)], sans: Vec<SanType>) -> rcgen::Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names = sans;
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate")
    }

    #[test]
    fn a_subject_is_written_last_part_first_and_escaped() {
        let made = certificate(
            &[
                (DnType::CountryName, "AT"),
                (DnType::OrganizationName, "Acme, \"Inc\""),
                (DnType::CommonName, " a+b "),
            ],
            vec![],
        );
        let (_, parsed) = X509Certificate::from_der(made.der()).expect("a certificate");
        assert_eq!(
            rfc2253(parsed.subject()),
            r#"CN=\ a\+b\ ,O=Acme\, \"Inc\",C=AT"#
        );
    }

    #[test]
    fn what_could_break_a_header_is_escaped() {
        let mut text = String::new();
        escape("#a\r\n\u{e9}\\", &mut text);
        assert_eq!(text, r"\#a\0D\0A\C3\A9\\");
    }

    #[test]
    fn names_and_hash_of_a_certificate_are_found() {
        let uri = |text: &str| SanType::URI(text.try_into().expect("ASCII"));
        let made = certificate(
            &[],
            vec![
                uri("spiffe://a/b"),
                SanType::DnsName("a.b".try_into().expect("ASCII")),
                uri("spiffe://c"),
            ],
        );
        let found = PeerCertificate::of(made.der());
        assert_eq!(found.subject, "".into());
        assert_eq!(found.uris, ["spiffe://a/b".into(), "spiffe://c".into()]);
        assert_eq!(found.dns, ["a.b".into()]);
        assert_eq!(found.sha256.len(), 64);
    }
}

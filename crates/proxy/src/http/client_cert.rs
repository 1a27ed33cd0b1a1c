//! `x-forwarded-client-cert`: what an upstream is told of the client's certificate, and by whom.

use crate::http::headers::X_FORWARDED_CLIENT_CERT;
use crate::model::{ClientCertDetails, ForwardClientCert};
use crate::transport::tls::TlsInfo;
use http::{HeaderMap, HeaderValue};

/// What becomes of the header in the requests of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCert {
    /// Removed: nobody may claim a certificate that was not shown here.
    Remove,
    /// Kept.
    Keep,
    /// This is appended to what is there.
    Append(HeaderValue),
    /// This replaces what is there.
    Set(HeaderValue),
}

impl ClientCert {
    /// What a connection manager's configuration makes of a connection.
    pub fn of(
        forward: ForwardClientCert,
        details: ClientCertDetails,
        tls: Option<&TlsInfo>,
    ) -> Self {
        let element = || tls.and_then(|tls| element(tls, details));
        let shown = tls.is_some_and(|tls| tls.peer.is_some());
        match forward {
            ForwardClientCert::AlwaysForwardOnly => Self::Keep,
            ForwardClientCert::ForwardOnly if shown => Self::Keep,
            ForwardClientCert::AppendForward if shown => {
                element().map_or(Self::Remove, Self::Append)
            }
            ForwardClientCert::SanitizeSet if shown => element().map_or(Self::Remove, Self::Set),
            _ => Self::Remove,
        }
    }

    /// Edit the headers of a request.
    pub fn apply(&self, headers: &mut HeaderMap) {
        match self {
            Self::Keep => {}
            Self::Remove => drop(headers.remove(X_FORWARDED_CLIENT_CERT)),
            Self::Set(element) => drop(headers.insert(X_FORWARDED_CLIENT_CERT, element.clone())),
            Self::Append(element) => {
                let mut joined = Vec::new();
                for earlier in headers.get_all(X_FORWARDED_CLIENT_CERT) {
                    joined.extend_from_slice(earlier.as_bytes());
                    joined.push(b',');
                }
                joined.extend_from_slice(element.as_bytes());
                // Values joined by commas are a value.
                if let Ok(value) = HeaderValue::from_bytes(&joined) {
                    headers.insert(X_FORWARDED_CLIENT_CERT, value);
                }
            }
        }
    }
}

/// One element of the header, as Envoy writes it; `None` where a name cannot stand in a header.
fn element(tls: &TlsInfo, details: ClientCertDetails) -> Option<HeaderValue> {
    let peer = tls.peer.as_ref()?;
    let mut pairs: Vec<String> = Vec::new();
    pairs.extend(tls.local_uris.iter().map(|uri| pair("By", uri)));
    pairs.push(format!("Hash={}", peer.sha256));
    if details.cert {
        let leaf = peer.chain.first().map(|leaf| url_encoded_pem(leaf));
        pairs.extend(leaf.map(|leaf| format!("Cert=\"{leaf}\"")));
    }
    if details.chain && !peer.chain.is_empty() {
        let chain: String = peer.chain.iter().map(|one| url_encoded_pem(one)).collect();
        pairs.push(format!("Chain=\"{chain}\""));
    }
    if details.subject {
        pairs.push(format!("Subject=\"{}\"", peer.subject));
    }
    if details.uri {
        if peer.uris.is_empty() {
            pairs.push("URI=".to_owned());
        }
        pairs.extend(peer.uris.iter().map(|uri| pair("URI", uri)));
    }
    if details.dns {
        pairs.extend(peer.dns.iter().map(|name| pair("DNS", name)));
    }
    HeaderValue::from_str(&pairs.join(";")).ok()
}

/// A certificate as PEM, escaped as Envoy does.
fn url_encoded_pem(certificate: &[u8]) -> String {
    let mut pem = String::from("-----BEGIN%20CERTIFICATE-----%0A");
    for line in base64(certificate).chunks(64) {
        for byte in line {
            match byte {
                b'+' => pem.push_str("%2B"),
                b'/' => pem.push_str("%2F"),
                b'=' => pem.push_str("%3D"),
                other => pem.push(char::from(*other)),
            }
        }
        pem.push_str("%0A");
    }
    pem.push_str("-----END%20CERTIFICATE-----%0A");
    pem
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut bits = [0; 3];
        bits[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, bits[0], bits[1], bits[2]]);
        for place in 0..4 {
            let digit = (bits >> (18 - 6 * place)) as usize & 63;
            text.push(if place > group.len() {
                b'='
            } else {
                DIGITS[digit]
            });
        }
    }
    text
}

/// A key and its value; one that could be taken for more than one value is quoted.
fn pair(key: &str, value: &str) -> String {
    if value.contains([',', ';', '"']) {
        format!("{key}=\"{}\"", value.replace('"', "\\\""))
    } else {
        format!("{key}={value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::tls::PeerCertificate;

    fn mtls() -> TlsInfo {
        TlsInfo {
            version: "TLSv1.3",
            peer: Some(PeerCertificate {
                subject: r#"CN=a\,b,O=\"x\""#.into(),
                uris: vec!["spiffe://td/ns/a/sa/b".into()],
                dns: vec!["a.example".into(), "b.example".into()],
                sha256: "00ff".into(),
                chain: vec![vec![0xfb, 0xef, 0xff, 0x00].into(), vec![0x01; 50].into()].into(),
            }),
            local_uris: ["spiffe://td/ns/x/sa/y".into()].into(),
            ..TlsInfo::default()
        }
    }

    const ALL: ClientCertDetails = ClientCertDetails {
        subject: true,
        uri: true,
        dns: true,
        cert: false,
        chain: false,
    };
    const ELEMENT: &str = r#"By=spiffe://td/ns/x/sa/y;Hash=00ff;Subject="CN=a\,b,O=\"x\"";URI=spiffe://td/ns/a/sa/b;DNS=a.example;DNS=b.example"#;

    fn edited(forward: ForwardClientCert, tls: Option<&TlsInfo>) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.append(X_FORWARDED_CLIENT_CERT, HeaderValue::from_static("By=a"));
        headers.append(X_FORWARDED_CLIENT_CERT, HeaderValue::from_static("By=b"));
        ClientCert::of(forward, ALL, tls).apply(&mut headers);
        let values = headers.get_all(X_FORWARDED_CLIENT_CERT).iter();
        let values: Vec<&str> = values.filter_map(|v| v.to_str().ok()).collect();
        (!values.is_empty()).then(|| values.join("|"))
    }

    #[test]
    fn with_a_certificate_the_header_is_what_the_configuration_says() {
        let tls = mtls();
        let edited = |forward| edited(forward, Some(&tls));
        assert_eq!(edited(ForwardClientCert::Sanitize), None);
        assert_eq!(
            edited(ForwardClientCert::ForwardOnly),
            Some("By=a|By=b".to_owned())
        );
        let appended = format!("By=a,By=b,{ELEMENT}");
        assert_eq!(edited(ForwardClientCert::AppendForward), Some(appended));
        assert_eq!(
            edited(ForwardClientCert::SanitizeSet),
            Some(ELEMENT.to_owned())
        );
        assert_eq!(
            edited(ForwardClientCert::AlwaysForwardOnly),
            Some("By=a|By=b".to_owned())
        );
    }

    #[test]
    fn without_a_certificate_nobody_can_claim_one() {
        let no_certificate = TlsInfo {
            peer: None,
            ..mtls()
        };
        for tls in [None, Some(&no_certificate)] {
            for forward in [
                ForwardClientCert::Sanitize,
                ForwardClientCert::ForwardOnly,
                ForwardClientCert::AppendForward,
                ForwardClientCert::SanitizeSet,
            ] {
                assert_eq!(edited(forward, tls), None, "{forward:?}");
            }
            let kept = edited(ForwardClientCert::AlwaysForwardOnly, tls);
            assert_eq!(kept, Some("By=a|By=b".to_owned()));
        }
    }

    #[test]
    fn certificates_are_told_as_escaped_pem() {
        let details = ClientCertDetails {
            cert: true,
            chain: true,
            ..ClientCertDetails::default()
        };
        let set = ClientCert::of(ForwardClientCert::SanitizeSet, details, Some(&mtls()));
        let pem = |text: &str| {
            format!("-----BEGIN%20CERTIFICATE-----%0A{text}%0A-----END%20CERTIFICATE-----%0A")
        };
        let leaf = pem("%2B%2B%2F%2FAA%3D%3D");
        let other = pem(&format!("{}%0AAQE%3D", "AQEB".repeat(16)));
        let expected =
            format!("By=spiffe://td/ns/x/sa/y;Hash=00ff;Cert=\"{leaf}\";Chain=\"{leaf}{other}\"");
        assert_eq!(set, ClientCert::Set(expected.parse().unwrap()));
    }

    #[test]
    fn a_name_cannot_pretend_to_be_more_than_one_value() {
        assert_eq!(pair("URI", "a,By=b;\"c"), r#"URI="a,By=b;\"c""#);
    }

    #[test]
    fn a_certificate_without_uri_is_told_to_have_none() {
        let mut tls = mtls();
        tls.local_uris = Box::default();
        tls.peer.as_mut().expect("a peer").uris.clear();
        let details = ClientCertDetails {
            uri: true,
            ..ClientCertDetails::default()
        };
        let set = ClientCert::of(ForwardClientCert::SanitizeSet, details, Some(&tls));
        assert_eq!(
            set,
            ClientCert::Set(HeaderValue::from_static("Hash=00ff;URI="))
        );
    }
}

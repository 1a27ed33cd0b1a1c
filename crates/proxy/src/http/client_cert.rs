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
            }),
            local_uris: ["spiffe://td/ns/x/sa/y".into()].into(),
            ..TlsInfo::default()
        }
    }

    const ALL: ClientCertDetails = ClientCertDetails {
        subject: true,
        uri: true,
        dns: true,
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

//! What a log wants of heads that are long gone when its line is written.

use http::header::HOST;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, request};
use smallvec::SmallVec;

/// A header or pseudo header that a format names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Method,
    Path,
    Authority,
    Scheme,
    Header(HeaderName),
}

impl Key {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            ":method" => Self::Method,
            ":path" => Self::Path,
            ":authority" | "host" => Self::Authority,
            ":scheme" => Self::Scheme,
            name => Self::Header(HeaderName::from_bytes(name.as_bytes()).ok()?),
        })
    }

    fn value(&self, head: &request::Parts) -> Option<Value> {
        match self {
            Self::Method => Some(Value::Method(head.method.clone())),
            Self::Path => head.uri.path_and_query().cloned().map(Value::Path),
            // RFC 9112 §3.2.2: the authority of an absolute form goes before the host.
            Self::Authority => match head.uri.authority() {
                Some(authority) => Some(Value::Authority(authority.clone())),
                None => head.headers.get(HOST).cloned().map(Value::Header),
            },
            Self::Scheme => Some(Value::Header(HeaderValue::from_static("http"))),
            Self::Header(name) => head.headers.get(name).cloned().map(Value::Header),
        }
    }
}

/// The first that is there of a header and its alternative.
pub(super) type Keys = SmallVec<[Key; 2]>;

/// A value, shared with the head it was in.
#[derive(Debug)]
pub(super) enum Value {
    Method(Method),
    Path(PathAndQuery),
    Authority(Authority),
    Header(HeaderValue),
}

impl Value {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Method(method) => method.as_str().as_bytes(),
            Self::Path(path) => path.as_str().as_bytes(),
            Self::Authority(authority) => authority.as_str().as_bytes(),
            Self::Header(value) => value.as_bytes(),
        }
    }
}

/// What the logs of one filter want.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) request: Vec<Keys>,
    pub(super) response: Vec<Keys>,
}

/// What was kept, in the order in which it is wanted.
#[derive(Debug, Default)]
pub struct Captured {
    pub(super) request: SmallVec<[Option<Value>; 6]>,
    pub(super) response: SmallVec<[Option<Value>; 1]>,
}

impl Wanted {
    pub(super) fn capture(&self, head: &request::Parts) -> Captured {
        let first = |keys: &Keys| keys.iter().find_map(|key| key.value(head));
        Captured {
            request: self.request.iter().map(first).collect(),
            response: SmallVec::new(),
        }
    }

    pub(super) fn capture_response(&self, captured: &mut Captured, headers: &HeaderMap) {
        let value = |key: &Key| match key {
            Key::Header(name) => headers.get(name).cloned().map(Value::Header),
            _ => None,
        };
        captured.response = self
            .response
            .iter()
            .map(|keys: &Keys| keys.iter().find_map(value))
            .collect();
    }
}

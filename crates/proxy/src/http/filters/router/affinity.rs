//! What the endpoint of a request is chosen by, where its cluster looks at a hash.

use crate::cluster::lb::hash::xx64;
use crate::cluster::manager::WorkerCluster;
use crate::http::body::RequestBody;
use crate::http::connection_manager::{HttpConnection, request_head};
use crate::http::headers;
use crate::model::HashCookie;
use crate::route::{Forward, request_hash};
use http::Request;
use http::header::{HeaderMap, HeaderValue, SET_COOKIE};
use std::net::IpAddr;

/// The hash of a request, and what its client is told for the next one.
#[derive(Debug, Default)]
pub(super) struct Affinity {
    /// `None` where nothing is hashed, or the request has nothing of what is.
    pub(super) hash: Option<u64>,
    /// Cookies that the client did not have.
    cookies: Vec<HeaderValue>,
}

impl Affinity {
    /// What a request of this route is sent by to this cluster.
    pub(super) fn of(
        forward: &Forward,
        cluster: &WorkerCluster,
        connection: &HttpConnection,
        request: &Request<RequestBody>,
    ) -> Self {
        if forward.hash_policy.is_empty() || !cluster.is_hashed() {
            return Self::default();
        }
        let head = request_head(request, connection.scheme());
        let client = client(connection, request.headers());
        let mut cookies = Vec::new();
        let hash = request_hash(&forward.hash_policy, &head, client, |cookie| {
            let value = fresh_value(connection);
            // The model has checked what it is made of.
            cookies.extend(HeaderValue::try_from(set_cookie(cookie, &value)));
            value
        });
        Self { hash, cookies }
    }

    /// Tell the client.
    pub(super) fn tell(self, response: &mut HeaderMap) {
        for cookie in self.cookies {
            response.append(SET_COOKIE, cookie);
        }
    }
}

/// The client as Envoy knows it: the peer, or whom proxies before this one have seen. The peer is
/// in `x-forwarded-for` by now, where it is appended.
fn client(connection: &HttpConnection, map: &HeaderMap) -> IpAddr {
    let chain = &connection.chain;
    let (hops, peer) = (chain.heads.trusted_hops, connection.downstream.0.ip());
    if chain.use_remote_address && hops == 0 {
        return peer;
    }
    let is_missing = chain.use_remote_address && chain.heads.skip_forwarded_for;
    headers::client(map, is_missing, hops).unwrap_or(peer)
}

/// A value for a cookie, the same for all requests of a connection: those that are on their way at
/// the same time go to one endpoint.
fn fresh_value(connection: &HttpConnection) -> String {
    let (from, to) = (connection.downstream, connection.destination.address);
    format!("{:016x}", xx64(format!("{from}{to}").as_bytes()))
}

fn set_cookie(cookie: &HashCookie, value: &str) -> String {
    let mut text = format!("{}=\"{value}\"", cookie.name);
    if let Some(seconds) = cookie.ttl.map(|ttl| ttl.as_secs()).filter(|ttl| *ttl > 0) {
        text.push_str(&format!("; Max-Age={seconds}"));
    }
    if !cookie.path.is_empty() {
        text.push_str(&format!("; Path={}", cookie.path));
    }
    for (name, value) in &cookie.attributes {
        text.push_str(&format!("; {name}"));
        if !value.is_empty() {
            text.push_str(&format!("={value}"));
        }
    }
    text.push_str("; HttpOnly");
    text
}

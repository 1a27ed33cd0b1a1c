//! Requests that ask for more than an answer: to switch to another protocol, or for a tunnel.
//!
//! Inside they all have the form of HTTP/1.1, whatever brought them: `upgrade: <protocol>` and an
//! answer of 101, or the method CONNECT and an answer of 2xx. An extended CONNECT of HTTP/2 (RFC
//! 8441) is brought into the first form where it comes in, and out of it where it goes on.

use crate::http::headers;
use crate::model::Name;
use crate::route::Forward;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, UPGRADE};
use http::{StatusCode, Version, response};

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// `upgrade`: another protocol, by this name.
    Protocol(HeaderValue),
    /// CONNECT: a tunnel.
    Tunnel {
        /// `upgrade`: the protocol that it names besides.
        beside: Option<HeaderValue>,
    },
}

impl Ask {
    /// Its `upgrade_type`.
    pub fn protocol(&self) -> &[u8] {
        match self {
            Self::Protocol(name) => name.as_bytes(),
            Self::Tunnel { .. } => b"connect",
        }
    }

    /// Whether it is that of a CONNECT.
    pub fn is_tunnel(&self) -> bool {
        matches!(self, Self::Tunnel { .. })
    }

    /// Whether it may be asked for: as the route says, else as the connection manager does. Also
    /// what a CONNECT names besides, which is what Envoy looks at.
    pub fn is_allowed(&self, manager: &[Name], route: Option<&Forward>) -> bool {
        let is_allowed = |asked: &[u8]| match route.and_then(|route| route.upgrade(asked)) {
            Some(route) => route.enabled,
            None => manager
                .iter()
                .any(|known| known.as_bytes().eq_ignore_ascii_case(asked)),
        };
        let beside = match self {
            Self::Tunnel { beside } => beside.as_ref(),
            Self::Protocol(_) => None,
        };
        is_allowed(self.protocol()) && beside.is_none_or(|name| is_allowed(name.as_bytes()))
    }

    /// Whether an answer grants it.
    pub fn is_granted(&self, status: StatusCode) -> bool {
        match self {
            Self::Protocol(_) => status == StatusCode::SWITCHING_PROTOCOLS,
            Self::Tunnel { .. } => status.is_success(),
        }
    }

    /// Say in a head what is asked for, or that it is granted.
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Self::Protocol(protocol) = self {
            headers::ask_for_upgrade(headers, protocol.clone());
        }
    }

    /// Bring the head that grants it into the form of the next hop. What comes behind it has no
    /// length.
    pub fn grant(&self, head: &mut response::Parts) {
        let named = head.headers.remove(UPGRADE);
        headers::strip_hop_by_hop(&mut head.headers);
        head.headers.remove(CONTENT_LENGTH);
        if let Self::Protocol(asked) = self {
            let protocol = named.unwrap_or_else(|| asked.clone());
            headers::ask_for_upgrade(&mut head.headers, protocol);
        }
    }

    /// What a head that does not grant it says of other protocols, which goes on to a client of
    /// HTTP/1.1: without it a 426 would not say what is required (RFC 9110 §15.5.22).
    pub fn offered(&self, head: &response::Parts, client: Option<Version>) -> Option<HeaderValue> {
        let requires = head.status == StatusCode::UPGRADE_REQUIRED
            && matches!(self, Self::Protocol(_))
            && client == Some(Version::HTTP_11);
        head.headers.get(UPGRADE).filter(|_| requires).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ClusterId;
    use crate::model::{RouteUpgrade, Timeouts};
    use crate::route::Target;

    fn route(upgrades: &[(&str, bool)]) -> Forward {
        Forward {
            target: Target::Cluster(ClusterId(0)),
            per_try: crate::model::PerTry::default(),
            idle: crate::model::StreamIdle::Inherited,
            timeouts: Timeouts::Response {
                timeout: None,
                grpc: None,
            },
            cluster_not_found: StatusCode::SERVICE_UNAVAILABLE,
            hash_policy: Box::default(),
            upgrades: upgrades
                .iter()
                .map(|(protocol, enabled)| RouteUpgrade {
                    protocol: (*protocol).into(),
                    enabled: *enabled,
                    terminates: false,
                })
                .collect(),
        }
    }

    #[test]
    fn a_route_has_the_last_word_on_what_may_be_asked_for() {
        let websocket = Ask::Protocol(HeaderValue::from_static("WebSocket"));
        let both: [Name; 2] = ["websocket".into(), "connect".into()];
        let tunnel = Ask::Tunnel { beside: None };
        let beside = |name| Ask::Tunnel {
            beside: Some(HeaderValue::from_static(name)),
        };
        for (ask, manager, of_route, allowed) in [
            (&websocket, &both[..], &[][..], true),
            (&websocket, &[], &[], false),
            (&websocket, &[], &[("websocket", true)], true),
            (&websocket, &both, &[("websocket", false)], false),
            (&websocket, &both, &[("other", false)], true),
            (&tunnel, &both, &[], true),
            (&tunnel, &[], &[("connect", true)], true),
            (&tunnel, &both, &[("connect", false)], false),
            (&beside("WebSocket"), &both, &[], true),
            (&beside("other"), &both, &[], false),
            (&beside("other"), &both, &[("other", true)], true),
            (&beside("websocket"), &both, &[("connect", false)], false),
        ] {
            let route = route(of_route);
            let said = ask.is_allowed(manager, Some(&route));
            assert_eq!(said, allowed, "{ask:?} {manager:?} {of_route:?}");
        }
        assert!(websocket.is_allowed(&both, None) && !websocket.is_allowed(&[], None));
    }
}

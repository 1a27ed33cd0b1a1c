//! What a request may not tell a proxy, since only one of the same mesh could.

use super::headers::{X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, X_ENVOY_INTERNAL};
use http::{HeaderMap, HeaderName};

/// What all of them begin with.
const OURS: &str = "x-envoy-";

/// What is taken from nobody who is not internal, and nobody is (Envoy, `cleanInternalHeaders`).
const INTERNAL: [HeaderName; 15] = [
    X_ENVOY_INTERNAL,
    X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
    HeaderName::from_static("x-envoy-force-trace"),
    HeaderName::from_static("x-envoy-hedge-on-per-try-timeout"),
    HeaderName::from_static("x-envoy-ip-tags"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-original-url"),
    HeaderName::from_static("x-envoy-retriable-header-names"),
    HeaderName::from_static("x-envoy-retriable-status-codes"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-upstream-alt-stat-name"),
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-alt-response"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-ms"),
];

/// What the first proxy of the way does not take either.
const EDGE: [HeaderName; 4] = [
    HeaderName::from_static("x-envoy-decorator-operation"),
    HeaderName::from_static("x-envoy-downstream-service-cluster"),
    HeaderName::from_static("x-envoy-downstream-service-node"),
    HeaderName::from_static("x-envoy-original-path"),
];

/// Remove them. `edge`: this is the first proxy of the way.
pub(super) fn distrust(headers: &mut HeaderMap, edge: bool) {
    // Most requests have none: one look at all is less than one for each.
    if !headers.keys().any(|name| name.as_str().starts_with(OURS)) {
        return;
    }
    for name in &INTERNAL {
        headers.remove(name);
    }
    if edge {
        for name in &EDGE {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn what_only_a_proxy_may_say_is_taken_from_nobody() {
        let left = |edge| {
            let own = ["x-envoy-own", "x-own", "host"].map(HeaderName::from_static);
            let names = INTERNAL.into_iter().chain(EDGE).chain(own);
            let one = |name| (name, HeaderValue::from_static("1"));
            let mut headers: HeaderMap = names.map(one).collect();
            distrust(&mut headers, edge);
            let mut left: Vec<String> = headers.keys().map(ToString::to_string).collect();
            left.sort();
            left
        };
        assert_eq!(left(true), ["host", "x-envoy-own", "x-own"]);
        assert_eq!(
            left(false),
            [
                "host",
                "x-envoy-decorator-operation",
                "x-envoy-downstream-service-cluster",
                "x-envoy-downstream-service-node",
                "x-envoy-original-path",
                "x-envoy-own",
                "x-own"
            ]
        );
    }
}

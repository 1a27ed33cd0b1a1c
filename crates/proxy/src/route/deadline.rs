//! How long a request may take: the route's timeout, or what a gRPC client asks for.

use super::Forward;
use crate::model::{GrpcTimeouts, Timeouts};
use http::HeaderMap;
use std::time::Duration;

/// When a request is over, as its route has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadline {
    /// So long after the whole request has come.
    pub response: Option<Duration>,
    /// So long after its head has come.
    pub stream: Option<Duration>,
    /// So long after the whole request has come and was given to an upstream, unless the response
    /// has begun.
    pub attempt: Option<Duration>,
    /// From then on: so long after the last byte of the response.
    pub attempt_idle: Option<Duration>,
}

impl Deadline {
    /// How long an upstream may expect to have.
    pub fn expected(&self) -> Option<Duration> {
        self.attempt.or(self.response)
    }
}

impl Forward {
    /// Whether the timeout of a call of gRPC is what its client asks for, as far as it may.
    pub fn hears_grpc_timeout(&self) -> bool {
        matches!(self.timeouts, Timeouts::Response { grpc: Some(_), .. })
    }

    /// The deadline of a request with these headers. `inherited`: how long a stream may last where
    /// the route does not say.
    pub fn deadline(
        &self,
        headers: &HeaderMap,
        is_grpc: bool,
        inherited: Option<Duration>,
    ) -> Deadline {
        let (response, stream) = match self.timeouts {
            Timeouts::Response { timeout, grpc } => {
                let timeout = match grpc {
                    Some(GrpcTimeouts { max }) if is_grpc => {
                        // Envoy: nothing stands for ever.
                        let asked = grpc_timeout(headers).filter(|asked| !asked.is_zero());
                        at_most(asked, max)
                    }
                    _ => timeout,
                };
                (timeout, inherited)
            }
            Timeouts::Stream { duration, grpc } => {
                let asked = grpc.and_then(|GrpcTimeouts { max }| {
                    grpc_timeout(headers).and_then(|asked| at_most(Some(asked), max))
                });
                (None, asked.or(duration))
            }
        };
        let is_shorter = |attempt: &Duration| response.is_none_or(|whole| *attempt < whole);
        Deadline {
            response,
            stream,
            attempt: self.per_try.timeout.filter(is_shorter),
            attempt_idle: self.per_try.idle,
        }
    }
}

/// The shorter of two times, either of which may be for ever.
fn at_most(asked: Option<Duration>, max: Option<Duration>) -> Option<Duration> {
    match (asked, max) {
        (Some(asked), Some(max)) => Some(asked.min(max)),
        (one, other) => one.or(other),
    }
}

/// `grpc-timeout`, as the gRPC protocol has it: up to eight digits and a unit.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let (unit, digits) = headers.get("grpc-timeout")?.as_bytes().split_last()?;
    let is_number = digits.iter().all(u8::is_ascii_digit) && (1..=8).contains(&digits.len());
    let text = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    let number: u64 = text.parse().ok()?;
    // In whole milliseconds, as others are told of it; a part is one, not none.
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_millis(number.div_ceil(1_000)),
        b'n' => Duration::from_millis(number.div_ceil(1_000_000)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ClusterId;
    use crate::model::{PerTry, StreamIdle};
    use crate::route::Target;
    use http::StatusCode;

    const SECOND: Duration = Duration::from_secs(1);

    fn forward(timeouts: Timeouts, per_try: PerTry) -> Forward {
        Forward {
            target: Target::Cluster(ClusterId(0)),
            timeouts,
            per_try,
            idle: StreamIdle::Inherited,
            cluster_not_found: StatusCode::SERVICE_UNAVAILABLE,
            upgrades: Box::default(),
            hash_policy: Box::default(),
        }
    }

    fn deadline(timeouts: Timeouts, asked: Option<&str>, is_grpc: bool) -> Deadline {
        let mut headers = HeaderMap::new();
        if let Some(asked) = asked {
            headers.insert("grpc-timeout", asked.parse().unwrap());
        }
        let forward = forward(timeouts, PerTry::default());
        forward.deadline(&headers, is_grpc, Some(60 * SECOND))
    }

    #[test]
    fn a_route_has_its_own_timeout_and_grpc_that_which_its_client_asks_for() {
        let both = |max| Timeouts::Response {
            timeout: Some(9 * SECOND),
            grpc: Some(GrpcTimeouts { max }),
        };
        let plain = Timeouts::Response {
            timeout: Some(9 * SECOND),
            grpc: None,
        };
        let inherited = Deadline {
            stream: Some(60 * SECOND),
            ..Deadline::default()
        };
        let after = |time| Deadline {
            response: Some(time),
            ..inherited
        };
        assert_eq!(deadline(plain, Some("2S"), true), after(9 * SECOND));
        assert_eq!(deadline(both(None), Some("2S"), false), after(9 * SECOND));
        assert_eq!(deadline(both(None), Some("2S"), true), after(2 * SECOND));
        assert_eq!(
            deadline(both(Some(SECOND)), Some("2S"), true),
            after(SECOND)
        );
        assert_eq!(deadline(both(Some(SECOND)), None, true), after(SECOND));
        assert_eq!(deadline(both(None), None, true), inherited);
    }

    #[test]
    fn the_duration_of_a_stream_counts_from_its_head() {
        let stream = |duration, grpc| Timeouts::Stream { duration, grpc };
        let max = |max| Some(GrpcTimeouts { max });
        let none = Deadline::default();
        let after = |time| Deadline {
            stream: Some(time),
            ..none
        };
        let own = Some(5 * SECOND);
        assert_eq!(deadline(stream(None, None), Some("2S"), true), none);
        assert_eq!(
            deadline(stream(own, None), Some("2S"), true),
            after(5 * SECOND)
        );
        assert_eq!(
            deadline(stream(own, max(None)), Some("7S"), true),
            after(7 * SECOND)
        );
        assert_eq!(
            deadline(stream(None, max(Some(SECOND))), Some("7S"), true),
            after(SECOND)
        );
        assert_eq!(deadline(stream(None, max(Some(SECOND))), None, true), none);
    }

    #[test]
    fn an_attempt_is_limited_where_its_route_is_not_limited_more() {
        let per_try = |timeout| PerTry {
            timeout,
            idle: Some(SECOND),
        };
        let within = |timeout| Timeouts::Response {
            timeout,
            grpc: None,
        };
        let for_ever = Timeouts::Stream {
            duration: Some(SECOND),
            grpc: None,
        };
        for (timeouts, attempt, expected) in [
            (within(Some(3 * SECOND)), Some(2 * SECOND), Some(2 * SECOND)),
            (within(Some(2 * SECOND)), Some(2 * SECOND), None),
            (within(Some(SECOND)), Some(2 * SECOND), None),
            (within(None), Some(2 * SECOND), Some(2 * SECOND)),
            (for_ever, Some(2 * SECOND), Some(2 * SECOND)),
            (within(Some(SECOND)), None, None),
        ] {
            let deadline = forward(timeouts, per_try(attempt));
            let deadline = deadline.deadline(&HeaderMap::new(), false, None);
            assert_eq!(deadline.attempt, expected, "{timeouts:?} {attempt:?}");
            assert_eq!(deadline.attempt_idle, Some(SECOND));
            assert_eq!(deadline.expected(), expected.or(deadline.response));
        }
    }

    #[test]
    fn a_timeout_is_up_to_eight_digits_and_a_unit() {
        let parsed = |text: &str| {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-timeout"),
                text.parse().unwrap(),
            )]);
            grpc_timeout(&headers)
        };
        for (text, expected) in [
            ("1H", Some(3600 * SECOND)),
            ("2M", Some(120 * SECOND)),
            ("99999999S", Some(99_999_999 * SECOND)),
            ("5m", Some(Duration::from_millis(5))),
            ("6000u", Some(Duration::from_millis(6))),
            ("6001u", Some(Duration::from_millis(7))),
            ("7n", Some(Duration::from_millis(1))),
            ("0n", Some(Duration::ZERO)),
            ("100000000S", None),
            ("S", None),
            ("+1S", None),
            ("1", None),
            ("1s", None),
            ("", None),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }
}

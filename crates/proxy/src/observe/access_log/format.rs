//! Format strings with Envoy's `%OPERATOR%`s, compiled to a list of steps.

use super::capture::{Captured, Key, Keys, Value, Wanted};
use crate::model::Invalid;
use crate::observe::outcome::Outcome;
use crate::transport::tls::TlsInfo;
use http::Version;
use jiff::tz::TimeZone;
use std::fmt::{Display, Write as _};
use std::time::{Instant, SystemTime};

const UTC: TimeZone = TimeZone::UTC;

/// A compiled format.
#[derive(Debug)]
pub struct Format {
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Literal(String),
    /// A header, cut to this many bytes.
    Request(Header),
    Response(Header),
    Field(Field),
    /// `START_TIME(..)` with a format of its own, in UTC.
    StartTime(String),
}

#[derive(Debug)]
struct Header {
    keys: Keys,
    /// Its place in what is captured, known when the format joins a set.
    slot: usize,
    max_length: usize,
}

macro_rules! fields {
    ($($variant:ident $name:literal,)*) => {
        /// An operator without an argument.
        #[derive(Debug, Clone, Copy)]
        enum Field { $($variant,)* }

        impl Field {
            /// The names of all of them.
            const NAMES: &'static [&'static str] = &[$($name,)*];

            fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

fields! {
    StartTime "START_TIME",
    Protocol "PROTOCOL",
    ResponseCode "RESPONSE_CODE",
    ResponseFlags "RESPONSE_FLAGS",
    ResponseCodeDetails "RESPONSE_CODE_DETAILS",
    ConnectionTerminationDetails "CONNECTION_TERMINATION_DETAILS",
    UpstreamTransportFailureReason "UPSTREAM_TRANSPORT_FAILURE_REASON",
    BytesReceived "BYTES_RECEIVED",
    BytesSent "BYTES_SENT",
    Duration "DURATION",
    UpstreamHost "UPSTREAM_HOST",
    UpstreamCluster "UPSTREAM_CLUSTER",
    UpstreamClusterRaw "UPSTREAM_CLUSTER_RAW",
    UpstreamLocalAddress "UPSTREAM_LOCAL_ADDRESS",
    DownstreamLocalAddress "DOWNSTREAM_LOCAL_ADDRESS",
    DownstreamRemoteAddress "DOWNSTREAM_REMOTE_ADDRESS",
    DownstreamRemoteAddressWithoutPort "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    RequestedServerName "REQUESTED_SERVER_NAME",
    DownstreamTlsVersion "DOWNSTREAM_TLS_VERSION",
    DownstreamTlsCipher "DOWNSTREAM_TLS_CIPHER",
    DownstreamPeerSubject "DOWNSTREAM_PEER_SUBJECT",
    DownstreamPeerUriSan "DOWNSTREAM_PEER_URI_SAN",
    DownstreamPeerDnsSan "DOWNSTREAM_PEER_DNS_SAN",
    DownstreamPeerFingerprint256 "DOWNSTREAM_PEER_FINGERPRINT_256",
    DownstreamLocalUriSan "DOWNSTREAM_LOCAL_URI_SAN",
    DownstreamTransportFailureReason "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    RouteName "ROUTE_NAME",
}

impl Format {
    /// Compile a format string.
    ///
    /// # Errors
    /// Where an operator is not ended, not known, or its argument is wrong.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let mut steps = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('%') {
            push_literal(&mut steps, literal);
            if let Some(after) = after.strip_prefix('%') {
                push_literal(&mut steps, "%");
                rest = after;
                continue;
            }
            // Its argument has percent signs of its own.
            if let Some(argument) = after.strip_prefix("START_TIME(")
                && let Some((format, after)) = argument.split_once(")%")
            {
                steps.push(parse_start_time(format)?);
                rest = after;
                continue;
            }
            let (operator, after) = after.split_once('%').ok_or_else(|| {
                Invalid::new(format!(
                    "`%{after}` has no closing `%`; a percent sign is `%%`"
                ))
            })?;
            steps.push(parse_operator(operator)?);
            rest = after;
        }
        push_literal(&mut steps, rest);
        Ok(Self { steps })
    }

    /// Say which headers this format needs, and remember where they will be.
    pub(super) fn want(&mut self, wanted: &mut Wanted) {
        for step in &mut self.steps {
            let (header, list) = match step {
                Step::Request(header) => (header, &mut wanted.request),
                Step::Response(header) => (header, &mut wanted.response),
                Step::Literal(_) | Step::Field(_) | Step::StartTime(_) => continue,
            };
            header.slot = list
                .iter()
                .position(|keys| *keys == header.keys)
                .unwrap_or(list.len());
            if header.slot == list.len() {
                list.push(header.keys.clone());
            }
        }
    }

    /// Append the line of an outcome.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        clock: &mut StartTimes,
        outcome: &Outcome,
        now: Instant,
    ) {
        let mut line = Line { out };
        let captured = outcome.captured.as_deref();
        for step in &self.steps {
            match step {
                Step::Literal(text) => line.out.extend_from_slice(text.as_bytes()),
                Step::Request(header) => line.header(header, captured, |c| &c.request),
                Step::Response(header) => line.header(header, captured, |c| &c.response),
                Step::Field(field) => line.field(*field, clock, outcome, now),
                Step::StartTime(format) => line.start_time(format, outcome.start_time),
            }
        }
    }
}

fn push_literal(steps: &mut Vec<Step>, text: &str) {
    match steps.last_mut() {
        _ if text.is_empty() => {}
        Some(Step::Literal(last)) => last.push_str(text),
        _ => steps.push(Step::Literal(text.to_owned())),
    }
}

fn parse_operator(operator: &str) -> Result<Step, Invalid> {
    if let Some(field) = Field::named(operator) {
        return Ok(Step::Field(field));
    }
    let name = operator.split(['(', ':']).next().unwrap_or_default();
    match name {
        "REQ" => parse_header(operator, "REQ").map(Step::Request),
        "RESP" => parse_header(operator, "RESP").map(Step::Response),
        _ if Field::named(name).is_some() => Err(Invalid::new(format!(
            "`%{operator}%`: `{name}` takes no argument here"
        ))),
        _ => Err(Invalid::new(format!(
            "`%{operator}%` is not an operator of Shunt; there are REQ(name), RESP(name), {}",
            Field::NAMES.join(", ")
        ))),
    }
}

/// `START_TIME(FORMAT)`, in the directives of strftime(3) that Envoy knows, `%3f` among them.
fn parse_start_time(format: &str) -> Result<Step, Invalid> {
    // Tried once, so that it cannot fail for each record.
    let tried = jiff::fmt::strtime::format(format, &jiff::Timestamp::UNIX_EPOCH.to_zoned(UTC));
    match tried {
        Ok(_) => Ok(Step::StartTime(format.to_owned())),
        Err(error) => Err(Invalid::new(format!(
            "`%START_TIME({format})%`: {error}; write strftime directives such as \
             %Y-%m-%dT%H:%M:%S.%3fZ"
        ))),
    }
}

/// `(NAME?ALTERNATIVE):MAX_LENGTH`.
fn parse_header(operator: &str, kind: &str) -> Result<Header, Invalid> {
    let wrong = |why: &str| {
        Invalid::new(format!(
            "`%{operator}%`: {why}; write %{kind}(name?alternative):length%"
        ))
    };
    let argument = operator[kind.len()..]
        .strip_prefix('(')
        .ok_or_else(|| wrong("no name"))?;
    let (names, length) = argument
        .split_once(')')
        .ok_or_else(|| wrong("no closing parenthesis"))?;
    let max_length = match length.strip_prefix(':') {
        Some(length) => length
            .parse()
            .map_err(|_bad| wrong("the length is no number"))?,
        None if length.is_empty() => usize::MAX,
        None => return Err(wrong("something follows the parenthesis")),
    };
    let keys: Option<Keys> = names.split('?').map(Key::parse).collect();
    let keys = keys
        .filter(|keys| keys.len() <= 2)
        .ok_or_else(|| wrong("not a header name"))?;
    Ok(Header {
        keys,
        slot: 0,
        max_length,
    })
}

struct Line<'a> {
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    fn header<S: AsRef<[Option<Value>]>>(
        &mut self,
        header: &Header,
        captured: Option<&Captured>,
        list: impl FnOnce(&Captured) -> &S,
    ) {
        let values = captured.map(|c| list(c).as_ref());
        match values
            .and_then(|values| values.get(header.slot))
            .and_then(Option::as_ref)
        {
            Some(value) => {
                let bytes = value.as_bytes();
                self.escaped(&bytes[..bytes.len().min(header.max_length)]);
            }
            None => self.out.push(b'-'),
        }
    }

    /// Text from outside: it may break neither the line nor a quoted field.
    fn escaped(&mut self, bytes: &[u8]) {
        let harmless = |byte: &u8| !matches!(byte, b'"' | b'\\' | 0..0x20 | 0x7f..=0xff);
        let mut rest = bytes;
        while !rest.is_empty() {
            let run = rest
                .iter()
                .position(|byte| !harmless(byte))
                .unwrap_or(rest.len());
            let (plain, after) = rest.split_at(run);
            self.out.extend_from_slice(plain);
            rest = after;
            if let Some((byte, after)) = rest.split_first() {
                self.show(&format_args!("\\x{byte:02x}"));
                rest = after;
            }
        }
    }

    fn start_time(&mut self, format: &str, at: Option<SystemTime>) {
        match at.map(jiff::Timestamp::try_from) {
            Some(Ok(at)) => self.show(&at.to_zoned(UTC).strftime(format)),
            Some(Err(_)) | None => self.out.push(b'-'),
        }
    }

    fn show(&mut self, value: &dyn Display) {
        // Writing to a vector cannot fail.
        let _ = write!(self, "{value}");
    }

    fn show_or_dash<T: Display>(&mut self, value: Option<&T>) {
        match value {
            Some(value) => self.show(value),
            None => self.out.push(b'-'),
        }
    }

    fn text_or_dash(&mut self, text: &str) {
        if text.is_empty() {
            self.out.push(b'-')
        } else {
            self.escaped(text.as_bytes())
        }
    }

    /// A text that stands without quotes in most formats: one word, as Envoy makes it.
    fn word_or_dash(&mut self, text: &str) {
        if text.contains(' ') {
            self.escaped(text.replace(' ', "_").as_bytes());
        } else {
            self.text_or_dash(text);
        }
    }

    fn field(&mut self, field: Field, clock: &mut StartTimes, outcome: &Outcome, now: Instant) {
        match field {
            Field::StartTime => match outcome.start_time {
                Some(at) => clock.write(self.out, at),
                None => self.out.push(b'-'),
            },
            Field::Protocol => match outcome.protocol {
                Some(Version::HTTP_2) => self.out.extend_from_slice(b"HTTP/2"),
                Some(Version::HTTP_10) => self.out.extend_from_slice(b"HTTP/1.0"),
                Some(Version::HTTP_11) => self.out.extend_from_slice(b"HTTP/1.1"),
                Some(other) => self.show(&format_args!("{other:?}")),
                None => self.out.push(b'-'),
            },
            Field::ResponseCode => {
                self.show(&outcome.status.map_or(0, |status| status.as_u16()));
            }
            Field::ResponseFlags => self.show(&outcome.flags),
            Field::ResponseCodeDetails => self.word_or_dash(&outcome.details),
            Field::ConnectionTerminationDetails => {
                self.word_or_dash(&outcome.connection_termination);
            }
            Field::UpstreamTransportFailureReason => self.text_or_dash(&outcome.transport_failure),
            Field::BytesReceived => self.show(&outcome.bytes_received),
            Field::BytesSent => self.show(&outcome.bytes_sent),
            Field::Duration => {
                self.show(&now.saturating_duration_since(outcome.start).as_millis());
            }
            Field::UpstreamHost => self.show_or_dash(outcome.upstream_host.as_ref()),
            Field::UpstreamCluster | Field::UpstreamClusterRaw => {
                self.text_or_dash(outcome.upstream_cluster.as_deref().unwrap_or_default());
            }
            Field::UpstreamLocalAddress => self.show_or_dash(outcome.upstream_local.as_ref()),
            Field::DownstreamLocalAddress => self.show(&outcome.downstream_local),
            Field::DownstreamRemoteAddress => self.show(&outcome.downstream_remote),
            Field::DownstreamRemoteAddressWithoutPort => {
                self.show(&outcome.downstream_remote.ip());
            }
            Field::DownstreamTransportFailureReason => {
                let reason = outcome.downstream_transport_failure.as_deref();
                self.text_or_dash(reason.map_or("", |reason| reason));
            }
            Field::RouteName => {
                self.text_or_dash(outcome.route_name.as_deref().unwrap_or_default());
            }
            _ => self.tls_field(field, outcome.tls.as_deref()),
        }
    }
}

impl Line<'_> {
    /// A field that TLS knows; several names are joined by commas.
    fn tls_field(&mut self, field: Field, tls: Option<&TlsInfo>) {
        let Some(tls) = tls else {
            return self.out.push(b'-');
        };
        let peer = tls.peer.as_ref();
        match field {
            Field::RequestedServerName => self.text_or_dash(&tls.server_name),
            Field::DownstreamTlsVersion => self.text_or_dash(tls.version),
            Field::DownstreamTlsCipher => self.text_or_dash(tls.cipher),
            Field::DownstreamPeerSubject => self.text_or_dash(peer.map_or("", |p| &p.subject)),
            Field::DownstreamPeerUriSan => {
                self.text_or_dash(&peer.map_or_else(String::new, |p| p.uris.join(",")));
            }
            Field::DownstreamPeerDnsSan => {
                self.text_or_dash(&peer.map_or_else(String::new, |p| p.dns.join(",")));
            }
            Field::DownstreamPeerFingerprint256 => {
                self.text_or_dash(peer.map_or("", |p| &p.sha256));
            }
            Field::DownstreamLocalUriSan => self.text_or_dash(&tls.local_uris.join(",")),
            _ => self.out.push(b'-'),
        }
    }
}

impl std::fmt::Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Start times as text, `2026-01-31T23:59:59.123Z`; the second is made into text once.
#[derive(Debug, Default)]
pub(super) struct StartTimes {
    second: i64,
    text: String,
}

impl StartTimes {
    fn write(&mut self, out: &mut Vec<u8>, at: SystemTime) {
        let Ok(at) = jiff::Timestamp::try_from(at) else {
            out.push(b'-');
            return;
        };
        if self.text.is_empty() || self.second != at.as_second() {
            self.second = at.as_second();
            self.text = at.strftime("%Y-%m-%dT%H:%M:%S.").to_string();
        }
        out.extend_from_slice(self.text.as_bytes());
        let _ = write!(Line { out }, "{:03}Z", at.subsec_millisecond());
    }
}

#[cfg(test)]
mod tests;

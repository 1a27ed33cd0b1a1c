//! Access-log lines in Istio's default text format.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

/// The operators of the format in their order; quotes do not matter here.
const FIELDS: [&str; 22] = [
    "start_time",
    "request",
    "response_code",
    "response_flags",
    "response_code_details",
    "connection_termination_details",
    "upstream_transport_failure_reason",
    "bytes_received",
    "bytes_sent",
    "duration",
    "upstream_service_time",
    "x_forwarded_for",
    "user_agent",
    "request_id",
    "authority",
    "upstream_host",
    "upstream_cluster",
    "upstream_local_address",
    "downstream_local_address",
    "downstream_remote_address",
    "requested_server_name",
    "route_name",
];

/// One record: a request or a TCP connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRecord {
    fields: BTreeMap<&'static str, String>,
}

impl AccessRecord {
    /// Reads a line.
    ///
    /// # Errors
    /// The line is not of this format.
    pub fn parse(line: &str) -> Result<Self> {
        let words = words(line).with_context(|| format!("not an access-log line: `{line}`"))?;
        ensure!(
            words.len() == FIELDS.len(),
            "an access-log line has {} fields, this has {}: `{line}`",
            FIELDS.len(),
            words.len(),
        );
        Ok(Self {
            fields: FIELDS.into_iter().zip(words).collect(),
        })
    }

    /// The records among a program's lines; lines that do not begin with `[` are something else.
    ///
    /// # Errors
    /// A line begins like a record and is none.
    pub fn all(lines: &[String]) -> Result<Vec<Self>> {
        lines
            .iter()
            .filter(|line| line.starts_with('['))
            .map(|line| Self::parse(line))
            .collect()
    }

    /// A field by its name in Istio's JSON format, such as `response_flags`; `request` is method,
    /// path and protocol. `-` if it has no value.
    pub fn get(&self, name: &str) -> &str {
        self.fields.get(name).map_or("-", String::as_str)
    }

    /// Whether the response flags contain this one.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.get("response_flags")
            .split(',')
            .any(|found| found == flag)
    }
}

/// Splits at spaces outside quotes and brackets; takes the quotes off.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let (word, after) = match rest.as_bytes().first()? {
            b'"' => {
                let (word, after) = rest[1..].split_once('"')?;
                (word, after)
            }
            b'[' if words.is_empty() => {
                let (word, after) = rest[1..].split_once(']')?;
                (word, after)
            }
            _ => rest.split_at(rest.find(' ').unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        if after.is_empty() {
            return Some(words);
        }
        rest = after.strip_prefix(' ')?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_into_its_fields() {
        let line = concat!(
            "[2026-01-02T03:04:05.678Z] \"GET /a b HTTP/1.1\" 503 UF,URX details - \"connection refused\" ",
            "0 91 2 - \"-\" \"curl/8\" \"id\" \"reviews:9080\" \"10.0.0.1:80\" outbound|80||r 10.0.0.2:5 ",
            "10.96.0.10:9080 10.0.0.2:4711 - default",
        );
        let record = AccessRecord::parse(line).unwrap();
        assert_eq!(record.get("start_time"), "2026-01-02T03:04:05.678Z");
        assert_eq!(record.get("request"), "GET /a b HTTP/1.1");
        assert_eq!(
            record.get("upstream_transport_failure_reason"),
            "connection refused"
        );
        assert_eq!(record.get("downstream_local_address"), "10.96.0.10:9080");
        assert_eq!(record.get("route_name"), "default");
        assert!(record.has_flag("UF") && record.has_flag("URX") && !record.has_flag("U"));
    }

    #[test]
    fn a_line_cut_short_is_refused() {
        assert!(
            AccessRecord::parse("[2026-01-02T03:04:05.678Z] \"GET / HTTP/1.1\" 200 -").is_err()
        );
        assert!(AccessRecord::parse("[2026-01-02T03:04:05.678Z").is_err());
    }
}

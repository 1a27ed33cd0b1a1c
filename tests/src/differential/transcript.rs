//! What happened in a scenario, line by line, in a form that two proxies can be compared by.

use std::collections::BTreeMap;
use std::time::Duration;

use super::message::{Framing, Message, latin};
use super::wire::{End, Record, Seen};

/// Below this an answer came at once.
const FAST: Duration = Duration::from_millis(50);
/// Bodies up to this many bytes are shown, longer ones by length and checksum.
const SHOWN: usize = 200;

/// Lines in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// The lines.
    pub lines: Vec<String>,
    /// What upstreams received that could be understood in two ways.
    pub ambiguous: Vec<String>,
}

impl Transcript {
    /// Of the records of clients and upstream connections.
    pub(super) fn of(
        clients: &[Record],
        upstreams: &[(u16, Record)],
        time: Option<Duration>,
    ) -> Self {
        let mut transcript = Self {
            lines: Vec::new(),
            ambiguous: Vec::new(),
        };
        for (number, client) in clients.iter().enumerate() {
            let who = format!("client {}", number + 1);
            transcript.connection(&who, "response", client, time);
        }
        let mut numbers = BTreeMap::new();
        let mut by_port: Vec<_> = upstreams.iter().collect();
        by_port.sort_by_key(|(port, _)| *port);
        for (port, record) in by_port {
            let number = numbers.entry(port).or_insert(0);
            *number += 1;
            let who = format!("upstream {port} connection {number}");
            transcript.connection(&who, "request", record, None);
            for (at, seen) in record.seen.iter().enumerate() {
                // One that broke off was no request to anybody; its connection is given up.
                let problems = seen.message.ambiguous.iter().filter(|_| seen.message.whole);
                let problems = problems.map(|p| format!("{who} request {}: {p}", at + 1));
                transcript.ambiguous.extend(problems);
            }
        }
        transcript
    }

    fn connection(&mut self, who: &str, what: &str, record: &Record, time: Option<Duration>) {
        for (number, seen) in record.seen.iter().enumerate() {
            self.message(&format!("{who} {what} {}", number + 1), seen, time);
        }
        let rest = &record.received[record.consumed..];
        if !rest.is_empty() {
            self.lines.push(format!("{who}: bytes {}", shown(rest)));
        }
        let end = match record.end {
            End::Kept => "kept",
            End::Closed => "closed",
            End::Reset => "reset",
            End::Own => "given up",
        };
        let class = record
            .end_took
            .map(|took| format!(" {}", class(took, time)))
            .unwrap_or_default();
        self.lines.push(format!("{who}: end {end}{class}"));
    }

    fn message(&mut self, who: &str, seen: &Seen, time: Option<Duration>) {
        let Message {
            first_line,
            headers,
            framing,
            body,
            trailers,
            whole,
            ..
        } = &seen.message;
        let mut say = |text: String| self.lines.push(format!("{who}: {text}"));
        say(escaped(first_line.as_bytes(), first_line));
        let mut headers: Vec<_> = headers.iter().collect();
        // Lines of one name keep their order.
        headers.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, value) in headers {
            say(format!("header {}: {}", escape(name), escape(value)));
        }
        if *framing != Framing::None {
            say(format!("body {framing} {}", shown(body)));
        }
        for (name, value) in trailers {
            say(format!("trailer {}: {}", escape(name), escape(value)));
        }
        if !whole {
            say("cut".into());
        }
        if let Some(took) = seen.took
            && who.starts_with("client")
        {
            say(format!("time {}", class(took, time)));
        }
    }
}

/// The class of a time.
fn class(took: Duration, configured: Option<Duration>) -> String {
    match configured {
        _ if took < FAST => "fast".into(),
        Some(time) if took.abs_diff(time) * 5 <= time => format!("after {} ms", time.as_millis()),
        _ => "slow".into(),
    }
}

pub(super) fn shown(bytes: &[u8]) -> String {
    if bytes.len() <= SHOWN {
        return format!("\"{}\"", escape(&latin(bytes)));
    }
    // FNV-1a.
    let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{} bytes {sum:016x}", bytes.len())
}

fn escaped(bytes: &[u8], text: &str) -> String {
    if bytes.len() <= SHOWN {
        escape(text)
    } else {
        shown(bytes)
    }
}

/// Printable, and each byte still to be told.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            ' '..='~' => out.push(c),
            other => out.push_str(&format!("\\x{:02x}", u32::from(other))),
        }
    }
    if out.len() > 2 * SHOWN {
        return format!("{}... ({} bytes)", &out[..40], text.chars().count());
    }
    out
}

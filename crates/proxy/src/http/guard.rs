//! What a client sends, looked at before the codec sees it: HTTP/1 that can be taken apart in one
//! way only, or nothing.
//!
//! The codec forgives what another server may understand differently (a length beside chunks, a
//! bare line feed, a chunk extension with a line break in it). Whoever forwards must not: the
//! guard walks over each head, chunk size and trailer with the grammar of RFC 9112 and hands on
//! only whole ones that follow it. What it refuses never reaches the codec, and what came before
//! it is served in peace. Bodies are counted, never copied.

mod grammar;

use crate::error::Reply;
use crate::observe::flags::Flags;
use grammar::{chunk_size, header, number, request_line};
use http::StatusCode;

/// How much a head may be, and trailers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// `max_request_headers_kb`, in bytes.
    pub bytes: usize,
    /// `max_headers_count`.
    pub count: usize,
}

impl HeadLimits {
    /// The same as HTTP/2 counts it, 32 bytes for each header more (RFC 9113 §6.5.2). Envoy does
    /// not count these, so the codec must leave room for them.
    pub fn list(&self) -> usize {
        self.bytes + self.count * 32
    }
}

impl Default for HeadLimits {
    /// Envoy's defaults.
    fn default() -> Self {
        Self {
            bytes: 60 * 1024,
            count: 100,
        }
    }
}

/// What an HTTP/2 client sends first, up to the end of the first line (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Most bytes of a line with a chunk size.
const MAX_SIZE_LINE: usize = 256;

/// Why a client is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not HTTP/1 as the grammar has it.
    Malformed,
    /// Framed by a length and by chunks, or by several lengths.
    Framing,
    /// A transfer coding other than `chunked`, once.
    TransferCoding,
    /// Another version of HTTP.
    Version,
    /// It begins with the preface of HTTP/2, for which there is another codec.
    Http2,
    /// Too many headers, or too many bytes of them.
    TooLarge,
    /// `request_headers_timeout` is over, and the head is not whole.
    SlowHead,
    /// No byte of a head that was begun came for longer than `stream_idle_timeout`.
    IdleHead,
}

impl Refusal {
    /// What the client is told; the words are Envoy's.
    pub fn reply(self) -> Reply {
        let reply = |status, flags, details, body| Reply {
            status,
            flags,
            details,
            body,
        };
        let bad = StatusCode::BAD_REQUEST;
        let late = StatusCode::REQUEST_TIMEOUT;
        match self {
            Self::Malformed => reply(bad, Flags::DPE, "http1.codec_error", "Bad Request"),
            Self::Framing => reply(
                bad,
                Flags::DPE,
                "http1.content_length_and_chunked_not_allowed",
                "Bad Request",
            ),
            Self::TransferCoding => reply(
                StatusCode::NOT_IMPLEMENTED,
                Flags::DPE,
                "http1.invalid_transfer_encoding",
                "Not Implemented",
            ),
            Self::TooLarge => reply(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                Flags::DPE,
                "http1.headers_too_large",
                "Request Header Fields Too Large",
            ),
            Self::Version | Self::Http2 => reply(
                StatusCode::UPGRADE_REQUIRED,
                Flags::empty(),
                "low_version",
                "Upgrade Required",
            ),
            Self::SlowHead => reply(
                late,
                Flags::empty(),
                "request_header_timeout",
                "request header timeout",
            ),
            Self::IdleHead => reply(late, Flags::SI, "stream_idle_timeout", "stream timeout"),
        }
    }
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Head,
    /// The answer to a request that asks to switch protocols or for a tunnel: what the bytes behind
    /// it are depends on it.
    Answer,
    /// A body by length, this much of it.
    Body(u64),
    ChunkSize,
    /// A chunk's data, this much of it.
    Chunk(u64),
    ChunkEnd,
    Trailers,
}

/// One step over what is there.
enum Step {
    /// These bytes are as they should be.
    Take(usize),
    /// What is there is no whole element yet.
    More,
}

/// Walks over the requests of one connection.
#[derive(Debug)]
pub struct Guard {
    expect: Expect,
    block: Block,
    heads: u64,
    limits: HeadLimits,
    /// The preface of HTTP/2 may come yet.
    http2: bool,
    /// Clients of HTTP/1.0 are served.
    http10: bool,
}

impl Guard {
    /// The guard of a connection of which nothing was read yet.
    pub fn new(limits: HeadLimits, http2_is_allowed: bool) -> Self {
        Self {
            expect: Expect::Head,
            block: Block::default(),
            heads: 0,
            limits,
            http2: http2_is_allowed,
            http10: false,
        }
    }

    /// The same where clients of HTTP/1.0 are served.
    pub fn serving_http10(self) -> Self {
        Self {
            http10: true,
            ..self
        }
    }

    /// How many heads were whole and in order so far.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the next bytes are those of a head; else they are of a message's rest.
    pub fn expects_head(&self) -> bool {
        self.expect == Expect::Head
    }

    /// Whether nothing behind the last head can be looked at before that is answered.
    pub fn awaits_answer(&self) -> bool {
        self.expect == Expect::Answer
    }

    /// The answer was given, and it is still HTTP that is spoken.
    pub fn go_on(&mut self) {
        self.expect = Expect::Head;
    }

    /// Whether a request is as far as its head, of which more is to come.
    pub fn is_in_head(&self) -> bool {
        self.expect == Expect::Head && self.block.lines > 0
    }

    /// Look at what was read: how many bytes may be handed on, and whether those behind them are
    /// refused, for good. Else they must be kept and given again, with more behind them.
    pub fn scan(&mut self, bytes: &[u8]) -> (usize, Option<Refusal>) {
        let mut done = 0;
        while done < bytes.len() {
            match self.step(&bytes[done..]) {
                Ok(Step::Take(taken)) => {
                    self.http2 = false;
                    done += taken;
                }
                Ok(Step::More) => break,
                Err(refusal) => return (done, Some(refusal)),
            }
        }
        (done, None)
    }

    fn step(&mut self, rest: &[u8]) -> Result<Step, Refusal> {
        match self.expect {
            Expect::Body(left) | Expect::Chunk(left) => {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                let left = left - taken as u64;
                self.expect = match (self.expect, left) {
                    (Expect::Body(_), 0) => Expect::Head,
                    (Expect::Body(_), left) => Expect::Body(left),
                    (_, 0) => Expect::ChunkEnd,
                    (_, left) => Expect::Chunk(left),
                };
                Ok(Step::Take(taken))
            }
            Expect::Answer => Ok(Step::More),
            Expect::ChunkEnd => {
                let end = &rest[..rest.len().min(2)];
                match end {
                    b"\r\n" => {
                        self.expect = Expect::ChunkSize;
                        Ok(Step::Take(2))
                    }
                    b"\r" => Ok(Step::More),
                    _ => Err(Refusal::Malformed),
                }
            }
            Expect::ChunkSize => {
                let Some(end) = memchr::memchr(b'\n', rest) else {
                    return more_below(rest.len(), MAX_SIZE_LINE, Refusal::Malformed);
                };
                let line = rest[..end].strip_suffix(b"\r").ok_or(Refusal::Malformed)?;
                self.expect = match chunk_size(line).ok_or(Refusal::Malformed)? {
                    0 => Expect::Trailers,
                    size => Expect::Chunk(size),
                };
                Ok(Step::Take(end + 1))
            }
            Expect::Trailers => {
                let Some(length) = self
                    .block
                    .walk(rest, self.limits, |_block, line| header(line).map(drop))?
                else {
                    return Ok(Step::More);
                };
                self.block = Block::default();
                self.expect = Expect::Head;
                Ok(Step::Take(length))
            }
            Expect::Head => {
                // RFC 9112 §2.2: an empty line before a request is to be ignored.
                if self.block.lines == 0 && rest.starts_with(b"\r\n") {
                    return Ok(Step::Take(2));
                }
                let limits = self.limits;
                if self.http2 && self.block.lines == 0 && starts_http2(rest) {
                    return Err(Refusal::Http2);
                }
                let Some(length) = self.block.walk(rest, limits, Block::head_line)? else {
                    return Ok(Step::More);
                };
                let head = std::mem::take(&mut self.block);
                self.expect = match (head.coding, head.length) {
                    (Some(_), Some(_)) => return Err(Refusal::Framing),
                    (Some(Coding::Other), None) => return Err(Refusal::TransferCoding),
                    // RFC 9112 §6.1: that version knows no codings.
                    (Some(_), None) if head.is_http_10 && self.http10 => {
                        return Err(Refusal::Framing);
                    }
                    (Some(_), None) if head.is_http_10 => return Err(Refusal::Version),
                    // RFC 9110 §9.3.6: nothing is known of what it would mean.
                    (Some(_), None) if head.is_connect => return Err(Refusal::TransferCoding),
                    (None, Some(1..)) if head.is_connect => return Err(Refusal::Malformed),
                    (Some(Coding::Chunked), None) => Expect::ChunkSize,
                    (None, None | Some(0)) if head.awaits_answer => Expect::Answer,
                    (None, None | Some(0)) => Expect::Head,
                    (None, Some(length)) => Expect::Body(length),
                };
                self.heads += 1;
                Ok(Step::Take(length))
            }
        }
    }
}

/// The lines of a head or of trailers, as far as they were looked at.
#[derive(Debug, Default)]
struct Block {
    /// Where the line begins that is not whole yet.
    line_at: usize,
    lines: usize,
    length: Option<u64>,
    coding: Option<Coding>,
    is_http_10: bool,
    is_connect: bool,
    /// It asks for more than an answer.
    awaits_answer: bool,
}

/// What `transfer-encoding` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Chunked,
    Other,
}

impl Block {
    /// Look at each line that is there; the length of all with the empty line at the end, once it
    /// has come.
    fn walk(
        &mut self,
        rest: &[u8],
        limits: HeadLimits,
        look: impl Fn(&mut Self, &[u8]) -> Result<(), Refusal>,
    ) -> Result<Option<usize>, Refusal> {
        while let Some(end) = memchr::memchr(b'\n', &rest[self.line_at..]) {
            let line = &rest[self.line_at..self.line_at + end];
            let line = line.strip_suffix(b"\r").ok_or(Refusal::Malformed)?;
            self.line_at += end + 1;
            if self.line_at > limits.bytes {
                return Err(Refusal::TooLarge);
            }
            if line.is_empty() {
                return Ok(Some(self.line_at));
            }
            look(self, line)?;
            self.lines += 1;
            // One more in a head, for its first line.
            if self.lines > limits.count + 1 {
                return Err(Refusal::TooLarge);
            }
        }
        more_below(rest.len(), limits.bytes, Refusal::TooLarge).map(|_more| None)
    }

    fn head_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if self.lines == 0 {
            self.is_http_10 = request_line(line)?;
            self.is_connect = line.starts_with(b"CONNECT ");
            self.awaits_answer = self.is_connect;
            return Ok(());
        }
        let (name, value) = header(line)?;
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = number(value).ok_or(Refusal::Malformed)?;
                if self.length.replace(length).is_some() {
                    return Err(Refusal::Framing);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.coding = match self.coding {
                    None if value.eq_ignore_ascii_case(b"chunked") => Some(Coding::Chunked),
                    _ => Some(Coding::Other),
                };
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.awaits_answer = true,
            _ => {}
        }
        Ok(())
    }
}

/// Whether the first line is that of the preface.
fn starts_http2(bytes: &[u8]) -> bool {
    let line = bytes.strip_prefix(HTTP2_PREFACE);
    line.is_some_and(|end| end.starts_with(b"\r\n"))
}

fn more_below(length: usize, limit: usize, refusal: Refusal) -> Result<Step, Refusal> {
    if length <= limit {
        Ok(Step::More)
    } else {
        Err(refusal)
    }
}

#[cfg(test)]
mod tests;

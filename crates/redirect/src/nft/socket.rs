//! A netlink socket whose every answer is already there when a request returns.
//!
//! The kernel handles netlink inside `sendmsg` and continues a dump inside `recvmsg`; so reading
//! never waits, and a missing answer is an error instead of a hang. It gives the socket its address
//! with the first request.

use std::io;

use netlink_sys::Socket;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};

use super::attr::{Attributes, Malformed};
use super::uapi::{ERROR_TEXT, flag, msg};
use crate::error::{KernelError, Object};

/// Bytes of a netlink header.
pub(crate) const HEADER: usize = 16;
/// Requests up to this size fit into any socket's default send buffer.
const SMALL_REQUEST: usize = 64 << 10;
/// The kernel fills at most 32 KiB per datagram of a dump.
const RECEIVE: usize = 64 << 10;

/// A connection to one netlink family of the network namespace of the thread that made it.
pub(crate) struct NetlinkSocket {
    socket: Socket,
    sequence: u32,
    /// Of one datagram.
    buffer: Vec<u8>,
    /// What an errno of the socket itself means.
    class: Object,
}

/// What the kernel answered to one message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    /// Data: type, body after the netlink header.
    Message(u16, &'a [u8]),
    /// Done, no error.
    Ack,
    /// Failed.
    Error(Errno, Option<String>),
    /// A dump is complete.
    Done,
}

/// A [`Reply`] and the request it belongs to.
#[derive(Debug)]
pub(crate) struct Numbered<'a> {
    pub(crate) sequence: u32,
    pub(crate) flags: u16,
    pub(crate) reply: Reply<'a>,
}

/// Every answer to a request, as datagrams.
pub(crate) struct Replies(Vec<Vec<u8>>);

impl NetlinkSocket {
    pub(crate) fn open(protocol: isize, class: Object) -> Result<Self, KernelError> {
        let operation = "cannot open a netlink socket";
        let wrap = |source| KernelError::Socket {
            operation,
            class,
            source,
        };
        let socket = Socket::new(protocol).map_err(wrap)?;
        // Only for better messages: a kernel without them still answers.
        let _unexplained = socket.set_ext_ack(true);
        let _uncapped = socket.set_cap_ack(true);
        Ok(Self {
            socket,
            sequence: 1,
            buffer: Vec::new(),
            class,
        })
    }

    /// `count` fresh sequence numbers; the first is returned.
    pub(crate) fn reserve(&mut self, count: u32) -> u32 {
        let first = self.sequence;
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    /// Sends one request and collects its answer, to its end.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Result<Replies, KernelError> {
        self.send(request)?;
        self.receive(|datagram| ends_answer(datagram, request))
    }

    /// Sends one datagram of any number of requests and collects all answers.
    pub(crate) fn exchange(&mut self, requests: &[u8]) -> Result<Replies, KernelError> {
        self.send(requests)?;
        self.receive(|_datagram| false)
    }

    fn send(&mut self, request: &[u8]) -> Result<(), KernelError> {
        if request.len() > SMALL_REQUEST {
            // Beyond the system's limit only with CAP_NET_ADMIN in the first user namespace. If it
            // does not suffice, the send says so.
            let size = request.len() * 2;
            if setsockopt(&self.socket, sockopt::SndBufForce, &size).is_err() {
                let _unchanged = setsockopt(&self.socket, sockopt::SndBuf, &size);
            }
        }
        let wrap = self.wrap("cannot send to the kernel");
        let sent = self.socket.send(request, 0).map_err(wrap)?;
        if sent != request.len() {
            return Err(wrap(io::Error::other("the request was cut short")));
        }
        Ok(())
    }

    /// Collects datagrams up to one that is the last, or all that there are.
    fn receive(&mut self, is_last: impl Fn(&[u8]) -> bool) -> Result<Replies, KernelError> {
        let mut datagrams = Vec::new();
        loop {
            self.buffer.clear();
            self.buffer.reserve(RECEIVE);
            match self
                .socket
                .recv(&mut self.buffer, MsgFlags::MSG_DONTWAIT.bits())
            {
                Ok(_) => {
                    datagrams.push(self.buffer.clone());
                    if is_last(&self.buffer) {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.wrap("cannot receive from the kernel")(error)),
            }
        }
        Ok(Replies(datagrams))
    }

    fn wrap(&self, operation: &'static str) -> impl Fn(io::Error) -> KernelError + Copy + use<> {
        let class = self.class;
        move |source| KernelError::Socket {
            operation,
            class,
            source,
        }
    }
}

/// Whether a datagram ends the answer to a request: by an error, an acknowledgement or the end of a
/// list, or by any message where neither of the latter two was asked for.
fn ends_answer(datagram: &[u8], request: &[u8]) -> bool {
    let Some((header, _)) = request.split_first_chunk::<HEADER>() else {
        return false;
    };
    let flags = u16::from_ne_bytes([header[6], header[7]]);
    let sequence = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
    let of_one_message = flags & (flag::ACK | flag::DUMP) == 0;
    let mut answers = parse(datagram)
        .flatten()
        .filter(|answer| answer.sequence == sequence);
    answers.any(|answer| of_one_message || !matches!(answer.reply, Reply::Message(..)))
}

impl Replies {
    pub(crate) fn iter(&self) -> impl Iterator<Item = Result<Numbered<'_>, Malformed>> {
        self.0.iter().flat_map(|datagram| parse(datagram))
    }
}

/// Splits a datagram into its messages. Ends after the first that is cut short.
pub(crate) fn parse(mut rest: &[u8]) -> impl Iterator<Item = Result<Numbered<'_>, Malformed>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut rest);
        let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
            return Some(Err(Malformed("message header cut short")));
        };
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        let body = usize::try_from(length)
            .ok()
            .and_then(|length| Some((length, bytes.get(HEADER..length)?)));
        let Some((length, body)) = body else {
            return Some(Err(Malformed("message length out of bounds")));
        };
        rest = length
            .checked_next_multiple_of(4)
            .and_then(|next| bytes.get(next..))
            .unwrap_or(&[]);
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let flags = u16::from_ne_bytes([header[6], header[7]]);
        let sequence = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        let reply = match kind {
            msg::ERROR => error(body, flags),
            msg::DONE => done(body),
            _ => Ok(Reply::Message(kind, body)),
        };
        Some(reply.map(|reply| Numbered {
            sequence,
            flags,
            reply,
        }))
    })
}

fn error(body: &[u8], flags: u16) -> Result<Reply<'_>, Malformed> {
    let (code, rest) = body
        .split_first_chunk::<4>()
        .ok_or(Malformed("error without a number"))?;
    let code = i32::from_ne_bytes(*code);
    if code == 0 {
        return Ok(Reply::Ack);
    }
    let mut text = None;
    if flags & flag::ACK_TLVS != 0 {
        // The request's header follows, and all of the request unless that was capped.
        let request = match rest.first_chunk::<4>() {
            Some(_) if flags & flag::CAPPED != 0 => Some(HEADER),
            Some(length) => usize::try_from(u32::from_ne_bytes(*length))
                .ok()
                .and_then(|length| length.checked_next_multiple_of(4)),
            None => None,
        };
        let attributes = request.and_then(|skip| rest.get(skip..)).unwrap_or(&[]);
        text = Attributes::new(attributes)
            .flatten()
            .find(|attribute| attribute.kind == ERROR_TEXT)
            .and_then(|attribute| attribute.string().ok())
            .map(str::to_owned);
    }
    Ok(Reply::Error(Errno::from_raw(code.wrapping_neg()), text))
}

/// The end of a dump carries an error number too.
fn done(body: &[u8]) -> Result<Reply<'_>, Malformed> {
    match body
        .first_chunk::<4>()
        .map(|code| i32::from_ne_bytes(*code))
    {
        Some(code) if code < 0 => Ok(Reply::Error(Errno::from_raw(code.wrapping_neg()), None)),
        _ => Ok(Reply::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::{ends_answer, parse};
    use proptest::prelude::*;

    /// A message of a type, without or with flags, and its body.
    fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + body.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn an_answer_ends_with_what_was_asked_for() {
        const DATA: u16 = 0x0a15;
        const ERROR: u16 = 2;
        const DONE: u16 = 3;
        let plain = message(0x0a10, 1, 7, &[]);
        let acknowledged = message(0x0a10, 1 | 4, 7, &[]);
        let list = message(0x0a10, 1 | 0x300, 7, &[]);
        let ends = |kind, body: &[u8]| {
            [&plain, &acknowledged, &list].map(|request| {
                let other = message(kind, 0, 8, body);
                assert!(!ends_answer(&other, request), "another's");
                ends_answer(&message(kind, 0, 7, body), request)
            })
        };
        assert_eq!(ends(DATA, &[1, 2, 3, 4]), [true, false, false]);
        let code = |errno: i32| [errno.to_ne_bytes().to_vec(), vec![0; 16]].concat();
        assert_eq!(ends(ERROR, &code(-2)), [true; 3]);
        assert_eq!(ends(ERROR, &code(0)), [true; 3]);
        assert_eq!(ends(DONE, &[0; 4]), [true; 3]);
        // The end of a list may share a datagram with what it ends.
        let both = [message(DATA, 2, 7, &[]), message(DONE, 2, 7, &[0; 4])].concat();
        assert!(ends_answer(&both, &list));
        assert!(!ends_answer(&both[..16], &list));
    }

    proptest! {
        #[test]
        fn any_datagram_is_split_without_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            length in 0u8..80,
            kind in 0u8..4,
        ) {
            for message in parse(&bytes) {
                let _checked = message;
            }
            let mut framed = vec![length, 0, 0, 0, kind, 0, 0, 3];
            framed.extend(bytes);
            for message in parse(&framed) {
                let _checked = message;
            }
        }
    }
}

//! A netlink socket whose every answer is already there when a request returns.
//!
//! The kernel handles netlink inside `sendmsg` and continues a dump inside `recvmsg`; so reading
//! never waits, and a missing answer is an error instead of a hang.

use std::io;

use netlink_sys::Socket;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

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
        let mut socket = Socket::new(protocol).map_err(wrap)?;
        socket.bind_auto().map_err(wrap)?;
        socket.set_non_blocking(true).map_err(wrap)?;
        // Only for better messages: a kernel without them still answers.
        let _unexplained = socket.set_ext_ack(true);
        let _uncapped = socket.set_cap_ack(true);
        Ok(Self {
            socket,
            sequence: 1,
            class,
        })
    }

    /// `count` fresh sequence numbers; the first is returned.
    pub(crate) fn reserve(&mut self, count: u32) -> u32 {
        let first = self.sequence;
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    /// Sends one datagram and collects all answers.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Result<Replies, KernelError> {
        let class = self.class;
        let wrap = |operation| {
            move |source| KernelError::Socket {
                operation,
                class,
                source,
            }
        };
        if request.len() > SMALL_REQUEST {
            // Beyond the system's limit only with CAP_NET_ADMIN in the first user namespace. If it
            // does not suffice, the send says so.
            let size = request.len() * 2;
            if setsockopt(&self.socket, sockopt::SndBufForce, &size).is_err() {
                let _unchanged = setsockopt(&self.socket, sockopt::SndBuf, &size);
            }
        }
        let sent = self
            .socket
            .send(request, 0)
            .map_err(wrap("cannot send to the kernel"))?;
        if sent != request.len() {
            return Err(wrap("cannot send to the kernel")(io::Error::other(
                "the request was cut short",
            )));
        }
        let mut datagrams = Vec::new();
        let mut buffer = Vec::with_capacity(RECEIVE);
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => datagrams.push(buffer.clone()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(wrap("cannot receive from the kernel")(error)),
            }
        }
        Ok(Replies(datagrams))
    }
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
    use super::parse;
    use proptest::prelude::*;

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

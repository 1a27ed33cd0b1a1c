//! One request to nf_tables, and the messages that answer it.

use nix::errno::Errno;
use shunt_abi::name;

use super::attr::{Attribute, Attributes, Head, Malformed, NFGENMSG, Writer};
use super::socket::{NetlinkSocket, Reply};
use super::uapi::{NFPROTO_INET, flag};
use crate::error::{KernelError, Object};

/// All messages of a list that belong to our table. The list of chains, and on older kernels the
/// others too, ignores the filter.
pub(super) fn dump(
    socket: &mut NetlinkSocket,
    what: &str,
    kind: u16,
    table: u16,
) -> Result<Option<Vec<Vec<u8>>>, KernelError> {
    let replies = get(socket, what, kind, flag::DUMP, |attributes| {
        attributes.string(table, name::NFT_TABLE);
    })?;
    let Some(replies) = replies else {
        return Ok(None);
    };
    let mut ours = Vec::new();
    for (_, body) in replies {
        let owner = find(&body, table, |attribute| {
            attribute.string().map(|table| table == name::NFT_TABLE)
        });
        if owner.map_err(malformed(what))? == Some(true) {
            ours.push(body);
        }
    }
    Ok(Some(ours))
}

/// Type and body of each message that answers a request.
pub(super) type Messages = Vec<(u16, Vec<u8>)>;

/// One request about family inet and its messages. `None`: a list that a change interrupted.
pub(super) fn get(
    socket: &mut NetlinkSocket,
    what: &str,
    kind: u16,
    flags: u16,
    body: impl FnOnce(&mut Writer),
) -> Result<Option<Messages>, KernelError> {
    get_in(socket, NFPROTO_INET, what, kind, flags, body)
}

/// The same about any family.
pub(super) fn get_in(
    socket: &mut NetlinkSocket,
    family: u8,
    what: &str,
    kind: u16,
    flags: u16,
    body: impl FnOnce(&mut Writer),
) -> Result<Option<Messages>, KernelError> {
    let sequence = socket.reserve(1);
    let mut request = Writer::default();
    let head = Head {
        kind,
        flags: flag::REQUEST | flags,
        sequence,
        family,
        resource: 0,
    };
    request.message(&head, body);
    let replies = socket.ask(&request.into_bytes())?;
    let mut messages = Vec::new();
    let mut complete = flags & flag::DUMP == 0;
    let mut interrupted = false;
    for numbered in replies.iter() {
        let numbered = numbered.map_err(malformed(what))?;
        if numbered.sequence != sequence {
            continue;
        }
        interrupted |= numbered.flags & flag::DUMP_INTERRUPTED != 0;
        match numbered.reply {
            Reply::Message(kind, body) => messages.push((kind, body.to_vec())),
            Reply::Done => complete = true,
            Reply::Ack => {}
            Reply::Error(Errno::EINTR, _) => return Ok(None),
            Reply::Error(errno, text) => {
                return Err(KernelError::Refused {
                    operation: what.to_owned(),
                    object: Object::Tables,
                    errno,
                    text,
                });
            }
        }
    }
    if !complete {
        return Err(malformed(what)(Malformed("the list has no end")));
    }
    Ok((!interrupted).then_some(messages))
}

/// The body of the first message of a type; empty if there is none.
pub(super) fn only(messages: Option<Messages>, kind: u16) -> Vec<u8> {
    let mut messages = messages.into_iter().flatten();
    let found = messages.find(|(found, _)| *found == kind);
    found.map(|(_, body)| body).unwrap_or_default()
}

/// The attributes of an nf_tables message's body.
pub(super) fn attributes(body: &[u8]) -> Attributes<'_> {
    Attributes::new(body.get(NFGENMSG..).unwrap_or_default())
}

/// The first attribute of a kind.
pub(super) fn find<'a, T>(
    body: &'a [u8],
    kind: u16,
    read: impl FnOnce(Attribute<'a>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    for attribute in attributes(body) {
        let attribute = attribute?;
        if attribute.kind == kind {
            return read(attribute).map(Some);
        }
    }
    Ok(None)
}

pub(super) fn malformed(operation: &str) -> impl FnOnce(Malformed) -> KernelError {
    let operation = operation.to_owned();
    |what| KernelError::Malformed { operation, what }
}

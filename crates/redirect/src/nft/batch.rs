//! One transaction: begin, the messages, end, in one datagram.
//!
//! The kernel refuses it whole if the rules are no longer of the generation we read, or if any
//! message fails. Each message remembers what it does, so that an error can say it.

use nix::errno::Errno;

use super::attr::{Head, Writer};
use super::socket::{NetlinkSocket, Reply};
use super::uapi::{BATCH_GENID, NFPROTO_INET, flag, msg, table as table_abi};
use crate::error::{KernelError, Object};

/// What one message of a batch does, to be read after "cannot".
#[derive(Debug)]
struct Operation {
    object: Object,
    text: String,
}

/// A transaction being written.
pub(crate) struct Batch {
    writer: Writer,
    operations: Vec<Operation>,
    /// Where the last message that changes something begins.
    last: usize,
}

/// How a transaction ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it is active.
    Committed,
    /// The rules changed since they were read; nothing was done.
    Stale,
}

impl Batch {
    /// A batch that holds only for this generation of the rules.
    pub(crate) fn new(generation: u32) -> Self {
        let mut batch = Self {
            writer: Writer::default(),
            operations: Vec::new(),
            last: 0,
        };
        let text = "begin a transaction".to_owned();
        batch.frame(msg::BATCH_BEGIN, Object::Tables, text, |attributes| {
            attributes.be32(BATCH_GENID, generation);
        });
        batch
    }

    /// Appends a message about family inet. `text` says what it does.
    pub(crate) fn push(
        &mut self,
        kind: u16,
        flags: u16,
        what: (Object, String),
        body: impl FnOnce(&mut Writer),
    ) {
        self.push_in(NFPROTO_INET, kind, flags, what, body);
    }

    /// The same about any family.
    pub(crate) fn push_in(
        &mut self,
        family: u8,
        kind: u16,
        flags: u16,
        (object, text): (Object, String),
        body: impl FnOnce(&mut Writer),
    ) {
        let head = Head {
            kind,
            flags: flag::REQUEST | flags,
            sequence: self.next(),
            family,
            resource: 0,
        };
        self.operations.push(Operation { object, text });
        self.last = self.writer.len();
        self.writer.message(&head, body);
    }

    /// Sends it with one message more, which the kernel must refuse: it looks at every message, and
    /// then undoes all.
    pub(crate) fn rehearse(mut self, socket: &mut NetlinkSocket) -> Result<(), KernelError> {
        let impossible = self.next();
        let what = (Object::Tables, "end the rehearsal".to_owned());
        self.push(msg::DELTABLE, 0, what, |table| {
            table.string(table_abi::NAME, NO_TABLE);
        });
        match self.commit_with(socket, Some(impossible))? {
            // Somebody changed the rules meanwhile; the next look will tell.
            Outcome::Stale | Outcome::Committed => Ok(()),
        }
    }

    /// Sends it all. One acknowledgement is asked for: the kernel gives it when all is active, and
    /// one for each message could be more than the socket's buffer holds.
    pub(crate) fn commit(self, socket: &mut NetlinkSocket) -> Result<Outcome, KernelError> {
        self.commit_with(socket, None)
    }

    /// `impossible`: the message that is meant to be refused.
    fn commit_with(
        mut self,
        socket: &mut NetlinkSocket,
        impossible: Option<u32>,
    ) -> Result<Outcome, KernelError> {
        let text = "end the transaction".to_owned();
        self.frame(msg::BATCH_END, Object::Tables, text, |_attributes| {});
        // The numbers of a batch count from 0; those of the socket's own requests need not differ,
        // because each exchange takes all answers to it.
        let mut bytes = self.writer.into_bytes();
        acknowledge(&mut bytes, self.last);
        let replies = socket.exchange(&bytes)?;
        let mut acknowledged = false;
        for reply in replies.iter() {
            let numbered = reply.map_err(|what| KernelError::Malformed {
                operation: "commit the transaction".to_owned(),
                what,
            })?;
            match numbered.reply {
                Reply::Ack => acknowledged = true,
                Reply::Error(Errno::ERESTART, _) => return Ok(Outcome::Stale),
                Reply::Error(Errno::ENOENT, _) if impossible == Some(numbered.sequence) => {
                    acknowledged = true;
                }
                Reply::Error(errno, text) => {
                    let operation = usize::try_from(numbered.sequence)
                        .ok()
                        .and_then(|index| self.operations.get(index));
                    return Err(KernelError::Refused {
                        operation: operation.map_or_else(
                            || "commit the transaction".to_owned(),
                            |operation| operation.text.clone(),
                        ),
                        object: operation.map_or(Object::Tables, |operation| operation.object),
                        errno,
                        text,
                    });
                }
                Reply::Message(..) | Reply::Done => {}
            }
        }
        if acknowledged {
            Ok(Outcome::Committed)
        } else {
            Err(KernelError::Malformed {
                operation: "commit the transaction".to_owned(),
                what: super::attr::Malformed("the transaction was not acknowledged"),
            })
        }
    }

    fn next(&self) -> u32 {
        u32::try_from(self.operations.len()).unwrap_or(u32::MAX)
    }

    fn frame(&mut self, kind: u16, object: Object, text: String, body: impl FnOnce(&mut Writer)) {
        let head = Head {
            kind,
            flags: flag::REQUEST,
            sequence: self.next(),
            family: 0,
            resource: msg::SUBSYSTEM,
        };
        self.operations.push(Operation { object, text });
        self.writer.message(&head, body);
    }
}

/// A name that no table has.
const NO_TABLE: &str = "shunt-rehearsal";

/// Asks for an acknowledgement of the message that begins at `start`.
fn acknowledge(bytes: &mut [u8], start: usize) {
    let flags = start + FLAGS_OFFSET;
    if let Some(field) = bytes.get_mut(flags..flags + 2) {
        let old = u16::from_ne_bytes([field[0], field[1]]);
        field.copy_from_slice(&(old | flag::ACK).to_ne_bytes());
    }
}

/// Offset of `nlmsg_flags` in a netlink header.
const FLAGS_OFFSET: usize = 6;

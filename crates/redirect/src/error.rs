//! What can go wrong between a policy and the kernel, and what a person can do about it.
//!
//! [`Cause`] is what programs decide by (their exit code); the text is for people.

mod meaning;

use std::io;

use nix::errno::Errno;
use shunt_abi::{SCHEMA_VERSION, name};

use crate::facts::Missing;
use crate::field::Vocabulary;
pub use crate::iptables::IptablesError;
use crate::userns::Unmapped;
use crate::validate::Invalid;
use meaning::{cause, hint, net_admin, said, socket_cause};

/// Why an operation failed, as a caller needs to tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The process may not change the network namespace: it has not the capability.
    Permission,
    /// It has the capability, and yet may not make a netlink socket: seccomp or a security module
    /// forbids it.
    Forbidden,
    /// It has the capability, but in another user namespace than the one that the network namespace
    /// belongs to; or an id that the policy names is not mapped in its own.
    UserNamespace,
    /// The kernel (or a module of it) cannot do what is asked.
    KernelLacks,
    /// A table of our name belongs to someone else, or to a newer Shunt.
    Conflict,
    /// The kernel refused for another reason.
    KernelRefused,
    /// The policy contradicts itself.
    Invalid,
    /// Something that the policy names is not in the pod.
    Missing,
    /// A program that the iptables backend needs is not there.
    ProgramMissing,
    /// Something that should be impossible.
    Internal,
}

/// Bytes from the kernel that do not say what they should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(crate) &'static str);

/// A conversation with the kernel that failed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A netlink socket cannot be used.
    #[error("{operation}: {source}{}", hint(socket_cause(source), *class, source.raw_os_error().map(Errno::from_raw)))]
    Socket {
        /// What was being done.
        operation: &'static str,
        /// What the errno means here.
        class: Object,
        /// The system's word.
        source: io::Error,
    },
    /// The kernel answered with an error.
    #[error("cannot {operation}: {errno}{}{}", said(text.as_deref()), hint(cause(*object, *errno, net_admin()), *object, Some(*errno)))]
    Refused {
        /// What was being done to which object, to be read after "cannot".
        operation: String,
        /// What kind of object, for the hint.
        object: Object,
        /// The kernel's error.
        errno: Errno,
        /// The kernel's own explanation, where it gives one.
        text: Option<String>,
    },
    /// The kernel's answer makes no sense.
    #[error("cannot {operation}: the kernel's answer is not understood: {what}")]
    Malformed {
        /// What was being done.
        operation: String,
        /// What is wrong with the answer.
        what: Malformed,
    },
    /// Someone else changes the rules all the time.
    #[error(
        "cannot write table inet {}: other programs changed the rules of this network namespace \
         {attempts} times in a row; run it again when they are done",
        name::NFT_TABLE
    )]
    Busy {
        /// How often it was tried.
        attempts: u32,
    },
    /// The kernel forgets the comment by which the table is known as ours.
    #[error(
        "the kernel keeps no comment on table inet {}, without which it could not be recognised; \
         the table was removed again. Linux 5.10 or later is needed",
        name::NFT_TABLE
    )]
    NoComments,
    /// The kernel accepted the rules, but holds others.
    #[error(
        "table inet {} does not hold what was written ({difference}); another program may be \
         changing it, else please report this with the kernel's version",
        name::NFT_TABLE
    )]
    NotAsWritten {
        /// The first difference.
        difference: String,
    },
}

/// A table of our name that is not ours to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// No mark of ours on it.
    #[error(
        "a table inet {} exists that Shunt did not write ({why}); it is left as it is: rename or \
         delete it (`nft delete table inet {}`), then run this again",
        name::NFT_TABLE,
        name::NFT_TABLE
    )]
    Foreign {
        /// How it was recognised.
        why: String,
    },
    /// Written by a Shunt that knows more.
    #[error(
        "table inet {} was written by a newer Shunt (schema {found}, this one knows \
         {SCHEMA_VERSION}); use that version, or run its `shunt-init remove` first",
        name::NFT_TABLE
    )]
    Newer {
        /// The table's schema version.
        found: u32,
    },
}

impl Conflict {
    /// Whether it is ours, of a newer Shunt.
    pub(crate) fn is_newer(&self) -> bool {
        matches!(self, Self::Newer { .. })
    }
}

/// Writing a policy failed. Nothing of it is active, unless the text says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The parts of the policy cannot stand together. Whoever reads a policy from text says so in
    /// the words of the text; this is for those who make one themselves.
    #[error("the policy contradicts itself: {} {}", .0.field().name(Vocabulary::Policy), .0.reason(Vocabulary::Policy))]
    Invalid(Invalid),
    /// Something that the policy names is not in the pod.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The policy names ids that this user namespace has not.
    #[error(transparent)]
    Unmapped(#[from] Unmapped),
    /// Our table's name is taken.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The kernel did not do it.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// iptables did not do it.
    #[error(transparent)]
    Iptables(#[from] IptablesError),
    /// The rules are written and read back, but those of an earlier run by another backend cannot be
    /// removed.
    #[error(
        "{0}. So the rules of an earlier run, by another backend, could not be removed, and act \
         beside the new ones, which are in place: put that right, and run this again, or \
         `shunt-init remove`"
    )]
    Earlier(Box<Self>),
    /// Neither backend can do it.
    #[error("{nft}; and iptables, which would do instead, does not work either: {iptables}")]
    NoBackend {
        /// Why nf_tables cannot.
        nft: Box<Self>,
        /// Why iptables cannot.
        iptables: Box<Self>,
    },
}

impl From<Invalid> for ApplyError {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

/// Removing the rules failed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The table of our name is not ours.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The kernel did not do it.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// iptables did not do it.
    #[error(transparent)]
    Iptables(#[from] IptablesError),
}

/// Reading the rules failed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The table of our name is not ours.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The kernel did not do it.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// What an error of the kernel is about; it decides what the errno means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// Netfilter's netlink, the generation, a table.
    Tables,
    /// A base chain of type nat in family inet.
    Chain,
    /// A named set or its elements.
    Set,
    /// A rule and its expressions.
    Rule,
    /// An address of an interface.
    Address,
    /// A policy rule or a route.
    Route,
    /// A network interface.
    Link,
}

impl KernelError {
    /// Why it failed.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Socket { source, .. } => socket_cause(source),
            Self::Refused { object, errno, .. } => cause(*object, *errno, net_admin()),
            Self::NoComments => Cause::KernelLacks,
            Self::Busy { .. } => Cause::KernelRefused,
            Self::Malformed { .. } | Self::NotAsWritten { .. } => Cause::Internal,
        }
    }
}

impl ListError {
    /// Why it failed.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Conflict(_) => Cause::Conflict,
            Self::Kernel(error) => error.cause(),
        }
    }
}

impl RemoveError {
    /// Why it failed.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Conflict(_) => Cause::Conflict,
            Self::Kernel(error) => error.cause(),
            Self::Iptables(error) => error.cause(),
        }
    }
}

impl ApplyError {
    /// Why it failed.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Invalid(_) => Cause::Invalid,
            Self::Missing(_) => Cause::Missing,
            Self::Unmapped(_) => Cause::UserNamespace,
            Self::Conflict(_) => Cause::Conflict,
            Self::Kernel(error) => error.cause(),
            Self::Iptables(error) => error.cause(),
            Self::Earlier(error) => error.cause(),
            Self::NoBackend { nft, .. } => nft.cause(),
        }
    }
}

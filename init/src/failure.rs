//! Why a run failed: the message, and the exit code.

use std::path::PathBuf;
use std::{fmt, io};

use shunt_redirect::compat::ArgumentError;
use shunt_redirect::error::{ApplyError, KernelError, ListError, RemoveError};
use shunt_redirect::facts::FactsError;
use shunt_redirect::iptables::IptablesError;
use shunt_redirect::netns::NetnsError;
use shunt_redirect::policy::{ApplyArgsError, WriteError};
use shunt_redirect::sysctl::SysctlError;
use shunt_redirect::verify::VerifyError;

use crate::exit::Exit;
use crate::message::Message;

/// Why a run failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Argument(ArgumentError),
    /// A flag would have no effect.
    Idle(String),
    File(ApplyArgsError),
    Netns(NetnsError),
    Sysctl(SysctlError),
    /// The rules, and a kernel parameter that could not be put back then.
    Apply(ApplyError, Option<SysctlError>),
    Remove(RemoveError),
    /// Something may be left, because it may not be looked at.
    Left {
        /// What was done.
        messages: Vec<Message>,
        why: IptablesError,
    },
    Facts(FactsError),
    List(ListError),
    Routing(KernelError),
    Iptables(IptablesError),
    Verify(VerifyError),
    /// The rules are there, but do not do what they should.
    Unproved {
        /// What was found.
        messages: Vec<Message>,
        cause: String,
    },
    Output(io::Error),
    Rules(PathBuf, io::Error),
    Policy(WriteError),
}

impl Failure {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Argument(_) | Self::Idle(_) | Self::File(_) | Self::Rules(..) => Exit::Usage,
            Self::Netns(error) => error.cause().into(),
            Self::Sysctl(error) => error.cause().into(),
            Self::Apply(error, _) => error.cause().into(),
            Self::Remove(error) => error.cause().into(),
            Self::Left { why, .. } => why.cause().into(),
            Self::Facts(error) => error.cause().into(),
            Self::List(error) => error.cause().into(),
            Self::Routing(error) => error.cause().into(),
            Self::Iptables(error) => error.cause().into(),
            Self::Verify(error) => error.cause().into(),
            Self::Unproved { .. } => Exit::Unproved,
            Self::Output(_) | Self::Policy(_) => Exit::Internal,
        }
    }

    /// What was done or found before it.
    pub(crate) fn before(&self) -> &[Message] {
        match self {
            Self::Unproved { messages, .. } | Self::Left { messages, .. } => messages,
            _ => &[],
        }
    }

    /// Says first what was done before.
    pub(crate) fn after(mut self, done: &[Message]) -> Self {
        if let Self::Unproved { messages, .. } = &mut self {
            messages.splice(0..0, done.iter().cloned());
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::Policy(error) => error.fmt(f),
            Self::Netns(error) => error.fmt(f),
            Self::Sysctl(error) => error.fmt(f),
            Self::Apply(error, None) => error.fmt(f),
            Self::Apply(error, Some(stays)) => {
                write!(
                    f,
                    "{error}. Putting back what was set failed as well: {stays}"
                )
            }
            Self::Remove(error) => error.fmt(f),
            Self::Left { why, .. } => write!(
                f,
                "rules of Shunt in legacy iptables tables may be left, and still capture, because \
                 these cannot be looked into: {why}"
            ),
            Self::Facts(error) => error.fmt(f),
            Self::List(error) => error.fmt(f),
            Self::Routing(error) => error.fmt(f),
            Self::Iptables(error) => error.fmt(f),
            Self::Verify(error) => error.fmt(f),
            Self::Unproved { cause, .. } | Self::Idle(cause) => f.write_str(cause),
            Self::Output(error) => write!(f, "cannot write to standard output: {error}"),
            Self::Rules(path, error) => write!(
                f,
                "cannot write the rules to {}: {error}; name a file in a folder that exists and \
                 can be written to, or leave the file out",
                path.display()
            ),
        }
    }
}

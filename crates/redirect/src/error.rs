//! What can go wrong between a policy and the kernel, and what a person can do about it.
//!
//! [`Cause`] is what programs decide by (their exit code); the text is for people.

use std::io;

use nix::errno::Errno;
use shunt_abi::{SCHEMA_VERSION, name};

use crate::facts::Missing;
pub use crate::iptables::IptablesError;

/// Why an operation failed, as a caller needs to tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The process may not change the network namespace.
    Permission,
    /// The kernel (or a module of it) cannot do what is asked.
    KernelLacks,
    /// A table of our name belongs to someone else, or to a newer Shunt.
    Conflict,
    /// The kernel refused for another reason.
    KernelRefused,
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
    #[error("{operation}: {source}{}", hint(*class, source.raw_os_error().map(Errno::from_raw)))]
    Socket {
        /// What was being done.
        operation: &'static str,
        /// What the errno means here.
        class: Object,
        /// The system's word.
        source: io::Error,
    },
    /// The kernel answered with an error.
    #[error("cannot {operation}: {errno}{}{}", said(text.as_deref()), hint(*object, Some(*errno)))]
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
    /// Something that the policy names is not in the pod.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// Our table's name is taken.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The kernel did not do it.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// iptables did not do it.
    #[error(transparent)]
    Iptables(#[from] IptablesError),
    /// Neither backend can do it.
    #[error("{nft}; and iptables, which would do instead, does not work either: {iptables}")]
    NoBackend {
        /// Why nf_tables cannot.
        nft: Box<Self>,
        /// Why iptables cannot.
        iptables: Box<Self>,
    },
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
            Self::Socket { class, source, .. } => {
                cause(*class, source.raw_os_error().map(Errno::from_raw))
            }
            Self::Refused { object, errno, .. } => cause(*object, Some(*errno)),
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
            Self::Missing(_) => Cause::Missing,
            Self::Conflict(_) => Cause::Conflict,
            Self::Kernel(error) => error.cause(),
            Self::Iptables(error) => error.cause(),
            Self::NoBackend { nft, .. } => nft.cause(),
        }
    }
}

fn cause(object: Object, errno: Option<Errno>) -> Cause {
    use Errno::{EAFNOSUPPORT, EINVAL, ENOENT, ENOSYS, EOPNOTSUPP, EPERM, EPROTONOSUPPORT};
    match (object, errno) {
        (_, Some(EPERM)) => Cause::Permission,
        (_, Some(EAFNOSUPPORT | EPROTONOSUPPORT | EOPNOTSUPP | ENOSYS)) => Cause::KernelLacks,
        (Object::Tables, Some(EINVAL)) => Cause::KernelLacks,
        (Object::Chain | Object::Set | Object::Rule, Some(ENOENT)) => Cause::KernelLacks,
        _ => Cause::KernelRefused,
    }
}

/// The usual reason for an errno, and the remedy.
fn hint(object: Object, errno: Option<Errno>) -> &'static str {
    match errno {
        Some(Errno::EMFILE) => {
            return ". This process may open no more files: raise its limit of open files \
                    (`ulimit -n`, RLIMIT_NOFILE), and run it again";
        }
        Some(Errno::ENFILE) => {
            return ". The node may open no more files: raise its limit (`sysctl fs.file-max`), \
                    and run it again";
        }
        _ => {}
    }
    match (cause(object, errno), object) {
        (Cause::Permission, _) => {
            ". CAP_NET_ADMIN over this network namespace is missing: run as root with \
             `securityContext.capabilities.add: [NET_ADMIN]`, and check that no seccomp or \
             SELinux policy forbids netlink sockets"
        }
        (Cause::KernelLacks, Object::Tables) => {
            ". The kernel has no nf_tables: it needs CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET \
             (`modprobe nf_tables` on the node)"
        }
        (Cause::KernelLacks, Object::Chain) => {
            ". The kernel has no NAT chains in inet tables: it needs Linux 5.2 or later and the \
             module nft_chain_nat (`modprobe nft_chain_nat` on the node)"
        }
        (Cause::KernelLacks, Object::Set) => {
            ". The kernel has no sets for nf_tables: `modprobe nf_tables_set` on nodes with Linux \
             before 5.7"
        }
        (Cause::KernelLacks, Object::Rule) => {
            ". The kernel lacks an expression: `modprobe -a nft_redir nf_nat nft_counter nft_meta \
             nft_ct nft_tproxy nft_socket` on the node"
        }
        (Cause::KernelLacks, Object::Address) => ". The kernel has no IPv6: use `--ipv6 off`",
        (Cause::KernelLacks, Object::Route) => {
            ". The kernel has no policy routing: TPROXY needs CONFIG_IP_MULTIPLE_TABLES, and \
             CONFIG_IPV6_MULTIPLE_TABLES where IPv6 is captured; use REDIRECT"
        }
        (Cause::KernelLacks, Object::Link) => {
            ". The kernel has no veth pairs (`modprobe veth` on the node)"
        }
        _ => "",
    }
}

fn said(text: Option<&str>) -> String {
    text.map(|text| format!(" (kernel: {text})"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io;

    use nix::errno::Errno;

    use super::{Cause, KernelError, Object};

    #[test]
    fn an_errno_is_explained_by_what_it_was_about() {
        for (object, errno, cause, hint) in [
            (Object::Tables, Errno::EPERM, Cause::Permission, "NET_ADMIN"),
            (
                Object::Address,
                Errno::EPERM,
                Cause::Permission,
                "NET_ADMIN",
            ),
            (
                Object::Tables,
                Errno::EINVAL,
                Cause::KernelLacks,
                "modprobe nf_tables`",
            ),
            (
                Object::Tables,
                Errno::EOPNOTSUPP,
                Cause::KernelLacks,
                "CONFIG_NF_TABLES",
            ),
            (
                Object::Chain,
                Errno::ENOENT,
                Cause::KernelLacks,
                "nft_chain_nat",
            ),
            (
                Object::Chain,
                Errno::EOPNOTSUPP,
                Cause::KernelLacks,
                "Linux 5.2",
            ),
            (
                Object::Set,
                Errno::EOPNOTSUPP,
                Cause::KernelLacks,
                "nf_tables_set",
            ),
            (Object::Rule, Errno::ENOENT, Cause::KernelLacks, "nft_redir"),
            (
                Object::Address,
                Errno::EOPNOTSUPP,
                Cause::KernelLacks,
                "--ipv6 off",
            ),
            (Object::Rule, Errno::ENOMEM, Cause::KernelRefused, "ENOMEM"),
            (
                Object::Address,
                Errno::ENOENT,
                Cause::KernelRefused,
                "ENOENT",
            ),
        ] {
            let error = KernelError::Refused {
                operation: "do it".to_owned(),
                object,
                errno,
                text: Some("no, thanks".to_owned()),
            };
            assert_eq!(error.cause(), cause, "{error}");
            let text = error.to_string();
            assert!(text.starts_with("cannot do it: "), "{text}");
            assert!(text.contains("(kernel: no, thanks)"), "{text}");
            assert!(text.contains(hint), "{text}");
        }
    }

    #[test]
    fn a_socket_that_cannot_be_had_is_explained_too() {
        for (errno, cause, hint) in [
            (
                number(Errno::EPROTONOSUPPORT),
                Cause::KernelLacks,
                "no nf_tables",
            ),
            (
                number(Errno::EAFNOSUPPORT),
                Cause::KernelLacks,
                "no nf_tables",
            ),
            (number(Errno::EPERM), Cause::Permission, "seccomp"),
            (number(Errno::EMFILE), Cause::KernelRefused, "ulimit -n"),
            (number(Errno::ENFILE), Cause::KernelRefused, "fs.file-max"),
        ] {
            let error = KernelError::Socket {
                operation: "cannot open a netlink socket",
                class: Object::Tables,
                source: io::Error::from_raw_os_error(errno),
            };
            assert_eq!(error.cause(), cause, "{error}");
            assert!(error.to_string().contains(hint), "{error}");
        }
    }

    fn number(errno: Errno) -> i32 {
        errno as i32
    }
}

//! What can go wrong between a policy and the kernel, and what a person can do about it.
//!
//! [`Cause`] is what programs decide by (their exit code); the text is for people.

use std::io;

use nix::errno::Errno;
use shunt_abi::{SCHEMA_VERSION, name};

use crate::facts::Missing;
use crate::field::Vocabulary;
pub use crate::iptables::IptablesError;
use crate::preflight::capability;
use crate::userns::Unmapped;
use crate::validate::Invalid;

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
            Self::NoBackend { nft, .. } => nft.cause(),
        }
    }
}

/// What an error that the kernel answers with means, to a process that has CAP_NET_ADMIN or not.
fn cause(object: Object, errno: Errno, net_admin: bool) -> Cause {
    use Errno::{EAFNOSUPPORT, EEXIST, EINVAL, ENOENT, ENOSYS, EOPNOTSUPP, EPERM, EPROTONOSUPPORT};
    match (object, errno) {
        (_, EPERM) if net_admin => Cause::UserNamespace,
        (_, EPERM) => Cause::Permission,
        (_, EAFNOSUPPORT | EPROTONOSUPPORT | EOPNOTSUPP | ENOSYS) => Cause::KernelLacks,
        (Object::Tables, EINVAL) => Cause::KernelLacks,
        (Object::Route, EEXIST) => Cause::Conflict,
        (Object::Chain | Object::Set | Object::Rule, ENOENT) => Cause::KernelLacks,
        _ => Cause::KernelRefused,
    }
}

/// A netlink socket takes no capability, and every kernel has the calls for it: where one is
/// refused, it is not the kernel's own doing.
fn socket_cause(source: &io::Error) -> Cause {
    use Errno::{EACCES, EAFNOSUPPORT, EINVAL, ENOSYS, EPERM, EPROTONOSUPPORT};
    match source.raw_os_error().map(Errno::from_raw) {
        Some(EPERM | EACCES | ENOSYS) => Cause::Forbidden,
        Some(EAFNOSUPPORT | EPROTONOSUPPORT | EINVAL) => Cause::KernelLacks,
        _ => Cause::KernelRefused,
    }
}

fn net_admin() -> bool {
    capability::effective().is_some_and(|held| held.has(capability::NET_ADMIN))
}

/// The usual reason for an errno, and the remedy.
fn hint(cause: Cause, object: Object, errno: Option<Errno>) -> &'static str {
    match errno {
        Some(Errno::EMFILE) => {
            return ". This process may open no more files: raise its limit of open files \
                    (`ulimit -n`, RLIMIT_NOFILE), and run it again";
        }
        Some(Errno::ENFILE) => {
            return ". The node may open no more files: raise its limit (`sysctl fs.file-max`), \
                    and run it again";
        }
        Some(Errno::ENETDOWN) => {
            return ". An interface is down, which for this is `lo`: bring it up (`ip link set lo up`, \
                    as whoever makes a pod's network namespace does), and run it again";
        }
        _ => {}
    }
    match (cause, object) {
        (Cause::Permission, _) => {
            ". CAP_NET_ADMIN over this network namespace is missing: run as root with \
             `securityContext.capabilities.add: [NET_ADMIN]`"
        }
        (Cause::Forbidden, _) => {
            ". No capability is needed for this: a seccomp profile, SELinux or AppArmor forbids \
             netlink sockets. Allow socket(AF_NETLINK) in it (`seccompProfile: RuntimeDefault` \
             does)"
        }
        (Cause::UserNamespace, _) => {
            ". This process has CAP_NET_ADMIN, but in another user namespace than the one that \
             this network namespace belongs to: enter that one too (`nsenter --user --net`), or \
             run in the pod itself"
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
        (Cause::Conflict, Object::Route) => {
            ". Another program has a default route in that table: name a table that nobody uses \
             (`-r`, `inbound.tproxy.table` in a policy file), or delete the route"
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

    use super::{Cause, KernelError, Object, cause, hint};

    #[test]
    fn an_errno_is_explained_by_what_it_was_about() {
        for (object, errno, expected, words) in [
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
            assert_eq!(error.cause(), expected, "{error}");
            let text = error.to_string();
            assert!(text.starts_with("cannot do it: "), "{text}");
            assert!(text.contains("(kernel: no, thanks)"), "{text}");
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn what_is_not_permitted_is_explained_by_whether_the_capability_is_there() {
        for (capable, expected, words) in [
            (false, Cause::Permission, "NET_ADMIN"),
            (true, Cause::UserNamespace, "nsenter --user --net"),
        ] {
            for object in [Object::Tables, Object::Address, Object::Link] {
                let found = cause(object, Errno::EPERM, capable);
                assert_eq!(found, expected);
                assert!(hint(found, object, Some(Errno::EPERM)).contains(words));
            }
        }
    }

    #[test]
    fn a_socket_that_cannot_be_had_is_explained_too() {
        for (errno, expected, words) in [
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
            (number(Errno::EPERM), Cause::Forbidden, "seccomp"),
            (number(Errno::EACCES), Cause::Forbidden, "AppArmor"),
            (number(Errno::ENOSYS), Cause::Forbidden, "seccomp"),
            (number(Errno::EMFILE), Cause::KernelRefused, "ulimit -n"),
            (number(Errno::ENFILE), Cause::KernelRefused, "fs.file-max"),
        ] {
            let error = KernelError::Socket {
                operation: "cannot open a netlink socket",
                class: Object::Tables,
                source: io::Error::from_raw_os_error(errno),
            };
            assert_eq!(error.cause(), expected, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    fn number(errno: Errno) -> i32 {
        errno as i32
    }
}

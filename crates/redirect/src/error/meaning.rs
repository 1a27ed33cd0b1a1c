//! What the kernel's errors mean, by what was asked of it and what this process may do, and the remedy.

use std::io;

use nix::errno::Errno;

use super::{Cause, Object};
use crate::preflight::capability;

/// What an error that the kernel answers with means, to a process that has CAP_NET_ADMIN or not.
pub(super) fn cause(object: Object, errno: Errno, net_admin: bool) -> Cause {
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
pub(super) fn socket_cause(source: &io::Error) -> Cause {
    use Errno::{EACCES, EAFNOSUPPORT, EINVAL, ENOSYS, EPERM, EPROTONOSUPPORT};
    match source.raw_os_error().map(Errno::from_raw) {
        Some(EPERM | EACCES | ENOSYS) => Cause::Forbidden,
        Some(EAFNOSUPPORT | EPROTONOSUPPORT | EINVAL) => Cause::KernelLacks,
        _ => Cause::KernelRefused,
    }
}

/// Whether this process has CAP_NET_ADMIN.
pub(super) fn net_admin() -> bool {
    capability::effective().is_some_and(|held| held.has(capability::NET_ADMIN))
}

/// The usual reason for an errno, and the remedy.
pub(super) fn hint(cause: Cause, object: Object, errno: Option<Errno>) -> &'static str {
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
        (Cause::KernelLacks, Object::Address) => ". The kernel has no IPv6: use `--ipv6 never`",
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

/// The kernel's own words, to be read after its error.
pub(super) fn said(text: Option<&str>) -> String {
    text.map(|text| format!(" (kernel: {text})"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io;

    use nix::errno::Errno;

    use super::{cause, hint};
    use crate::error::{Cause, KernelError, Object};

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
                "--ipv6 never",
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

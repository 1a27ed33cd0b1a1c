//! What the process and its container are.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use shunt_abi::identity::PROXY_UID;

use super::Finding;
use super::capability::{self, NET_ADMIN, NET_RAW, SETGID, SETUID};
use crate::capture::CaptureConfig;
use crate::error::Cause;
use crate::{sysctl, userns};

/// The check of a capability that only some runs need.
pub(super) const NET_RAW_CHECK: &str = "NET_RAW";

pub(super) fn capabilities() -> Vec<Finding> {
    let Some(held) = capability::effective() else {
        let text = "cannot be read: /proc is not mounted";
        return vec![Finding::note("capabilities", text)];
    };
    let add = |name: &str| format!("`securityContext.capabilities.add: [{name}]`");
    let admin = if held.has(NET_ADMIN) {
        Finding::good("NET_ADMIN", "is there")
    } else {
        let text = format!(
            "CAP_NET_ADMIN is missing: run as root with {}",
            add("NET_ADMIN")
        );
        Finding::missing("NET_ADMIN", Cause::Permission, text)
    };
    let raw = if held.has(NET_RAW) {
        Finding::good(NET_RAW_CHECK, "is there")
    } else {
        let text = format!(
            "CAP_NET_RAW is missing: rules are read back, but not proved by packets, and the \
             iptables backend cannot use legacy tables; add it with {}",
            add("NET_RAW")
        );
        Finding::note(NET_RAW_CHECK, text)
    };
    let owners = if held.has(SETUID) && held.has(SETGID) {
        Finding::good("SETUID, SETGID", "are there")
    } else {
        Finding::note(
            "SETUID, SETGID",
            "are missing, as in most pods: rules for the proxy's user are read back instead of \
             proved by packets",
        )
    };
    vec![admin, raw, owners]
}

pub(super) fn user_namespace() -> Finding {
    const CHECK: &str = "user namespace";
    match fs::read_to_string("/proc/self/uid_map") {
        Err(_) => Finding::note(CHECK, "cannot be read: /proc is not mounted"),
        Ok(map) if is_identity(&map) => Finding::good(CHECK, "is the node's"),
        Ok(map) => Finding::note(
            CHECK,
            format!(
                "is one of its own (uid map {}): capabilities hold only for network namespaces \
                 that belong to it, and uids in rules are those seen here",
                map.split_whitespace().collect::<Vec<_>>().join(" ")
            ),
        ),
    }
}

/// Whether the proxy's ids, unless others are asked for, can be any process's here.
pub(super) fn proxy_ids() -> Finding {
    const CHECK: &str = "the proxy's ids";
    match userns::check(&CaptureConfig::default()) {
        Ok(()) => Finding::good(
            CHECK,
            format!("are there ({PROXY_UID} unless told otherwise)"),
        ),
        Err(unmapped) => Finding::missing(CHECK, Cause::UserNamespace, unmapped.to_string()),
    }
}

fn is_identity(map: &str) -> bool {
    let mut fields = map.split_whitespace();
    fields.next() == Some("0") && fields.next() == Some("0") && fields.next() == Some("4294967295")
}

pub(super) fn ipv6() -> Finding {
    const CHECK: &str = "IPv6";
    let disabled = |interface: &str| {
        let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        fs::read_to_string(path)
            .ok()
            .map(|value| value.trim() == "1")
    };
    match (disabled("all"), disabled("lo")) {
        (None, _) => Finding::note(CHECK, "is not built in: only IPv4 can be captured"),
        (Some(true), _) => Finding::note(CHECK, "is disabled here: only IPv4 is captured"),
        (_, Some(true)) => Finding::note(
            CHECK,
            "is disabled on lo alone: captured IPv6 connections would not be served; \
             `sysctl net.ipv6.conf.lo.disable_ipv6=0`, or `--ipv6 never`",
        ),
        _ => Finding::good(CHECK, "is there"),
    }
}

pub(super) fn sysctls() -> Finding {
    const CHECK: &str = "/proc/sys";
    // Of the file itself: the folders of /proc/sys are nobody's to write.
    match access(Path::new(sysctl::CLOSE_WAIT), AccessFlags::W_OK) {
        Ok(()) => Finding::good(CHECK, "can be written"),
        Err(Errno::ENOENT) => Finding::note(
            CHECK,
            "has no net.netfilter.nf_conntrack_tcp_timeout_close_wait, because the kernel does not \
             track connections here: only Linkerd's --timeout-close-wait-secs needs it (`modprobe \
             nf_conntrack` on the node)",
        ),
        Err(_) => Finding::note(
            CHECK,
            "is read only, as in most pods: only Linkerd's --timeout-close-wait-secs needs it \
             (`privileged: true`)",
        ),
    }
}

pub(super) fn security_module() -> Finding {
    const CHECK: &str = "security module";
    let context = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    let context = context.trim_matches(['\0', '\n', ' ']);
    let enforcing = fs::read_to_string("/sys/fs/selinux/enforce");
    match (context, enforcing) {
        ("" | "unconfined", _) => Finding::good(CHECK, "confines nothing"),
        (context, Ok(enforce)) => Finding::note(
            CHECK,
            format!(
                "is SELinux ({}), context {context}: where netlink is refused, look for AVC \
                 messages in the node's audit log",
                if enforce.trim() == "1" {
                    "enforcing"
                } else {
                    "permissive"
                }
            ),
        ),
        (context, Err(_)) => Finding::note(
            CHECK,
            format!("confines this process to profile {context}: it must allow netlink sockets"),
        ),
    }
}

/// The programs of the iptables backend, which only a kernel without nf_tables needs.
pub(super) fn programs() -> Vec<Finding> {
    [
        "iptables-nft-restore",
        "iptables-legacy-restore",
        "ip6tables-nft-restore",
        "ip6tables-legacy-restore",
    ]
    .into_iter()
    .map(
        |program| match Command::new(program).arg("--version").output() {
            Ok(output) if output.status.success() => {
                let version = String::from_utf8_lossy(&output.stdout);
                Finding::good(program, version.trim().to_owned())
            }
            Ok(output) => Finding::note(program, format!("fails: {}", output.status)),
            Err(_) => Finding::note(
                program,
                "is not there; only the iptables backend (`--backend`) needs it",
            ),
        },
    )
    .collect()
}

#[cfg(test)]
mod tests {
    use super::is_identity;

    #[test]
    fn only_the_map_of_everything_to_itself_is_the_nodes() {
        assert!(is_identity("         0          0 4294967295\n"));
        assert!(!is_identity("         0     100000      65536\n"));
        assert!(!is_identity(""));
    }
}

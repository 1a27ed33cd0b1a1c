//! What the namespace and cluster tests need from the machine, found out by trying it.
//!
//! Every probe runs in a network namespace that ends with the probe's thread; nothing of the
//! machine's own network is touched. Version strings are not asked: a kernel may have a feature
//! built out, and a container may forbid it.

use std::net::{Ipv6Addr, SocketAddrV6, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, unshare};
use shunt_tests::cluster::Cluster;

use crate::workspace::shown;

/// One thing the machine must be able to do.
struct Probe {
    what: &'static str,
    remedy: &'static str,
    attempt: fn() -> Result<()>,
}

const PROBES: &[Probe] = &[
    Probe {
        what: "run a program under another uid",
        remedy: "run as root with CAP_SETUID; in a container without a user namespace of one uid",
        attempt: || run_quiet(Command::new("true").uid(1337).gid(1337)),
    },
    Probe {
        what: "IPv6 in a network namespace",
        remedy: "boot without `ipv6.disable=1`, on a kernel with CONFIG_IPV6",
        attempt: || {
            run_quiet(Command::new("ip").args(["link", "set", "lo", "up"]))?;
            let loopback = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, 0, 0);
            TcpListener::bind(loopback)
                .map(drop)
                .context("binding [::1]")
        },
    },
    Probe {
        what: "write network sysctls of a namespace",
        remedy: "mount /proc/sys writable (a container: --privileged)",
        attempt: || {
            let path = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
            std::fs::write(path, "1").with_context(|| format!("writing {path}"))
        },
    },
    Probe {
        what: "make a veth pair",
        remedy: "a kernel with CONFIG_VETH (`modprobe veth` on the host)",
        attempt: || {
            run_quiet(Command::new("ip").args("link add name a type veth peer name b".split(' ')))
        },
    },
    Probe {
        what: "make a bridge",
        remedy: "a kernel with CONFIG_BRIDGE (`modprobe bridge` on the host)",
        attempt: || run_quiet(Command::new("ip").args("link add name a type bridge".split(' '))),
    },
    Probe {
        what: "nf_tables with nat in the inet family",
        remedy: "a kernel from 5.2 on with CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT and \
                 CONFIG_NFT_REDIR (`modprobe nft_redir nft_chain_nat` on the host)",
        attempt: || {
            run_quiet(Command::new("nft").arg(
                "table inet t { chain c { type nat hook output priority -100; \
                 meta skuid 1337 tcp dport 80 redirect to :15001; }; }",
            ))
        },
    },
    Probe {
        what: "trace a program (ptrace)",
        remedy: "CAP_SYS_PTRACE, and a seccomp profile that allows ptrace (a container: --privileged)",
        attempt: || run_quiet(Command::new("strace").args(["-f", "-o", "/dev/null", "true"])),
    },
    Probe {
        what: "make a process namespace with a /proc of its own",
        remedy: "a kernel with CONFIG_PID_NS (a container: --privileged)",
        attempt: || {
            let words = "--mount --propagation private --pid --fork --mount-proc true";
            run_quiet(Command::new("unshare").args(words.split(' ')))
        },
    },
    Probe {
        what: "make a user namespace",
        remedy: "a kernel with CONFIG_USER_NS, and user.max_user_namespaces above 0",
        attempt: || run_quiet(Command::new("unshare").args(["--user", "--map-root-user", "true"])),
    },
    Probe {
        what: "mount an overlay",
        remedy: "a kernel with CONFIG_OVERLAY_FS (`modprobe overlay` on the host)",
        attempt: || {
            run_quiet(Command::new("unshare").args([
                "--mount",
                "sh",
                "-ec",
                "mount -t tmpfs none /mnt; cd /mnt; mkdir lower upper work all; \
                 mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none all",
            ]))
        },
    },
    Probe {
        what: "make cgroups in every mounted hierarchy",
        remedy: "mount /sys/fs/cgroup writable, and nothing over /sys (a container: --privileged \
                 --cgroupns=host)",
        attempt: Cluster::expect_possible,
    },
];

/// Tries everything the tests rely on.
///
/// # Errors
/// Names all that is missing, each with how to get it.
pub fn check() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("not root: the tests make network namespaces and write their rules; run with sudo");
    }
    in_new_namespace(|| Ok(())).context(
        "cannot make a network namespace: run as root with CAP_SYS_ADMIN \
         (a container: --privileged), on a kernel with CONFIG_NET_NS",
    )?;
    let mut missing = Vec::new();
    for probe in PROBES {
        match in_new_namespace(probe.attempt) {
            Ok(()) => println!("ok: {}", probe.what),
            Err(error) => missing.push(format!(
                "cannot {}: {error:#}\n  remedy: {}",
                probe.what, probe.remedy
            )),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "this machine lacks what the tests need:\n{}",
        missing.join("\n")
    )
}

/// Runs `work` on a thread that has a network namespace of its own.
fn in_new_namespace(work: fn() -> Result<()>) -> Result<()> {
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).context("unsharing the network namespace")?;
        work()
    })
    .join()
    .unwrap_or_else(|_panic| bail!("the probe panicked"))
}

fn run_quiet(command: &mut Command) -> Result<()> {
    let line = shown(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting `{line}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed: {}", said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_shown_with_what_it_said() {
        let error = run_quiet(Command::new("sh").args(["-c", "echo no such device >&2; exit 2"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("no such device"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run_quiet(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(
            error.to_string().contains("no-such-program-here"),
            "{error}"
        );
    }
}

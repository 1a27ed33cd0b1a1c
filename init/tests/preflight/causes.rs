//! Each cause that docs/preflight.md names, made to happen or injected, by every backend: its code of
//! docs/exit-codes.md, its remedy, and nothing changed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::{PROGRAM, everything, in_namespace, ran, with_error};

const BACKENDS: [&str; 3] = ["nft", "iptables-nft", "iptables-legacy"];

fn apply(backend: &str) -> Vec<&str> {
    [
        &["istio-iptables", "-i", "*", "-b", "*", "--backend"][..],
        &[backend],
    ]
    .concat()
}

/// What this run changed, if anything; empty tables of iptables mean nothing.
fn state() -> Vec<String> {
    let mut all = everything();
    all[0] = all[0]
        .lines()
        .filter(|line| line.contains("shunt"))
        .collect();
    all.push(ran(&["iptables-legacy-save"]).1.matches("SHUNT").collect());
    all
}

/// The run ends so, says so, and changes nothing.
fn fails(command: &[&str], code: i32, words: &[&str]) {
    let before = state();
    let (found, output, error) = ran(command);
    assert_eq!(found, code, "{command:?}: {output}{error}");
    for words in words {
        assert!(error.contains(words), "{command:?}: {error}");
    }
    assert_eq!(state(), before, "{command:?}");
}

#[test]
fn without_a_capability_each_backend_names_it() {
    in_namespace(|| {
        for backend in BACKENDS {
            let mut command = vec!["setpriv", "--bounding-set=-all,+net_raw", PROGRAM];
            command.extend(apply(backend));
            fails(
                &command,
                4,
                &["CAP_NET_ADMIN", "capabilities.add: [NET_ADMIN]"],
            );
        }
        // The tables, and a rule in them, so that they are looked into.
        for table in ["", "with a rule"] {
            let mut command = vec!["setpriv", "--bounding-set=-all,+net_admin", PROGRAM];
            command.extend(apply("iptables-legacy"));
            let words = [
                "CAP_NET_RAW is missing",
                "capabilities.add: [NET_ADMIN, NET_RAW]",
            ];
            fails(&command, 4, &words);
            if table.is_empty() {
                ran(&[
                    "iptables-legacy",
                    "-t",
                    "nat",
                    "-A",
                    "OUTPUT",
                    "-j",
                    "RETURN",
                ]);
            }
        }
    });
}

#[test]
fn what_legacy_tables_hold_is_never_taken_for_nothing() {
    in_namespace(|| {
        assert_eq!(
            ran(&[&[PROGRAM], &apply("iptables-legacy")[..]].concat()).0,
            0
        );
        let before = state();
        let without = ["setpriv", "--bounding-set=-all,+net_admin", PROGRAM];
        let (code, _, error) = ran(&[&without, &["remove"][..]].concat());
        assert_eq!(code, 0, "{error}");
        assert!(
            error.contains("may hold rules of an earlier run"),
            "{error}"
        );
        assert!(error.contains("CAP_NET_RAW is missing"), "{error}");
        assert_eq!(state(), before);
    });
}

#[test]
fn in_another_user_namespace_each_backend_says_so() {
    in_namespace(|| {
        for backend in BACKENDS {
            let mut command = vec!["unshare", "--user", "--map-root-user", PROGRAM];
            command.extend(apply(backend));
            fails(
                &command,
                10,
                &["in another user namespace", "nsenter --user"],
            );
        }
    });
}

#[test]
fn an_id_that_is_not_mapped_is_refused_by_each_backend_and_by_preflight() {
    in_namespace(|| {
        let words = ["uid 1337, the proxy's, is not mapped", "0 0 1", "hostUsers"];
        let own = ["unshare", "--user", "--map-root-user", "--net", PROGRAM];
        for backend in BACKENDS {
            fails(&[&own, &apply(backend)[..]].concat(), 10, &words);
        }
        fails(&[&own, &["preflight"][..]].concat(), 10, &words);
        let mapped = [&apply("nft")[..], &["-u", "0", "-g", "0"]].concat();
        let (code, output, error) = ran(&[&own, &mapped[..]].concat());
        assert_eq!(code, 0, "{output}{error}");
    });
}

#[test]
fn a_netlink_socket_that_is_refused_is_told_from_one_that_the_kernel_lacks() {
    in_namespace(|| {
        for backend in BACKENDS {
            // The first socket is that of the turn.
            for (injected, code, words) in [
                ("socket:error=EPERM:when=2", 9, "seccomp profile"),
                ("socket:error=EACCES:when=2", 9, "SELinux or AppArmor"),
                ("socket:error=ENOSYS:when=2", 9, "seccomp profile"),
                ("socket:error=EMFILE:when=2", 7, "limit of open files"),
                ("socket:error=ENFILE:when=2", 7, "fs.file-max"),
                (
                    "sendto:error=ENOBUFS:when=1",
                    7,
                    "cannot send to the kernel",
                ),
            ] {
                let before = state();
                let (found, _, error) = with_error(injected, &apply(backend));
                assert_eq!(found, code, "{backend}, {injected}: {error}");
                assert!(error.contains(words), "{backend}, {injected}: {error}");
                assert_eq!(state(), before, "{backend}, {injected}");
            }
        }
        let lacking = "socket:error=EPROTONOSUPPORT:when=2";
        let (code, _, error) = with_error(lacking, &apply("nft"));
        assert_eq!(code, 5, "{error}");
        assert!(error.contains("modprobe nf_tables"), "{error}");
    });
}

/// The kernel's answers as bytes, put into the buffer of one `recvfrom` of the program's: an error
/// to the message of this number.
fn answered(receive: u32, sequence: u32, errno: i32, arguments: &[&str]) -> (i32, String, String) {
    // Length, NLMSG_ERROR, NLM_F_CAPPED, sequence, port; the error.
    let mut bytes = vec![36, 0, 0, 0, 2, 0, 0, 1];
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend((-errno).to_ne_bytes());
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let inject = format!("inject=recvfrom:poke_exit=@arg2={hex}:when={receive}");
    let strace = ["strace", "-o", "/dev/null", "-e", &inject, PROGRAM];
    ran(&[&strace, arguments].concat())
}

const ENOENT: i32 = 2;
const EPERM: i32 = 1;
const EOPNOTSUPP: i32 = 95;

#[test]
fn what_the_kernel_answers_has_the_code_and_the_remedy_of_its_cause() {
    in_namespace(|| {
        // The first answer is that to "which generation".
        for (errno, code, words) in [
            (EOPNOTSUPP, 5, "CONFIG_NF_TABLES"),
            (EPERM, 10, "nsenter --user --net"),
        ] {
            let before = state();
            let (found, _, error) = answered(1, 1, errno, &apply("nft"));
            assert_eq!(found, code, "{error}");
            assert!(error.contains(words), "{error}");
            assert_eq!(state(), before);
        }
    });
}

#[test]
fn a_chain_or_an_expression_that_the_kernel_lacks_is_named_with_its_module() {
    in_namespace(|| {
        // The eighth message of the rehearsal makes a chain, the next adds a rule to it.
        for (message, operation, words) in [
            (
                8,
                "cannot create chain nat_prerouting",
                "modprobe nft_chain_nat",
            ),
            (
                9,
                "cannot add rule inbound/tunnel-port",
                "modprobe -a nft_redir",
            ),
        ] {
            let before = state();
            // Which receive it is that holds the rehearsal's answer is not known.
            let told = (1..40).find_map(|receive| {
                let (code, output, _) = answered(receive, message, ENOENT, &["preflight"]);
                output.contains(operation).then_some((code, output))
            });
            let (code, output) = told.expect("an answer to the rehearsal");
            // A run would use iptables instead, and preflight says so.
            assert_eq!(code, 0, "{output}");
            assert!(output.contains("note     nf_tables: cannot"), "{output}");
            assert!(output.contains(words), "{output}");
            assert!(output.contains("iptables is used instead"), "{output}");
            assert_eq!(state(), before);
        }
    });
}

#[test]
fn tproxy_with_lo_down_names_lo() {
    in_namespace(|| {
        ran(&["ip", "link", "set", "lo", "down"]);
        for backend in BACKENDS {
            let mut command = vec![PROGRAM];
            command.extend(apply(backend));
            command.extend(["-m", "TPROXY", "--ipv6", "always"]);
            fails(&command, 7, &["ENETDOWN", "ip link set lo up"]);
        }
    });
}

/// A folder that stands before others in `PATH`, with programs that fail as the real ones under
/// strace do.
struct Failing(PathBuf);

impl Failing {
    fn new(name: &str, inject: &str) -> Self {
        let pid = std::process::id();
        let folder = std::env::temp_dir().join(format!("shunt-failing-{pid}-{name}"));
        fs::create_dir(&folder).unwrap();
        for family in ["iptables", "ip6tables"] {
            for what in ["", "-save", "-restore"] {
                let program = format!("{family}-{name}{what}");
                let script = format!(
                    "#!/bin/sh\nexec strace -o /dev/null -e inject={inject} /usr/sbin/{program} \"$@\"\n"
                );
                let path = folder.join(program);
                fs::write(&path, script).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        Self(folder)
    }

    fn path(&self) -> String {
        // The programs are run with an empty environment, in which `sh` has a path of its own.
        format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", self.0.display())
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let _left = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn errors_that_iptables_programs_meet_have_the_code_and_the_remedy_of_their_cause() {
    in_namespace(|| {
        for (name, inject, code, words) in [
            // No raw socket, though the capabilities are there.
            (
                "legacy",
                "socket:error=EPERM",
                10,
                "in another user namespace",
            ),
            // No such table.
            (
                "legacy",
                "getsockopt:error=ENOPROTOOPT",
                5,
                "modprobe -a iptable_raw",
            ),
            (
                "legacy",
                "getsockopt:error=ENOENT",
                5,
                "modprobe -a iptable_raw",
            ),
            // No such match or target, which the program does not say.
            ("legacy", "setsockopt:error=ENOENT", 7, "xt_owner"),
            ("nft", "socket:error=EPERM", 10, "in another user namespace"),
            (
                "nft",
                "socket:error=EPROTONOSUPPORT",
                5,
                "--backend iptables-legacy",
            ),
        ] {
            let failing = Failing::new(name, inject);
            let path = failing.path();
            let backend = format!("iptables-{name}");
            let command = ["env", path.as_str(), PROGRAM];
            fails(&[&command, &apply(&backend)[..]].concat(), code, &[words]);
        }
    });
}

#[test]
fn programs_that_are_not_there_have_a_code_of_their_own() {
    in_namespace(|| {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        for folder in ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"] {
            mount(Some("none"), folder, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        }
        for backend in ["iptables", "iptables-nft", "iptables-legacy"] {
            let (code, _, error) = ran(&[&[PROGRAM], &apply(backend)[..]].concat());
            assert_eq!(code, 8, "{error}");
            assert!(error.contains("install the package iptables"), "{error}");
        }
        let (code, output, _) = ran(&[PROGRAM, "preflight"]);
        assert_eq!(code, 0, "{output}");
        let line = "note     iptables-nft-restore: is not there";
        assert!(output.contains(line), "{output}");
    });
}

#[test]
fn a_kernel_parameter_that_is_read_only_is_told_before_any_rule_is_written() {
    in_namespace(|| {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let sys = Some("/proc/sys");
        mount(sys, "/proc/sys", none, MsFlags::MS_BIND, none).unwrap();
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(sys, "/proc/sys", none, read_only, none).unwrap();
        for backend in BACKENDS {
            let command = [
                PROGRAM,
                "linkerd-init",
                "--incoming-proxy-port",
                "4143",
                "--outgoing-proxy-port",
                "4140",
                "--proxy-uid",
                "2102",
                "--timeout-close-wait-secs",
                "9",
                "--backend",
                backend,
            ];
            fails(
                &command,
                4,
                &["nf_conntrack_tcp_timeout_close_wait", "privileged"],
            );
        }
        let (code, output, _) = ran(&[PROGRAM, "preflight"]);
        assert_eq!(code, 0, "{output}");
        assert!(
            output.contains("note     /proc/sys: is read only"),
            "{output}"
        );
    });
}

#[test]
fn what_preflight_finds_missing_goes_where_kubernetes_looks_for_it() {
    in_namespace(|| {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let pid = std::process::id();
        let log = std::env::temp_dir().join(format!("shunt-termination-of-preflight-{pid}"));
        fs::write(&log, "").unwrap();
        // As the kubelet does, over a file of another file system: a devtmpfs may hold none.
        let made = fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .open("/dev/termination-log");
        mount(
            Some(&log),
            "/dev/termination-log",
            none,
            MsFlags::MS_BIND,
            none,
        )
        .unwrap();
        ran(&["nft", "add", "table", "inet", "shunt"]);
        let (code, _, error) = ran(&[PROGRAM, "preflight"]);
        let told = fs::read_to_string(&log).unwrap();
        nix::mount::umount("/dev/termination-log").unwrap();
        if made.is_ok() {
            fs::remove_file("/dev/termination-log").unwrap();
        }
        fs::remove_file(&log).unwrap();
        assert_eq!(code, 6, "{error}");
        assert!(
            told.contains("a table inet shunt exists that Shunt did not write"),
            "{told}"
        );
    });
}

#[test]
fn chains_of_others_in_legacy_tables_are_noted_too() {
    in_namespace(|| {
        ran(&["iptables-legacy", "-t", "nat", "-N", "PROXY_INIT_REDIRECT"]);
        ran(&["ip6tables-legacy", "-t", "nat", "-N", "ISTIO_INBOUND"]);
        let (code, output, _) = ran(&[PROGRAM, "preflight"]);
        assert_eq!(code, 0, "{output}");
        for words in [
            "note     other rules: Linkerd's proxy-init has chains here (PROXY_INIT_REDIRECT)",
            "note     other rules: istio-iptables has chains here (ISTIO_INBOUND)",
        ] {
            assert!(output.contains(words), "{output}");
        }
    });
}

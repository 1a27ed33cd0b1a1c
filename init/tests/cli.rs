//! The program as a pod runs it: words, exit codes, and what it leaves behind.
//!
//! Needs root, `nft` and `strace`; without them the tests fail.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do, and are not marked as such"
)]

use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_shunt-init");
const INJECTOR: &str = "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x  -b * -d 15090,15021,15020";

/// Runs `test` in a fresh network namespace, which ends with it.
fn in_namespace(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
            test();
        });
        if let Err(panic) = inside.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Exit code, standard output, standard error.
struct Ran(i32, String, String);

fn ran(command: &mut Command) -> Ran {
    let output = command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("these tests need {command:?}: {error}"));
    Ran(
        output.status.code().unwrap_or(-1),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Runs the program; arguments are split at each space, so that two make an empty one.
fn init(arguments: &str) -> Ran {
    ran(Command::new(PROGRAM).args(arguments.split(' ')))
}

fn nft(command: &str) -> String {
    let Ran(code, output, error) = ran(Command::new("nft").arg(command));
    assert_eq!(code, 0, "nft {command}: {error}");
    output
}

#[test]
fn it_tells_version_commit_and_schema() {
    let Ran(code, output, _) = init("--version");
    assert_eq!(code, 0);
    let words: Vec<_> = output.split_whitespace().collect();
    let [name, version, "(commit", commit, "schema", "1)"] = words[..] else {
        panic!("{output}");
    };
    assert_eq!((name, version), ("shunt-init", env!("CARGO_PKG_VERSION")));
    let hash = commit.trim_end_matches(',');
    assert!(hash == "unknown" || (hash.len() == 12 && hash.bytes().all(|b| b.is_ascii_hexdigit())));
}

#[test]
fn help_promises_to_read_the_rules_back_and_no_more() {
    let Ran(code, output, _) = init("--help");
    assert_eq!(code, 0);
    assert!(output.contains("reads them back"), "{output}");
    assert!(!output.contains("prove"), "{output}");
}

#[test]
fn the_injectors_arguments_are_applied_once_and_removed() {
    in_namespace(|| {
        let apply = format!("istio-iptables {INJECTOR}");
        let Ran(code, output, error) = init(&apply);
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(
            output.starts_with("table inet shunt: created, "),
            "{output}"
        );
        let listed = nft("list ruleset");
        assert!(listed.contains("redirect to :15001"), "{listed}");
        let Ran(code, output, _) = init(&apply);
        assert!(
            output.starts_with("table inet shunt: unchanged, "),
            "{output}"
        );
        assert_eq!((code, nft("list ruleset")), (0, listed));
        let Ran(code, output, _) = init("remove");
        assert_eq!((code, output.as_str()), (0, "table inet shunt: removed\n"));
        assert_eq!(nft("list ruleset"), "");
        let Ran(code, output, _) = init("remove");
        assert_eq!(
            (code, output.as_str()),
            (0, "table inet shunt: there is none\n")
        );
    });
}

#[test]
fn a_side_of_which_nothing_is_captured_is_warned_of_and_no_error() {
    in_namespace(|| {
        for (arguments, outbound, inbound) in [
            ("istio-iptables", true, true),
            ("istio-iptables --dry-run", true, true),
            ("istio-iptables -i *", false, true),
            ("istio-iptables -b *", true, false),
            ("istio-iptables -i * -b *", false, false),
            ("istio-iptables --cleanup-only", false, false),
        ] {
            let Ran(code, output, error) = init(arguments);
            assert_eq!(code, 0, "{arguments}: {error}");
            assert!(!output.contains("captures nothing"), "{output}");
            let warned = |side: &str| {
                let warning = format!("shunt-init: warning: captures nothing {side} (no ");
                error.lines().any(|line| line.starts_with(&warning))
            };
            assert_eq!(
                (warned("outbound"), warned("inbound")),
                (outbound, inbound),
                "{arguments}: {error}"
            );
        }
    });
}

#[test]
fn by_the_name_of_the_original_it_takes_the_originals_arguments() {
    in_namespace(|| {
        let mut command = Command::new(PROGRAM);
        command.arg0("/usr/local/bin/istio-iptables");
        let Ran(code, output, error) = ran(command.args(INJECTOR.split(' ')));
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(output.contains("created"), "{output}");
        let mut command = Command::new(PROGRAM);
        command.arg0("istio-iptables");
        let Ran(code, output, _) = ran(command.arg("--cleanup-only"));
        assert_eq!((code, output.as_str()), (0, "table inet shunt: removed\n"));
    });
}

#[test]
fn a_dry_run_prints_what_would_be_written_and_changes_nothing() {
    in_namespace(|| {
        let Ran(code, text, _) = init(&format!("istio-iptables {INJECTOR} --dry-run"));
        assert_eq!((code, nft("list ruleset").as_str()), (0, ""));
        assert_eq!(init(&format!("istio-iptables {INJECTOR}")).0, 0);
        assert_eq!(
            ran(Command::new("nft").args(["-s", "list", "ruleset"])).1,
            text
        );
    });
}

#[test]
fn tproxy_dns_interfaces_and_groups_reach_the_kernel() {
    in_namespace(|| {
        let arguments = format!(
            "istio-iptables {INJECTOR} -m TPROXY -t 0x11 -r 77 --redirect-dns --capture-all-dns \
             -c eth7 -k vnet7 --drop-invalid"
        )
        .replacen("-m REDIRECT ", "", 1);
        let mut command = Command::new(PROGRAM);
        command.args(arguments.split(' '));
        let output = command
            .env("ISTIO_OUTBOUND_OWNER_GROUPS", "root,202")
            .env("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", "127.0.0.0/8")
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.as_str()), (Some(0), ""));
        let rules = nft("list ruleset");
        for words in [
            "tproxy to :15006",
            "meta mark set 0x00000011",
            "udp dport 53",
            "iifname \"eth7\"",
            "iifname \"vnet7\"",
            "ct state invalid",
            "elements = { 0, 202 }",
            "127.0.0.0/8",
        ] {
            assert!(rules.contains(words), "{words}: {rules}");
        }
        assert!(ip("rule").contains("fwmark 0x11 lookup 77"));
        let Ran(code, _, error) = init(&format!("istio-iptables {INJECTOR}"));
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(!nft("list ruleset").contains("tproxy"));
        assert!(!ip("rule").contains("fwmark"));
    });
}

#[test]
fn another_network_namespace_is_entered_and_this_one_left_alone() {
    in_namespace(|| {
        let here = format!("/proc/self/task/{}/ns/net", gettid());
        let here = std::fs::read_link(here).unwrap();
        thread::scope(|scope| {
            let (ready, path) = std::sync::mpsc::channel();
            let (done, wait) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                let own = format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid());
                ready.send((own, nft("list ruleset"))).unwrap();
                let _closed = wait.recv();
                assert!(nft("list ruleset").contains("redirect to :15001"));
            });
            let (other, before) = path.recv().unwrap();
            assert_eq!(before, "");
            assert_ne!(std::fs::read_link(&other).unwrap(), here);
            let Ran(code, output, error) = init(&format!(
                "istio-iptables {INJECTOR} --network-namespace {other}"
            ));
            assert_eq!((code, error.as_str()), (0, ""));
            assert!(output.contains("created"), "{output}");
            assert_eq!(nft("list ruleset"), "");
            let mut command = Command::new("setpriv");
            command.args([
                "--bounding-set=-sys_admin",
                "--inh-caps=-sys_admin",
                PROGRAM,
            ]);
            command.args(["istio-iptables", "--network-namespace", &other]);
            let Ran(code, _, error) = ran(&mut command);
            assert_eq!(code, 4, "{error}");
            assert!(error.contains("CAP_SYS_ADMIN is missing"), "{error}");
            drop(done);
        });
        for (path, words) in [
            (
                "/nowhere/ns",
                "cannot open the network namespace /nowhere/ns",
            ),
            ("/proc/self/ns/uts", "cannot enter the network namespace"),
        ] {
            let Ran(code, _, error) = init(&format!("istio-iptables --network-namespace {path}"));
            assert_eq!(code, 2, "{error}");
            assert!(error.contains(words), "{error}");
        }
    });
}

#[test]
fn a_dry_run_writes_its_file_too() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let run = |file: &std::path::Path| {
            let mut command = Command::new(PROGRAM);
            command.args(["istio-iptables", "-i", "*", "-b", "*", "-n"]);
            command.env("DRY_RUN_FILE_PATH", file).output().unwrap()
        };
        let file = folder.path().join("rules");
        let output = run(&file);
        assert!(output.status.success());
        assert!(!output.stdout.is_empty());
        assert_eq!(std::fs::read(&file).unwrap(), output.stdout);
        let output = run(&folder.path().join("none/rules"));
        assert_eq!(output.status.code(), Some(2));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("none/rules: No such file"), "{error}");
    });
}

#[test]
fn rules_are_left_to_the_cni_plugin_if_asked() {
    in_namespace(|| {
        let Ran(code, output, error) =
            init(&format!("istio-iptables {INJECTOR} --skip-rule-apply"));
        assert_eq!((code, error.as_str()), (0, ""));
        assert_eq!(output, "no rules are written, as asked\n");
        assert_eq!(nft("list ruleset"), "");
    });
}

#[test]
fn wrong_and_unsupported_arguments_have_their_own_codes_and_change_nothing() {
    in_namespace(|| {
        for (arguments, code, words) in [
            ("istio-iptables -p 0", 2, "-p '0' (--envoy-port)"),
            ("istio-iptables -p -1", 2, "-p '-1' (--envoy-port)"),
            ("istio-iptables --no-such-flag", 2, "--no-such-flag"),
            (
                "istio-iptables -b 80 -b 90",
                2,
                "cannot be used multiple times",
            ),
            ("istio-iptables stray", 2, "stray"),
            ("apply", 2, "apply"),
            ("istio-iptables -b * -m NONE", 2, "use REDIRECT or TPROXY"),
        ] {
            let Ran(found, output, error) = init(arguments);
            assert_eq!((found, output.as_str()), (code, ""), "{arguments}: {error}");
            assert!(error.contains(words), "{arguments}: {error}");
        }
        let mut command = Command::new(PROGRAM);
        command.args(["istio-iptables"]);
        command.env("PROXY_UID", "joe");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.starts_with("shunt-init: PROXY_UID=joe has the item `joe`"),
            "{error}"
        );
        assert_eq!(nft("list ruleset"), "");
    });
}

#[test]
fn with_log_as_json_each_message_is_an_object_on_its_line() {
    let messages = |text: &str| {
        let read = |line: &str| {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            let field = |name: &str| object[name].as_str().unwrap().to_owned();
            (field("level"), field("message"))
        };
        text.lines().map(read).collect::<Vec<_>>()
    };
    in_namespace(|| {
        let Ran(code, output, error) = init(&format!("istio-iptables {INJECTOR} --log_as_json"));
        assert_eq!((code, error.as_str()), (0, ""));
        let [(level, message)] = &messages(&output)[..] else {
            panic!("{output}");
        };
        assert_eq!(level, "info");
        assert!(
            message.starts_with("table inet shunt: created, "),
            "{message}"
        );
        for (arguments, code, words) in [
            ("-p 0", 2, "-p '0' (--envoy-port)"),
            ("--no-such-flag", 2, "--no-such-flag"),
        ] {
            let Ran(found, output, error) =
                init(&format!("istio-iptables --log_as_json {arguments}"));
            assert_eq!((found, output.as_str()), (code, ""), "{error}");
            let [(level, message)] = &messages(&error)[..] else {
                panic!("{error}");
            };
            assert_eq!(level, "error");
            assert!(message.contains(words), "{message}");
        }
    });
}

#[test]
fn without_the_capability_it_says_which_one() {
    in_namespace(|| {
        for verb in ["istio-iptables", "remove"] {
            let Ran(code, _, error) = ran(Command::new(PROGRAM).arg(verb).uid(65534));
            assert_eq!(code, 4, "{error}");
            assert!(error.contains("NET_ADMIN"), "{error}");
        }
        let mut dry_run = Command::new(PROGRAM);
        let Ran(code, output, _) = ran(dry_run.args(["istio-iptables", "-n"]).uid(65534));
        assert_eq!(code, 0, "looking needs no privilege");
        assert!(output.starts_with("table inet shunt {"), "{output}");
    });
}

#[test]
fn a_foreign_table_of_its_name_is_a_conflict() {
    in_namespace(|| {
        nft("add table inet shunt { comment \"mine\"; }");
        let before = nft("list ruleset");
        for verb in ["istio-iptables", "remove"] {
            let Ran(code, _, error) = init(verb);
            assert_eq!(code, 6, "{error}");
            assert!(error.contains("its comment is `mine`"), "{error}");
        }
        assert_eq!(nft("list ruleset"), before);
    });
}

#[test]
fn what_the_kernel_lacks_or_refuses_is_told_apart() {
    in_namespace(|| {
        for (injected, code, words) in [
            ("socket:error=EPROTONOSUPPORT:when=1", 5, "no nf_tables"),
            (
                "socket:error=EACCES:when=1",
                7,
                "cannot open a netlink socket",
            ),
            (
                "socket:error=EMFILE:when=1",
                7,
                "raise its limit of open files",
            ),
            (
                "socket:error=EMFILE:when=2",
                7,
                "raise its limit of open files",
            ),
            (
                "sendto:error=ENOBUFS:when=1",
                7,
                "cannot send to the kernel",
            ),
            (
                "recvfrom:error=ENOBUFS:when=1",
                7,
                "cannot receive from the kernel",
            ),
        ] {
            let mut command = Command::new("strace");
            command.args(["-o", "/dev/null", "-e", &format!("inject={injected}")]);
            let Ran(found, _, error) =
                ran(command.args([PROGRAM, "istio-iptables", "--native-nftables", "-i", "*"]));
            assert_eq!(found, code, "{injected}: {error}");
            assert!(error.contains(words), "{injected}: {error}");
            assert_eq!(nft("list ruleset"), "");
        }
    });
}

fn ip(arguments: &str) -> String {
    let Ran(code, output, error) = ran(Command::new("ip").args(arguments.split(' ')));
    assert_eq!(code, 0, "ip {arguments}: {error}");
    output
}

#[test]
fn ipv6_disabled_on_lo_fails_closed_and_both_remedies_are_told() {
    in_namespace(|| {
        ip("link set lo up");
        ip("link add inner type veth peer name outer");
        ip("addr add 2001:db8::2/64 dev inner nodad");
        ip("link set inner up");
        ip("link set outer up");
        let without = ran(Command::new("sysctl").args(["-qw", "net.ipv6.conf.lo.disable_ipv6=1"]));
        assert_eq!(without.0, 0, "{}", without.2);
        let Ran(code, output, error) = init(&format!("istio-iptables {INJECTOR}"));
        assert_eq!(code, 0, "{error}");
        assert!(!output.contains("lo:"), "{output}");
        for words in [
            "shunt-init: warning: IPv6 is disabled on lo",
            "neither inbound nor outbound ones will be served",
            "`sysctl net.ipv6.conf.lo.disable_ipv6=0`",
            "`--ipv6 off` if IPv6 may pass the mesh by",
        ] {
            assert!(error.contains(words), "{error}");
        }
        let peer = "[2001:db8::9]:80".parse().unwrap();
        let refused = TcpStream::connect_timeout(&peer, Duration::from_millis(300));
        assert!(refused.is_err(), "{refused:?}");
        let captured = nft("list chain inet shunt nat_output");
        let captured = captured
            .lines()
            .find(|line| line.contains("redirect to :15001"));
        assert!(!captured.unwrap().contains("packets 0 "), "{captured:?}");

        let Ran(code, output, error) = init(&format!("istio-iptables {INJECTOR} --ipv6 off"));
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(output.contains("IPv6 passes uncaptured"), "{output}");
        ran(Command::new("sysctl").args(["-qw", "net.ipv6.conf.lo.disable_ipv6=0"]));
        let Ran(code, output, error) = init(&format!("istio-iptables {INJECTOR}"));
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(output.contains("lo: added ::6/128"), "{output}");
        let addresses = ip("-6 -o addr show dev lo");
        assert!(addresses.contains(" ::1/128"), "{addresses}");
    });
}

/// Also the address that precedes the rules is taken back.
#[test]
fn a_run_that_cannot_send_any_one_of_its_messages_leaves_all_or_nothing() {
    in_namespace(|| {
        ip("link set lo up");
        ip("link add inner type veth peer name outer");
        ip("addr add 2001:db8::2/64 dev inner nodad");
        ip("link set inner up");
        ip("link set outer up");
        let addresses = ip("-6 -o addr show dev lo");
        let both = "-i * -b *";
        let refused = (1..100).take_while(|nth| {
            let inject = format!("inject=sendto:error=ENOMEM:when={nth}");
            let mut command = Command::new("strace");
            command.args(["-o", "/dev/null", "-e", &inject, PROGRAM, "istio-iptables"]);
            let Ran(code, _, error) = ran(command.args(both.split(' ')));
            if code == 0 {
                return false;
            }
            if nft("list ruleset").is_empty() {
                assert_eq!(ip("-6 -o addr show dev lo"), addresses, "{nth}: {error}");
            } else {
                // They could not be read back; then all is there, and this takes it away.
                assert!(
                    ip("-6 -o addr show dev lo").contains("::6/128"),
                    "{nth}: {error}"
                );
                assert!(
                    init(&format!("istio-iptables {both}"))
                        .1
                        .contains("unchanged")
                );
                assert_eq!(init("remove").0, 0);
            }
            true
        });
        let refused = refused.count();
        assert!((5..99).contains(&refused), "{refused} messages were sent");
        assert!(ip("-6 -o addr show dev lo").contains("::6/128"));
    });
}

//! The program as a pod runs it: words, exit codes, and what it leaves behind.
//!
//! Needs root, `nft` and `strace`; without them the tests fail.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do, and are not marked as such"
)]

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
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
fn help_tells_that_the_rules_are_proved() {
    let Ran(code, output, _) = init("--help");
    assert_eq!(code, 0);
    assert!(output.contains("proves them"), "{output}");
    assert!(output.contains("--verify"), "{output}");
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

const POLICY: &str = "apiVersion: shunt.dev/v1\nkind: CapturePolicy\nspec:\n  outbound:\n    \
                      excludeCidrs: [10.9.0.0/16]\n    excludePorts: [9000-9010]\n";

/// With this on standard input.
fn init_reading(arguments: &[&str], input: &str) -> Ran {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    Ran(
        output.status.code().unwrap_or(-1),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn warnings_name_the_flag_or_the_field_that_was_written() {
    in_namespace(|| {
        ip("link add eth0 type veth peer name outer");
        ip("addr add 10.0.0.2/24 dev eth0");
        let excluding = |what: &str| {
            format!("apiVersion: shunt.dev/v1\nkind: CapturePolicy\nspec: {{{what}}}\n")
        };
        let nothing = excluding("outbound: {excludeCidrs: [0.0.0.0/0]}");
        for (arguments, input, words) in [
            (
                &["apply", "--exclude-outbound-cidrs=0.0.0.0/0"][..],
                "",
                "--exclude-outbound-cidrs excludes every IPv4 address",
            ),
            (
                &["apply", "--policy=-"],
                &nothing,
                "outbound.excludeCidrs excludes every IPv4 address",
            ),
            (
                &[
                    "apply",
                    "--policy=-",
                    "--exclude-outbound-cidrs=0.0.0.0/1,128.0.0.0/1",
                ],
                &nothing,
                "--exclude-outbound-cidrs excludes every IPv4 address",
            ),
            (
                &["istio-iptables", "-i*", "-b*", "-x0.0.0.0/0"],
                "",
                "-x excludes every IPv4 address",
            ),
            (
                &[
                    "linkerd-init",
                    "-p1",
                    "-o2",
                    "-u3",
                    "--outbound-ports-to-ignore=1-65535",
                ],
                "",
                "--outbound-ports-to-ignore excludes every port",
            ),
            (
                &["apply", "--exclude-interfaces=e+"],
                "",
                "--exclude-interfaces names every interface of the pod that has an address (eth0)",
            ),
            (
                &["istio-iptables", "-i*", "-b*", "-ceth1,eth+"],
                "",
                "-c names every interface of the pod that has an address (eth0)",
            ),
        ] {
            let Ran(code, _, error) = init_reading(arguments, input);
            assert_eq!(code, 0, "{arguments:?}: {error}");
            let warning = format!("shunt-init: warning: {words}");
            assert!(error.starts_with(&warning), "{arguments:?}: {error}");
            assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
        }
    });
}

#[test]
fn apply_without_arguments_writes_what_the_injector_asks_for() {
    in_namespace(|| {
        let Ran(code, output, error) = init("apply");
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(output.contains("created"), "{output}");
        let Ran(_, output, _) = init(&format!("istio-iptables {INJECTOR}"));
        assert!(output.contains("unchanged"), "{output}");
    });
}

#[test]
fn a_policy_file_is_applied_and_flags_replace_what_it_says() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.yaml");
        std::fs::write(&file, POLICY).unwrap();
        let file = file.to_str().unwrap();
        let Ran(code, _, error) = init(&format!("apply --policy {file}"));
        assert_eq!((code, error.as_str()), (0, ""));
        let rules = nft("list table inet shunt");
        assert!(rules.contains("10.9.0.0/16"), "{rules}");
        assert!(rules.contains("9000-9010"), "{rules}");
        let Ran(code, output, error) = init_reading(&["apply", "--policy", "-"], POLICY);
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(output.contains("unchanged"), "{output}");
        let Ran(code, _, error) = init(&format!(
            "apply --policy {file} --exclude-outbound-cidrs 10.8.0.0/16 --dns all"
        ));
        assert_eq!((code, error.as_str()), (0, ""));
        let rules = nft("list table inet shunt");
        assert!(rules.contains("10.8.0.0/16"), "{rules}");
        assert!(!rules.contains("10.9.0.0/16"), "{rules}");
        assert!(rules.contains("9000-9010"), "{rules}");
        assert!(rules.contains("redirect to :15053"), "{rules}");

        let wrong = POLICY.replace("9000-9010", "9010-9000");
        let Ran(code, _, error) = init_reading(&["apply", "--policy", "-"], &wrong);
        assert_eq!(code, 2, "{error}");
        assert!(
            error.starts_with(
                "shunt-init: standard input: line 6, column 20: spec.outbound.excludePorts[0] is `9010-9000`: "
            ),
            "{error}"
        );
        let mut command = Command::new("sh");
        let latin = format!("printf 'kind: \\351' | {PROGRAM} apply --policy -");
        let Ran(code, _, error) = ran(command.args(["-c", &latin]));
        assert_eq!(code, 2, "{error}");
        assert_eq!(
            error,
            "shunt-init: standard input: line 1, column 7: the byte 0xe9 is not UTF-8; save the file \
             as UTF-8\n"
        );
        assert_eq!(nft("list table inet shunt"), rules);
    });
}

#[test]
fn the_effective_policy_of_any_arguments_can_be_applied_instead_of_them() {
    in_namespace(|| {
        ip("link set lo up");
        for arguments in [
            "apply",
            "apply --tproxy --exclude-inbound-ports 1,5-7 --exclude-interfaces eth1",
            "istio-iptables -i * -b 80,8000:8010 -m TPROXY -u 7,8 --redirect-dns \
             --capture-all-dns -o 22 -x 10.0.0.0/8,fd00::/8 --ipv6 on",
            "istio-iptables",
            "linkerd-init -p 4143 -o 4140 -u 2102 --inbound-ports-to-ignore 25,8000-8010 \
             --subnets-to-ignore 10.0.0.0/8,fd00::/8",
        ] {
            let Ran(code, policy, error) = init(&format!("policy {arguments}"));
            assert_eq!((code, error.as_str()), (0, ""), "{arguments}");
            assert_eq!(nft("list ruleset"), "");
            let Ran(code, _, error) = init(arguments);
            assert_eq!(code, 0, "{arguments}: {error}");
            let Ran(code, output, error) = init_reading(&["apply", "--policy", "-"], &policy);
            assert_eq!(code, 0, "{policy}: {error}");
            assert!(
                output.contains("unchanged"),
                "{arguments}: {output}{policy}"
            );
            assert_eq!(init("remove").0, 0);
        }
    });
}

#[test]
fn linkerds_program_is_replaced_by_name() {
    in_namespace(|| {
        let arguments = "--incoming-proxy-port 4143 --outgoing-proxy-port 4140 --proxy-uid 2102 \
                         --inbound-ports-to-ignore 4190,4191,4567-4568 --ipv6=false";
        let mut command = Command::new(PROGRAM);
        command.arg0("/usr/lib/linkerd/proxy-init");
        let Ran(code, output, error) = ran(command.args(arguments.split(' ')));
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(output.contains("created"), "{output}");
        let rules = nft("list ruleset");
        assert_eq!(rules.matches("redirect to").count(), 2, "{rules}");
        let Ran(code, text, _) = init(&format!("linkerd-init {arguments} --simulate"));
        assert_eq!(code, 0);
        assert_eq!(
            ran(Command::new("nft").args(["-s", "list", "ruleset"])).1,
            text
        );
    });
}

#[test]
fn the_timeout_of_linkerds_is_set_or_it_is_told_why_not() {
    in_namespace(|| {
        let arguments = "linkerd-init -p 4143 -o 4140 -u 2102 --timeout-close-wait-secs";
        let Ran(code, _, error) = init(&format!("{arguments} 3601"));
        assert_eq!((code, error.as_str()), (0, ""));
        let name = "net.netfilter.nf_conntrack_tcp_timeout_close_wait";
        assert_eq!(ran(Command::new("sysctl").args(["-n", name])).1, "3601\n");
        assert_eq!(init("remove").0, 0);
        for (injected, code, words) in [
            ("EROFS", 4, "/proc/sys is read only in containers"),
            ("EACCES", 4, "/proc/sys is read only in containers"),
            ("ENOENT", 5, "modprobe nf_conntrack"),
        ] {
            let mut command = Command::new("strace");
            let path = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";
            let inject = format!("inject=openat:error={injected}");
            command.args(["-o", "/dev/null", "-P", path, "-e", &inject, PROGRAM]);
            command.args(arguments.split(' ')).arg("60");
            let Ran(found, _, error) = ran(&mut command);
            assert_eq!(found, code, "{error}");
            assert!(error.contains(words), "{error}");
            assert_eq!(nft("list ruleset"), "");
        }
    });
}

#[test]
fn an_init_container_that_runs_as_the_proxy_warns_of_the_application() {
    in_namespace(|| {
        let mut dry_run = Command::new(PROGRAM);
        let Ran(code, _, error) = ran(dry_run.args(["apply", "--dry-run"]).uid(1337).gid(1000));
        assert_eq!(code, 0, "{error}");
        assert!(
            error.contains("most likely the application, runs under the proxy's user id 1337"),
            "{error}"
        );
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
            ("applies", 2, "applies"),
            ("apply --dns never", 2, "--dns=never has the item `never`"),
            (
                "apply --proxy-uids  --proxy-gids ",
                2,
                "--proxy-uids= names nobody",
            ),
            (
                "apply --policy /nowhere.yaml",
                2,
                "cannot read the policy /nowhere.yaml: No such file",
            ),
            ("linkerd-init -p 4143 -o 4140", 2, "names nobody"),
            ("linkerd-init -o 4140 -u 2102", 2, "--incoming-proxy-port"),
            ("policy istio-iptables -p 0", 2, "-p '0' (--envoy-port)"),
            ("policy", 2, "linkerd-init"),
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
            ("socket:error=EACCES:when=1", 9, "forbids netlink sockets"),
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
        assert_eq!(code, 0, "{error}");
        assert!(
            error.starts_with("shunt-init: warning: the pod has an IPv6 address, but IPv6 is not"),
            "{error}"
        );
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

#[test]
fn list_shows_the_rules_with_counters_and_fields_and_diff_what_a_policy_would_change() {
    in_namespace(|| {
        nft("list ruleset");
        ran(Command::new("ip").args(["link", "set", "lo", "up"]));
        let Ran(code, output, _) = init("list");
        assert_eq!(code, 0);
        assert!(output.contains("Shunt has no rules"), "{output}");
        let asked = format!("istio-iptables {INJECTOR} -o 25");
        let Ran(code, output, error) = init(&format!("diff {asked}"));
        assert_eq!((code, error.as_str()), (3, ""));
        assert!(
            output.contains("there is none; it would be created with"),
            "{output}"
        );

        assert_eq!(init(&asked).0, 0);
        let Ran(code, output, _) = init(&format!("diff {asked}"));
        assert_eq!((code, output.as_str()), (0, ""));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let Ran(_, output, _) = init("list");
        let line = output
            .lines()
            .find(|line| line.contains("outbound/loopback-interface"));
        let line = line.unwrap_or_else(|| panic!("{output}"));
        assert!(line.trim_start().starts_with("1 packet "), "{line}");
        assert!(
            line.contains("oif \"lo\" return") && line.ends_with(']'),
            "{line}"
        );
        assert!(line.contains("outbound.capture"), "{line}");
        assert!(output.contains("set proxy_uids { 1337 }"), "{output}");

        let Ran(code, output, _) = init(&format!("diff istio-iptables {INJECTOR} -o 26"));
        assert_eq!(code, 3);
        assert_eq!(output, "set outbound_exclude_ports +26 -25\n");
        nft("flush chain inet shunt nat_prerouting");
        let Ran(code, output, _) = init(&format!("diff {asked}"));
        assert_eq!(code, 3);
        assert!(
            output.starts_with("chain nat_prerouting\n  + 1: "),
            "{output}"
        );
        nft("add rule inet shunt nat_output accept");
        let Ran(_, output, _) = init("list");
        assert!(output.contains("what Shunt does not write"), "{output}");
        let Ran(code, output, _) = init(&format!("diff {asked}"));
        assert_eq!(code, 3);
        assert!(output.contains("would be replaced"), "{output}");
    });
}

#[test]
fn list_and_diff_know_the_chains_of_iptables() {
    in_namespace(|| {
        let asked = "apply --backend iptables-legacy";
        let Ran(code, _, error) = init(asked);
        assert_eq!(code, 0, "{error}");
        let Ran(code, output, _) = init("list");
        assert_eq!(code, 0);
        assert!(output.contains(", IPv4\n*nat\n"), "{output}");
        assert!(output.contains("--uid-owner 1337"), "{output}");
        let Ran(code, output, _) = init(&format!("diff {asked}"));
        assert_eq!((code, output.as_str()), (0, ""));
        let Ran(code, output, _) = init(&format!("diff {asked} --exclude-outbound-ports 25"));
        assert_eq!(code, 3, "{output}");
        assert!(output.starts_with("IPv4: table nat: "), "{output}");
        let Ran(code, output, _) = init("diff apply --backend nft");
        assert_eq!(code, 3);
        assert!(
            output.contains("of an earlier run would be removed"),
            "{output}"
        );
    });
}

#[test]
fn a_validator_that_sees_no_capture_does_not_pass() {
    in_namespace(|| {
        ip("link set lo up");
        let arguments = format!("istio-iptables {INJECTOR} --skip-rule-apply --run-validation");
        let Ran(code, _, error) = init(&format!("{arguments} --probe-timeout 100ms"));
        assert_eq!(code, 126, "{error}");
        assert!(error.contains("uid 1337"), "{error}");
    });
}

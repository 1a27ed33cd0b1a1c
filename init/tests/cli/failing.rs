//! Runs that fail: the message, the code, and that nothing is half done.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::support::{INJECTOR, PROGRAM, Ran, in_namespace, init, ip, nft, ran};

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
        // The first socket is that of the turn.
        for (injected, code, words) in [
            ("socket:error=EPROTONOSUPPORT:when=2", 5, "no nf_tables"),
            ("socket:error=EACCES:when=2", 9, "forbids netlink sockets"),
            (
                "socket:error=EMFILE:when=2",
                7,
                "raise its limit of open files",
            ),
            (
                "socket:error=EMFILE:when=3",
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
fn a_validator_that_sees_no_capture_does_not_pass() {
    in_namespace(|| {
        ip("link set lo up");
        let arguments = format!("istio-iptables {INJECTOR} --skip-rule-apply --run-validation");
        let Ran(code, _, error) = init(&format!("{arguments} --probe-timeout 100ms"));
        assert_eq!(code, 126, "{error}");
        assert!(error.contains("uid 1337"), "{error}");
    });
}

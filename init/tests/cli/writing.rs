//! What a run writes, and under which name and in whose words it is asked for.

use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

use crate::support::{INJECTOR, PROGRAM, Ran, in_namespace, init, ip, nft, ran};

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
        nft("add table inet shunt");
        assert_eq!(init(&format!("{arguments} 77")).0, 6);
        assert_eq!(ran(Command::new("sysctl").args(["-n", name])).1, "3601\n");
    });
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
            "`--ipv6 never` if IPv6 may pass the mesh by",
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

        let Ran(code, output, error) = init(&format!("istio-iptables {INJECTOR} --ipv6 never"));
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

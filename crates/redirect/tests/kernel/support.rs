//! A namespace for each test, and what other tools see in it.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use shunt_redirect::CaptureConfig;
use shunt_redirect::compat::Accounts;
use shunt_redirect::compat::istio::IstioArgs;

/// Runs `test` in a fresh network namespace, which ends with it. `lo` is up.
pub(crate) fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
            ip("link set lo up");
            test()
        });
        match inside.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The same, in a pod with an IPv4 and an IPv6 address on a link of its own.
pub(crate) fn in_pod<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    in_namespace(|| {
        ip("link add eth0 type veth peer name peer0");
        // Without link-local addresses, whose state changes while they are checked for duplicates.
        ip("link set eth0 addrgenmode none");
        ip("link set peer0 addrgenmode none");
        ip("addr add 10.9.0.2/24 dev eth0");
        ip("addr add fd00:9::2/64 dev eth0 nodad");
        ip("link set peer0 up");
        ip("link set eth0 up");
        links_are_settled();
        test()
    })
}

/// The kernel brings links up some time after it was told to; what is seen before would differ.
fn links_are_settled() {
    let deadline = Instant::now() + Duration::from_secs(60);
    while ["eth0", "peer0"].iter().any(|link| {
        let up = ip(&format!("link show {link}")).contains("state UP");
        !up || !ip("-6 route show table local").contains(&format!("multicast ff00::/8 dev {link}"))
    }) || !ip("-6 route show table local").contains("local fd00:9::2 dev eth0")
    {
        assert!(Instant::now() < deadline, "{}", everything());
        thread::sleep(Duration::from_millis(5));
    }
}

/// The same of one link, whose addresses may be used then.
pub(crate) fn link_is_settled(link: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let state = ip(&format!("-d -o addr show dev {link}"));
        if ip(&format!("link show {link}")).contains("state UP") && !state.contains("tentative") {
            return;
        }
        assert!(Instant::now() < deadline, "{state}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Standard output of a program that must succeed. It runs in the calling thread's namespace.
pub(crate) fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("these tests need `{program}`: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("tools print UTF-8")
}

/// What a line of the shell prints; each of its programs must succeed.
pub(crate) fn shell(line: &str) -> String {
    output("bash", &["-o", "pipefail", "-ec", line])
}

pub(crate) fn ip(arguments: &str) -> String {
    output("ip", &arguments.split(' ').collect::<Vec<_>>())
}

pub(crate) fn nft(command: &str) -> String {
    output("nft", &[command])
}

/// Loads rules from text.
pub(crate) fn nft_file(text: &str) {
    input("nft", &["-f", "-"], text);
}

/// Has a program that must succeed read a text.
pub(crate) fn input(program: &str, arguments: &[&str], text: &str) {
    use std::io::Write as _;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("these tests need `{program}`: {error}"));
    let mut input = child.stdin.take().expect("it was asked for");
    input
        .write_all(text.as_bytes())
        .expect("the program reads its input");
    drop(input);
    let status = child.wait().expect("the program ends");
    assert!(status.success(), "{program}: {text}");
}

/// Our table as `nft` lists it, without counter values, long lists on one line.
pub(crate) fn listed() -> String {
    let text = output("nft", &["-s", "list", "table", "inet", "shunt"]);
    text.replace(",\n\t\t\t     ", ", ")
}

/// All that `remove` promises to leave as it was.
pub(crate) fn everything() -> String {
    let all = [
        output("nft", &["-s", "list", "ruleset"]),
        ip("-d -o addr show"),
        ip("rule show"),
        ip("-6 rule show"),
        ip("route show table all"),
        ip("-6 route show table all"),
    ]
    .join("\n---\n");
    // The kernel's own route to an address follows it some time later.
    let lines = all.split_inclusive('\n');
    lines
        .filter(|line| !line.starts_with("local ::6 dev lo"))
        .collect()
}

/// The generation of nf_tables: it changes with every transaction.
pub(crate) fn generation() -> u32 {
    let socket = netlink_sys::Socket::new(12).expect("netfilter's netlink");
    // GETGEN: length 20, type (10 << 8) | 16, flags REQUEST; then family inet.
    let mut request = vec![20, 0, 0, 0, 16, 10, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    request.extend([1, 0, 0, 0]);
    socket.send(&request, 0).expect("send GETGEN");
    let mut reply = Vec::with_capacity(4096);
    socket.recv(&mut reply, 0).expect("receive NEWGEN");
    // Header 16, nfgenmsg 4, attribute header 4, then the id.
    u32::from_be_bytes(reply[24..28].try_into().expect("NEWGEN starts with the id"))
}

/// The policy that these arguments of `istio-iptables` ask for.
pub(crate) fn policy(arguments: &[&str]) -> CaptureConfig {
    parse(arguments)
        .parse(|_variable| None, &Accounts::in_folder("/nowhere"))
        .expect("valid arguments")
        .config
}

fn parse(arguments: &[&str]) -> IstioArgs {
    use clap::{Args as _, FromArgMatches as _};
    let command = IstioArgs::augment_args(clap::Command::new("istio-iptables"));
    let arguments = ["istio-iptables"].iter().chain(arguments);
    let matches = command
        .try_get_matches_from(arguments)
        .expect("known flags");
    IstioArgs::from_arg_matches(&matches).expect("known flags")
}

/// What Istio's injector passes when nothing is annotated.
pub(crate) const INJECTOR: [&str; 16] = [
    "-p",
    "15001",
    "-z",
    "15006",
    "-u",
    "1337",
    "-m",
    "REDIRECT",
    "-i",
    "*",
    "-x",
    "",
    "-b",
    "*",
    "-d",
    "15090,15021,15020",
];

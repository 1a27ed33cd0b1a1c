//! What is wrong with arguments, and the remedy.

use super::{arguments, parse};
#[test]
fn what_is_wrong_is_named_with_its_remedy() {
    for (list, message) in [
        (
            &["-p", "0"][..],
            "-p '0' (--envoy-port) has the item `0`: a port is a number from 1 to 65535",
        ),
        (
            &["-p", "-1"],
            "-p '-1' (--envoy-port) has the item `-1`: a port is a number from 1 to 65535",
        ),
        (
            &["-u", "-2"],
            "-u '-2' (--proxy-uid) has the item `-2`: an id is a number",
        ),
        (&["-p", "65536"], "a port is a number from 1 to 65535"),
        (
            &["-p", "015001"],
            "the item `015001`: a zero before a number makes it octal to some programs",
        ),
        (&["-u", "01337"], "a zero before a number makes it octal"),
        (
            &["-z", "http"],
            "-z 'http' (--inbound-capture-port) has the item `http`",
        ),
        (&["-p", "+80"], "`+80`: a port is a number"),
        (
            &["-d", "80,,90"],
            "-d '80,,90' (--istio-local-exclude-ports) has an empty item: remove the comma",
        ),
        (&["-d", "80,"], "has an empty item"),
        (&["-b", "*,80"], "the item `*`: `*` stands alone"),
        (
            &["-o", "90:80"],
            "the item `90:80`: a range goes from the smaller",
        ),
        (&["-o", "0:80"], "the item `0`"),
        (
            &["-u", "istio-proxy"],
            "the item `istio-proxy`: an id is a number from 0 to 4294967294; names are not looked up",
        ),
        (&["-u", "4294967295"], "an id is a number"),
        (&["-g", "1,-2"], "the item `-2`: an id is a number"),
        (
            &["-i", "10.0.0.0/33"],
            "the item `10.0.0.0/33`: a CIDR block is",
        ),
        (
            &["-i", "example.com"],
            "the item `example.com`: a CIDR block is",
        ),
        (
            &["-x", "*"],
            "-x '*' (--istio-service-exclude-cidr) has the item `*`",
        ),
        (
            &["-m", "redirect"],
            "-m 'redirect' (--istio-inbound-interception-mode) is not one of: 'REDIRECT', 'TPROXY'",
        ),
        (&["-m", "NONE"], "means that no rules are written at all"),
        (
            &["--ipv6", "on"],
            "--ipv6=on is not one of: 'auto', 'istio', 'always', 'never'",
        ),
        (
            &["-t", "0"],
            "-t '0' (--istio-inbound-tproxy-mark) has the item `0`: a mark is",
        ),
        (&["-t", "0x"], "a mark is a number"),
        (&["-t", "1337/0xff"], "a mark is a number"),
        (
            &["-m", "TPROXY", "-t", "1338"],
            "-t '1338' (--istio-inbound-tproxy-mark) is 1338, which marks the proxy's calls",
        ),
        (
            &["-m", "TPROXY", "-r", "254"],
            "-r '254' (--istio-inbound-tproxy-route-table) is 254: 0 is no table, and 253",
        ),
        (
            &["-r", "main"],
            "the item `main`: a route table is a number",
        ),
        (
            &["-c", "lo"],
            "-c 'lo' (--istio-exclude-interfaces) has the item `lo`: a name",
        ),
        (&["-k", "a b"], "the item `a b`: a name of an interface"),
        (
            &["--probe-timeout", "5"],
            "--probe-timeout=5 is not a duration above zero, like 5s",
        ),
        (&["--probe-timeout", "0s"], "is not a duration above zero"),
        (
            &["--run-validation", "-n"],
            "--run-validation=true cannot be combined with --dry-run",
        ),
        (
            &["--run-validation", "--cleanup-only"],
            "--run-validation=true cannot be combined with --cleanup-only",
        ),
        (
            &["--skip-rule-apply", "--cleanup-only"],
            "--skip-rule-apply=true cannot be combined with --cleanup-only",
        ),
        (
            &["--skip-rule-apply", "-n"],
            "--skip-rule-apply=true cannot be combined with --dry-run",
        ),
        (
            &["--cleanup-only", "--backend=nft"],
            "--backend=nft cannot be combined with --cleanup-only, which removes the rules of every",
        ),
        (
            &["--skip-rule-apply", "--backend=nft"],
            "--backend=nft cannot be combined with --skip-rule-apply, which writes none",
        ),
        (
            &["--native-nftables", "--force-iptables-binary=nft"],
            "--force-iptables-binary=nft cannot be combined with --native-nftables",
        ),
        (
            &["--backend=nft", "--force-iptables-binary=nft"],
            "--backend=nft cannot be combined with --force-iptables-binary",
        ),
        (
            &["--force-iptables-binary=/sbin/nft"],
            "is not one of: 'legacy', 'nft'",
        ),
        (&["--backend=pf"], "is not one of: 'auto', 'nft'"),
        (&["--cni-mode=x"], "--cni-mode=x is not one of"),
        (&["--force-apply=x"], "--force-apply=x is not one of"),
        (
            &["-x", "::ffff:10.0.0.0/104"],
            "no packet has an IPv4-mapped address",
        ),
        (
            &["-e", "15006"],
            "-e '15006' (--inbound-tunnel-port) is also the value of --inbound-capture-port",
        ),
        (
            &["-p", "15053", "--redirect-dns"],
            "-p '15053' (--envoy-port) is also the value of the port of captured DNS queries",
        ),
        (
            &["--dry-run=yes"],
            "-n 'yes' (--dry-run) is not one of: 'true', 'false'",
        ),
        (&["--dual-stack=maybe"], "--dual-stack=maybe is not one of"),
        (
            &["-z", "15001"],
            "-z '15001' (--inbound-capture-port) is also the value of --envoy-port",
        ),
        (
            &["-p", "15006"],
            "--inbound-capture-port by default is also the value of --envoy-port",
        ),
        (
            &["--cleanup-only", "--dry-run"],
            "--cleanup-only=true cannot be combined with --dry-run",
        ),
    ] {
        let error = parse(list).unwrap_err();
        assert!(error.to_string().contains(message), "{list:?}: {error}");
    }
}

#[test]
fn a_flag_in_the_place_of_a_value_is_told_with_the_flag_that_lacks_one() {
    for list in [
        &["-i", "-b", "80"][..],
        &["-i", "--istio-inbound-ports", "80"],
        &["--istio-service-cidr", "-b"],
        &["-b", "80", "-i", "--dry-run"],
    ] {
        let error = arguments(list).unwrap_err().to_string();
        assert!(error.contains("--istio-service-cidr"), "{list:?}: {error}");
        assert!(error.contains("a value is required"), "{list:?}: {error}");
    }
}

#[test]
fn a_flag_given_twice_is_refused() {
    let error = arguments(&["-p", "1", "--envoy-port", "2"]).unwrap_err();
    assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
    assert!(error.to_string().contains("--envoy-port"));
}

//! Named policies, the rules they become, and `nft` as witness that the kernel holds just those.

use std::fs;

use shunt_redirect::nft::render;
use shunt_redirect::{Change, apply};

use crate::support::{INJECTOR, in_namespace, in_pod, ip, listed, output, policy};

/// Applies the policy; holds the rules against the golden, against what `nft` lists, and against
/// what the kernel holds after `nft -f` loaded the same text.
fn golden(name: &str, arguments: &[&str]) {
    let applied = apply(&policy(arguments)).unwrap();
    assert_eq!(applied.change, Change::Created);
    let text = render::table(&applied.plan.ruleset);
    assert_eq!(listed(), text, "what nft lists, and what was meant");

    output("nft", &["delete", "table", "inet", "shunt"]);
    let file = std::env::temp_dir().join(format!("shunt-golden-{}-{name}.nft", std::process::id()));
    fs::write(&file, &text).unwrap();
    output("nft", &["-f", file.to_str().unwrap()]);
    fs::remove_file(&file).unwrap();
    let again = apply(&policy(arguments)).unwrap();
    assert_eq!(
        again.change,
        Change::Unchanged,
        "nft understands the text as we do"
    );

    insta::with_settings!({ description => arguments.join(" "), omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

/// A golden for each policy, in a pod with both families.
macro_rules! goldens {
    ($($name:ident: [$($argument:expr),* $(,)?];)+) => {$(
        #[test]
        fn $name() {
            in_pod(|| golden(stringify!($name), &[$($argument),*]));
        }
    )+};
}

goldens! {
    injector_with_both_families: [
        "-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-x", "",
        "-b", "*", "-d", "15090,15021,15020",
    ];
    ipv6_switched_off: ["-i", "*", "-b", "*", "--ipv6", "off", "-x", "10.0.0.0/8,fd00::/8"];
    inbound_ports_listed: ["-i", "*", "-b", "80,443,8000:8010", "-d", "15090"];
    nothing_inbound: ["-i", "*"];
    no_outbound_destination: ["-b", "*"];
    outbound_blocks_listed: ["-i", "10.96.0.0/12,192.168.1.7,fd00:96::/108", "-b", "*"];
    outbound_blocks_of_one_family: ["-i", "10.96.0.0/12", "-b", "*"];
    loopback_asked_for: ["-i", "127.0.0.0/8,10.96.0.0/12", "-b", "*"];
    outbound_blocks_excluded: [
        "-i", "*", "-b", "*", "-x", "10.1.2.3,10.1.2.0/24,10.0.0.0/9,10.128.0.0/9,fd00:1::/32,fd00::7",
    ];
    everything_excluded: ["-i", "*", "-b", "*", "-x", "0.0.0.0/0,::/0"];
    blocks_at_the_end_of_the_address_space: ["-i", "240.0.0.0/4,ff00::/8,255.255.255.255", "-b", "65535"];
    outbound_ports_included: ["-i", "10.96.0.0/12", "-q", "25,443", "-b", "*"];
    outbound_ports_excluded: ["-i", "*", "-o", "53,9000:9100", "-b", "*"];
    several_uids_and_gids: ["-i", "*", "-b", "*", "-u", "1337,0,4294967294", "-g", "5,6,7"];
    other_ports: ["-p", "4140", "-z", "4143", "-e", "4144", "-i", "*", "-b", "*"];
}

#[test]
fn injector_in_a_pod_without_ipv6() {
    in_namespace(|| {
        ip("link add eth0 type veth peer name peer0");
        ip("addr add 10.9.0.2/24 dev eth0");
        golden("injector_in_a_pod_without_ipv6", &INJECTOR);
    });
}

//! Files: what they mean, what is wrong with them, and that writing is the inverse of reading.

use std::collections::BTreeSet;

use clap::{Args as _, FromArgMatches as _};
use proptest::prelude::*;

use super::{ApplyArgs, read, write};
use crate::arbitrary;
use crate::capture::{self, CaptureConfig, Dns, DnsServers, InboundCapture, InboundMode};
use crate::field::Field;

const HEAD: &str = "apiVersion: shunt.dev/v1\nkind: CapturePolicy\n";

#[test]
fn a_file_that_says_nothing_is_the_default_policy() {
    for text in [HEAD.to_owned(), format!("{HEAD}spec: {{}}\n")] {
        assert_eq!(read(&text).unwrap(), CaptureConfig::default());
    }
    let json = r#"{"apiVersion": "shunt.dev/v1", "kind": "CapturePolicy", "spec": {}}"#;
    assert_eq!(read(json).unwrap(), CaptureConfig::default());
}

#[test]
fn what_a_section_leaves_out_is_as_by_default_but_for_who_the_proxy_is() {
    let text = format!(
        "{HEAD}spec:\n  proxy: {{mark: 0x11}}\n  inbound:\n    capture: [80, 8000-8010, '90']\n    \
         tproxy: {{}}\n  dns: {{servers: [10.96.0.10]}}\n"
    );
    let config = read(&text).unwrap();
    let default = CaptureConfig::default();
    assert!(config.proxy.uids.is_empty() && config.proxy.gids.is_empty());
    assert_eq!(config.proxy.mark.map(std::num::NonZero::get), Some(0x11));
    assert!(config.proxy.self_calls);
    let ports = [(80, 80), (90, 90), (8000, 8010)].into_iter().collect();
    assert_eq!(config.inbound.capture, InboundCapture::Only(ports));
    assert_eq!(config.inbound.exclude_ports, default.inbound.exclude_ports);
    let InboundMode::Tproxy { mark, table } = config.inbound.mode else {
        panic!("{:?}", config.inbound.mode);
    };
    assert_eq!((mark.get(), table), (1337, 133));
    let Some(Dns { port, servers }) = config.dns else {
        panic!("DNS is captured");
    };
    let server = "10.96.0.10".parse().unwrap();
    assert_eq!(
        (port.get(), servers),
        (15053, DnsServers::Only(vec![server]))
    );
    assert_eq!(config.outbound, default.outbound);
}

#[test]
fn what_is_wrong_is_told_with_its_line_its_field_and_the_remedy() {
    for (spec, place, words) in [
        (
            "inbuond: {}",
            "line 4, column 3: spec.inbuond ",
            "is not known (did you mean inbound?); known here are: proxy,",
        ),
        (
            "inbound:\n    exclude_ports: [80]",
            "line 5, column 5: spec.inbound.exclude_ports ",
            "is not known (did you mean excludePorts?)",
        ),
        (
            "inbound:\n    excludePorts:\n    - 80\n    - 70000",
            "line 7, column 7: spec.inbound.excludePorts[1] ",
            "is `70000`: a port is a number from 1 to 65535",
        ),
        (
            "inbound: {port: http}",
            "spec.inbound.port ",
            "is `http`: a port is",
        ),
        ("inbound: {port: 80.5}", "spec.inbound.port ", "a port"),
        ("inbound: {port: [80]}", "spec.inbound.port ", "a port"),
        ("inbound: {port:}", "spec.inbound.port ", "a port"),
        (
            "inbound: {capture: ['*']}",
            "spec.inbound.capture[0] ",
            "`*` stands alone",
        ),
        (
            "inbound: {capture: '*'}",
            "spec.inbound.capture ",
            "is `*`; expected all, none, or a list",
        ),
        (
            "inbound: {capture: ['80,90']}",
            "spec.inbound.capture[0] ",
            "write each port as an item of its own",
        ),
        (
            "inbound: {capture: [90-80]}",
            "spec.inbound.capture[0] ",
            "from the smaller to the larger",
        ),
        (
            "outbound: {excludeCidrs: [10.0.0.0/33]}",
            "spec.outbound.excludeCidrs[0] ",
            "a CIDR block is an IP address",
        ),
        (
            "ipv6: off",
            "spec.ipv6 ",
            "is `off`; expected one of: auto, istio, always, never",
        ),
        (
            "dns: {servers: [kube-dns]}",
            "spec.dns.servers[0] ",
            "give an IP address",
        ),
        (
            "dns: {servers: none}",
            "spec.dns.servers ",
            "resolvConf, all",
        ),
        (
            "proxy: {uids: [istio-proxy]}",
            "spec.proxy.uids[0] ",
            "an id is a number",
        ),
        (
            "proxy: {uids: [-1]}",
            "spec.proxy.uids[0] ",
            "an id is a number",
        ),
        (
            "proxy: {uids: [4294967295]}",
            "spec.proxy.uids[0] ",
            "an id is a number",
        ),
        ("proxy: {mark: 0}", "spec.proxy.mark ", "a mark is a number"),
        (
            "proxy: {cgroup: ../x}",
            "spec.proxy.cgroup ",
            "give the path of a cgroup",
        ),
        (
            "interfaces: {exclude: [lo]}",
            "spec.interfaces.exclude[0] ",
            "is not lo",
        ),
        (
            "outbound: {ownerGroups: {only: [1], except: [2]}}",
            "spec.outbound.ownerGroups ",
            "has both `except` and `only`; keep one of them",
        ),
        (
            "ipv6: auto\n  ipv6: never",
            "line 5, column 3: `ipv6`",
            "is given twice in one section; keep one of them",
        ),
        (
            "inbound: {tproxy: true}",
            "line 4, column 21: spec.inbound.tproxy ",
            "is `true`; expected a section with fields (mark, table), or {}",
        ),
        (
            "dns:",
            "line 4, column 6: spec.dns ",
            "has no value; expected a section with fields (port, servers), or {}",
        ),
        (
            "inbound:\n    excludePorts:",
            "spec.inbound.excludePorts ",
            "has no value; expected a list: write [] for an empty one",
        ),
        (
            "proxy: {uids: 1337}",
            "spec.proxy.uids ",
            "is `1337`; expected a list: write [1337]",
        ),
        (
            "inbound: {port: 070}",
            "spec.inbound.port ",
            "is `070`: a zero before a number makes it octal to some programs",
        ),
        (
            "inbound: {excludePorts: [80-090]}",
            "spec.inbound.excludePorts[0] ",
            "a zero before a number makes it octal",
        ),
        ("inbound: {port: 1_000}", "spec.inbound.port ", "is `1_000`"),
        ("inbound: {port: 0x50}", "spec.inbound.port ", "is `0x50`"),
        ("inbound: {port: 1e999}", "spec.inbound.port ", "is `1e999`"),
        (
            "inbound: {port: 99999999999999999999999999999999999999999}",
            "spec.inbound.port ",
            "is `99999999999999999999999999999999999999999`: a port is",
        ),
        (
            "inbound: {port: !mine 80}",
            "line 4, column 25: tags (`!mine`)",
            "are not taken; leave it out",
        ),
        (
            "dropInvalid: yes",
            "spec.dropInvalid ",
            "is `yes`; expected true or false, without quotes",
        ),
        (
            "inbound: {excludePorts: [80-]}",
            "spec.inbound.excludePorts[0] ",
            "is `80-`: a range has a port on either side",
        ),
        (
            "dropInvalid: 'true'",
            "spec.dropInvalid ",
            "expected true or false, without quotes",
        ),
        (
            "proxy: {uids: [1337, 4294967296]}",
            "spec.proxy.uids[1] ",
            "is `4294967296`: an id is a number from 0 to 4294967294",
        ),
        (
            "interfaces: {exclude: eth0}",
            "spec.interfaces.exclude ",
            "is `eth0`; expected a list: write [eth0]",
        ),
        ("ipv6: alway", "spec.ipv6 ", "(did you mean always?)"),
        (
            "proxy: &it {uids: [1]}\n  inbound: *it",
            "line 4, column ",
            "anchors and aliases (`&name`, `*name`) are not taken; write the value out",
        ),
        (
            "outbound: &it {excludeCidrs: [*it]}",
            "line 4, column ",
            "anchors and aliases",
        ),
        (
            "outbound: {excludePorts: [*]}",
            "line 4, column ",
            "anchors and aliases",
        ),
        (
            "outbound: {<<: {port: 1}}",
            "line 4, column 14: merge keys (`<<`)",
            "are not taken; write the fields out",
        ),
        (
            "? [a]\n  : b",
            "line 4, column ",
            "the name of a field is missing here",
        ),
        ("inbound: [", "line 4, column 12: ", "this is not YAML: "),
    ] {
        let text = format!("{HEAD}spec:\n  {spec}\n");
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains(place), "{spec}: {error}");
        assert!(error.contains(words), "{spec}: {error}");
    }
}

#[test]
fn contradictions_are_told_at_the_field_that_they_are_about() {
    for (spec, message) in [
        (
            "inbound:\n    port: 15001",
            "line 5, column 5: spec.inbound.port is also the value of outbound.port (15001)",
        ),
        (
            "dns:\n    port: 15008",
            "line 5, column 5: spec.dns.port is also the value of inbound.tunnelPort (15008)",
        ),
        (
            "proxy: {selfCalls: false}",
            "line 4, column 3: spec.proxy names nobody: what the proxy sends would be captured",
        ),
        (
            "proxy: {mark: 1338}",
            "line 4, column 11: spec.proxy.mark is 1338, which marks the proxy's calls",
        ),
        (
            "proxy: {mark: 7}\n  inbound: {tproxy: {mark: 7}}",
            "line 4, column 11: spec.proxy.mark is 7, which TPROXY gives to the application's",
        ),
        (
            "inbound: {tproxy: {mark: 1338}}",
            "spec.inbound.tproxy.mark is 1338, which marks",
        ),
        (
            "inbound: {tproxy: {mark: 1399346256}}",
            "spec.inbound.tproxy.mark is 1399346256, which marks the connections that TPROXY",
        ),
        (
            "inbound: {tproxy: {table: 255}}",
            "spec.inbound.tproxy.table is 255: 0 is no table",
        ),
        (
            "loopbackCidr: 126.0.0.0/7",
            "spec.loopbackCidr is 126.0.0.0/7: what counts as loopback must lie in 127.0.0.0/8",
        ),
    ] {
        let text = format!("{HEAD}spec:\n  {spec}\n");
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains(message), "{spec}: {error}");
    }
}

#[test]
fn a_number_or_a_name_may_stand_in_quotes_or_without() {
    let read = |spec: &str| read(format!("{HEAD}spec:\n  {spec}\n")).unwrap();
    for (bare, quoted) in [
        ("proxy: {uids: [1338]}", "proxy: {uids: ['1338']}"),
        ("interfaces: {exclude: [1]}", "interfaces: {exclude: ['1']}"),
    ] {
        assert_eq!(read(bare), read(quoted));
        assert_ne!(read(bare), CaptureConfig::default());
    }
}

#[test]
fn what_is_no_policy_is_told_so() {
    for (text, words) in [
        (
            "",
            "is empty: a policy begins with `apiVersion: shunt.dev/v1`",
        ),
        ("# nothing\n", "is empty"),
        (
            "kind: CapturePolicy",
            "line 1, column 1: the file has no apiVersion, which is required",
        ),
        ("apiVersion: shunt.dev/v1", "the file has no kind"),
        (
            "apiVersion: shunt.dev/v1\nkind: CapturePolicy\nmetadata: {}",
            "line 3, column 1: metadata is not known; known here are: apiVersion, kind, spec",
        ),
        (
            "apiVersion: shunt.dev/v2\nkind: CapturePolicy",
            "line 1, column 13: apiVersion is `shunt.dev/v2`; expected `shunt.dev/v1`",
        ),
        ("[]", "the file is a list; expected a section with fields"),
        ("a: [", "line 1"),
        (
            "apiVersion: shunt.dev/v1\nkind: CapturePolicy\n---\nkind: CapturePolicy",
            "a second document begins here",
        ),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn what_is_no_text_is_told_with_its_place() {
    let error = read(b"apiVersion: \xc3\xa9\nkin\xffd").unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 2, column 4: the byte 0xff is not UTF-8; save the file as UTF-8"
    );
    // UTF-16, as a Windows editor saves it.
    let error = read(b"\xff\xfea\0").unwrap_err().to_string();
    assert!(error.starts_with("line 1, column 1: "), "{error}");
}

/// A few lines that stand for more than any memory, and brackets that never end.
#[test]
fn what_would_take_forever_is_refused_at_once() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*a{}, ", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", alias.repeat(9));
    }
    let deep = "[".repeat(1 << 20);
    let deeper = "- ".repeat(1 << 20);
    for text in [bomb, deep, deeper] {
        let begun = std::time::Instant::now();
        assert!(read(&text).is_err());
        let time = begun.elapsed();
        assert!(time < std::time::Duration::from_secs(30), "{time:?}");
    }
}

const DOCUMENT: &str = include_str!("../../../../docs/policy.md");

/// The paths of all fields in a text, and what lists and words hold left out.
fn paths(text: &str) -> BTreeSet<String> {
    fn collect(value: &serde_json::Value, path: &str, paths: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    let dot = if path.is_empty() { "" } else { "." };
                    collect(value, &format!("{path}{dot}{name}"), paths);
                }
            }
            _ => {
                paths.insert(path.to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(&serde_saphyr::from_str(text).unwrap(), "", &mut found);
    found
}

/// All fields that there are: those of a policy in which each has a value.
fn schema() -> BTreeSet<String> {
    let mut config = CaptureConfig::default();
    config.proxy.mark = capture::Mark::new(7);
    config.proxy.cgroup = capture::CgroupPath::new("a");
    config.inbound.mode = InboundMode::Tproxy {
        mark: capture::TPROXY_MARK,
        table: capture::TPROXY_TABLE,
    };
    config.dns = Some(Dns {
        port: capture::DNS_PROXY,
        servers: DnsServers::All,
    });
    let mut fields = paths(&write(&config).unwrap());
    config.outbound.owners = capture::OwnerGroups::Only([1].into());
    fields.extend(paths(&write(&config).unwrap()));
    fields
}

#[test]
fn each_example_of_the_document_is_a_policy_and_each_field_has_one() {
    let examples: Vec<&str> = DOCUMENT
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(examples.len() > 10, "{}", examples.len());
    let mut shown = BTreeSet::new();
    for example in &examples {
        assert!(read(example).is_ok(), "{:?}: {example}", read(example));
        shown.extend(paths(example));
    }
    let missing: Vec<_> = schema().difference(&shown).cloned().collect();
    assert_eq!(missing, [""; 0], "no example");
}

#[test]
fn the_document_lists_each_field_and_no_other() {
    let listed: BTreeSet<String> = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(ToOwned::to_owned)
        .collect();
    let fields: BTreeSet<String> = schema()
        .iter()
        .map(|path| path.strip_prefix("spec.").unwrap_or(path).to_owned())
        .collect();
    let sections = ["spec", "inbound.tproxy"].map(ToOwned::to_owned);
    let expected: BTreeSet<String> = fields.into_iter().chain(sections).collect();
    assert_eq!(listed, expected);
}

#[test]
fn every_field_is_written_with_its_value() {
    let written = write(&CaptureConfig::default()).unwrap();
    for line in [
        "apiVersion: shunt.dev/v1",
        "kind: CapturePolicy",
        "  ipv6: auto",
        "    port: 15006",
        "    tunnelPort: 15008",
        "    capture: all",
        "  loopbackCidr: 127.0.0.1/32",
    ] {
        assert!(written.lines().any(|found| found == line), "{written}");
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back_as_the_same_policy(
        config in arbitrary::policy(&arbitrary::Leaves::any()),
    ) {
        let text = write(&config).unwrap();
        match (read(&text), config.validate()) {
            (Ok(again), Ok(())) => prop_assert_eq!(again, config, "{}", text),
            (Err(_), Err(_)) => {}
            (read, valid) => prop_assert!(false, "{read:?} {valid:?}: {text}"),
        }
    }

    #[test]
    fn any_text_is_judged_without_panic(text in "\\PC{0,60}") {
        let _judged = read(&text);
        let _judged = read(format!("{HEAD}spec:\n  {text}"));
    }

    #[test]
    fn what_is_accepted_is_a_policy_that_can_be_planned(
        section in prop::sample::select(vec!["proxy", "inbound", "outbound", "dns", "interfaces"]),
        field in prop::sample::select(vec![
            "port", "uids", "gids", "mark", "cgroup", "selfCalls", "tunnelPort", "tproxy",
            "capture", "excludePorts", "excludeSources", "excludeCidrs", "includePorts",
            "ownerGroups", "servers", "exclude", "reroute",
        ]),
        value in "all|none|resolvConf|true|[0-9]{1,6}|\\[[0-9a-f.:/, -]{0,24}\\]|\\{[a-z]{4,6}: \
                  [0-9]{1,5}\\}|\\PC{0,20}",
    ) {
        let text = format!("{HEAD}spec:\n  {section}:\n    {field}: {value}\n");
        if let Ok(config) = read(&text) {
            arbitrary::is_sound(&config)?;
        }
    }

    /// Only decimal digits are a port, whatever else YAML takes for a number.
    #[test]
    fn a_port_is_read_as_it_is_written_or_not_at_all(
        word in "0?[0-9]{1,6}|[0-9]{1,3}[_.e][0-9]{1,3}|0[xob][0-9a-f]{1,4}|[+-][0-9]{1,5}",
        quote in prop::sample::select(vec!["", "'", "\""]),
    ) {
        let text = format!("{HEAD}spec: {{inbound: {{port: {quote}{word}{quote}}}}}");
        let number = word.parse::<u16>().ok().filter(|number| number.to_string() == word);
        let other = [0, 15001, 15008];
        let expected = number.filter(|number| !other.contains(number));
        let found = read(&text).ok().map(|config| config.inbound.port.get());
        prop_assert_eq!(found, expected, "{}", text);
    }

    #[test]
    fn what_is_accepted_of_flags_is_sound(
        flags in prop::collection::btree_map(0..super::apply::FLAGS.len(), flag_value(), 0..6),
    ) {
        let attached: Vec<_> = flags
            .iter()
            .map(|(flag, value)| (super::apply::FLAGS[*flag].long, value))
            // A file is another matter.
            .filter(|(flag, _)| *flag != "policy")
            .map(|(flag, value)| format!("--{flag}={value}"))
            .collect();
        if let Ok(request) = flags_of(&attached).parse() {
            arbitrary::is_sound(&request.config)?;
        }
    }
}

fn flags_of(list: &[String]) -> ApplyArgs {
    let command = ApplyArgs::augment_args(clap::Command::new("apply"));
    let list = ["apply".to_owned()].into_iter().chain(list.iter().cloned());
    ApplyArgs::from_arg_matches(&command.get_matches_from(list)).unwrap()
}

#[test]
fn each_flag_that_a_field_names_exists() {
    let flags = Field::ALL.into_iter().filter_map(Field::flag);
    let unknown = flags
        .filter(|flag| {
            let mut known = super::apply::FLAGS.iter();
            !known.any(|known| flag.strip_prefix("--") == Some(known.long))
        })
        .collect::<Vec<_>>();
    assert_eq!(unknown, [""; 0]);
}

/// What some flag takes, more often than not.
fn flag_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "all|none|resolv-conf|true|false|auto|istio|always|never|nft|eth[0-9]\\+?|",
        "[0-9]{1,5}(,[0-9]{1,5}){0,2}",
        "[1-9]{1,2}-[0-9]{3,5}",
        "10\\.[0-9]\\.0\\.0/(8|16|24),fd00:[0-9a-f]::/(32|64)",
        "10\\.0\\.0\\.[0-9],fd00::[0-9a-f]",
    ]
}

#[test]
fn the_callers_resolv_conf_is_told_of_where_rules_are_for_another_namespace() {
    let notes = |words: &[&str]| {
        let list: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        flags_of(&list).parse().unwrap().notes
    };
    let elsewhere = "--network-namespace=/proc/1/ns/net";
    let told = notes(&["--dns=resolv-conf", elsewhere]);
    assert!(
        matches!(&told[..], [note] if note.contains("may be the node's") && note.contains("--dns")),
        "{told:?}"
    );
    for words in [
        &["--dns=resolv-conf"][..],
        &["--dns=all", elsewhere],
        &["--dns=10.0.0.10", elsewhere],
        &[elsewhere],
    ] {
        assert_eq!(notes(words), [""; 0], "{words:?}");
    }
}

#[test]
fn flags_replace_what_the_file_says_and_empty_ones_empty_it() {
    let list = |words: &[&str]| {
        let list: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        flags_of(&list).parse().unwrap().config
    };
    let default = CaptureConfig::default();
    assert_eq!(list(&[]), default);
    let emptied = list(&["--exclude-inbound-ports=", "--proxy-gids=", "--dns=all"]);
    assert!(emptied.inbound.exclude_ports.is_empty() && emptied.proxy.gids.is_empty());
    assert_eq!(emptied.proxy.uids, default.proxy.uids);
    let servers = emptied.dns.map(|dns| (dns.port.get(), dns.servers));
    assert_eq!(servers, Some((15053, DnsServers::All)));
    let ports = list(&["--capture-inbound-ports=80,8000-8010"])
        .inbound
        .capture;
    let written = [(80, 80), (8000, 8010)].into_iter().collect();
    assert_eq!(ports, InboundCapture::Only(written));
    for (flag, words) in [
        (
            "--inbound-port=15001",
            "--inbound-port=15001 is also the value of --outbound-port",
        ),
        (
            "--outbound-port=15006",
            "--inbound-port by default is also the value of --outbound-port (15006)",
        ),
        ("--capture-outbound-cidrs=", "has an empty item"),
        (
            "--dns=kube-dns",
            "give none, resolv-conf, all, or a list of IP addresses",
        ),
        ("--tproxy=maybe", "is not one of: 'true', 'false'"),
    ] {
        let error = flags_of(&[flag.to_owned()])
            .parse()
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}

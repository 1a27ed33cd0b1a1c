//! The init container proves its rules, in a pod as the kubelet makes it.

use std::net::Ipv6Addr;

use anyhow::{Context, Result, ensure};
use shunt_tests::cluster::Cluster;
use shunt_tests::expect::eventually::poll;
use shunt_tests::net::User;
use shunt_tests::oracle::Traces;
use shunt_tests::{DEADLINE, scene};

use crate::cluster;
use crate::inits::{INJECTED, Init, pod, proofs, said, summary};

/// How many of the proofs are of each kind: live, read back, not proved, failed.
fn count(said: &str) -> [usize; 4] {
    let proofs = proofs(said);
    ["live", "read back", "not proved", "FAILED"]
        .map(|word| proofs.iter().filter(|proof| **proof == word).count())
}

#[test]
fn each_leg_is_proved_by_default_with_net_admin_and_net_raw_alone() -> Result<()> {
    let cluster = cluster()?;
    // Nothing of verification is asked for: that it runs in Kubernetes is enough.
    let args = [INJECTED, &["--log_output_level=default:info"]].concat();
    cluster.apply(&pod("verified", &[Init::shunt(&args)]))?;
    let said = said(cluster, "verified", "shunt-init")?;

    let [live, read_back, not_proved, failed] = count(&said);
    ensure!(failed == 0, "{said}");
    ensure!((live, read_back, not_proved) == (9, 5, 0), "{said}");
    let summary = summary(&said)?;
    println!("in the pod: {summary}");
    let counted = format!("{read_back} read back, {not_proved} not proved");
    ensure!(
        summary.contains(&format!(" {live} legs live by ")) && summary.ends_with(&counted),
        "{summary}, but the lines say {live} live, {counted}:\n{said}"
    );
    cluster.delete("verified", 0)
}

#[test]
fn without_net_raw_rules_are_read_back_and_the_pod_starts() -> Result<()> {
    let cluster = cluster()?;
    let init = Init {
        capabilities: &["NET_ADMIN"],
        ..Init::shunt(INJECTED)
    };
    cluster.apply(&pod("no-net-raw", &[init]))?;
    let said = said(cluster, "no-net-raw", "shunt-init")?;
    let [live, read_back, not_proved, failed] = count(&said);
    ensure!(
        live == 0 && read_back > 0 && (not_proved, failed) == (0, 0),
        "{said}"
    );
    // Each says why.
    let why = said.matches("CAP_NET_RAW").count();
    ensure!(why == read_back, "{why} of {read_back} say why:\n{said}");
    cluster.delete("no-net-raw", 0)
}

#[test]
fn with_setuid_and_setgid_the_proxys_legs_are_proved_live_too() -> Result<()> {
    let cluster = cluster()?;
    let init = Init {
        capabilities: &["NET_ADMIN", "NET_RAW", "SETUID", "SETGID"],
        ..Init::shunt(INJECTED)
    };
    cluster.apply(&pod("anybody", &[init]))?;
    let said = said(cluster, "anybody", "shunt-init")?;
    // What is read back is a rule before which another decides.
    ensure!(count(&said) == [13, 1, 0, 0], "{said}");
    println!("in the pod: {}", summary(&said)?);
    cluster.delete("anybody", 0)
}

#[test]
fn verification_sends_nothing_out_of_the_pod_and_leaves_nothing_in_it() -> Result<()> {
    let cluster = cluster()?;
    let client = cluster.pod_ip("client")?;
    let wire = Wire::tap(cluster)?;
    cluster.apply(&pod("quiet", &[Init::shunt(INJECTED)]))?;
    let said = said(cluster, "quiet", "shunt-init")?;
    ensure!(count(&said)[0] > 0, "nothing was tried:\n{said}");
    cluster.wait_ready("quiet")?;

    let netns = cluster.netns("quiet")?;
    let links = netns.command("ip").args(["-brief", "link"]).finish()?;
    let links = links.success()?.stdout;
    let names: Vec<_> = links
        .lines()
        .filter_map(|line| line.split(['@', ' ']).next())
        .collect();
    ensure!(names == ["lo", "eth0"], "{links}");
    let ip = cluster.pod_ip("quiet")?.to_string();
    expect_nothing_else(&netns.traces()?, &ip)?;

    let mac = mac_of_eth0(&links)?;
    let strangers = wire.strangers(&mac, &ip)?;
    ensure!(strangers.is_empty(), "left the pod: {strangers:#?}");
    // A packet that does leave would have been seen.
    netns
        .as_user(User::PROXY)
        .connect((client, scene::HTTP).into())?;
    let seen = poll(DEADLINE, || {
        let seen = wire.strangers(&mac, &ip).ok()?;
        (!seen.is_empty()).then_some(())
    });
    seen.context("not even the proxy's own connection was seen to leave")?;
    cluster.delete("quiet", 0)
}

/// Passes if a pod has the addresses, routes and policies that its network plugin gives it, and the
/// rules of one table.
fn expect_nothing_else(traces: &Traces, ip: &str) -> Result<()> {
    let tables: Vec<_> = traces
        .rules
        .lines()
        .filter(|line| line.starts_with("table"))
        .collect();
    ensure!(tables == ["table inet shunt {"], "{}", traces.rules);
    let ours = |word: &str| {
        let address = word.split('/').next().unwrap_or_default();
        [ip, "127.0.0.1", "::1", "::6"].contains(&address) || address.starts_with("fe80::")
    };
    for line in traces.addresses.lines() {
        // The name, the state, then the addresses.
        let foreign = line.split_whitespace().skip(2).find(|word| !ours(word));
        ensure!(foreign.is_none(), "{foreign:?} in:\n{}", traces.addresses);
    }
    for line in traces.routes.lines() {
        let mut words = line.split(' ').skip_while(|word| *word != "dev").skip(1);
        let device = words.next();
        ensure!(
            matches!(device, Some("lo" | "eth0")),
            "`{line}` of:\n{}",
            traces.routes
        );
        // Documentation blocks (RFC 5737, RFC 3849), from which probes have their addresses.
        for block in ["192.0.2.", "198.51.100.", "203.0.113.", "2001:db8:"] {
            ensure!(!line.contains(block), "{line}");
        }
    }
    let policies: Vec<_> = traces
        .policies
        .lines()
        .filter_map(|line| line.split(':').next())
        .collect();
    ensure!(
        policies == ["0", "32766", "32767", "0", "32766"],
        "{}",
        traces.policies
    );
    Ok(())
}

fn mac_of_eth0(links: &str) -> Result<String> {
    let line = links.lines().find(|line| line.starts_with("eth0"));
    let mac = line.and_then(|line| line.split_whitespace().nth(2));
    Ok(mac.with_context(|| format!("no eth0: {links}"))?.to_owned())
}

/// A tap on the node's side of all pods' links; gone when dropped.
struct Wire<'a>(&'a Cluster);

/// What a pod's link asks for by itself, and everything else.
const TAP: &str = "
table bridge wire {
  set asked_arp {
    typeof ether saddr . arp daddr ip
    size 65535
    flags dynamic
  }
  set asked_icmpv6 {
    typeof ether saddr . ip6 daddr
    size 65535
    flags dynamic
  }
  set strangers {
    typeof ether saddr . ether type
    size 65535
    flags dynamic
  }
  chain arrived {
    type filter hook prerouting priority -300
    ether type arp update @asked_arp { ether saddr . arp daddr ip } return
    meta l4proto ipv6-icmp update @asked_icmpv6 { ether saddr . ip6 daddr } return
    update @strangers { ether saddr . ether type }
  }
}
";

impl<'a> Wire<'a> {
    fn tap(cluster: &'a Cluster) -> Result<Self> {
        cluster.node()?.load_rules(TAP)?;
        Ok(Self(cluster))
    }

    /// What a network card has sent but for its kernel's own: requests for its own address, and
    /// for routers and groups.
    fn strangers(&self, mac: &str, ip: &str) -> Result<Vec<String>> {
        let rules = self.0.node()?.ruleset()?;
        let pairs = rules.split(['{', '}', ',']).filter_map(|element| {
            let (from, what) = element.trim().split_once(" . ")?;
            (from == mac).then(|| what.trim().to_owned())
        });
        // Routers, the reports of groups, and the group of the link-local address.
        let usual = |what: &String| match what.parse::<Ipv6Addr>() {
            Ok(group) => {
                let [.., a, b, c] = group.octets();
                let ours = mac.ends_with(&format!("{a:02x}:{b:02x}:{c:02x}"));
                ["ff02::2", "ff02::16"].contains(&what.as_str())
                    || (what.starts_with("ff02::1:ff") && ours)
            }
            Err(_) => what == ip,
        };
        Ok(pairs.filter(|what| !usual(what)).collect())
    }
}

impl Drop for Wire<'_> {
    fn drop(&mut self) {
        let node = self.0.node();
        let removed = node.and_then(|node| node.load_rules("delete table bridge wire"));
        if let Err(error) = removed {
            eprintln!("{error:#}");
        }
    }
}

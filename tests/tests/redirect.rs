//! What the redirect rules do to connections, with the real `shunt-init` and echo servers standing
//! where the proxy would.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};

use shunt_abi::port;
use shunt_tests::client::tcp::greeting;
use shunt_tests::init::INJECTED;
use shunt_tests::prelude::*;

/// A pod with an application and a stand-in for the proxy, and a peer.
struct Scene {
    _net: Network,
    pod: Pod,
    peer: Pod,
    _servers: Vec<Server>,
}

/// Where a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lands {
    /// At the proxy's outbound port.
    Outbound,
    /// At the proxy's inbound port.
    Inbound,
    /// Where it was sent.
    Direct,
}

/// A line of the truth table.
struct Row {
    what: &'static str,
    from: Source,
    to: SocketAddr,
    lands: Lands,
}

enum Source {
    App,
    Proxy,
    ProxyInbound(IpAddr),
    Peer,
}

const APP: u16 = 8080;
const PEER: u16 = 80;

impl Scene {
    fn new(name: &str) -> Result<Self> {
        Self::with(name, |pod| pod)
    }

    fn with(
        name: &str,
        shape: impl Fn(shunt_tests::net::PodBuilder) -> shunt_tests::net::PodBuilder,
    ) -> Result<Self> {
        let net = Network::new(name)?;
        let pod = shape(net.pod("pod")).build()?;
        let peer = shape(net.pod("peer")).build()?;
        let mut servers = vec![peer.echo("peer", PEER)?];
        let inside = [
            ("outbound", port::OUTBOUND),
            ("inbound", port::INBOUND),
            ("app", APP),
            ("tunnel", port::TUNNEL),
            ("status", port::STATUS),
            ("readiness", port::READINESS),
            ("metrics", port::METRICS),
        ];
        for (server, port) in inside {
            servers.push(pod.echo(server, port)?);
        }
        Ok(Self {
            _net: net,
            pod,
            peer,
            _servers: servers,
        })
    }

    /// The rows of Istio's truth table for one family.
    fn truth(&self, family: Family) -> Vec<Row> {
        use Lands::{Direct, Inbound, Outbound};
        use Source::{App, Peer, Proxy, ProxyInbound};
        let row = |what, from, to, lands| Row {
            what,
            from,
            to,
            lands,
        };
        let own = |port| self.pod.on(family, port);
        let loopback = |port| SocketAddr::from((family.loopback(), port));
        let peer = self.peer.on(family, PEER);
        let nobody = match family {
            Family::V4 => SocketAddr::from(([10, 96, 0, 10], 9080)),
            Family::V6 => SocketAddr::from(([0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10], 9080)),
        };
        let inbound_source = ProxyInbound(family.inbound_source());
        let mut rows = vec![
            row("app to a peer", App, peer, Outbound),
            row("app to an address nobody owns", App, nobody, Outbound),
            row("proxy to a peer", Proxy, peer, Direct),
            row("a peer to the app", Peer, own(APP), Inbound),
            row("app to itself over loopback", App, loopback(APP), Direct),
            row("app to its own pod address", App, own(APP), Direct),
            row("proxy to the own pod address", Proxy, own(APP), Inbound),
            row(
                "proxy to the app over loopback",
                Proxy,
                loopback(APP),
                Direct,
            ),
            row(
                "proxy's inbound leg to the app",
                inbound_source,
                own(APP),
                Direct,
            ),
            row(
                "proxy to the own tunnel port",
                Proxy,
                own(port::TUNNEL),
                Direct,
            ),
            row("a peer to the tunnel port", Peer, own(port::TUNNEL), Direct),
            row("a peer to the status port", Peer, own(port::STATUS), Direct),
            row(
                "a peer to the readiness port",
                Peer,
                own(port::READINESS),
                Direct,
            ),
            row(
                "a peer to the metrics port",
                Peer,
                own(port::METRICS),
                Direct,
            ),
        ];
        if family == Family::V4 {
            let other_loopback = SocketAddr::from(([127, 0, 0, 2], APP));
            rows.push(row("app to 127.0.0.2", App, other_loopback, Direct));
        }
        rows
    }

    /// Makes every connection of the table and compares where it ends. All rows that are wrong are
    /// told together.
    fn check(&self, family: Family) -> Result<()> {
        let wrong: Vec<_> = self
            .truth(family)
            .iter()
            .filter_map(|row| self.try_row(row).err())
            .collect();
        ensure!(
            wrong.is_empty(),
            "{family:?}:\n{}\n{}",
            lines(&wrong),
            self.pod.ruleset()?
        );
        Ok(())
    }

    fn try_row(&self, row: &Row) -> Result<()> {
        let seen = match row.from {
            Source::App => self.pod.as_user(User::APP).greet(row.to),
            Source::Proxy => self.pod.as_user(User::PROXY).greet(row.to),
            Source::ProxyInbound(source) => {
                self.pod.as_user(User::PROXY).greet_from(source, row.to)
            }
            Source::Peer => self.peer.as_user(User::APP).greet(row.to),
        }
        .with_context(|| format!("{} ({})", row.what, row.to))?;
        let arrived = match seen.local.port() {
            port::OUTBOUND => Lands::Outbound,
            port::INBOUND => Lands::Inbound,
            _ => Lands::Direct,
        };
        ensure!(
            arrived == row.lands,
            "{} ({}): {arrived:?} instead of {:?}",
            row.what,
            row.to,
            row.lands
        );
        // Wherever it ends, its destination can be told.
        ensure!(
            seen.destination() == row.to,
            "{}: {} was sent to {}",
            row.what,
            seen,
            row.to
        );
        Ok(())
    }

    /// Checks that nothing of a family is captured: the proxy's ports see no connection but those
    /// sent to them.
    fn check_untouched(&self, family: Family) -> Result<()> {
        for (user, from, to) in [
            (User::APP, &self.pod, self.peer.on(family, PEER)),
            (User::APP, &self.peer, self.pod.on(family, APP)),
            (User::PROXY, &self.pod, self.pod.on(family, APP)),
        ] {
            let seen = from.as_user(user).greet(to)?;
            ensure!(seen.local == to, "{to} was captured: {seen}");
        }
        Ok(())
    }
}

fn lines(errors: &[Error]) -> String {
    errors
        .iter()
        .map(|error| format!("  {error:#}\n"))
        .collect()
}

#[test]
fn the_truth_table_holds_in_both_families() -> Result<()> {
    let scene = Scene::new("truth")?;
    for family in Family::BOTH {
        scene.check_untouched(family)?;
    }
    scene.pod.apply_rules(&[])?;
    for family in Family::BOTH {
        scene.check(family)?;
    }
    Ok(())
}

#[test]
fn the_truth_table_holds_in_a_pod_where_ipv6_is_disabled() -> Result<()> {
    let scene = Scene::with("noipv6", |pod| pod.disable_ipv6())?;
    scene.pod.apply_rules(&[])?;
    scene.check(Family::V4)
}

#[test]
fn the_truth_table_holds_in_a_pod_with_ipv6_alone() -> Result<()> {
    let scene = Scene::with("v6only", |pod| pod.only(Family::V6))?;
    scene.pod.apply_rules(&[])?;
    scene.check(Family::V6)
}

#[test]
fn ipv6_is_left_alone_when_it_is_switched_off() -> Result<()> {
    let scene = Scene::new("v6off")?;
    let before = scene.pod.traces()?;
    scene.pod.apply_rules(&["--ipv6", "never"])?;
    scene.check(Family::V4)?;
    scene.check_untouched(Family::V6)?;
    assert_eq!(scene.pod.traces()?.addresses, before.addresses);
    Ok(())
}

#[test]
fn two_pods_with_equal_addresses_do_not_disturb_each_other() -> Result<()> {
    let (one, two) = (Scene::new("equal-1")?, Scene::new("equal-2")?);
    assert_eq!(one.pod.v4(0), two.pod.v4(0));
    one.pod.apply_rules(&[])?;
    for family in Family::BOTH {
        one.check(family)?;
        two.check_untouched(family)?;
    }
    two.pod.apply_rules(&[])?;
    one.pod.remove_rules()?;
    for family in Family::BOTH {
        one.check_untouched(family)?;
        two.check(family)?;
    }
    Ok(())
}

#[test]
fn a_second_run_changes_nothing() -> Result<()> {
    let scene = Scene::new("twice")?;
    scene.pod.apply_rules(&[])?;
    let (generation, traces) = (scene.pod.generation()?, scene.pod.traces()?);
    scene.pod.apply_rules(&[])?;
    assert_eq!(scene.pod.generation()?, generation);
    assert_eq!(scene.pod.traces()?, traces);
    for family in Family::BOTH {
        scene.check(family)?;
    }
    Ok(())
}

#[test]
fn a_rule_that_somebody_tampered_with_is_healed() -> Result<()> {
    let scene = Scene::new("heal")?;
    scene.pod.apply_rules(&[])?;
    let whole = scene.pod.ruleset()?;
    scene
        .pod
        .command("nft")
        .args(["flush", "table", "inet", "shunt"])
        .finish()?
        .success()?;
    scene.check_untouched(Family::V4)?;
    scene.pod.apply_rules(&[])?;
    assert_eq!(scene.pod.ruleset()?, whole);
    for family in Family::BOTH {
        scene.check(family)?;
    }
    Ok(())
}

/// Rules, sets, addresses and routes of somebody else, with names and values near to ours.
fn add_foreign_things(pod: &Pod) -> Result<()> {
    pod.load_rules(
        "table inet shunt-other {
             comment \"not ours\"
             set ports { type inet_service; flags interval; elements = { 15001, 20000-20010 } }
             chain output {
                 type nat hook output priority -90; policy accept;
                 tcp dport @ports counter comment \"theirs\"
             }
         }
         table ip nat { chain OUTPUT { type nat hook output priority -100; policy accept;
             ip daddr 10.1.2.3 tcp dport 81 redirect to :82
         }
         }
         table ip6 filter { chain INPUT { type filter hook input priority 0; policy accept;
             ip6 saddr fd00:dead::/32 drop
         }
         }",
    )?;
    for args in [
        "rule add fwmark 0x539 lookup 133",
        "route add local 0.0.0.0/0 dev lo table 133",
        "-6 rule add fwmark 0x539 lookup 133",
        "address add 192.0.2.1/32 dev lo",
        "address add 2001:db8::6/128 dev lo",
    ] {
        pod.command("ip")
            .args(args.split(' '))
            .finish()?
            .success()?;
    }
    Ok(())
}

#[test]
fn removing_leaves_everything_as_it_was_before() -> Result<()> {
    let scene = Scene::new("remove")?;
    let empty = scene.pod.traces()?;
    scene.pod.apply_rules(&[])?;
    assert_ne!(scene.pod.traces()?, empty);
    scene.pod.remove_rules()?;
    assert_eq!(scene.pod.traces()?, empty);

    add_foreign_things(&scene.pod)?;
    let before = scene.pod.traces()?;
    scene.pod.apply_rules(&[])?;
    scene.pod.apply_rules(&["-o", "9999"])?;
    scene.pod.remove_rules()?;
    assert_eq!(scene.pod.traces()?, before);
    // There is nothing to remove now, and that is no error.
    scene.pod.remove_rules()?;
    assert_eq!(scene.pod.traces()?, before);
    Ok(())
}

#[test]
fn an_inbound_source_address_that_was_there_before_stays() -> Result<()> {
    let scene = Scene::new("six")?;
    scene
        .pod
        .command("ip")
        .args(["address", "add", "::6/128", "dev", "lo"])
        .finish()?
        .success()?;
    let before = scene.pod.traces()?;
    scene.pod.apply_rules(&[])?;
    scene.check(Family::V6)?;
    scene.pod.remove_rules()?;
    assert_eq!(scene.pod.traces()?, before);
    Ok(())
}

#[test]
fn the_dry_run_writes_nothing_and_prints_what_nft_would_load_to_the_same_rules() -> Result<()> {
    let scene = Scene::new("dry")?;
    let before = (scene.pod.generation()?, scene.pod.traces()?);
    let text = scene
        .pod
        .init(&[INJECTED, &["--dry-run"]].concat())?
        .success()?
        .stdout;
    assert_eq!((scene.pod.generation()?, scene.pod.traces()?), before);

    scene.pod.load_rules(&text).with_context(|| text.clone())?;
    let loaded = scene.pod.ruleset()?;
    scene
        .pod
        .command("nft")
        .args(["flush", "ruleset"])
        .finish()?
        .success()?;
    scene.pod.apply_rules(&[])?;
    assert_eq!(loaded, scene.pod.ruleset()?);
    Ok(())
}

#[test]
fn tracked_connections_that_were_there_before_the_rules_go_on() -> Result<()> {
    // Rules do not see the packets of a connection that is tracked already. (Where nothing was
    // tracked before, the kernel takes a packet out of the middle for a new connection.)
    let scene = Scene::new("before")?;
    scene.pod.load_rules(
        "table inet tracking { chain c { type filter hook output priority 0; ct state new counter
        }
        }",
    )?;
    let out = scene.pod.as_user(User::APP).connect(scene.peer.v4(PEER))?;
    let back = scene.peer.as_user(User::APP).connect(scene.pod.v6(APP))?;
    assert_eq!(greeting(&out)?.server, "peer");
    assert_eq!(greeting(&back)?.server, "app");
    scene.pod.apply_rules(&[])?;
    for mut stream in [&out, &back] {
        stream.write_all(b"still here")?;
        let mut answer = [0; 10];
        stream.read_exact(&mut answer)?;
        assert_eq!(&answer, b"still here");
    }
    Ok(())
}

#[test]
fn udp_is_not_captured() -> Result<()> {
    let scene = Scene::new("udp")?;
    scene.pod.apply_rules(&[])?;
    for family in Family::BOTH {
        let server = scene.peer.run(|| {
            let socket = UdpSocket::bind((family.unspecified(), 5353))?;
            socket.set_read_timeout(Some(DEADLINE))?;
            Ok(socket)
        })?;
        let to = scene.peer.on(family, 5353);
        let client = scene.pod.as_user(User::APP).run(|| {
            let socket = UdpSocket::bind((family.unspecified(), 0))?;
            socket.send_to(b"ping", to)?;
            Ok(socket)
        })?;
        let mut buffer = [0; 16];
        let (count, from) = server.recv_from(&mut buffer)?;
        assert_eq!(
            (&buffer[..count], from.ip()),
            (b"ping".as_slice(), scene.pod.on(family, 0).ip())
        );
        drop(client);
    }
    Ok(())
}

#[test]
fn excluded_ports_and_ranges_pass_and_listed_ones_are_captured() -> Result<()> {
    let scene = Scene::new("lists")?;
    let app = scene.pod.as_user(User::APP);
    let peer = scene.peer.v4(PEER);
    let arrives = |more: &[&str], wanted: &str| -> Result<()> {
        scene.pod.apply_rules(more)?;
        let seen = app.greet(peer).with_context(|| format!("with {more:?}"))?;
        ensure!(seen.server == wanted, "with {more:?} {peer} ends at {seen}");
        Ok(())
    };
    arrives(&[], "outbound")?;
    arrives(&["-o", "80,443"], "peer")?;
    arrives(&["-x", "10.244.0.0/16"], "peer")?;
    arrives(&["-i", "10.244.0.0/24,192.0.2.0/24"], "outbound")?;
    arrives(&["-i", "192.0.2.0/24"], "peer")?;
    arrives(&["-i", "192.0.2.0/24", "-q", "80"], "outbound")?;
    arrives(&["-i", ""], "peer")?;

    let arrives = |more: &[&str], wanted: &str| -> Result<()> {
        scene.pod.apply_rules(more)?;
        let seen = scene.peer.as_user(User::APP).greet(scene.pod.v4(APP))?;
        ensure!(
            seen.server == wanted,
            "with {more:?} port {APP} ends at {seen}"
        );
        Ok(())
    };
    arrives(&["-b", "8080,9090"], "inbound")?;
    arrives(&["-b", "9090"], "app")?;
    arrives(&["-b", ""], "app")?;
    arrives(&["-d", "15020,8080"], "app")
}

#[test]
fn a_wrong_argument_is_named_and_leaves_the_pod_as_it_was() -> Result<()> {
    let scene = Scene::new("wrong")?;
    let before = scene.pod.traces()?;
    for (more, named) in [
        (["-p", "0"], "0"),
        (["-z", "65536"], "65536"),
        (["-u", "istio-proxy"], "istio-proxy"),
        (["-i", "10.0.0.0/33"], "10.0.0.0/33"),
        (["-b", "80,,90"], "-b"),
        (["-m", "SIDEWAYS"], "SIDEWAYS"),
    ] {
        let finished = scene.pod.init(&["istio-iptables", more[0], more[1]])?;
        assert!(
            finished.code().is_some_and(|code| code != 0 && code != 101),
            "{finished}"
        );
        assert!(finished.stderr.contains(named), "{finished}");
        assert_eq!(scene.pod.traces()?, before);
    }
    Ok(())
}

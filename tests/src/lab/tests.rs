use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use shunt_redirect::CaptureConfig;
use shunt_redirect::capture::{Dns, DnsServers, InboundMode, Mark, Port};

use super::{
    Bench, Cgroup, Flow, Lab, Observation, Outcome, Owner, Place, Protocol, Proxy, Source, Trial,
};

const PROXY: Owner = Owner {
    uid: 1337,
    gid: 1337,
    mark: None,
    cgroup: None,
};

fn flow(from: Place, owner: Owner, protocol: Protocol, to: &str) -> Flow {
    Flow {
        from,
        owner,
        source: Source::Any,
        protocol,
        to: to.parse().unwrap(),
    }
}

fn tcp(from: Place, owner: Owner, to: &str) -> Trial {
    flow(from, owner, Protocol::Tcp, to).into()
}

/// Place and listener of each flow's answer, and where it was meant to go.
fn answers(observations: &[Vec<Observation>]) -> Vec<(Place, u16, SocketAddr)> {
    observations
        .iter()
        .flatten()
        .map(|seen| match &seen.outcome {
            Outcome::Answered(arrival) => (arrival.place, arrival.listener, arrival.original),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn whatever_address_is_called_somebody_answers_who_knows_it() {
    Bench::run(|bench| {
        let mut lab = Lab::new(bench)?;
        let proxy = Proxy::of(&CaptureConfig::default());
        let mut expected = Vec::new();
        let mut trials = Vec::new();
        for (from, to, place, listener) in [
            (Place::Pod, "10.1.2.3:80", Place::Peer, 0),
            (Place::Pod, "[2001:db8::1]:65535", Place::Peer, 0),
            (Place::Pod, "203.0.113.9:1", Place::Far, 0),
            (Place::Pod, "[2001:db8:1::9]:9", Place::Far, 0),
            (Place::Pod, "127.0.0.1:8080", Place::Pod, 8080),
            (Place::Pod, "[::1]:8080", Place::Pod, 8080),
            (Place::Peer, "100.64.0.2:8081", Place::Pod, 8081),
            (Place::Peer, "[fd64::2]:8081", Place::Pod, 8081),
            (Place::Far, "100.64.1.2:8081", Place::Pod, 8081),
            (Place::Far, "10.1.2.3:8081", Place::Peer, 0),
            (Place::Far, "[2001:db8::1]:8081", Place::Peer, 0),
        ] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                trials.push(Trial::from(flow(from, Owner::APP, protocol, to)));
                expected.push((place, listener, to.parse().unwrap()));
            }
        }
        let seen = lab.run(&proxy, &trials)?;
        assert_eq!(answers(&seen), expected);
        for (trial, seen) in trials.iter().zip(&seen) {
            let own = trial.flows[0].from.own_address(trial.flows[0].family());
            let by_eth0 = matches!(seen[0].arrival(), Some(arrival) if arrival.place != Place::Far)
                && !trial.flows[0].to.ip().is_loopback();
            let arrival = seen[0].arrival().unwrap();
            assert!(!by_eth0 || arrival.source == own, "{trial}: {arrival}");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_client_outside_may_have_any_address() {
    Bench::run(|bench| {
        let mut lab = Lab::new(bench)?;
        let proxy = Proxy::of(&CaptureConfig::default());
        for (client, pod) in [
            ("192.0.2.77", "100.64.0.2:8080"),
            ("2001:db8:7::7", "[fd64::2]:8080"),
        ] {
            let client: IpAddr = client.parse()?;
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let mut flow = flow(Place::Peer, Owner::APP, protocol, pod);
                flow.source = Source::Address(client);
                let seen = lab.run(&proxy, &[flow.into()])?;
                let arrival = seen[0][0].arrival();
                assert_eq!(arrival.map(|arrival| arrival.source), Some(client));
            }
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn rules_are_seen_at_work_and_gone_when_cleared() {
    Bench::run(|bench| {
        let mut lab = Lab::new(bench)?;
        let config = CaptureConfig::default();
        let proxy = Proxy::of(&config);
        let trials = [
            tcp(Place::Pod, Owner::APP, "10.1.2.3:80"),
            tcp(Place::Pod, Owner::APP, "[2001:db8::1]:80"),
            tcp(Place::Pod, PROXY, "10.1.2.3:80"),
            tcp(Place::Peer, Owner::APP, "100.64.0.2:8080"),
            tcp(Place::Pod, PROXY, "100.64.0.2:8080"),
        ];
        let meant = trials.each_ref().map(|trial| trial.flows[0].to);
        let places = |ports: [(Place, u16); 5]| {
            let all = ports.into_iter().zip(meant);
            all.map(|((place, port), to)| (place, port, to))
                .collect::<Vec<_>>()
        };
        let free = places([
            (Place::Peer, 0),
            (Place::Peer, 0),
            (Place::Peer, 0),
            (Place::Pod, 8080),
            (Place::Pod, 8080),
        ]);
        let captured = places([
            (Place::Pod, 15001),
            (Place::Pod, 15001),
            (Place::Peer, 0),
            (Place::Pod, 15006),
            (Place::Pod, 15006),
        ]);
        assert_eq!(answers(&lab.run(&proxy, &trials)?), free);
        lab.in_pod(|_| {
            Ok(shunt_redirect::backend::apply(
                &config,
                shunt_redirect::BackendChoice::Nft,
            )?)
        })?;
        assert_eq!(answers(&lab.run(&proxy, &trials)?), captured);
        lab.clear()?;
        assert_eq!(answers(&lab.run(&proxy, &trials)?), free);
        Ok(())
    })
    .unwrap();
}

#[test]
fn tproxy_keeps_both_addresses_and_the_proxy_may_take_the_clients() {
    Bench::run(|bench| {
        let mut lab = Lab::new(bench)?;
        let mark = Mark::new(1337).unwrap();
        let mut config = CaptureConfig::default();
        config.inbound.mode = InboundMode::Tproxy { mark, table: 133 };
        let proxy = Proxy::of(&config);
        lab.in_pod(|_| {
            Ok(shunt_redirect::backend::apply(
                &config,
                shunt_redirect::BackendChoice::Nft,
            )?)
        })?;
        let marked = Owner {
            mark: Some(mark.get()),
            ..PROXY
        };
        let mut as_client = flow(Place::Pod, marked, Protocol::Tcp, "100.64.0.2:8080");
        as_client.source = Source::Address("100.64.0.1".parse()?);
        let trials = [
            tcp(Place::Peer, Owner::APP, "100.64.0.2:8080"),
            tcp(Place::Peer, Owner::APP, "[fd64::2]:8080"),
            as_client.into(),
            tcp(Place::Pod, PROXY, "100.64.0.2:8080"),
            tcp(Place::Pod, Owner::APP, "100.64.0.2:8080"),
        ];
        let seen = lab.run(&proxy, &trials)?;
        let listeners = answers(&seen)
            .iter()
            .map(|(_, port, _)| *port)
            .collect::<Vec<_>>();
        assert_eq!(listeners, [15006, 15006, 8080, 15006, 8080]);
        let source = |at: usize| seen[at][0].arrival().map(|arrival| arrival.source);
        assert_eq!(source(0), Some("100.64.0.1".parse()?));
        assert_eq!(source(2), Some("100.64.0.1".parse()?));
        lab.clear()
    })
    .unwrap();
}

#[test]
fn application_and_proxy_ask_one_server_from_one_port_and_each_is_answered_by_its_own() {
    Bench::run(|bench| {
        let mut lab = Lab::new(bench)?;
        let config = CaptureConfig {
            dns: Some(Dns {
                port: Port::new(15053).unwrap(),
                servers: DnsServers::All,
            }),
            ..CaptureConfig::default()
        };
        let proxy = Proxy::of(&config);
        lab.in_pod(|_| {
            Ok(shunt_redirect::backend::apply(
                &config,
                shunt_redirect::BackendChoice::Nft,
            )?)
        })?;
        for server in ["10.96.0.10:53", "[fd00:96::10]:53"] {
            let app = flow(Place::Pod, Owner::APP, Protocol::Udp, server);
            let own = flow(Place::Pod, PROXY, Protocol::Udp, server);
            let trials = [[app, own], [own, app]].map(|flows| Trial {
                flows: flows.to_vec(),
            });
            let seen = lab.run(&proxy, &trials)?;
            let listeners = answers(&seen)
                .iter()
                .map(|(_, port, _)| *port)
                .collect::<Vec<_>>();
            assert_eq!(listeners, [15053, 0, 0, 15053], "{seen:#?}");
            let zones: BTreeSet<u16> = seen[0][1].tracks.iter().map(|track| track.zone).collect();
            assert_eq!(zones, BTreeSet::from([1, 2]));
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_flow_that_mirrors_the_ports_of_another_is_not_taken_for_its_answer() {
    Bench::run(|bench| {
        let mut lab = Lab::new(bench)?;
        let config = CaptureConfig::default();
        lab.in_pod(|_| Ok(shunt_redirect::apply(&config)?))?;
        for [arriving, opened] in [
            ["100.64.0.2:15053", "10.96.0.10:53"],
            ["[fd64::2]:15053", "[fd00:96::10]:53"],
        ] {
            let from_port = |port, flow: Flow| Flow {
                source: Source::Port(port),
                ..flow
            };
            let arriving = flow(Place::Peer, Owner::APP, Protocol::Udp, arriving);
            let opened = flow(Place::Pod, Owner::APP, Protocol::Udp, opened);
            let trials = [from_port(53, arriving), from_port(15053, opened)].map(Trial::from);
            for seen in lab.run(&Proxy::of(&config), &trials)?.iter().flatten() {
                assert!(seen.arrival().is_some(), "{seen}");
                assert_eq!(seen.tracks, []);
            }
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_closed_port_refuses_and_a_dropped_flow_is_silent() {
    Bench::run(|bench| {
        let mut lab = Lab::new(bench)?;
        let proxy = Proxy::of(&CaptureConfig::default());
        let trials: Vec<Trial> = [
            tcp(Place::Pod, Owner::APP, "10.1.2.3:80"),
            tcp(Place::Pod, Owner::APP, "10.1.2.3:81"),
            tcp(Place::Pod, Owner::APP, "10.1.2.3:82"),
        ]
        .into();
        lab.in_pod(|bench| {
            let rules = "table ip t { chain c { type filter hook output priority 0;
                tcp dport 80 reject with tcp reset
                tcp dport 81 drop
                }
                }";
            bench.program(std::process::Command::new("nft").args(["-f", "-"]), rules)?;
            Ok(())
        })?;
        let seen = lab.run(&proxy, &trials)?;
        let outcomes: Vec<_> = seen
            .into_iter()
            .flatten()
            .map(|seen| seen.outcome)
            .collect();
        assert_eq!(outcomes[..2], [Outcome::Refused, Outcome::Silent(None)]);
        assert!(matches!(outcomes[2], Outcome::Answered(_)));
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_packet_of_no_connection_is_reset_unless_it_is_dropped() {
    Bench::run(|bench| {
        let mut lab = Lab::new(bench)?;
        let mut config = CaptureConfig::default();
        let proxy = Proxy::of(&config);
        let trials = ["100.64.0.2:8080", "[fd64::2]:8080"]
            .map(|to| Trial::from(flow(Place::Peer, Owner::APP, Protocol::Stray, to)));
        for (drop_invalid, expected) in [(false, Outcome::Refused), (true, Outcome::Silent(None))] {
            config.drop_invalid = drop_invalid;
            lab.in_pod(|_| Ok(shunt_redirect::apply(&config)?))?;
            for seen in lab.run(&proxy, &trials)?.iter().flatten() {
                assert_eq!(seen.outcome, expected);
            }
        }
        Ok(())
    })
    .unwrap();
}

/// What the process's first thread has open, and with it every thread that is not apart.
fn open_files() -> Vec<PathBuf> {
    files_in(&format!("/proc/{}/fd", std::process::id()))
}

fn files_in(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let links = entries.map(|entry| fs::read_link(entry.unwrap().path()));
    // Another test may have closed one meanwhile.
    links.flatten().collect()
}

#[test]
fn a_program_that_another_thread_starts_gets_no_socket_of_a_lab() {
    let marker = tempfile::NamedTempFile::new().unwrap();
    assert!(open_files().iter().any(|file| file == marker.path()));
    Bench::run(|_| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        let own = files_in("/proc/thread-self/fd");
        assert!(!own.iter().any(|file| file == marker.path()));
        let link = fs::read_link(format!("/proc/thread-self/fd/{}", socket.as_raw_fd()))?;
        assert!(own.contains(&link));
        assert!(!open_files().contains(&link));
        Ok(())
    })
    .unwrap();
}

#[test]
fn sockets_are_made_in_the_cgroup_of_their_owner_and_the_thread_comes_back() {
    let cgroup = || fs::read_to_string("/proc/thread-self/cgroup").unwrap();
    let folder = Bench::run(|bench| {
        let before = cgroup();
        let path = bench.cgroups()?.path(Cgroup::Inner)?;
        let owner = Owner {
            cgroup: Some(Cgroup::Inner),
            ..Owner::APP
        };
        let inside = bench.as_owner(owner, || Ok(cgroup()))?;
        let line = format!("0::/{}", path.as_str());
        assert!(inside.lines().any(|own| own == line), "{line}: {inside}");
        assert_eq!(cgroup(), before);
        assert_eq!(Cgroup::of(&path), Some(Cgroup::Inner));
        let folder = Path::new("/sys/fs/cgroup").join(path.as_str());
        assert!(folder.is_dir());
        Ok(folder)
    })
    .unwrap();
    Bench::run(|bench| {
        bench.cgroups()?;
        assert!(!folder.exists(), "{} is left", folder.display());
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_thousand_flows_are_a_matter_of_seconds() -> Result<()> {
    Bench::run(|bench| {
        let mut lab = Lab::new(bench)?;
        let config = CaptureConfig::default();
        let proxy = Proxy::of(&config);
        lab.in_pod(|_| {
            Ok(shunt_redirect::backend::apply(
                &config,
                shunt_redirect::BackendChoice::Nft,
            )?)
        })?;
        let trials: Vec<Trial> = (0..1000)
            .map(|n: u32| {
                let to = format!("10.0.{}.{}:{}", n / 250, n % 250, 80 + n % 7);
                tcp(Place::Pod, Owner::APP, &to)
            })
            .collect();
        lab.run(&proxy, &trials)?;
        let start = std::time::Instant::now();
        let seen = lab.run(&proxy, &trials)?;
        let took = start.elapsed();
        ensure!(answers(&seen).iter().all(|(_, port, _)| *port == 15001));
        ensure!(took.as_secs() < 5, "1000 flows took {took:?}");
        Ok(())
    })
}

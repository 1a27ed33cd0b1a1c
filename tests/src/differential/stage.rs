//! A proxy in a pod, and a peer pod with upstreams and clients.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::http2;
use super::message::Kind;
use super::scenario::{Scenario, Target};
use super::transcript::Transcript;
use super::wire::{Board, End, Record, Wire};
use crate::DEADLINE;
use crate::ca::{Ca, SanType};
use crate::expect::eventually::poll;
use crate::net::{Network, Pod, User};
use crate::process::Running;
use crate::programs;
use crate::server::Server;

/// Ports of the peer on which upstreams listen. Nobody listens on others.
pub const UPSTREAM_PORTS: std::ops::RangeInclusive<u16> = 9001..=9006;

/// How long an end that was announced is awaited.
const ANNOUNCED: Duration = Duration::from_millis(1500);

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    /// The model.
    Envoy,
    /// Ours.
    Shunt,
}

/// A running proxy with everything around it.
#[derive(Debug)]
pub struct Stage {
    proxy: Pod,
    peer: Pod,
    process: Running,
    upstreams: Arc<Upstreams>,
    _servers: Vec<Server>,
    _net: Network,
}

#[derive(Debug, Default)]
struct Upstreams {
    scene: Mutex<Option<(Arc<Scenario>, Arc<Board>)>>,
    open: AtomicUsize,
}

impl Upstreams {
    fn scene(&self) -> Option<(Arc<Scenario>, Arc<Board>)> {
        let scene = self.scene.lock().unwrap_or_else(PoisonError::into_inner);
        scene.clone()
    }

    fn set(&self, scene: Option<(Arc<Scenario>, Arc<Board>)>) {
        *self.scene.lock().unwrap_or_else(PoisonError::into_inner) = scene;
    }
}

impl Stage {
    /// Starts a proxy with this bootstrap. `PROXY_V4` and `PEER_V4` in it stand for the addresses
    /// of its pod and of the peer, `OWN_CERTIFICATE` and `OWN_KEY` for a pair in PEM; with a listener on the outbound capture port the pod's traffic
    /// is captured.
    ///
    /// # Errors
    /// Not root, or the proxy does not become ready; what it said is in the error.
    pub fn start(which: Proxy, name: &str, bootstrap: &str) -> Result<Self> {
        let net = Network::new(name)?;
        let proxy = net.pod("proxy").build()?;
        let peer = net.pod("peer").build()?;
        let bootstrap = bootstrap
            .replace("PROXY_V4", &proxy.v4(0).ip().to_string())
            .replace("PEER_V4", &peer.v4(0).ip().to_string());
        let bootstrap = with_certificate(&bootstrap)?;
        if bootstrap.contains(&format!("port_value: {}", shunt_abi::port::OUTBOUND)) {
            proxy.apply_rules(&[])?;
        }
        let upstreams = Arc::new(Upstreams::default());
        let mut servers = Vec::new();
        for port in UPSTREAM_PORTS {
            let upstreams = Arc::clone(&upstreams);
            servers.push(peer.tcp_server("upstream", port, move |connection| {
                let Some((scenario, board)) = upstreams.scene() else {
                    return Ok(());
                };
                upstreams.open.fetch_add(1, Ordering::SeqCst);
                let stream = connection.stream.try_clone()?;
                if let Some(answers) = scenario.http2_upstreams.get(&port) {
                    let served = http2::serve(stream, port, answers, &board);
                    upstreams.open.fetch_sub(1, Ordering::SeqCst);
                    return served.map_err(io::Error::other);
                }
                let (mut wire, number) = Wire::upstream(stream, port, &board);
                wire.serve(&scenario.script(port, number));
                wire.drain_and_close(&connection.stream);
                upstreams.open.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })?);
        }
        let process = match which {
            Proxy::Shunt => {
                let one = |command: crate::process::Command| command.args(["--concurrency", "1"]);
                proxy.sidecar_under(&bootstrap, one)?.process
            }
            Proxy::Envoy => start_envoy(&proxy, &bootstrap)?,
        };
        Ok(Self {
            proxy,
            peer,
            process,
            upstreams,
            _servers: servers,
            _net: net,
        })
    }

    /// Runs one scenario, until nothing has happened for as long as `quiet`.
    ///
    /// # Errors
    /// The proxy has ended, or nobody listens where a client connects to.
    pub fn run(&mut self, scenario: &Arc<Scenario>, quiet: Duration) -> Result<Transcript> {
        let board = Board::new();
        self.upstreams
            .set(Some((Arc::clone(scenario), Arc::clone(&board))));
        let by_http2 = match &scenario.http2[..] {
            [] => Vec::new(),
            requests => http2::play(self.connect(&scenario.target())?, requests)?,
        };
        let mut clients = Vec::new();
        for client in scenario.clients() {
            let mut wire = match self.connect(&client.target) {
                Ok(stream) => Wire::client(stream, &board),
                Err(error) if is_reset(&error) => Wire::reset(&board),
                Err(error) => return Err(error),
            };
            let record = wire.record();
            let player = thread::spawn(move || {
                wire.play(&client.steps);
                wire
            });
            clients.push((record, player));
        }
        let mut drains = Vec::new();
        let mut records = Vec::new();
        for (record, player) in clients {
            let mut wire = player
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            records.push(record);
            drains.push(thread::spawn(move || {
                wire.drain();
                drop(wire);
            }));
        }
        let snapshot = || -> Vec<Record> {
            let copy = |record: &Arc<Mutex<Record>>| {
                record
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone()
            };
            records.iter().map(copy).collect()
        };
        poll(ANNOUNCED + quiet, || {
            let announced = snapshot().iter().any(|record| {
                let last = record.seen.last();
                record.end == End::Kept && last.is_some_and(|s| s.message.announces_close())
            });
            (!announced && board.quiet() >= quiet).then_some(())
        });
        let mut upstreams = board.upstreams();
        for (_, record) in &mut upstreams {
            record.complete(Kind::Request);
        }
        let mut records = snapshot();
        for record in &mut records {
            record.complete(Kind::Response);
        }
        let mut transcript = Transcript::of(&records, &upstreams, scenario.time());
        transcript.lines.splice(0..0, by_http2);
        transcript.lines.extend(board.noted());

        self.upstreams.set(None);
        board.end();
        for drain in drains {
            drain
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        poll(DEADLINE, || {
            (self.upstreams.open.load(Ordering::SeqCst) == 0).then_some(())
        })
        .context("upstream connections do not end")?;
        if let Some(status) = self.process.ended()? {
            bail!(
                "the proxy ended with {status}: {}",
                self.process.stderr().text()
            );
        }
        Ok(transcript)
    }
}

impl Stage {
    fn connect(&self, target: &Target) -> Result<TcpStream> {
        match target {
            Target::Captured(address) => {
                let to: SocketAddr = address
                    .replace("PEER_V4", &self.peer.v4(0).ip().to_string())
                    .parse()
                    .with_context(|| format!("no address: {address}"))?;
                self.proxy.as_user(User::APP).connect(to)
            }
            Target::Port(port) => self.peer.as_user(User::APP).connect(self.proxy.v4(*port)),
        }
    }
}

/// Whether somebody accepted and reset the connection before its client could look at it.
fn is_reset(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

/// A bootstrap with a certificate and its key where it asks for them.
fn with_certificate(bootstrap: &str) -> Result<String> {
    if !bootstrap.contains("OWN_CERTIFICATE") {
        return Ok(bootstrap.to_owned());
    }
    let own = Ca::new()?.issue(vec![SanType::DnsName("shop.test".try_into()?)])?;
    let line = |pem: String| pem.replace('\r', "").replace('\n', "\\n");
    Ok(bootstrap
        .replace("OWN_CERTIFICATE", &line(own.certificate.pem()))
        .replace("OWN_KEY", &line(own.key.serialize_pem())))
}

/// Starts Envoy in a pod and waits until it is ready.
///
/// # Errors
/// It ends or does not become ready; what it said is in the error.
pub fn start_envoy(pod: &Pod, bootstrap: &str) -> Result<Running> {
    let mut process = pod
        .command(programs::envoy()?)
        .args(["--concurrency", "1", "--disable-hot-restart"])
        .args(["--log-level", "error", "--config-yaml", bootstrap])
        .user(User::PROXY)
        .start()?;
    let ready = poll(DEADLINE, || match process.ended() {
        Ok(None) => pod.admin("/ready").is_ok().then_some(true),
        _ => Some(false),
    });
    match ready {
        Some(true) => Ok(process),
        _ => bail!("Envoy is not ready; it said:\n{}", process.stderr().text()),
    }
}

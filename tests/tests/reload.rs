//! A thousand changes of configuration under load: each is seen, and nobody is disturbed.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shunt_tests::client::tcp::greeting;
use shunt_tests::client::wire::read_response_head;
use shunt_tests::expect::eventually::poll;
use shunt_tests::folder::Folder;
use shunt_tests::prelude::*;
use shunt_tests::server::Answer;

const CHANGES: usize = 1000;
/// Changes before anything is measured.
const WARM_UP: usize = 40;
/// Threads that send requests all the time.
const LOAD: usize = 2;

/// The listener whose chains never change, with routes from a file.
const STEADY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// The listener of TCP streams, which never changes either.
const STREAMS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);
/// The listener whose chain changes with its file.
const CHANGING: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8082);

const ONE: u16 = 9001;
const TWO: u16 = 9002;
const STREAM: u16 = 9003;
const ECHO: u16 = 9004;

/// What stands in the files.
#[derive(Clone, Copy)]
struct Version {
    /// What the routes answer themselves.
    routes: usize,
    /// Which application the endpoints of one cluster are.
    endpoints: u16,
    /// Which application the other cluster is.
    cluster: u16,
    /// What the changing listener answers.
    listener: usize,
}

/// The files of the sidecar.
struct Files(Folder);

impl Files {
    fn new() -> Result<Self> {
        Ok(Self(Folder::new()?))
    }

    fn source(&self, name: &str) -> String {
        let path = self.0.path(name);
        format!("{{ path_config_source: {{ path: {} }} }}", path.display())
    }

    fn put(&self, name: &str, resources: &str) -> Result<()> {
        Ok(self.0.put(name, &format!("resources:\n{resources}"))?)
    }

    fn bootstrap(&self) -> String {
        format!(
            "dynamic_resources:\n  lds_config: {}\n  cds_config: {}\n",
            self.source("lds.yaml"),
            self.source("cds.yaml")
        )
    }

    fn routes(&self, version: Version) -> Result<()> {
        let to = |name: &str| {
            format!("{{ match: {{ prefix: /{name} }}, route: {{ cluster: {name}, timeout: 0s }} }}")
        };
        let text = format!(
            r#"- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: steady
  virtual_hosts:
  - name: all
    domains: ["*"]
    routes:
    - {{ match: {{ prefix: /routes }}, direct_response: {{ status: 200, body: {{ inline_string: "{}" }} }} }}
    - {}
    - {}
    - {}
"#,
            version.routes,
            to("endpoints"),
            to("cluster"),
            to("stream")
        );
        self.put("rds.yaml", &text)
    }

    fn endpoints(&self, version: Version) -> Result<()> {
        let text = format!(
            r#"- "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: endpoints
  endpoints: {}
"#,
            endpoints(version.endpoints)
        );
        self.put("eds.yaml", &text)
    }

    fn clusters(&self, version: Version) -> Result<()> {
        let fixed = |name: &str, port: u16| {
            format!(
                r#"- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: {name}
  load_assignment: {{ cluster_name: {name}, endpoints: {} }}
"#,
                endpoints(port)
            )
        };
        let text = format!(
            r#"{}{}{}- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: endpoints
  type: EDS
  eds_cluster_config: {{ eds_config: {} }}
"#,
            fixed("cluster", version.cluster),
            fixed("stream", STREAM),
            fixed("echo", ECHO),
            self.source("eds.yaml")
        );
        self.put("cds.yaml", &text)
    }

    fn listeners(&self, version: Version) -> Result<()> {
        let steady = format!(
            "rds: {{ route_config_name: steady, config_source: {} }}",
            self.source("rds.yaml")
        );
        let changing = format!(
            "route_config: {{ virtual_hosts: [{{ name: all, domains: ['*'], routes: [{{ match: {{ \
             prefix: / }}, direct_response: {{ status: 200, body: {{ inline_string: \"{}\" }} }} \
             }}] }}] }}",
            version.listener
        );
        let tcp = r#"
        "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
        stat_prefix: streams
        cluster: echo"#;
        let text = [
            listener("steady", STEADY, &http(&steady)),
            listener("streams", STREAMS, tcp),
            listener("changing", CHANGING, &http(&changing)),
        ];
        self.put("lds.yaml", &text.concat())
    }

    /// Make the change of this number; returns the version after it.
    fn change(&self, number: usize, mut version: Version) -> Result<(Version, Change)> {
        let other = |port: u16| if port == ONE { TWO } else { ONE };
        match number % 4 {
            0 => {
                version.routes = number;
                self.routes(version)?;
                Ok((version, Change::new("/routes", number.to_string())))
            }
            1 => {
                version.endpoints = other(version.endpoints);
                self.endpoints(version)?;
                let answer = version.endpoints.to_string();
                Ok((version, Change::new("/endpoints", answer)))
            }
            2 => {
                version.cluster = other(version.cluster);
                self.clusters(version)?;
                let answer = version.cluster.to_string();
                Ok((version, Change::new("/cluster", answer)))
            }
            _ => {
                version.listener = number;
                self.listeners(version)?;
                Ok((version, Change::new("/listener", number.to_string())))
            }
        }
    }
}

/// A change, as a client sees it.
struct Change {
    path: &'static str,
    answer: String,
}

impl Change {
    fn new(path: &'static str, answer: String) -> Self {
        Self { path, answer }
    }
}

fn endpoints(port: u16) -> String {
    format!(
        "[{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, \
         port_value: {port} }} }} }} }}] }}]"
    )
}

fn http(routes: &str) -> String {
    format!(
        r#"
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: http
        upgrade_configs: [{{ upgrade_type: websocket }}]
        {routes}
        http_filters:
        - name: router
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"#
    )
}

fn listener(name: &str, at: SocketAddr, filter: &str) -> String {
    format!(
        r#"- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: {name}
  address: {{ socket_address: {{ address: {}, port_value: {} }} }}
  filter_chains:
  - filters:
    - name: filter
      typed_config:{filter}
"#,
        at.ip(),
        at.port()
    )
}

/// What asks for a WebSocket, and what grants it.
const WEBSOCKET: &[u8] = b"upgrade: websocket\r\n";

/// An application that sends numbered lines, one chunk each, until it is told to stop; or sends back
/// what comes, where a WebSocket is asked for.
fn streaming(pod: &Pod, stop: &Arc<AtomicBool>) -> Result<Server> {
    let stop = Arc::clone(stop);
    pod.tcp_server("stream", STREAM, move |connection| {
        let mut stream = &*connection.stream;
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            seen.push(byte[0]);
        }
        if seen
            .windows(WEBSOCKET.len())
            .any(|found| found == WEBSOCKET)
        {
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n")?;
            stream.write_all(WEBSOCKET)?;
            stream.write_all(b"\r\n")?;
            return std::io::copy(&mut &*connection.stream, &mut stream).map(drop);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
        let mut number = 0;
        while !stop.load(Ordering::SeqCst) {
            let line = format!("{number:07}\n");
            stream.write_all(format!("8\r\n{line}\r\n").as_bytes())?;
            number += 1;
            // The pace of the stream, not a wait for anything.
            thread::sleep(Duration::from_millis(2));
        }
        stream.write_all(b"0\r\n\r\n")
    })
}

/// Reads such a stream to its end; returns how many lines it had.
fn read_stream(pod: &Pod) -> Result<u64> {
    let stream = pod.as_user(User::APP).connect(STEADY)?;
    (&stream).write_all(b"GET /stream HTTP/1.1\r\nhost: a\r\n\r\n")?;
    let mut lines = BufReader::new(&stream).lines();
    let status = lines.next().context("no answer")??;
    ensure!(status == "HTTP/1.1 200 OK", "{status}");
    // Chunks of the upstream may be passed on in chunks of another length, but a line is not cut
    // where nothing cuts it: what is neither a length nor empty is a line.
    let mut number = 0;
    loop {
        let line = lines.next().context("it broke off")??;
        if line == "0" {
            return Ok(number);
        }
        if line.len() == 7 && line.bytes().all(|b| b.is_ascii_digit()) {
            ensure!(
                line == format!("{number:07}"),
                "{line} is not line {number}"
            );
            number += 1;
        }
    }
}

/// A TCP stream to an application that sends back what comes.
fn tcp_stream(pod: &Pod) -> Result<TcpStream> {
    let stream = pod.as_user(User::APP).connect(STREAMS)?;
    greeting(&stream)?;
    Ok(stream)
}

/// A WebSocket to such an application; the bytes on it are no frames, which nobody looks at.
fn web_socket(pod: &Pod) -> Result<TcpStream> {
    let stream = pod.as_user(User::APP).connect(STEADY)?;
    (&stream).write_all(b"GET /stream HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n")?;
    (&stream).write_all(WEBSOCKET)?;
    (&stream).write_all(b"\r\n")?;
    let head = read_response_head(&mut BufReader::with_capacity(1, &stream))?;
    ensure!(head.status == 101, "answered with {}", head.status);
    Ok(stream)
}

/// Sends numbers through a stream, each when the last has come back.
fn ping(stream: TcpStream, stop: &AtomicBool) -> Result<u64> {
    let mut number: u64 = 0;
    while !stop.load(Ordering::SeqCst) {
        (&stream).write_all(&number.to_be_bytes())?;
        let mut back = [0; 8];
        (&stream).read_exact(&mut back)?;
        ensure!(back == number.to_be_bytes(), "{back:?} is not {number}");
        number += 1;
        thread::sleep(Duration::from_millis(2));
    }
    Ok(number)
}

/// Sends requests, most on one connection that is kept alive; all must succeed.
fn load(pod: &Pod, stop: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    let app = pod.as_user(User::APP);
    let mut kept = app.http(STEADY)?;
    let mut changing = app.http(CHANGING)?;
    while !stop.load(Ordering::SeqCst) {
        for path in ["/routes", "/endpoints", "/cluster"] {
            let response = kept.send(&Request::get(path))?;
            ensure!(response.status == 200, "{path}: {}", response.text());
            ensure!(
                !response.head.wants_close(),
                "{path}: its chain is the same"
            );
            sent.fetch_add(1, Ordering::SeqCst);
        }
        let response = changing.send(&Request::get("/"))?;
        ensure!(response.status == 200, "changing: {}", response.text());
        if response.head.wants_close() {
            changing = app.http(CHANGING)?;
        }
        sent.fetch_add(1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Waits until a client sees a change; returns how long after it was made.
fn seen(pod: &Pod, kept: &mut HttpClient, change: &Change, made: Instant) -> Result<Duration> {
    let mut last = String::new();
    let answered = poll(DEADLINE, || {
        let response = match change.path {
            "/listener" => pod.as_user(User::APP).get(CHANGING, "/"),
            path => kept.send(&Request::get(path)),
        };
        match response {
            Ok(response) if response.status == 200 => {
                let now = response.text();
                let done = now == change.answer;
                last = now;
                done.then(|| Ok(made.elapsed()))
            }
            Ok(response) => Some(Err(Error::msg(format!(
                "{}: {}",
                response.status,
                response.text()
            )))),
            Err(error) => Some(Err(error)),
        }
    });
    answered.with_context(|| format!("{} answers {last:?}, not {}", change.path, change.answer))?
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    let joined = thread.join();
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What the sidecar holds, in KiB, and how many files it has open.
fn holds(sidecar: &Sidecar) -> Result<(u64, usize)> {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.process.pid()))?;
    let rss = status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
        .context("no VmRSS")?;
    Ok((rss, sidecar.process.open_files()?))
}

#[test]
fn a_thousand_changes_under_load_are_seen_and_disturb_nobody() -> Result<()> {
    let net = Network::new("reload")?;
    let pod = net.pod("pod").build()?;
    let named = |port: u16| pod.http_app_with("app", port, move |_| Answer::ok(port.to_string()));
    let _applications = [named(ONE)?, named(TWO)?];
    let stop = Arc::new(AtomicBool::new(false));
    let _streaming = streaming(&pod, &stop)?;
    let _echo = pod.echo("echo", ECHO)?;

    let files = Files::new()?;
    let mut version = Version {
        routes: CHANGES,
        endpoints: ONE,
        cluster: ONE,
        listener: CHANGES,
    };
    files.routes(version)?;
    files.endpoints(version)?;
    files.clusters(version)?;
    files.listeners(version)?;
    let sidecar = pod.sidecar_under(&files.bootstrap(), |command| {
        command.args(["--concurrency", "2", "--drain-time-s", "1"])
    })?;

    let mut kept = pod.as_user(User::APP).http(STEADY)?;
    let sent = AtomicU64::new(0);
    let (mut times, before) = thread::scope(|scope| -> Result<_> {
        let stream = scope.spawn(|| read_stream(&pod));
        let pinging = scope.spawn(|| ping(tcp_stream(&pod)?, &stop));
        let upgraded = scope.spawn(|| ping(web_socket(&pod)?, &stop));
        let loads: Vec<_> = (0..LOAD)
            .map(|_| scope.spawn(|| load(&pod, &stop, &sent)))
            .collect();
        let mut changes = || -> Result<_> {
            let mut times = Vec::with_capacity(CHANGES);
            let mut before = (0, 0);
            for number in 0..CHANGES {
                if number == WARM_UP {
                    before = holds(&sidecar)?;
                }
                let made = Instant::now();
                let change;
                (version, change) = files.change(number, version)?;
                let time = seen(&pod, &mut kept, &change, made)
                    .with_context(|| format!("change {number}"))?;
                times.push(time);
            }
            Ok((times, before))
        };
        let changed = changes();
        stop.store(true, Ordering::SeqCst);
        for thread in loads {
            joined(thread)?;
        }
        let lines = joined(stream).context("the streaming response")?;
        let pings = joined(pinging).context("the TCP stream")?;
        let frames = joined(upgraded).context("the WebSocket")?;
        println!(
            "{lines} lines of one response, {pings} round trips of one TCP stream, {frames} of one \
             WebSocket"
        );
        ensure!(
            lines > 100 && pings > 100 && frames > 100,
            "{lines} lines, {pings} and {frames} round trips are no load"
        );
        changed
    })?;
    let sent = sent.load(Ordering::SeqCst);
    ensure!(sent > CHANGES as u64, "{sent} requests are no load");
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "{CHANGES} changes during {sent} requests, seen after: median {:?}, 99 % {:?}, all {:?}",
        at(50),
        at(99),
        at(100)
    );

    // Every change was taken, none was refused, and each is counted where it belongs.
    let metrics = pod.metrics()?;
    let quarter = CHANGES as u64 / 4;
    for (family, wanted) in [
        ("envoy_http_rds_update_success", quarter + 1),
        ("envoy_cluster_update_success", quarter + 1),
        ("envoy_cluster_manager_cds_update_success", quarter + 1),
        ("envoy_listener_manager_lds_update_success", quarter + 1),
        ("envoy_listener_manager_listener_modified", quarter),
        ("envoy_listener_manager_listener_removed", 0),
        ("envoy_http_rds_update_rejected", 0),
        ("envoy_cluster_manager_cds_update_rejected", 0),
        ("envoy_listener_manager_lds_update_rejected", 0),
    ] {
        assert_eq!(metrics.count(family, &[]), wanted, "{family}");
    }

    // What it took for a version goes with the version.
    drop(kept);
    let mut after = before;
    let returned = poll(DEADLINE, || {
        after = holds(&sidecar).ok()?;
        (after.1 <= before.1 && after.0 <= before.0 + 4096).then_some(())
    });
    println!("KiB and files: {before:?} after {WARM_UP} changes, {after:?} in the end");
    returned.with_context(|| format!("it held {before:?} (KiB, files) and holds {after:?}"))?;
    Ok(())
}

//! The sidecar as a process: signals and streams. Needs root, for a network namespace of its own,
//! and `ip`.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do, and are not marked as such"
)]

use nix::fcntl::{FcntlArg, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use std::ffi::OsStr;
use std::fs;
use std::io::{PipeReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_shunt-agent");
const DEADLINE: Duration = Duration::from_secs(60);
const PORT: u16 = 18080;

/// One HTTP listener whose cluster nobody serves.
const BOOTSTRAP: &str = r#"
static_resources:
  listeners:
  - name: http
    address: { socket_address: { address: 127.0.0.1, port_value: 18080 } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: http
          route_config:
            virtual_hosts:
            - { name: all, domains: ["*"], routes: [{ match: { prefix: / }, route: { cluster: nobody } }] }
          http_filters:
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
  - name: nobody
    type: STATIC
    load_assignment:
      cluster_name: nobody
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 9 } } }
"#;

/// Runs `test` in a fresh network namespace, which ends with it.
fn in_namespace(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
            let up = Command::new("ip")
                .args(["link", "set", "lo", "up"])
                .status();
            assert!(up.expect("this test needs `ip`").success());
            test();
        });
        if let Err(panic) = inside.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// A sidecar, killed when dropped.
struct Sidecar(Child);

impl Sidecar {
    fn start(config: &Path, stderr: impl Into<Stdio>) -> Self {
        let mut command = Command::new(PROGRAM);
        command
            .args([
                "sidecar",
                "--concurrency",
                "2",
                "--drain-time-s",
                "600",
                "-c",
            ])
            .arg(config);
        Self(
            command
                .stdout(Stdio::null())
                .stderr(stderr)
                .spawn()
                .unwrap(),
        )
    }

    fn terminate(&self) {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    }

    /// The exit code, once it has ended.
    fn code(&mut self) -> Option<i32> {
        let ended = until("it ends", || self.0.try_wait().unwrap());
        ended.code()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::yield_now();
    }
}

/// A pipe in which there is no room, as its writer sees it.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let size = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    writer
        .write_all(&vec![b'.'; size.try_into().unwrap()])
        .unwrap();
    (reader, writer.into())
}

/// The status that the sidecar answers with.
fn status() -> Option<String> {
    asked().map(|(_connection, status)| status)
}

/// A connection that was served, and the status that it was answered with.
fn asked() -> Option<(TcpStream, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", PORT)).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    let status = String::from_utf8_lossy(&answer[9..]).into_owned();
    Some((stream, status))
}

#[test]
fn a_signal_while_the_configuration_is_read_ends_it() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        // Nobody writes to it, so reading it takes for ever.
        let config = folder.path().join("bootstrap.yaml");
        mkfifo(&config, Mode::from_bits_truncate(0o600)).unwrap();
        let mut sidecar = Sidecar::start(&config, Stdio::null());
        let status = format!("/proc/{}/status", sidecar.0.id());
        until("it has a handler for SIGTERM", || {
            let text = fs::read_to_string(&status).unwrap();
            let caught = text
                .lines()
                .find_map(|l| l.strip_prefix("SigCgt:\t"))
                .unwrap();
            let mask = u64::from_str_radix(caught, 16).unwrap();
            (mask & 1 << (Signal::SIGTERM as u64 - 1) != 0).then_some(())
        });
        sidecar.terminate();
        assert_eq!(sidecar.code(), Some(0));
    });
}

#[test]
fn a_standard_error_that_nobody_reads_blocks_no_request_and_no_end() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("bootstrap.yaml");
        fs::write(&config, BOOTSTRAP).unwrap();
        let (_unread, stderr) = full_pipe();
        let mut sidecar = Sidecar::start(&config, stderr);
        assert_eq!(until("it answers", status), "503");
        // Each failure to connect is a line of the log.
        for _ in 0..20 {
            assert_eq!(status().unwrap(), "503");
        }
        sidecar.terminate();
        assert_eq!(sidecar.code(), Some(0));

        // And a second signal ends it while a connection keeps it draining.
        let (_unread, stderr) = full_pipe();
        let mut sidecar = Sidecar::start(&config, stderr);
        assert_eq!(until("it answers", status), "503");
        // One that was served, so that it is not in the listener's queue only.
        let (_open, answer) = asked().unwrap();
        assert_eq!(answer, "503");
        sidecar.terminate();
        until("readiness fails", || {
            let mut probe = TcpStream::connect(("127.0.0.1", 15021)).unwrap();
            let request = b"GET /healthz/ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            probe.write_all(request).unwrap();
            let mut answer = String::new();
            probe.read_to_string(&mut answer).unwrap();
            answer.starts_with("HTTP/1.1 503").then_some(())
        });
        sidecar.terminate();
        // Long before the drain time is over.
        assert_eq!(sidecar.code(), Some(143));
    });
}

#[test]
fn a_limit_that_is_no_number_is_refused_even_if_it_is_no_text() {
    for (value, shown) in [(&b"2.5"[..], "`2.5`"), (b"\xff", "`\u{fffd}`")] {
        let output = Command::new(PROGRAM)
            .args(["sidecar", "-c", "/nowhere.yaml"])
            .env("ISTIO_CPU_LIMIT", OsStr::from_bytes(value))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("ISTIO_CPU_LIMIT"), "{error}");
        assert!(error.contains(shown), "{error}");
    }
}

//! The client: an ordinary user of the pod `client`, who knows nothing of the mesh either.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use shunt_tests::client::tcp::greeting;
use shunt_tests::expect::bytes::Pattern;
use shunt_tests::net::User;

use super::stage::{ECHO, GREETER, SERVICE, Stage, request};

const CONNECTIONS: usize = 10;
const REQUESTS: usize = 1000;
const CANARIES: usize = 100;
/// What passes through each TCP service, both ways.
const BYTES: usize = 1 << 20;

/// Answers as the client saw them, by the version that gave them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// Of the requests without `x-canary`.
    pub(super) plain: [u64; 2],
    /// Of the canaries.
    pub(super) canary: [u64; 2],
    took: Duration,
}

impl Seen {
    /// All answers of each version.
    pub(super) fn total(&self) -> [u64; 2] {
        [0, 1].map(|version| self.plain[version] + self.canary[version])
    }

    pub(super) fn describe(&self) -> String {
        format!(
            "client -> {SERVICE}: {REQUESTS} requests as uid 1000 on {CONNECTIONS} connections, \
             then {CANARIES} canaries, in {} ms",
            self.took.as_millis()
        )
    }
}

/// Sends the HTTP requests and checks how they were split.
pub(super) fn send(stage: &Stage) -> Result<Seen> {
    let begun = Instant::now();
    let plain = on_connections(stage, REQUESTS, false)?;
    let canary = on_connections(stage, CANARIES, true)?;
    let [v1, _] = plain;
    ensure!(
        (850..=950).contains(&v1),
        "reviews-v1 has weight 90 and answered {v1} of {REQUESTS} requests, not 850 to 950"
    );
    ensure!(
        canary == [0, CANARIES as u64],
        "all of the {CANARIES} canaries must reach reviews-v2; it was {canary:?}"
    );
    Ok(Seen {
        plain,
        canary,
        took: begun.elapsed(),
    })
}

/// Sends requests on several connections at a time; returns how many each version answered.
fn on_connections(stage: &Stage, requests: usize, canary: bool) -> Result<[u64; 2]> {
    let client = stage.client.pod.as_user(User::APP);
    let request = request(canary);
    let one_connection = || -> Result<[u64; 2]> {
        let mut seen = [0; 2];
        let mut http = client.http(SERVICE)?;
        for _ in 0..requests / CONNECTIONS {
            let response = http.send(&request)?;
            ensure!(
                response.status == 200,
                "answered {}: {}",
                response.status,
                response.text()
            );
            match response.server()?.as_str() {
                "reviews-v1" => seen[0] += 1,
                "reviews-v2" => seen[1] += 1,
                other => anyhow::bail!("`{other}` answered"),
            }
        }
        Ok(seen)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|_| scope.spawn(one_connection))
            .collect();
        threads
            .into_iter()
            .try_fold([0; 2], |sum: [u64; 2], thread| {
                let seen = thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                Ok([sum[0] + seen[0], sum[1] + seen[1]])
            })
    })
}

/// Uses both TCP services and compares every byte; returns what is to be told.
pub(super) fn try_tcp(stage: &Stage) -> Result<Vec<String>> {
    let client = stage.client.pod.as_user(User::APP);

    let mut stream = client.connect(ECHO)?;
    stream.write_all(b"hello")?;
    let seen = greeting(&stream).context("the service in which the client speaks first")?;
    let mut hello = [0; 5];
    stream.read_exact(&mut hello)?;
    ensure!(&hello == b"hello", "{hello:?} came back");
    exchange(&stream)?;
    let first = format!(
        "client -> {ECHO}: client spoke first, {} answered, 1 MiB both ways unharmed",
        seen.server
    );

    let stream = client.connect(GREETER)?;
    let seen = greeting(&stream).context("the service in which the server speaks first")?;
    exchange(&stream)?;
    let second = format!(
        "client -> {GREETER}: {} spoke first, 1 MiB both ways unharmed",
        seen.server
    );
    Ok(vec![first, second])
}

/// Sends a pattern, ends the sending side, and expects the pattern back, then the end.
fn exchange(stream: &std::net::TcpStream) -> Result<()> {
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || -> std::io::Result<()> {
            let mut writer = stream;
            Pattern::new(3).write(&mut writer, BYTES)?;
            stream.shutdown(Shutdown::Write)
        });
        let mut reader = stream;
        Pattern::new(3).expect(&mut reader, BYTES)?;
        sender
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(())
    })
}

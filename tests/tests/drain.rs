//! The end of a sidecar: requests that arrive while it drains are served.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use shunt_tests::net::AsUser;
use shunt_tests::prelude::*;
use shunt_tests::process::Signal;
use shunt_tests::scene::{self, HTTP, Scene, TCP};
use shunt_tests::server::Answer;

const REQUESTS: usize = 500;
const THREADS: usize = 20;
/// Longer than all requests take on the slowest machine; it ends when the last of them is answered.
const LONG: [&str; 2] = ["--drain-time-s", "600"];

/// An application that answers `/slow` only once it is told to.
fn slow_app(pod: &Pod) -> Result<(Server, Arc<Gate>)> {
    let gate = Arc::new(Gate::default());
    let server = {
        let gate = Arc::clone(&gate);
        pod.http_app_with("app", HTTP, move |exchange| {
            if exchange.head.target == "/slow" {
                gate.pass();
            }
            Answer::ok("done")
        })?
    };
    Ok((server, gate))
}

/// A gate at which a request waits.
#[derive(Default)]
struct Gate {
    reached: AtomicBool,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        self.reached.store(true, Ordering::SeqCst);
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self
            .opened
            .wait_timeout_while(open, DEADLINE, |open| !*open);
        drop(wait);
    }

    fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }
}

/// Sends requests while a slow one keeps the sidecar draining; none may fail.
fn requests_during_the_drain_succeed(
    scene: Scene,
    server: Server,
    gate: &Gate,
    client: impl Fn(&Scene) -> AsUser<'_> + Sync,
    to: std::net::SocketAddr,
) -> Result<()> {
    let slow = Request::get("/slow");
    let mut waiting = client(&scene).http(to)?;
    waiting.begin(&slow)?;
    eventually("the slow request is at the application", || {
        gate.reached.load(Ordering::SeqCst)
    })?;
    let mut idle = client(&scene).http(to)?;
    let response = idle.send(&Request::get("/before"))?;
    assert_eq!(response.header("connection"), None, "not draining yet");

    scene.sidecar.process.signal(Signal::SIGTERM)?;
    eventually("readiness fails", || {
        scene.pod.readiness().is_ok_and(|status| status == 503)
    })?;
    let begun = Instant::now();
    let answered = std::thread::scope(|scope| {
        let work = || -> Result<usize> {
            for number in 0..REQUESTS / THREADS {
                let response = client(&scene).get(to, "/during").with_context(|| {
                    format!("request {number}, {:?} after the signal", begun.elapsed())
                })?;
                ensure!(
                    response.status == 200,
                    "{}: {}",
                    response.status,
                    response.text()
                );
                ensure!(
                    response.head.wants_close(),
                    "an answer during the drain must close: {:?}",
                    response.head
                );
            }
            Ok(REQUESTS / THREADS)
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_fold(0, |sum, thread| {
            let answered = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            anyhow::Ok(sum + answered)
        })
    })?;
    assert_eq!(answered, REQUESTS);

    // A connection that was there before is served once more, and told to go.
    let response = idle.send(&Request::get("/after"))?;
    assert_eq!(response.status, 200);
    assert!(response.head.wants_close());

    gate.open();
    let response = waiting.finish(&slow)?;
    assert_eq!(response.text(), "done");
    assert!(response.head.wants_close());
    assert_eq!(server.requests(), REQUESTS as u64 + 3);
    let finished = scene.sidecar.process.finish()?;
    assert_eq!(finished.code(), Some(0), "{finished}");
    Ok(())
}

#[test]
fn five_hundred_outbound_requests_that_arrive_during_the_drain_succeed() -> Result<()> {
    let scene = Scene::under("drain-out", |command| command.args(LONG))?;
    let (server, gate) = slow_app(&scene.peer)?;
    let to = scene::reviews(Family::V4);
    requests_during_the_drain_succeed(scene, server, &gate, Scene::app, to)
}

#[test]
fn five_hundred_inbound_requests_that_arrive_during_the_drain_succeed() -> Result<()> {
    let scene = Scene::under("drain-in", |command| command.args(LONG))?;
    let (server, gate) = slow_app(&scene.pod)?;
    let to = scene.pod.v4(HTTP);
    requests_during_the_drain_succeed(scene, server, &gate, Scene::outsider, to)
}

#[test]
fn a_sidecar_without_connections_ends_at_once() -> Result<()> {
    let scene = Scene::under("drain-idle", |command| command.args(LONG))?;
    scene.sidecar.process.signal(Signal::SIGTERM)?;
    let finished = scene.sidecar.process.finish()?;
    assert_eq!(finished.code(), Some(0), "{finished}");
    Ok(())
}

#[test]
fn an_idle_connection_does_not_outlast_the_drain_time() -> Result<()> {
    let scene = Scene::new("drain-late")?;
    let _echo = scene.peer.echo("peer", TCP)?;
    let stream = scene.app().connect(scene::echo())?;
    shunt_tests::client::tcp::greeting(&stream)?;
    let begun = Instant::now();
    scene.sidecar.process.signal(Signal::SIGTERM)?;
    let finished = scene.sidecar.process.finish()?;
    assert_eq!(finished.code(), Some(0), "{finished}");
    assert!(
        begun.elapsed().as_secs() >= 4,
        "an open connection was cut after {:?}",
        begun.elapsed()
    );
    Ok(())
}

#[test]
fn a_second_signal_ends_it_at_once() -> Result<()> {
    let scene = Scene::under("drain-twice", |command| command.args(LONG))?;
    let _echo = scene.peer.echo("peer", TCP)?;
    let stream = scene.app().connect(scene::echo())?;
    shunt_tests::client::tcp::greeting(&stream)?;
    scene.sidecar.process.signal(Signal::SIGTERM)?;
    eventually("readiness fails", || {
        scene.pod.readiness().is_ok_and(|status| status == 503)
    })?;
    scene.sidecar.process.signal(Signal::SIGTERM)?;
    let finished = scene.sidecar.process.finish()?;
    assert_eq!(finished.code(), Some(143), "{finished}");
    Ok(())
}

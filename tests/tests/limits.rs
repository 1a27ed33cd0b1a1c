//! A sidecar that lacks something: file descriptors, a reader of its log, privileges.

use std::io::Read;
use std::time::{Duration, Instant};

use shunt_tests::client::tcp::greeting;
use shunt_tests::expect::eventually::poll;
use shunt_tests::prelude::*;
use shunt_tests::process::Signal;
use shunt_tests::scene::{self, BOOTSTRAP, HTTP, Scene, TCP};

/// What became of a connection under overload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Served,
    Shed,
}

#[test]
fn connections_beyond_the_limit_of_files_are_shed_and_told_and_nothing_spins() -> Result<()> {
    const CONNECTIONS: usize = 200;
    let scene = Scene::under("files", |command| command.fd_limit(64))?;
    let _app = scene.pod.echo("app", TCP)?;
    let mut streams = Vec::new();
    let mut reset_at_once = 0;
    for _ in 0..CONNECTIONS {
        match scene.outsider().connect(scene.pod.v4(TCP)) {
            Ok(stream) => streams.push(stream),
            // Shed before the client had looked.
            Err(error) if is_reset(&error) => reset_at_once += 1,
            Err(error) => return Err(error),
        }
    }
    // Each is either greeted or closed; a connection that is neither would be lost in silence.
    let fates: Vec<Fate> = std::thread::scope(|scope| {
        let threads: Vec<_> = streams
            .iter()
            .map(|stream| scope.spawn(|| fate(stream)))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect::<Result<_>>()
    })?;
    let shed = reset_at_once + fates.iter().filter(|fate| **fate == Fate::Shed).count();
    assert!(
        shed > 0 && shed < CONNECTIONS,
        "{shed} of {CONNECTIONS} were shed"
    );

    // For a second nothing happens, with all files still taken: it must cost nothing either.
    let (begun, used) = (Instant::now(), scene.sidecar.process.cpu_time()?);
    let quiet = poll(Duration::from_secs(1), || {
        scene.sidecar.process.cpu_time().err()
    });
    assert!(quiet.is_none(), "it died: {quiet:?}");
    let used = scene.sidecar.process.cpu_time()? - used;
    assert!(
        used < begun.elapsed() / 4,
        "it used {used:?} of CPU in {:?} of idling",
        begun.elapsed()
    );

    drop(streams);
    eventually("connections are served again", || {
        scene.outsider().greet(scene.pod.v4(TCP)).is_ok()
    })?;
    let count =
        |metrics: &Metrics| metrics.count("envoy_listener_downstream_cx_overload_reject", &[]);
    let counted = count(&scene.pod.metrics()?);
    assert!(
        counted >= shed as u64,
        "{shed} were shed, {counted} counted"
    );
    // Those that came while it had no room again are among them.
    let records = scene
        .sidecar
        .wait_for_records(usize::try_from(counted)?, |record| record.has_flag("OM"))?;
    assert_eq!(records.len() as u64, counted);
    Ok(())
}

fn is_reset(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

fn fate(mut stream: &std::net::TcpStream) -> Result<Fate> {
    let mut first = [0];
    match stream.read(&mut first) {
        Ok(0) => bail!("ended as if it had been served"),
        Ok(_) => Ok(Fate::Served),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(Fate::Shed),
        Err(error) => Err(error).context("neither greeted nor closed"),
    }
}

#[test]
fn a_blocked_standard_output_blocks_no_request_and_the_lost_records_are_counted() -> Result<()> {
    const REQUESTS: u64 = 600;
    // Far more than a pipe and the writer's buffer of 1 MiB take.
    let long = format!("/{}", "x".repeat(6000));
    let mut scene = Scene::under("blocked", |command| command.stdout_unread())?;
    let _app = scene.peer.http_app("reviews", HTTP)?;
    let mut http = scene.app().http(scene::reviews(Family::V4))?;
    for _ in 0..REQUESTS {
        assert_eq!(http.send(&Request::get(&long))?.status, 200);
    }
    let dropped = |scene: &Scene| -> Result<u64> {
        Ok(scene
            .pod
            .metrics()?
            .count("shunt_access_log_dropped_total", &[]))
    };
    eventually("dropped records are counted", || {
        dropped(&scene).is_ok_and(|count| count > 0)
    })?;

    // Whoever reads again gets all that was not dropped.
    scene.sidecar.process.read_stdout();
    let accounted = || -> Result<u64> {
        let lines = scene.sidecar.process.stdout().lines();
        Ok(AccessRecord::all(&lines)?.len() as u64 + dropped(&scene)?)
    };
    eventually("every record is written or counted", || {
        accounted().is_ok_and(|count| count == REQUESTS)
    })
    .with_context(|| format!("{:?} of {REQUESTS} are accounted for", accounted()))
}

#[test]
fn it_runs_as_restricted_as_kubernetes_can_make_it() -> Result<()> {
    // Pod Security `restricted`: any uid, no capability, no new privileges, read-only root, the
    // runtime's seccomp profile.
    let net = Network::new("restricted")?;
    let pod = net.pod("pod").build()?;
    let peer = net.pod("peer").build()?;
    let _reviews = peer.http_app("reviews", HTTP)?;
    let _app = pod.echo("app", TCP)?;
    let someone = User::new(65_532);
    pod.apply_rules(&["-u", "65532"])?;
    let mut sidecar = pod.sidecar_under(BOOTSTRAP, |command| {
        command
            .user(someone)
            .no_new_privs()
            .read_only_root()
            .runtime_default_seccomp()
    })?;
    for family in Family::BOTH {
        let response = pod.as_user(User::APP).get(scene::reviews(family), "/")?;
        assert_eq!(response.server()?, "reviews");
        assert_eq!(
            peer.as_user(User::APP).greet(pod.on(family, TCP))?.server,
            "app"
        );
    }
    assert!(pod.admin("/config_dump")?.contains("virtualOutbound"));
    assert_eq!(sidecar.process.ended()?, None);
    Ok(())
}

#[test]
fn it_drains_as_the_first_process_of_a_container() -> Result<()> {
    // As PID 1 the kernel gives no signal a default action: the sidecar must take it itself.
    let net = Network::new("init")?;
    let pod = net.pod("pod").build()?;
    let _app = pod.echo("app", TCP)?;
    // As root, so that unshare may make the container's process namespace.
    pod.apply_rules(&["-u", "0"])?;
    let peer = net.pod("peer").build()?;
    let sidecar = pod
        .command("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(programs::shunt_agent()?)
        .args(["sidecar", "--config", "/dev/stdin"])
        .stdin_text(BOOTSTRAP)?
        .start()?;
    pod.wait_until_ready(|| Ok(()))
        .with_context(|| sidecar.stderr().text())?;
    let stream = peer.as_user(User::APP).connect(pod.v4(TCP))?;
    assert_eq!(greeting(&stream)?.server, "app");
    drop(stream);
    sidecar.signal_child(Signal::SIGTERM)?;
    let finished = sidecar.finish()?;
    assert_eq!(finished.code(), Some(0), "{finished}");
    Ok(())
}

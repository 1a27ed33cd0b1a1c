//! The harness itself: what later tests take for granted.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;

use shunt_tests::expect::bytes::Pattern;
use shunt_tests::net::Namespace;
use shunt_tests::prelude::*;
use shunt_tests::process::Signal;
use shunt_tests::server::Speaks;

#[test]
fn pods_reach_each_other_in_both_families_and_see_true_addresses() -> Result<()> {
    let net = Network::new("reach")?;
    let server = net.pod("server").build()?;
    let client = net.pod("client").build()?;
    let echo = server.echo("app", 8080)?;
    for family in Family::BOTH {
        let seen = client.as_user(User::APP).greet(server.on(family, 8080))?;
        assert_eq!(seen.server, "app");
        assert_eq!(seen.peer.ip(), client.on(family, 0).ip());
        assert_eq!(seen.local, server.on(family, 8080));
        assert_eq!(seen.destination(), seen.local);
    }
    assert_eq!(echo.connections(), 2);
    Ok(())
}

#[test]
fn pods_on_different_nodes_reach_each_other() -> Result<()> {
    let net = Network::new("nodes")?;
    let server = net.node("node-1")?.pod("server").build()?;
    let client = net.node("node-2")?.pod("client").build()?;
    let _echo = server.echo("app", 8080)?;
    for family in Family::BOTH {
        client.as_user(User::APP).greet(server.on(family, 8080))?;
    }
    Ok(())
}

#[test]
fn two_networks_use_the_same_addresses_without_meeting() -> Result<()> {
    let (one, two) = (Network::new("one")?, Network::new("two")?);
    let (server_one, server_two) = (one.pod("server").build()?, two.pod("server").build()?);
    let (client_one, client_two) = (one.pod("client").build()?, two.pod("client").build()?);
    assert_eq!(server_one.v4(80), server_two.v4(80));
    let _echo = (server_one.echo("one", 80)?, server_two.echo("two", 80)?);
    assert_eq!(
        client_one
            .as_user(User::APP)
            .greet(server_one.v4(80))?
            .server,
        "one"
    );
    assert_eq!(
        client_two
            .as_user(User::APP)
            .greet(server_two.v4(80))?
            .server,
        "two"
    );
    Ok(())
}

#[test]
fn an_address_nobody_owns_is_unreachable_at_once() -> Result<()> {
    let net = Network::new("nobody")?;
    let client = net.pod("client").build()?;
    for address in ["10.96.0.10:9080", "[fd00:96::10]:9080"] {
        let begun = std::time::Instant::now();
        let outcome = client.as_user(User::APP).connect(address.parse()?);
        assert!(outcome.is_err());
        assert!(
            begun.elapsed() < DEADLINE / 3,
            "it took {:?}",
            begun.elapsed()
        );
    }
    Ok(())
}

#[test]
fn a_pod_without_ipv6_has_not_even_its_loopback() -> Result<()> {
    let net = Network::new("v4only")?;
    let pod = net.pod("pod").disable_ipv6().build()?;
    let addresses = pod.traces()?.addresses;
    assert!(
        addresses.contains("127.0.0.1") && !addresses.contains("::"),
        "{addresses}"
    );
    Ok(())
}

#[test]
fn sockets_belong_to_the_user_who_makes_them() -> Result<()> {
    let net = Network::new("owner")?;
    let pod = net.pod("pod").build()?;
    pod.load_rules(
        "table inet t { chain c { type filter hook output priority 0; meta skuid 1337 meta skgid 1337 tcp dport 8080 reject\n }\n }",
    )?;
    let _echo = pod.echo("app", 8080)?;
    for family in Family::BOTH {
        let to = (family.loopback(), 8080).into();
        pod.as_user(User::APP).greet(to)?;
        pod.as_user(User::ROOT).greet(to)?;
        assert!(pod.as_user(User::PROXY).greet(to).is_err());
    }
    Ok(())
}

#[test]
fn a_redirected_connection_tells_its_original_destination() -> Result<()> {
    let net = Network::new("original")?;
    let pod = net.pod("pod").build()?;
    pod.load_rules(
        "table inet t { chain c { type nat hook output priority -100; tcp dport 80 redirect to :15001\n }\n }",
    )?;
    let _proxy = pod.echo("proxy", 15001)?;
    for wanted in ["10.96.0.10:80", "[fd00:96::10]:80"] {
        let wanted = wanted.parse()?;
        let seen = pod.as_user(User::APP).greet(wanted)?;
        assert_eq!(seen.server, "proxy");
        assert_eq!(seen.original, Some(wanted));
        assert_ne!(seen.local, wanted);
    }
    Ok(())
}

#[test]
fn an_echo_server_lets_either_side_speak_first_and_returns_every_byte() -> Result<()> {
    let net = Network::new("echo")?;
    let pod = net.pod("pod").build()?;
    let _first = pod.echo("first", 8001)?;
    let _second = pod.echo_that_speaks(Speaks::ClientFirst, "second", 8002)?;
    let me = pod.as_user(User::APP);
    let mut stream = me.connect(pod.v4(8001))?;
    assert_eq!(shunt_tests::client::tcp::greeting(&stream)?.server, "first");
    let mut writer = stream.try_clone()?;
    std::thread::scope(|scope| -> Result<()> {
        let sender = scope.spawn(move || -> std::io::Result<()> {
            Pattern::new(1).write(&mut writer, 1_000_000)?;
            writer.shutdown(Shutdown::Write)
        });
        Pattern::new(1).expect(&mut stream, 1_000_000)?;
        sender.join().unwrap()?;
        Ok(())
    })?;

    let mut stream = me.connect(pod.v4(8002))?;
    stream.write_all(b"hello")?;
    assert_eq!(
        shunt_tests::client::tcp::greeting(&stream)?.server,
        "second"
    );
    stream.shutdown(Shutdown::Write)?;
    let mut rest = String::new();
    stream.read_to_string(&mut rest)?;
    assert_eq!(rest, "hello");
    Ok(())
}

#[test]
fn the_application_tells_the_request_it_got_and_counts_it() -> Result<()> {
    let net = Network::new("http")?;
    let pod = net.pod("pod").build()?;
    let app = pod.http_app("reviews", 9080)?;
    let mut client = pod.as_user(User::APP).http(pod.v6(9080))?;
    for _ in 0..3 {
        let request = Request::post("/a?b", "12345").header("X-Canary", "always");
        let response = client.send(&request)?;
        assert_eq!(response.status, 200);
        assert_eq!(response.server()?, "reviews");
        let json = response.json()?;
        assert_eq!(
            (&json["method"], &json["path"]),
            (&"POST".into(), &"/a?b".into())
        );
        assert_eq!(json["body_bytes"], 5);
        assert_eq!(
            json["headers"][1],
            serde_json::json!(["X-Canary", "always"])
        );
    }
    assert_eq!((app.connections(), app.requests()), (1, 3));
    // An oracle that shares no code with either end.
    let curl = pod
        .command("curl")
        .args(["-sS", &format!("http://{}/x", pod.v4(9080))])
        .finish()?;
    assert!(curl.success()?.stdout.contains("\"path\":\"/x\""));
    Ok(())
}

#[test]
fn a_program_runs_inside_the_pod_under_its_conditions() -> Result<()> {
    let net = Network::new("conditions")?;
    let pod = net.pod("pod").build()?;
    let script = "id -u; id -G; ulimit -n; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; \
                  touch /tmp/x 2>&1; unshare -U true 2>&1; cat /proc/net/dev";
    let said = pod
        .command("sh")
        .args(["-c", script])
        .user(User::new(4242))
        .fd_limit(64)
        .read_only_root()
        .runtime_default_seccomp()
        .finish()?
        .success()?
        .stdout;
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines[..6],
        [
            "4242",
            "4242",
            "64",
            "CapEff:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2"
        ],
        "{said}"
    );
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(said.contains("Operation not permitted"), "{said}");
    assert!(said.contains("eth0:"), "{said}");
    Ok(())
}

#[test]
fn a_user_runs_a_program_in_a_folder_that_is_closed_to_him() -> Result<()> {
    let net = Network::new("closed")?;
    let pod = net.pod("pod").build()?;
    // Closed to all but root, as the folders below /root are.
    let closed = tempfile::tempdir()?;
    let open = closed.path().join("debug");
    fs::create_dir(&open)?;
    fs::copy("/usr/bin/id", open.join("id"))?;
    let id = pod
        .command(open.join("id"))
        .arg("-u")
        .user(User::APP)
        .finish()?
        .success()?;
    assert_eq!((id.stdout.as_str(), id.name.as_str()), ("1000\n", "id"));
    Ok(())
}

#[test]
fn a_dropped_program_is_gone_and_its_output_can_be_awaited() -> Result<()> {
    let net = Network::new("programs")?;
    let pod = net.pod("pod").build()?;
    let running = pod
        .command("sh")
        .args(["-c", "echo ready; echo oops >&2; read x; sleep 60"])
        .start()?;
    assert_eq!(running.stdout().wait_for("read")?, "ready");
    assert_eq!(running.stderr().wait_for("oops")?, "oops");
    let pid = running.pid();
    assert!(fs::exists(format!("/proc/{pid}"))?);
    drop(running);
    assert!(!fs::exists(format!("/proc/{pid}"))?);

    let running = pod.command("sleep").arg("60").start()?;
    running.signal(Signal::SIGTERM)?;
    assert_eq!(running.finish()?.code(), None);
    Ok(())
}

#[test]
fn a_panic_inside_a_pod_reaches_the_test() -> Result<()> {
    let net = Network::new("panic")?;
    let pod = net.pod("pod").build()?;
    let outcome = std::panic::catch_unwind(|| {
        pod.run(|| -> Result<()> { panic!("inside") }).unwrap();
    });
    let panic = outcome.unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"inside"));
    Ok(())
}

#[test]
fn nothing_of_a_network_is_seen_outside_and_nothing_is_left() -> Result<()> {
    let links = || -> Result<Vec<String>> {
        let mut names: Vec<_> = fs::read_dir("/sys/class/net")?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        names.sort();
        Ok(names)
    };
    let before = links()?;
    let net = Network::new("traceless")?;
    let _pod = net.pod("pod").build()?;
    assert_eq!(links()?, before);
    Ok(())
}

#[test]
fn a_pinned_namespace_can_be_entered_by_its_name_until_it_is_unpinned() -> Result<()> {
    let name = format!("shunt-test-{}", std::process::id());
    let net = Network::new("pinned")?;
    let pod = net.pod("pod").build()?;
    let path = pod.namespace().pin(&name)?;
    assert_eq!(Namespace::pinned(&name)?, [name.as_str()]);
    let inside = std::process::Command::new("nsenter")
        .arg(format!("--net={}", path.display()))
        .args(["ip", "-brief", "address"])
        .output()?;
    Namespace::unpin(&name)?;
    assert!(
        String::from_utf8_lossy(&inside.stdout).contains("eth0"),
        "{inside:?}"
    );
    assert!(Namespace::pinned(&name)?.is_empty());
    assert!(Namespace::unpin(&name).is_err());
    Ok(())
}

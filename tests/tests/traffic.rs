//! Captured traffic through a real sidecar: it arrives where it should, as it was sent.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use shunt_tests::client::tcp::greeting;
use shunt_tests::expect::bytes::Pattern;
use shunt_tests::prelude::*;
use shunt_tests::scene::{self, HTTP, Scene, TCP};
use shunt_tests::server::{Answer, Connection};

const MEGABYTES_10: usize = 10 * 1024 * 1024;

#[test]
fn a_request_to_a_service_reaches_its_endpoint_with_headers_and_body_intact() -> Result<()> {
    let scene = Scene::new("intact")?;
    let app = scene.peer.http_app_with("reviews", HTTP, |exchange| {
        let mut answer = Answer::ok(exchange.body);
        answer.status = 418;
        let heads = serde_json::to_string(exchange.head.headers.as_slice()).unwrap_or_default();
        answer.headers = vec![
            (
                "x-request-line".into(),
                format!("{} {}", exchange.head.method, exchange.head.target),
            ),
            ("x-headers".into(), heads),
            ("set-cookie".into(), "a=1".into()),
            ("set-cookie".into(), "b=2".into()),
        ];
        answer
    })?;
    let body: Vec<u8> = (0..200_000).map(|_| fastrand::u8(..)).collect();
    let long = "v".repeat(8000);
    for family in Family::BOTH {
        let sent = [
            ("host", "reviews:9080"),
            ("x-twice", "one"),
            ("x-between", ""),
            ("x-twice", "two, three"),
            ("x-long", &long),
            ("x-latin", "caf\u{e9}"),
            ("cookie", "c=3; d=4"),
        ];
        let mut request = Request::post("/a%20b//c/../d?q=1&q=%zz", body.clone());
        for (name, value) in sent {
            request = request.header(name, value);
        }
        let response = scene.app().request(scene::reviews(family), &request)?;
        assert_eq!(response.status, 418);
        assert!(response.body == body, "the body came back changed");
        assert_eq!(
            response.head.values("set-cookie").collect::<Vec<_>>(),
            ["a=1", "b=2"]
        );
        assert_eq!(
            response.header("x-request-line"),
            Some("POST /a%20b//c/../d?q=1&q=%zz")
        );
        let headers = response.header("x-headers").context("no x-headers")?;
        let arrived: Vec<(String, String)> = serde_json::from_str(headers)?;
        for (name, value) in sent {
            let arrived: Vec<_> = values(&arrived, name);
            let expected: Vec<_> = sent
                .iter()
                .filter(|(n, _)| *n == name)
                .map(|(_, v)| *v)
                .collect();
            assert_eq!(arrived, expected, "{name}: {value}");
        }
        assert_eq!(values(&arrived, "content-length"), ["200000"]);
    }
    assert_eq!(app.requests(), 2);
    let metrics = scene.pod.metrics()?;
    for cluster in ["outbound|9080||reviews", "outbound|9080||reviews-v6"] {
        assert_eq!(
            metrics.count(
                "envoy_cluster_upstream_rq_total",
                &[("envoy_cluster_name", cluster)]
            ),
            1
        );
    }
    Ok(())
}

fn values<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    let named = headers
        .iter()
        .filter(|(found, _)| found.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_str()).collect()
}

#[test]
fn a_connection_to_an_address_without_a_listener_passes_through_to_where_it_was_going() -> Result<()>
{
    let scene = Scene::new("passthrough")?;
    let _peer = scene.peer.echo("peer", 7777)?;
    for family in Family::BOTH {
        let to = scene.peer.on(family, 7777);
        let seen = scene.app().greet(to)?;
        assert_eq!(
            (seen.local, seen.peer.ip()),
            (to, scene.pod.on(family, 0).ip())
        );
    }
    assert_eq!(scene.connections()?, 2);
    Ok(())
}

#[test]
fn inbound_connections_reach_the_application_from_the_inbound_source() -> Result<()> {
    let scene = Scene::new("inbound")?;
    let _http = scene.pod.http_app("app", HTTP)?;
    let _tcp = scene.pod.echo("tcp", TCP)?;
    for family in Family::BOTH {
        let seen = scene
            .outsider()
            .get(scene.pod.on(family, HTTP), "/")?
            .json()?;
        let peer: SocketAddr = seen["peer"].as_str().unwrap_or_default().parse()?;
        assert_eq!(peer.ip(), family.inbound_source());
        assert_eq!(seen["local"], scene.pod.on(family, HTTP).to_string());

        let seen = scene.outsider().greet(scene.pod.on(family, TCP))?;
        assert_eq!(seen.peer.ip(), family.inbound_source());
        assert_eq!(seen.local, scene.pod.on(family, TCP));
    }
    assert_eq!(scene.requests("inbound_9080")?, 2);
    Ok(())
}

#[test]
fn the_application_reaches_itself_by_service_pod_address_and_loopback() -> Result<()> {
    let scene = Scene::new("itself")?;
    let app = scene.pod.http_app("app", HTTP)?;
    let peer_of = |to: SocketAddr| -> Result<SocketAddr> {
        let response = scene.app().get(to, "/").with_context(|| to.to_string())?;
        assert_eq!(response.status, 200, "{to}");
        Ok(response.json()?["peer"]
            .as_str()
            .unwrap_or_default()
            .parse()?)
    };
    for family in Family::BOTH {
        let before = scene.requests("inbound_9080")?;
        let own = scene.pod.on(family, HTTP);
        assert_eq!(peer_of(own)?.ip(), own.ip(), "directly");
        assert_eq!(
            peer_of((family.loopback(), HTTP).into())?.ip(),
            family.loopback(),
            "directly"
        );
        assert_eq!(scene.requests("inbound_9080")?, before);
        // By its service a request leaves through the outbound side and enters through the inbound.
        assert_eq!(peer_of(scene::own(family))?.ip(), family.inbound_source());
        assert_eq!(scene.requests("inbound_9080")?, before + 1);
    }
    assert_eq!(app.requests(), 6);
    assert_eq!(scene.requests("outbound_own")?, 2);
    Ok(())
}

#[test]
fn each_request_and_each_connection_leaves_one_record() -> Result<()> {
    let scene = Scene::new("records")?;
    let _app = scene.peer.http_app("reviews", HTTP)?;
    let _echo = scene.peer.echo("peer", TCP)?;
    let mut http = scene.app().http(scene::reviews(Family::V4))?;
    for number in 0..5 {
        http.send(
            &Request::get(&format!("/{number}"))
                .header("user-agent", "test \"agent\"\n".trim_end()),
        )?;
    }
    drop(http);
    drop(scene.app().greet(scene::echo())?);
    let records = scene.sidecar.wait_for_records(6, |_| true)?;
    assert_eq!(records.len(), 6);
    for number in 0..5 {
        let request = format!("GET /{number} HTTP/1.1");
        let [record] = matching(&records, &request)[..] else {
            bail!("not one record of {request}")
        };
        assert_eq!(record.get("response_code"), "200");
        assert_eq!(record.get("response_flags"), "-");
        assert_eq!(record.get("response_code_details"), "via_upstream");
        assert_eq!(record.get("upstream_host"), scene.peer.v4(HTTP).to_string());
        assert_eq!(record.get("upstream_cluster"), "outbound|9080||reviews");
        assert_eq!(
            record.get("downstream_local_address"),
            scene::reviews(Family::V4).to_string()
        );
        assert_eq!(record.get("route_name"), "default");
        assert_eq!(
            record.get("authority"),
            scene::reviews(Family::V4).to_string()
        );
    }
    let [tcp] = matching(&records, "- - -")[..] else {
        bail!("not one record of TCP")
    };
    assert_eq!(tcp.get("upstream_cluster"), "outbound|9000||echo");
    assert_eq!(tcp.get("response_code"), "0");
    assert_ne!(tcp.get("bytes_sent"), "0");
    Ok(())
}

fn matching<'a>(records: &'a [AccessRecord], request: &str) -> Vec<&'a AccessRecord> {
    records
        .iter()
        .filter(|record| record.get("request") == request)
        .collect()
}

#[test]
fn a_service_without_an_endpoint_that_answers_is_503_with_its_flag() -> Result<()> {
    let scene = Scene::new("refused")?;
    let response = scene.app().get(scene::reviews(Family::V4), "/")?;
    assert_eq!(response.status, 503);
    let records = scene.sidecar.wait_for_records(1, |_| true)?;
    assert!(records[0].has_flag("UF"), "{records:?}");
    Ok(())
}

#[test]
fn a_server_that_speaks_first_is_heard_in_both_directions() -> Result<()> {
    let scene = Scene::new("server-first")?;
    let _peer = scene.peer.echo("peer", TCP)?;
    let _app = scene.pod.echo("app", TCP)?;
    assert_eq!(scene.app().greet(scene::echo())?.server, "peer");
    for family in Family::BOTH {
        assert_eq!(
            scene.app().greet(scene.peer.on(family, TCP))?.server,
            "peer"
        );
        assert_eq!(
            scene.outsider().greet(scene.pod.on(family, TCP))?.server,
            "app"
        );
    }
    Ok(())
}

/// Who sends its stream and ends its side while the other has yet to send all of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndsFirst {
    Client,
    Server,
    Neither,
}

const FROM_CLIENT: u64 = 1;
const FROM_SERVER: u64 = 2;

impl EndsFirst {
    /// One side's part: sends its pattern, expects the other's, in the order that this case wants.
    fn play(self, stream: &TcpStream, own: u64, other: u64) -> std::io::Result<()> {
        let send = || {
            let mut writer = stream;
            Pattern::new(own).write(&mut writer, MEGABYTES_10)?;
            stream.shutdown(Shutdown::Write)
        };
        let receive = || {
            let mut reader = stream;
            Pattern::new(other).expect(&mut reader, MEGABYTES_10)
        };
        let first = match self {
            Self::Client => own == FROM_CLIENT,
            Self::Server => own == FROM_SERVER,
            Self::Neither => {
                return std::thread::scope(|scope| {
                    let sender = scope.spawn(send);
                    receive()?;
                    sender
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                });
            }
        };
        // The other side begins once it has seen our end, so that its whole stream comes through
        // a connection that is closed one way.
        if first {
            send().and_then(|()| receive())
        } else {
            receive().and_then(|()| send())
        }
    }
}

fn ten_megabytes_each_way(ends_first: EndsFirst) -> Result<()> {
    let scene = Scene::new("streams")?;
    let serve = move |connection: &Connection| {
        ends_first.play(&connection.stream, FROM_SERVER, FROM_CLIENT)
    };
    let outside = scene.peer.tcp_server("peer", TCP, serve)?;
    let inside = scene.pod.tcp_server("app", TCP, serve)?;
    for (client, to) in [
        (scene.app(), scene::echo()),
        (scene.app(), scene.peer.v6(TCP)),
        (scene.outsider(), scene.pod.v4(TCP)),
        (scene.outsider(), scene.pod.v6(TCP)),
    ] {
        let stream = client.connect(to)?;
        ends_first
            .play(&stream, FROM_CLIENT, FROM_SERVER)
            .with_context(|| {
                format!(
                    "{to}; servers: {:?} {:?}",
                    outside.failures(),
                    inside.failures()
                )
            })?;
    }
    eventually("the servers are done", || {
        scene.sidecar.wait_for_records(4, |_| true).is_ok()
    })?;
    assert_eq!(
        (outside.failures(), inside.failures()),
        (Vec::new(), Vec::new())
    );
    let records = scene.sidecar.wait_for_records(4, |_| true)?;
    for record in &records {
        let size = MEGABYTES_10.to_string();
        assert_eq!(
            (record.get("bytes_received"), record.get("bytes_sent")),
            (&*size, &*size)
        );
    }
    Ok(())
}

#[test]
fn ten_megabytes_pass_each_way_at_once() -> Result<()> {
    ten_megabytes_each_way(EndsFirst::Neither)
}

#[test]
fn ten_megabytes_pass_each_way_when_the_client_ends_its_side_first() -> Result<()> {
    ten_megabytes_each_way(EndsFirst::Client)
}

#[test]
fn ten_megabytes_pass_each_way_when_the_server_ends_its_side_first() -> Result<()> {
    ten_megabytes_each_way(EndsFirst::Server)
}

#[test]
fn a_connection_that_is_reset_is_reset_on_the_other_side() -> Result<()> {
    let scene = Scene::new("reset")?;
    let peer = scene.peer.tcp_server("peer", TCP, |connection| {
        // Waits for the end, which must come as an error: a reset is no orderly end.
        let mut reader = &*connection.stream;
        std::io::copy(&mut reader, &mut std::io::sink()).map(drop)
    })?;
    let mut stream = scene.app().connect(scene::echo())?;
    stream.write_all(b"the beginning of something")?;
    eventually("the server has the connection", || peer.connections() == 1)?;
    let socket = socket2::SockRef::from(&stream);
    socket.set_linger(Some(std::time::Duration::ZERO))?;
    drop(stream);
    eventually("the server sees the reset", || !peer.failures().is_empty())?;
    assert!(
        peer.failures()[0].contains("reset"),
        "{:?}",
        peer.failures()
    );
    Ok(())
}

#[test]
fn the_proxys_own_ports_do_not_loop() -> Result<()> {
    let scene = Scene::new("loop")?;
    let before = scene.connections()?;
    let mut tried = 0;
    for family in Family::BOTH {
        for port in [shunt_abi::port::OUTBOUND, shunt_abi::port::INBOUND] {
            for (client, to) in [
                (scene.outsider(), scene.pod.on(family, port)),
                (scene.app(), scene.pod.on(family, port)),
                (scene.app(), (family.loopback(), port).into()),
            ] {
                tried += 1;
                // Refused or closed without a byte, and soon: that is all a client may see.
                let Ok(mut stream) = client.connect(to) else {
                    continue;
                };
                let mut answer = Vec::new();
                let outcome = stream.read_to_end(&mut answer);
                assert!(answer.is_empty(), "{to} answers {answer:?}");
                let waited = outcome.err().map(|error| error.kind());
                assert_ne!(
                    waited,
                    Some(std::io::ErrorKind::WouldBlock),
                    "{to} neither answers nor closes"
                );
            }
        }
    }
    let made = scene.connections()? - before;
    assert!(made <= tried, "{tried} connections became {made}");
    scene.pod.eventually_idle()
}

#[test]
fn a_greeting_is_not_mixed_up_between_connections() -> Result<()> {
    let scene = Scene::new("many")?;
    let _peer = scene.peer.echo("peer", TCP)?;
    let streams: Vec<_> = (0..200)
        .map(|_| scene.app().connect(scene::echo()))
        .collect::<Result<_>>()?;
    for (number, mut stream) in streams.iter().enumerate() {
        assert_eq!(greeting(stream)?.server, "peer");
        let words = format!("connection {number}");
        stream.write_all(words.as_bytes())?;
        let mut back = vec![0; words.len()];
        stream.read_exact(&mut back)?;
        assert_eq!(back, words.as_bytes());
    }
    Ok(())
}

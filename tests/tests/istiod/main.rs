//! What a real istiod sends, served in captured pods: scenarios 01-basic, 11-external and
//! 16-kubernetes. The sidecars get all of it but what `tests/data/istiod/refused.txt` names.

mod mesh;
mod wire;

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use mesh::{Member, Mesh, Program, tls_client_config, tls_server_config};
use shunt_tests::client::tcp::greeting;
use shunt_tests::prelude::*;
use wire::{grpc_call, grpc_server, tls_get, tls_server};

const CLIENT_ID: &str = "spiffe://cluster.local/ns/app/sa/client";
const REVIEWS_ID: &str = "spiffe://cluster.local/ns/app/sa/reviews";
const INBOUND_SOURCE: &str = "127.0.0.6";
const SERVERS: [&str; 2] = ["reviews-1", "reviews-2"];

/// The service `reviews`, which no machine owns.
fn reviews(port: u16) -> SocketAddr {
    ([10, 96, 0, 10], port).into()
}

fn legacy(port: u16) -> SocketAddr {
    ([10, 96, 0, 11], port).into()
}

/// An address of nobody.
fn nowhere(port: u16) -> SocketAddr {
    ([10, 99, 0, 1], port).into()
}

fn values<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    let named = headers.iter().filter(|(found, _)| found == name);
    named.map(|(_, value)| value.as_str()).collect()
}

/// The only header of this name.
fn only<'a>(headers: &'a [(String, String)], name: &str) -> Result<&'a str> {
    match values(headers, name)[..] {
        [value] => Ok(value),
        _ => bail!("not one {name}: {headers:?}"),
    }
}

/// That a request says by whom and to whom it came, with the certificate's hash.
fn vouched(headers: &[(String, String)]) -> Result<()> {
    let told = only(headers, "x-forwarded-client-cert")?;
    let hash = told
        .strip_prefix(&format!("By={REVIEWS_ID};Hash="))
        .and_then(|rest| rest.strip_suffix(&format!(";Subject=\"\";URI={CLIENT_ID}")))
        .with_context(|| told.to_owned())?;
    ensure!(hash.len() == 64, "{told}");
    Ok(())
}

/// A request of the client to the service, and what is said of it everywhere. Returns who answered.
fn http_by_mutual_tls(mesh: &Mesh, to: SocketAddr, host: &str, port: u16) -> Result<String> {
    let cluster = format!("outbound|{}||reviews.app.svc.cluster.local", to.port());
    let path = format!("/{}", fastrand::u64(..));
    let request = Request::get(&path)
        .header("host", host)
        .header("x-forwarded-client-cert", "By=forged")
        .header("user-agent", "shop");
    let response = mesh.client.pod.as_user(User::APP).request(to, &request)?;
    ensure!(response.status == 200, "{}", response.text());
    let server = response.server()?;
    let seen = response.json()?;
    let peer = seen["peer"].as_str().unwrap_or_default();
    ensure!(peer.starts_with(INBOUND_SOURCE), "from {peer}");
    let headers = response.request_headers()?;
    vouched(&headers)?;
    assert_eq!(values(&headers, "host"), [host]);
    assert_eq!(values(&headers, "x-forwarded-proto"), ["http"]);
    let id = only(&headers, "x-request-id")?;
    let its = |record: &AccessRecord| record.get("request").contains(&path);
    let line = format!("GET {path} HTTP/1.1");
    let sent = mesh.client.record(its)?;
    let member = &mesh.reviews[usize::from(server == SERVERS[1])];
    let endpoint = member.pod.v4(port).to_string();
    let client = mesh.client.pod.v4(0).ip().to_string();
    for (field, expected) in [
        ("request", line.as_str()),
        ("response_code", "200"),
        ("response_flags", "-"),
        ("response_code_details", "via_upstream"),
        ("user_agent", "shop"),
        ("request_id", id),
        ("authority", host),
        ("upstream_host", &endpoint),
        ("upstream_cluster", &cluster),
        ("downstream_local_address", &to.to_string()),
        ("requested_server_name", "-"),
        ("route_name", "default"),
    ] {
        assert_eq!(sent.get(field), expected, "{field} of {sent:?}");
    }
    let taken = member.record(its)?;
    let sni = format!("outbound_.{}_._.reviews.app.svc.cluster.local", to.port());
    for (field, expected) in [
        ("request", line.as_str()),
        ("response_code", "200"),
        ("request_id", id),
        ("authority", host),
        ("upstream_host", &endpoint),
        ("upstream_cluster", &format!("inbound|{port}||")),
        ("downstream_local_address", &endpoint),
        ("requested_server_name", &sni),
        ("route_name", "default"),
    ] {
        assert_eq!(taken.get(field), expected, "{field} of {taken:?}");
    }
    ensure!(
        taken
            .get("upstream_local_address")
            .starts_with(INBOUND_SOURCE)
    );
    ensure!(taken.get("downstream_remote_address").starts_with(&client));
    ensure!(mesh.client.handshakes(&cluster)? >= 1);
    ensure!(member.inbound_handshakes()? >= 1);
    Ok(server)
}

/// A call and its trailers, by mutual TLS.
fn grpc_by_mutual_tls(mesh: &Mesh) -> Result<String> {
    let stream = mesh.client.pod.as_user(User::APP).connect(reviews(9081))?;
    let message = b"\0\0\0\0\x05hello";
    let reply = grpc_call(stream, "reviews.app:9081", message)?;
    assert_eq!(reply.message, message);
    assert_eq!(reply.trailers.get("grpc-status").context("no status")?, "0");
    assert_eq!(values(&reply.seen, "te"), ["trailers"]);
    vouched(&reply.seen)?;
    let id = only(&reply.seen, "x-request-id")?;
    let its = |record: &AccessRecord| record.get("request_id") == id;
    let sent = mesh.client.record(its)?;
    assert_eq!(sent.get("request"), "POST /reviews.Reviews/Get HTTP/2");
    let cluster = "outbound|9081||reviews.app.svc.cluster.local";
    assert_eq!(sent.get("upstream_cluster"), cluster);
    let member = &mesh.reviews[usize::from(reply.server == SERVERS[1])];
    let taken = member.record(its)?;
    assert_eq!(taken.get("upstream_cluster"), "inbound|9081||");
    assert_eq!(taken.get("request"), "POST /reviews.Reviews/Get HTTP/2");
    ensure!(mesh.client.handshakes(cluster)? >= 1);
    Ok(reply.server)
}

/// A server that speaks first, bytes both ways and half-close, by mutual TLS.
fn tcp_by_mutual_tls(mesh: &Mesh) -> Result<String> {
    let to = reviews(9082);
    let mut stream = mesh.client.pod.as_user(User::APP).connect(to)?;
    let seen = greeting(&stream)?;
    ensure!(seen.peer.ip().to_string() == INBOUND_SOURCE, "{seen}");
    let sent: Vec<u8> = (0..300_000).map(|_| fastrand::u8(..)).collect();
    let mut writer = stream.try_clone()?;
    let bytes = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&bytes)?;
        writer.shutdown(Shutdown::Write)
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    writing
        .join()
        .map_or_else(|_panic| bail!("the writer panicked"), |sent| Ok(sent?))?;
    ensure!(
        back == sent,
        "{} bytes of {} came back",
        back.len(),
        sent.len()
    );
    let cluster = "outbound|9082||reviews.app.svc.cluster.local";
    let record = mesh.client.record(|record| {
        record.get("upstream_cluster") == cluster && record.get("bytes_received") == "300000"
    })?;
    assert_eq!(record.get("downstream_local_address"), to.to_string());
    let member = &mesh.reviews[usize::from(seen.server == SERVERS[1])];
    let taken = member.record(|record| {
        record.get("upstream_cluster") == "inbound|9082||"
            && record.get("bytes_received") == "300000"
    })?;
    let sni = "outbound_.9082_._.reviews.app.svc.cluster.local";
    assert_eq!(taken.get("requested_server_name"), sni);
    ensure!(mesh.client.handshakes(cluster)? >= 1);
    Ok(seen.server)
}

/// Whoever is reached directly sees the client itself and hears of no identity.
fn plain(mesh: &Mesh, to: SocketAddr, host: &str, cluster: &str, server: &str) -> Result<()> {
    let path = format!("/{}", fastrand::u64(..));
    let request = Request::get(&path)
        .header("host", host)
        .header("x-forwarded-client-cert", "By=forged");
    let response = mesh.client.pod.as_user(User::APP).request(to, &request)?;
    ensure!(response.status == 200, "{}", response.text());
    assert_eq!(response.server()?, server);
    let peer: SocketAddr = response.json()?["peer"].as_str().unwrap_or("").parse()?;
    assert_eq!(peer.ip(), mesh.client.pod.v4(0).ip());
    let headers = response.request_headers()?;
    assert_eq!(values(&headers, "x-forwarded-client-cert"), [""; 0]);
    let record = mesh.client.record(|r| r.get("request").contains(&path))?;
    assert_eq!(record.get("upstream_cluster"), cluster);
    assert_eq!(mesh.client.handshakes(cluster)?, 0);
    Ok(())
}

/// Says something and reads the greeting: a port that may get TLS is silent until the client speaks.
fn speak(mut stream: TcpStream) -> Result<Sighting> {
    stream.write_all(b"hello there\r\n")?;
    greeting(&stream).context("no greeting")
}

/// Who answered, until both have, of twenty times at most: istiod chooses `LEAST_REQUEST`, so that
/// which of two idle ones is asked is chance.
fn answerers(ask: impl Fn() -> Result<String>) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for _ in 0..20 {
        names.insert(ask()?);
        if names.len() == SERVERS.len() {
            break;
        }
    }
    Ok(names)
}

/// The applications of a pod of the service.
fn serve(member: &Member, name: &'static str) -> Result<[Server; 4]> {
    Ok([
        member.pod.http_app(name, 9080)?,
        grpc_server(&member.pod, name, 9081)?,
        member.pod.echo(name, 9082)?,
        member.pod.http_app(name, 9083)?,
    ])
}

fn serve_all(mesh: &Mesh) -> Result<[[Server; 4]; 2]> {
    let [one, two] = &mesh.reviews;
    Ok([serve(one, SERVERS[0])?, serve(two, SERVERS[1])?])
}

/// Services are reached by HTTP, gRPC and TCP, with mutual TLS.
fn basic_services(name: &str, programs: [Program; 2]) -> Result<()> {
    let mesh = Mesh::of("01-basic", name, programs)?;
    let _apps = serve_all(&mesh)?;
    let both: BTreeSet<String> = SERVERS.map(str::to_owned).into();
    let http = || http_by_mutual_tls(&mesh, reviews(9080), "reviews.app:9080", 9080);
    assert_eq!(answerers(http)?, both);
    assert_eq!(answerers(|| grpc_by_mutual_tls(&mesh))?, both);
    assert_eq!(answerers(|| tcp_by_mutual_tls(&mesh))?, both);
    // A port whose protocol nobody declared is looked at.
    let request = Request::get("/auto").header("host", "reviews");
    let app = mesh.client.pod.as_user(User::APP);
    let response = app.request(reviews(9083), &request)?;
    ensure!(response.status == 200, "{}", response.text());
    let record = mesh
        .client
        .record(|r| r.get("request") == "GET /auto HTTP/1.1")?;
    let cluster = "outbound|9083||reviews.app.svc.cluster.local";
    assert_eq!(record.get("upstream_cluster"), cluster);
    ensure!(mesh.client.handshakes(cluster)? >= 1);
    Ok(())
}

#[test]
fn basic_services_are_reached_by_http_grpc_and_tcp_with_mutual_tls() -> Result<()> {
    basic_services("istiod-s-s", [Program::Shunt, Program::Shunt])
}

#[test]
fn basic_services_behind_envoys_are_reached_alike() -> Result<()> {
    basic_services("istiod-s-e", [Program::Shunt, Program::Envoy])
}

#[test]
fn basic_services_are_reached_by_envoys_alike() -> Result<()> {
    basic_services("istiod-e-s", [Program::Envoy, Program::Shunt])
}

#[test]
fn what_is_not_in_the_mesh_is_reached_in_plaintext_and_reaches_the_mesh_without_a_name()
-> Result<()> {
    let mesh = Mesh::new("01-basic", "istiod-plain")?;
    let _apps = serve_all(&mesh)?;
    let _legacy = mesh.legacy.http_app("legacy", 9080)?;
    let _mysql = mesh.legacy.echo("mysql", 3306)?;
    let _external = mesh.external.http_app("external", 9080)?;
    let _other = mesh.external.echo("other", 7777)?;
    let app = mesh.client.pod.as_user(User::APP);
    let cluster = "outbound|9080||legacy.app.svc.cluster.local";
    plain(&mesh, legacy(9080), "legacy", cluster, "legacy")?;
    // MySQL's server speaks first; no inspector may wait for the client.
    assert_eq!(app.greet(legacy(3306))?.server, "mysql");
    // Not a service: to where it was going, by HTTP and without.
    let external = mesh.external.v4(9080);
    plain(
        &mesh,
        external,
        "unknown.example",
        "PassthroughCluster",
        "external",
    )?;
    let other = mesh.external.v4(7777);
    assert_eq!(app.greet(other)?.server, "other");
    let to = other.to_string();
    let record = mesh.client.record(|r| r.get("upstream_host") == to)?;
    assert_eq!(record.get("upstream_cluster"), "PassthroughCluster");
    // Permissive: plaintext from outside is served, and nobody vouches for it.
    let outsider = mesh.legacy.as_user(User::APP);
    let server = &mesh.reviews[0].pod;
    let forged = Request::get("/outside").header("x-forwarded-client-cert", "By=forged");
    for port in [9080, 9083] {
        let response = outsider.request(server.v4(port), &forged)?;
        assert_eq!(response.server()?, SERVERS[0]);
        let headers = response.request_headers()?;
        assert_eq!(values(&headers, "x-forwarded-client-cert"), [""; 0]);
    }
    assert_eq!(
        speak(outsider.connect(server.v4(9082))?)?.server,
        SERVERS[0]
    );
    assert_eq!(mesh.reviews[0].inbound_handshakes()?, 0);
    // A port that no service declares.
    let _undeclared = server.echo("undeclared", 7000)?;
    let seen = speak(outsider.connect(server.v4(7000))?)?;
    assert_eq!(seen.server, "undeclared");
    let record = mesh.reviews[0].record(|r| r.get("upstream_host").ends_with(":7000"))?;
    assert_eq!(record.get("upstream_cluster"), "InboundPassthroughCluster");
    // Nobody gets at the capture ports: a connection ends without a byte.
    for port in [15001, 15006] {
        let answer = outsider.connect(server.v4(port)).and_then(|mut stream| {
            stream.write_all(b"hello there\r\n")?;
            Ok(stream.read(&mut [0])?)
        });
        let is_end = |error: &Error| {
            let error = error.root_cause().downcast_ref::<io::Error>();
            let ends = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            error.is_some_and(|error| ends.contains(&error.kind()))
        };
        match answer {
            Ok(0) => {}
            Err(error) if is_end(&error) => {}
            other => bail!("port {port} answers: {other:?}"),
        }
    }
    Ok(())
}

#[test]
fn of_a_kubernetes_service_only_ready_pods_are_asked_on_every_port() -> Result<()> {
    let mesh = Mesh::new("16-kubernetes", "istiod-k8s")?;
    let apps = serve_all(&mesh)?;
    let ready = BTreeSet::from([SERVERS[0].to_owned()]);
    // Port 80 of the service is port 9080 of its pods.
    for port in [9080, 80] {
        let host = format!("reviews.app.svc.cluster.local:{port}");
        let ask = || http_by_mutual_tls(&mesh, reviews(port), &host, 9080);
        assert_eq!(answerers(ask)?, ready);
    }
    assert_eq!(answerers(|| grpc_by_mutual_tls(&mesh))?, ready);
    assert_eq!(answerers(|| tcp_by_mutual_tls(&mesh))?, ready);
    let asked = |servers: &[Server; 4]| servers.iter().map(Server::connections).sum::<u64>();
    ensure!(asked(&apps[0]) > 0);
    assert_eq!(asked(&apps[1]), 0);
    Ok(())
}

#[test]
fn hosts_outside_are_reached_by_name_by_address_and_by_server_name() -> Result<()> {
    let mesh = Mesh::new("11-external", "istiod-ext")?;
    let app = mesh.client.pod.as_user(User::APP);
    let api = tls_server_config(&mesh.ca, &["api.ext.example"])?;
    let _api = tls_server(&mesh.external, "api", 443, api)?;
    // The application speaks plaintext, the sidecar TLS.
    let request = Request::get("/api").header("host", "api.ext.example");
    let response = app.request(nowhere(80), &request)?;
    ensure!(response.status == 200, "{}", response.text());
    assert_eq!(response.text(), "api.ext.example api.ext.example");
    let cluster = "outbound|80||api.ext.example";
    let record = mesh
        .client
        .record(|r| r.get("request") == "GET /api HTTP/1.1")?;
    assert_eq!(record.get("upstream_cluster"), cluster);
    let endpoint = mesh.external.v4(443).to_string();
    assert_eq!(record.get("upstream_host"), endpoint);
    assert_eq!(mesh.client.handshakes(cluster)?, 1);
    // The application speaks TLS; where it goes is read from its first message.
    let wiki = mesh.legacy.v4(443);
    let names = ["en.wiki.example", "other.example"];
    let _wiki = tls_server(
        &mesh.legacy,
        "wiki",
        443,
        tls_server_config(&mesh.ca, &names)?,
    )?;
    for (name, to, cluster, endpoint) in [
        (
            "api.ext.example",
            nowhere(443),
            "outbound|443||api.ext.example",
            mesh.external.v4(443),
        ),
        (
            "en.wiki.example",
            wiki,
            "outbound|443||*.wiki.example",
            wiki,
        ),
        ("other.example", wiki, "PassthroughCluster", wiki),
    ] {
        let said = tls_get(app.connect(to)?, tls_client_config(&mesh.ca)?, name)?;
        assert_eq!(said, format!("{name} {name}"));
        let to = to.to_string();
        let record = mesh.client.record(|r| {
            r.get("upstream_cluster") == cluster && r.get("downstream_local_address") == to
        })?;
        assert_eq!(record.get("upstream_host"), endpoint.to_string());
        assert_eq!(record.get("requested_server_name"), name);
        assert_eq!(mesh.client.handshakes(cluster)?, 0);
    }
    // A host under the wildcard by HTTP, to where it was going.
    let _wiki = mesh.legacy.http_app("wiki", 80)?;
    let cluster = "outbound|80||*.wiki.example";
    plain(
        &mesh,
        mesh.legacy.v4(80),
        "de.wiki.example",
        cluster,
        "wiki",
    )?;
    // A network of addresses, and one beside it.
    for (pod, cluster) in [
        (&mesh.external, "outbound|5432||db.ext.example"),
        (&mesh.legacy, "PassthroughCluster"),
    ] {
        let _database = pod.echo("database", 5432)?;
        assert_eq!(
            app.greet(pod.v4(5432))?.peer.ip(),
            mesh.client.pod.v4(0).ip()
        );
        let to = pod.v4(5432).to_string();
        let record = mesh.client.record(|r| r.get("upstream_host") == to)?;
        assert_eq!(record.get("upstream_cluster"), cluster);
    }
    Ok(())
}

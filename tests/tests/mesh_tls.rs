//! Mutual TLS between two captured pods, with Shunt or the real Envoy as either sidecar: both are
//! given the same configuration, and the application must not see which it is.

use shunt_tests::ca::Ca;
use shunt_tests::prelude::*;
use shunt_tests::process::Running;

const SERVER: &str = include_str!("../data/mesh-server.yaml");
const CLIENT: &str = include_str!("../data/mesh-client.yaml");
/// The service: an address that no machine owns.
const SERVICE: ([u8; 4], u16) = ([10, 96, 0, 10], 9080);
const SERVER_ID: &str = "spiffe://td/ns/app/sa/server";
const CLIENT_ID: &str = "spiffe://td/ns/app/sa/client";

/// Which program is a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Shunt,
    Envoy,
}

/// A sidecar's configuration with a certificate of this authority for this name.
fn fill(ca: &Ca, bootstrap: &str, id: &str) -> Result<String> {
    let own = ca.issue_uri(id)?;
    let line = |pem: String| pem.replace('\r', "").replace('\n', "\\n");
    Ok(bootstrap
        .replace("CERTIFICATE", &line(own.certificate.pem()))
        .replace("KEY", &line(own.key.serialize_pem()))
        .replace("TRUSTED", &line(ca.certificate().pem())))
}

/// Starts a sidecar and waits until it serves.
fn start(pod: &Pod, program: Program, bootstrap: &str) -> Result<Running> {
    if program == Program::Shunt {
        return Ok(pod.sidecar(bootstrap)?.process);
    }
    let mut envoy = pod
        .command(programs::envoy()?)
        .args(["--config-yaml", bootstrap])
        .args(["--concurrency", "1", "--log-level", "warning"])
        .arg("--disable-hot-restart")
        .user(User::PROXY)
        .start()?;
    eventually("Envoy serves or ends", || {
        pod.admin("/ready").is_ok() || envoy.ended().is_ok_and(|ended| ended.is_some())
    })?;
    if let Some(status) = envoy.ended()? {
        bail!("Envoy ended with {status}: {}", envoy.stderr().text());
    }
    Ok(envoy)
}

/// A server in the mesh, its client, and somebody outside.
struct Mesh {
    server: Pod,
    client: Pod,
    outsider: Pod,
    _sidecars: [Running; 2],
    _net: Network,
}

impl Mesh {
    fn new(name: &str, [client_is, server_is]: [Program; 2], id: [&str; 2]) -> Result<Self> {
        let net = Network::new(name)?;
        let server = net.pod("server").build()?;
        let client = net.pod("client").build()?;
        let outsider = net.pod("outsider").build()?;
        let ca = Ca::new()?;
        for pod in [&server, &client] {
            pod.apply_rules(&[])?;
        }
        let of_server = fill(&ca, SERVER, id[1])?;
        let of_client = fill(&ca, CLIENT, id[0])?;
        let of_client = of_client.replace("SERVER", &server.v4(0).ip().to_string());
        let sidecars = [
            start(&client, client_is, &of_client)?,
            start(&server, server_is, &of_server)?,
        ];
        Ok(Self {
            server,
            client,
            outsider,
            _sidecars: sidecars,
            _net: net,
        })
    }

    /// A connection of the client's application to the service.
    fn connection(&self) -> Result<HttpClient> {
        self.client.as_user(User::APP).http(SERVICE.into())
    }
}

fn xfcc(response: &Response) -> Result<Vec<String>> {
    let headers = response.request_headers()?.into_iter();
    let told = headers.filter(|(name, _)| name == "x-forwarded-client-cert");
    Ok(told.map(|(_, value)| value).collect())
}

/// Requests of the mesh come by mutual TLS and say so, those from outside in plaintext cannot.
fn serves(name: &str, programs: [Program; 2]) -> Result<()> {
    let mesh = Mesh::new(name, programs, [CLIENT_ID, SERVER_ID])?;
    let app = mesh.server.http_app("app", 9080)?;
    let forged = Request::get("/").header("x-forwarded-client-cert", "By=forged");
    // One connection is one worker's, and each worker has connections of its own to the server.
    let mut connection = mesh.connection()?;
    for _ in 0..3 {
        let response = connection.send(&forged)?;
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.server()?, "app");
        let told = xfcc(&response)?;
        let [told] = &told[..] else {
            bail!("not one header: {told:?}")
        };
        // The client's sidecar removes what the application forged.
        let hash = told
            .strip_prefix(&format!("By={SERVER_ID};Hash="))
            .and_then(|rest| rest.strip_suffix(&format!(";Subject=\"\";URI={CLIENT_ID}")))
            .with_context(|| told.clone())?;
        let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        assert!(hash.len() == 64 && hash.bytes().all(hexadecimal), "{hash}");
    }
    let response = mesh
        .outsider
        .as_user(User::APP)
        .request(mesh.server.v4(9080), &forged)?;
    assert_eq!(response.status, 200);
    assert_eq!(xfcc(&response)?, Vec::<String>::new());
    assert_eq!(app.requests(), 4);
    // The connection of the mesh was kept, so there was one handshake.
    let address = ("envoy_listener_address", "0.0.0.0_15006");
    let metrics = mesh.server.metrics()?;
    assert_eq!(metrics.count("envoy_listener_ssl_handshake", &[address]), 1);
    Ok(())
}

/// Whoever is not who he should be gets no further than the handshake.
fn refuses(
    name: &str,
    programs: [Program; 2],
    ids: [&str; 2],
    counter: (usize, &str),
) -> Result<()> {
    let mesh = Mesh::new(name, programs, ids)?;
    let app = mesh.server.http_app("app", 9080)?;
    assert_eq!(mesh.connection()?.send(&Request::get("/"))?.status, 503);
    assert_eq!(app.requests(), 0);
    let (pod, label) = match counter.0 {
        0 => (
            &mesh.client,
            ("envoy_cluster_name", "outbound|9080||server"),
        ),
        _ => (&mesh.server, ("envoy_listener_address", "0.0.0.0_15006")),
    };
    let counted = || -> Result<bool> { Ok(pod.metrics()?.count(counter.1, &[label]) >= 1) };
    eventually(counter.1, || counted().unwrap_or(false))
}

#[test]
fn two_shunts_speak_mutual_tls() -> Result<()> {
    serves("shunt-shunt", [Program::Shunt, Program::Shunt])
}

#[test]
fn a_shunt_speaks_mutual_tls_to_an_envoy() -> Result<()> {
    serves("shunt-envoy", [Program::Shunt, Program::Envoy])
}

#[test]
fn an_envoy_speaks_mutual_tls_to_a_shunt() -> Result<()> {
    serves("envoy-shunt", [Program::Envoy, Program::Shunt])
}

#[test]
fn a_client_of_another_trust_domain_is_refused_by_the_server() -> Result<()> {
    let stranger = ["spiffe://other/ns/app/sa/client", SERVER_ID];
    let counter = (1, "envoy_listener_ssl_fail_verify_san");
    refuses(
        "bad-client-s",
        [Program::Shunt, Program::Shunt],
        stranger,
        counter,
    )?;
    refuses(
        "bad-client-e",
        [Program::Envoy, Program::Shunt],
        stranger,
        counter,
    )
}

#[test]
fn a_server_with_another_identity_is_refused_by_the_client() -> Result<()> {
    let impostor = [CLIENT_ID, "spiffe://td/ns/app/sa/impostor"];
    let counter = (0, "envoy_cluster_ssl_fail_verify_san");
    refuses(
        "bad-server-s",
        [Program::Shunt, Program::Shunt],
        impostor,
        counter,
    )?;
    refuses(
        "bad-server-e",
        [Program::Shunt, Program::Envoy],
        impostor,
        counter,
    )
}

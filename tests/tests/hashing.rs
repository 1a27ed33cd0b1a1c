//! Where hashes lead: Envoy and Shunt, side by side, send one client to one endpoint.
//!
//! Both have the same clusters, with policies that look at a hash, and their endpoints from one
//! file. Each key (an address, a header, a cookie) must lead to the same endpoint in both, also
//! when an endpoint has left.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use shunt_tests::differential::stage::start_envoy;
use shunt_tests::expect::eventually::poll;
use shunt_tests::folder::Folder;
use shunt_tests::prelude::*;

/// Ports of the peer on which endpoints are.
const ENDPOINTS: std::ops::RangeInclusive<u16> = 9001..=9012;
/// The endpoint that leaves.
const LEAVES: u16 = 9005;
/// The endpoint that is never healthy.
const UNHEALTHY: u16 = 9008;
/// How many keys are tried with each cluster.
const KEYS: u32 = 200;
/// Port of the proxies for HTTP; those for TCP follow, one for each cluster.
const HTTP: u16 = 8080;

/// How names of clusters end whose endpoints have bounded loads.
const BOUNDED: &str = "-bounded";

const RING: &str = "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash";
const MAGLEV: &str = "envoy.extensions.load_balancing_policies.maglev.v3.Maglev";

/// The clusters: name, which endpoints, and how they are balanced.
fn clusters() -> Vec<(&'static str, &'static str, String)> {
    let typed = |policy: &str, config: &str| {
        format!(
            "load_balancing_policy: {{ policies: [ {{ typed_extension_config: {{ name: a, \
             typed_config: {{ \"@type\": type.googleapis.com/{policy}, {config} }} }} }} ] }}"
        )
    };
    let plain = |text: &str| text.to_owned();
    vec![
        ("ring", "alike", plain("lb_policy: RING_HASH")),
        ("maglev", "alike", plain("lb_policy: MAGLEV")),
        (
            "ring-murmur",
            "mixed",
            plain(
                "lb_policy: RING_HASH, ring_hash_lb_config: { minimum_ring_size: 3000, \
                 hash_function: MURMUR_HASH_2 }",
            ),
        ),
        (
            "ring-small",
            "mixed",
            plain(
                "lb_policy: RING_HASH, ring_hash_lb_config: { minimum_ring_size: 10, \
                 maximum_ring_size: 77 }",
            ),
        ),
        (
            "ring-localities",
            "mixed",
            plain("lb_policy: RING_HASH, common_lb_config: { locality_weighted_lb_config: {} }"),
        ),
        (
            "maglev-small",
            "mixed",
            plain("lb_policy: MAGLEV, maglev_lb_config: { table_size: 251 }"),
        ),
        (
            "ring-typed",
            "mixed",
            typed(
                RING,
                "minimum_ring_size: 500, locality_weighted_lb_config: {}, \
                 consistent_hashing_lb_config: { use_hostname_for_hashing: true }",
            ),
        ),
        (
            "maglev-typed",
            "keyed",
            typed(MAGLEV, "table_size: 1009, locality_weighted_lb_config: {}"),
        ),
        (
            "ring-bounded",
            "alike",
            plain(
                "lb_policy: RING_HASH, common_lb_config: { consistent_hashing_lb_config: { \
                 hash_balance_factor: 120 } }",
            ),
        ),
        (
            "maglev-bounded",
            "mixed",
            typed(
                MAGLEV,
                "consistent_hashing_lb_config: { hash_balance_factor: 150 }",
            ),
        ),
    ]
}

/// Routes by what is hashed, each to a ring and to a table.
const ROUTES: &[(&str, &str)] = &[
    ("header", "{ header: { header_name: x-user } }"),
    (
        "combined",
        "{ header: { header_name: x-user } }, { query_parameter: { name: q } }, \
         { header: { header_name: x-none } }, { header: { header_name: \":path\" } }",
    ),
    (
        "terminal",
        "{ header: { header_name: x-none }, terminal: true }, \
         { query_parameter: { name: q }, terminal: true }, { header: { header_name: x-user } }",
    ),
    (
        "rewritten",
        "{ header: { header_name: x-user, regex_rewrite: { pattern: { regex: \"(u).*-(\\\\d)\" }, \
         substitution: \"\\\\2$1\\\\1\" } } }",
    ),
    ("source", "{ connection_properties: { source_ip: true } }"),
    ("host", "{ header: { header_name: host } }"),
    ("cookie", "{ cookie: { name: session } }"),
    (
        "given",
        "{ cookie: { name: session, ttl: 90s, path: /given, attributes: [ { name: SameSite, value: \
         Lax }, { name: Secure } ] } }",
    ),
];

/// Both proxies, and what they are configured by.
struct Stage {
    envoy: Pod,
    shunt: Pod,
    client: Pod,
    peer: Pod,
    files: Folder,
    _running: (Running, Sidecar),
    _servers: Vec<Server>,
    _net: Network,
}

impl Stage {
    fn start(name: &str) -> Result<Self> {
        let net = Network::new(name)?;
        let [envoy, shunt, client, peer] =
            ["envoy", "shunt", "client", "peer"].map(|name| net.pod(name).build());
        let (envoy, shunt, client, peer) = (envoy?, shunt?, client?, peer?);
        let servers = ENDPOINTS
            .map(|port| peer.http_app(&port.to_string(), port))
            .collect::<Result<_>>()?;
        let files = Folder::new()?;
        put_endpoints(&files, &peer, None)?;
        let bootstrap = bootstrap(&files);
        let running = (start_envoy(&envoy, &bootstrap)?, shunt.sidecar(&bootstrap)?);
        Ok(Self {
            envoy,
            shunt,
            client,
            peer,
            files,
            _running: running,
            _servers: servers,
            _net: net,
        })
    }

    fn proxies(&self) -> [(&'static str, &Pod); 2] {
        [("Envoy", &self.envoy), ("Shunt", &self.shunt)]
    }

    /// A connection of a client that has this address, as a proxy before tells.
    fn of_client(&self, proxy: &Pod, port: u16, address: &str) -> Result<HttpClient> {
        let family = if address.contains(':') { "6" } else { "4" };
        let to = if family == "6" { "fd00::1" } else { "10.0.0.1" };
        let app = self.client.as_user(User::APP);
        let mut client = app.http(proxy.v4(port))?;
        let header = format!("PROXY TCP{family} {address} {to} 4000 80\r\n");
        client.send_raw(header.as_bytes())?;
        Ok(client)
    }

    /// Which endpoint clients with these addresses get, by TCP.
    fn by_source(&self, proxy: &Pod, port: u16) -> Result<Vec<String>> {
        let mut servers = Vec::new();
        for key in 0..KEYS {
            let mut client = self.of_client(proxy, port, &source(key))?;
            servers.push(client.send(&Request::get("/"))?.server()?);
        }
        Ok(servers)
    }

    /// Which endpoint requests get.
    fn by_request(&self, proxy: &Pod, requests: &[Request]) -> Result<Vec<String>> {
        let mut client = self.client.as_user(User::APP).http(proxy.v4(HTTP))?;
        requests
            .iter()
            .map(|request| client.send(request)?.server())
            .collect()
    }

    /// The same from both proxies, once both know which endpoints there are.
    fn same(
        &self,
        what: &str,
        gone: Option<u16>,
        measure: impl Fn(&Pod) -> Result<Vec<String>>,
    ) -> Result<Vec<String>> {
        let gone = gone.map(|port| port.to_string());
        let measured = self.proxies().map(|(name, proxy)| {
            let known = poll(DEADLINE, || {
                let servers = measure(proxy);
                let old = |servers: &Vec<String>| servers.iter().any(|s| Some(s) == gone.as_ref());
                (!servers.as_ref().is_ok_and(old)).then_some(servers)
            });
            let known = known.context("the endpoint that has left still gets requests");
            known.flatten().with_context(|| format!("{what} by {name}"))
        });
        let [envoy, shunt] = measured;
        let (envoy, shunt) = (envoy?, shunt?);
        let same = envoy.iter().zip(&shunt).filter(|(e, s)| e == s).count();
        ensure!(
            same == envoy.len(),
            "{what}: {same} of {} keys lead to the same endpoint:\n{envoy:?}\n{shunt:?}",
            envoy.len()
        );
        Ok(shunt)
    }
}

/// The address of a client.
fn source(key: u32) -> String {
    if key.is_multiple_of(5) {
        return Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(key * 77_777)).to_string();
    }
    Ipv4Addr::from_bits(0xc000_0200 + key * 7_919).to_string()
}

/// Write all assignments, but for the endpoint that has left. Envoy takes one from a file.
fn put_endpoints(files: &Folder, peer: &Pod, left: Option<u16>) -> Result<()> {
    for name in ["alike", "mixed", "keyed"] {
        let mut text = format!(
            "resources:\n- \"@type\": type.googleapis.com/envoy.config.endpoint.v3.\
             ClusterLoadAssignment\n  cluster_name: {name}\n  endpoints:\n"
        );
        // Not in the order of their names.
        for (locality, weight, ports) in [
            ("b", 3, 9001..=9004),
            ("c", 5, 9005..=9009),
            ("a", 1, 9010..=9012),
        ] {
            writeln!(
                text,
                "  - locality: {{ region: r, zone: {locality} }}\n    \
                 load_balancing_weight: {weight}\n    lb_endpoints:"
            )?;
            for port in ports.filter(|port| Some(*port) != left) {
                text.push_str(&endpoint(name, port, peer));
            }
        }
        files.put(&format!("{name}.yaml"), &text)?;
    }
    Ok(())
}

fn endpoint(assignment: &str, port: u16, peer: &Pod) -> String {
    let address = peer.v4(0).ip();
    let weight = match assignment {
        "alike" => 1,
        _ => port % 4 + 1,
    };
    let health = match port {
        UNHEALTHY => "UNHEALTHY",
        _ => "HEALTHY",
    };
    let key = match assignment {
        "keyed" => format!(
            ", metadata: {{ filter_metadata: {{ envoy.lb: {{ hash_key: key-{} }} }} }}",
            port * 7
        ),
        _ => String::new(),
    };
    format!(
        "    - {{ endpoint: {{ hostname: host-{port}, address: {{ socket_address: {{ address: \
         {address}, port_value: {port} }} }} }}, health_status: {health}, load_balancing_weight: \
         {weight}{key} }}\n"
    )
}

fn bootstrap(files: &Folder) -> String {
    let mut text =
        "admin: { address: { socket_address: { address: 127.0.0.1, port_value: 15000 } } }
node: { id: test, cluster: test }
static_resources:
  listeners:
"
        .to_owned();
    for (port, (cluster, ..)) in (HTTP + 1..).zip(clusters()) {
        let _written = write!(
            text,
            r#"  - name: {cluster}
    address: {{ socket_address: {{ address: 0.0.0.0, port_value: {port} }} }}
    listener_filters:
    - name: proxy
      typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol }}
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: {cluster}
          cluster: {cluster}
          hash_policy: [ {{ source_ip: {{}} }} ]
"#
        );
    }
    let _written = write!(
        text,
        r#"  - name: http
    address: {{ socket_address: {{ address: 0.0.0.0, port_value: {HTTP} }} }}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: http
          http_filters:
          - name: router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            name: all
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
"#
    );
    for cluster in ["ring", "maglev"] {
        for (name, policy) in ROUTES {
            let _written = writeln!(
                text,
                "              - {{ match: {{ prefix: /{cluster}/{name} }}, route: {{ cluster: \
                 {cluster}, hash_policy: [ {policy} ] }} }}"
            );
        }
    }
    text.push_str("  clusters:\n");
    for (name, endpoints, balancing) in clusters() {
        let _written = writeln!(
            text,
            "  - {{ name: {name}, type: EDS, connect_timeout: 5s, eds_cluster_config: {{ \
             service_name: {endpoints}, eds_config: {{ path_config_source: {{ path: \"{}\" }} }} }}, \
             {balancing} }}",
            files.path(&format!("{endpoints}.yaml")).display()
        );
    }
    text
}

/// A request for each key, to a route.
fn requests(route: &str) -> Vec<Request> {
    let request = |key: u32| {
        let target = format!("{route}?a={key}&q=%4{}{key}&q=other", key % 10);
        let user = format!("user-{}-{key}", key % 7);
        let mut request = Request::get(&target)
            .header("x-user", &user)
            .header("host", &format!("host-{key}.example"))
            .header("x-forwarded-for", &format!("10.9.9.9, {}", source(key)))
            .header("cookie", &format!("a=b; session=\"{user}\"; session=none"));
        if key.is_multiple_of(3) {
            // A second line, which sorts before the first one.
            request = request.header("x-user", &format!("also-{key}"));
        }
        request
    };
    (0..KEYS).map(request).collect()
}

#[test]
fn a_client_is_sent_to_the_same_endpoint_as_by_envoy_also_when_one_has_left() -> Result<()> {
    let stage = Stage::start("hashing")?;
    let mut before = Vec::new();
    for gone in [None, Some(LEAVES)] {
        put_endpoints(&stage.files, &stage.peer, gone)?;
        for (i, (port, (name, ..))) in (HTTP + 1..).zip(clusters()).enumerate() {
            if name.ends_with(BOUNDED) {
                // What is in flight decides as well, and connections take a moment to end.
                continue;
            }
            let servers = stage.same(name, gone, |proxy| stage.by_source(proxy, port))?;
            let used: BTreeSet<&String> = servers.iter().collect();
            ensure!(used.len() > 8, "{name}: only {used:?}");
            ensure!(!used.contains(&UNHEALTHY.to_string()), "{name}: {used:?}");
            match gone {
                None => before.push(servers),
                Some(gone) => {
                    let moved = before[i].iter().zip(&servers);
                    let moved = moved.filter(|(b, s)| b != s && **b != gone.to_string());
                    let moved = moved.count();
                    // Weights change by little; Maglev and small rings disturb somewhat more.
                    ensure!(moved < KEYS as usize / 3, "{name}: {moved} moved");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_request_is_sent_to_the_same_endpoint_as_by_envoy_whatever_is_hashed() -> Result<()> {
    let stage = Stage::start("hashed-requests")?;
    for cluster in ["ring", "maglev"] {
        for (name, _) in ROUTES {
            let route = format!("/{cluster}/{name}");
            let requests = requests(&route);
            let servers = stage.same(&route, None, |proxy| stage.by_request(proxy, &requests))?;
            let used: BTreeSet<&String> = servers.iter().collect();
            // Rewritten: two digits are all that is left of many users.
            let least = if *name == "rewritten" { 4 } else { 8 };
            ensure!(used.len() >= least, "{route}: only {used:?}");
        }
    }
    Ok(())
}

#[test]
fn a_request_without_a_hash_is_sent_anywhere() -> Result<()> {
    let stage = Stage::start("hashless-requests")?;
    let requests = vec![Request::get("/maglev/header"); 80];
    for (name, proxy) in stage.proxies() {
        let used: BTreeSet<String> = stage.by_request(proxy, &requests)?.into_iter().collect();
        ensure!(used.len() > 5, "{name}: only {used:?}");
    }
    Ok(())
}

#[test]
fn a_client_without_the_cookie_is_given_one_that_leads_to_where_it_was() -> Result<()> {
    let stage = Stage::start("hash-cookies")?;
    for _ in 0..20 {
        let mut told = Vec::new();
        for (name, proxy) in stage.proxies() {
            let app = stage.client.as_user(User::APP);
            let first = app.get(proxy.v4(HTTP), "/ring/given")?;
            let server = first.server()?;
            let cookie = first.header("set-cookie").context("no cookie")?.to_owned();
            let value = cookie.split('"').nth(1).context("no value")?.to_owned();
            ensure!(value.len() == 16, "{name}: {cookie}");
            told.push(cookie.replace(&value, "VALUE"));
            let again = Request::get("/ring/given").header("cookie", &format!("session={value}"));
            for (other, proxy) in stage.proxies() {
                let again = app.request(proxy.v4(HTTP), &again)?;
                ensure!(
                    again.server()? == server,
                    "{name} and then {other}: {cookie}"
                );
                ensure!(again.header("set-cookie").is_none(), "{other}: told again");
            }
            // Nobody looks at a hash here.
            let other = app.get(proxy.v4(HTTP), "/ring/cookie")?;
            ensure!(other.header("set-cookie").is_none(), "{name}: no ttl");
        }
        assert_eq!(told[0], told[1]);
    }
    Ok(())
}

#[test]
fn what_is_too_much_for_an_endpoint_goes_where_envoy_sends_it() -> Result<()> {
    let stage = Stage::start("bounded-loads")?;
    for (port, (name, ..)) in (HTTP + 1..).zip(clusters()) {
        if !name.ends_with(BOUNDED) {
            continue;
        }
        // One client, many connections that stay open.
        let servers = stage.same(name, None, |proxy| {
            let mut open = Vec::new();
            let mut servers = Vec::new();
            for key in 0..60 {
                let address = source(if key < 40 { 1 } else { key });
                let mut client = stage.of_client(proxy, port, &address)?;
                servers.push(client.send(&Request::get("/"))?.server()?);
                open.push(client);
            }
            Ok(servers)
        })?;
        let used: BTreeSet<&String> = servers[..40].iter().collect();
        ensure!(used.len() > 5, "{name}: one client is held by {used:?}");
    }
    Ok(())
}

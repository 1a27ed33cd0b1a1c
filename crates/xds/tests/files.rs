//! Files of a `path_config_source`: what is taken from them, when, and what stays where one is
//! wrong.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use shunt_xds::{Converter, LoadError, load_bootstrap};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;
use support::{DEADLINE, Files, Sidecar, eventually, free_port};

/// The status and body of the answer to one request.
fn ask(to: SocketAddr) -> (String, String) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].to_owned(), body.to_owned())
}

/// Wait until a request is answered with this body.
fn until_body(to: SocketAddr, body: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = ask(to);
        if answer.1 == body {
            return;
        }
        assert!(Instant::now() < deadline, "still {answer:?}, not {body}");
    }
}

fn bootstrap(files: &Files, lds: &str, cds: &str) -> PathBuf {
    let source = |name: &str| {
        format!(
            "{{ path_config_source: {{ path: {} }} }}",
            files.path(name).display()
        )
    };
    let text = format!(
        "dynamic_resources:\n  lds_config: {}\n  cds_config: {}\n",
        source(lds),
        source(cds)
    );
    files.write("bootstrap.yaml", &text);
    files.path("bootstrap.yaml")
}

const EMPTY: &str = "resources: []";

/// A listener with these routes.
fn listener(name: &str, at: SocketAddr, routes: &str) -> String {
    format!(
        r#"- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: {name}
  address: {{ socket_address: {{ address: {}, port_value: {} }} }}
  filter_chains:
  - filters:
    - name: hcm
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: http
        {routes}
        http_filters:
        - name: router
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"#,
        at.ip(),
        at.port()
    )
}

fn direct(body: &str) -> String {
    format!(
        "route_config: {{ virtual_hosts: [{{ name: all, domains: ['*'], routes: [{{ match: {{ \
         prefix: / }}, direct_response: {{ status: 200, body: {{ inline_string: {body} }} }} }}] \
         }}] }}"
    )
}

fn rds(files: &Files, name: &str) -> String {
    let path = files.path("rds.yaml");
    format!(
        "rds: {{ route_config_name: {name}, config_source: {{ path_config_source: {{ path: {} }} \
         }} }}",
        path.display()
    )
}

fn resources(all: &[String]) -> String {
    let all: String = all.concat();
    format!("resources:\n{all}")
}

/// A route configuration that sends everything to a cluster.
fn routes(name: &str, cluster: &str) -> String {
    format!(
        r#"- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: {name}
  virtual_hosts: [{{ name: all, domains: ['*'], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: {cluster} }} }}] }}]
"#
    )
}

fn eds_cluster(files: &Files, name: &str) -> String {
    let path = files.path("eds.yaml");
    format!(
        r#"- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: {name}
  type: EDS
  eds_cluster_config: {{ eds_config: {{ path: {} }} }}
"#,
        path.display()
    )
}

fn assignment(name: &str, endpoint: SocketAddr, status: &str) -> String {
    format!(
        r#"- "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: {name}
  endpoints: [{{ lb_endpoints: [{{ health_status: {status}, endpoint: {{ address: {{ socket_address: {{ address: {}, port_value: {} }} }} }} }}] }}]
"#,
        endpoint.ip(),
        endpoint.port()
    )
}

/// An application that answers every connection with its name.
fn application(name: &'static str) -> SocketAddr {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in socket.incoming().map_while(Result::ok) {
            let mut seen = Vec::new();
            let mut byte = [0];
            while !seen.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                seen.push(byte[0]);
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{name}",
                name.len()
            );
            let _gone = stream.write_all(answer.as_bytes());
        }
    });
    address
}

const LDS: &str = "envoy_listener_manager_lds_update";
const CDS: &str = "envoy_cluster_manager_cds_update";

fn lds(what: &str) -> String {
    format!("{LDS}_{what}")
}

#[test]
fn listeners_are_added_changed_and_removed_with_their_file() {
    let files = Files::new();
    let (one, two) = (free_port(), free_port());
    files.write(
        "lds.yaml",
        &resources(&[listener("one", one, &direct("first"))]),
    );
    files.write("cds.yaml", EMPTY);
    let sidecar = Sidecar::start(&bootstrap(&files, "lds.yaml", "cds.yaml"));
    // It serves before anything is watched.
    assert_eq!(ask(one), ("200".to_owned(), "first".to_owned()));
    sidecar.wait(&lds("success"), &[], 1);
    eventually(
        || "not warm".to_owned(),
        || sidecar.warm.load(Ordering::SeqCst),
    );

    let both = [
        listener("one", one, &direct("second")),
        listener("two", two, &direct("new")),
    ];
    files.put("lds.yaml", &resources(&both));
    until_body(one, "second");
    assert_eq!(ask(two).1, "new");
    sidecar.wait(&lds("success"), &[], 2);
    assert_eq!(sidecar.names(), ["one", "two"]);

    files.put("lds.yaml", &resources(&both[1..]));
    sidecar.wait(&lds("success"), &[], 3);
    assert_eq!(sidecar.names(), ["two"]);
    assert_eq!(sidecar.value(&lds("attempt"), &[]), 3);
    let gone = || TcpStream::connect(one).is_err();
    eventually(|| "its socket is still there".to_owned(), gone);
}

#[test]
fn a_wrong_file_is_counted_and_what_was_taken_before_stays() {
    let files = Files::new();
    let at = free_port();
    let good = listener("one", at, &direct("good"));
    files.write("lds.yaml", &resources(std::slice::from_ref(&good)));
    files.write("cds.yaml", EMPTY);
    let sidecar = Sidecar::start(&bootstrap(&files, "lds.yaml", "cds.yaml"));
    sidecar.wait(&lds("success"), &[], 1);

    // One of two is wrong: neither is taken.
    let wrong = listener(
        "two",
        free_port(),
        "route_config: { virtual_hosts: [{ name: x }] }",
    );
    let changed = listener("one", at, &direct("changed"));
    files.put("lds.yaml", &resources(&[changed.clone(), wrong]));
    sidecar.wait(&lds("rejected"), &[], 1);
    // Not a listener at all; a type that is none; an address that another has.
    files.put("lds.yaml", &resources(&[routes("r", "c")]));
    sidecar.wait(&lds("rejected"), &[], 2);
    files.put(
        "lds.yaml",
        &resources(&[changed.clone(), listener("two", at, &direct("x"))]),
    );
    sidecar.wait(&lds("rejected"), &[], 3);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken_at = listener("two", taken.local_addr().unwrap(), &direct("x"));
    files.put("lds.yaml", &resources(&[changed.clone(), taken_at]));
    sidecar.wait(&lds("rejected"), &[], 4);
    files.put("lds.yaml", "resources: [");
    sidecar.wait(&lds("failure"), &[], 1);
    assert_eq!(ask(at).1, "good");
    assert_eq!(sidecar.names(), ["one"]);
    assert_eq!(sidecar.value(&lds("success"), &[]), 1);

    files.put("lds.yaml", &resources(&[changed]));
    until_body(at, "changed");
}

#[test]
fn a_file_that_is_written_in_place_is_read_when_it_is_moved() {
    let files = Files::new();
    let at = free_port();
    files.write(
        "lds.yaml",
        &resources(&[listener("one", at, &direct("first"))]),
    );
    files.write("cds.yaml", EMPTY);
    let sidecar = Sidecar::start(&bootstrap(&files, "lds.yaml", "cds.yaml"));
    sidecar.wait(&lds("success"), &[], 1);
    files.write("lds.yaml", "resources: [{ half");
    // What is moved later is read later: then the other would have been read, too.
    files.put("cds.yaml", "{}");
    sidecar.wait(&format!("{CDS}_success"), &[], 2);
    assert_eq!(sidecar.value(&lds("attempt"), &[]), 1);
}

#[test]
fn a_swap_of_a_watched_directory_reads_its_files_again() {
    let files = Files::new();
    let at = free_port();
    // As Kubernetes mounts a ConfigMap: files are links through ..data, which is swapped.
    let version = |n: u32, body: &str| {
        let folder = files.path(&format!("..{n}"));
        fs::create_dir(&folder).unwrap();
        let text = resources(&[listener("one", at, &direct(body))]);
        fs::write(folder.join("lds.yaml"), text).unwrap();
        std::os::unix::fs::symlink(format!("..{n}"), files.path("..data_tmp")).unwrap();
        fs::rename(files.path("..data_tmp"), files.path("..data")).unwrap();
    };
    version(1, "first");
    std::os::unix::fs::symlink("..data/lds.yaml", files.path("lds.yaml")).unwrap();
    let path = files.path("lds.yaml");
    let text = format!(
        "dynamic_resources:\n  lds_config:\n    path_config_source:\n      path: {}\n      \
         watched_directory: {{ path: {} }}\n",
        path.display(),
        files.path("").display()
    );
    let boots = Files::new();
    boots.write("bootstrap.yaml", &text);
    let sidecar = Sidecar::start(&boots.path("bootstrap.yaml"));
    sidecar.wait(&lds("success"), &[], 1);
    assert_eq!(ask(at).1, "first");
    version(2, "second");
    until_body(at, "second");
}

#[test]
fn clusters_and_listeners_wait_for_what_is_in_other_files() {
    let files = Files::new();
    let at = free_port();
    let (one, two) = (application("one"), application("two"));
    files.write(
        "lds.yaml",
        &resources(&[listener("in", at, &rds(&files, "r"))]),
    );
    files.write("cds.yaml", &resources(&[eds_cluster(&files, "c")]));
    files.write("rds.yaml", EMPTY);
    files.write("eds.yaml", EMPTY);
    let sidecar = Sidecar::start(&bootstrap(&files, "lds.yaml", "cds.yaml"));
    let warming = "envoy_listener_manager_total_listeners_warming";
    sidecar.wait(warming, &[], 1);
    sidecar.wait("envoy_cluster_manager_warming_clusters", &[], 1);
    assert!(sidecar.names().is_empty());
    assert!(!sidecar.warm.load(Ordering::SeqCst));

    // Routes come: the listener serves, though its cluster still waits.
    files.put("rds.yaml", &resources(&[routes("r", "c")]));
    sidecar.wait(warming, &[], 0);
    assert_eq!(ask(at).0, "503");
    assert!(!sidecar.warm.load(Ordering::SeqCst));
    files.put("eds.yaml", &resources(&[assignment("c", one, "HEALTHY")]));
    until_body(at, "one");
    eventually(
        || "not warm".to_owned(),
        || sidecar.warm.load(Ordering::SeqCst),
    );
    let labels = [("envoy_cluster_name", "c")];
    sidecar.wait("envoy_cluster_update_success", &labels, 2);
    let labels = [("envoy_rds_route_config", "r")];
    assert_eq!(sidecar.value("envoy_http_rds_update_success", &labels), 2);

    // Other endpoints; then an unhealthy one; and what a file no longer names stays.
    files.put("eds.yaml", &resources(&[assignment("c", two, "HEALTHY")]));
    until_body(at, "two");
    files.put("eds.yaml", EMPTY);
    let labels = [("envoy_cluster_name", "c")];
    sidecar.wait("envoy_cluster_update_success", &labels, 4);
    assert_eq!(ask(at).1, "two");
    files.put("eds.yaml", &resources(&[assignment("c", two, "UNHEALTHY")]));
    eventually(|| "still used".to_owned(), || ask(at).0 == "503");
    files.put("eds.yaml", &resources(&[assignment("c", one, "HEALTHY")]));
    until_body(at, "one");

    // A listener that names other routes serves as before until they come.
    files.put(
        "lds.yaml",
        &resources(&[listener("in", at, &rds(&files, "s"))]),
    );
    sidecar.wait(warming, &[], 1);
    assert_eq!(ask(at).1, "one");
    files.put(
        "cds.yaml",
        &resources(&[eds_cluster(&files, "c"), eds_cluster(&files, "d")]),
    );
    let answers = [assignment("d", two, "HEALTHY")];
    files.put("eds.yaml", &resources(&answers));
    files.put("rds.yaml", &resources(&[routes("s", "d")]));
    until_body(at, "two");
    // A removed cluster: its routes are answered 503.
    files.put("cds.yaml", EMPTY);
    eventually(|| "still there".to_owned(), || ask(at).0 == "503");
}

#[test]
fn a_source_that_is_not_there_refuses_the_start() {
    let files = Files::new();
    files.write("cds.yaml", EMPTY);
    let path = bootstrap(&files, "missing.yaml", "cds.yaml");
    let error = load_bootstrap(&path, &Converter::InProcess).unwrap_err();
    let LoadError::Invalid { problems, .. } = &error else {
        panic!("{error}")
    };
    let problem = &problems.list()[0];
    assert_eq!(
        problem.path,
        "dynamic_resources.lds_config.path_config_source.path"
    );
    assert!(problem.message.contains("missing.yaml"), "{problem}");
    assert!(problem.message.contains("must exist"), "{problem}");
}

#[test]
fn a_wrong_file_at_the_start_keeps_the_sidecar_from_being_ready() {
    let files = Files::new();
    let at = free_port();
    files.write("lds.yaml", "resources: [{ '@type': x }]");
    files.write("cds.yaml", EMPTY);
    let sidecar = Sidecar::start(&bootstrap(&files, "lds.yaml", "cds.yaml"));
    sidecar.wait(&lds("rejected"), &[], 1);
    sidecar.wait(&format!("{CDS}_success"), &[], 1);
    assert!(!sidecar.warm.load(Ordering::SeqCst));
    files.put(
        "lds.yaml",
        &resources(&[listener("one", at, &direct("good"))]),
    );
    eventually(
        || "not warm".to_owned(),
        || sidecar.warm.load(Ordering::SeqCst),
    );
    assert_eq!(ask(at).1, "good");
}

/// The dump of a kind of resource.
fn section(sidecar: &Sidecar, message: &str) -> serde_json::Value {
    let dump: serde_json::Value = serde_json::from_str(&sidecar.dump()).unwrap();
    let configs = dump["configs"].as_array().unwrap();
    let url = format!("type.googleapis.com/envoy.admin.v3.{message}");
    let found = configs.iter().find(|config| config["@type"] == url);
    found.cloned().unwrap_or_default()
}

/// The dump of a kind of resource, once it is as it should be: what is shown follows what is served by
/// a moment.
fn shown(
    sidecar: &Sidecar,
    message: &str,
    as_it_should_be: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    let seen = std::cell::RefCell::default();
    eventually(
        || format!("{message} is {}", seen.borrow()),
        || {
            *seen.borrow_mut() = section(sidecar, message);
            as_it_should_be(&seen.borrow())
        },
    );
    seen.into_inner()
}

#[test]
fn resources_of_files_are_shown_as_they_were_taken() {
    let files = Files::new();
    let at = free_port();
    files.put("rds.yaml", EMPTY);
    files.put("eds.yaml", EMPTY);
    files.put("cds.yaml", &resources(&[eds_cluster(&files, "app")]));
    files.put(
        "lds.yaml",
        &resources(&[listener("web", at, &rds(&files, "all"))]),
    );
    let sidecar = Sidecar::start(&bootstrap(&files, "lds.yaml", "cds.yaml"));
    let listeners = shown(&sidecar, "ListenersConfigDump", |listeners| {
        let waiting = &listeners["dynamic_listeners"][0];
        waiting["warming_state"]["listener"]["name"] == "web"
    });
    assert_eq!(listeners["dynamic_listeners"][0]["name"], "web");
    shown(&sidecar, "ClustersConfigDump", |clusters| {
        clusters["dynamic_warming_clusters"][0]["cluster"]["name"] == "app"
    });
    assert_eq!(
        section(&sidecar, "RoutesConfigDump"),
        serde_json::Value::Null
    );
    files.put("rds.yaml", &resources(&[routes("all", "app")]));
    files.put(
        "eds.yaml",
        &resources(&[
            r#"- "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: app
"#
            .to_owned(),
        ]),
    );
    eventually(
        || "not warm".to_owned(),
        || sidecar.warm.load(Ordering::SeqCst),
    );
    let listeners = shown(&sidecar, "ListenersConfigDump", |listeners| {
        !listeners["dynamic_listeners"][0]["active_state"].is_null()
    });
    let active = &listeners["dynamic_listeners"][0]["active_state"]["listener"];
    assert_eq!(
        active["@type"],
        "type.googleapis.com/envoy.config.listener.v3.Listener"
    );
    assert_eq!(active["address"]["socket_address"]["port_value"], at.port());
    shown(&sidecar, "ClustersConfigDump", |clusters| {
        clusters["dynamic_active_clusters"][0]["cluster"]["name"] == "app"
    });
    shown(&sidecar, "RoutesConfigDump", |routes| {
        let config = &routes["dynamic_route_configs"][0]["route_config"];
        config["virtual_hosts"][0]["domains"][0] == "*"
    });
    shown(&sidecar, "EndpointsConfigDump", |endpoints| {
        let config = &endpoints["dynamic_endpoint_configs"][0]["endpoint_config"];
        config["cluster_name"] == "app"
    });
    // A version that is not taken is not shown.
    files.put("lds.yaml", "resources: [ { a: 1 } ]");
    sidecar.wait(&lds("rejected"), &[], 1);
    assert_eq!(section(&sidecar, "ListenersConfigDump"), listeners);
    files.put("lds.yaml", EMPTY);
    shown(&sidecar, "ListenersConfigDump", serde_json::Value::is_null);
    assert!(sidecar.names().is_empty());
}

//! What a real istiod sends: all of it is accepted, but for what a list names with the part of
//! Shunt that will bring it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "../../../tests/src/istiod.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    reason = "the harness of the end-to-end tests shares it"
)]
mod istiod;

use istiod::{Pattern, Place, Source, recorded};
use serde_json::{Value, json};
use shunt_xds::{Converter, Problem, ProblemKind, load_bootstrap};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::{env, fs};

const LIST: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/data/istiod/refused.txt"
);
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// A folder with files that stand in for a control plane.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::write(folder.path("empty.json"), "{}").unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What is wrong with a resource; it stands in a bootstrap where it can.
    fn problems(&self, resource: &Value) -> Vec<Problem> {
        let (at, bootstrap) = self.bootstrap(resource);
        let path = self.path("bootstrap.json");
        fs::write(&path, bootstrap.to_string()).unwrap();
        let error = match load_bootstrap(&path, &Converter::InProcess) {
            Ok(_) => return Vec::new(),
            Err(error) => error,
        };
        let problems = error.problems().unwrap_or_else(|| panic!("{error}"));
        let mut problems = problems.list().to_vec();
        for problem in &mut problems {
            let path = problem.path.strip_prefix(at);
            let path = path.unwrap_or_else(|| panic!("elsewhere: {problem}"));
            problem.path = path.trim_start_matches('.').to_owned();
        }
        problems
    }

    /// A bootstrap with this resource, and the path to it there.
    fn bootstrap(&self, resource: &Value) -> (&'static str, Value) {
        let message = resource["@type"].as_str().unwrap().rsplit('.').next();
        let mut resource = resource.clone();
        resource.as_object_mut().unwrap().remove("@type");
        let listener = |manager: Value| {
            let filter = json!({"name": "http", "typed_config": manager});
            json!({
                "name": "any",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}},
                "filter_chains": [{"filters": [filter]}],
            })
        };
        let manager = |routes: Value| {
            let router = json!({"name": "router", "typed_config": {"@type": ROUTER}});
            json!({
                "@type": MANAGER, "stat_prefix": "any", "http_filters": [router],
                "route_config": routes,
            })
        };
        let (at, listeners, clusters) = match message.unwrap() {
            "Listener" => ("static_resources.listeners[0]", resource, json!([])),
            "Cluster" => (
                "static_resources.clusters[0]",
                listener(manager(json!({"name": "any"}))),
                json!([resource]),
            ),
            "RouteConfiguration" => (
                "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config",
                listener(manager(resource)),
                json!([]),
            ),
            "ClusterLoadAssignment" => (
                "static_resources.clusters[0].load_assignment",
                listener(manager(json!({"name": "any"}))),
                json!([{"name": "any", "load_assignment": resource}]),
            ),
            other => panic!("a recorded {other}"),
        };
        // Clusters come and go, as with a control plane.
        let clusters_elsewhere = json!({"path_config_source": {"path": self.path("empty.json")}});
        let bootstrap = json!({
            "dynamic_resources": {"cds_config": clusters_elsewhere, "lds_config": clusters_elsewhere},
            "static_resources": {"listeners": [listeners], "clusters": clusters},
        });
        (at, bootstrap)
    }
}

impl Place for Folder {
    fn file(&self, _source: Source) -> String {
        self.path("empty.json").display().to_string()
    }

    fn address(&self, _host: &str) -> String {
        "192.0.2.1".to_owned()
    }
}

/// What has to be taken from a resource until it is accepted.
fn refused_of(mut resource: Value, folder: &Folder) -> BTreeSet<Pattern> {
    let mut refused = BTreeSet::new();
    loop {
        let problems = folder.problems(&resource);
        if problems.is_empty() {
            return refused;
        }
        let patterns = problems.iter().map(|problem| {
            assert_eq!(problem.kind, ProblemKind::Refused, "{problem}");
            let whole = problem.message == "known to Envoy, not implemented by Shunt yet";
            Pattern::of(&resource, &problem.path, whole)
        });
        let patterns: BTreeSet<Pattern> = patterns.collect();
        let mut removed = false;
        for pattern in &patterns {
            removed |= pattern.remove(&mut resource, folder);
        }
        assert!(removed, "{problems:#?}\n{patterns:#?}");
        refused.extend(patterns);
    }
}

/// What will bring what is refused.
const PARTS: [&str; 5] = [
    "transport",
    "routing, clusters and resilience",
    "process: admin, logs, drain, overload, tracing",
    "ADS",
    "SDS, identity and authorization",
];

/// Run with `UPDATE=1` to write the list anew.
#[test]
fn all_that_istiod_sends_is_accepted_or_named_with_what_will_bring_it() {
    let folder = Folder::new();
    let mut found = BTreeSet::new();
    let resources = recorded();
    assert!(resources.len() > 100, "only {} resources", resources.len());
    for recorded in resources {
        found.extend(refused_of(recorded.resource, &folder));
    }
    let outermost = |inner: &&Pattern| !found.iter().any(|outer| outer.holds(inner));
    let found: BTreeSet<String> = found
        .iter()
        .filter(outermost)
        .map(Pattern::to_string)
        .collect();
    let text = fs::read_to_string(LIST).unwrap();
    let lines = text
        .lines()
        .map(|line| line.split_once(" -> ").unwrap_or((line, "")));
    let known: BTreeMap<&str, &str> = lines.collect();
    if env::var_os("UPDATE").is_some() {
        let lines = found.iter().map(|line| {
            let brings = known.get(line.as_str()).copied().unwrap_or_default();
            format!("{line} -> {brings}\n")
        });
        fs::write(LIST, lines.collect::<String>()).unwrap();
        return;
    }
    let listed: BTreeSet<String> = known.keys().map(ToString::to_string).collect();
    let refused: Vec<_> = found.difference(&listed).collect();
    let served: Vec<_> = listed.difference(&found).collect();
    assert!(refused.is_empty(), "refused and not listed: {refused:#?}");
    assert!(served.is_empty(), "listed and not refused: {served:#?}");
    for (line, brings) in known {
        assert!(PARTS.contains(&brings), "{line}: what is {brings:?}?");
    }
}

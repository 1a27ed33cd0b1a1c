//! Whole tables: host, path and headers to a route.

use super::{Action, CompiledRoute, RequestHead, RouteTable, Target};
use crate::ids::ClusterId;
use crate::model::{
    ClusterWeight, DirectResponse, FullMatchRegex, HeaderMatch, HeaderMatcher, Name, PathMatch,
    Route, RouteAction, RouteConfiguration, RouteForward, RouteMatch, RouteTarget, StringMatch,
    TcpCluster, VirtualHost, WeightedClusters,
};
use crate::model::{PerTry, Timeouts};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;
use std::time::Duration;

fn prefix(prefix: &str) -> RouteMatch {
    path(PathMatch::Prefix(prefix.into()))
}

fn path(path: PathMatch) -> RouteMatch {
    RouteMatch {
        path,
        case_sensitive: true,
        headers: Vec::new(),
    }
}

fn regex(pattern: &str) -> FullMatchRegex {
    FullMatchRegex::new(pattern).expect("a regular expression")
}

/// A route that is told by its name.
fn route(name: &str, matcher: RouteMatch) -> Route {
    Route {
        name: name.into(),
        matcher,
        action: RouteAction::DirectResponse(DirectResponse {
            status: StatusCode::OK,
            body: "".into(),
        }),
    }
}

fn host(domains: &[&str], routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name: domains.join(","),
        domains: domains.iter().map(|&d| d.to_owned()).collect(),
        routes,
    }
}

fn table(virtual_hosts: Vec<VirtualHost>) -> RouteTable {
    let config = RouteConfiguration {
        name: "test".into(),
        virtual_hosts,
        ignore_port_in_host_matching: true,
    };
    RouteTable::compile(&config, &mut |name| panic!("no route names {name}"))
}

fn get<'t>(table: &'t RouteTable, authority: &str, path: &str) -> Option<&'t CompiledRoute> {
    table.route(&RequestHead {
        method: &Method::GET,
        authority,
        path,
        scheme: "http",
        headers: &HeaderMap::new(),
    })
}

fn name(route: Option<&CompiledRoute>) -> Option<&str> {
    route.map(|route| &*route.name)
}

#[test]
fn the_first_matching_route_of_the_best_virtual_host_is_taken() {
    let table = table(vec![
        host(&["*"], vec![route("catch-all", prefix("/"))]),
        host(
            &["reviews", "*.reviews"],
            vec![
                route("static", prefix("/static/")),
                route("exact", path(PathMatch::Exact("/static/logo".into()))),
                route("api", prefix("/api")),
            ],
        ),
    ]);
    let rows = [
        ("reviews", "/static/logo", Some("static")),
        ("reviews:9080", "/api/v1?x=/static/", Some("api")),
        ("REVIEWS", "/api", Some("api")),
        ("v1.reviews", "/apis", Some("api")),
        // Its virtual host has no such route; the catch-all is another's.
        ("reviews", "/other", None),
        ("ratings", "/other", Some("catch-all")),
    ];
    for (authority, path, expected) in rows {
        let found = name(get(&table, authority, path));
        assert_eq!(found, expected, "{authority} {path}");
    }
}

#[test]
fn a_host_that_no_domain_fits_has_no_route() {
    let table = table(vec![host(&["reviews"], vec![route("all", prefix("/"))])]);
    assert_eq!(name(get(&table, "ratings", "/")), None);
    assert_eq!(name(get(&table, "", "/")), None);
}

#[test]
fn an_empty_table_has_no_route() {
    assert_eq!(name(get(&table(Vec::new()), "reviews", "/")), None);
}

#[test]
fn a_request_without_a_path_has_no_route() {
    let table = table(vec![host(&["*"], vec![route("all", prefix(""))])]);
    assert_eq!(name(get(&table, "reviews:443", "")), None);
    assert_eq!(name(get(&table, "reviews:443", "*")), Some("all"));
}

#[test]
fn paths_match_without_query_and_fragment() {
    let exact = |value: &str| PathMatch::Exact(value.into());
    let prefix = |value: &str| PathMatch::Prefix(value.into());
    let safe_regex = |pattern: &str| PathMatch::Regex(regex(pattern));
    let rows = [
        (prefix("/"), true, "/", true),
        (prefix("/"), true, "*", false),
        (prefix("/api"), true, "/api", true),
        (prefix("/api"), true, "/apis?x", true),
        (prefix("/api"), true, "/ap", false),
        (prefix("/api"), true, "/API", false),
        (prefix("/api"), false, "/API/x", true),
        (prefix("/Api"), false, "/aPI/x", true),
        (prefix("/api/"), true, "/api?/", false),
        (prefix("/\u{e9}"), false, "/\u{e9}t\u{e9}", true),
        (exact("/api"), true, "/api", true),
        (exact("/api"), true, "/api?x=1", true),
        (exact("/api"), true, "/api#x?y", true),
        (exact("/api"), true, "/api/", false),
        (exact("/api"), true, "/Api", false),
        (exact("/Api"), false, "/aPI", true),
        (exact("/api?x"), true, "/api?x", false),
        (safe_regex("/v[0-9]+/.*"), true, "/v12/x?y", true),
        (safe_regex("/v[0-9]+"), true, "/v12/x", false),
        (safe_regex("v1"), true, "/v1", false),
        (safe_regex("/a|/b"), true, "/b", true),
        (safe_regex("/a|/b"), true, "/ab", false),
        (safe_regex("/a.*"), true, "/b?/a", false),
    ];
    for (specifier, case_sensitive, path, expected) in rows {
        let shown = format!("{specifier:?}, case {case_sensitive}, {path}");
        let matcher = RouteMatch {
            path: specifier,
            case_sensitive,
            headers: Vec::new(),
        };
        let table = table(vec![host(&["*"], vec![route("it", matcher)])]);
        assert_eq!(get(&table, "a", path).is_some(), expected, "{shown}");
    }
}

/// Whether a route with these header matchers takes a request.
fn headers_match(matchers: &[HeaderMatcher], headers: &[(&'static str, &[u8])]) -> bool {
    let matcher = RouteMatch {
        headers: matchers.to_vec(),
        ..prefix("/")
    };
    let table = table(vec![host(&["*"], vec![route("it", matcher)])]);
    let headers: HeaderMap = headers
        .iter()
        .map(|&(name, value)| {
            let value = HeaderValue::from_bytes(value).expect("a header value");
            (HeaderName::from_static(name), value)
        })
        .collect();
    let head = RequestHead {
        method: &Method::POST,
        authority: "Reviews:9080",
        path: "/api?x=1",
        scheme: "http",
        headers: &headers,
    };
    table.route(&head).is_some()
}

fn header(value: Option<StringMatch>) -> HeaderMatcher {
    HeaderMatcher {
        name: HeaderMatch::Name(HeaderName::from_static("x-canary")),
        value,
        invert: false,
        treat_missing_as_empty: false,
    }
}

fn exact(value: &str) -> StringMatch {
    StringMatch::Exact {
        value: value.into(),
        ignore_case: false,
    }
}

#[test]
fn header_values_match_as_their_matcher_says() {
    let value = String::from("ab");
    let exact = |ignore_case| StringMatch::Exact {
        value: value.clone(),
        ignore_case,
    };
    let prefix = |ignore_case| StringMatch::Prefix {
        value: value.clone(),
        ignore_case,
    };
    let suffix = |ignore_case| StringMatch::Suffix {
        value: value.clone(),
        ignore_case,
    };
    let contains = |ignore_case| StringMatch::Contains {
        value: value.clone(),
        ignore_case,
    };
    let safe_regex = |pattern| StringMatch::Regex(regex(pattern));
    let rows: Vec<(StringMatch, &[u8], bool)> = vec![
        (exact(false), b"ab", true),
        (exact(false), b"aB", false),
        (exact(false), b"abc", false),
        (exact(true), b"aB", true),
        (prefix(false), b"abc", true),
        (prefix(false), b"Abc", false),
        (prefix(false), b"a", false),
        (prefix(true), b"ABc", true),
        (suffix(false), b"cab", true),
        (suffix(false), b"caB", false),
        (suffix(false), b"b", false),
        (suffix(true), b"cAB", true),
        (contains(false), b"cabc", true),
        (contains(false), b"cAbc", false),
        (contains(true), b"cAbC", true),
        (contains(true), b"a b", false),
        (safe_regex("a.*"), b"abc", true),
        (safe_regex("a"), b"abc", false),
        (safe_regex("(?i)ABC"), b"abc", true),
        // Not UTF-8.
        (prefix(false), b"ab\xff", true),
        (suffix(true), b"\xffAb", true),
        (contains(false), b"\xffab\xff", true),
        (exact(false), b"ab\xff", false),
        (safe_regex("(?s).*"), b"ab\xff", false),
    ];
    for (matcher, value, expected) in rows {
        let shown = format!("{matcher:?} on {:?}", String::from_utf8_lossy(value));
        let matched = headers_match(&[header(Some(matcher))], &[("x-canary", value)]);
        assert_eq!(matched, expected, "{shown}");
    }
}

#[test]
fn missing_headers_match_as_in_envoy() {
    // matcher, invert, treat missing as empty; there as `x`, there as empty, missing
    let rows = [
        (None, false, false, [true, true, false]),
        (None, true, false, [false, false, true]),
        (None, false, true, [true, true, true]),
        (None, true, true, [false, false, false]),
        (Some(exact("x")), false, false, [true, false, false]),
        (Some(exact("x")), true, false, [false, true, false]),
        (Some(exact("x")), false, true, [true, false, false]),
        (Some(exact("x")), true, true, [false, true, true]),
        (Some(exact("")), false, false, [false, true, false]),
        (Some(exact("")), false, true, [false, true, true]),
        (Some(exact("")), true, true, [true, false, false]),
    ];
    for (value, invert, treat_missing_as_empty, expected) in rows {
        let matcher = [HeaderMatcher {
            invert,
            treat_missing_as_empty,
            ..header(value)
        }];
        let matched = [
            headers_match(&matcher, &[("x-canary", b"x")]),
            headers_match(&matcher, &[("x-canary", b"")]),
            headers_match(&matcher, &[("other", b"x")]),
        ];
        assert_eq!(matched, expected, "{matcher:?}");
    }
}

#[test]
fn of_several_lines_of_a_header_any_may_match_and_inverted_none() {
    let lines: &[(&str, &[u8])] = &[("x-canary", b"a"), ("other", b"c"), ("x-canary", b"b")];
    assert!(headers_match(&[header(Some(exact("a")))], lines));
    assert!(headers_match(&[header(Some(exact("b")))], lines));
    assert!(!headers_match(&[header(Some(exact("a,b")))], lines));
    for (value, expected) in [("a", false), ("b", false), ("c", true)] {
        let mut inverted = header(Some(exact(value)));
        inverted.invert = true;
        assert_eq!(headers_match(&[inverted], lines), expected, "{value}");
    }
}

#[test]
fn pseudo_headers_are_matched_as_the_request_has_them() {
    let rows = [
        (HeaderMatch::Method, "POST"),
        (HeaderMatch::Authority, "Reviews:9080"),
        (HeaderMatch::Path, "/api?x=1"),
        (HeaderMatch::Scheme, "http"),
    ];
    for (name, value) in rows {
        let matcher = |value: &str| HeaderMatcher {
            name: name.clone(),
            ..header(Some(exact(value)))
        };
        assert!(headers_match(&[matcher(value)], &[]), "{name:?}");
        assert!(!headers_match(&[matcher("x")], &[]), "{name:?}");
    }
}

#[test]
fn all_header_matchers_of_a_route_must_hold() {
    let canary = header(Some(exact("always")));
    let method = HeaderMatcher {
        name: HeaderMatch::Method,
        ..header(Some(exact("POST")))
    };
    let both = [canary, method];
    assert!(headers_match(&both, &[("x-canary", b"always")]));
    assert!(!headers_match(&both, &[("x-canary", b"never")]));
    assert!(!headers_match(&both, &[]));
}

/// Interns `c0`, `c1`, … as 0, 1, …
fn intern(name: &Name) -> ClusterId {
    let digits = name.strip_prefix('c').expect("clusters are c0, c1, ...");
    ClusterId(digits.parse().expect("a number"))
}

fn weighted(weights: &[u32]) -> WeightedClusters {
    let clusters = weights.iter().zip(0..);
    let clusters = clusters.map(|(&weight, i)| ClusterWeight {
        name: format!("c{i}").into(),
        weight,
    });
    WeightedClusters::new(clusters.collect()).expect("weights that can be served")
}

#[test]
fn a_route_keeps_what_its_action_says() {
    let timeouts = Timeouts::Response {
        timeout: Some(Duration::from_secs(3)),
        grpc: None,
    };
    let per_try = PerTry {
        timeout: Some(Duration::from_secs(2)),
        idle: Some(Duration::from_secs(1)),
    };
    let forward = Route {
        action: RouteAction::Forward(RouteForward {
            target: RouteTarget::Cluster("c7".into()),
            timeouts,
            per_try,
            idle: crate::model::StreamIdle::Inherited,
            cluster_not_found: StatusCode::INTERNAL_SERVER_ERROR,
            upgrades: vec![],
            hash_policy: vec![],
        }),
        ..route("forward", prefix("/forward"))
    };
    let direct = Route {
        action: RouteAction::DirectResponse(DirectResponse {
            status: StatusCode::BAD_GATEWAY,
            body: "blocked".into(),
        }),
        ..route("direct", prefix("/direct"))
    };
    let config = RouteConfiguration {
        virtual_hosts: vec![host(&["*"], vec![forward, direct])],
        ..RouteConfiguration::default()
    };
    let table = RouteTable::compile(&config, &mut |name| intern(name));

    let Some(Action::Forward(forward)) = get(&table, "a", "/forward").map(|r| &r.action) else {
        panic!("/forward is forwarded");
    };
    assert_eq!(forward.target.choose(u64::MAX), ClusterId(7));
    assert_eq!(
        forward.target.clusters().collect::<Vec<_>>(),
        [ClusterId(7)]
    );
    assert_eq!((forward.timeouts, forward.per_try), (timeouts, per_try));
    assert_eq!(forward.cluster_not_found, StatusCode::INTERNAL_SERVER_ERROR);

    let Some(Action::DirectResponse(direct)) = get(&table, "a", "/direct").map(|r| &r.action)
    else {
        panic!("/direct is answered");
    };
    assert_eq!(direct.status, StatusCode::BAD_GATEWAY);
    assert_eq!(direct.body, "blocked");
}

#[test]
fn all_clusters_of_a_target_are_listed_also_those_never_chosen() {
    let target = Target::compile_tcp(&TcpCluster::Weighted(weighted(&[1, 0, 2])), &mut intern);
    let clusters: Vec<_> = target.clusters().map(|id| id.0).collect();
    assert_eq!(clusters, [0, 1, 2]);
}

#[test]
fn weights_may_add_up_to_the_most_that_a_u32_holds() {
    let most = TcpCluster::Weighted(weighted(&[u32::MAX - 1, 0, 1]));
    let target = Target::compile_tcp(&most, &mut intern);
    let total = u64::from(u32::MAX);
    assert_eq!(target.choose(0), ClusterId(0));
    assert_eq!(target.choose(total - 2), ClusterId(0));
    assert_eq!(target.choose(total - 1), ClusterId(2));
    assert_eq!(target.choose(total), ClusterId(0));
}

proptest! {
    #[test]
    fn each_cluster_is_chosen_as_often_as_it_weighs(
        weights in prop::collection::vec(0_u32..9, 1..7)
            .prop_filter("some weight", |weights| weights.iter().sum::<u32>() > 0),
        from: u64,
    ) {
        let total: u32 = weights.iter().sum();
        // A run of values that does not go past the end of u64.
        let from = from.min(u64::MAX - u64::from(total));
        let clusters = TcpCluster::Weighted(weighted(&weights));
        let target = Target::compile_tcp(&clusters, &mut intern);
        let mut chosen = vec![0; weights.len()];
        for random in from..from + u64::from(total) {
            chosen[target.choose(random).0 as usize] += 1;
        }
        prop_assert_eq!(chosen, weights);
    }
}

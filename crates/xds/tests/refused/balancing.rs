//! Load balancing: what of it is wrong or refused, and what arrives in the model.

use shunt_proxy::model::{
    Choices, ClusterKind, ConsistentHashing, HashFunction, HashOf, LbPolicy, LeastRequest, Maglev,
    NetworkFilter, RingHash, RouteAction, RouteSource,
};
use shunt_xds::ProblemKind;

use crate::support::{CLUSTER, Case, ROUTE, TCP, changed, check, load};

const AT: &str = "  - name: app\n";

fn case(
    kind: ProblemKind,
    change: (&'static str, &'static str),
    path: (&'static str, &'static str),
    says: &'static str,
) -> Case {
    Case {
        change,
        kind,
        path,
        says,
    }
}

#[test]
fn what_of_balancing_cannot_be_is_told_with_its_path() {
    let wrong = |to, path, says| case(ProblemKind::Invalid, (AT, to), (CLUSTER, path), says);
    check(&[
        wrong(
            "  - name: app\n    lb_policy: RING_HASH\n    ring_hash_lb_config: { minimum_ring_size: 9, maximum_ring_size: 8 }\n",
            ".ring_hash_lb_config",
            "minimum_ring_size 9 is more than maximum_ring_size 8",
        ),
        wrong(
            "  - name: app\n    lb_policy: RING_HASH\n    ring_hash_lb_config: { maximum_ring_size: 10 }\n",
            ".ring_hash_lb_config",
            "maximum_ring_size 10 is less than minimum_ring_size, which is 1024 where it is left out; set minimum_ring_size to at most 10",
        ),
        wrong(
            "  - name: app\n    lb_policy: RING_HASH\n    ring_hash_lb_config: { maximum_ring_size: 8388609 }\n",
            ".ring_hash_lb_config",
            "maximum_ring_size is 8388609; it is 1 to 8388608",
        ),
        wrong(
            "  - name: app\n    lb_policy: MAGLEV\n    maglev_lb_config: { table_size: 65536 }\n",
            ".maglev_lb_config",
            "a prime number up to 5000011",
        ),
        wrong(
            "  - name: app\n    lb_policy: MAGLEV\n    maglev_lb_config: { table_size: 5000081 }\n",
            ".maglev_lb_config",
            "a prime number up to 5000011",
        ),
        wrong(
            "  - name: app\n    lb_policy: MAGLEV\n    common_lb_config: { consistent_hashing_lb_config: { hash_balance_factor: 99 } }\n",
            ".common_lb_config.consistent_hashing_lb_config.hash_balance_factor",
            "99 is outside of 100",
        ),
        wrong(
            "  - name: app\n    lb_policy: MAGLEV\n    common_lb_config: { consistent_hashing_lb_config: { use_hostname_for_hashing: true } }\n",
            ".common_lb_config.consistent_hashing_lb_config.use_hostname_for_hashing",
            "load_balancing_policy",
        ),
        wrong(
            "  - name: app\n    lb_policy: LEAST_REQUEST\n    least_request_lb_config: { choice_count: 1 }\n",
            ".least_request_lb_config.choice_count",
            "1 is outside of 2",
        ),
        wrong(
            "  - name: app\n    lb_policy: LEAST_REQUEST\n    least_request_lb_config: { active_request_bias: { default_value: -1, runtime_key: a } }\n",
            ".least_request_lb_config.active_request_bias.default_value",
            "from 0 on",
        ),
        wrong(
            "  - name: app\n    lb_policy: LOAD_BALANCING_POLICY_CONFIG\n",
            ".lb_policy",
            "needs load_balancing_policy",
        ),
        case(
            ProblemKind::Invalid,
            (
                "port_value: 80 } } }\n",
                "port_value: 80 } } }\n          load_balancing_weight: 0\n",
            ),
            (
                CLUSTER,
                ".load_assignment.endpoints[0].lb_endpoints[0].load_balancing_weight",
            ),
            "0 is outside of 1",
        ),
        case(
            ProblemKind::Invalid,
            (
                "      - lb_endpoints:\n",
                "      - lb_endpoints:\n        - { load_balancing_weight: 4294967295, endpoint: { address: { socket_address: { address: 10.0.0.2, port_value: 80 } } } }\n",
            ),
            (CLUSTER, ".load_assignment.endpoints"),
            "add up to 4294967296",
        ),
    ]);
}

#[test]
fn what_of_hash_policies_cannot_be_is_told_with_its_path() {
    const TO: &str = "route: { cluster: app }";
    let wrong = |to, path, says| case(ProblemKind::Invalid, (TO, to), (ROUTE, path), says);
    check(&[
        case(
            ProblemKind::Refused,
            (
                TO,
                "route: { cluster: app, hash_policy: [ { filter_state: { key: a } } ] }",
            ),
            (ROUTE, ".route.hash_policy[0].filter_state"),
            "known to Envoy, not implemented by Shunt yet",
        ),
        case(
            ProblemKind::Refused,
            (
                "stat_prefix: db\n",
                "stat_prefix: db\n          hash_policy: [ { filter_state: { key: a } } ]\n",
            ),
            (TCP, ".hash_policy[0].filter_state"),
            "known to Envoy, not implemented by Shunt yet",
        ),
        case(
            ProblemKind::Invalid,
            (
                "stat_prefix: db\n",
                "stat_prefix: db\n          hash_policy: [ { source_ip: {} }, { source_ip: {} } ]\n",
            ),
            (TCP, ".hash_policy"),
            "keep one",
        ),
        wrong(
            "route: { cluster: app, hash_policy: [ { terminal: true } ] }",
            ".route.hash_policy[0]",
            "it needs one of",
        ),
        wrong(
            "route: { cluster: app, hash_policy: [ { header: { header_name: \"a b\" } } ] }",
            ".route.hash_policy[0].header.header_name",
            "cannot be the name of a header",
        ),
        wrong(
            "route: { cluster: app, hash_policy: [ { header: { header_name: a, regex_rewrite: { pattern: { regex: \"a(\" } } } } ] }",
            ".route.hash_policy[0].header.regex_rewrite",
            "no usable regular expression",
        ),
        wrong(
            "route: { cluster: app, hash_policy: [ { header: { header_name: a, regex_rewrite: { pattern: { regex: a }, substitution: \"\\\\1\" } } } ] }",
            ".route.hash_policy[0].header.regex_rewrite",
            "one of the 0 groups",
        ),
        wrong(
            "route: { cluster: app, hash_policy: [ { cookie: { name: a, ttl: -1s } } ] }",
            ".route.hash_policy[0].cookie.ttl",
            "must not be negative",
        ),
        wrong(
            "route: { cluster: app, hash_policy: [ { cookie: { name: a, path: \"/a; Domain=b\" } } ] }",
            ".route.hash_policy[0].cookie.path",
            "cannot be a part of a cookie",
        ),
        wrong(
            "route: { cluster: app, hash_policy: [ { query_parameter: { name: \"\" } } ] }",
            ".route.hash_policy[0].query_parameter.name",
            "must not be empty",
        ),
    ]);
}

fn policy(lines: &str) -> LbPolicy {
    let text = changed((AT, "  - name: app\n    metadata: {}\n"));
    let text = text.replace("    metadata: {}\n", lines);
    let loaded = load(&text, "bootstrap.yaml").unwrap_or_else(|e| panic!("{e}"));
    loaded.model.resources.clusters[0].lb_policy
}

fn typed(policy_: &str, config: &str) -> LbPolicy {
    let package = "type.googleapis.com/envoy.extensions.load_balancing_policies";
    policy(&format!(
        "    lb_policy: MAGLEV\n    load_balancing_policy: {{ policies: [ {{ typed_extension_config: \
         {{ name: a, typed_config: {{ \"@type\": {package}.{policy_}{config} }} }} }} ] }}\n"
    ))
}

#[test]
fn policies_arrive_in_the_model_whichever_way_they_are_written() {
    let ring = RingHash::new(Some(500), Some(600), HashFunction::Murmur2).unwrap();
    let none = ConsistentHashing::default();
    let all = ConsistentHashing {
        by_hostname: false,
        balance_factor: Some(150),
        by_locality: true,
    };
    let common = "    common_lb_config: { locality_weighted_lb_config: {}, consistent_hashing_lb_config: { hash_balance_factor: 150 } }\n";
    let sizes = "{ minimum_ring_size: 500, maximum_ring_size: 600, hash_function: MURMUR_HASH_2 }";
    let written = format!("    lb_policy: RING_HASH\n    ring_hash_lb_config: {sizes}\n{common}");
    assert_eq!(policy(&written), LbPolicy::RingHash(ring, all));
    let config = ", minimum_ring_size: 500, maximum_ring_size: 600, hash_function: MURMUR_HASH_2, \
                  locality_weighted_lb_config: {}, consistent_hashing_lb_config: { \
                  hash_balance_factor: 150, use_hostname_for_hashing: true }";
    let by_hostname = ConsistentHashing {
        by_hostname: true,
        ..all
    };
    assert_eq!(
        typed("ring_hash.v3.RingHash", config),
        LbPolicy::RingHash(ring, by_hostname)
    );
    let usual = Maglev::new(None).unwrap();
    let written = "    lb_policy: MAGLEV\n";
    assert_eq!(policy(written), LbPolicy::Maglev(usual, none));
    assert_eq!(typed("maglev.v3.Maglev", ""), LbPolicy::Maglev(usual, none));
    let maglev = Maglev::new(Some(1009)).unwrap();
    let written = "    lb_policy: MAGLEV\n    maglev_lb_config: { table_size: 1009 }\n";
    assert_eq!(policy(written), LbPolicy::Maglev(maglev, none));
    let least = LeastRequest {
        choices: Choices::Some(5),
        bias: 0.5,
    };
    let config = "choice_count: 5, active_request_bias: { default_value: 0.5, runtime_key: a }";
    let written =
        format!("    lb_policy: LEAST_REQUEST\n    least_request_lb_config: {{ {config} }}\n");
    assert_eq!(policy(&written), LbPolicy::LeastRequest(least));
    let written = typed("least_request.v3.LeastRequest", &format!(", {config}"));
    assert_eq!(written, LbPolicy::LeastRequest(least));
    let all = LeastRequest {
        choices: Choices::All,
        bias: 1.0,
    };
    let written = typed(
        "least_request.v3.LeastRequest",
        ", selection_method: FULL_SCAN",
    );
    assert_eq!(written, LbPolicy::LeastRequest(all));
    assert_eq!(typed("random.v3.Random", ""), LbPolicy::Random);
    assert_eq!(policy("    lb_policy: RANDOM\n"), LbPolicy::Random);
    assert_eq!(typed("round_robin.v3.RoundRobin", ""), LbPolicy::RoundRobin);
}

#[test]
fn what_endpoints_are_balanced_by_arrives_in_the_model() {
    let text = changed((
        "      - lb_endpoints:\n        - endpoint: { address",
        "      - locality: { zone: b }\n        load_balancing_weight: 3\n        lb_endpoints:\n        - load_balancing_weight: 7\n          metadata: { filter_metadata: { envoy.lb: { hash_key: key } } }\n          endpoint: { hostname: host, address: { socket_address: { address: 10.0.0.2, port_value: 80 } } }\n      - locality: { zone: a }\n        lb_endpoints:\n        - endpoint: { address",
    ));
    let loaded = load(&text, "bootstrap.yaml").unwrap_or_else(|e| panic!("{e}"));
    let ClusterKind::Static(endpoints) = &loaded.model.resources.clusters[0].kind else {
        panic!("it is static");
    };
    let [first, second] = &endpoints[..] else {
        panic!("there are two: {endpoints:?}");
    };
    let balanced = &first.balanced;
    assert_eq!((balanced.weight, balanced.locality_weight), (7, 3));
    assert_eq!(balanced.hostname.as_deref(), Some("host"));
    assert_eq!(balanced.hash_key.as_deref(), Some("key"));
    assert_eq!(
        (second.balanced.weight, second.balanced.locality_weight),
        (1, 0)
    );
    assert_eq!((balanced.locality, second.balanced.locality), (1, 0));
}

#[test]
fn hash_policies_arrive_in_the_model() {
    let text = changed((
        "route: { cluster: app }",
        "route: { cluster: app, hash_policy: [ { connection_properties: { source_ip: false } }, { header: { header_name: Host }, terminal: true }, { cookie: { name: a, ttl: 1.9s } }, { connection_properties: { source_ip: true } }, { query_parameter: { name: q } } ] }",
    ));
    let text = text.replace(
        "stat_prefix: db\n",
        "stat_prefix: db\n          hash_policy: [ { source_ip: {} } ]\n",
    );
    let loaded = load(&text, "bootstrap.yaml").unwrap_or_else(|e| panic!("{e}"));
    let listeners = &loaded.model.resources.listeners;
    let NetworkFilter::Tcp(tcp) = &listeners[1].filter_chains[0].filter else {
        panic!("it is TCP");
    };
    assert!(tcp.hash_source);
    let NetworkFilter::Http(http) = &listeners[0].filter_chains[0].filter else {
        panic!("it is HTTP");
    };
    let RouteSource::Inline(routes) = &http.route_config else {
        panic!("its routes are inline");
    };
    let RouteAction::Forward(forward) = &routes.virtual_hosts[0].routes[0].action else {
        panic!("it forwards");
    };
    let policies = &forward.hash_policy;
    let terminal: Vec<bool> = policies.iter().map(|policy| policy.terminal).collect();
    assert_eq!(terminal, [true, false, false, false]);
    let HashOf::Cookie(cookie) = &policies[1].of else {
        panic!("a cookie: {policies:?}");
    };
    assert_eq!(cookie.ttl.map(|ttl| ttl.as_millis()), Some(1000));
    assert_eq!(policies[2].of, HashOf::SourceIp);
    assert_eq!(policies[3].of, HashOf::QueryParameter("q".to_owned()));
}

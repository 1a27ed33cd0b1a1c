//! Temporary loader: reads the fields the demonstration uses.
#![allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::panic)]
use serde_json::Value;
use shunt_proxy::model::*;
use std::net::SocketAddr;
use std::time::Duration;
pub enum Converter {
    Child,
    InProcess,
}
#[derive(Debug, Clone, Copy)]
pub enum LoadErrorKind {
    Unreadable,
    Invalid,
    Internal,
}
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(String);
impl LoadError {
    pub fn kind(&self) -> LoadErrorKind {
        LoadErrorKind::Invalid
    }
}
pub struct Loaded {
    pub model: Bootstrap,
    pub wire: bytes::Bytes,
}
pub fn convert_child() -> Option<std::process::ExitCode> {
    None
}
pub fn to_json(_: &[u8], _: &Converter) -> Result<String, LoadError> {
    Ok("{}".into())
}
pub fn load_bootstrap(path: &std::path::Path, _: &Converter) -> Result<Loaded, LoadError> {
    let text =
        std::fs::read_to_string(path).map_err(|e| LoadError(format!("{}: {e}", path.display())))?;
    let v: Value = serde_saphyr::from_str(&text).map_err(|e| LoadError(e.to_string()))?;
    Ok(Loaded {
        model: model(&v),
        wire: bytes::Bytes::new(),
    })
}
fn s(v: &Value) -> String {
    v.as_str().unwrap_or("").to_owned()
}
fn arr(v: &Value) -> Vec<Value> {
    v.as_array().cloned().unwrap_or_default()
}
fn addr(v: &Value) -> SocketAddr {
    let a = &v["socket_address"];
    SocketAddr::new(
        s(&a["address"]).parse().unwrap(),
        a["port_value"].as_u64().unwrap_or(0) as u16,
    )
}
fn dur(v: &Value) -> Option<Duration> {
    v.as_str()
        .and_then(|t| t.trim_end_matches('s').parse::<f64>().ok())
        .map(Duration::from_secs_f64)
}
fn dur_or(v: &Value, d: u64) -> Option<Duration> {
    dur(v)
        .or(Some(Duration::from_secs(d)))
        .filter(|d| !d.is_zero())
}
fn model(v: &Value) -> Bootstrap {
    let r = &v["static_resources"];
    Bootstrap {
        admin: v["admin"].get("address").map(addr),
        listeners: arr(&r["listeners"]).iter().map(listener).collect(),
        clusters: arr(&r["clusters"]).iter().map(cluster).collect(),
    }
}
fn listener(v: &Value) -> Listener {
    Listener {
        name: s(&v["name"]).into(),
        address: addr(&v["address"]),
        bind_to_port: v["bind_to_port"].as_bool().unwrap_or(true),
        use_original_dst: v["use_original_dst"].as_bool().unwrap_or(false),
        listener_filters: arr(&v["listener_filters"])
            .iter()
            .map(|f| {
                if s(&f["name"]).contains("original_dst") {
                    ListenerFilter::OriginalDst
                } else {
                    ListenerFilter::HttpInspector
                }
            })
            .collect(),
        listener_filters_timeout: dur_or(&v["listener_filters_timeout"], 15),
        continue_on_listener_filters_timeout: v["continue_on_listener_filters_timeout"]
            .as_bool()
            .unwrap_or(false),
        filter_chains: arr(&v["filter_chains"]).iter().map(chain).collect(),
        default_filter_chain: v.get("default_filter_chain").map(chain),
        traffic_direction: match v["traffic_direction"].as_str() {
            Some("INBOUND") => TrafficDirection::Inbound,
            Some("OUTBOUND") => TrafficDirection::Outbound,
            _ => Default::default(),
        },
        access_log: logs(v),
        stat_prefix: None,
    }
}
fn logs(v: &Value) -> Vec<AccessLog> {
    arr(&v["access_log"])
        .iter()
        .map(|l| {
            let c = &l["typed_config"];
            let p = s(&c["path"]);
            AccessLog {
                sink: match p.as_str() {
                    "/dev/stdout" | "" => AccessLogSink::Stdout,
                    "/dev/stderr" => AccessLogSink::Stderr,
                    p => AccessLogSink::File(p.into()),
                },
                format: c["log_format"]["text_format_source"]["inline_string"]
                    .as_str()
                    .unwrap_or(DEFAULT_TEXT_FORMAT)
                    .into(),
            }
        })
        .collect()
}
fn chain(v: &Value) -> FilterChain {
    let m = &v["filter_chain_match"];
    let f = &v["filters"][0]["typed_config"];
    let filter = if s(&f["@type"]).ends_with("TcpProxy") {
        NetworkFilter::Tcp(TcpProxy {
            stat_prefix: s(&f["stat_prefix"]).into(),
            cluster: TcpCluster::Cluster(s(&f["cluster"]).into()),
            idle_timeout: dur_or(&f["idle_timeout"], 3600),
            access_log: logs(f),
        })
    } else {
        NetworkFilter::Http(HttpConnectionManager {
            stat_prefix: s(&f["stat_prefix"]).into(),
            route_config: routes(&f["route_config"]),
            http_filters: vec![HttpFilter::Router {
                suppress_envoy_headers: false,
            }],
            access_log: logs(f),
            idle_timeout: dur_or(&f["common_http_protocol_options"]["idle_timeout"], 3600),
            stream_idle_timeout: dur_or(&f["stream_idle_timeout"], 300),
            server_name: "envoy".into(),
            server_header: ServerHeader::Overwrite,
            generate_request_id: true,
            use_remote_address: false,
        })
    };
    FilterChain {
        name: s(&v["name"]).into(),
        matcher: FilterChainMatch {
            destination_port: m["destination_port"].as_u64().map(|p| p as u16),
            transport_protocol: m["transport_protocol"].as_str().map(|t| {
                if t == "tls" {
                    TransportProtocol::Tls
                } else {
                    TransportProtocol::RawBuffer
                }
            }),
            application_protocols: arr(&m["application_protocols"])
                .iter()
                .map(|p| s(p).into())
                .collect(),
        },
        filter,
    }
}
fn routes(v: &Value) -> RouteConfiguration {
    RouteConfiguration {
        name: s(&v["name"]),
        virtual_hosts: arr(&v["virtual_hosts"])
            .iter()
            .map(|h| VirtualHost {
                name: s(&h["name"]),
                domains: arr(&h["domains"]).iter().map(s).collect(),
                routes: arr(&h["routes"]).iter().map(route).collect(),
            })
            .collect(),
        ignore_port_in_host_matching: v["ignore_port_in_host_matching"].as_bool().unwrap_or(false),
    }
}
fn route(v: &Value) -> Route {
    let m = &v["match"];
    let a = &v["route"];
    let target = if a.get("cluster").is_some() {
        RouteTarget::Cluster(s(&a["cluster"]).into())
    } else {
        RouteTarget::Weighted(
            WeightedClusters::new(
                arr(&a["weighted_clusters"]["clusters"])
                    .iter()
                    .map(|c| ClusterWeight {
                        name: s(&c["name"]).into(),
                        weight: c["weight"].as_u64().unwrap() as u32,
                    })
                    .collect(),
            )
            .unwrap(),
        )
    };
    Route {
        name: s(&v["name"]).into(),
        matcher: RouteMatch {
            path: if let Some(p) = m["path"].as_str() {
                PathMatch::Exact(p.into())
            } else {
                PathMatch::Prefix(s(&m["prefix"]))
            },
            case_sensitive: true,
            headers: arr(&m["headers"])
                .iter()
                .map(|h| HeaderMatcher {
                    name: HeaderMatch::Name(s(&h["name"]).parse().unwrap()),
                    value: h["string_match"]["exact"]
                        .as_str()
                        .map(|e| StringMatch::Exact {
                            value: e.into(),
                            ignore_case: false,
                        }),
                    invert: false,
                    treat_missing_as_empty: false,
                })
                .collect(),
        },
        action: RouteAction::Forward(RouteForward {
            target,
            timeout: dur_or(&a["timeout"], 15),
            cluster_not_found: http::StatusCode::SERVICE_UNAVAILABLE,
        }),
    }
}
fn cluster(v: &Value) -> Cluster {
    let od = v["type"] == "ORIGINAL_DST";
    let kind = if od {
        ClusterKind::OriginalDst {
            port_override: None,
        }
    } else {
        ClusterKind::Static(
            arr(&v["load_assignment"]["endpoints"])
                .iter()
                .flat_map(|l| arr(&l["lb_endpoints"]))
                .map(|e| Endpoint {
                    address: addr(&e["endpoint"]["address"]),
                    healthy: true,
                })
                .collect(),
        )
    };
    let b: Option<std::net::IpAddr> = v["upstream_bind_config"]["source_address"]["address"]
        .as_str()
        .map(|a| a.parse().unwrap());
    let mut bind = BindConfig::default();
    match b {
        Some(std::net::IpAddr::V4(a)) => {
            bind.v4 = Some(a);
            bind.v6 = Some(shunt_abi::addr::INBOUND_SOURCE_V6)
        }
        Some(std::net::IpAddr::V6(a)) => bind.v6 = Some(a),
        None => {}
    }
    Cluster {
        name: s(&v["name"]).into(),
        kind,
        lb_policy: if od {
            LbPolicy::ClusterProvided
        } else {
            LbPolicy::RoundRobin
        },
        connect_timeout: dur_or(&v["connect_timeout"], 5).unwrap(),
        bind,
        circuit_breakers: CircuitBreakers::default(),
        idle_timeout: Some(Duration::from_secs(3600)),
        max_requests_per_connection: None,
    }
}

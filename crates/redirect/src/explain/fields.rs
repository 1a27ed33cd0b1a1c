//! Which field of a policy a rule comes from, and under which names Istio and Linkerd know it.

use std::fmt;

use shunt_abi::rule as key;

/// A field of the policy, and its names elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// Path in a policy file.
    pub policy: &'static str,
    /// Flag of `istio-iptables`, or variable if it has no flag.
    pub istio_flag: Option<&'static str>,
    /// Pod annotation of Istio.
    pub istio_annotation: Option<&'static str>,
    /// Flag of Linkerd's `proxy-init`.
    pub linkerd_flag: Option<&'static str>,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.policy)?;
        for name in [self.istio_flag, self.istio_annotation]
            .into_iter()
            .flatten()
        {
            write!(f, ", {name}")?;
        }
        if let Some(flag) = self.linkerd_flag {
            write!(f, ", linkerd {flag}")?;
        }
        Ok(())
    }
}

/// The field that a rule with this key comes from. An interface after a colon does not count.
#[must_use]
pub fn of(key: &str) -> Option<&'static Field> {
    let stem = key.split_once(':').map_or(key, |(stem, _interface)| stem);
    Some(match stem {
        key::RAW_INBOUND_IPV6_OFF
        | key::RAW_OUTBOUND_IPV6_OFF
        | key::MANGLE_INBOUND_IPV6_OFF
        | key::MANGLE_OUTBOUND_IPV6_OFF
        | key::INBOUND_IPV6_OFF
        | key::OUTBOUND_IPV6_OFF => &IPV6,
        key::DROP_INVALID => &DROP_INVALID,
        _ => dns(stem)
            .or_else(|| tproxy(stem))
            .or_else(|| inbound(stem))
            .or_else(|| outbound(stem))?,
    })
}

fn dns(stem: &str) -> Option<&'static Field> {
    Some(match stem {
        key::DNS_ZONE_QUERY_UID
        | key::DNS_ZONE_QUERY_GID
        | key::DNS_ZONE_QUERY_MARK
        | key::DNS_ZONE_QUERY_CGROUP
        | key::DNS_ZONE_ANSWER_UID
        | key::DNS_ZONE_ANSWER_GID
        | key::DNS_ZONE_ANSWER_MARK
        | key::DNS_ZONE_ANSWER_CGROUP => &DNS,
        key::DNS_ZONE_APP
        | key::DNS_ZONE_APP_V4
        | key::DNS_ZONE_APP_V6
        | key::DNS_ZONE_SERVER
        | key::DNS_ZONE_SERVER_V4
        | key::DNS_ZONE_SERVER_V6
        | key::DNS_TCP
        | key::DNS_UDP
        | key::DNS_TCP_V4
        | key::DNS_UDP_V4
        | key::DNS_TCP_V6
        | key::DNS_UDP_V6 => &DNS_SERVERS,
        _ => return None,
    })
}

fn tproxy(stem: &str) -> Option<&'static Field> {
    Some(match stem {
        key::TPROXY_INBOUND_INTERFACE | key::TPROXY_OUTBOUND_INTERFACE => &EXCLUDE_INTERFACES,
        key::TPROXY_REROUTE_INTERFACE => &REROUTE_INTERFACES,
        key::TPROXY_MARKED
        | key::TPROXY_INBOUND_SOURCE_V4
        | key::TPROXY_INBOUND_SOURCE_V6
        | key::TPROXY_LOOPBACK_INTERFACE
        | key::TPROXY_NO_LISTENER
        | key::TPROXY_TO_APP
        | key::TPROXY_FROM_APP => &MODE,
        key::TPROXY_TUNNEL => &TUNNEL,
        key::TPROXY_EXCLUDE_PORTS => &INBOUND_EXCLUDE_PORTS,
        key::TPROXY_EXCLUDE_SOURCES_V4
        | key::TPROXY_EXCLUDE_SOURCES_V6
        | key::TPROXY_EXCLUDE_BLOCKS_V4
        | key::TPROXY_EXCLUDE_BLOCKS_V6 => &INBOUND_EXCLUDE_SOURCES,
        key::TPROXY_LOOPBACK_V4 | key::TPROXY_LOOPBACK_V6 => &LOOPBACK,
        key::TPROXY_CAPTURED | key::TPROXY_ESTABLISHED | key::TPROXY_CAPTURE => &INBOUND_CAPTURE,
        key::TPROXY_SELF_CALL_UID_V4
        | key::TPROXY_SELF_CALL_UID_V6
        | key::TPROXY_SELF_CALL_GID_V4
        | key::TPROXY_SELF_CALL_GID_V6
        | key::TPROXY_SELF_CALL_MARK_V4
        | key::TPROXY_SELF_CALL_MARK_V6
        | key::TPROXY_SELF_CALL_CGROUP_V4
        | key::TPROXY_SELF_CALL_CGROUP_V6 => &SELF_CALLS,
        _ => return None,
    })
}

fn inbound(stem: &str) -> Option<&'static Field> {
    Some(match stem {
        key::REROUTE_CAPTURE | key::REROUTE_INTERFACE => &REROUTE_INTERFACES,
        key::REROUTE_INCLUDE_V4
        | key::REROUTE_INCLUDE_V6
        | key::REROUTE_INCLUDE_BLOCKS_V4
        | key::REROUTE_INCLUDE_BLOCKS_V6 => &OUTBOUND_CAPTURE,
        key::INBOUND_INTERFACE => &EXCLUDE_INTERFACES,
        key::INBOUND_TUNNEL => &TUNNEL,
        key::INBOUND_EXCLUDE_PORTS => &INBOUND_EXCLUDE_PORTS,
        key::INBOUND_EXCLUDE_SOURCES_V4
        | key::INBOUND_EXCLUDE_SOURCES_V6
        | key::INBOUND_EXCLUDE_BLOCKS_V4
        | key::INBOUND_EXCLUDE_BLOCKS_V6 => &INBOUND_EXCLUDE_SOURCES,
        key::INBOUND_CAPTURE | key::INBOUND_INCLUDE_PORTS => &INBOUND_CAPTURE,
        key::INBOUND_SOURCE_V4 | key::INBOUND_SOURCE_V6 => &INBOUND,
        _ => return None,
    })
}

fn outbound(stem: &str) -> Option<&'static Field> {
    Some(match stem {
        key::OUTBOUND_INTERFACE => &EXCLUDE_INTERFACES,
        key::OUTBOUND_EXCLUDE_PORTS_TCP | key::OUTBOUND_EXCLUDE_PORTS_UDP => {
            &OUTBOUND_EXCLUDE_PORTS
        }
        key::SELF_CALL_UID_V4
        | key::SELF_CALL_UID_V6
        | key::SELF_CALL_GID_V4
        | key::SELF_CALL_GID_V6
        | key::SELF_CALL_MARK_V4
        | key::SELF_CALL_MARK_V6
        | key::SELF_CALL_CGROUP_V4
        | key::SELF_CALL_CGROUP_V6
        | key::SELF_CALL_MARKED => &SELF_CALLS,
        key::PROXY_UID => &PROXY_UIDS,
        key::PROXY_GID => &PROXY_GIDS,
        key::PROXY_MARK => &PROXY_MARK,
        key::PROXY_CGROUP => &PROXY_CGROUP,
        key::OWNER_GROUPS => &OWNERS,
        key::LOOPBACK_V4 | key::LOOPBACK_V6 => &LOOPBACK,
        key::OUTBOUND_EXCLUDE_V4
        | key::OUTBOUND_EXCLUDE_V6
        | key::OUTBOUND_EXCLUDE_BLOCKS_V4
        | key::OUTBOUND_EXCLUDE_BLOCKS_V6 => &OUTBOUND_EXCLUDE_CIDRS,
        key::OUTBOUND_INCLUDE_PORTS => &OUTBOUND_INCLUDE_PORTS,
        key::LOOPBACK_INTERFACE
        | key::OUTBOUND_CAPTURE
        | key::OUTBOUND_INCLUDE_V4
        | key::OUTBOUND_INCLUDE_V6
        | key::OUTBOUND_INCLUDE_BLOCKS_V4
        | key::OUTBOUND_INCLUDE_BLOCKS_V6 => &OUTBOUND_CAPTURE,
        _ => return None,
    })
}

const fn field(policy: &'static str) -> Field {
    Field {
        policy,
        istio_flag: None,
        istio_annotation: None,
        linkerd_flag: None,
    }
}

impl Field {
    const fn istio(mut self, flag: &'static str) -> Self {
        self.istio_flag = Some(flag);
        self
    }

    const fn annotation(mut self, annotation: &'static str) -> Self {
        self.istio_annotation = Some(annotation);
        self
    }

    const fn linkerd(mut self, flag: &'static str) -> Self {
        self.linkerd_flag = Some(flag);
        self
    }
}

static IPV6: Field = field("ipv6").istio("--dual-stack").linkerd("--ipv6");
static DROP_INVALID: Field = field("dropInvalid")
    .istio("--drop-invalid")
    .annotation("proxy.istio.io/config proxyMetadata INVALID_DROP");
static DNS: Field = field("dns")
    .istio("--redirect-dns")
    .annotation("proxy.istio.io/config proxyMetadata ISTIO_META_DNS_CAPTURE");
static DNS_SERVERS: Field = field("dns.servers")
    .istio("--capture-all-dns")
    .annotation("proxy.istio.io/config proxyMetadata ISTIO_META_DNS_CAPTURE");
static EXCLUDE_INTERFACES: Field = field("interfaces.exclude")
    .istio("--istio-exclude-interfaces")
    .annotation("traffic.sidecar.istio.io/excludeInterfaces");
static REROUTE_INTERFACES: Field = field("interfaces.reroute")
    .istio("--kube-virt-interfaces")
    .annotation("istio.io/reroute-virtual-interfaces");
static LOOPBACK: Field = field("loopbackCidr").istio("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR");
static PROXY_UIDS: Field = field("proxy.uids")
    .istio("--proxy-uid")
    .linkerd("--proxy-uid");
static PROXY_GIDS: Field = field("proxy.gids")
    .istio("--proxy-gid")
    .linkerd("--proxy-gid");
static PROXY_MARK: Field = field("proxy.mark");
static PROXY_CGROUP: Field = field("proxy.cgroup");
static SELF_CALLS: Field = field("proxy.selfCalls");
static INBOUND: Field = field("inbound");
static MODE: Field = field("inbound.tproxy")
    .istio("--istio-inbound-interception-mode")
    .annotation("sidecar.istio.io/interceptionMode");
static TUNNEL: Field = field("inbound.tunnelPort").istio("--inbound-tunnel-port");
static INBOUND_CAPTURE: Field = field("inbound.capture")
    .istio("--istio-inbound-ports")
    .annotation("traffic.sidecar.istio.io/includeInboundPorts")
    .linkerd("--ports-to-redirect");
static INBOUND_EXCLUDE_PORTS: Field = field("inbound.excludePorts")
    .istio("--istio-local-exclude-ports")
    .annotation("traffic.sidecar.istio.io/excludeInboundPorts")
    .linkerd("--inbound-ports-to-ignore");
static INBOUND_EXCLUDE_SOURCES: Field =
    field("inbound.excludeSources").linkerd("--subnets-to-ignore");
static OUTBOUND_CAPTURE: Field = field("outbound.capture")
    .istio("--istio-service-cidr")
    .annotation("traffic.sidecar.istio.io/includeOutboundIPRanges");
static OUTBOUND_EXCLUDE_CIDRS: Field = field("outbound.excludeCidrs")
    .istio("--istio-service-exclude-cidr")
    .annotation("traffic.sidecar.istio.io/excludeOutboundIPRanges");
static OUTBOUND_INCLUDE_PORTS: Field = field("outbound.includePorts")
    .istio("--istio-outbound-ports")
    .annotation("traffic.sidecar.istio.io/includeOutboundPorts");
static OUTBOUND_EXCLUDE_PORTS: Field = field("outbound.excludePorts")
    .istio("--istio-local-outbound-ports-exclude")
    .annotation("traffic.sidecar.istio.io/excludeOutboundPorts")
    .linkerd("--outbound-ports-to-ignore");
static OWNERS: Field = field("outbound.ownerGroups").istio("ISTIO_OUTBOUND_OWNER_GROUPS");

#[cfg(test)]
mod tests {
    use super::of;
    use crate::CaptureConfig;
    use crate::capture::{CgroupPath, DNS_PROXY, Dns, DnsServers, InboundMode, TPROXY_MARK};

    /// The values of all constants of `shunt_abi::rule`, from its source: a key added there must
    /// get a field here.
    fn keys() -> Vec<&'static str> {
        include_str!("../../../abi/src/rule.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("pub const ")?.split('"').nth(1))
            .collect()
    }

    /// A policy file in which every field stands.
    fn policy_file() -> String {
        let mut config = CaptureConfig {
            dns: Some(Dns {
                port: DNS_PROXY,
                servers: DnsServers::All,
            }),
            ..CaptureConfig::default()
        };
        config.inbound.mode = InboundMode::Tproxy {
            mark: TPROXY_MARK,
            table: 133,
        };
        config.proxy.mark = Some(TPROXY_MARK);
        config.proxy.cgroup = CgroupPath::new("pods/proxy");
        crate::policy::write(&config).unwrap()
    }

    #[test]
    fn every_rule_comes_from_a_field_of_policy_files() {
        let keys = keys();
        assert!(keys.len() > 70, "{keys:?}");
        let policy = policy_file();
        for key in keys {
            let field = of(key).unwrap_or_else(|| panic!("{key} has no field"));
            assert_eq!(of(&format!("{key}:eth0")), Some(field));
            for step in field.policy.split('.') {
                assert!(
                    policy.contains(&format!(" {step}:")),
                    "{key}: {step}\n{policy}"
                );
            }
        }
        assert_eq!(of("outbound/no-such-rule"), None);
    }

    #[test]
    fn the_names_that_users_know_are_those_of_their_own_tools() {
        let names = of("outbound/exclude-ports-udp").unwrap();
        assert_eq!(
            names.to_string(),
            "outbound.excludePorts, --istio-local-outbound-ports-exclude, \
             traffic.sidecar.istio.io/excludeOutboundPorts, linkerd --outbound-ports-to-ignore"
        );
    }
}

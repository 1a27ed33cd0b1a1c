//! What each rule does, in the words of a report.

use shunt_abi::rule as key;

/// Stands for no rule.
pub(super) const NO_RULE: &str = "no-rule";
/// Stands for rules that were not planned.
pub(super) const NO_OTHER_RULE: &str = "no-other-rule";

/// The title of a rule's leg. A key without one is its own.
pub(super) fn of(rule: &str) -> String {
    let (name, interface) = match rule.split_once(':') {
        Some((name, interface)) => (name, Some(interface)),
        None => (rule, None),
    };
    let title = TITLES
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(name, |(_, title)| title);
    match interface {
        Some(interface) => format!("{title} {interface}"),
        None => title.to_owned(),
    }
}

const OFF: &str = "IPv6 passes, since its capture is off,";
const ZONE_PROXY: &str = "DNS zone of the proxy's queries";
const ZONE_ANSWER: &str = "DNS zone of the proxy's answers";
const ZONE_APP: &str = "DNS zone of the application's queries";
const ZONE_SERVER: &str = "DNS zone of the servers' answers";
const SELF_CALL: &str = "the proxy's calls to its own pod are captured";
const PROXY: &str = "what the proxy sends passes";
const DNS_TCP: &str = "DNS over TCP is captured";
const DNS_UDP: &str = "DNS over UDP is captured";
const INBOUND_SOURCE: &str = "the proxy's calls to the application pass";
const LOOPBACK: &str = "loopback addresses pass";
const SOURCES: &str = "excluded clients pass";
const SOURCE_BLOCKS: &str = "excluded blocks of clients pass";

#[rustfmt::skip]
const TITLES: &[(&str, &str)] = &[
    (key::RAW_INBOUND_IPV6_OFF, OFF),
    (key::RAW_OUTBOUND_IPV6_OFF, OFF),
    (key::MANGLE_INBOUND_IPV6_OFF, OFF),
    (key::MANGLE_OUTBOUND_IPV6_OFF, OFF),
    (key::INBOUND_IPV6_OFF, "inbound IPv6 passes, since its capture is off,"),
    (key::OUTBOUND_IPV6_OFF, "outbound IPv6 passes, since its capture is off,"),
    (key::DNS_ZONE_QUERY_UID, ZONE_PROXY),
    (key::DNS_ZONE_QUERY_GID, ZONE_PROXY),
    (key::DNS_ZONE_QUERY_MARK, ZONE_PROXY),
    (key::DNS_ZONE_QUERY_CGROUP, ZONE_PROXY),
    (key::DNS_ZONE_ANSWER_UID, ZONE_ANSWER),
    (key::DNS_ZONE_ANSWER_GID, ZONE_ANSWER),
    (key::DNS_ZONE_ANSWER_MARK, ZONE_ANSWER),
    (key::DNS_ZONE_ANSWER_CGROUP, ZONE_ANSWER),
    (key::DNS_ZONE_APP, ZONE_APP),
    (key::DNS_ZONE_APP_V4, ZONE_APP),
    (key::DNS_ZONE_APP_V6, ZONE_APP),
    (key::DNS_ZONE_SERVER, ZONE_SERVER),
    (key::DNS_ZONE_SERVER_V4, ZONE_SERVER),
    (key::DNS_ZONE_SERVER_V6, ZONE_SERVER),
    (key::DROP_INVALID, "invalid packets are dropped"),
    (key::TPROXY_INBOUND_INTERFACE, "what arrives by an excluded interface passes"),
    (key::TPROXY_REROUTE_INTERFACE, "what arrives by a rerouted interface is no inbound connection"),
    (key::TPROXY_MARKED, "TPROXY: the mark of the proxy's calls to the application is kept"),
    (key::TPROXY_INBOUND_SOURCE_V4, INBOUND_SOURCE),
    (key::TPROXY_INBOUND_SOURCE_V6, INBOUND_SOURCE),
    (key::TPROXY_LOOPBACK_INTERFACE, "TPROXY: the application's calls to itself pass"),
    (key::TPROXY_TUNNEL, "the tunnel port passes"),
    (key::TPROXY_EXCLUDE_PORTS, "excluded inbound ports pass"),
    (key::TPROXY_EXCLUDE_SOURCES_V4, SOURCES),
    (key::TPROXY_EXCLUDE_SOURCES_V6, SOURCES),
    (key::TPROXY_EXCLUDE_BLOCKS_V4, SOURCE_BLOCKS),
    (key::TPROXY_EXCLUDE_BLOCKS_V6, SOURCE_BLOCKS),
    (key::TPROXY_LOOPBACK_V4, LOOPBACK),
    (key::TPROXY_LOOPBACK_V6, LOOPBACK),
    (key::TPROXY_CAPTURED, "TPROXY: later packets find the proxy"),
    (key::TPROXY_ESTABLISHED, "TPROXY: answers find the pod's sockets"),
    (key::TPROXY_CAPTURE, "inbound TCP is captured (TPROXY)"),
    (key::TPROXY_NO_LISTENER, "inbound TCP is dropped while no proxy listens"),
    (key::TPROXY_OUTBOUND_INTERFACE, "what leaves by an excluded interface passes"),
    (key::TPROXY_TO_APP, "TPROXY: the proxy's calls to the application pass"),
    (key::TPROXY_SELF_CALL_UID_V4, SELF_CALL),
    (key::TPROXY_SELF_CALL_UID_V6, SELF_CALL),
    (key::TPROXY_SELF_CALL_GID_V4, SELF_CALL),
    (key::TPROXY_SELF_CALL_GID_V6, SELF_CALL),
    (key::TPROXY_SELF_CALL_MARK_V4, SELF_CALL),
    (key::TPROXY_SELF_CALL_MARK_V6, SELF_CALL),
    (key::TPROXY_SELF_CALL_CGROUP_V4, SELF_CALL),
    (key::TPROXY_SELF_CALL_CGROUP_V6, SELF_CALL),
    (key::TPROXY_FROM_APP, "TPROXY: the application's answers find the proxy"),
    (key::REROUTE_CAPTURE, "what arrives by a rerouted interface is captured"),
    (key::REROUTE_INCLUDE_V4, "what arrives by a rerouted interface for included destinations is captured"),
    (key::REROUTE_INCLUDE_V6, "what arrives by a rerouted interface for included destinations is captured"),
    (key::REROUTE_INCLUDE_BLOCKS_V4, "what arrives by a rerouted interface for included blocks is captured"),
    (key::REROUTE_INCLUDE_BLOCKS_V6, "what arrives by a rerouted interface for included blocks is captured"),
    (key::REROUTE_INTERFACE, "what else arrives by a rerouted interface passes"),
    (key::INBOUND_INTERFACE, "what arrives by an excluded interface passes"),
    (key::INBOUND_TUNNEL, "the tunnel port passes"),
    (key::INBOUND_EXCLUDE_PORTS, "excluded inbound ports pass"),
    (key::INBOUND_EXCLUDE_SOURCES_V4, SOURCES),
    (key::INBOUND_EXCLUDE_SOURCES_V6, SOURCES),
    (key::INBOUND_EXCLUDE_BLOCKS_V4, SOURCE_BLOCKS),
    (key::INBOUND_EXCLUDE_BLOCKS_V6, SOURCE_BLOCKS),
    (key::INBOUND_CAPTURE, "inbound TCP is captured"),
    (key::INBOUND_INCLUDE_PORTS, "included inbound ports are captured"),
    (key::OUTBOUND_INTERFACE, "what leaves by an excluded interface passes"),
    (key::OUTBOUND_EXCLUDE_PORTS_TCP, "excluded outbound TCP ports pass"),
    (key::OUTBOUND_EXCLUDE_PORTS_UDP, "excluded outbound UDP ports pass"),
    (key::INBOUND_SOURCE_V4, INBOUND_SOURCE),
    (key::INBOUND_SOURCE_V6, INBOUND_SOURCE),
    (key::SELF_CALL_UID_V4, SELF_CALL),
    (key::SELF_CALL_UID_V6, SELF_CALL),
    (key::SELF_CALL_GID_V4, SELF_CALL),
    (key::SELF_CALL_GID_V6, SELF_CALL),
    (key::SELF_CALL_MARK_V4, SELF_CALL),
    (key::SELF_CALL_MARK_V6, SELF_CALL),
    (key::SELF_CALL_CGROUP_V4, SELF_CALL),
    (key::SELF_CALL_CGROUP_V6, SELF_CALL),
    (key::SELF_CALL_MARKED, "the proxy's calls to its own pod pass on to TPROXY"),
    (key::PROXY_UID, PROXY),
    (key::PROXY_GID, PROXY),
    (key::PROXY_MARK, PROXY),
    (key::PROXY_CGROUP, PROXY),
    (key::LOOPBACK_INTERFACE, "the application's calls to its own pod pass"),
    (key::OWNER_GROUPS, "groups that are not captured pass"),
    (key::DNS_TCP, DNS_TCP),
    (key::DNS_UDP, DNS_UDP),
    (key::DNS_TCP_V4, DNS_TCP),
    (key::DNS_TCP_V6, DNS_TCP),
    (key::DNS_UDP_V4, DNS_UDP),
    (key::DNS_UDP_V6, DNS_UDP),
    (key::LOOPBACK_V4, LOOPBACK),
    (key::LOOPBACK_V6, LOOPBACK),
    (key::OUTBOUND_EXCLUDE_V4, "excluded destinations pass"),
    (key::OUTBOUND_EXCLUDE_V6, "excluded destinations pass"),
    (key::OUTBOUND_EXCLUDE_BLOCKS_V4, "excluded blocks of destinations pass"),
    (key::OUTBOUND_EXCLUDE_BLOCKS_V6, "excluded blocks of destinations pass"),
    (key::OUTBOUND_INCLUDE_PORTS, "included outbound ports are captured"),
    (key::OUTBOUND_CAPTURE, "outbound TCP is captured"),
    (key::OUTBOUND_INCLUDE_V4, "included destinations are captured"),
    (key::OUTBOUND_INCLUDE_V6, "included destinations are captured"),
    (key::OUTBOUND_INCLUDE_BLOCKS_V4, "included blocks of destinations are captured"),
    (key::OUTBOUND_INCLUDE_BLOCKS_V6, "included blocks of destinations are captured"),
];

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn every_key_of_a_rule_has_a_title() {
        let keys = include_str!("../../../abi/src/rule.rs");
        let keys: Vec<&str> = keys
            .lines()
            .filter_map(|line| line.strip_prefix("pub const ")?.split('"').nth(1))
            .collect();
        assert!(keys.len() > 80, "{keys:?}");
        for key in keys {
            assert_ne!(of(key), key, "{key} has no title");
            assert_eq!(of(&format!("{key}:eth1")), format!("{} eth1", of(key)));
        }
    }
}

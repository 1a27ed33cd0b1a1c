//! Keys of the rules: the comment that each rule carries in the kernel, and the name under which
//! its counter is read.
//!
//! A key is unique within the table; where a rule is written once for each interface, its name
//! follows after a colon.

/// IPv6 that arrives while IPv6 capture is off, before conntrack: passes.
pub const RAW_INBOUND_IPV6_OFF: &str = "dns/inbound-ipv6-off";
/// IPv6 that is sent while IPv6 capture is off, before conntrack: passes.
pub const RAW_OUTBOUND_IPV6_OFF: &str = "dns/outbound-ipv6-off";
/// The proxy (by uid) asks a resolver: conntrack zone of the proxy.
pub const DNS_ZONE_QUERY_UID: &str = "dns/zone-proxy-query-uid";
/// The same by gid.
pub const DNS_ZONE_QUERY_GID: &str = "dns/zone-proxy-query-gid";
/// The same by mark.
pub const DNS_ZONE_QUERY_MARK: &str = "dns/zone-proxy-query-mark";
/// The same by cgroup.
pub const DNS_ZONE_QUERY_CGROUP: &str = "dns/zone-proxy-query-cgroup";
/// The proxy (by uid) answers the application: conntrack zone of the application.
pub const DNS_ZONE_ANSWER_UID: &str = "dns/zone-proxy-answer-uid";
/// The same by gid.
pub const DNS_ZONE_ANSWER_GID: &str = "dns/zone-proxy-answer-gid";
/// The same by mark.
pub const DNS_ZONE_ANSWER_MARK: &str = "dns/zone-proxy-answer-mark";
/// The same by cgroup.
pub const DNS_ZONE_ANSWER_CGROUP: &str = "dns/zone-proxy-answer-cgroup";
/// The application asks any resolver: conntrack zone of the application.
pub const DNS_ZONE_APP: &str = "dns/zone-app-query";
/// The application asks a listed IPv4 resolver: conntrack zone of the application.
pub const DNS_ZONE_APP_V4: &str = "dns/zone-app-query-v4";
/// The application asks a listed IPv6 resolver: conntrack zone of the application.
pub const DNS_ZONE_APP_V6: &str = "dns/zone-app-query-v6";
/// Any resolver answers: conntrack zone of the proxy.
pub const DNS_ZONE_SERVER: &str = "dns/zone-server-answer";
/// A listed IPv4 resolver answers: conntrack zone of the proxy.
pub const DNS_ZONE_SERVER_V4: &str = "dns/zone-server-answer-v4";
/// A listed IPv6 resolver answers: conntrack zone of the proxy.
pub const DNS_ZONE_SERVER_V6: &str = "dns/zone-server-answer-v6";

/// IPv6 packets that arrive while IPv6 capture is off: pass.
pub const MANGLE_INBOUND_IPV6_OFF: &str = "tproxy/inbound-ipv6-off";
/// IPv6 packets that are sent while IPv6 capture is off: pass.
pub const MANGLE_OUTBOUND_IPV6_OFF: &str = "tproxy/outbound-ipv6-off";
/// Packets of no known connection: dropped.
pub const DROP_INVALID: &str = "inbound/drop-invalid";
/// What arrives by an excluded interface, TPROXY: passes.
pub const TPROXY_INBOUND_INTERFACE: &str = "tproxy/inbound-exclude-interface";
/// What arrives by an interface whose traffic counts as outbound, TPROXY: passes on to nat.
pub const TPROXY_REROUTE_INTERFACE: &str = "tproxy/reroute-interface";
/// The proxy's connection to the application: the mark is kept with the connection.
pub const TPROXY_MARKED: &str = "tproxy/proxy-to-app";
/// The proxy's inbound upstream connections over `lo`, IPv4: pass.
pub const TPROXY_INBOUND_SOURCE_V4: &str = "tproxy/inbound-source-v4";
/// The same for IPv6.
pub const TPROXY_INBOUND_SOURCE_V6: &str = "tproxy/inbound-source-v6";
/// All else on `lo` but the proxy's calls to its own pod: passes.
pub const TPROXY_LOOPBACK_INTERFACE: &str = "tproxy/loopback-interface";
/// The HBONE tunnel port, TPROXY: passes.
pub const TPROXY_TUNNEL: &str = "tproxy/tunnel-port";
/// Excluded inbound ports, TPROXY: pass.
pub const TPROXY_EXCLUDE_PORTS: &str = "tproxy/exclude-ports";
/// Excluded IPv4 clients, TPROXY: pass.
pub const TPROXY_EXCLUDE_SOURCES_V4: &str = "tproxy/exclude-sources-v4";
/// Excluded IPv6 clients, TPROXY: pass.
pub const TPROXY_EXCLUDE_SOURCES_V6: &str = "tproxy/exclude-sources-v6";
/// Blocks of excluded IPv4 clients, where single ones are looked up apart, TPROXY: pass.
pub const TPROXY_EXCLUDE_BLOCKS_V4: &str = "tproxy/exclude-source-blocks-v4";
/// Blocks of excluded IPv6 clients, where single ones are looked up apart, TPROXY: pass.
pub const TPROXY_EXCLUDE_BLOCKS_V6: &str = "tproxy/exclude-source-blocks-v6";
/// Destination 127.0.0.1, TPROXY: passes.
pub const TPROXY_LOOPBACK_V4: &str = "tproxy/loopback-v4";
/// Destination ::1, TPROXY: passes.
pub const TPROXY_LOOPBACK_V6: &str = "tproxy/loopback-v6";
/// Later packets of captured connections: to the proxy's socket; to the one that listens where
/// none knows the connection yet, since the kernel answered its first packet with a SYN cookie.
pub const TPROXY_CAPTURED: &str = "tproxy/captured";
/// Answers, and later packets of connections from before the rules: marked, so that they find the
/// pod's sockets.
pub const TPROXY_ESTABLISHED: &str = "tproxy/established";
/// Connections that arrive: to the proxy's socket, addresses untouched.
pub const TPROXY_CAPTURE: &str = "tproxy/capture";
/// What should be captured while no proxy listens: dropped.
pub const TPROXY_NO_LISTENER: &str = "tproxy/no-listener";
/// What leaves by an excluded interface, TPROXY: passes.
pub const TPROXY_OUTBOUND_INTERFACE: &str = "tproxy/outbound-exclude-interface";
/// The proxy's connection to the application on its way out: passes.
pub const TPROXY_TO_APP: &str = "tproxy/to-app";
/// The proxy (by uid) calls the pod's own IPv4 address: marked, to be captured.
pub const TPROXY_SELF_CALL_UID_V4: &str = "tproxy/self-call-uid-v4";
/// The same for IPv6.
pub const TPROXY_SELF_CALL_UID_V6: &str = "tproxy/self-call-uid-v6";
/// The proxy (by gid) calls the pod's own IPv4 address: marked, to be captured.
pub const TPROXY_SELF_CALL_GID_V4: &str = "tproxy/self-call-gid-v4";
/// The same for IPv6.
pub const TPROXY_SELF_CALL_GID_V6: &str = "tproxy/self-call-gid-v6";
/// The proxy (by mark) calls the pod's own IPv4 address: marked, to be captured.
pub const TPROXY_SELF_CALL_MARK_V4: &str = "tproxy/self-call-mark-v4";
/// The same for IPv6.
pub const TPROXY_SELF_CALL_MARK_V6: &str = "tproxy/self-call-mark-v6";
/// The proxy (by cgroup) calls the pod's own IPv4 address: marked, to be captured.
pub const TPROXY_SELF_CALL_CGROUP_V4: &str = "tproxy/self-call-cgroup-v4";
/// The same for IPv6.
pub const TPROXY_SELF_CALL_CGROUP_V6: &str = "tproxy/self-call-cgroup-v6";
/// The application's packets to a client: marked as the connection is, so that they find the
/// proxy.
pub const TPROXY_FROM_APP: &str = "tproxy/app-to-proxy";

/// IPv6 that arrives while IPv6 capture is off: passes.
pub const INBOUND_IPV6_OFF: &str = "inbound/ipv6-off";
/// What arrives by an interface whose traffic counts as outbound, to anywhere: to the outbound
/// capture port.
pub const REROUTE_CAPTURE: &str = "reroute/capture";
/// The same, to a listed IPv4 destination.
pub const REROUTE_INCLUDE_V4: &str = "reroute/include-cidrs-v4";
/// The same, to a listed IPv6 destination.
pub const REROUTE_INCLUDE_V6: &str = "reroute/include-cidrs-v6";
/// The same, to a listed block of IPv4 destinations, where single ones are looked up apart.
pub const REROUTE_INCLUDE_BLOCKS_V4: &str = "reroute/include-blocks-v4";
/// The same, to a listed block of IPv6 destinations, where single ones are looked up apart.
pub const REROUTE_INCLUDE_BLOCKS_V6: &str = "reroute/include-blocks-v6";
/// All else that arrives by such an interface: passes.
pub const REROUTE_INTERFACE: &str = "reroute/interface";
/// What arrives by an excluded interface: passes.
pub const INBOUND_INTERFACE: &str = "inbound/exclude-interface";
/// The HBONE tunnel port: passes.
pub const INBOUND_TUNNEL: &str = "inbound/tunnel-port";
/// Excluded inbound ports: pass.
pub const INBOUND_EXCLUDE_PORTS: &str = "inbound/exclude-ports";
/// Excluded IPv4 clients: pass.
pub const INBOUND_EXCLUDE_SOURCES_V4: &str = "inbound/exclude-sources-v4";
/// Excluded IPv6 clients: pass.
pub const INBOUND_EXCLUDE_SOURCES_V6: &str = "inbound/exclude-sources-v6";
/// Blocks of excluded IPv4 clients, where single ones are looked up apart: pass.
pub const INBOUND_EXCLUDE_BLOCKS_V4: &str = "inbound/exclude-source-blocks-v4";
/// Blocks of excluded IPv6 clients, where single ones are looked up apart: pass.
pub const INBOUND_EXCLUDE_BLOCKS_V6: &str = "inbound/exclude-source-blocks-v6";
/// All other inbound TCP: to the inbound capture port.
pub const INBOUND_CAPTURE: &str = "inbound/capture";
/// Listed inbound ports: to the inbound capture port.
pub const INBOUND_INCLUDE_PORTS: &str = "inbound/include-ports";

/// IPv6 that is sent while IPv6 capture is off: passes.
pub const OUTBOUND_IPV6_OFF: &str = "outbound/ipv6-off";
/// What leaves by an excluded interface: passes.
pub const OUTBOUND_INTERFACE: &str = "outbound/exclude-interface";
/// Excluded outbound TCP ports: pass.
pub const OUTBOUND_EXCLUDE_PORTS_TCP: &str = "outbound/exclude-ports-tcp";
/// Excluded outbound UDP ports: pass.
pub const OUTBOUND_EXCLUDE_PORTS_UDP: &str = "outbound/exclude-ports-udp";
/// The proxy's inbound upstream connections, IPv4 (source 127.0.0.6): pass.
pub const INBOUND_SOURCE_V4: &str = "outbound/inbound-source-v4";
/// The same for IPv6 (source ::6).
pub const INBOUND_SOURCE_V6: &str = "outbound/inbound-source-v6";
/// The proxy (by uid) calls the pod's own IPv4 address: to the inbound capture port.
pub const SELF_CALL_UID_V4: &str = "outbound/self-call-uid-v4";
/// The same for IPv6.
pub const SELF_CALL_UID_V6: &str = "outbound/self-call-uid-v6";
/// The proxy (by gid) calls the pod's own IPv4 address: to the inbound capture port.
pub const SELF_CALL_GID_V4: &str = "outbound/self-call-gid-v4";
/// The same for IPv6.
pub const SELF_CALL_GID_V6: &str = "outbound/self-call-gid-v6";
/// The proxy (by mark) calls the pod's own IPv4 address: to the inbound capture port.
pub const SELF_CALL_MARK_V4: &str = "outbound/self-call-mark-v4";
/// The same for IPv6.
pub const SELF_CALL_MARK_V6: &str = "outbound/self-call-mark-v6";
/// The proxy (by cgroup) calls the pod's own IPv4 address: to the inbound capture port.
pub const SELF_CALL_CGROUP_V4: &str = "outbound/self-call-cgroup-v4";
/// The same for IPv6.
pub const SELF_CALL_CGROUP_V6: &str = "outbound/self-call-cgroup-v6";
/// The proxy's calls to its own pod that TPROXY has marked: pass on to it.
pub const SELF_CALL_MARKED: &str = "outbound/self-call-marked";
/// Everything else the proxy sends, by uid: passes.
pub const PROXY_UID: &str = "outbound/proxy-uid";
/// Everything else the proxy sends, by gid: passes.
pub const PROXY_GID: &str = "outbound/proxy-gid";
/// Everything else the proxy sends, by mark: passes.
pub const PROXY_MARK: &str = "outbound/proxy-mark";
/// Everything else the proxy sends, by cgroup: passes.
pub const PROXY_CGROUP: &str = "outbound/proxy-cgroup";
/// What the application sends over `lo`, its own pod IP included (DNS excepted where that is
/// captured): passes.
pub const LOOPBACK_INTERFACE: &str = "outbound/loopback-interface";
/// Sockets of excluded groups, or of any group but the listed ones: pass.
pub const OWNER_GROUPS: &str = "outbound/owner-groups";
/// DNS over TCP to any resolver: to the DNS proxy.
pub const DNS_TCP: &str = "dns/capture-tcp";
/// DNS over UDP to any resolver: to the DNS proxy.
pub const DNS_UDP: &str = "dns/capture-udp";
/// DNS over TCP to a listed IPv4 resolver: to the DNS proxy.
pub const DNS_TCP_V4: &str = "dns/capture-tcp-v4";
/// DNS over UDP to a listed IPv4 resolver: to the DNS proxy.
pub const DNS_UDP_V4: &str = "dns/capture-udp-v4";
/// DNS over TCP to a listed IPv6 resolver: to the DNS proxy.
pub const DNS_TCP_V6: &str = "dns/capture-tcp-v6";
/// DNS over UDP to a listed IPv6 resolver: to the DNS proxy.
pub const DNS_UDP_V6: &str = "dns/capture-udp-v6";
/// Destination 127.0.0.1: passes.
pub const LOOPBACK_V4: &str = "outbound/loopback-v4";
/// Destination ::1: passes.
pub const LOOPBACK_V6: &str = "outbound/loopback-v6";
/// Excluded IPv4 destinations: pass.
pub const OUTBOUND_EXCLUDE_V4: &str = "outbound/exclude-cidrs-v4";
/// Excluded IPv6 destinations: pass.
pub const OUTBOUND_EXCLUDE_V6: &str = "outbound/exclude-cidrs-v6";
/// Blocks of excluded IPv4 destinations, where single ones are looked up apart: pass.
pub const OUTBOUND_EXCLUDE_BLOCKS_V4: &str = "outbound/exclude-blocks-v4";
/// Blocks of excluded IPv6 destinations, where single ones are looked up apart: pass.
pub const OUTBOUND_EXCLUDE_BLOCKS_V6: &str = "outbound/exclude-blocks-v6";
/// Outbound ports captured whatever the address: to the outbound capture port.
pub const OUTBOUND_INCLUDE_PORTS: &str = "outbound/include-ports";
/// All other outbound TCP: to the outbound capture port.
pub const OUTBOUND_CAPTURE: &str = "outbound/capture";
/// Listed IPv4 destinations: to the outbound capture port.
pub const OUTBOUND_INCLUDE_V4: &str = "outbound/include-cidrs-v4";
/// Listed IPv6 destinations: to the outbound capture port.
pub const OUTBOUND_INCLUDE_V6: &str = "outbound/include-cidrs-v6";
/// Listed blocks of IPv4 destinations, where single ones are looked up apart: to the outbound
/// capture port.
pub const OUTBOUND_INCLUDE_BLOCKS_V4: &str = "outbound/include-blocks-v4";
/// Listed blocks of IPv6 destinations, where single ones are looked up apart: to the outbound
/// capture port.
pub const OUTBOUND_INCLUDE_BLOCKS_V6: &str = "outbound/include-blocks-v6";

//! Where Shunt decides otherwise than Istio, on purpose: one predicate for each line of
//! `docs/istio-differences.md` that a flow can notice.

use std::net::IpAddr;

use shunt_redirect::CaptureConfig;
use shunt_redirect::capture::{InboundCapture, InboundMode, Port};
use shunt_tests::lab::world::is_the_pods;
use shunt_tests::lab::{Flow, Observation, Outcome, Place, Protocol};

use crate::programs::{Told, Way};

/// What was compared.
pub(crate) struct Case<'a> {
    pub(crate) told: &'a Told,
    pub(crate) way: Way,
    pub(crate) policy: &'a CaptureConfig,
    pub(crate) flow: &'a Flow,
    pub(crate) istio: &'a Observation,
    pub(crate) ours: &'a Observation,
}

/// A line of the document.
pub(crate) struct Difference {
    /// Its id there.
    pub(crate) id: &'static str,
    /// Whether it explains what was seen.
    pub(crate) explains: fn(&Case<'_>) -> bool,
}

/// All that a flow can notice.
pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        id: "ipv6-detection",
        explains: |case| case.without_istios_ipv6() && !case.told.ipv6_as_istio,
    },
    Difference {
        id: "nftables-without-ipv6",
        explains: |case| {
            case.without_istios_ipv6()
                && case.told.ipv6_as_istio
                && case.way == Way::Nftables
                && case.is_left_alone(case.ours)
        },
    },
    Difference {
        id: "self-calls-of-every-identity",
        explains: |case| {
            case.is_proxys_call_to_its_pod()
                && !case.is_first_uid()
                && case.ends_at_inbound_port(case.ours)
                && case.ends_where_it_was_sent(case.istio)
        },
    },
    Difference {
        id: "self-calls-to-a-resolver-by-gid",
        explains: |case| {
            case.policy.dns.is_some()
                && case.flow.to.port() == 53
                && case.is_proxys_call_to_its_pod()
                && (case.policy.inbound.tproxy().is_some()
                    || !case.policy.proxy.uids.contains(&case.flow.owner.uid))
                && case.ends_at_inbound_port(case.istio)
                && case.ends_where_it_was_sent(case.ours)
        },
    },
    Difference {
        id: "tproxy-marked-connections-pass",
        explains: |case| {
            case.policy.inbound.tproxy().map(|(mark, _)| mark.get()) == case.flow.owner.mark
                && case.is_proxys_call_to_its_pod()
                && (case.ends_at_inbound_port(case.istio)
                    || matches!(case.istio.outcome, Outcome::Silent(_)))
                && case.ends_where_it_was_sent(case.ours)
        },
    },
    Difference {
        id: "no-dns-zones-without-capture",
        explains: |case| {
            let excluded = case.policy.outbound.exclude_ports.contains(53);
            case.policy.dns.is_some() && excluded && case.istio.outcome == case.ours.outcome
        },
    },
    Difference {
        id: "tproxy-self-calls-follow-the-inbound-ports",
        explains: |case| {
            case.policy.inbound.tproxy().is_some()
                && case.is_proxys_call_to_its_pod()
                && !case.captures_inbound(case.flow.to.port())
                && case.ends_at_inbound_port(case.istio)
                && case.ends_where_it_was_sent(case.ours)
        },
    },
    Difference {
        id: "tproxy-tunnel-port",
        explains: |case| {
            let tunnel = case.policy.inbound.tunnel.map(Port::get);
            case.policy.inbound.tproxy().is_some()
                && tunnel == Some(case.flow.to.port())
                && case.ends_at_inbound_port(case.istio)
                && (case.ends_where_it_was_sent(case.ours) || case.is_forwarded())
        },
    },
    Difference {
        id: "tproxy-rerouted-interfaces",
        explains: |case| {
            let Flow { from, to, .. } = case.flow;
            // By one it comes; by the other its answer, if it only goes through the pod.
            let nics = [from.nic(), Place::of(to.ip()).nic()];
            let mut reroute = case.policy.interfaces.reroute.iter();
            case.policy.inbound.tproxy().is_some()
                && *from != Place::Pod
                && reroute.any(|interface| nics.iter().any(|nic| interface.matches(nic)))
                && !case.ends_at_inbound_port(case.ours)
        },
    },
    Difference {
        id: "tproxy-invalid-on-excluded-interfaces",
        explains: |case| {
            let nic = case.flow.from.nic();
            let mut exclude = case.policy.interfaces.exclude.iter();
            case.policy.drop_invalid
                && matches!(case.policy.inbound.mode, InboundMode::Tproxy { .. })
                && case.flow.protocol == Protocol::Stray
                && exclude.any(|interface| interface.matches(nic))
                && case.istio.outcome == Outcome::Refused
                && case.ours.outcome == Outcome::Silent(None)
        },
    },
    Difference {
        id: "tproxy-self-calls-keep-their-destination",
        explains: |case| {
            case.policy.inbound.tproxy().is_some()
                && case.is_proxys_call_to_its_pod()
                && case.ends_at_inbound_port(case.ours)
                && case.ends_at_inbound_port(case.istio)
        },
    },
];

impl Case<'_> {
    /// TCP over `lo`, by any uid or gid of the proxy, to what does not count as loopback.
    fn is_proxys_call_to_its_pod(&self) -> bool {
        let Flow {
            from,
            owner,
            protocol,
            to,
            ..
        } = self.flow;
        let identity = &self.policy.proxy;
        let loopback = match to.ip() {
            IpAddr::V4(address) => self.policy.loopback_v4.contains(&address),
            IpAddr::V6(address) => address.is_loopback(),
        };
        *from == Place::Pod
            && *protocol == Protocol::Tcp
            && is_the_pods(to.ip())
            && !loopback
            && (identity.uids.contains(&owner.uid) || identity.gids.contains(&owner.gid))
    }

    /// Whether Istio has no rules for IPv6, which the flow is.
    fn without_istios_ipv6(&self) -> bool {
        self.flow.to.is_ipv6() && !self.told.flags.dual_stack()
    }

    /// Whether no rule acted on it.
    fn is_left_alone(&self, seen: &Observation) -> bool {
        self.ends_where_it_was_sent(seen) || seen.outcome == Outcome::Refused
    }

    /// Whether it only goes through the pod. Its answer is lost with TPROXY, Istio's too.
    fn is_forwarded(&self) -> bool {
        self.flow.from != Place::Pod && !is_the_pods(self.flow.to.ip())
    }

    fn captures_inbound(&self, port: u16) -> bool {
        let inbound = &self.policy.inbound;
        let listed = match &inbound.capture {
            InboundCapture::Nothing => false,
            InboundCapture::All => true,
            InboundCapture::Only(ports) => ports.contains(port),
        };
        listed && !inbound.exclude_ports.contains(port)
    }

    /// Whether the client is who Istio's rules name first.
    fn is_first_uid(&self) -> bool {
        let uids = &self.policy.proxy.uids;
        let first = self
            .told
            .flags
            .first_uid()
            .or_else(|| uids.first().copied());
        first == Some(self.flow.owner.uid)
    }

    fn ends_at_inbound_port(&self, seen: &Observation) -> bool {
        let inbound = self.policy.inbound.port.get();
        seen.arrival()
            .is_some_and(|arrival| arrival.listener == inbound && arrival.original == self.flow.to)
    }

    fn ends_where_it_was_sent(&self, seen: &Observation) -> bool {
        let to = self.flow.to;
        seen.arrival()
            .is_some_and(|arrival| arrival.local == to && arrival.original == to)
    }
}

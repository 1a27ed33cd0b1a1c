//! Listener filters, and where they do not run.

use super::reader::Reader;
use super::values::is;
use crate::path::Path;
use envoy_types::pb::envoy::config::core::v3::proxy_protocol_config::Version;
use envoy_types::pb::envoy::config::listener::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::listener::{
    http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst,
    original_src::v3::OriginalSrc, proxy_protocol::v3::ProxyProtocol as PbProxyProtocol,
    tls_inspector::v3::TlsInspector,
};
use pb::listener_filter_chain_match_predicate::{MatchSet, Rule};
use shunt_proxy::listener::inspect::tls::MAX_CLIENT_HELLO;
use shunt_proxy::model::{ListenerFilter, ListenerFilterKind, PortPredicate, ProxyProtocol};
use std::num::NonZeroU32;

/// What `max_client_hello_size` may be.
const CLIENT_HELLO_SIZES: std::ops::RangeInclusive<usize> = 256..=MAX_CLIENT_HELLO;

impl Reader {
    /// One listener filter.
    pub(super) fn listener_filter(
        &mut self,
        filter: pb::ListenerFilter,
        path: &Path<'_>,
    ) -> Option<ListenerFilter> {
        let at = path.field("filter_disabled");
        let disabled = match filter.filter_disabled {
            None => None,
            Some(predicate) => Some(self.port_predicate(predicate, &at)?),
        };
        let any = match filter.config_type {
            Some(pb::listener_filter::ConfigType::TypedConfig(any)) => Some(any),
            _ => None,
        };
        let path = path.field("typed_config");
        let kind = match any {
            Some(any) if is::<OriginalDst>(&any) => {
                if disabled.is_some() {
                    let message = "the original destination is asked for before any port is known; \
                                   leave it out";
                    self.report.invalid(&at, message);
                }
                ListenerFilterKind::OriginalDst
            }
            Some(any) if is::<OriginalSrc>(&any) => {
                let config: OriginalSrc = self.extension(&any, &path)?;
                ListenerFilterKind::OriginalSrc {
                    mark: NonZeroU32::new(config.mark),
                }
            }
            Some(any) if is::<HttpInspector>(&any) => ListenerFilterKind::HttpInspector,
            Some(any) if is::<TlsInspector>(&any) => {
                let inspector = self.extension(&any, &path)?;
                self.tls_inspector(inspector, &path)?
            }
            Some(any) if is::<PbProxyProtocol>(&any) => {
                let config: PbProxyProtocol = self.extension(&any, &path)?;
                let allowed =
                    |version: Version| !config.disallowed_versions.contains(&(version as i32));
                ListenerFilterKind::ProxyProtocol(ProxyProtocol {
                    optional: config.allow_requests_without_proxy_protocol,
                    v1: allowed(Version::V1),
                    v2: allowed(Version::V2),
                })
            }
            other => {
                let expected =
                    "OriginalDst, OriginalSrc, TlsInspector, HttpInspector or ProxyProtocol";
                self.misplaced(other.as_ref(), expected, &path);
                return None;
            }
        };
        Some(ListenerFilter { kind, disabled })
    }

    fn tls_inspector(
        &mut self,
        inspector: TlsInspector,
        path: &Path<'_>,
    ) -> Option<ListenerFilterKind> {
        let max_client_hello = match inspector.max_client_hello_size {
            None => MAX_CLIENT_HELLO,
            Some(size) => {
                let size = usize::try_from(size.value)
                    .ok()
                    .filter(|size| CLIENT_HELLO_SIZES.contains(size));
                let size = size.ok_or("it is 256 to 16384 bytes");
                self.report
                    .check(&path.field("max_client_hello_size"), size)?
            }
        };
        Some(ListenerFilterKind::TlsInspector { max_client_hello })
    }

    fn port_predicate(
        &mut self,
        predicate: pb::ListenerFilterChainMatchPredicate,
        path: &Path<'_>,
    ) -> Option<PortPredicate> {
        match predicate.rule {
            Some(Rule::AnyMatch(_)) => Some(PortPredicate::Any),
            Some(Rule::NotMatch(inner)) => {
                let inner = self.port_predicate(*inner, &path.field("not_match"))?;
                Some(PortPredicate::Not(Box::new(inner)))
            }
            Some(Rule::AndMatch(set)) => self
                .match_set(set, &path.field("and_match"))
                .map(PortPredicate::And),
            Some(Rule::OrMatch(set)) => self
                .match_set(set, &path.field("or_match"))
                .map(PortPredicate::Or),
            Some(Rule::DestinationPortRange(range)) => {
                if range.start >= range.end {
                    let message = "no port is in it: the end is not part of the range, so it must \
                                   be greater than the start";
                    self.report
                        .invalid(&path.field("destination_port_range"), message);
                }
                Some(PortPredicate::Range(range.start, range.end))
            }
            None => {
                let message = "it needs one of any_match, not_match, and_match, or_match and \
                               destination_port_range";
                self.report.invalid(path, message);
                None
            }
        }
    }

    fn match_set(&mut self, set: MatchSet, path: &Path<'_>) -> Option<Vec<PortPredicate>> {
        if set.rules.len() < 2 {
            let message = format!("it has {} rules; Envoy wants at least 2", set.rules.len());
            self.report.invalid(&path.field("rules"), message);
        }
        let rules = self.each(set.rules, &path.field("rules"), Self::port_predicate);
        rules.into_iter().collect()
    }
}

//! What an endpoint is chosen by: hash policies of routes and of the TCP proxy.

use super::reader::Reader;
use crate::path::Path;
use ::http::{HeaderName, HeaderValue};
use envoy_types::pb::envoy::config::route::v3::route_action as pb;
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use envoy_types::pb::envoy::r#type::v3 as connection;
use pb::hash_policy::PolicySpecifier;
use shunt_proxy::model::{HashCookie, HashOf, HashPolicy, RegexRewrite};
use std::time::Duration;

impl Reader {
    /// The hash policies of a route; those that never give a hash are left out.
    pub(super) fn hash_policies(
        &mut self,
        policies: Vec<pb::HashPolicy>,
        path: &Path<'_>,
    ) -> Option<Vec<HashPolicy>> {
        let policies = self.each(policies, path, Self::hash_policy);
        let policies: Option<Vec<Option<HashPolicy>>> = policies.into_iter().collect();
        Some(policies?.into_iter().flatten().collect())
    }

    fn hash_policy(
        &mut self,
        policy: pb::HashPolicy,
        path: &Path<'_>,
    ) -> Option<Option<HashPolicy>> {
        let of = match policy.policy_specifier {
            Some(PolicySpecifier::Header(header)) => {
                let at = path.field("header");
                let name = self.header_name(header.header_name, &at.field("header_name"));
                let rewrite = match header.regex_rewrite {
                    None => None,
                    Some(rewrite) => Some(self.regex_rewrite(rewrite, &at.field("regex_rewrite"))?),
                };
                let name = name?;
                HashOf::Header { name, rewrite }
            }
            Some(PolicySpecifier::Cookie(cookie)) => {
                HashOf::Cookie(self.hash_cookie(cookie, &path.field("cookie"))?)
            }
            Some(PolicySpecifier::ConnectionProperties(properties)) => {
                if !properties.source_ip {
                    return Some(None);
                }
                HashOf::SourceIp
            }
            Some(PolicySpecifier::QueryParameter(parameter)) => {
                let at = path.field("query_parameter");
                let name = self.name(parameter.name, &at.field("name"))?;
                HashOf::QueryParameter(name.as_ref().to_owned())
            }
            _ => {
                let message = "it needs one of header, cookie, connection_properties and \
                               query_parameter";
                self.report.invalid(path, message);
                return None;
            }
        };
        Some(Some(HashPolicy {
            of,
            terminal: policy.terminal,
        }))
    }

    fn hash_cookie(
        &mut self,
        cookie: pb::hash_policy::Cookie,
        path: &Path<'_>,
    ) -> Option<HashCookie> {
        let name = self.name(cookie.name, &path.field("name"));
        let ttl = self.duration(cookie.ttl, &path.field("ttl"));
        self.part_of_cookie(&cookie.path, &path.field("path"));
        let attributes = path.field("attributes");
        for (i, attribute) in cookie.attributes.iter().enumerate() {
            let at = attributes.index(i);
            if HeaderName::from_bytes(attribute.name.as_bytes()).is_err() {
                let message = "it is the name of an attribute, for example SameSite";
                self.report.invalid(&at.field("name"), message);
            }
            self.part_of_cookie(&attribute.value, &at.field("value"));
        }
        let name = name?.as_ref().to_owned();
        self.part_of_cookie(&name, &path.field("name"));
        Some(HashCookie {
            name,
            ttl: ttl.map(|ttl| Duration::from_secs(ttl.as_secs())),
            path: cookie.path,
            attributes: cookie
                .attributes
                .into_iter()
                .map(|attribute| (attribute.name, attribute.value))
                .collect(),
        })
    }

    fn part_of_cookie(&mut self, text: &str, path: &Path<'_>) {
        if text.contains(';') || HeaderValue::from_str(text).is_err() {
            let message = format!("{text:?} cannot be a part of a cookie");
            self.report.invalid(path, message);
        }
    }

    fn regex_rewrite(
        &mut self,
        rewrite: RegexMatchAndSubstitute,
        path: &Path<'_>,
    ) -> Option<RegexRewrite> {
        let at = path.field("pattern");
        let pattern = rewrite.pattern.unwrap_or_default().regex;
        let pattern = self.name(pattern, &at.field("regex"))?;
        let rewrite = RegexRewrite::new(&pattern, &rewrite.substitution);
        self.report.check(path, rewrite)
    }

    /// Whether a TCP proxy's connections are hashed by the client's address.
    pub(super) fn hash_source(
        &mut self,
        policies: &[connection::HashPolicy],
        path: &Path<'_>,
    ) -> bool {
        use connection::hash_policy::PolicySpecifier;
        if policies.len() > 1 {
            let message = "one policy is all that there can be; keep one of them";
            self.report.invalid(path, message);
        }
        match policies.first().map(|policy| &policy.policy_specifier) {
            None => false,
            Some(Some(PolicySpecifier::SourceIp(_))) => true,
            Some(_) => {
                self.report.invalid(&path.index(0), "it needs source_ip");
                false
            }
        }
    }
}

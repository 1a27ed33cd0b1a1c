//! What a route matches: paths, headers, strings.

use super::reader::Reader;
use super::values::true_unless;
use crate::path::Path;
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use pb::header_matcher::HeaderMatchSpecifier;
use pb::route_match::PathSpecifier;
use shunt_proxy::model::{
    FullMatchRegex, HeaderMatch, HeaderMatcher, PathMatch, RouteMatch, StringMatch,
};

/// A header matcher's value, before it is known whether it is inverted.
enum Value {
    Present(bool),
    Matches(StringMatch),
}

impl Reader {
    /// What a route matches.
    pub(super) fn route_match(
        &mut self,
        given: Option<pb::RouteMatch>,
        path: &Path<'_>,
    ) -> Option<RouteMatch> {
        let Some(given) = given else {
            self.report.invalid(path, "it is required");
            return None;
        };
        let path_match = match given.path_specifier {
            Some(PathSpecifier::Prefix(prefix)) => Some(PathMatch::Prefix(prefix)),
            Some(PathSpecifier::Path(exact)) => Some(PathMatch::Exact(exact)),
            Some(PathSpecifier::ConnectMatcher(_)) => Some(PathMatch::Connect),
            Some(PathSpecifier::SafeRegex(regex)) => self
                .regex(regex, &path.field("safe_regex"))
                .map(PathMatch::Regex),
            _ => {
                self.report
                    .invalid(path, "it needs one of prefix, path and safe_regex");
                None
            }
        };
        let headers = self.each(given.headers, &path.field("headers"), Self::header_matcher);
        Some(RouteMatch {
            path: path_match?,
            case_sensitive: true_unless(given.case_sensitive),
            headers: headers.into_iter().collect::<Option<_>>()?,
        })
    }

    fn header_matcher(
        &mut self,
        given: pb::HeaderMatcher,
        path: &Path<'_>,
    ) -> Option<HeaderMatcher> {
        let name = self.header_name(given.name, &path.field("name"));
        let value = self.header_value(given.header_match_specifier, path)?;
        let (value, inverted) = match value {
            Value::Present(present) => (None, !present),
            Value::Matches(string) => (Some(string), false),
        };
        Some(HeaderMatcher {
            name: name?,
            value,
            invert: given.invert_match != inverted,
            treat_missing_as_empty: given.treat_missing_header_as_empty,
        })
    }

    /// The name of a header, or of a pseudo header.
    pub(super) fn header_name(&mut self, name: String, path: &Path<'_>) -> Option<HeaderMatch> {
        let name = self.name(name, path)?.to_ascii_lowercase();
        match name.as_str() {
            ":method" => Some(HeaderMatch::Method),
            // Envoy looks `host` up as `:authority` as well.
            ":authority" | "host" => Some(HeaderMatch::Authority),
            ":path" => Some(HeaderMatch::Path),
            ":scheme" => Some(HeaderMatch::Scheme),
            name => {
                let parsed = name
                    .parse()
                    .ok()
                    .ok_or_else(|| format!("{name:?} cannot be the name of a header"));
                self.report.check(path, parsed).map(HeaderMatch::Name)
            }
        }
    }

    #[expect(
        deprecated,
        reason = "bootstraps in use still match without string_match"
    )]
    fn header_value(
        &mut self,
        specifier: Option<HeaderMatchSpecifier>,
        path: &Path<'_>,
    ) -> Option<Value> {
        use matcher::string_matcher::MatchPattern;
        let (field, pattern) = match specifier {
            // Envoy: without a specifier, the header has to be there.
            None => return Some(Value::Present(true)),
            Some(HeaderMatchSpecifier::PresentMatch(present)) => {
                return Some(Value::Present(present));
            }
            Some(HeaderMatchSpecifier::StringMatch(string)) => {
                let string = self.string_matcher(string, &path.field("string_match"));
                return string.map(Value::Matches);
            }
            Some(HeaderMatchSpecifier::ExactMatch(s)) => ("exact_match", MatchPattern::Exact(s)),
            Some(HeaderMatchSpecifier::PrefixMatch(s)) => ("prefix_match", MatchPattern::Prefix(s)),
            Some(HeaderMatchSpecifier::SuffixMatch(s)) => ("suffix_match", MatchPattern::Suffix(s)),
            Some(HeaderMatchSpecifier::ContainsMatch(s)) => {
                ("contains_match", MatchPattern::Contains(s))
            }
            Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => {
                ("safe_regex_match", MatchPattern::SafeRegex(regex))
            }
            Some(HeaderMatchSpecifier::RangeMatch(_)) => {
                let message = "known to Envoy, not implemented by Shunt yet";
                self.report.refused(&path.field("range_match"), message);
                return None;
            }
        };
        self.pattern(pattern, false, &path.field(field))
            .map(Value::Matches)
    }

    /// What a text must be.
    pub(super) fn string_matcher(
        &mut self,
        given: matcher::StringMatcher,
        path: &Path<'_>,
    ) -> Option<StringMatch> {
        use matcher::string_matcher::MatchPattern;
        let Some(pattern) = given.match_pattern else {
            let message = "it needs one of exact, prefix, suffix, contains and safe_regex";
            self.report.invalid(path, message);
            return None;
        };
        let field = match &pattern {
            MatchPattern::Exact(_) => "exact",
            MatchPattern::Prefix(_) => "prefix",
            MatchPattern::Suffix(_) => "suffix",
            MatchPattern::Contains(_) => "contains",
            MatchPattern::SafeRegex(_) => "safe_regex",
            MatchPattern::Custom(_) => "custom",
        };
        self.pattern(pattern, given.ignore_case, &path.field(field))
    }

    fn pattern(
        &mut self,
        pattern: matcher::string_matcher::MatchPattern,
        ignore_case: bool,
        path: &Path<'_>,
    ) -> Option<StringMatch> {
        use matcher::string_matcher::MatchPattern;
        let mut value = |text: String, may_be_empty: bool| {
            if text.is_empty() && !may_be_empty {
                let message = "it must not be empty; present_match asks whether a header is there";
                self.report.invalid(path, message);
            }
            if ignore_case {
                text.to_ascii_lowercase()
            } else {
                text
            }
        };
        Some(match pattern {
            MatchPattern::Exact(text) => StringMatch::Exact {
                value: value(text, true),
                ignore_case,
            },
            MatchPattern::Prefix(text) => StringMatch::Prefix {
                value: value(text, false),
                ignore_case,
            },
            MatchPattern::Suffix(text) => StringMatch::Suffix {
                value: value(text, false),
                ignore_case,
            },
            MatchPattern::Contains(text) => StringMatch::Contains {
                value: value(text, false),
                ignore_case,
            },
            // Envoy: ignore_case has no say in a regular expression.
            MatchPattern::SafeRegex(regex) => StringMatch::Regex(self.regex(regex, path)?),
            MatchPattern::Custom(_) => {
                let message = "known to Envoy, not implemented by Shunt yet";
                self.report.refused(path, message);
                return None;
            }
        })
    }

    fn regex(&mut self, given: matcher::RegexMatcher, path: &Path<'_>) -> Option<FullMatchRegex> {
        let path = path.field("regex");
        let pattern = self.name(given.regex, &path)?;
        self.report.check(&path, FullMatchRegex::new(&pattern))
    }
}

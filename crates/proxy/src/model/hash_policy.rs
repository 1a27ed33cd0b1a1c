//! What of a request its endpoint is chosen by (`RouteAction.HashPolicy`).

use super::{HeaderMatch, Invalid};
use std::borrow::Cow;
use std::time::Duration;

/// `RouteAction.HashPolicy`.
#[derive(Debug, Clone, PartialEq)]
pub struct HashPolicy {
    /// What is hashed.
    pub of: HashOf,
    /// `terminal`: policies after it count only where there is no hash yet.
    pub terminal: bool,
}

/// `RouteAction.HashPolicy.policy_specifier`.
#[derive(Debug, Clone, PartialEq)]
pub enum HashOf {
    /// `header`.
    Header {
        /// `header_name`.
        name: HeaderMatch,
        /// `regex_rewrite`: what its values become before.
        rewrite: Option<RegexRewrite>,
    },
    /// `cookie`.
    Cookie(HashCookie),
    /// `connection_properties.source_ip`: the client's address.
    SourceIp,
    /// `query_parameter.name`, not empty.
    QueryParameter(String),
}

/// `RouteAction.HashPolicy.Cookie`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashCookie {
    /// `name`, not empty.
    pub name: String,
    /// `ttl`: a client without the cookie is given one for so many seconds; `None` = it is not,
    /// 0 = until its session ends.
    pub ttl: Option<Duration>,
    /// `path`; may be empty.
    pub path: String,
    /// `attributes`: names with values, which may be empty.
    pub attributes: Vec<(String, String)>,
}

/// `RegexMatchAndSubstitute`: everything that matches is replaced.
#[derive(Debug, Clone)]
pub struct RegexRewrite {
    regex: regex::bytes::Regex,
    /// With references as `${1}`.
    substitution: String,
}

impl PartialEq for RegexRewrite {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str() && self.substitution == other.substitution
    }
}

impl RegexRewrite {
    /// Compile a pattern, and a substitution that refers to what groups matched as `\1`.
    ///
    /// # Errors
    /// Where the pattern is not a regular expression or compiles to more than 1 MiB, or the
    /// substitution refers to a group that the pattern does not have.
    pub fn new(pattern: &str, substitution: &str) -> Result<Self, Invalid> {
        let sized = regex::bytes::RegexBuilder::new(pattern)
            .size_limit(1 << 20)
            .build();
        let regex = sized
            .map_err(|e| Invalid::new(format!("pattern is no usable regular expression: {e}")))?;
        let groups = regex.captures_len() - 1;
        let mut translated = String::with_capacity(substitution.len());
        let mut rest = substitution.chars();
        while let Some(c) = rest.next() {
            match c {
                '$' => translated.push_str("$$"),
                '\\' => match rest.next() {
                    Some('\\') => translated.push('\\'),
                    Some(digit) if digit.to_digit(10).is_some_and(|n| n as usize <= groups) => {
                        translated.push_str(&format!("${{{digit}}}"));
                    }
                    _ => {
                        return Err(Invalid::new(format!(
                            "substitution {substitution:?}: after a backslash comes another one, or \
                             the number of one of the {groups} groups of the pattern"
                        )));
                    }
                },
                other => translated.push(other),
            }
        }
        Ok(Self {
            regex,
            substitution: translated,
        })
    }

    /// What a value becomes.
    pub fn apply<'a>(&self, value: &'a [u8]) -> Cow<'a, [u8]> {
        self.regex.replace_all(value, self.substitution.as_bytes())
    }
}

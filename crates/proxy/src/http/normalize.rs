//! The head of a request in the form in which routes are looked for: path, host, and headers whose
//! names others might take for another.

use crate::error::Failure;
use crate::http::path;
use crate::model::{EscapedSlashes, HeadOptions, HostOptions, PathOptions, StripPort, Underscores};
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use std::borrow::Cow;

/// A path that the client is to ask for instead.
pub type Redirect = HeaderValue;

/// Bring a head into its normal form. `port` is the one that the connection was made to.
///
/// # Errors
/// Where it has none, or the configuration refuses it.
pub fn normalize<B>(
    request: &mut Request<B>,
    options: &HeadOptions,
    port: u16,
) -> Result<Option<Redirect>, Failure> {
    let names = |headers: &HeaderMap| -> Vec<HeaderName> {
        let names = headers.keys().filter(|name| name.as_str().contains('_'));
        names.cloned().collect()
    };
    match options.underscores {
        Underscores::Allow => {}
        Underscores::Reject if names(request.headers()).is_empty() => {}
        Underscores::Reject => {
            return Err(Failure::BadRequest {
                details: "http1.unexpected_underscore",
            });
        }
        Underscores::Drop => {
            for name in names(request.headers()) {
                request.headers_mut().remove(name);
            }
        }
    }
    let redirect = normalize_path(request, options.path)?;
    if redirect.is_none() {
        normalize_host(request.headers_mut(), options.host, port);
    }
    Ok(redirect)
}

fn normalize_path<B>(
    request: &mut Request<B>,
    options: PathOptions,
) -> Result<Option<Redirect>, Failure> {
    let Some(target) = request.uri().path_and_query().map(PathAndQuery::as_str) else {
        return Ok(None);
    };
    if !target.starts_with('/') {
        return Ok(None);
    }
    let mut made = Cow::Borrowed(target);
    let mut redirects = false;
    if options.escaped_slashes != EscapedSlashes::Keep
        && let Cow::Owned(unescaped) = path::unescape_slashes(&made)
    {
        if options.escaped_slashes == EscapedSlashes::Reject {
            return Err(Failure::PathNormalization);
        }
        redirects = options.escaped_slashes == EscapedSlashes::Redirect;
        made = Cow::Owned(unescaped);
    }
    if options.normalize {
        let normal = path::normalize(&made).ok_or(Failure::PathNormalization)?;
        if let Cow::Owned(normal) = normal {
            made = Cow::Owned(normal);
        }
    }
    if options.merge_slashes
        && let Cow::Owned(merged) = path::merge_slashes(&made)
    {
        made = Cow::Owned(merged);
    }
    let Cow::Owned(made) = made else {
        return Ok(None);
    };
    if redirects {
        let to = HeaderValue::try_from(made);
        return to.map(Some).map_err(|_bad| Failure::PathNormalization);
    }
    let made = PathAndQuery::try_from(made).map_err(|_bad| Failure::PathNormalization)?;
    *request.uri_mut() = Uri::from(made);
    Ok(None)
}

fn normalize_host(headers: &mut HeaderMap, options: HostOptions, port: u16) {
    if options == HostOptions::default() {
        return;
    }
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
        return;
    };
    let (mut name, mut given) = split_port(host);
    if options.strip_dot {
        name = name.strip_suffix('.').unwrap_or(name);
    }
    let stripped = match options.strip_port {
        StripPort::None => false,
        StripPort::Matching => given == Some(port),
        StripPort::Any => given.is_some(),
    };
    if stripped {
        given = None;
    }
    let made = match given {
        Some(port) => format!("{name}:{port}"),
        None => name.to_owned(),
    };
    if made != host
        && let Ok(made) = HeaderValue::try_from(made)
    {
        headers.insert(HOST, made);
    }
}

/// The name and the port of a host; what is no port belongs to the name.
fn split_port(host: &str) -> (&str, Option<u16>) {
    let Some((name, port)) = host.rsplit_once(':') else {
        return (host, None);
    };
    let port = port.parse().ok().filter(|port| *port != 0);
    match port {
        Some(port) => (name, Some(port)),
        None => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(given: &str, options: HostOptions) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, given.parse().unwrap());
        normalize_host(&mut headers, options, 8080);
        headers[HOST].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_port_is_taken_off_the_host_where_it_is_one() {
        for (given, matching, any) in [
            ("shop", "shop", "shop"),
            ("shop:8080", "shop", "shop"),
            ("shop:80", "shop:80", "shop"),
            ("shop:x", "shop:x", "shop:x"),
            ("shop:0", "shop:0", "shop:0"),
            ("[::1]", "[::1]", "[::1]"),
            ("[::1]:8080", "[::1]", "[::1]"),
        ] {
            let strip = |strip_port| HostOptions {
                strip_port,
                strip_dot: false,
            };
            assert_eq!(host(given, strip(StripPort::Matching)), matching);
            assert_eq!(host(given, strip(StripPort::Any)), any);
        }
    }

    #[test]
    fn a_dot_at_the_end_of_the_host_is_taken_off_before_its_port() {
        let strip_dot = HostOptions {
            strip_dot: true,
            ..HostOptions::default()
        };
        assert_eq!(host("shop.", strip_dot), "shop");
        assert_eq!(host("shop.:8080", strip_dot), "shop:8080");
        assert_eq!(host("shop:8080", strip_dot), "shop:8080");
    }
}

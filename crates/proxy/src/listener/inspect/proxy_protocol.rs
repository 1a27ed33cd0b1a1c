//! The PROXY protocol (`envoy.filters.listener.proxy_protocol`): a header in front of the stream
//! in which a proxy before us names the peer and where that wanted to go, in a line of text
//! (version 1) or in binary (version 2).

use crate::model::ProxyProtocol;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header of version 1, with its line end.
const MAX_V1: usize = 107;
const V1: &[u8] = b"PROXY ";
const V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED: usize = 16;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inspection {
    /// These bytes could still become a header; ask again when there are more.
    NeedMore,
    /// A header of this many bytes.
    Header {
        /// How long it is, with all that it carries besides the addresses (which is ignored).
        length: usize,
        /// The addresses it names; `None` = those of the connection stand (`LOCAL`, `UNKNOWN`).
        named: Option<Named>,
    },
    /// The stream begins without a header, and may.
    Absent,
    /// No header that is allowed: the connection cannot be served.
    Invalid(&'static str),
}

/// What a header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// The peer.
    pub source: SocketAddr,
    /// Where it wanted to go.
    pub destination: SocketAddr,
}

/// Inspect all bytes that a connection has sent so far.
///
/// The answer for a longer input is the same once it is not [`Inspection::NeedMore`].
pub fn inspect(received: &[u8], config: &ProxyProtocol) -> Inspection {
    let begins = |signature: &[u8]| {
        let n = received.len().min(signature.len());
        received[..n] == signature[..n]
    };
    if begins(V1) {
        if received.len() < V1.len() {
            return Inspection::NeedMore;
        }
        return version(config, config.v1, || v1(received));
    }
    if begins(V2) {
        if received.len() < V2.len() {
            return Inspection::NeedMore;
        }
        return version(config, config.v2, || v2(received));
    }
    if config.optional {
        Inspection::Absent
    } else {
        Inspection::Invalid("no PROXY header")
    }
}

/// A version that is not allowed is as good as no header.
fn version(config: &ProxyProtocol, allowed: bool, read: impl FnOnce() -> Inspection) -> Inspection {
    match (allowed, config.optional) {
        (true, _) => read(),
        (false, true) => Inspection::Absent,
        (false, false) => Inspection::Invalid("this version of the PROXY header is not allowed"),
    }
}

fn v1(received: &[u8]) -> Inspection {
    let head = &received[..received.len().min(MAX_V1)];
    let Some(end) = memchr::memchr(b'\n', head) else {
        return if head.len() < MAX_V1 {
            Inspection::NeedMore
        } else {
            Inspection::Invalid("a PROXY header without an end")
        };
    };
    let line = head[..end].strip_suffix(b"\r");
    let named = line
        .and_then(|line| std::str::from_utf8(&line[V1.len()..]).ok())
        .and_then(v1_addresses);
    named.map_or(
        Inspection::Invalid("a PROXY header that is none of version 1"),
        |named| Inspection::Header {
            length: end + 1,
            named,
        },
    )
}

/// What follows `PROXY `; the outer `None` = not legal.
fn v1_addresses(text: &str) -> Option<Option<Named>> {
    let mut words = text.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let source: IpAddr = words.next()?.parse().ok()?;
    let destination: IpAddr = words.next()?.parse().ok()?;
    let mut port = || -> Option<u16> {
        let digits = words.next()?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse().ok().filter(|_| plain)
    };
    let (source_port, destination_port) = (port()?, port()?);
    let legal = match family {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    (legal && words.next().is_none()).then(|| {
        Some(Named {
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
        })
    })
}

fn v2(received: &[u8]) -> Inspection {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    let Some((fixed, rest)) = received.split_at_checked(V2_FIXED) else {
        return match received.get(V2.len()) {
            None | Some(&(LOCAL | PROXY)) => Inspection::NeedMore,
            Some(_) => Inspection::Invalid("a PROXY header of an unknown version or command"),
        };
    };
    let (command, family) = (fixed[12], fixed[13]);
    let content = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let named = match (command, family) {
        // Also where the family is none of TCP: then the connection's own addresses stand.
        (LOCAL, _) | (PROXY, 0x00) => None,
        (PROXY, 0x11) => Some(12),
        (PROXY, 0x21) => Some(36),
        (PROXY, _) => return Inspection::Invalid("a PROXY header for another protocol than TCP"),
        _ => return Inspection::Invalid("a PROXY header of an unknown version or command"),
    };
    if named.is_some_and(|least| content < least) {
        return Inspection::Invalid("a PROXY header too short for its addresses");
    }
    let Some(addresses) = rest.get(..content) else {
        return Inspection::NeedMore;
    };
    Inspection::Header {
        length: V2_FIXED + content,
        named: named.and_then(|least| v2_addresses(&addresses[..least])),
    }
}

fn v2_addresses(bytes: &[u8]) -> Option<Named> {
    let port = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let named = |source: IpAddr, destination: IpAddr, ports: usize| {
        Some(Named {
            source: SocketAddr::new(source, port(ports)?),
            destination: SocketAddr::new(destination, port(ports + 2)?),
        })
    };
    if let Ok(v4) = <&[u8; 12]>::try_from(bytes) {
        let at = |i: usize| Ipv4Addr::new(v4[i], v4[i + 1], v4[i + 2], v4[i + 3]);
        return named(at(0).into(), at(4).into(), 8);
    }
    let at = |i: usize| <[u8; 16]>::try_from(bytes.get(i..i + 16)?).ok();
    named(
        Ipv6Addr::from(at(0)?).into(),
        Ipv6Addr::from(at(16)?).into(),
        32,
    )
}

#[cfg(test)]
mod tests;

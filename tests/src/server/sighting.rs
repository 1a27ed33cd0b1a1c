//! What a server saw of a connection, in a line of text that a client can read back.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// One connection as its server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The name of the server that answered.
    pub server: String,
    /// The connection's source.
    pub peer: SocketAddr,
    /// The address at which it arrived.
    pub local: SocketAddr,
    /// `SO_ORIGINAL_DST`: where it was going before it was redirected. Equal to `local` if it was
    /// not; none if the kernel does not track connections in this pod.
    pub original: Option<SocketAddr>,
}

impl Sighting {
    /// Where the client wanted to go, as far as the server can know.
    pub fn destination(&self) -> SocketAddr {
        self.original.unwrap_or(self.local)
    }
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            server,
            peer,
            local,
            original,
        } = self;
        write!(f, "server={server} peer={peer} local={local} original=")?;
        match original {
            Some(original) => write!(f, "{original}"),
            None => f.write_str("-"),
        }
    }
}

impl FromStr for Sighting {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = line.trim_end().split(' ');
        let mut field = |name: &str| {
            words
                .next()
                .and_then(|word| word.strip_prefix(name)?.strip_prefix('='))
                .with_context(|| format!("`{line}` is not what an echo server says: no `{name}=`"))
        };
        let sighting = Self {
            server: field("server")?.to_owned(),
            peer: field("peer")?.parse()?,
            local: field("local")?.parse()?,
            original: match field("original")? {
                "-" => None,
                address => Some(address.parse()?),
            },
        };
        if let Some(more) = words.next() {
            bail!("`{line}` is not what an echo server says: `{more}` is too much");
        }
        Ok(sighting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sighting_reads_back_as_it_was_written() {
        for original in [None, Some("[fd00::1]:80".parse().unwrap())] {
            let sighting = Sighting {
                server: "app".to_owned(),
                peer: "127.0.0.6:4711".parse().unwrap(),
                local: "[::1]:8080".parse().unwrap(),
                original,
            };
            assert_eq!(sighting.to_string().parse::<Sighting>().unwrap(), sighting);
        }
    }

    #[test]
    fn other_words_are_not_a_sighting() {
        for line in [
            "",
            "HTTP/1.1 200 OK",
            "server=a peer=1.2.3.4:5",
            "server=a peer=x local=y original=-",
        ] {
            assert!(line.parse::<Sighting>().is_err(), "{line}");
        }
    }
}

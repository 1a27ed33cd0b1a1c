//! The DNS servers of the pod, from `/etc/resolv.conf` (resolv.conf(5)).

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use crate::facts::Missing;

const FILE: &str = "/etc/resolv.conf";

/// The servers named in the pod's file, in its order. No file means none.
pub(crate) fn nameservers() -> Result<Vec<IpAddr>, Missing> {
    match fs::read(FILE) {
        Ok(bytes) => Ok(parse(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Missing::ResolvConf {
            reason: error.to_string(),
        }),
    }
}

/// Reads the file's text. As the C library does, lines that are not understood are left out; the
/// zone after a link-local address does not count.
pub(crate) fn parse(text: &str) -> Vec<IpAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(word) = words.next() else { continue };
        let address = match word.split_once('%') {
            Some((address, _zone)) => address.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => word.parse().ok(),
        };
        if let Some(address) = address
            && !servers.contains(&address)
        {
            servers.push(address);
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn servers_are_read_as_the_c_library_reads_them() {
        let text = "# nameserver 1.1.1.1\nsearch a.b\nnameserver 10.96.0.10\nnameserver\t fd00::a \
                    trailing\n nameserver 9.9.9.9\nnameserver fe80::1%eth0\nnameserver host\n\
                    nameserver 10.96.0.10\nnameservers 8.8.8.8\nnameserver";
        let servers: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.96.0.10", "fd00::a", "9.9.9.9", "fe80::1"]);
    }

    #[test]
    fn an_ipv4_address_has_no_zone() {
        assert_eq!(
            parse("nameserver 10.0.0.1%eth0"),
            Vec::<std::net::IpAddr>::new()
        );
    }
}

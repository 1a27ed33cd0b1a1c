//! Packets of probes: written byte by byte, and read back from what sockets saw.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ruleset::Protocol;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Opens a connection (TCP), or is a datagram without content (UDP).
    First,
    /// One that conntrack cannot place, whatever it knows: TCP that opens and closes at once, UDP
    /// that says it is longer than it is.
    Nonsense,
    /// Answers the other side's opening.
    Acknowledge {
        /// The other side's sequence number.
        of: u32,
    },
    /// Takes back what [`Self::First`] opened.
    Reset,
}

/// Whether a checksum is right. One that is not lets a packet go all the way through the rules and
/// to observers, but no server ever notices it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    Right,
    Wrong,
}

/// The addresses and ports of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) protocol: Protocol,
    pub(super) source: (IpAddr, u16),
    pub(super) destination: (IpAddr, u16),
}

/// Sequence number of the packet that opens a connection.
const FIRST_SEQUENCE: u32 = 0x5368_0000;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Number of a protocol in the IP header (IANA).
fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

impl Ends {
    /// The transport header; it is all that the packets of probes hold.
    pub(super) fn segment(&self, kind: Kind, checksum: Checksum) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(20);
        bytes.extend(self.source.1.to_be_bytes());
        bytes.extend(self.destination.1.to_be_bytes());
        let at = match self.protocol {
            Protocol::Udp => {
                let length: u16 = if kind == Kind::Nonsense { 64 } else { 8 };
                bytes.extend(length.to_be_bytes());
                6
            }
            Protocol::Tcp => {
                let (sequence, acknowledged, flags) = match kind {
                    Kind::First => (FIRST_SEQUENCE, 0, SYN),
                    Kind::Nonsense => (FIRST_SEQUENCE, 0, SYN | FIN),
                    Kind::Acknowledge { of } => (FIRST_SEQUENCE + 1, of.wrapping_add(1), ACK),
                    Kind::Reset => (FIRST_SEQUENCE + 1, 0, RST),
                };
                bytes.extend(sequence.to_be_bytes());
                bytes.extend(acknowledged.to_be_bytes());
                // Five words of header; a window of 64 KiB.
                bytes.extend([5 << 4, flags, 0xff, 0xff]);
                16
            }
        };
        bytes.resize(if at == 6 { 8 } else { 20 }, 0);
        let right = self.checksum(&bytes);
        let value = match checksum {
            Checksum::Right => right,
            // Neither 0 (none, for UDP) nor what counts as equal to the right one.
            Checksum::Wrong if right == 0x5368 => 0x5369,
            Checksum::Wrong => 0x5368,
        };
        bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
        bytes
    }

    /// The packet as it is on a link: Ethernet, IP, transport.
    pub(super) fn frame(&self, kind: Kind, to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
        let segment = self.segment(kind, Checksum::Right);
        let length = u16::try_from(segment.len()).unwrap_or(u16::MAX);
        let mut frame = Vec::with_capacity(14 + 40 + segment.len());
        frame.extend(to);
        frame.extend(from);
        let hop_limit = 64;
        match (self.source.0, self.destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([0x08, 0x00]);
                let mut header = vec![0x45, 0];
                header.extend((length + 20).to_be_bytes());
                // Do not fragment.
                header.extend([0x53, 0x68, 0x40, 0, hop_limit, number(self.protocol), 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                let sum = folded(sum(&header)).to_be_bytes();
                header[10..12].copy_from_slice(&sum);
                frame.extend(header);
            }
            (source, destination) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([number(self.protocol), hop_limit]);
                frame.extend(octets(source));
                frame.extend(octets(destination));
            }
        }
        frame.extend(segment);
        frame
    }

    /// RFC 9293 §3.1, RFC 8200 §8.1: over a pseudo header too.
    fn checksum(&self, segment: &[u8]) -> u16 {
        let length = u32::try_from(segment.len()).unwrap_or(u32::MAX);
        let total = sum(&octets(self.source.0))
            + sum(&octets(self.destination.0))
            + length
            + u32::from(number(self.protocol))
            + sum(segment);
        match folded(total) {
            // For UDP, zero means that there is none.
            0 => 0xffff,
            other => other,
        }
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    words.sum()
}

fn folded(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// A packet that a socket saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) ends: Ends,
    /// Sequence number, if it is TCP that answers an opening.
    pub(super) answer: Option<u32>,
}

/// Reads an Ethernet frame; `None` if it is not IP with TCP or UDP.
pub(super) fn read_frame(frame: &[u8]) -> Option<Seen> {
    match frame.get(12..14)? {
        [0x08, 0x00] => read_v4(&frame[14..]),
        [0x86, 0xdd] => {
            let packet = &frame[14..];
            let address = |at: usize| -> Option<IpAddr> {
                let octets: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
                Some(Ipv6Addr::from(octets).into())
            };
            let protocol = protocol(*packet.get(6)?)?;
            read_segment(protocol, address(8)?, address(24)?, packet.get(40..)?)
        }
        _ => None,
    }
}

/// Reads an IPv4 packet.
pub(super) fn read_v4(packet: &[u8]) -> Option<Seen> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets).into())
    };
    let protocol = protocol(*packet.get(9)?)?;
    read_segment(protocol, address(12)?, address(16)?, packet.get(header..)?)
}

fn protocol(number: u8) -> Option<Protocol> {
    match number {
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        _ => None,
    }
}

/// Reads a transport header between known addresses.
pub(super) fn read_segment(
    protocol: Protocol,
    source: IpAddr,
    destination: IpAddr,
    segment: &[u8],
) -> Option<Seen> {
    let port = |at: usize| -> Option<u16> {
        Some(u16::from_be_bytes(
            segment.get(at..at + 2)?.try_into().ok()?,
        ))
    };
    let answer = || -> Option<u32> {
        let flags = *segment.get(13)?;
        (protocol == Protocol::Tcp && flags & (SYN | ACK | RST) == SYN | ACK).then_some(())?;
        Some(u32::from_be_bytes(segment.get(4..8)?.try_into().ok()?))
    };
    Some(Seen {
        ends: Ends {
            protocol,
            source: (source, port(0)?),
            destination: (destination, port(2)?),
        },
        answer: answer(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::{Checksum, Ends, Kind, folded, read_frame, read_v4, sum};
    use crate::ruleset::Protocol;

    fn ends(protocol: Protocol, source: &str, destination: &str) -> Ends {
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        Ends {
            protocol,
            source: (address(source), 40_000),
            destination: (address(destination), 80),
        }
    }

    #[test]
    fn a_frame_reads_back_as_written() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for (source, destination) in
                [("203.0.113.9", "192.0.2.1"), ("2001:db8::9", "2001:db8::1")]
            {
                let ends = ends(protocol, source, destination);
                let frame = ends.frame(Kind::First, [2; 6], [4; 6]);
                let seen = read_frame(&frame).unwrap();
                assert_eq!((seen.ends, seen.answer), (ends, None));
            }
        }
    }

    #[test]
    fn a_right_checksum_makes_the_sum_zero_and_a_wrong_one_does_not() {
        // 192.0.2.1:40000 -> 198.51.100.7:80, the pseudo header summed by hand.
        let ends = ends(Protocol::Udp, "192.0.2.1", "198.51.100.7");
        let pseudo = 0xc000 + 0x0201 + 0xc633 + 0x6407 + 17 + 8;
        let whole = |checksum| folded(pseudo + sum(&ends.segment(Kind::First, checksum)));
        assert_eq!(whole(Checksum::Right), 0);
        assert_ne!(whole(Checksum::Wrong), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _read = read_v4(&bytes);
            for kind in [[8, 0], [0x86, 0xdd]] {
                let mut frame = vec![0; 12];
                frame.extend(kind);
                frame.extend(&bytes);
                let _read = read_frame(&frame);
            }
        }
    }
}

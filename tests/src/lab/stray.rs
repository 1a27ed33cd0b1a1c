//! A TCP packet that belongs to no connection, and the reset that it may bring.

use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};

use socket2::Socket;

/// Length of a TCP header without options.
const LENGTH: u8 = 20;

const SYN_ACK: u8 = 0x12;
const RST: u8 = 0x04;

/// Sends an agreement to a connection that nobody asked for, by a raw socket that is connected to
/// `to`'s address. `from` must be the address that the socket sends from.
pub(super) fn send(socket: &Socket, from: SocketAddr, to: SocketAddr) -> io::Result<()> {
    let mut header = [0; LENGTH as usize];
    header[0..2].copy_from_slice(&from.port().to_be_bytes());
    header[2..4].copy_from_slice(&to.port().to_be_bytes());
    header[4..12].copy_from_slice(&[0, 0, 1, 0, 0, 0, 2, 0]);
    header[12] = (LENGTH / 4) << 4;
    header[13] = SYN_ACK;
    header[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
    let sum = checksum(from.ip(), to.ip(), &header);
    header[16..18].copy_from_slice(&sum.to_be_bytes());
    socket.send(&header)?;
    Ok(())
}

/// Reads what came, up to a reset from `to` to `port`. Says whether there was one.
pub(super) fn is_reset(socket: &Socket, to: SocketAddr, port: u16) -> io::Result<bool> {
    let mut packet = [0; 256];
    loop {
        let length = match { socket }.read(&mut packet) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            length => length?,
        };
        let packet = &packet[..length];
        // Raw IPv4 sockets get the IP header too.
        let start = match to {
            SocketAddr::V4(_) => packet
                .first()
                .map_or(0, |first| usize::from(first & 15) * 4),
            SocketAddr::V6(_) => 0,
        };
        let Some(&[a, b, c, d, _, _, _, _, _, _, _, _, _, flags]) = packet.get(start..start + 14)
        else {
            continue;
        };
        let ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        if ports == (to.port(), port) && flags & RST != 0 {
            return Ok(true);
        }
    }
}

/// The Internet checksum of a TCP header with its pseudo-header (RFC 9293 3.1).
fn checksum(from: IpAddr, to: IpAddr, header: &[u8]) -> u16 {
    let mut bytes = Vec::new();
    for address in [from, to] {
        match address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    bytes.extend([0, 6, 0, LENGTH]);
    bytes.extend(header);
    let words = bytes.chunks_exact(2);
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

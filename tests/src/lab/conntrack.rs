//! What conntrack keeps in the pod, by ctnetlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::Protocol;

// linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h
const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const TUPLE_ORIGINAL: u16 = 1;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const V4_SOURCE: u16 = 1;
const V4_DESTINATION: u16 = 2;
const V6_SOURCE: u16 = 3;
const V6_DESTINATION: u16 = 4;
const PROTO_NUMBER: u16 = 1;
const PROTO_SOURCE_PORT: u16 = 2;
const PROTO_DESTINATION_PORT: u16 = 3;

/// An entry, by the packet that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) protocol: Protocol,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) zone: u16,
}

/// A connection to the conntrack of the namespace in which it was opened.
pub(super) struct Conntrack {
    socket: Socket,
    sequence: u32,
}

impl Conntrack {
    /// In the calling thread's namespace.
    pub(super) fn open() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER).context("opening a conntrack socket")?;
        socket.bind_auto().context("binding a conntrack socket")?;
        socket.set_rx_buf_sz(4 << 20).ok();
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Forgets all entries.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.request(DELETE, libc::NLM_F_ACK, |_| ())
            .context("flushing conntrack")
    }

    /// All TCP and UDP entries.
    pub(super) fn list(&mut self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.request(GET, libc::NLM_F_DUMP, |body| entries.extend(entry(body)))
            .context("listing conntrack (needs nf_conntrack_netlink)")?;
        Ok(entries)
    }

    fn request(&mut self, kind: u16, flags: i32, mut each: impl FnMut(&[u8])) -> Result<()> {
        self.sequence += 1;
        let flags = u16::try_from(libc::NLM_F_REQUEST | flags)?;
        let mut message = Vec::from(20u32.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        // struct nfgenmsg: any family, version 0.
        message.extend([0; 4]);
        self.socket.send(&message, 0)?;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while rest.len() >= 16 {
                let length = usize::try_from(u32_at(rest, 0)?)?;
                let body = rest.get(16..length).context("a short netlink message")?;
                let kind = u16::from_ne_bytes([rest[4], rest[5]]);
                let ours = u32_at(rest, 8)? == self.sequence;
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                match i32::from(kind) {
                    _ if !ours => {}
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        let code = i32::from_ne_bytes(u32_at(body, 0)?.to_ne_bytes());
                        if code == 0 {
                            return Ok(());
                        }
                        bail!("the kernel says {}", Errno::from_raw(-code));
                    }
                    _ => each(body.get(4..).unwrap_or_default()),
                }
            }
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let bytes = bytes.get(at..at + 4).context("a short netlink message")?;
    Ok(u32::from_ne_bytes(bytes.try_into()?))
}

/// Kind and content of each netlink attribute.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        // Without the bit that says "nested".
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let content = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, content))
    })
}

fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, content)| (found == kind).then_some(content))
}

fn entry(body: &[u8]) -> Option<Entry> {
    let tuple = find(body, TUPLE_ORIGINAL)?;
    let (ip, proto) = (find(tuple, TUPLE_IP)?, find(tuple, TUPLE_PROTO)?);
    let protocol = match find(proto, PROTO_NUMBER)? {
        [6] => Protocol::Tcp,
        [17] => Protocol::Udp,
        _ => return None,
    };
    let port = |kind| Some(u16::from_be_bytes(find(proto, kind)?.try_into().ok()?));
    let address = |v4, v6| -> Option<IpAddr> {
        if let Some(bytes) = find(ip, v4) {
            let bytes: [u8; 4] = bytes.try_into().ok()?;
            return Some(Ipv4Addr::from(bytes).into());
        }
        let bytes: [u8; 16] = find(ip, v6)?.try_into().ok()?;
        Some(Ipv6Addr::from(bytes).into())
    };
    let zone = match find(body, ZONE) {
        Some(zone) => u16::from_be_bytes(zone.try_into().ok()?),
        None => 0,
    };
    Some(Entry {
        protocol,
        source: (address(V4_SOURCE, V6_SOURCE)?, port(PROTO_SOURCE_PORT)?).into(),
        destination: (
            address(V4_DESTINATION, V6_DESTINATION)?,
            port(PROTO_DESTINATION_PORT)?,
        )
            .into(),
        zone,
    })
}

//! Sockets of probes: those that send as somebody, and those that see where packets end.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind,
    recv, recvfrom, send, sendto, setsockopt, socket, sockopt,
};
use nix::unistd::{Gid, Uid, getegid, geteuid, setfsgid, setfsuid};
use shunt_abi::name;
use socket2::{SockFilter, SockRef};

use super::decide::Sender;
use super::wire::{self, Checksum, Ends, Kind, Seen};
use crate::routing::stage::{FAR_END_ADDRESS, LINK_ADDRESS};
use crate::ruleset::{Family, Protocol};

/// What became of a packet that was handed to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It went on its way.
    Away,
    /// A rule dropped it on its way out.
    Dropped,
}

/// Sockets that send, one for each sender, family and protocol.
#[derive(Default)]
pub(super) struct Senders(Vec<((Sender, Family, Protocol), OwnedFd)>);

impl Senders {
    /// Sends the first packet of a connection as somebody, unnoticed by whoever listens there.
    pub(super) fn send(&mut self, sender: Sender, ends: &Ends) -> io::Result<Sent> {
        let socket = self.socket(sender, Family::of(ends.source.0), ends.protocol)?;
        // A port would be taken for a protocol.
        let address = |address: IpAddr| SockaddrStorage::from(SocketAddr::new(address, 0));
        bind(socket.as_raw_fd(), &address(ends.source.0))?;
        let segment = ends.segment(Kind::First, Checksum::Wrong);
        let to = address(ends.destination.0);
        match sendto(socket.as_raw_fd(), &segment, &to, MsgFlags::empty()) {
            Ok(_) => Ok(Sent::Away),
            // The word of the output hook, once the socket is there.
            Err(Errno::EPERM) => Ok(Sent::Dropped),
            Err(errno) => Err(errno.into()),
        }
    }

    fn socket(
        &mut self,
        sender: Sender,
        family: Family,
        protocol: Protocol,
    ) -> io::Result<&OwnedFd> {
        let wanted = (sender, family, protocol);
        let known = self.0.iter().position(|(of, _)| *of == wanted);
        let index = match known {
            Some(index) => index,
            None => {
                let socket = as_owner(sender, || raw(family, protocol))?;
                // It only sends; what arrives shall not fill it.
                SockRef::from(&socket).attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
                if sender.mark != 0 {
                    setsockopt(&socket, sockopt::Mark, &sender.mark)?;
                }
                self.0.push((wanted, socket));
                self.0.len() - 1
            }
        };
        Ok(&self.0[index].1)
    }
}

/// Makes a socket that belongs to a user. The file system ids that are in force when it is made
/// are what rules look at (`f_cred->fsuid`); they are each thread's own, so that no other thread
/// ever has them, and it takes none.
fn as_owner(sender: Sender, make: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    let own = whoami();
    if (sender.uid, sender.gid) == own {
        return make();
    }
    let _back = Back(own);
    let (uid, gid) = (Uid::from_raw(sender.uid), Gid::from_raw(sender.gid));
    setfsgid(gid);
    setfsuid(uid);
    // Both answer with the id that was in force before, never with an error.
    if (setfsuid(uid), setfsgid(gid)) == (uid, gid) {
        make()
    } else {
        Err(io::Error::from(Errno::EPERM))
    }
}

/// Gives the calling thread the file system ids back that it had. Whoever may take others may do
/// that: they are its effective ones.
struct Back((u32, u32));

impl Drop for Back {
    fn drop(&mut self) {
        let (uid, gid) = self.0;
        setfsuid(Uid::from_raw(uid));
        setfsgid(Gid::from_raw(gid));
    }
}

/// Uid and gid of this process.
pub(super) fn whoami() -> (u32, u32) {
    (geteuid().as_raw(), getegid().as_raw())
}

/// Whether a socket can belong to any user and group: it takes `CAP_SETUID` and `CAP_SETGID`.
pub(super) fn can_be_anybody() -> bool {
    let (uid, gid) = whoami();
    let somebody = Sender {
        uid: uid ^ 0x5368,
        gid: gid ^ 0x5368,
        mark: 0,
    };
    as_owner(somebody, || {
        let flags = SockFlag::SOCK_CLOEXEC;
        Ok(socket(
            AddressFamily::Unix,
            SockType::Datagram,
            flags,
            None,
        )?)
    })
    .is_ok()
}

fn raw(family: Family, protocol: Protocol) -> io::Result<OwnedFd> {
    let family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    let protocol = match protocol {
        Protocol::Tcp => SockProtocol::Tcp,
        Protocol::Udp => SockProtocol::Udp,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(family, SockType::Raw, flags, protocol)?)
}

/// Sees what arrives in the pod, after the rules have rewritten it and before any server gets it.
pub(super) struct Arrivals {
    socket: OwnedFd,
    family: Family,
    protocol: Protocol,
}

/// `SKF_NET_OFF` (linux/filter.h): offsets from here on count from the network header.
const NETWORK_HEADER: u32 = 0xfff0_0000;
/// `BPF_LD | BPF_W | BPF_ABS`.
const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const IF_EQUAL: u16 = 0x15;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

impl Arrivals {
    /// Only packets from or to `own` are seen, so that other traffic of the pod costs nothing.
    pub(super) fn new(own: IpAddr, protocol: Protocol) -> io::Result<Self> {
        let family = Family::of(own);
        let socket = raw(family, protocol)?;
        let (source, destination, last) = match own {
            IpAddr::V4(own) => (12, 16, own.to_bits()),
            IpAddr::V6(own) => (20, 36, low_word(own)),
        };
        SockRef::from(&socket).attach_filter(&[
            SockFilter::new(LOAD, 0, 0, NETWORK_HEADER + source),
            SockFilter::new(IF_EQUAL, 2, 0, last),
            SockFilter::new(LOAD, 0, 0, NETWORK_HEADER + destination),
            SockFilter::new(IF_EQUAL, 0, 1, last),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
            SockFilter::new(RETURN, 0, 0, 0),
        ])?;
        Ok(Self {
            socket,
            family,
            protocol,
        })
    }

    pub(super) fn is_for(&self, ends: &Ends) -> bool {
        self.protocol == ends.protocol && self.family == Family::of(ends.source.0)
    }

    /// The next packet, if one is there. Of IPv6 the destination's address is not known.
    pub(super) fn next(&self) -> io::Result<Option<Seen>> {
        let mut buffer = [0; 256];
        loop {
            let received = recvfrom::<SockaddrStorage>(self.socket.as_raw_fd(), &mut buffer);
            let (length, from) = match received {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let packet = &buffer[..length.min(buffer.len())];
            let seen = match self.family {
                Family::V4 => wire::read_v4(packet),
                Family::V6 => {
                    let source = from.as_ref().and_then(SockaddrStorage::as_sockaddr_in6);
                    source.and_then(|source| {
                        let nowhere = Ipv6Addr::UNSPECIFIED.into();
                        wire::read_segment(self.protocol, source.ip().into(), nowhere, packet)
                    })
                }
            };
            if seen.is_some() {
                return Ok(seen);
            }
        }
    }
}

fn low_word(address: Ipv6Addr) -> u32 {
    let [.., a, b, c, d] = address.octets();
    u32::from_be_bytes([a, b, c, d])
}

/// The far end of the probes' link: sees what leaves, and makes what arrives.
pub(super) struct FarEnd(OwnedFd);

impl FarEnd {
    pub(super) fn open() -> io::Result<Self> {
        let address = link_address(name::PROBE_FAR_END)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            flags,
            SockProtocol::EthAll,
        )?;
        bind(socket.as_raw_fd(), &address)?;
        Ok(Self(socket))
    }

    /// Lets a packet arrive in the pod.
    pub(super) fn send(&self, ends: &Ends, kind: Kind) -> io::Result<()> {
        let frame = ends.frame(kind, LINK_ADDRESS, FAR_END_ADDRESS);
        send(self.0.as_raw_fd(), &frame, MsgFlags::empty())?;
        Ok(())
    }

    /// The next packet that left the pod, if one is there. What was sent here is seen too.
    pub(super) fn next(&self) -> io::Result<Option<Seen>> {
        let mut buffer = [0; 256];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    let frame = &buffer[..length.min(buffer.len())];
                    let seen = wire::read_frame(frame);
                    if seen.is_some() && frame.get(6..12) == Some(LINK_ADDRESS.as_slice()) {
                        return Ok(seen);
                    }
                }
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// The address by which packet sockets know an interface.
fn link_address(interface: &str) -> io::Result<LinkAddr> {
    getifaddrs()?
        .filter(|found| found.interface_name == interface)
        .find_map(|found| found.address?.as_link_addr().copied())
        .ok_or_else(|| io::Error::other(format!("{interface} is not there")))
}

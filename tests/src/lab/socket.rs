//! Sockets as flows and listeners need them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrLike, SockaddrStorage, recvmsg, sendmsg,
    setsockopt, sockopt,
};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use socket2::{Domain, Socket, Type};

use super::{Owner, Protocol};

/// Runs `work` so that the sockets it makes have the ids of `owner`.
pub(super) fn as_owner<T>(owner: Owner, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let take_on = |uid: u32, gid: u32| -> Result<()> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        setfsgid(gid);
        setfsuid(uid);
        // Both calls answer with the id that was in force before, never with an error.
        ensure!(
            (setfsuid(uid), setfsgid(gid)) == (uid, gid),
            "taking on uid {uid} and gid {gid} (needs root)"
        );
        Ok(())
    };
    take_on(owner.uid, owner.gid)?;
    let outcome = work();
    take_on(0, 0)?;
    outcome
}

/// A socket that does not block, with the mark of its owner, who is the one in force.
pub(super) fn open(protocol: Protocol, address: IpAddr, owner: Owner) -> io::Result<Socket> {
    let kind = match protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
        Protocol::Stray => Type::RAW,
    };
    let number = (protocol == Protocol::Stray).then_some(socket2::Protocol::TCP);
    let domain = Domain::for_address((address, 0).into());
    let socket = Socket::new(domain, kind.nonblocking().cloexec(), number)?;
    if address.is_ipv6() && protocol != Protocol::Stray {
        socket.set_only_v6(true)?;
    }
    if let Some(mark) = owner.mark {
        socket.set_mark(mark)?;
    }
    if protocol == Protocol::Tcp {
        // Closing sends a reset: no port is kept in TIME_WAIT, here or by the other end.
        socket.set_linger(Some(Duration::ZERO))?;
    }
    Ok(socket)
}

/// Lets a socket have addresses that its namespace does not own.
pub(super) fn transparent(socket: &Socket, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => socket.set_ip_transparent_v4(true),
        IpAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
}

/// A socket for whoever comes, on all addresses of a family.
pub(super) fn listen(
    protocol: Protocol,
    address: SocketAddr,
    owner: Owner,
    is_transparent: bool,
) -> io::Result<Socket> {
    let ip = address.ip();
    let socket = open(protocol, ip, owner)?;
    socket.set_reuse_address(true)?;
    if is_transparent {
        transparent(&socket, ip)?;
    }
    if protocol == Protocol::Udp {
        tell_destinations(&socket, ip, is_transparent)?;
    }
    socket.bind(&address.into())?;
    if protocol == Protocol::Tcp {
        socket.listen(4096)?;
    }
    Ok(socket)
}

fn tell_destinations(socket: &Socket, ip: IpAddr, is_transparent: bool) -> io::Result<()> {
    match (ip, is_transparent) {
        (IpAddr::V4(_), false) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        (IpAddr::V6(_), false) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        (IpAddr::V4(_), true) => setsockopt(socket, sockopt::Ipv4OrigDstAddr, &true)?,
        (IpAddr::V6(_), true) => setsockopt(socket, sockopt::Ipv6OrigDstAddr, &true)?,
    }
    Ok(())
}

/// Where a connection went before it was redirected; none if nothing is tracked.
pub(super) fn original_destination(socket: &Socket, family: IpAddr) -> Option<SocketAddr> {
    match family {
        IpAddr::V4(_) => socket.original_dst_v4(),
        IpAddr::V6(_) => socket.original_dst_v6(),
    }
    .ok()?
    .as_socket()
}

/// A datagram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    /// Its destination; the port is known on transparent sockets, else 0.
    pub(super) to: SocketAddr,
    /// Whether a client sent it. An answer that came to a server must not be answered: two servers
    /// would go on for ever.
    pub(super) is_request: bool,
}

/// What a client sends; answers have another length.
pub(super) const REQUEST: [u8; 1] = [0];

/// The next datagram, if there is one: where it came from and went.
pub(super) fn receive(socket: &Socket) -> io::Result<Option<Datagram>> {
    let mut bytes = [0; 4];
    let mut control = nix::cmsg_space!(libc::in6_pktinfo, libc::sockaddr_in6);
    let mut parts = [io::IoSliceMut::new(&mut bytes)];
    let message = match recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    ) {
        Ok(message) => message,
        Err(nix::errno::Errno::EAGAIN) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut to = None;
    for part in message.cmsgs()? {
        match part {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                let address = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
                to = Some((address, 0).into());
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                to = Some((address, 0).into());
            }
            ControlMessageOwned::Ipv4OrigDstAddr(found) => {
                let address = Ipv4Addr::from(u32::from_be(found.sin_addr.s_addr));
                to = Some((address, u16::from_be(found.sin_port)).into());
            }
            ControlMessageOwned::Ipv6OrigDstAddr(found) => {
                let address = Ipv6Addr::from(found.sin6_addr.s6_addr);
                to = Some((address, u16::from_be(found.sin6_port)).into());
            }
            _ => {}
        }
    }
    let is_request = message.bytes == REQUEST.len();
    let from = message.address.as_ref().and_then(socket_address);
    let (Some(from), Some(to)) = (from, to) else {
        return Err(io::Error::other("a datagram without addresses"));
    };
    Ok(Some(Datagram {
        from,
        to,
        is_request,
    }))
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address
        .as_sockaddr_in()
        .map(|a| SocketAddr::V4((*a).into()));
    let v6 = || {
        address
            .as_sockaddr_in6()
            .map(|a| SocketAddr::V6((*a).into()))
    };
    debug_assert!(address.family().is_some());
    v4.or_else(v6)
}

/// Answers a datagram from the address it was sent to.
pub(super) fn answer(socket: &Socket, datagram: &Datagram, number: u32) -> io::Result<()> {
    let bytes = number.to_ne_bytes();
    let parts = [io::IoSlice::new(&bytes)];
    let to = SockaddrStorage::from(datagram.from);
    let send = |control: &[ControlMessage<'_>]| {
        sendmsg(
            socket.as_raw_fd(),
            &parts,
            control,
            MsgFlags::empty(),
            Some(&to),
        )
    };
    match datagram.to.ip() {
        IpAddr::V4(address) => {
            let source = libc::in_addr {
                s_addr: u32::from(address).to_be(),
            };
            send(&[ControlMessage::Ipv4PacketInfo(&libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: source,
                ipi_addr: source,
            })])
        }
        IpAddr::V6(address) => send(&[ControlMessage::Ipv6PacketInfo(&libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr {
                s6_addr: address.octets(),
            },
            ipi6_ifindex: 0,
        })]),
    }?;
    Ok(())
}

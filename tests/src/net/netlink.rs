//! The few rtnetlink requests the harness needs: links, addresses, routes.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::{Context, Result, bail};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// A route socket. It stays in the namespace in which it was opened, whichever thread uses it.
pub(super) struct Rtnl {
    socket: Socket,
    sequence: u32,
    place: String,
}

/// One end of a veth pair.
pub(super) struct VethEnd<'a> {
    pub(super) name: &'a str,
    /// Where this end goes.
    pub(super) namespace: BorrowedFd<'a>,
}

impl Rtnl {
    /// Opens a socket in the calling thread's namespace; `place` names it in errors.
    pub(super) fn open(place: &str) -> Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("opening a route netlink socket")?;
        socket
            .bind_auto()
            .context("binding a route netlink socket")?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .context("connecting a route netlink socket")?;
        Ok(Self {
            socket,
            sequence: 0,
            place: place.to_owned(),
        })
    }

    /// Makes a bridge, up.
    pub(super) fn add_bridge(&mut self, name: &str) -> Result<u32> {
        let mut link = LinkMessage::default();
        set_up(&mut link);
        link.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        self.change(
            RouteNetlinkMessage::NewLink(link),
            CREATE,
            &format!("adding bridge {name}"),
        )?;
        self.index(name)
    }

    /// Makes a veth pair: `name` here, up and a port of `bridge`; the peer in another namespace.
    pub(super) fn add_veth(&mut self, name: &str, bridge: u32, peer: &VethEnd<'_>) -> Result<()> {
        let mut far = LinkMessage::default();
        far.attributes = vec![
            LinkAttribute::IfName(peer.name.to_owned()),
            LinkAttribute::NetNsFd(peer.namespace.as_raw_fd()),
        ];
        let mut near = LinkMessage::default();
        set_up(&mut near);
        near.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Controller(bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
            ]),
        ];
        let what = format!("adding veth {name} with its peer {}", peer.name);
        self.change(RouteNetlinkMessage::NewLink(near), CREATE, &what)
    }

    /// Makes an interface a port of a bridge.
    pub(super) fn enslave(&mut self, name: &str, bridge: u32) -> Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = self.index(name)?;
        link.attributes = vec![LinkAttribute::Controller(bridge)];
        let what = format!("making {name} a port of the bridge");
        self.change(RouteNetlinkMessage::SetLink(link), 0, &what)
    }

    /// Sets an interface up.
    pub(super) fn up(&mut self, name: &str) -> Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = self.index(name)?;
        set_up(&mut link);
        self.change(
            RouteNetlinkMessage::SetLink(link),
            0,
            &format!("setting {name} up"),
        )
    }

    /// Adds an address, usable at once.
    pub(super) fn add_address(&mut self, name: &str, address: IpAddr, prefix: u8) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.index = self.index(name)?;
        message.header.family = family(address);
        message.header.prefix_len = prefix;
        message.header.scope = AddressScope::Universe;
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes = vec![
            AddressAttribute::Local(address),
            AddressAttribute::Address(address),
        ];
        let what = format!("adding {address}/{prefix} to {name}");
        self.change(RouteNetlinkMessage::NewAddress(message), CREATE, &what)
    }

    /// Adds the default route of the gateway's family.
    pub(super) fn add_default_route(&mut self, gateway: IpAddr) -> Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(gateway);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![RouteAttribute::Gateway(gateway.into())];
        let what = format!("adding the default route via {gateway}");
        self.change(RouteNetlinkMessage::NewRoute(message), CREATE, &what)
    }

    /// The index of an interface.
    fn index(&mut self, name: &str) -> Result<u32> {
        let mut link = LinkMessage::default();
        link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        let what = format!("looking for interface {name}");
        match self.ask(RouteNetlinkMessage::GetLink(link), 0, &what)? {
            Some(RouteNetlinkMessage::NewLink(found)) => Ok(found.header.index),
            other => bail!("{what} in `{}`: the kernel answered {other:?}", self.place),
        }
    }

    fn change(&mut self, message: RouteNetlinkMessage, flags: u16, what: &str) -> Result<()> {
        self.ask(message, flags, what).map(drop)
    }

    /// Sends one request and reads up to its acknowledgement; returns the answer before it.
    fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: &str,
    ) -> Result<Option<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);

        let place = || format!("{what} in `{}`", self.place);
        self.socket.send(&bytes, 0).with_context(place)?;
        let mut answer = None;
        loop {
            let (datagram, _) = self.socket.recv_from_full().with_context(place)?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let reply =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).with_context(place)?;
                let length = usize::try_from(reply.header.length)?.next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                match reply.payload {
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(answer),
                            Some(_) => Err(error.to_io()).with_context(place),
                        };
                    }
                    NetlinkPayload::InnerMessage(inner) => answer = Some(inner),
                    _ => {}
                }
            }
        }
    }
}

const CREATE: u16 = NLM_F_CREATE | NLM_F_EXCL;

fn set_up(link: &mut LinkMessage) {
    link.header.flags |= LinkFlags::Up;
    link.header.change_mask |= LinkFlags::Up;
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

//! Where a redirected connection wanted to go (`SO_ORIGINAL_DST`, `IP6T_SO_ORIGINAL_DST`).

use crate::addr::{OrigDst, canonical};
use socket2::SockRef;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// The original destination of an accepted connection, or `None` where it was not redirected: the
/// kernel then knows none, or says the address that the connection arrived at.
pub fn original_dst(stream: &TcpStream, arrived_at: SocketAddr) -> Option<OrigDst> {
    let socket = SockRef::from(stream);
    let answer = if arrived_at.is_ipv4() {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    };
    let original = canonical(answer.ok()?.as_socket()?);
    // An IPv6 answer may carry a scope that the address we arrived at has not.
    let same = original.ip() == arrived_at.ip() && original.port() == arrived_at.port();
    (!same).then_some(OrigDst(original))
}

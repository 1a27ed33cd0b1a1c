//! Accepting connections: one loop for each worker and listening socket.

use crate::addr::{Destination, Downstream, OrigDst, canonical};
use crate::drain::Phase;
use crate::listener::original_dst::original_dst;
use crate::listener::slot::Slot;
use crate::listener::socket::BACKLOG;
use crate::observe::flags::Flags;
use crate::observe::limited;
use crate::overload::Place;
use crate::sidecar;
use crate::snapshot::Listener;
use crate::upstream::connect::{keep_alive, out_of_descriptors};
use crate::worker::Worker;
use futures_util::FutureExt;
use socket2::SockRef;
use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How long an accept loop rests after an error that will not pass at once.
const BACKOFF: Duration = Duration::from_millis(50);

/// An accepted connection.
#[derive(Debug)]
pub struct Accepted {
    /// Its socket.
    pub stream: TcpStream,
    /// The peer.
    pub downstream: Downstream,
    /// Where the peer wanted to go.
    pub destination: Destination,
    /// Its place among the connections that this process can serve.
    pub place: Place,
}

/// Accept until the address is given up or the drain is over, then until nothing waits any more.
pub async fn run(worker: Rc<Worker>, slot: Arc<Slot>, socket: TcpListener) {
    let mut reserve = Reserve::take(&socket);
    let mut phase = worker.process.drain.subscribe();
    let mut closed = pin!(slot.closed());
    loop {
        let accepted = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase >= Phase::Closing) => break,
            () = &mut closed => break,
            accepted = socket.accept() => accepted,
        };
        let listener = slot.listener();
        match accepted {
            Ok((stream, peer)) => begin(&worker, &listener, stream, peer),
            Err(error) => failed(&worker, &listener, &socket, &mut reserve, &error).await,
        }
    }
    let listener = slot.listener();
    // With SO_REUSEPORT the kernel would reset what waits on this socket when it is closed.
    let Ok(socket) = socket.into_std() else {
        return;
    };
    for _ in 0..BACKLOG {
        let Ok((stream, peer)) = socket.accept() else {
            return;
        };
        if let Ok(stream) = stream
            .set_nonblocking(true)
            .and_then(|()| TcpStream::from_std(stream))
        {
            begin(&worker, &listener, stream, peer);
        }
    }
}

fn begin(worker: &Rc<Worker>, listener: &Arc<Listener>, stream: TcpStream, peer: SocketAddr) {
    worker.clock.tick();
    let downstream = Downstream(canonical(peer));
    // None: reset by the peer while it waited.
    let Some(destination) = destination(listener, &stream) else {
        return;
    };
    let Some(place) = worker.process.overload.place() else {
        return shed(worker, listener, stream, downstream, destination);
    };
    // Answers are small and waited for.
    let _not_fatal = stream.set_nodelay(true);
    if let Some(keepalive) = &listener.keepalive {
        let _not_fatal = keep_alive(SockRef::from(&stream), keepalive);
    }
    let accepted = Accepted {
        stream,
        downstream,
        destination,
        place,
    };
    let (worker, listener) = (Rc::clone(worker), Arc::clone(listener));
    tokio::task::spawn_local(sidecar::guarded(worker, listener, accepted));
}

fn destination(listener: &Listener, stream: &TcpStream) -> Option<Destination> {
    let arrived_at = canonical(stream.local_addr().ok()?);
    let original = listener
        .is_capture()
        .then(|| original_dst(stream, arrived_at))
        .flatten();
    // TPROXY leaves the destination as it is.
    let keeps = listener.is_capture() && listener.socket.transparent;
    let original = original.or_else(|| keeps.then_some(OrigDst(arrived_at)));
    Some(Destination {
        address: original.map_or(arrived_at, |o| o.0),
        arrived_at,
        original,
        client: None,
    })
}

/// Refuse a connection that could not be served: reset, counted, recorded.
fn shed(
    worker: &Rc<Worker>,
    listener: &Listener,
    stream: TcpStream,
    downstream: Downstream,
    destination: Destination,
) {
    worker.stats.inc(listener.series.cx_overload_reject);
    let mut outcome = worker.record(&listener.shed_log, downstream, destination);
    outcome.flags |= Flags::OM;
    outcome.details = Cow::Borrowed("overload_file_descriptors");
    limited::warn(
        "connection shed",
        &"all file descriptors are in use; raise the limit (RLIMIT_NOFILE) of the sidecar",
    );
    // A reset, not an end: nobody may take the silence for an empty answer.
    let _gone_already = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

async fn failed(
    worker: &Rc<Worker>,
    listener: &Listener,
    socket: &TcpListener,
    reserve: &mut Reserve,
    error: &io::Error,
) {
    if !out_of_descriptors(error) {
        // The peer was gone before we came (accept(2)): the next one is not.
        limited::warn("accept", &error);
        tokio::task::yield_now().await;
        return;
    }
    // Give up the spare descriptor to take the connection off the queue and refuse it.
    *reserve = Reserve(None);
    let taken = socket.accept().now_or_never();
    let relieved = matches!(taken, Some(Ok(_)));
    if let Some(Ok((stream, peer))) = taken
        && let Some(destination) = destination(listener, &stream)
    {
        shed(
            worker,
            listener,
            stream,
            Downstream(canonical(peer)),
            destination,
        );
    }
    *reserve = Reserve::take(socket);
    if !relieved || reserve.0.is_none() {
        tokio::time::sleep(BACKOFF).await;
    }
}

/// A descriptor kept for the moment when there is no other.
struct Reserve(Option<OwnedFd>);

impl Reserve {
    fn take(socket: &TcpListener) -> Self {
        Self(socket.as_fd().try_clone_to_owned().ok())
    }
}

//! A request that asks for bytes both ways, and what the upstream says to it.

use crate::error::Failure;
use crate::http::body::{Lease, RequestBody};
use crate::http::headers;
use crate::http::source::{Received, Source};
use crate::http::switch::Ask;
use crate::http::tunnel::{ByteStream, End};
use crate::transport::io::Io;
use crate::upstream::exchange::{self, into_http2};
use crate::upstream::http2::StreamPlace;
use crate::upstream::open::OpenConnection;
use crate::upstream::pool::{Pool, PoolPlace};
use crate::upstream::pooled::Want;
use crate::worker::Worker;
use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;

/// A connection or stream that does not speak HTTP any more.
pub struct Switched {
    /// Its bytes in both directions.
    pub end: End,
    /// What was read of it already.
    pub read: Bytes,
    /// Keeps it counted.
    pub place: SwitchedPlace,
}

/// Where something that has switched protocols is counted.
pub enum SwitchedPlace {
    /// A connection that was in a pool.
    Pool(PoolPlace),
    /// A stream of a connection in a pool.
    Stream(StreamPlace),
    /// A connection of its own.
    Own(OpenConnection),
}

impl std::fmt::Debug for Switched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Switched").finish_non_exhaustive()
    }
}

/// What is asked for, and by whom it is granted.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What a request asks for.
    pub ask: &'a Ask,
    /// A CONNECT ends here: the upstream gets what is in it.
    pub terminates: bool,
}

/// How an upstream is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By HTTP/1.1.
    Http1,
    /// By HTTP/2.
    Http2,
    /// It is not: bytes go to it as they are.
    Bytes,
}

impl Asked<'_> {
    /// How an upstream is asked that speaks this version.
    pub fn way(self, http2: bool) -> Way {
        match (self.ask, self.terminates) {
            (Ask::Tunnel { .. }, true) => Way::Bytes,
            _ if http2 => Way::Http2,
            _ => Way::Http1,
        }
    }
}

/// Ask an upstream. Its word is in the form of HTTP/1.1, with a connection or stream that is
/// [`Lease::Switched`] where it grants what is asked for. `sent` is told our address.
///
/// # Errors
/// Where nobody can be asked, or there is no word.
pub async fn request(
    worker: &Rc<Worker>,
    pool: &Rc<Pool>,
    asked: Asked<'_>,
    way: Way,
    request: Request<RequestBody>,
    scheme: &'static str,
    sent: impl FnMut(SocketAddr),
) -> Result<(Response<Source>, Lease), Failure> {
    match way {
        Way::Http1 => by_http1(worker, pool, asked.ask, request, sent).await,
        Way::Http2 => by_http2(worker, pool, asked.ask, request, scheme, sent).await,
        Way::Bytes => by_bytes(worker, pool, sent).await,
    }
}

fn granted(end: End, read: Bytes, place: SwitchedPlace) -> Lease {
    Lease::Switched(Box::new(Switched { end, read, place }))
}

async fn by_bytes(
    worker: &Rc<Worker>,
    pool: &Rc<Pool>,
    mut sent: impl FnMut(SocketAddr),
) -> Result<(Response<Source>, Lease), Failure> {
    let (stream, local, open): (_, _, OpenConnection) = pool.connect(worker).await?;
    sent(local);
    let end = End::Connection(Io::upstream(stream));
    let lease = granted(end, Bytes::new(), SwitchedPlace::Own(open));
    Ok((Response::new(Source::Empty), lease))
}

async fn by_http1(
    worker: &Rc<Worker>,
    pool: &Rc<Pool>,
    ask: &Ask,
    mut request: Request<RequestBody>,
    mut sent: impl FnMut(SocketAddr),
) -> Result<(Response<Source>, Lease), Failure> {
    loop {
        let mut connection = pool.checkout(worker, Want::Any).await?;
        sent(connection.local);
        let switched = connection.heir.appoint();
        connection.look_first();
        match connection.sender.try_send_request(request).await {
            Ok(response) if ask.is_granted(response.status()) => {
                let head = response.headers();
                let is_protocol = matches!(ask, Ask::Protocol(_));
                if is_protocol
                    && !(headers::names_its_protocol(head)
                        && headers::is_framed_soundly(response.status(), head))
                {
                    return Err(Failure::UpstreamProtocol);
                }
                if response.status() == StatusCode::NO_CONTENT {
                    // It grants a tunnel (RFC 9110 §9.3.6), but not to the codec, which would wait
                    // for another request.
                    connection.heir.take_over();
                }
                let switched = switched.await;
                let switched = switched.map_err(|_gone| Failure::ConnectionTermination)?;
                let lease = Lease::Switched(Box::new(switched));
                return Ok((response.map(|_no_body| Source::Empty), lease));
            }
            Ok(response)
                if response.status() == StatusCode::SWITCHING_PROTOCOLS
                    || !headers::is_framed_soundly(response.status(), response.headers()) =>
            {
                return Err(Failure::UpstreamProtocol);
            }
            Ok(response) => {
                connection.heir.dismiss();
                connection.answered_in(response.version());
                let pool = Rc::clone(pool);
                let lease = Lease::Http1 { connection, pool };
                return Ok((response.map(Source::Http1), lease));
            }
            Err(mut error) => match error.take_message() {
                Some(unsent) if connection.has_rested() => request = unsent,
                _ if error.error().is_parse() => return Err(Failure::UpstreamProtocol),
                _ => return Err(Failure::ConnectionTermination),
            },
        }
    }
}

async fn by_http2(
    worker: &Rc<Worker>,
    pool: &Rc<Pool>,
    ask: &Ask,
    request: Request<RequestBody>,
    scheme: &'static str,
    mut sent: impl FnMut(SocketAddr),
) -> Result<(Response<Source>, Lease), Failure> {
    let request = as_connect(ask, request, scheme)?;
    let (place, mut sender) = pool.stream(worker).await?;
    sent(place.local());
    let failure = |error: h2::Error| exchange::failure(&error);
    let (mut response, stream) = sender.send_request(request, false).map_err(failure)?;
    let response = poll_fn(|cx| exchange::poll_head(&mut response, None, cx)).await;
    let response = response
        .map_err(failure)?
        .ok_or(Failure::UpstreamProtocol)?;
    let (mut head, body) = response.into_parts();
    let is_granted = match ask {
        Ask::Protocol(_) => head.status == StatusCode::OK,
        Ask::Tunnel { .. } => head.status.is_success(),
    };
    if !is_granted {
        let source = Source::Http2(Received::new(body, &head.headers));
        // Dropping our side of the stream says that nothing will come.
        let lease = Lease::Http2(exchange::StreamLease::of(place));
        return Ok((Response::from_parts(head, source), lease));
    }
    if let Ask::Protocol(_) = ask {
        head.status = StatusCode::SWITCHING_PROTOCOLS;
    }
    let end = End::Stream(ByteStream::new(stream, body));
    let lease = granted(end, Bytes::new(), SwitchedPlace::Stream(place));
    Ok((Response::from_parts(head, Source::Empty), lease))
}

/// The same request as HTTP/2 asks it (RFC 9113 §8.5, RFC 8441 §4).
fn as_connect(
    ask: &Ask,
    mut request: Request<RequestBody>,
    scheme: &'static str,
) -> Result<Request<()>, Failure> {
    for name in [UPGRADE, CONNECTION, CONTENT_LENGTH] {
        request.headers_mut().remove(name);
    }
    match ask {
        Ask::Protocol(name) => {
            let name = name.to_str().map_err(|_bad| Failure::UpgradeFailed)?;
            let (mut asked, _no_body) = into_http2(request, scheme)?;
            *asked.method_mut() = Method::CONNECT;
            asked.extensions_mut().insert(Protocol::from(name));
            Ok(asked)
        }
        Ask::Tunnel { .. } => {
            let (mut head, _no_body) = request.into_parts();
            head.uri = exchange::authority(&mut head.headers)?.into();
            head.version = Version::HTTP_2;
            Ok(Request::from_parts(head, ()))
        }
    }
}

//! One request and its response on a stream of HTTP/2.

use crate::error::Failure;
use crate::http::body::RequestBody;
use crate::http::codec::pump::pump;
use crate::http::go_on::Wanted;
use crate::http::headers;
use crate::http::replay::ReplayBody;
use crate::http::source::{Received, Source};
use crate::transport::watched::{Look, Mark, Watch};
use crate::upstream::http2::StreamPlace;
use crate::upstream::pool::Pool;
use crate::worker::Worker;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::header::{HOST, TRANSFER_ENCODING};
use http::uri::{Authority, Parts, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::task::AbortHandle;

/// A stream in use: its place, and the request's body where it is still on its way.
#[derive(Debug)]
pub struct StreamLease {
    _upload: Option<Upload>,
    _place: StreamPlace,
}

impl StreamLease {
    /// Of a stream on which we send nothing more.
    pub(super) fn of(place: StreamPlace) -> Self {
        Self {
            _upload: None,
            _place: place,
        }
    }
}

/// Sends a body that is longer than the wait for the response; dropping it makes an end of that.
#[derive(Debug)]
struct Upload(AbortHandle);

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Send a request and wait for the head of its response. `sent` is told our address.
///
/// One that the upstream did not look at (it refused the stream, or went away before) is sent once
/// more, and so is one that may be sent twice where a connection that had rested ended without a
/// word: a connection that was kept for too long costs no error.
///
/// # Errors
/// Where the stream or its connection ends first, or the request cannot be said in HTTP/2.
pub async fn exchange(
    worker: &Rc<Worker>,
    pool: &Rc<Pool>,
    request: Request<RequestBody>,
    scheme: &'static str,
    mut sent: impl FnMut(SocketAddr),
) -> Result<(Response<Source>, StreamLease), Failure> {
    let (head, body) = into_http2(request, scheme)?;
    let wanted = body.wanted();
    let body = (!body.is_end_stream()).then(|| ReplayBody::new(body));
    let mut spare = Some(head.clone());
    let mut next = head;
    loop {
        let (place, sender) = pool.stream(worker).await?;
        sent(place.local());
        let rested = Rested::before(&place, next.method());
        let error = match attempt(place, sender, next, body.clone(), wanted.as_deref()).await {
            Ok(Some(exchanged)) => {
                if let Some(body) = &body {
                    body.forget();
                }
                return Ok(exchanged);
            }
            Ok(None) => return Err(Failure::UpstreamProtocol),
            Err(error) => error,
        };
        let was_stale = error.is_io() && rested.is_some_and(|rested| rested.may_send_again());
        let again = spare
            .take()
            .filter(|_| was_stale || was_not_processed(&error));
        match again {
            Some(again) if body.as_ref().is_none_or(ReplayBody::rewind) => next = again,
            _ => return Err(failure(&error)),
        }
        if was_stale {
            // What has rested as long may be closed as well.
            pool.close_resting_http2();
        }
        worker.stats.inc(pool.cluster.series.rq_replayed);
    }
}

/// A connection that had rested before it was given a request, and may have been closed meanwhile.
struct Rested {
    watch: Rc<Watch>,
    before: Mark,
    is_idempotent: bool,
}

impl Rested {
    /// What a request of this method may know of its connection.
    fn before(place: &StreamPlace, method: &Method) -> Option<Self> {
        if !place.has_rested() {
            return None;
        }
        let watch = Rc::clone(place.watch());
        let is_idempotent = method.is_idempotent();
        if !is_idempotent && place.is_alone() {
            watch.look_first(Look::End);
        }
        let before = watch.mark();
        Some(Self {
            watch,
            before,
            is_idempotent,
        })
    }

    /// Whether a request may be sent again, now that the connection has ended (RFC 9110 §9.2.2).
    fn may_send_again(&self) -> bool {
        self.watch.is_untold_since(self.before)
            || (self.is_idempotent && self.watch.is_silent_since(self.before))
    }
}

/// Whether the upstream says that it has not looked at a request (RFC 9113 §8.7).
fn was_not_processed(error: &h2::Error) -> bool {
    // GOAWAY names the last stream that was looked at; those up to it do not learn of it so.
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    error.is_remote() && (refused || error.is_go_away())
}

/// `None` where what was answered cannot be passed on.
async fn attempt(
    place: StreamPlace,
    mut sender: SendRequest<Bytes>,
    head: Request<()>,
    body: Option<ReplayBody>,
    wanted: Option<&Wanted>,
) -> Result<Option<(Response<Source>, StreamLease)>, h2::Error> {
    let (mut response, stream) = sender.send_request(head, body.is_none())?;
    let mut upload = body.map(|body| Box::pin(send(body, stream)));
    let head = poll_fn(|cx| {
        if let Some(sending) = &mut upload
            && sending.as_mut().poll(cx).is_ready()
        {
            upload = None;
        }
        poll_head(&mut response, wanted, cx)
    });
    let Some(response) = head.await? else {
        return Ok(None);
    };
    let (head, stream) = response.into_parts();
    let source = Source::Http2(Received::new(stream, &head.headers));
    let lease = StreamLease {
        // The response may be long, and its reader slow: the rest of the body goes its own way.
        _upload: upload.map(|sending| Upload(tokio::task::spawn_local(sending).abort_handle())),
        _place: place,
    };
    Ok(Some((Response::from_parts(head, source), lease)))
}

/// The head of a response, after those of interim ones. `None` where it cannot be passed on: its
/// length is not one number, or it switches protocols, which HTTP/2 cannot (RFC 9113 §8.6).
pub(super) fn poll_head(
    response: &mut ResponseFuture,
    wanted: Option<&Wanted>,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Response<RecvStream>>, h2::Error>> {
    while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
        match interim.status() {
            StatusCode::CONTINUE => {
                if let Some(wanted) = wanted {
                    wanted.is_wanted();
                }
            }
            StatusCode::SWITCHING_PROTOCOLS => return Poll::Ready(Ok(None)),
            _ => {}
        }
    }
    let response = std::task::ready!(Pin::new(response).poll(cx))?;
    let is_sound = headers::has_one_length_at_most(response.headers());
    Poll::Ready(Ok(is_sound.then_some(response)))
}

async fn send(mut body: ReplayBody, mut stream: SendStream<Bytes>) {
    // How it ended is known to the body and to the response.
    let _ended = pump(Pin::new(&mut body), &mut stream, Reason::CANCEL).await;
}

/// The host of a request, as HTTP/2 has it.
pub(super) fn authority(headers: &mut HeaderMap) -> Result<Authority, Failure> {
    let host = headers.remove(HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    authority.ok_or(Failure::BadRequest {
        details: "http2.invalid_authority",
    })
}

/// The same request in the form of HTTP/2: the host has become `:authority`.
pub(super) fn into_http2(
    request: Request<RequestBody>,
    scheme: &'static str,
) -> Result<(Request<()>, RequestBody), Failure> {
    let (mut head, body) = request.into_parts();
    let authority = authority(&mut head.headers)?;
    // Of an attempt by HTTP/1 that sent nothing.
    head.headers.remove(TRANSFER_ENCODING);
    let mut parts = Parts::default();
    parts.scheme = Some(match scheme {
        "https" => Scheme::HTTPS,
        _ => Scheme::HTTP,
    });
    parts.authority = Some(authority);
    parts.path_and_query = head.uri.into_parts().path_and_query;
    head.uri = Uri::from_parts(parts).map_err(|_bad| Failure::BadRequest {
        details: "http2.invalid_path",
    })?;
    head.version = Version::HTTP_2;
    Ok((Request::from_parts(head, ()), body))
}

/// Why there was no response.
pub(super) fn failure(error: &h2::Error) -> Failure {
    if error.is_reset() && error.is_remote() {
        return Failure::UpstreamReset {
            refused: error.reason() == Some(Reason::REFUSED_STREAM),
        };
    }
    if error.is_library() {
        return Failure::UpstreamProtocol;
    }
    Failure::ConnectionTermination
}

//! Bodies as they pass through: counted, watched, hardly held.

use crate::connection::{InRequest, Kick, Tracked};
use crate::http::codec::pump::Interrupted;
use crate::http::cut::Cut;
use crate::http::filters::router::ActiveRequest;
use crate::http::go_on::{Held, Wanted};
use crate::http::replay::ReplayBody;
use crate::http::resting::Limits;
use crate::http::source::Source;
use crate::http::tunnel::Tunnel;
use crate::http::upload::{Ahead, Upload};
use crate::observe::flags::Flags;
use crate::observe::outcome::Outcome;
use crate::upstream::exchange::StreamLease;
use crate::upstream::pool::Pool;
use crate::upstream::pooled::PooledConnection;
use crate::upstream::switch::Switched;
use crate::worker::Worker;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::borrow::Cow;
use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// Any error of a body.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// The body of a request on its way upstream.
#[derive(Debug)]
pub enum RequestBody {
    /// There is none.
    Empty,
    /// As it comes from downstream.
    Incoming {
        /// What the codec reads, and how far it is.
        upload: Rc<Upload>,
        /// Until the upstream wants it.
        held: Option<Held>,
        /// The downstream connection or stream.
        tracked: Rc<Tracked>,
        /// For the time.
        worker: Rc<Worker>,
    },
    /// The same, kept so that it can be sent again.
    Kept(ReplayBody),
}

impl RequestBody {
    /// The body of a request, and where to see how far it is.
    pub(super) fn of(incoming: Source, served: &InRequest) -> (Self, Option<Rc<Upload>>) {
        if incoming.is_end_stream() {
            return (Self::Empty, None);
        }
        let upload = Rc::new(Upload::new(incoming, served.worker().clock.now()));
        let body = Self::Incoming {
            upload: Rc::clone(&upload),
            held: None,
            tracked: Rc::clone(&served.tracked),
            worker: Rc::clone(served.worker()),
        };
        (body, Some(upload))
    }

    /// It will be sent once more: what took it before waits for it no longer.
    pub(super) fn forget_upstream(&self) {
        if let Self::Incoming { upload, .. } = self {
            upload.forget_upstream();
        }
    }

    /// By what an upstream that wants it says so, where it is held.
    pub fn wanted(&self) -> Option<Arc<Wanted>> {
        match self {
            Self::Empty | Self::Kept(_) => None,
            Self::Incoming { upload, .. } => upload.held.get().cloned(),
        }
    }

    /// Hold it until the upstream wants it.
    pub(super) fn hold(&mut self, until: Held, wanted: Arc<Wanted>) {
        if let Self::Incoming { held, upload, .. } = self {
            *held = Some(until);
            let _held_already = upload.held.set(wanted);
        }
    }
}

/// Note that something has come; the time.
pub(super) fn touch(tracked: &Tracked, worker: &Worker) -> Instant {
    let now = worker.clock.tick();
    tracked.touch(now);
    now
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let (upload, held, tracked, worker) = match self.get_mut() {
            Self::Empty => return Poll::Ready(None),
            Self::Kept(kept) => return Pin::new(kept).poll_frame(cx),
            Self::Incoming {
                upload,
                held,
                tracked,
                worker,
            } => (upload, held, tracked, worker),
        };
        if let Some(until) = held {
            if let Err(unwanted) = std::task::ready!(until.poll(cx)) {
                return Poll::Ready(Some(Err(unwanted.into())));
            }
            *held = None;
            tracked.want_body();
        }
        let was_received = upload.received.get();
        let polled = upload.poll_taken(|| touch(tracked, worker), cx);
        if upload.received.get() && !was_received {
            // The route's timeout counts from here.
            tracked.wake();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Incoming { upload, .. } => upload.is_end_stream(),
            Self::Kept(kept) => kept.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Incoming { upload, .. } => upload.size_hint(),
            Self::Kept(kept) => kept.size_hint(),
        }
    }
}

/// The body of a response on its way downstream. Ends the record of its request when dropped.
#[derive(Debug)]
pub struct ResponseBody {
    kept: Option<Kept>,
    /// What comes in place of a body, with the record: what is asked for was granted.
    tunnel: Option<Box<Tunnel>>,
}

#[derive(Debug)]
struct Kept {
    kind: Kind,
    outcome: Outcome,
    served: InRequest,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// Of our own making, or nothing.
    Local(Option<Bytes>),
    /// What an upstream sends.
    Upstream {
        download: Download,
        /// The request's own body, which may still be on its way.
        upload: Option<Rc<Upload>>,
    },
}

impl Kind {
    /// How much there is of it, as far as that is known.
    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Local(body) => SizeHint::with_exact(body.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Upstream { download, .. } => download.incoming.size_hint(),
        }
    }
}

/// A response body that an upstream sends, with what must end with it.
#[derive(Debug)]
pub struct Download {
    /// What the codec reads.
    pub incoming: Source,
    /// The connection it comes from, given back when the exchange is complete.
    pub lease: Option<Lease>,
    /// How long it may take, where that is limited.
    pub limits: Option<Box<Limits>>,
    /// Keeps the request counted.
    pub active: ActiveRequest,
}

/// A connection in use, or a part of one.
#[derive(Debug)]
pub enum Lease {
    /// A connection of HTTP/1.
    Http1 {
        /// The connection.
        connection: PooledConnection,
        /// Where it belongs.
        pool: Rc<Pool>,
    },
    /// A stream of HTTP/2.
    Http2(StreamLease),
    /// A connection or stream that has switched protocols.
    Switched(Box<Switched>),
}

impl ResponseBody {
    /// The body of an answer, which ends the record.
    pub(super) fn new(kind: Kind, outcome: Outcome, served: InRequest) -> Self {
        let kept = Some(Kept {
            kind,
            outcome,
            served,
        });
        Self { kept, tunnel: None }
    }

    /// No body, but bytes both ways.
    pub(super) fn switched(tunnel: Box<Tunnel>) -> Self {
        Self {
            kept: None,
            tunnel: Some(tunnel),
        }
    }

    /// What comes in its place, where something does.
    pub(super) fn take_tunnel(&mut self) -> Option<Box<Tunnel>> {
        self.tunnel.take()
    }
}

impl Download {
    /// Ready when a timeout is over.
    fn poll_cut(
        &mut self,
        upload: Option<&Rc<Upload>>,
        served: &InRequest,
        cx: &mut Context<'_>,
    ) -> Poll<Cut> {
        let (tracked, worker) = (&served.tracked, served.worker());
        if let Some(limits) = &mut self.limits {
            let is_received = |cx: &mut Context<'_>| {
                let ahead = upload.map(|u| u.read_ahead(|| touch(tracked, worker), cx));
                ahead.is_none_or(|ahead| ahead == Ahead::Received)
            };
            let over = limits.poll_end(cx, worker.clock.now(), is_received);
            if over.is_ready() {
                return over;
            }
        }
        if tracked.kicked() == Some(Kick::Idle) {
            return Poll::Ready(Cut::Idle);
        }
        Poll::Pending
    }

    fn poll(
        &mut self,
        upload: Option<&Rc<Upload>>,
        served: &InRequest,
        cx: &mut Context<'_>,
    ) -> Polled {
        if let Poll::Ready(cut) = self.poll_cut(upload, served, cx) {
            return Poll::Ready(Some(Err(cut.into())));
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        let Some(idle) = self.limits.as_mut().and_then(|l| l.idle.as_mut()) else {
            return polled;
        };
        if polled.is_ready() {
            idle.came();
            return polled;
        }
        let complete = upload.is_none_or(|upload| upload.complete.get());
        let over = idle.poll(cx, complete, served.worker().clock.now());
        over.map(|()| Some(Err(Cut::Resting.into())))
    }

    /// The response is complete: the connection may serve another request, unless the request is
    /// still being sent on it.
    fn complete(&mut self, upload: Option<&Rc<Upload>>, worker: &Worker) {
        self.limits = None;
        if let Some(Lease::Http1 { connection, pool }) = self.lease.take()
            && upload.is_none_or(|upload| upload.complete.get())
        {
            pool.put(connection, worker.clock.now());
        }
    }
}

/// What a body is asked for.
pub type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

impl Kept {
    /// It will never be whole: the record says why, and nothing of it is used again.
    fn broke_off(&mut self, error: &BodyError) {
        let Kind::Upstream { download, upload } = &mut self.kind else {
            return;
        };
        let failed = upload.as_ref().and_then(|upload| upload.failed.get());
        let cut = error.downcast_ref::<Cut>();
        if let Some(cut) = cut {
            download.active.was_cut(*cut);
        }
        let (flag, details) = match (cut, failed) {
            (Some(Cut::Timeout), _) => (Flags::UT, "response_timeout"),
            (Some(Cut::Duration), _) => (Flags::empty(), "max_duration_timeout"),
            (Some(Cut::Idle), _) => (Flags::SI, "stream_idle_timeout"),
            (Some(Cut::Resting), _) => (Flags::UT, "upstream_per_try_idle_timeout"),
            (None, Some(failed)) => {
                let reply = failed.failure().reply();
                (reply.flags, reply.details)
            }
            (None, None) if was_reset(error) => (
                Flags::UR,
                "upstream_reset_after_response_started{remote_reset}",
            ),
            (None, None) => (
                Flags::UC,
                "upstream_reset_after_response_started{connection_termination}",
            ),
        };
        self.outcome.flags |= flag;
        self.outcome.details = Cow::Borrowed(details);
        self.served.tracked.break_off();
        download.lease = None;
    }
}

/// Whether the peer reset the stream of a body.
fn was_reset(error: &BodyError) -> bool {
    let error = error.downcast_ref::<h2::Error>();
    error.is_some_and(|error| error.is_reset() && error.is_remote())
}

impl Interrupted for RequestBody {
    fn poll_interrupt(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Interrupted for ResponseBody {
    fn poll_interrupt(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(this) = &mut self.get_mut().kept else {
            return Poll::Pending;
        };
        let Kind::Upstream { download, upload } = &mut this.kind else {
            return Poll::Pending;
        };
        let cut = std::task::ready!(download.poll_cut(upload.as_ref(), &this.served, cx));
        this.broke_off(&cut.into());
        Poll::Ready(())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let Some(this) = &mut self.get_mut().kept else {
            return Poll::Ready(None);
        };
        let (download, upload) = match &mut this.kind {
            Kind::Local(body) => {
                let data = body.take();
                this.outcome.bytes_sent += data.as_ref().map_or(0, |d| d.len() as u64);
                return Poll::Ready(data.map(|d| Ok(Frame::data(d))));
            }
            Kind::Upstream { download, upload } => (download, upload.as_ref()),
        };
        let polled = download.poll(upload, &this.served, cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.outcome.bytes_sent += data.len() as u64;
                }
                let worker = this.served.worker();
                this.served.tracked.touch(worker.clock.now());
                if frame.is_trailers() || download.incoming.is_end_stream() {
                    download.complete(upload, this.served.worker());
                }
            }
            Poll::Ready(None) => download.complete(upload, this.served.worker()),
            Poll::Ready(Some(Err(error))) => this.broke_off(error),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let Some(kept) = &self.kept else {
            return true;
        };
        match &kept.kind {
            Kind::Local(body) => body.is_none(),
            Kind::Upstream { download, .. } => download.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let Some(kept) = &self.kept else {
            return SizeHint::with_exact(0);
        };
        kept.kind.size_hint()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Kind::Upstream { download, upload } = &mut self.kind {
            if let Some(upload) = upload {
                self.outcome.bytes_received = upload.bytes.get();
                if let Some(wanted) = upload.held.get() {
                    wanted.is_over();
                }
            }
            if download.incoming.is_end_stream() {
                // No frame was asked for: an answer without a body.
                download.complete(upload.as_ref(), self.served.worker());
            } else if download.lease.is_some() {
                let (flag, details) = match self.served.tracked.kicked() {
                    Some(Kick::Idle) => (Flags::SI, "stream_idle_timeout"),
                    _ => (Flags::DC, "downstream_remote_disconnect"),
                };
                self.outcome.flags |= flag;
                self.outcome.details = Cow::Borrowed(details);
            }
        }
    }
}

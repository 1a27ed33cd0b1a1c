//! A request that may have to be sent once more, with its body from the start.
//!
//! An upstream that refuses a stream, or goes away before it has looked at it, has processed
//! nothing: the request may be sent again (RFC 9113 §8.7). One that closes a connection which has
//! rested, without a word, may have: only what is idempotent is sent again (RFC 9110 §9.2.2,
//! RFC 9112 §9.3.1).

use crate::http::backlog::Backlog;
use crate::http::body::{BodyError, Polled, RequestBody};
use crate::http::codec::pump::Interrupted;
use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Take a request, and leave a copy of it where it is of a kind that may be sent again though it
/// was written; else nothing is left. True: there is a copy.
pub fn take(request: &mut Request<RequestBody>) -> (Request<RequestBody>, bool) {
    let nothing = Request::new(RequestBody::Empty);
    let (head, body) = std::mem::replace(request, nothing).into_parts();
    let body = match body {
        body if !head.method.is_idempotent() => return (Request::from_parts(head, body), false),
        RequestBody::Empty => (RequestBody::Empty, RequestBody::Empty),
        // Whether its upstream wants it is asked for once.
        body @ RequestBody::Incoming { held: Some(_), .. } => {
            return (Request::from_parts(head, body), false);
        }
        body @ RequestBody::Incoming { held: None, .. } => {
            let body = ReplayBody::new(body);
            (RequestBody::Kept(body.clone()), RequestBody::Kept(body))
        }
        RequestBody::Kept(body) => (RequestBody::Kept(body.clone()), RequestBody::Kept(body)),
    };
    *request = Request::from_parts(head.clone(), body.0);
    (Request::from_parts(head, body.1), true)
}

/// It will not have to be sent again.
pub fn forget(copy: &Request<RequestBody>) {
    if let RequestBody::Kept(body) = copy.body() {
        body.forget();
    }
}

/// Begin again with a copy, once. False: what was sent of its body is not there any more.
pub fn rewind(copy: &Request<RequestBody>) -> bool {
    match copy.body() {
        RequestBody::Kept(body) => body.rewind(),
        RequestBody::Empty | RequestBody::Incoming { .. } => true,
    }
}

/// Most bytes of a body that are kept.
const MOST: usize = 64 * 1024;

/// A body of which two hold: who sends it, and who may have it sent again.
#[derive(Debug, Clone)]
pub struct ReplayBody(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    body: RequestBody,
    /// What was taken of it; `None` = it cannot be sent again.
    kept: Option<Backlog>,
    /// What is to be sent again, before the rest.
    again: Backlog,
}

impl ReplayBody {
    /// A body of which nothing was sent.
    pub fn new(body: RequestBody) -> Self {
        Self(Rc::new(RefCell::new(State {
            body,
            kept: Some(Backlog::default()),
            again: Backlog::default(),
        })))
    }

    /// It will not have to be sent again.
    pub fn forget(&self) {
        self.0.borrow_mut().kept = None;
    }

    /// Begin again, once. False: what was sent is not there any more.
    pub fn rewind(&self) -> bool {
        let mut state = self.0.borrow_mut();
        match state.kept.take() {
            Some(kept) => {
                state.again = kept;
                state.body.forget_upstream();
                true
            }
            None => false,
        }
    }
}

impl State {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(kept) = &mut self.kept else {
            return;
        };
        if let Some(data) = frame.data_ref() {
            kept.push(Frame::data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            kept.push(Frame::trailers(trailers.clone()));
        }
        if kept.bytes() > MOST {
            self.kept = None;
        }
    }
}

impl Body for ReplayBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let mut state = self.0.borrow_mut();
        if let Some(frame) = state.again.pop() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let polled = ready!(Pin::new(&mut state.body).poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => state.keep(frame),
            Some(Err(_broke_off)) => state.kept = None,
            None => {}
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        let state = self.0.borrow();
        state.again.is_empty() && state.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.0.borrow();
        let again = state.again.bytes() as u64;
        let rest = state.body.size_hint().exact();
        rest.map_or_else(SizeHint::default, |rest| SizeHint::with_exact(again + rest))
    }
}

impl Interrupted for ReplayBody {
    fn poll_interrupt(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0.borrow_mut().body).poll_interrupt(cx)
    }
}

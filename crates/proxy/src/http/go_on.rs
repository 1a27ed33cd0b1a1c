//! `Expect: 100-continue` that the upstream decides (`proxy_100_continue`): the body of a request is
//! held until the upstream wants it.
//!
//! The codec of the downstream says 100 when the body is first asked for, so that is what waits;
//! whichever codec the upstream's 100 comes by ends the wait. An
//! upstream that knows nothing of 100 says nothing: it is sent the body after a while, as a client
//! would do by itself.

use futures_util::task::AtomicWaker;
use http::{Request, StatusCode};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// How long an upstream may say nothing: clients wait for a second (curl), or a few.
const PATIENCE: Duration = Duration::from_secs(1);

/// Holds a body.
#[derive(Debug)]
pub struct Held {
    wanted: Arc<Wanted>,
    patience: Pin<Box<Sleep>>,
}

/// The body will never be wanted: its request was answered without it.
#[derive(Debug, thiserror::Error)]
#[error("the upstream answered without having asked for the body")]
pub struct Unwanted;

const UNKNOWN: u8 = 0;
const WANTED: u8 = 1;
const ANSWERED: u8 = 2;
const UNWANTED: u8 = 3;

/// Whether the upstream wants a body that is held.
#[derive(Debug, Default)]
pub struct Wanted {
    state: AtomicU8,
    waker: AtomicWaker,
}

impl Wanted {
    /// The upstream has said 100.
    pub fn is_wanted(&self) {
        self.go(UNKNOWN, WANTED);
    }

    /// The request is answered, and the answer is on its way: nothing more is asked for.
    pub fn is_answered(&self) {
        self.go(UNKNOWN, ANSWERED);
    }

    /// All of the answer is given.
    pub fn is_over(&self) {
        self.go(ANSWERED, UNWANTED);
    }

    fn go(&self, from: u8, to: u8) {
        let order = Ordering::Relaxed;
        if self.state.compare_exchange(from, to, order, order).is_ok() {
            self.waker.wake();
        }
    }
}

impl Held {
    /// Hold the body of a request until its upstream says 100: here where that speaks HTTP/1, and by
    /// what is returned else.
    pub fn until_wanted<B>(request: &mut Request<B>) -> (Self, Arc<Wanted>) {
        let wanted = Arc::new(Wanted::default());
        let told = Arc::clone(&wanted);
        hyper::ext::on_informational(request, move |response| {
            if response.status() == StatusCode::CONTINUE {
                told.is_wanted();
            }
        });
        let held = Self {
            wanted: Arc::clone(&wanted),
            patience: Box::pin(sleep(PATIENCE)),
        };
        (held, wanted)
    }

    /// Ready when the body is wanted, or nothing was said of it for long enough.
    ///
    /// # Errors
    /// It will never be.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unwanted>> {
        self.wanted.waker.register(cx.waker());
        match self.wanted.state.load(Ordering::Relaxed) {
            WANTED => Poll::Ready(Ok(())),
            ANSWERED => Poll::Pending,
            UNWANTED => Poll::Ready(Err(Unwanted)),
            _ => self.patience.as_mut().poll(cx).map(Ok),
        }
    }
}

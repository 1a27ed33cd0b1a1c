//! PING on a connection of HTTP/2: whether the peer is still there.

use crate::model::Keepalive as Settings;
use h2::{Ping, PingPong};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// Sends a PING after each interval and waits for its answer.
#[derive(Debug)]
pub struct Keepalive {
    settings: Settings,
    pings: PingPong,
    /// The end of the interval, or of the wait.
    timer: Pin<Box<Sleep>>,
    waiting: bool,
    rng: fastrand::Rng,
}

impl Keepalive {
    /// Of a connection that was just made.
    pub fn new(settings: Settings, pings: PingPong) -> Self {
        let mut rng = fastrand::Rng::new();
        let timer = Box::pin(sleep(interval(&settings, &mut rng)));
        Self {
            settings,
            pings,
            timer,
            waiting: false,
            rng,
        }
    }

    /// Ready when the peer did not answer in time.
    pub fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.waiting {
                match self.pings.poll_pong(cx) {
                    Poll::Ready(Ok(_pong)) => {
                        self.waiting = false;
                        let wait = interval(&self.settings, &mut self.rng);
                        self.timer.as_mut().reset(Instant::now() + wait);
                    }
                    // The connection ends for a reason of its own.
                    Poll::Ready(Err(_ended)) => return Poll::Pending,
                    Poll::Pending => return self.timer.as_mut().poll(cx),
                }
            }
            std::task::ready!(self.timer.as_mut().poll(cx));
            if self.pings.send_ping(Ping::opaque()).is_err() {
                return Poll::Pending;
            }
            self.waiting = true;
            let timeout = self.settings.timeout;
            self.timer.as_mut().reset(Instant::now() + timeout);
        }
    }
}

/// The time to the next PING; connections that were made together do not send theirs together.
fn interval(settings: &Settings, rng: &mut fastrand::Rng) -> Duration {
    let most = settings
        .interval
        .mul_f64(f64::from(settings.jitter_percent) / 100.0);
    settings.interval + most.mul_f64(rng.f64())
}

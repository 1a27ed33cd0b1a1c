//! The one timer of a request, for whichever of its limits comes first.

use crate::http::body::Cut;
use crate::route::Deadline;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// Which limit is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The whole request has not come in time.
    Request,
    /// The response has not.
    Response,
    /// Both together took too long.
    Stream,
}

/// The limits of one request. Without any it makes no timer.
#[derive(Debug)]
pub(super) struct Timer {
    started: Instant,
    /// What the route has.
    deadline: Deadline,
    /// How long the request may take to come in.
    request: Option<Duration>,
    complete: bool,
    armed: Option<(Over, Pin<Box<Sleep>>)>,
}

impl Timer {
    /// The limits of a request whose head has come now.
    pub(super) fn new(
        now: std::time::Instant,
        deadline: Deadline,
        request: Option<Duration>,
    ) -> Self {
        Self {
            started: Instant::from_std(now),
            deadline,
            request,
            complete: false,
            armed: None,
        }
    }

    /// Ready when one of the limits is over. `complete`: the whole request has come.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: std::time::Instant,
        complete: bool,
    ) -> Poll<Over> {
        if complete != self.complete {
            self.complete = true;
            self.request = None;
            self.arm(self.deadline.response.map(|response| now + response));
        } else if self.armed.is_none() {
            self.arm(None);
        }
        match &mut self.armed {
            Some((over, sleep)) => sleep.as_mut().poll(cx).map(|()| *over),
            None => Poll::Pending,
        }
    }

    /// Wait for what comes first.
    fn arm(&mut self, response: Option<std::time::Instant>) {
        let after = |limit: Option<Duration>| limit.and_then(|l| self.started.checked_add(l));
        let limits = [
            (Over::Request, after(self.request)),
            (Over::Response, response.map(Instant::from_std)),
            (Over::Stream, after(self.deadline.stream)),
        ];
        let limits = limits.into_iter();
        let first = limits
            .filter_map(|(over, at)| at.map(|at| (over, at)))
            .min_by_key(|(_, at)| *at);
        self.armed = first.map(|(over, at)| (over, Box::pin(sleep_until(at))));
    }

    /// What is left of it once the response has begun: nothing limits the request any more.
    pub(super) fn of_response(mut self) -> (Option<Pin<Box<Sleep>>>, Cut) {
        if matches!(self.armed, Some((Over::Request, _)) | None) {
            self.request = None;
            self.arm(None);
        }
        match self.armed {
            Some((Over::Stream, sleep)) => (Some(sleep), Cut::Duration),
            Some((Over::Request | Over::Response, sleep)) => (Some(sleep), Cut::Timeout),
            None => (None, Cut::Timeout),
        }
    }

    /// What is left of it once bytes go both ways: the answer, which the route's timeout is for,
    /// has come.
    pub(super) fn of_tunnel(mut self) -> Option<Pin<Box<Sleep>>> {
        if !matches!(self.armed, Some((Over::Stream, _))) {
            self.request = None;
            self.arm(None);
        }
        self.armed.map(|(_, sleep)| sleep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    const MS: Duration = Duration::from_millis(1);

    fn timer(response: Option<u32>, stream: Option<u32>, request: Option<u32>) -> Timer {
        let ms = |limit: Option<u32>| limit.map(|ms| ms * MS);
        let deadline = Deadline {
            response: ms(response),
            stream: ms(stream),
        };
        Timer::new(Instant::now().into_std(), deadline, ms(request))
    }

    async fn first(timer: &mut Timer, complete: bool) -> Over {
        poll_fn(|cx| timer.poll(cx, Instant::now().into_std(), complete)).await
    }

    #[tokio::test]
    async fn the_limit_that_comes_first_ends_a_request() {
        let over = first(&mut timer(Some(10), Some(50), Some(30)), false).await;
        assert_eq!(over, Over::Request);
        let over = first(&mut timer(Some(10), Some(20), Some(30)), false).await;
        assert_eq!(over, Over::Stream);
        let over = first(&mut timer(Some(10), Some(20), Some(30)), true).await;
        assert_eq!(over, Over::Response);
        let over = first(&mut timer(Some(30), Some(20), Some(10)), true).await;
        assert_eq!(over, Over::Stream);
    }

    #[tokio::test]
    async fn the_response_is_timed_from_the_end_of_the_request() {
        let mut timer = timer(Some(100), None, None);
        let began = Instant::now();
        let waiting = first(&mut timer, false);
        assert!(tokio::time::timeout(20 * MS, waiting).await.is_err());
        assert_eq!(first(&mut timer, true).await, Over::Response);
        assert!(began.elapsed() >= 120 * MS, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn without_limits_there_is_no_timer_and_a_response_is_free_of_that_of_its_request() {
        let mut none = timer(None, None, None);
        assert!(
            tokio::time::timeout(MS, first(&mut none, true))
                .await
                .is_err()
        );
        assert!(none.armed.is_none());
        let mut early = timer(Some(10), None, Some(20));
        assert!(
            tokio::time::timeout(MS, first(&mut early, false))
                .await
                .is_err()
        );
        assert!(early.of_response().0.is_none());
        let (left, cut) = timer(None, Some(5), None).of_response();
        assert!(left.is_some() && cut == Cut::Duration);
    }
}

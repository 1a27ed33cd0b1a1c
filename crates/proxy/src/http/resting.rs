//! How long a response may take that has begun, and rest (`per_try_idle_timeout`).

use crate::http::cut::Cut;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::{Sleep, sleep_until};

/// How long a response may take, of which the head has come.
#[derive(Debug)]
pub struct Limits {
    /// When it has to be complete.
    end: End,
    /// How long it may rest, where that is limited.
    pub idle: Option<Resting>,
}

impl Limits {
    /// Those of a response, where it has any.
    pub fn of(end: End, idle: Option<Duration>) -> Option<Box<Self>> {
        let is_limited = end.at.is_some() || end.after_request.is_some() || idle.is_some();
        let idle = idle.map(Resting::at_most);
        is_limited.then(|| Box::new(Self { end, idle }))
    }

    /// Ready when the time is over. `is_received` says whether the whole request has come.
    pub fn poll_end(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        is_received: impl FnOnce(&mut Context<'_>) -> bool,
    ) -> Poll<Cut> {
        let end = &mut self.end;
        if end.after_request.is_some() && is_received(cx) {
            end.request_has_come(now);
        }
        match &mut end.at {
            Some(at) => at.as_mut().poll(cx).map(|()| end.cut),
            None => Poll::Pending,
        }
    }
}

/// When a response has to be complete.
#[derive(Debug)]
pub struct End {
    /// When the time of the route or of the stream is over.
    pub at: Option<Pin<Box<Sleep>>>,
    /// And what of it that is.
    pub cut: Cut,
    /// The time of the route that begins with the end of the request, which has yet to come.
    pub after_request: Option<Duration>,
}

impl End {
    fn request_has_come(&mut self, now: Instant) {
        let limit = self.after_request.take();
        let Some(over) = limit.and_then(|limit| now.checked_add(limit)) else {
            return;
        };
        if self
            .at
            .as_ref()
            .is_none_or(|at| over < at.deadline().into_std())
        {
            self.at = Some(Box::pin(sleep_until(over.into())));
            self.cut = Cut::Timeout;
        }
    }
}

/// Times the pauses of a response, of which the head has come.
#[derive(Debug)]
pub struct Resting {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Resting {
    /// Pauses of this length are too long.
    pub fn at_most(limit: Duration) -> Self {
        Self { limit, sleep: None }
    }

    /// Something has come.
    pub fn came(&mut self) {
        self.sleep = None;
    }

    /// Ready when nothing has come for too long since this was first asked. It does not count
    /// while the request itself is on its way.
    pub fn poll(&mut self, cx: &mut Context<'_>, complete: bool, now: Instant) -> Poll<()> {
        if !complete {
            return Poll::Pending;
        }
        let Some(end) = now.checked_add(self.limit) else {
            return Poll::Pending;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(end.into())));
        sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    /// A thread of a busy machine may sleep for a good part of it longer than it was to.
    const LIMIT: Duration = Duration::from_secs(1);

    async fn rests(resting: &mut Resting, complete: bool, within: Duration) -> bool {
        let over = poll_fn(|cx| resting.poll(cx, complete, Instant::now()));
        tokio::time::timeout(within, over).await.is_ok()
    }

    #[tokio::test]
    async fn a_pause_is_timed_from_what_came_last() {
        let mut resting = Resting::at_most(LIMIT);
        for _ in 0..4 {
            assert!(!rests(&mut resting, true, LIMIT / 3).await);
            resting.came();
        }
        let began = Instant::now();
        assert!(rests(&mut resting, true, 100 * LIMIT).await);
        assert!(began.elapsed() >= LIMIT);
    }

    #[tokio::test]
    async fn the_end_of_a_request_begins_the_time_of_its_route_but_never_lengthens_another() {
        for (at, expected) in [
            (None, Cut::Timeout),
            (Some(10 * LIMIT), Cut::Timeout),
            (Some(LIMIT / 2), Cut::Duration),
        ] {
            let began = Instant::now();
            let end = End {
                at: at.map(|at| Box::pin(sleep_until((began + at).into()))),
                cut: Cut::Duration,
                after_request: Some(LIMIT),
            };
            let mut limits = Limits::of(end, None).unwrap();
            let over = poll_fn(|cx| limits.poll_end(cx, began, |_| false));
            assert!(tokio::time::timeout(LIMIT / 4, over).await.is_err());
            let cut = poll_fn(|cx| limits.poll_end(cx, began, |_| true)).await;
            assert_eq!(cut, expected);
            assert!(began.elapsed() >= at.unwrap_or(LIMIT).min(LIMIT));
        }
    }

    #[tokio::test]
    async fn a_request_that_is_still_coming_lets_its_response_rest() {
        let mut resting = Resting::at_most(LIMIT);
        assert!(!rests(&mut resting, false, 2 * LIMIT).await);
        assert!(!rests(&mut resting, true, LIMIT / 3).await);
    }
}

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
    /// When the time of the route or of the stream is over.
    deadline: Option<Pin<Box<Sleep>>>,
    /// And what of it that is.
    cut: Cut,
    /// How long it may rest, where that is limited.
    pub idle: Option<Resting>,
}

impl Limits {
    /// Those of a response, where it has any.
    pub fn of(
        (deadline, cut): (Option<Pin<Box<Sleep>>>, Cut),
        idle: Option<Duration>,
    ) -> Option<Box<Self>> {
        let is_limited = deadline.is_some() || idle.is_some();
        let idle = idle.map(Resting::at_most);
        is_limited.then(|| {
            Box::new(Self {
                deadline,
                cut,
                idle,
            })
        })
    }

    /// Ready when the time is over.
    pub fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Cut> {
        match &mut self.deadline {
            Some(deadline) => deadline.as_mut().poll(cx).map(|()| self.cut),
            None => Poll::Pending,
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
    async fn a_request_that_is_still_coming_lets_its_response_rest() {
        let mut resting = Resting::at_most(LIMIT);
        assert!(!rests(&mut resting, false, 2 * LIMIT).await);
        assert!(!rests(&mut resting, true, LIMIT / 3).await);
    }
}

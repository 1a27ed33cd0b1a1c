//! The one timer of a request, for whichever of its limits comes first.

use crate::http::cut::Cut;
use crate::http::resting::End;
use crate::http::upload::Ahead;
use crate::route::Deadline;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// Which limit is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The whole request has not come in time.
    Request,
    /// The response has not.
    Response,
    /// It has not begun in the time of one attempt.
    Attempt,
    /// Nothing of it has come in the time in which an attempt may idle.
    AttemptIdle,
    /// Both together took too long.
    Stream,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// How much of the request has come.
    pub(super) ahead: Ahead,
    /// All of it, and it was given to a connection.
    pub(super) given: bool,
}

/// The limits of one request. Without any it makes no timer.
#[derive(Debug)]
pub(super) struct Timer {
    started: Instant,
    /// What the route has.
    deadline: Deadline,
    /// How long the request may take to come in.
    request: Option<Duration>,
    progress: Progress,
    /// When the whole request had come.
    complete_at: Option<Instant>,
    /// When it had been given to a connection as well.
    given_at: Option<Instant>,
    /// When to see whether the upstream still takes what comes.
    look_at: Option<Instant>,
    /// What comes first; nothing is over where it is only to look.
    armed: Option<(Option<Over>, Pin<Box<Sleep>>)>,
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
            progress: Progress {
                ahead: Ahead::Coming,
                given: false,
            },
            complete_at: None,
            given_at: None,
            look_at: None,
            armed: None,
        }
    }

    /// Ready when one of the limits is over. `progress` is of now.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: std::time::Instant,
        progress: Progress,
    ) -> Poll<Over> {
        let now = Instant::from_std(now);
        if progress != self.progress || self.armed.is_none() {
            self.progress = progress;
            if progress.ahead == Ahead::Received {
                self.request = None;
                self.complete_at.get_or_insert(now);
            }
            if progress.given {
                self.given_at.get_or_insert(now);
            }
            self.look_again(now);
        }
        while let Some((over, sleep)) = &mut self.armed {
            ready!(sleep.as_mut().poll(cx));
            match *over {
                Some(over) => return Poll::Ready(over),
                None => self.look_again(Instant::now()),
            }
        }
        Poll::Pending
    }

    /// Look again once the time of a response has passed: what takes the body does not say so.
    fn look_again(&mut self, now: Instant) {
        let response = self.deadline.response;
        self.look_at = match self.progress.ahead {
            Ahead::Coming => response.and_then(|response| now.checked_add(response)),
            Ahead::Full(_) | Ahead::Received => None,
        };
        self.arm();
    }

    /// Wait for what comes first.
    fn arm(&mut self) {
        let after = |since: Option<Instant>, limit: Option<Duration>| {
            since.zip(limit).and_then(|(since, l)| since.checked_add(l))
        };
        let (begun, given) = (Some(self.started), self.given_at);
        let to_respond = match self.progress.ahead {
            Ahead::Coming => None,
            // Of an upstream that takes no more, a response is due as well.
            Ahead::Full(since) => Some(Instant::from_std(since)),
            Ahead::Received => self.complete_at,
        };
        let limits = [
            (Some(Over::Request), after(begun, self.request)),
            (
                Some(Over::Response),
                after(to_respond, self.deadline.response),
            ),
            (Some(Over::Attempt), after(given, self.deadline.attempt)),
            (
                Some(Over::AttemptIdle),
                after(given, self.deadline.attempt_idle),
            ),
            (Some(Over::Stream), after(begun, self.deadline.stream)),
            (None, self.look_at),
        ];
        let limits = limits.into_iter();
        let first = limits
            .filter_map(|(over, at)| at.map(|at| (over, at)))
            .min_by_key(|(_, at)| *at);
        self.armed = match (self.armed.take(), first) {
            // The same as before.
            (Some((over, sleep)), Some((first, at))) if over == first && sleep.deadline() == at => {
                Some((over, sleep))
            }
            (_, first) => first.map(|(over, at)| (over, Box::pin(sleep_until(at)))),
        };
    }

    /// Of what was before the response began nothing is left.
    fn begin_response(&mut self) {
        self.request = None;
        self.look_at = None;
        if self.complete_at.is_none() {
            self.progress.ahead = Ahead::Coming;
        }
        self.deadline.attempt = None;
        self.deadline.attempt_idle = None;
    }

    /// What is left of it once the response has begun: nothing limits the request any more.
    pub(super) fn of_response(mut self) -> End {
        self.begin_response();
        self.arm();
        let is_coming = self.complete_at.is_none();
        let (at, cut) = match self.armed {
            Some((Some(Over::Stream), sleep)) => (Some(sleep), Cut::Duration),
            Some((_, sleep)) => (Some(sleep), Cut::Timeout),
            None => (None, Cut::Timeout),
        };
        End {
            at,
            cut,
            after_request: self.deadline.response.filter(|_| is_coming),
        }
    }

    /// What is left of it once bytes go both ways: the answer, which the route's timeout is for,
    /// has come.
    pub(super) fn of_tunnel(mut self) -> Option<Pin<Box<Sleep>>> {
        self.begin_response();
        self.deadline.response = None;
        self.arm();
        self.armed.map(|(_, sleep)| sleep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    const MS: Duration = Duration::from_millis(1);
    const COMING: Progress = Progress {
        ahead: Ahead::Coming,
        given: false,
    };
    const COMPLETE: Progress = Progress {
        ahead: Ahead::Received,
        given: false,
    };
    const GIVEN: Progress = Progress {
        ahead: Ahead::Received,
        given: true,
    };

    fn timer(response: Option<u32>, stream: Option<u32>, request: Option<u32>) -> Timer {
        let deadline = Deadline {
            response: ms(response),
            stream: ms(stream),
            ..Deadline::default()
        };
        Timer::new(Instant::now().into_std(), deadline, ms(request))
    }

    fn ms(limit: Option<u32>) -> Option<Duration> {
        limit.map(|ms| ms * MS)
    }

    async fn first(timer: &mut Timer, progress: Progress) -> Over {
        poll_fn(|cx| timer.poll(cx, Instant::now().into_std(), progress)).await
    }

    async fn is_pending(timer: &mut Timer, progress: Progress, time: Duration) -> bool {
        let waiting = first(timer, progress);
        tokio::time::timeout(time, waiting).await.is_err()
    }

    #[tokio::test]
    async fn the_limit_that_comes_first_ends_a_request() {
        // Far apart: a thread of a busy machine may not run for a while.
        let over = first(&mut timer(Some(400), Some(2000), Some(1200)), COMING).await;
        assert_eq!(over, Over::Request);
        let over = first(&mut timer(Some(400), Some(800), Some(1200)), COMING).await;
        assert_eq!(over, Over::Stream);
        let over = first(&mut timer(Some(400), Some(800), Some(1200)), COMPLETE).await;
        assert_eq!(over, Over::Response);
        let over = first(&mut timer(Some(1200), Some(800), Some(400)), COMPLETE).await;
        assert_eq!(over, Over::Stream);
    }

    #[tokio::test]
    async fn the_response_is_timed_from_the_end_of_the_request() {
        let mut timer = timer(Some(100), None, None);
        let began = Instant::now();
        assert!(is_pending(&mut timer, COMING, 20 * MS).await);
        assert_eq!(first(&mut timer, COMPLETE).await, Over::Response);
        assert!(began.elapsed() >= 120 * MS, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn an_attempt_is_timed_from_when_its_connection_has_the_whole_request() {
        for (attempt, idle, over) in [
            (Some(100), None, Over::Attempt),
            (None, Some(100), Over::AttemptIdle),
            (Some(100), Some(200), Over::Attempt),
            (Some(200), Some(100), Over::AttemptIdle),
        ] {
            let deadline = Deadline {
                response: ms(Some(5000)),
                attempt: ms(attempt),
                attempt_idle: ms(idle),
                ..Deadline::default()
            };
            let mut timer = Timer::new(Instant::now().into_std(), deadline, None);
            let began = Instant::now();
            assert!(is_pending(&mut timer, COMING, 20 * MS).await);
            assert!(is_pending(&mut timer, COMPLETE, 20 * MS).await);
            assert_eq!(first(&mut timer, GIVEN).await, over);
            assert!(began.elapsed() >= 140 * MS, "{:?}", began.elapsed());
            // Nothing of an attempt limits a response that has begun.
            let end = timer.of_response();
            let left = end.at.unwrap().deadline() - began;
            assert!(left >= 5000 * MS && end.cut == Cut::Timeout, "{left:?}");
            assert_eq!(end.after_request, None);
        }
    }

    #[tokio::test]
    async fn without_limits_there_is_no_timer_and_a_response_is_free_of_that_of_its_request() {
        let mut none = timer(None, None, None);
        assert!(is_pending(&mut none, GIVEN, MS).await);
        assert!(none.armed.is_none());
        let mut early = timer(Some(10), None, Some(2000));
        assert!(is_pending(&mut early, COMING, MS).await);
        let end = early.of_response();
        assert!(end.at.is_none() && end.after_request == Some(10 * MS));
        let end = timer(None, Some(5), None).of_response();
        assert!(end.at.is_some() && end.cut == Cut::Duration);
    }
}

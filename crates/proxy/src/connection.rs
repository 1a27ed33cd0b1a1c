//! One downstream connection, as its worker keeps track of it.
//!
//! Timeouts of minutes need no timer each: a connection notes when it last moved a byte, and the
//! worker's coarse tick looks for those that have been still for too long. The same way a drain
//! reaches connections at its end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// Why a connection is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kick {
    /// Nothing moved for longer than its timeout allows.
    Idle,
    /// A head is not whole though `request_headers_timeout` is over.
    SlowHead,
    /// It has lived as long as it may.
    MaxDuration,
    /// The drain time is over.
    DrainEnd,
}

/// How long half of a tunnel may rest: Envoy's default for a TCP stream (tcp_proxy, idle_timeout).
const HALF_CLOSED_IDLE: Duration = Duration::from_secs(3600);

/// The mutable state of a connection, shared by its task and the worker's tick.
#[derive(Debug)]
pub struct Tracked {
    last_activity: Cell<Instant>,
    /// Timeout between requests; for TCP, of the connection.
    idle_timeout: Option<Duration>,
    /// Timeout within a request.
    stream_idle_timeout: Cell<Option<Duration>>,
    /// What that is of all requests but the one in hand, where it has its own.
    usual_stream_idle: Cell<Option<Option<Duration>>>,
    /// How many requests are being served.
    active: Cell<u32>,
    /// The connection, where this is one of its streams.
    parent: Option<Rc<Self>>,
    /// It has streams.
    multiplexed: Cell<bool>,
    /// Timeout from the first byte of a head to its last.
    head_timeout: Cell<Option<Duration>>,
    /// Since when a head is on its way.
    head_since: Cell<Option<Instant>>,
    /// When it has lived as long as it may.
    lives_until: Cell<Option<Instant>>,
    /// How long after that it is closed where nothing is being served.
    closes_after: Cell<Option<Duration>>,
    served: Cell<u64>,
    /// How many requests somebody waits for.
    awaited: Cell<u64>,
    unread: Cell<bool>,
    /// The body of the request in hand is wanted, and its client holds it back until it knows.
    wanted: Cell<bool>,
    kick: Cell<Option<Kick>>,
    broken: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Tracked {
    /// A connection that was accepted now.
    pub fn new(
        now: Instant,
        idle_timeout: Option<Duration>,
        stream_idle_timeout: Option<Duration>,
    ) -> Rc<Self> {
        Rc::new(Self {
            last_activity: Cell::new(now),
            idle_timeout,
            stream_idle_timeout: Cell::new(stream_idle_timeout),
            usual_stream_idle: Cell::new(None),
            active: Cell::new(0),
            parent: None,
            multiplexed: Cell::new(false),
            head_timeout: Cell::new(None),
            head_since: Cell::new(None),
            lives_until: Cell::new(None),
            closes_after: Cell::new(None),
            served: Cell::new(0),
            awaited: Cell::new(u64::MAX),
            unread: Cell::new(false),
            wanted: Cell::new(false),
            kick: Cell::new(None),
            broken: Cell::new(false),
            waker: RefCell::new(None),
        })
    }

    /// A stream of a connection that has many: it idles for itself, and its connection does not
    /// idle while it is served.
    pub fn stream(connection: &Rc<Self>, now: Instant) -> Rc<Self> {
        connection.multiplexed.set(true);
        let timeout = connection.stream_idle_timeout.get();
        let mut stream = Self::new(now, None, timeout);
        if let Some(new) = Rc::get_mut(&mut stream) {
            new.parent = Some(Rc::clone(connection));
        }
        stream
    }

    /// Whether it is a stream of a connection.
    pub fn is_stream(&self) -> bool {
        self.parent.is_some()
    }

    /// The shortest of its timeouts, as it begins.
    pub fn shortest_timeout(&self) -> Duration {
        let head = self.head_timeout.get();
        let begun = self.last_activity.get();
        let life = self.lives_until.get();
        let life = life.map(|end| end.saturating_duration_since(begun));
        let timeouts = [
            self.idle_timeout,
            self.stream_idle_timeout.get(),
            head,
            life,
        ];
        timeouts
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Duration::MAX)
    }

    /// A byte moved.
    pub fn touch(&self, now: Instant) {
        self.last_activity.set(now);
    }

    /// A request begins.
    pub fn begin_request(&self, now: Instant) {
        self.active.set(self.active.get() + 1);
        self.touch(now);
        if let Some(connection) = &self.parent {
            connection.begin_request(now);
        }
    }

    /// A request that was begun ends.
    pub fn end_request(&self, now: Instant) {
        self.active.set(self.active.get() - 1);
        self.served.set(self.served.get() + 1);
        if let Some(usual) = self.usual_stream_idle.take() {
            self.stream_idle_timeout.set(usual);
        }
        self.touch(now);
        if self.served.get() == self.awaited.get() {
            self.wake();
        }
        if let Some(connection) = &self.parent {
            connection.end_request(now);
            if !connection.in_request() {
                connection.wake();
            }
        }
    }

    /// How many requests have been served.
    pub fn served(&self) -> u64 {
        self.served.get()
    }

    /// Whether so many requests have been served; else the connection's task looks again once they
    /// have.
    pub fn await_served(&self, requests: u64) -> bool {
        self.awaited.set(requests);
        self.served.get() >= requests
    }

    /// Give each head this much time, from its first byte to its last.
    pub fn limit_heads(&self, timeout: Option<Duration>) {
        self.head_timeout.set(timeout);
    }

    /// Bytes came, after which a head is on its way or not.
    pub fn set_in_head(&self, in_head: bool, now: Instant) {
        self.touch(now);
        if !in_head {
            self.head_since.set(None);
        } else if self.head_since.get().is_none() {
            self.head_since.set(Some(now));
        }
    }

    /// Whether a head is on its way.
    pub fn in_head(&self) -> bool {
        self.head_since.get().is_some()
    }

    /// The client was answered before it had sent all of its request.
    pub fn leave_unread(&self) {
        self.unread.set(true);
    }

    /// Whether the client may still be sending what nobody will read.
    pub fn is_unread(&self) -> bool {
        self.unread.get()
    }

    /// The upstream wants a body that the client of this stream holds back.
    pub fn want_body(&self) {
        self.wanted.set(true);
        self.wake();
    }

    /// Whether that is so, and the client was not told yet.
    pub fn take_wanted(&self) -> bool {
        self.wanted.take()
    }

    /// Whether a request is being served.
    pub fn in_request(&self) -> bool {
        self.active.get() > 0
    }

    /// Something that was begun on it will not be completed: it must end in a reset.
    pub fn break_off(&self) {
        self.broken.set(true);
    }

    /// Whether something was broken off.
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Why the connection shall end, where it shall.
    pub fn kicked(&self) -> Option<Kick> {
        self.kick.get()
    }

    /// Wake this task when the connection is kicked or its request is complete.
    pub fn register(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        match &*slot {
            Some(current) if current.will_wake(waker) => {}
            _ => *slot = Some(waker.clone()),
        }
    }

    /// Let the connection's task look again.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Ask the connection to end. The first reason stands, but for that it has lived for long
    /// enough: that waits for what is being served, which may yet be late.
    pub fn kick(&self, kick: Kick) {
        if matches!(self.kick.get(), None | Some(Kick::MaxDuration)) {
            self.kick.set(Some(kick));
        }
        self.wake();
    }

    /// Its idle request was answered in whole: it may serve another.
    pub fn forgive_idle(&self) {
        if self.kick.get() == Some(Kick::Idle) {
            self.kick.set(None);
        }
    }

    /// Let it live so long and no longer; the time at which that is over is looked for by the tick.
    /// What is not being served then is closed `patience` later, or with the next answer alone.
    pub fn limit_life(&self, now: Instant, duration: Option<Duration>, patience: Option<Duration>) {
        let end = duration.and_then(|duration| now.checked_add(duration));
        self.lives_until.set(end);
        self.closes_after.set(patience);
    }

    /// Give the request in hand another timeout than the usual one.
    pub(crate) fn idle_as(&self, timeout: Option<Duration>) {
        let usual = self.stream_idle_timeout.replace(timeout);
        self.usual_stream_idle.set(Some(usual));
    }

    /// One side of its tunnel is done. Where nothing limits how long the other may rest, this does
    /// from now on, and it is given.
    pub fn half_closed(&self) -> Option<Duration> {
        if self.stream_idle_timeout.get().is_some() {
            return None;
        }
        self.idle_as(Some(HALF_CLOSED_IDLE));
        Some(HALF_CLOSED_IDLE)
    }

    /// Kick the connection if it was still for too long, has lived for too long, or a head is late.
    pub fn check_idle(&self, now: Instant) {
        if let Some(end) = self.lives_until.get().filter(|end| now >= *end) {
            self.kick(Kick::MaxDuration);
            let closes_after = self.closes_after.get().filter(|_| !self.in_request());
            if closes_after.is_some_and(|after| now.saturating_duration_since(end) >= after) {
                self.kick(Kick::Idle);
            }
        }
        let head_since = self.head_since.get().filter(|_| !self.in_request());
        if let (Some(since), Some(timeout)) = (head_since, self.head_timeout.get())
            && now.saturating_duration_since(since) >= timeout
        {
            return self.kick(Kick::SlowHead);
        }
        let timeout = if self.in_request() || head_since.is_some() {
            // Each of many streams idles for itself.
            let timeout = self.stream_idle_timeout.get();
            timeout.filter(|_| !self.multiplexed.get())
        } else {
            self.idle_timeout
        };
        let still = now.saturating_duration_since(self.last_activity.get());
        if timeout.is_some_and(|t| still >= t) {
            self.kick(Kick::Idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_connection_that_moves_no_byte_is_kicked_after_its_idle_timeout() {
        let t0 = Instant::now();
        let tracked = Tracked::new(t0, Some(10 * SECOND), None);
        tracked.check_idle(t0 + 9 * SECOND);
        assert_eq!(tracked.kicked(), None);
        tracked.touch(t0 + 9 * SECOND);
        tracked.check_idle(t0 + 18 * SECOND);
        assert_eq!(tracked.kicked(), None);
        tracked.check_idle(t0 + 19 * SECOND);
        assert_eq!(tracked.kicked(), Some(Kick::Idle));
    }

    #[test]
    fn a_connection_that_has_lived_for_long_enough_is_kicked_though_it_moves() {
        let t0 = Instant::now();
        let tracked = Tracked::new(t0, Some(60 * SECOND), Some(5 * SECOND));
        tracked.limit_life(t0, Some(10 * SECOND), Some(3 * SECOND));
        assert_eq!(tracked.shortest_timeout(), 5 * SECOND);
        tracked.begin_request(t0 + 9 * SECOND);
        tracked.check_idle(t0 + 9 * SECOND);
        assert_eq!(tracked.kicked(), None);
        tracked.check_idle(t0 + 10 * SECOND);
        assert_eq!(tracked.kicked(), Some(Kick::MaxDuration));
        tracked.check_idle(t0 + 14 * SECOND);
        assert_eq!(tracked.kicked(), Some(Kick::Idle), "a stuck request ends");

        let resting = Tracked::new(t0, None, None);
        resting.limit_life(t0, Some(10 * SECOND), Some(3 * SECOND));
        resting.check_idle(t0 + 12 * SECOND);
        assert_eq!(resting.kicked(), Some(Kick::MaxDuration));
        resting.check_idle(t0 + 13 * SECOND);
        assert_eq!(resting.kicked(), Some(Kick::Idle), "a resting one too");
    }

    #[test]
    fn a_request_may_idle_as_its_route_says_and_the_next_as_usual() {
        let t0 = Instant::now();
        let tracked = Tracked::new(t0, None, Some(5 * SECOND));
        tracked.begin_request(t0);
        tracked.idle_as(Some(9 * SECOND));
        tracked.check_idle(t0 + 8 * SECOND);
        assert_eq!(tracked.kicked(), None);
        tracked.end_request(t0 + 8 * SECOND);
        tracked.begin_request(t0 + 8 * SECOND);
        tracked.check_idle(t0 + 13 * SECOND);
        assert_eq!(tracked.kicked(), Some(Kick::Idle));
    }

    #[test]
    fn within_a_request_the_stream_timeout_counts() {
        let t0 = Instant::now();
        let tracked = Tracked::new(t0, Some(SECOND), Some(5 * SECOND));
        tracked.begin_request(t0);
        tracked.check_idle(t0 + 4 * SECOND);
        assert_eq!(tracked.kicked(), None);
        tracked.check_idle(t0 + 5 * SECOND);
        assert_eq!(tracked.kicked(), Some(Kick::Idle));
    }

    #[test]
    fn half_of_a_tunnel_rests_for_an_hour_where_nothing_else_limits_it() {
        let t0 = Instant::now();
        let tracked = Tracked::new(t0, None, None);
        tracked.begin_request(t0);
        tracked.check_idle(t0 + 10_000 * SECOND);
        assert_eq!(tracked.kicked(), None);
        assert_eq!(tracked.half_closed(), Some(3600 * SECOND));
        assert_eq!(tracked.half_closed(), None, "it is limited already");
        tracked.check_idle(t0 + 3599 * SECOND);
        assert_eq!(tracked.kicked(), None);
        tracked.check_idle(t0 + 3600 * SECOND);
        assert_eq!(tracked.kicked(), Some(Kick::Idle));
    }

    #[test]
    fn a_stream_idles_for_itself_and_its_connection_only_between_streams() {
        let t0 = Instant::now();
        let connection = Tracked::new(t0, Some(5 * SECOND), Some(SECOND));
        let stream = Tracked::stream(&connection, t0);
        stream.begin_request(t0);
        let at = t0 + 20 * SECOND;
        connection.check_idle(at);
        stream.check_idle(at);
        assert_eq!(
            (connection.kicked(), stream.kicked()),
            (None, Some(Kick::Idle))
        );
        stream.end_request(at);
        connection.check_idle(at + 4 * SECOND);
        assert_eq!(connection.kicked(), None);
        connection.check_idle(at + 5 * SECOND);
        assert_eq!(connection.kicked(), Some(Kick::Idle));
    }

    #[test]
    fn a_head_that_is_on_its_way_has_its_own_time_and_counts_as_a_stream() {
        let t0 = Instant::now();
        let tracked = Tracked::new(t0, Some(SECOND), Some(5 * SECOND));
        tracked.limit_heads(Some(3 * SECOND));
        tracked.set_in_head(true, t0);
        tracked.set_in_head(true, t0 + 2 * SECOND);
        tracked.check_idle(t0 + 2 * SECOND);
        assert_eq!(tracked.kicked(), None, "neither idle nor late");
        tracked.check_idle(t0 + 3 * SECOND);
        assert_eq!(tracked.kicked(), Some(Kick::SlowHead));

        let tracked = Tracked::new(t0, Some(SECOND), Some(5 * SECOND));
        tracked.set_in_head(true, t0);
        tracked.check_idle(t0 + 5 * SECOND);
        assert_eq!(tracked.kicked(), Some(Kick::Idle));
    }

    #[test]
    fn without_a_timeout_nothing_is_kicked() {
        let t0 = Instant::now();
        let tracked = Tracked::new(t0, None, None);
        tracked.check_idle(t0 + 1_000_000 * SECOND);
        assert_eq!(tracked.kicked(), None);
    }
}

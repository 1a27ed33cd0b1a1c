//! The router: choose a cluster, an endpoint, a connection; send; answer.
//!
//! A loop over attempts. One attempt fails without a trace where the upstream had closed the pooled
//! connection that it was given: the request comes back unsent, or is one that may be sent twice.

mod affinity;
mod timer;

use crate::addr::Destination;
use crate::cluster::breaker::{Permit, Resource};
use crate::cluster::load::InFlight;
use crate::cluster::manager::{Picked, WorkerCluster};
use crate::connection::Kick;
use crate::error::Failure;
use crate::http::answer::Answer;
use crate::http::body::{Download, Lease, RequestBody, touch};
use crate::http::connection_manager::Stream;
use crate::http::cut::Cut;
use crate::http::go_on::Held;
use crate::http::grpc;
use crate::http::headers;
use crate::http::replay;
use crate::http::resting::Limits;
use crate::http::source::Source;
use crate::http::switch::Ask;
use crate::http::tunnel::Granted;
use crate::http::upload::Ahead;
use crate::observe::outcome::Outcome;
use crate::route::{Deadline, Forward};
use crate::upstream::exchange::exchange;
use crate::upstream::pooled::Want;
use crate::upstream::switch::{self, Asked};
use crate::worker::Worker;
use affinity::Affinity;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{Request, Response, StatusCode, Version};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use timer::{Over, Progress, Timer};

/// The router filter for one request.
#[derive(Debug, Clone, Copy)]
pub struct Router<'a> {
    /// The route's action.
    pub forward: &'a Forward,
    /// Leave out `x-envoy-*` headers of our making.
    pub suppress_envoy_headers: bool,
}

impl Router<'_> {
    /// Send a request to an upstream and take its answer.
    ///
    /// # Errors
    /// Where there is no upstream to send it to, or none answers in time.
    pub async fn forward(
        &self,
        stream: &mut Stream,
        request: &mut Request<RequestBody>,
    ) -> Result<Answer, Failure> {
        let Stream {
            connection,
            outcome,
            upload,
            is_grpc,
            ask,
            served,
            ..
        } = stream;
        let worker = &connection.worker;
        let forward = self.forward;

        // Cluster
        let Some(cluster) = worker.cluster(forward.target.choose(worker.random())) else {
            worker.stats.inc(connection.chain.series.no_cluster);
            return Err(Failure::ClusterNotFound {
                status: forward.cluster_not_found,
            });
        };
        outcome.upstream_cluster = outcome.name(&cluster.config.name);
        let affinity = Affinity::of(forward, &cluster, connection, request);

        // Expectations, where the upstream decides them
        if connection.chain.heads.proxy_continue && request.headers().contains_key(EXPECT) {
            expect(request);
        }

        // Attempts, within the route's timeout
        let limits = &connection.chain.limits;
        let over = forward.deadline(request.headers(), *is_grpc, limits.max_stream_duration);
        self.announce_timeout(request, over, *is_grpc);
        served.idle_as(forward.idle, &connection.chain.drain);
        let started = worker.clock.now();
        let mut timer = Timer::new(started, over, limits.request_timeout);
        let given = Cell::new(false);
        let exchanged = {
            let destination = connection.destination;
            let scheme = connection.scheme();
            let asked = ask.as_ref().map(|ask| {
                let route = forward.upgrade(ask.protocol());
                let terminates = route.is_some_and(|route| route.terminates);
                Asked { ask, terminates }
            });
            let target = UpstreamTarget {
                cluster: &cluster,
                hash: affinity.hash,
                destination,
                scheme,
                asked,
                given: &given,
            };
            let mut attempts = pin!(attempts(worker, &target, request, outcome));
            poll_fn(|cx| {
                if let Poll::Ready(exchanged) = attempts.as_mut().poll(cx) {
                    return Poll::Ready(exchanged);
                }
                let ahead = match upload {
                    Some(upload) if ask.is_none() => {
                        upload.read_ahead(|| touch(&served.tracked, worker), cx)
                    }
                    Some(upload) if !upload.received.get() => Ahead::Coming,
                    _ => Ahead::Received,
                };
                if let Some(failed) = upload.as_ref().and_then(|upload| upload.failed.get()) {
                    // It waits for an upstream no longer, and none hears of it.
                    return Poll::Ready(Err(failed.failure()));
                }
                let request_complete = ahead == Ahead::Received;
                if served.tracked.kicked() == Some(Kick::Idle) {
                    // One that asks for bytes both ways never comes to its end.
                    let request_complete = request_complete && ask.is_none();
                    return Poll::Ready(Err(Failure::StreamIdle { request_complete }));
                }
                let progress = Progress {
                    ahead,
                    given: given.get() && request_complete,
                };
                let over = timer.poll(cx, worker.clock.now(), progress);
                Poll::Ready(Err(match std::task::ready!(over) {
                    Over::Request => Failure::RequestTimeout,
                    Over::Stream => Failure::MaxDuration { request_complete },
                    Over::Response => {
                        worker.stats.inc(cluster.config.series.rq_timeout);
                        Failure::ResponseTimeout
                    }
                    Over::Attempt => {
                        worker.stats.inc(cluster.config.series.rq_per_try_timeout);
                        Failure::PerTryTimeout
                    }
                    Over::AttemptIdle => {
                        worker
                            .stats
                            .inc(cluster.config.series.rq_per_try_idle_timeout);
                        Failure::PerTryIdleTimeout
                    }
                }))
            })
            .await
        };

        // Answer
        let Exchanged {
            response,
            lease,
            active,
        } = match exchanged {
            Ok(exchanged) => exchanged,
            Err(failure) => {
                // Where the downstream broke its own request off, the upstream is not to blame.
                if let Some(failed) = upload.as_ref().and_then(|u| u.failed.get()) {
                    return Err(failed.failure());
                }
                cluster.count_status(worker, failure.reply().status);
                return Err(failure);
            }
        };
        if let Some(wanted) = upload.as_ref().and_then(|upload| upload.held.get()) {
            wanted.is_answered();
        }
        let elapsed = headers::millis(worker.clock.now().saturating_duration_since(started));
        cluster.count_status(worker, response.status());
        worker.stats.record(cluster.config.series.rq_time, elapsed);
        let (mut head, incoming) = response.into_parts();
        affinity.tell(&mut head.headers);
        if let Lease::Switched(upstream) = lease {
            if let Some(ask) = ask {
                ask.grant(&mut head);
            }
            let granted = Granted {
                upstream,
                active,
                deadline: timer.of_tunnel(),
            };
            return Ok(Answer::Switched(head, granted));
        }
        if outcome.protocol == Some(Version::HTTP_2)
            && matches!(ask, Some(Ask::Protocol(_)))
            && head.status.is_success()
        {
            // RFC 8441 §5: there it would say that the protocol was switched to.
            return Err(Failure::UpstreamProtocol);
        }
        let offered = ask
            .as_ref()
            .and_then(|ask| ask.offered(&head, outcome.protocol));
        headers::strip_hop_by_hop(&mut head.headers);
        if let Some(offered) = offered {
            headers::ask_for_upgrade(&mut head.headers, offered);
        }
        if head.status == StatusCode::NO_CONTENT {
            // RFC 9110 §8.6: it has no length, not even that of nothing.
            head.headers.remove(CONTENT_LENGTH);
        }
        // Time that passed before the request had come is not the upstream's.
        let request_complete = ask.is_none() && upload.as_ref().is_none_or(|u| u.received.get());
        if !self.suppress_envoy_headers && request_complete {
            head.headers
                .insert(headers::X_ENVOY_UPSTREAM_SERVICE_TIME, elapsed.into());
        }
        let download = Download {
            incoming,
            lease: Some(lease),
            limits: Limits::of(timer.of_response(), over.attempt_idle),
            active,
        };
        Ok(Answer::Upstream(head, download))
    }

    fn announce_timeout(&self, request: &mut Request<RequestBody>, over: Deadline, is_grpc: bool) {
        let Some(timeout) = over.expected() else {
            return;
        };
        let told = request.headers_mut();
        if !self.suppress_envoy_headers {
            let millis = headers::millis(timeout).into();
            told.insert(headers::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, millis);
        }
        if is_grpc && self.forward.hears_grpc_timeout() {
            told.insert(grpc::GRPC_TIMEOUT, grpc::timeout(timeout));
        }
    }
}

/// Hold a body that its client holds back, until the upstream wants it.
fn expect(request: &mut Request<RequestBody>) {
    let expects = request.headers().get(EXPECT);
    if expects.is_some_and(headers::is_continue)
        && matches!(request.body(), RequestBody::Incoming { .. })
    {
        let (held, wanted) = Held::until_wanted(request);
        request.body_mut().hold(held, wanted);
    }
}

struct Exchanged {
    response: Response<Source>,
    lease: Lease,
    active: ActiveRequest,
}

/// Where a request goes, and how.
struct UpstreamTarget<'a> {
    cluster: &'a Rc<WorkerCluster>,
    /// What its endpoint is chosen by, where the cluster looks at it.
    hash: Option<u64>,
    destination: Destination,
    scheme: &'static str,
    /// What it asks for besides an answer.
    asked: Option<Asked<'a>>,
    /// Set when it is given to a connection.
    given: &'a Cell<bool>,
}

/// Try until an upstream has answered or a request was lost.
async fn attempts(
    worker: &Rc<Worker>,
    target: &UpstreamTarget<'_>,
    request: &mut Request<RequestBody>,
    outcome: &mut Outcome,
) -> Result<Exchanged, Failure> {
    let cluster = target.cluster;
    let mut active = ActiveRequest::begin(worker, cluster)?;
    let mut want = Want::Any;
    loop {
        // Endpoint
        let Picked { pool, in_flight } = cluster.pick(worker, target.destination, target.hash)?;
        active.in_flight = in_flight;
        outcome.upstream_host = Some(pool.upstream.0);
        let speaks_http2 = pool.speaks_http2(worker, outcome.protocol).await?;
        if let Some(asked) = target.asked {
            // Boxed: few requests are of this kind.
            let switched = Box::pin(switch::request(
                worker,
                &pool,
                asked,
                asked.way(speaks_http2),
                std::mem::replace(request, Request::new(RequestBody::Empty)),
                target.scheme,
                |local| {
                    outcome.upstream_local = Some(local);
                    active.sent(target.given);
                },
            ));
            let (response, lease) = switched.await?;
            return Ok(Exchanged {
                response,
                lease,
                active,
            });
        }
        if speaks_http2 {
            let taken = std::mem::replace(request, Request::new(RequestBody::Empty));
            // Boxed: an exchange of HTTP/1 does not hold the memory of it.
            let exchanged = exchange(worker, &pool, taken, target.scheme, |local| {
                outcome.upstream_local = Some(local);
                active.sent(target.given);
            });
            let (response, lease) = Box::pin(exchanged).await?;
            return Ok(Exchanged {
                response,
                lease: Lease::Http2(lease),
                active,
            });
        }
        // Connection
        let mut connection = pool.checkout(worker, want).await?;
        outcome.upstream_local = Some(connection.local);
        active.sent(target.given);
        // Request and response head
        headers::announce_body(request);
        let (taken, kept) = match connection.has_rested() && want == Want::Any {
            true => replay::take(request),
            false => {
                let nothing = Request::new(RequestBody::Empty);
                (std::mem::replace(request, nothing), false)
            }
        };
        if !kept {
            connection.look_first();
        }
        let before = connection.watch().mark();
        match connection.sender.try_send_request(taken).await {
            // Nobody asked to switch protocols; and a body that we cannot pass on as it is framed.
            Ok(response)
                if response.status() == StatusCode::SWITCHING_PROTOCOLS
                    || !headers::is_framed_soundly(response.status(), response.headers()) =>
            {
                return Err(Failure::UpstreamProtocol);
            }
            Ok(response) => {
                connection.answered_in(response.version());
                replay::forget(request);
                return Ok(Exchanged {
                    response: response.map(Source::Http1),
                    lease: Lease::Http1 { connection, pool },
                    active,
                });
            }
            Err(mut error) => match error.take_message() {
                Some(unsent) if connection.has_rested() => *request = unsent,
                _ if error.error().is_parse() => return Err(Failure::UpstreamProtocol),
                _ if kept
                    && connection.watch().is_silent_since(before)
                    && replay::rewind(request) =>
                {
                    // What has rested as long may be closed as well.
                    want = Want::New;
                    worker.stats.inc(cluster.config.series.rq_replayed);
                }
                _ => return Err(Failure::ConnectionTermination),
            },
        }
    }
}

/// A request in flight, as the cluster's counters and circuit breaker see it.
#[derive(Debug)]
pub struct ActiveRequest {
    worker: Rc<Worker>,
    cluster: Rc<WorkerCluster>,
    _permit: Permit,
    /// At which endpoint.
    in_flight: Option<InFlight>,
    counted: bool,
}

impl ActiveRequest {
    fn begin(worker: &Rc<Worker>, cluster: &Rc<WorkerCluster>) -> Result<Self, Failure> {
        let series = &cluster.config.series;
        let Some(permit) = cluster.config.breaker.take(Resource::Request) else {
            worker.stats.inc(series.rq_pending_overflow);
            return Err(Failure::Overflow);
        };
        worker.stats.gauge_add(series.rq_active, 1);
        Ok(Self {
            worker: Rc::clone(worker),
            cluster: Rc::clone(cluster),
            _permit: permit,
            in_flight: None,
            counted: false,
        })
    }

    /// The request is given to a connection; one that was given back counts once.
    fn sent(&mut self, given: &Cell<bool>) {
        given.set(true);
        if !std::mem::replace(&mut self.counted, true) {
            self.worker.stats.inc(self.cluster.config.series.rq_total);
        }
    }
}

impl ActiveRequest {
    /// Its response was not let go on.
    pub(in crate::http) fn was_cut(&self, cut: Cut) {
        let series = &self.cluster.config.series;
        self.worker.stats.inc(match cut {
            Cut::Timeout => series.rq_timeout,
            Cut::Resting => series.rq_per_try_idle_timeout,
            Cut::Duration | Cut::Idle => return,
        });
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.worker
            .stats
            .gauge_add(self.cluster.config.series.rq_active, -1);
    }
}

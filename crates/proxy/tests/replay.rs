//! Requests by HTTP/2 that an upstream did not look at: sent once more, and only those.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use support::http2::{
    Answer, DATA, Frame, GOAWAY, HEADERS, OF_CLUSTER, SETTINGS, ask, begin, block_on, by_http2,
    client, frame, get, post, read, receive, send, upstream,
};
use support::{DEADLINE, Proxy, Upstream};

/// Refuses as many streams as it is told to, and tells of the others what they brought.
fn refusing(times: usize) -> (Upstream, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let serve = move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
        let seen = Arc::clone(&seen);
        async move {
            if seen.fetch_add(1, Ordering::SeqCst) < times {
                // What was sent with it is on its way, or here.
                let (_, mut body) = request.into_parts();
                while let Some(Ok(data)) = body.data().await {
                    body.flow_control().release_capacity(data.len()).unwrap();
                }
                return respond.send_reset(Reason::REFUSED_STREAM);
            }
            let (body, trailers) = receive(&mut request.into_body()).await.unwrap();
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            send(&mut stream, body, false).await;
            stream.send_trailers(trailers.unwrap_or_default()).unwrap();
        }
    };
    (upstream(serve), count)
}

async fn echoed(proxy: &Proxy) -> Answer {
    let client = client(proxy.address).await;
    let (response, mut up) = begin(&client, post("/")).await;
    send(&mut up, "first ", false).await;
    send(&mut up, "second", false).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "2".parse().unwrap());
    up.send_trailers(trailers).unwrap();
    read(response).await.unwrap()
}

#[test]
fn a_stream_that_is_refused_is_opened_once_more_with_all_of_its_body() {
    let (upstream, seen) = refusing(1);
    let proxy = by_http2(&[upstream.address]);
    let answer = block_on(echoed(&proxy));
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (200, &b"first second"[..])
    );
    assert_eq!(answer.trailers.unwrap()["x-sum"], "2");
    assert_eq!(seen.load(Ordering::SeqCst), 2);
    let record = proxy.records(1).remove(0);
    assert!(
        record.contains(" 200 - via_upstream - \"-\" 12 12 "),
        "{record}"
    );
    proxy.wait_value("envoy_cluster_upstream_rq_total", &OF_CLUSTER, 1);
    proxy.wait_value("envoy_cluster_upstream_rq_active", &OF_CLUSTER, 0);
}

#[test]
fn a_stream_that_is_always_refused_is_tried_twice_and_no_more() {
    let (upstream, seen) = refusing(usize::MAX);
    let proxy = by_http2(&[upstream.address]);
    let answer = block_on(echoed(&proxy));
    assert_eq!(answer.status, 503);
    assert_eq!(seen.load(Ordering::SeqCst), 2);
    let record = proxy.records(1).remove(0);
    assert!(record.contains("{remote_refused_stream_reset}"), "{record}");
}

#[test]
fn a_body_of_which_too_much_was_sent_is_not_sent_again() {
    let (upstream, seen) = refusing(1);
    let proxy = by_http2(&[upstream.address]);
    let answer = block_on(async {
        let client = client(proxy.address).await;
        let (response, mut up) = begin(&client, post("/")).await;
        // Whatever its upload comes to.
        tokio::task::spawn_local(async move { send(&mut up, vec![7; 80 * 1024], true).await });
        read(response).await.unwrap()
    });
    assert_eq!(answer.status, 503);
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

fn read_frame(stream: &mut TcpStream) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some(Frame {
        kind: head[3],
        flags: head[4],
        stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
        payload,
    })
}

/// Goes away upon its first request, naming this stream as the last that it looked at; what comes
/// on further connections it answers.
fn going_away(last: u32) -> (Upstream, mpsc::Receiver<u32>) {
    let (seen, requests) = mpsc::channel();
    let first = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::start(move |mut stream| {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        let goes = first.fetch_add(1, Ordering::SeqCst) == 0;
        let mut body = Vec::new();
        let mut asked = 0;
        while let Some(came) = read_frame(&mut stream) {
            match came.kind {
                HEADERS => {
                    seen.send(came.stream).unwrap();
                    asked = came.stream;
                }
                DATA => body.extend(came.payload),
                _ => continue,
            }
            if came.flags & 1 == 0 {
                continue;
            }
            if goes {
                let mut told = last.to_be_bytes().to_vec();
                told.extend([0; 4]);
                stream.write_all(&frame(GOAWAY, 0, 0, &told)).unwrap();
                return;
            }
            // `:status: 200` of the static table.
            stream
                .write_all(&frame(HEADERS, 4, asked, &[0x88]))
                .unwrap();
            stream.write_all(&frame(DATA, 1, asked, &body)).unwrap();
        }
    });
    (upstream, requests)
}

#[test]
fn a_stream_beyond_the_last_that_a_goaway_names_is_opened_on_another_connection() {
    let (upstream, requests) = going_away(0);
    let proxy = by_http2(&[upstream.address]);
    block_on(async {
        let client = client(proxy.address).await;
        let (response, mut up) = begin(&client, post("/")).await;
        send(&mut up, "hello", true).await;
        let answer = read(response).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (200, &b"hello"[..])
        );
    });
    assert_eq!(requests.recv_timeout(DEADLINE).unwrap(), 1);
    assert_eq!(requests.recv_timeout(DEADLINE).unwrap(), 1);
    let record = proxy.records(1).remove(0);
    assert!(record.contains(" 200 - via_upstream"), "{record}");
    proxy.wait_value("envoy_cluster_upstream_cx_total", &OF_CLUSTER, 2);
}

#[test]
fn a_stream_that_may_have_been_looked_at_is_not_opened_again() {
    let (upstream, requests) = going_away(1);
    let proxy = by_http2(&[upstream.address]);
    block_on(async {
        let client = client(proxy.address).await;
        let answer = ask(&client, get("/")).await.unwrap();
        assert_eq!(answer.status, 503);
    });
    assert_eq!(requests.recv_timeout(DEADLINE).unwrap(), 1);
    assert!(requests.try_recv().is_err(), "asked once");
    let record = proxy.records(1).remove(0);
    assert!(record.contains("{connection_termination}"), "{record}");
}

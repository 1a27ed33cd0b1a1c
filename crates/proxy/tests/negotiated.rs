//! `auto_config`: which version of HTTP an upstream speaks is agreed on by ALPN.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod support;

use rustls::ServerConfig;
use shunt_proxy::model::UpstreamProtocol;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use support::http2::{OF_CLUSTER, answer, block_on};
use support::tls::{Ca, server_config, spiffe};
use support::{DEADLINE, Proxy, Upstream, exchange};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

const GET: &str = "GET / HTTP/1.1\r\nhost: shop\r\n\r\n";

/// Serves what is agreed on, its connections by turns with these protocols, the last for all
/// further ones; tells what was agreed on for each.
fn upstream(ca: &Ca, offered: &[&[&str]]) -> (Upstream, mpsc::Receiver<Option<String>>) {
    let config = |offered: &&[&str]| {
        let identity = ca.issue(&spiffe("spiffe://td/server"));
        Arc::new(server_config(identity, None, offered))
    };
    let configs: Arc<[Arc<ServerConfig>]> = offered.iter().map(config).collect();
    let (agreed, seen) = mpsc::channel();
    let number = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::start(move |tcp| {
        let at = number.fetch_add(1, Ordering::SeqCst).min(configs.len() - 1);
        let acceptor = TlsAcceptor::from(Arc::clone(&configs[at]));
        tcp.set_nonblocking(true).unwrap();
        block_on(async {
            let tcp = tokio::net::TcpStream::from_std(tcp).unwrap();
            let Ok(mut stream) = acceptor.accept(tcp).await else {
                return;
            };
            let protocol = stream.get_ref().1.alpn_protocol();
            let protocol = protocol.map(|name| String::from_utf8(name.to_vec()).unwrap());
            let is_http2 = protocol.as_deref() == Some("h2");
            agreed.send(protocol).unwrap();
            if is_http2 {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    answer(&mut respond, 200, "by 2");
                }
                return;
            }
            let mut got = Vec::new();
            while let Ok(byte) = stream.read_u8().await {
                got.push(byte);
                if got.ends_with(b"\r\n\r\n") {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nby 1";
                    stream.write_all(answer).await.unwrap();
                    if got.starts_with(b"GET /last ") {
                        return;
                    }
                    got.clear();
                }
            }
        });
    });
    (upstream, seen)
}

fn proxy(ca: &Ca, upstream: &Upstream, alpn: &[&str]) -> Proxy {
    let mut tls = support::tls::upstream(Some(ca.validation(&["spiffe://td/server"])));
    tls.alpn = alpn.iter().map(|&name| name.to_owned()).collect();
    let tls = Some(Arc::new(tls));
    Proxy::http_with(&[upstream.address], |_, cluster| {
        cluster.protocol = UpstreamProtocol::Negotiated;
        cluster.tls.clone_from(&tls);
        if let shunt_proxy::model::ClusterKind::Static(endpoints) = &mut cluster.kind {
            endpoints[0].tls = tls;
        }
    })
}

fn asked(proxy: &Proxy) -> String {
    let answer = exchange(&mut proxy.connect(), GET);
    let said = answer.find("by ").unwrap();
    answer[said..said + 4].to_owned()
}

#[test]
fn an_upstream_speaks_what_it_agreed_on() {
    let ca = Ca::new("ca");
    for (offered, alpn, agreed, body) in [
        (&["h2", "http/1.1"][..], &[][..], Some("h2"), "by 2"),
        (&["http/1.1"], &[], Some("http/1.1"), "by 1"),
        (&[], &[], None, "by 1"),
        (&["h2", "http/1.1"], &["http/1.1"], Some("http/1.1"), "by 1"),
        (&["h2", "istio"], &["istio", "h2"], Some("h2"), "by 2"),
    ] {
        let (upstream, seen) = upstream(&ca, &[offered]);
        let proxy = proxy(&ca, &upstream, alpn);
        for _ in 0..3 {
            assert_eq!(asked(&proxy), body, "{offered:?} {alpn:?}");
        }
        let said = seen.recv_timeout(DEADLINE).unwrap();
        assert_eq!(said.as_deref(), agreed, "{offered:?} {alpn:?}");
        // The connection that was made to learn it serves them all.
        proxy.wait_value("envoy_cluster_upstream_cx_total", &OF_CLUSTER, 1);
        assert!(seen.try_recv().is_err(), "one connection");
    }
}

#[test]
fn an_upstream_that_speaks_http1_is_asked_for_nothing_else_until_all_connections_are_gone() {
    let ca = Ca::new("ca");
    let (upstream, seen) = upstream(&ca, &[&["http/1.1"], &["h2", "http/1.1"]]);
    let proxy = proxy(&ca, &upstream, &[]);
    assert_eq!(asked(&proxy), "by 1");
    assert_eq!(seen.recv_timeout(DEADLINE).unwrap().unwrap(), "http/1.1");
    let last = exchange(
        &mut proxy.connect(),
        "GET /last HTTP/1.1\r\nhost: shop\r\n\r\n",
    );
    assert!(last.ends_with("by 1"), "{last}");
    proxy.wait_value("envoy_cluster_upstream_cx_active", &OF_CLUSTER, 0);
    assert_eq!(asked(&proxy), "by 2");
    assert_eq!(seen.recv_timeout(DEADLINE).unwrap().unwrap(), "h2");
}

#[test]
fn many_that_come_at_once_learn_it_together() {
    let ca = Ca::new("ca");
    let (upstream, _seen) = upstream(&ca, &[&["h2"]]);
    let proxy = proxy(&ca, &upstream, &[]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(asked(&proxy), "by 2"));
        }
    });
    proxy.wait_value("envoy_cluster_upstream_cx_total", &OF_CLUSTER, 1);
}

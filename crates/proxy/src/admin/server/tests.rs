use super::*;
use crate::admin::ConfigDump;
use crate::observe::stats::Registry;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

struct Dump(Result<&'static str, &'static str>);

impl ConfigDump for Dump {
    fn config_dump(&self) -> Result<Vec<u8>, String> {
        self.0.map(|s| s.as_bytes().to_vec()).map_err(str::to_owned)
    }
}

/// An admin server; ends with the test's runtime.
fn start(dump: Dump) -> (SocketAddr, Admin) {
    let admin = Admin {
        readiness: Arc::new(Readiness::new()),
        registry: Registry::new(1),
        config_dump: Arc::new(dump),
    };
    let listener = LoopbackListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr();
    tokio::spawn(serve(listener, admin.clone()));
    (address, admin)
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(Duration::from_secs(60), stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}

async fn get(address: SocketAddr, path: &str) -> String {
    ask(
        address,
        &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    )
    .await
}

#[tokio::test]
async fn ready_says_the_state_and_only_live_is_200() {
    let (address, admin) = start(Dump(Ok("{}")));
    let answer = get(address, "/ready").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nINITIALIZING\n"), "{answer}");
    admin.readiness.live();
    let answer = get(address, "/ready").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nLIVE\n"), "{answer}");
    admin.readiness.draining();
    let answer = get(address, "/ready").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nDRAINING\n"), "{answer}");
}

#[tokio::test]
async fn the_kubelet_asks_healthz_ready() {
    let readiness = Arc::new(Readiness::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_readiness(listener, Arc::clone(&readiness)));
    assert!(
        get(address, "/healthz/ready")
            .await
            .starts_with("HTTP/1.1 503 ")
    );
    readiness.live();
    assert!(
        get(address, "/healthz/ready")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    assert!(
        get(address, "/config_dump")
            .await
            .starts_with("HTTP/1.1 404 ")
    );
}

#[tokio::test]
async fn metrics_and_configuration_are_served_with_their_types() {
    let (address, admin) = start(Dump(Ok("{\"configs\":[]}")));
    let counter = admin.registry.counter("c", "help", &[]);
    admin.registry.worker(0).inc(counter);
    let answer = get(address, "/stats/prometheus?usedonly").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        answer.contains("content-type: text/plain; version=0.0.4"),
        "{answer}"
    );
    assert!(answer.contains("# TYPE c counter\n"), "{answer}");
    let answer = get(address, "/config_dump").await;
    assert!(
        answer.contains("content-type: application/json"),
        "{answer}"
    );
    assert!(answer.ends_with("{\"configs\":[]}"), "{answer}");
}

#[tokio::test]
async fn a_failed_dump_is_500_with_the_reason() {
    let (address, _) = start(Dump(Err("no descriptor of type x")));
    let answer = get(address, "/config_dump").await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(answer.ends_with("no descriptor of type x\n"), "{answer}");
}

#[tokio::test]
async fn unknown_paths_are_404_and_wrong_methods_405_with_what_is_allowed() {
    let (address, _) = start(Dump(Ok("{}")));
    let answer = get(address, "/nope").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.contains("/stats/prometheus"), "{answer}");
    let answer = ask(address, "POST /ready HTTP/1.1\r\ncontent-length: 0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
    let answer = ask(address, "HEAD /ready HTTP/1.1\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(get(address, "/").await.contains("/config_dump: "));
}

#[tokio::test]
async fn the_state_is_a_metric_too() {
    let (address, admin) = start(Dump(Ok("{}")));
    let metrics = get(address, "/stats/prometheus").await;
    assert!(metrics.contains("\nenvoy_server_live{} 0\n"), "{metrics}");
    assert!(metrics.contains("\nenvoy_server_state{} 3\n"), "{metrics}");
    admin.readiness.live();
    let metrics = get(address, "/stats/prometheus").await;
    assert!(metrics.contains("\nenvoy_server_live{} 1\n"), "{metrics}");
    assert!(metrics.contains("\nenvoy_server_state{} 0\n"), "{metrics}");
    admin.readiness.draining();
    let metrics = get(address, "/stats/prometheus").await;
    assert!(metrics.contains("\nenvoy_server_live{} 0\n"), "{metrics}");
    assert!(metrics.contains("\nenvoy_server_state{} 1\n"), "{metrics}");
}

#[tokio::test]
async fn who_connects_and_stays_silent_loses_the_place_to_those_who_ask() {
    let (address, _) = start(Dump(Ok("{}")));
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // Answered once the silent ones have been sent away, after the time for a head.
    assert!(get(address, "/ready").await.starts_with("HTTP/1.1 503 "));
    let mut nothing = Vec::new();
    for stream in &mut silent {
        stream.read_to_end(&mut nothing).await.unwrap();
    }
}

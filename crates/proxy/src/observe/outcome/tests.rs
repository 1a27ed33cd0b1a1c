use super::*;
use crate::model::{AccessLog, AccessLogSink, DEFAULT_TEXT_FORMAT};
use crate::observe::access_log::AccessLogWriter;
use crate::observe::stats::Registry;
use http::{HeaderMap, HeaderValue, Request, request};
use std::path::PathBuf;
use std::time::Duration;

/// A worker with one access log in a file.
struct Bench {
    folder: tempfile::TempDir,
    registry: Registry,
    writer: AccessLogWriter,
    recorder: Rc<Recorder>,
}

impl Bench {
    fn new() -> Self {
        let registry = Registry::new(1);
        let writer = AccessLogWriter::new(&registry);
        let recorder = Rc::new(Recorder {
            stats: registry.worker(0),
            log: writer.worker(),
            clock: Clock::new(),
        });
        Self {
            folder: tempfile::tempdir().unwrap(),
            registry,
            writer,
            recorder,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }

    fn logs(&self, format: &str) -> Arc<LogSet> {
        let log = AccessLog {
            sink: AccessLogSink::File(self.path()),
            format: format.to_owned(),
        };
        Arc::new(LogSet::compile(&[log], &self.writer).unwrap())
    }

    fn begin(&self, logs: &Arc<LogSet>, head: Option<&request::Parts>) -> Outcome {
        let series = head.map(|_| HttpSeries::new(&self.registry, "http"));
        if let Some(series) = &series {
            self.recorder.stats.gauge_add(series.rq_active, 1);
        }
        let begin = Begin {
            downstream_remote: "10.0.0.1:4000".parse().unwrap(),
            downstream_local: "10.96.0.10:9080".parse().unwrap(),
            logs,
            captured: head.and_then(|head| logs.capture_request(head)),
            http: series,
        };
        let mut outcome = Outcome::begin(&self.recorder, begin);
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_769_903_999_007);
        outcome.start_time = outcome.start_time.map(|_| at);
        outcome
    }

    fn value(&self, family: &str, labels: &[(&'static str, &str)]) -> Option<u64> {
        let own = ("envoy_http_conn_manager_prefix", "http");
        self.registry.value(family, &[labels, &[own]].concat())
    }

    fn written(&self) -> String {
        self.recorder.log.flush();
        self.writer.shutdown(Duration::from_secs(10));
        std::fs::read_to_string(self.path()).unwrap_or_default()
    }
}

fn head(uri: &str) -> request::Parts {
    let request = Request::builder()
        .uri(uri)
        .header("host", "reviews:9080")
        .header("user-agent", "curl \"7\"\t8")
        .header("x-request-id", "id-1")
        .header("x-request-id", "id-2");
    request.body(()).unwrap().into_parts().0
}

#[test]
fn a_request_is_logged_in_istios_format() {
    let bench = Bench::new();
    let logs = bench.logs(DEFAULT_TEXT_FORMAT);
    let mut outcome = bench.begin(&logs, Some(&head("/a?b=c")));
    outcome.protocol = Some(Version::HTTP_11);
    outcome.status = Some(StatusCode::OK);
    outcome.details = Cow::Borrowed("via_upstream");
    (outcome.bytes_received, outcome.bytes_sent) = (3, 295);
    outcome.upstream_host = Some("[fd00::2]:9080".parse().unwrap());
    outcome.upstream_local = Some("10.0.0.1:5000".parse().unwrap());
    outcome.upstream_cluster = Some("outbound|9080||reviews".into());
    outcome.route_name = Some("default".into());
    let mut headers = HeaderMap::new();
    headers.insert(
        "x-envoy-upstream-service-time",
        HeaderValue::from_static("7"),
    );
    logs.capture_response(outcome.captured.as_mut().unwrap(), &headers);
    drop(outcome);
    assert_eq!(
        bench.written(),
        "[2026-01-31T23:59:59.007Z] \"GET /a?b=c HTTP/1.1\" 200 - via_upstream - \"-\" 3 295 0 7 \
         \"-\" \"curl \\x227\\x22\\x098\" \"id-1\" \"reviews:9080\" \"[fd00::2]:9080\" \
         outbound|9080||reviews 10.0.0.1:5000 10.96.0.10:9080 10.0.0.1:4000 - default\n"
    );
}

#[test]
fn a_connection_is_logged_in_istios_format() {
    let bench = Bench::new();
    let logs = bench.logs(DEFAULT_TEXT_FORMAT);
    let mut outcome = bench.begin(&logs, None);
    outcome.flags = Flags::UF | Flags::URX;
    outcome.transport_failure = Cow::Borrowed("connection refused");
    drop(outcome);
    assert_eq!(
        bench.written(),
        "[2026-01-31T23:59:59.007Z] \"- - -\" 0 UF,URX - - \"connection refused\" 0 0 0 - \
         \"-\" \"-\" \"-\" \"-\" \"-\" - - 10.96.0.10:9080 10.0.0.1:4000 - -\n"
    );
}

#[test]
fn the_authority_of_an_absolute_form_goes_before_the_host_and_headers_are_cut_to_length() {
    let bench = Bench::new();
    let logs = bench.logs("%REQ(:AUTHORITY)% %REQ(host)% %REQ(:path)% %REQ(user-agent):4%\n");
    drop(bench.begin(&logs, Some(&head("http://other:80/x"))));
    assert_eq!(bench.written(), "other:80 other:80 /x curl\n");
}

#[test]
fn an_alternative_header_is_taken_where_the_first_is_missing() {
    let bench = Bench::new();
    let logs = bench.logs("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %REQ(none?nor-this)%\n");
    let mut rewritten = head("/new");
    let original = HeaderValue::from_static("/old");
    rewritten.headers.insert("x-envoy-original-path", original);
    drop(bench.begin(&logs, Some(&head("/same"))));
    drop(bench.begin(&logs, Some(&rewritten)));
    assert_eq!(bench.written(), "/same -\n/old -\n");
}

#[test]
fn a_request_is_counted_once_when_it_ends() {
    let bench = Bench::new();
    let logs = Arc::new(LogSet::default());
    let active = || bench.value("envoy_http_downstream_rq_active", &[]);
    let mut outcome = bench.begin(&logs, Some(&head("/")));
    outcome.status = Some(StatusCode::BAD_GATEWAY);
    assert_eq!(active(), Some(1));
    drop(outcome);
    assert_eq!(active(), Some(0));
    assert_eq!(bench.value("envoy_http_downstream_rq_time", &[]), Some(1));
    let class = |class| {
        bench.value(
            "envoy_http_downstream_rq_xx",
            &[("envoy_response_code_class", class)],
        )
    };
    assert_eq!((class("5"), class("2")), (Some(1), Some(0)));

    // The client went away before there was a response.
    drop(bench.begin(&logs, Some(&head("/"))));
    assert_eq!(active(), Some(0));
    assert_eq!(bench.value("envoy_http_downstream_rq_time", &[]), Some(2));
    assert_eq!(class("5"), Some(1));
}

#[test]
fn nothing_is_kept_of_a_request_that_nobody_logs() {
    let bench = Bench::new();
    let logs = Arc::new(LogSet::default());
    let outcome = bench.begin(&logs, Some(&head("/")));
    assert!(outcome.captured.is_none() && outcome.start_time.is_none());
    assert_eq!(
        Arc::strong_count(&logs),
        1,
        "workers share no count of references"
    );
}

#[test]
fn an_outcome_is_small() {
    assert!(
        size_of::<Outcome>() <= 384,
        "{} bytes",
        size_of::<Outcome>()
    );
}

use std::io::{Read, Write};
use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::sync::Mutex;
use std::time::{Instant, UNIX_EPOCH};

use serde_json::Value;

use super::status::{
    ConfigStatus, DiagnosticStatus, IssuerStatus, ListenerStatus, ReloadStatus, Status,
};
use super::*;
use crate::telemetry::{Metrics, Timestamp};

struct Source {
    metrics: Metrics,
    readiness: Mutex<Readiness>,
}

impl StatusSource for Source {
    fn status(&self) -> Status {
        let at = |seconds| Timestamp::from(UNIX_EPOCH + Duration::from_secs(seconds));
        Status {
            version: "0.1.0",
            pid: 42,
            started_at: at(1_800_000_000),
            config: ConfigStatus {
                path: "/etc/portcullis/portcullis.yaml".into(),
                generation: 3,
                loaded_at: at(1_800_000_060),
                last_reload: Some(ReloadStatus {
                    at: at(1_800_000_120),
                    ok: false,
                    diagnostics: vec![DiagnosticStatus {
                        file: "policy/orders.yaml".into(),
                        line: 4,
                        column: 15,
                        code: "unknown_upstream".into(),
                        message: "route `orders-read` names upstream `order`, which is not defined"
                            .into(),
                    }],
                }),
            },
            listeners: vec![ListenerStatus {
                name: "public".into(),
                address: SocketAddr::from(([127, 0, 0, 1], 8443)),
                tls: true,
            }],
            issuers: vec![IssuerStatus {
                name: "acme".into(),
                issuer: "https://login.acme.example".into(),
                key_ids: vec!["2026-11".into()],
                key_set_age_seconds: Some(12),
                last_error: None,
                next_refresh_at: Some(at(1_800_000_300)),
            }],
            upstreams: Vec::new(),
            policy_files: Vec::new(),
        }
    }

    fn readiness(&self) -> Readiness {
        self.readiness.lock().expect("lock").clone()
    }

    fn metrics(&self) -> prometheus::Result<String> {
        self.metrics.render()
    }
}

fn start(readiness: Readiness) -> Admin {
    let source = Source {
        metrics: Metrics::new().expect("metrics"),
        readiness: Mutex::new(readiness),
    };
    Admin::start(
        StdListener::bind("127.0.0.1:0").expect("bind"),
        Arc::new(source),
    )
    .expect("starts")
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn ask(admin: &Admin, method: &str, path: &str) -> Answer {
    let mut stream = StdStream::connect(admin.address()).expect("connect");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    .expect("send");
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .expect("one answer, then the connection is closed");
    let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
    let status = head
        .split(' ')
        .nth(1)
        .expect("status")
        .parse()
        .expect("number");
    Answer {
        status,
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

#[test]
fn readiness_says_what_it_waits_for() {
    for (readiness, status, body) in [
        (Readiness::Ready, 200, r#"{"ready":true}"#),
        (
            Readiness::WaitingFor(vec!["configuration".into(), "listeners".into()]),
            503,
            r#"{"ready":false,"waiting_for":["configuration","listeners"]}"#,
        ),
        (
            Readiness::Draining,
            503,
            r#"{"ready":false,"state":"draining"}"#,
        ),
    ] {
        let admin = start(readiness);
        let answer = ask(&admin, "GET", "/readyz");
        assert_eq!((answer.status, answer.body.trim_end()), (status, body));
        assert_eq!(
            ask(&admin, "GET", "/healthz").status,
            200,
            "health is about the process alone"
        );
    }
}

#[test]
fn metrics_are_served_as_prometheus_text() {
    let answer = ask(&start(Readiness::Ready), "GET", "/metrics");
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        answer.head
    );
    assert!(
        answer.body.contains("portcullis_build_info{version="),
        "{}",
        answer.body
    );
}

#[test]
fn status_is_json_with_the_reason_of_a_failed_reload() {
    let answer = ask(&start(Readiness::Ready), "GET", "/status");
    let status: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(status["config"]["generation"], 3);
    assert_eq!(status["config"]["loaded_at"], "2027-01-15T08:01:00.000Z");
    assert_eq!(
        status["config"]["last_reload"]["diagnostics"][0]["code"],
        "unknown_upstream"
    );
    assert_eq!(status["listeners"][0]["address"], "127.0.0.1:8443");
    assert_eq!(status["issuers"][0]["key_ids"][0], "2026-11");
}

#[test]
fn only_reading_is_possible_and_only_what_is_there() {
    let admin = start(Readiness::Ready);
    for path in ["/metrics", "/healthz", "/readyz", "/status"] {
        let answer = ask(&admin, "POST", path);
        assert_eq!(answer.status, 405, "{path}");
        assert!(answer.head.contains("allow: get, head"), "{}", answer.head);
        let answer = ask(&admin, "HEAD", path);
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
    }
    for path in ["/", "/metrics/", "//metrics", "/admin", "/debug/pprof"] {
        assert_eq!(ask(&admin, "GET", path).status, 404, "{path}");
    }
}

#[test]
fn every_answer_forbids_caching_and_sniffing() {
    let admin = start(Readiness::Ready);
    for path in ["/metrics", "/healthz", "/readyz", "/status", "/nothing"] {
        let head = ask(&admin, "GET", path).head;
        assert!(head.contains("cache-control: no-store"), "{path}: {head}");
        assert!(
            head.contains("x-content-type-options: nosniff"),
            "{path}: {head}"
        );
    }
}

#[test]
fn silent_connections_are_closed_and_make_room_for_others() {
    let admin = start(Readiness::Ready);
    let silent: Vec<StdStream> = (0..MAX_CONNECTIONS)
        .map(|_| StdStream::connect(admin.address()).expect("connect"))
        .collect();
    let started = Instant::now();
    assert_eq!(ask(&admin, "GET", "/healthz").status, 200);
    assert!(
        started.elapsed() < CONNECTION_TIMEOUT,
        "{:?}",
        started.elapsed()
    );
    drop(silent);
}

#[test]
fn a_dropped_listener_frees_its_port() {
    let admin = start(Readiness::Ready);
    let address = admin.address();
    drop(admin);
    assert!(StdStream::connect(address).is_err());
}

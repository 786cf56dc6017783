//! What the gateway says about the request itself: its id, its trace, where it came from.

use std::collections::HashSet;

use http::Method;
use portcullis_e2e::{Caller, Connection, World};

use crate::steps::request;

const HEALTH: &str = "/orders/health";

#[tokio::test(flavor = "multi_thread")]
async fn every_request_has_an_id_that_the_service_and_the_caller_see() {
    let world = World::start().await;
    let mut ids = HashSet::new();
    for _ in 0..3 {
        let answer = Caller::new().get(&world.url(HEALTH)).await;
        let received = world.service.last_request();
        let id = received.header("x-request-id").expect("an id").to_owned();
        assert_eq!(answer.header("x-request-id"), Some(id.as_str()));
        assert!(ids.insert(id), "each request has its own");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_request_ids_are_replaced() {
    let world = World::start().await;
    let long = "a".repeat(4096);
    for hostile in [
        "a b",
        "\"quoted\"",
        "<script>",
        "a\u{1b}[31mb",
        "{\"level\":",
        "",
        &long,
    ] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let line = format!("X-Request-ID: {hostile}");
        let response = connection.request(request("GET", HEALTH, &[&line])).await;
        if response.status == 400 {
            continue;
        }
        assert_eq!(response.status, 200, "{hostile}");
        let received = world.service.last_request();
        let id = received.header("x-request-id").unwrap();
        assert_ne!(id, hostile);
        assert!(!id.is_empty() && id.len() <= 128, "{id}");
        assert!(
            id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
            "{id}"
        );
    }
    // Spellings that a service could fold to it do not survive beside ours.
    let headers = [("x_request_id", "forged"), ("X-Request_ID", "forged")];
    Caller::new()
        .send(Method::GET, &world.url(HEALTH), &headers, b"")
        .await;
    assert_eq!(
        world
            .service
            .last_request()
            .spellings_of("x-request-id")
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_request_has_the_same_id_everywhere() {
    let world = World::start().await;
    let answer = Caller::new().get(&world.url("/orders/7")).await;
    let problem = answer.assert_refused(401, "credential_missing");
    let lines = world.gateway.wait_for_access_log(1).await;
    let logged = lines[0].to_string();
    assert!(
        logged.contains(problem["request_id"].as_str().unwrap()),
        "{logged}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_goes_on_with_a_span_of_the_gateways_own() {
    let world = World::start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = [("traceparent", parent.as_str()), ("tracestate", "vendor=1")];
    Caller::new()
        .send(Method::GET, &world.url(HEALTH), &headers, b"")
        .await;
    let received = world.service.last_request();
    let forwarded = received.header("traceparent").unwrap();
    let parts: Vec<_> = forwarded.split('-').collect();
    assert_eq!((parts[0], parts[1], parts[3]), ("00", trace, "01"));
    assert_ne!(
        parts[2], "00f067aa0ba902b7",
        "the parent is the gateway's span now"
    );
    assert_eq!(parts[2].len(), 16);
    assert_eq!(received.header("tracestate"), Some("vendor=1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_or_malformed_trace_is_replaced_by_a_new_one() {
    let world = World::start().await;
    for malformed in [
        None,
        Some("garbage"),
        Some("00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
        Some("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"),
        Some("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        Some("00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01"),
    ] {
        let headers: Vec<_> = malformed
            .iter()
            .flat_map(|value: &&str| [("traceparent", *value), ("tracestate", "vendor=1")])
            .collect();
        Caller::new()
            .send(Method::GET, &world.url(HEALTH), &headers, b"")
            .await;
        let received = world.service.last_request();
        let forwarded = received.header("traceparent").unwrap();
        let parts: Vec<_> = forwarded.split('-').collect();
        let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
        assert_eq!(lengths, [2, 32, 16, 2], "{malformed:?}: {forwarded}");
        let is_lower_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        assert!(
            parts.iter().all(|part| part.chars().all(is_lower_hex)),
            "{forwarded}"
        );
        assert_ne!(parts[1], "00000000000000000000000000000000");
        assert!(
            !forwarded.contains("4bf92f3577b34da6a3ce929d0e0e4736"),
            "{malformed:?}"
        );
        assert_eq!(
            received.header("tracestate"),
            None,
            "state of a trace that was dropped"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_headers_of_a_stranger_are_replaced_by_what_the_socket_says() {
    let world = World::start().await;
    let spoofed = [
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-for", "10.0.0.2, 10.0.0.3"),
        ("x_forwarded_for", "10.0.0.4"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-port", "evil-port"),
        ("x-real-ip", "10.0.0.5"),
        ("forwarded", "for=10.0.0.6;host=evil.example;proto=https"),
    ];
    let mut headers = spoofed.to_vec();
    headers.push(("host", "api.acme.example"));
    Caller::new()
        .send(Method::GET, &world.url(HEALTH), &headers, b"")
        .await;
    let received = world.service.last_request();
    assert_eq!(received.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(received.header("x-forwarded-proto"), Some("http"));
    assert_eq!(
        received.header("x-forwarded-host"),
        Some("api.acme.example")
    );
    let forwarded = received.header("forwarded").unwrap();
    for part in ["for=127.0.0.1", "proto=http", "host=api.acme.example"] {
        assert!(forwarded.contains(part), "{forwarded}");
    }
    let everything = format!("{:?}", received.fields);
    for forged in ["10.0.0.", "evil.example", "evil-port"] {
        assert!(!everything.contains(forged), "{everything}");
    }
    assert_eq!(received.spellings_of("x-forwarded-for").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_headers_of_a_trusted_proxy_are_extended() {
    let world = World::start_with(|yaml| yaml.section("trusted_proxies: [127.0.0.0/8]")).await;
    let headers = [
        ("host", "inner.acme.example"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "api.acme.example"),
    ];
    Caller::new()
        .send(Method::GET, &world.url(HEALTH), &headers, b"")
        .await;
    let received = world.service.last_request();
    assert_eq!(
        received.header("x-forwarded-for"),
        Some("203.0.113.7, 127.0.0.1")
    );
    assert_eq!(received.header("x-forwarded-proto"), Some("https"));
    assert_eq!(
        received.header("x-forwarded-host"),
        Some("api.acme.example")
    );
    let lines = world.gateway.wait_for_access_log(1).await;
    assert_eq!(lines[0]["client.address"], "203.0.113.7", "{}", lines[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_host_never_chooses_a_route() {
    let policy = r#"
owner: orders-team
routes:
  - name: inside
    match: { host: inside.acme.example, path: "/x" }
    upstream: orders
    public: true
  - name: outside
    match: { host: api.acme.example, path: "/y" }
    upstream: orders
    public: true
"#;
    let world = World::start_with_gateway(
        |yaml| yaml.section("trusted_proxies: [127.0.0.1]"),
        |builder| builder.file("policy/orders.yaml", policy),
    )
    .await;
    for line in [
        "X-Forwarded-Host: inside.acme.example",
        "X-Host: inside.acme.example",
        "Forwarded: host=inside.acme.example",
        "X-Original-Host: inside.acme.example",
    ] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let response = connection.request(request("GET", "/x", &[line])).await;
        assert_eq!(response.status, 404, "{line}");
    }
    let mut connection = Connection::open(world.gateway.address("public")).await;
    assert_eq!(
        connection.request(request("GET", "/y", &[])).await.status,
        200
    );
    world.service.wait_for_requests(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn host_is_matched_without_its_port_its_case_or_its_trailing_dot() {
    let policy = r#"
owner: orders-team
routes:
  - name: inside
    match: { host: api.acme.example, path: "/x" }
    upstream: orders
    public: true
"#;
    let world = World::start_with_gateway(
        |yaml| yaml,
        |builder| builder.file("policy/orders.yaml", policy),
    )
    .await;
    for (host, status) in [
        ("api.acme.example", 200),
        ("API.acme.example", 200),
        ("api.acme.example:8443", 200),
        ("api.acme.example.", 200),
        ("other.example", 404),
        ("xapi.acme.example", 404),
        ("api.acme.example.evil.example", 404),
    ] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let text = format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let response = connection.request(text).await;
        assert_eq!(response.status, status, "{host}");
    }
}

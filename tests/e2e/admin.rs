//! What operators ask the gateway.

use std::fs;
use std::path::Path;
use std::time::Duration;

use http::Method;
use portcullis_e2e::{
    Caller, Gateway, GatewayYaml, Issuer, ORDERS_POLICY, Prometheus, Service, SigningKey, World,
    eventually, promtool_check_metrics,
};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_what_it_waits_for() {
    let issuer = Issuer::start_down(SigningKey::p256("only")).await;
    let service = Service::start().await;
    let yaml = GatewayYaml::new()
        .issuer("acme", &issuer)
        .upstream("orders", service.address());
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", ORDERS_POLICY),
    ])
    .await;
    let answer = Caller::new().get(&gateway.admin_url("/readyz")).await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("acme"), "{}", answer.text());
    assert!(answer.json().is_object(), "{}", answer.text());
    let answer = Caller::new().get(&gateway.admin_url("/healthz")).await;
    assert_eq!(answer.status, 200, "it is alive all the same");

    issuer.bring_up().await;
    let gateway = gateway.until_ready().await;
    let answer = Caller::new().get(&gateway.admin_url("/readyz")).await;
    assert!(answer.json().is_object(), "{}", answer.text());
    // Once ready it stays so: the keys that it has are enough.
    issuer.take_down().await;
    assert_eq!(
        Caller::new()
            .get(&gateway.admin_url("/readyz"))
            .await
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_is_serving() {
    let world = World::start().await;
    let status = world.gateway.status().await;
    let text = status.to_string();
    for expected in ["acme", "orders", "public", "first", world.issuer.issuer()] {
        assert!(text.contains(expected), "no `{expected}` in {status:#}");
    }
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["pid"], world.gateway.process_id());
    assert_eq!(
        status["config"]["generation"],
        world.gateway.generation().await
    );
    assert!(status["config"]["loaded_at"].is_string(), "{status:#}");
    let address = world.gateway.address("public").to_string();
    assert_eq!(status["listeners"][0]["address"], address);
    assert_eq!(status["issuers"][0]["key_ids"], json!(["first"]));
    assert!(
        status["issuers"][0]["key_set_age_seconds"].is_u64(),
        "{status:#}"
    );
    assert!(status["issuers"][0]["last_error"].is_null(), "{status:#}");
    let resolved = world.service.address().to_string();
    assert_eq!(status["upstreams"][0]["resolved"], json!([resolved]));
    assert_eq!(status["policy_files"][0]["owner"], "orders-team");
    assert_eq!(status["policy_files"][0]["current"], true);

    world.gateway.reload().await;
    let status = world.gateway.status().await;
    assert_eq!(
        status["config"]["generation"],
        world.gateway.generation().await
    );
    assert_eq!(status["config"]["last_reload"]["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_paths_are_get_only_and_nothing_else_is_there() {
    let world = World::start().await;
    for path in [
        "/",
        "/metricsx",
        "/orders/7",
        "/public/x",
        "/../metrics",
        "/debug",
    ] {
        let answer = Caller::new().get(&world.gateway.admin_url(path)).await;
        let wanted = if path == "/../metrics" { 200 } else { 404 };
        // A polite client resolves the dots itself.
        assert_eq!(answer.status, wanted, "{path}");
    }
    for path in ["/metrics", "/healthz", "/readyz", "/status"] {
        let url = world.gateway.admin_url(path);
        assert_eq!(Caller::new().get(&url).await.status, 200, "{path}");
        let answer = Caller::new().send(Method::POST, &url, &[], b"").await;
        assert_eq!(answer.status, 405, "{path}");
    }
    world.service.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_wrong_with_the_metrics() {
    let world = World::start().await;
    let token = world.token("orders:read");
    Caller::new()
        .get_with_token(&world.url("/orders/7"), &token)
        .await;
    Caller::new().get(&world.url("/orders/7")).await;
    let answer = Caller::new()
        .get(&world.gateway.admin_url("/metrics"))
        .await;
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("text/plain"),
        "{answer:?}"
    );
    let verdict = promtool_check_metrics(&answer.text());
    assert_eq!(
        (
            verdict.status,
            verdict.stdout.as_str(),
            verdict.stderr.as_str()
        ),
        (Some(0), "", ""),
        "{}",
        answer.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_the_outcome_of_each_request() {
    let world = World::start().await;
    let token = world.token("orders:read");
    for _ in 0..3 {
        Caller::new()
            .get_with_token(&world.url("/orders/7"), &token)
            .await;
    }
    Caller::new().get(&world.url("/orders/7")).await;
    Caller::new().get(&world.url("/nowhere")).await;
    let prometheus = Prometheus::scraping(world.gateway.admin_address()).await;
    prometheus.query("up{job=\"portcullis\"} == 1").await;
    for expression in [
        "sum(portcullis_requests_total{route=\"orders-read\",outcome=\"admitted\"}) == 3",
        "portcullis_requests_total{route=\"orders-read\",code=\"credential_missing\"} == 1",
        "sum(portcullis_requests_total{code=\"route_not_found\"}) == 1",
        "portcullis_config_generation >= 1",
        "portcullis_build_info == 1",
        "portcullis_key_set_refreshes_total{issuer=\"acme\",result=\"succeeded\"} >= 1",
        "time() - portcullis_key_set_last_success_timestamp_seconds{issuer=\"acme\"} < 60",
        "portcullis_request_duration_seconds_count{route=\"orders-read\"} == 4",
        "sum(portcullis_upstream_duration_seconds_count{upstream=\"orders\"}) == 3",
        "portcullis_admission_duration_seconds_count > 0",
        "process_resident_memory_bytes > 0",
    ] {
        prometheus.query(expression).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn known_series_start_at_zero() {
    let world = World::start().await;
    let metrics = world.gateway.metrics().await;
    for (name, labels) in [
        (
            "portcullis_requests_total",
            vec![("route", "orders-read"), ("outcome", "admitted")],
        ),
        (
            "portcullis_token_verifications_total",
            vec![("issuer", "acme"), ("result", "refused")],
        ),
        (
            "portcullis_key_set_refreshes_total",
            vec![("issuer", "acme"), ("result", "failed")],
        ),
        ("portcullis_access_log_lines_dropped_total", vec![]),
    ] {
        assert_eq!(metrics.find(name, &labels), Some(0.0), "{name}{labels:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_cannot_make_series() {
    let world = World::start().await;
    let caller = Caller::new();
    let round = |canary: &'static str| {
        let (world, caller) = (&world, &caller);
        async move {
            for n in 0..30 {
                let word = format!("{canary}{n}");
                let token = world
                    .issuer
                    .token()
                    .header("kid", json!(word))
                    .claim("sub", json!(word))
                    .claim("client_id", json!(word))
                    .claim("iss", json!(format!("https://{word}.example")))
                    .sign();
                let authorization = format!("Bearer {token}");
                let method = Method::from_bytes(word.to_uppercase().as_bytes()).unwrap();
                let host = format!("{word}.example");
                let headers = [
                    ("authorization", authorization.as_str()),
                    ("host", host.as_str()),
                    ("user-agent", word.as_str()),
                    ("x-request-id", word.as_str()),
                ];
                let url = world.url(&format!("/orders/{word}"));
                caller.send(Method::GET, &url, &headers, b"").await;
                caller.send(method, &url, &headers, b"").await;
                let url = world.url(&format!("/{word}?{word}"));
                caller.send(Method::GET, &url, &headers, b"").await;
            }
        }
    };
    round("canary").await;
    let before = world.gateway.metrics().await;
    round("budgerigar").await;
    let after = world.gateway.metrics().await;
    assert_eq!(after.series_count(), before.series_count());
    for value in after.label_values() {
        let value = value.to_lowercase();
        assert!(
            !value.contains("canary") && !value.contains("budgerigar"),
            "{value}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented() {
    let world = World::start().await;
    let token = world.token("orders:read");
    Caller::new()
        .get_with_token(&world.url("/orders/7"), &token)
        .await;
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/telemetry.md");
    let page = fs::read_to_string(page).unwrap();
    let metrics = world.gateway.metrics().await;
    let undocumented: Vec<_> = metrics
        .names()
        .into_iter()
        .filter(|name| name.starts_with("portcullis_"))
        .map(|name| {
            let histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .filter(|base| page.contains(&format!("`{base}")));
            histogram.unwrap_or(name)
        })
        .filter(|name| !page.contains(&format!("`{name}")))
        .collect();
    assert!(undocumented.is_empty(), "{undocumented:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_listener_answers_while_the_others_are_busy() {
    let world = World::start().await;
    let mut scrapes = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let url = world.gateway.admin_url("/metrics");
        scrapes.spawn(async move { Caller::new().get(&url).await.status });
    }
    let answers = scrapes.join_all().await;
    assert_eq!(answers, [200; 50]);
    // A scraper that never reads holds up nobody.
    let mut slow = portcullis_e2e::Connection::open(world.gateway.admin_address()).await;
    slow.send("GET /metrics HTTP/1.1\r\n").await;
    eventually("an answer beside a slow scraper", || async {
        let started = tokio::time::Instant::now();
        let answer = Caller::new()
            .get(&world.gateway.admin_url("/healthz"))
            .await;
        (answer.status == 200 && started.elapsed() < Duration::from_secs(1)).then_some(())
    })
    .await;
}

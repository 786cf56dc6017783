//! Too much at once: new work is refused, and the gateway lives on.

use std::time::{Duration, Instant};

use portcullis_e2e::http2_frames::{END_STREAM, PREFACE, frame, headers, settings};
use portcullis_e2e::{
    Caller, Connection, ControlGroup, DEADLINE, Http2Connection, Response, World, eventually,
    eventually_within,
};

use super::http2::{Edge, ORDERS_POLICY_WITHOUT_TOKENS, request};
use crate::steps;

const MIB: f64 = 1024.0 * 1024.0;

/// Opens a wide window and 100 streams, and reads nothing.
async fn take_nothing(edge: &Edge) -> Option<Connection> {
    // Memory may be short before the last of them is here.
    let mut connection = edge.try_connect().await.ok()?;
    let window = (1_u32 << 31) - 1;
    let mut bytes = [PREFACE, &settings(4, window)].concat();
    bytes.extend(frame(8, 0, 0, &(window - 65_535).to_be_bytes()));
    for stream in 0..100 {
        let fields = request("GET", "/public/x");
        bytes.extend(headers(2 * stream + 1, END_STREAM, &fields));
    }
    // It may be closed in the middle of this.
    let _ = connection.try_send(bytes).await;
    Some(connection)
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_take_nothing_do_not_use_up_the_memory() {
    // Sixteen connections would hold a gigabyte.
    const MEMORY: f64 = 250.0 * MIB;
    let section = "overload: { memory: 250MiB }";
    let edge = Edge::start_with(ORDERS_POLICY_WITHOUT_TOKENS, section).await;
    edge.service
        .always(Response::new(200).body(vec![b'x'; 1_000_000]));
    let metric = async |name: &str| edge.gateway.metrics().await.value(name, &[]);
    let before = edge.gateway.holds().await;
    let mut hostile = Vec::new();
    for _ in 0..16 {
        hostile.push(take_nothing(&edge).await);
    }
    let mut most: f64 = 0.0;
    let started = Instant::now();
    // What they are given up for, sooner or later, is that they take nothing.
    while started.elapsed() < Duration::from_secs(3)
        || metric("portcullis_connections_shed_total").await == 0.0
    {
        // Metrics answer throughout.
        most = most.max(metric("process_resident_memory_bytes").await);
        assert!(started.elapsed() < DEADLINE, "nobody was given up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // They hold a gigabyte otherwise; between two looks, some of it comes through.
    assert!(most < MEMORY * 1.5, "{} MiB", most / MIB);
    edge.gateway.wait_for_log("memory is short").await;
    let lines = edge.gateway.access_log();
    let code = |line: &serde_json::Value| line["portcullis.code"].clone();
    assert!(lines.iter().any(|line| code(line) == "overloaded"));
    drop(hostile);
    edge.service.forget();
    edge.until_nothing_is_in_flight().await;
    // Although nobody asks for anything, so that the allocator has no reason to give memory back.
    eventually_within(Duration::from_secs(2), "enough memory", || async {
        (metric("portcullis_overloaded").await == 0.0).then_some(())
    })
    .await;
    let mut connection = edge.connect().await;
    let head = headers(1, END_STREAM, &request("GET", "/public/x"));
    connection
        .send([PREFACE, &settings(4, 1_000), &head].concat())
        .await;
    edge.service.wait_for_requests(1).await;
    drop(connection);
    // How much memory counts for what, the metric has said.
    let before = before.and_kept(32).and_any_memory();
    edge.gateway.until_it_holds_no_more_than(before).await;
}

/// `overload.memory` is two thirds of what the kernel allows, as the documentation asks for.
#[expect(clippy::print_stderr, reason = "a test that shows nothing says so")]
#[tokio::test(flavor = "multi_thread")]
async fn process_in_a_control_group_is_not_killed_for_what_callers_do_not_take() {
    let Some(group) = ControlGroup::of_memory(384 << 20) else {
        eprintln!("skipped: no control group can be made here");
        return;
    };
    let section = "overload: { memory: 256MiB }";
    let edge = Edge::start_with(ORDERS_POLICY_WITHOUT_TOKENS, section).await;
    group.take(edge.gateway.process_id());
    edge.service
        .always(Response::new(200).body(vec![b'x'; 1_000_000]));
    for _ in 0..3 {
        let mut hostile = Vec::new();
        for _ in 0..16 {
            hostile.push(take_nothing(&edge).await);
        }
        // Metrics answer throughout.
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(2) {
            edge.gateway.metrics().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(hostile);
        edge.until_nothing_is_in_flight().await;
    }
    edge.gateway.wait_for_log("memory is short").await;
    assert_eq!(group.kills(), 0);
    edge.gateway.assert_healthy();
    // The group can end when nobody is in it.
    drop(edge);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_memory_requests_are_refused_and_the_admin_listener_answers() {
    let world = World::start_with(|yaml| {
        yaml.section(
            "overload: { memory: 1GiB, refuse_at_memory_percent: 1, close_at_memory_percent: 100 }",
        )
    })
    .await;
    eventually("overload", || async {
        let metrics = world.gateway.metrics().await;
        (metrics.value("portcullis_overloaded", &[]) == 1.0).then_some(())
    })
    .await;
    let token = world.token("orders:read");
    let caller = Caller::new();
    for target in ["/orders/7", "/orders/health", "/nowhere"] {
        let answer = caller.get_with_token(&world.url(target), &token).await;
        assert_eq!(answer.status, 503, "{target}");
        assert_eq!(answer.json()["code"], "overloaded");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.header("connection"), Some("close"));
    }
    world.service.assert_untouched();
    for path in ["/healthz", "/readyz", "/status"] {
        let answer = caller.get(&world.gateway.admin_url(path)).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    // A reload takes the new numbers.
    let yaml = std::fs::read_to_string(world.gateway.directory().join("portcullis.yaml")).unwrap();
    world.gateway.write(
        "portcullis.yaml",
        &yaml.replace(
            "refuse_at_memory_percent: 1",
            "refuse_at_memory_percent: 85",
        ),
    );
    world.gateway.reload().await;
    eventually("service", || async {
        let answer = caller.get_with_token(&world.url("/orders/7"), &token).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_share_are_told_to_come_back() {
    let world = World::start_with(|yaml| {
        yaml.section("limits: { connections: 10 }\noverload: { refuse_at_connections_percent: 80 }")
    })
    .await;
    let health = steps::request("GET", "/orders/health", &[]);
    let address = world.gateway.address("public");
    let mut served = Vec::new();
    for _ in 0..8 {
        let mut connection = Connection::open(address).await;
        assert_eq!(connection.request(&health).await.status, 200);
        served.push(connection);
    }
    let mut surplus = Connection::open(address).await;
    let response = surplus.request(&health).await;
    assert_eq!(response.status, 503);
    assert_eq!(response.header("retry-after"), Some("1"));
    assert!(surplus.is_closed_within(Duration::from_secs(5)).await);
    // Whoever was there before goes on, and who comes after somebody left is welcome.
    let mut first = served.remove(0);
    assert_eq!(first.request(&health).await.status, 200);
    drop(first);
    eventually("a free place", || async {
        let mut connection = Connection::open(address).await;
        (connection.request(&health).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn address_has_only_so_many_connections() {
    let limits = "limits: { connections_per_address: 3 }";
    let world = World::start_with(|yaml| yaml.section(limits)).await;
    let health = steps::request("GET", "/orders/health", &[]);
    let address = world.gateway.address("public");
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut connection = Connection::open(address).await;
        assert_eq!(connection.request(&health).await.status, 200);
        open.push(connection);
    }
    let mut further = Connection::open(address).await;
    assert!(further.is_closed_within(Duration::from_secs(5)).await);
    let metrics = world.gateway.metrics().await;
    let labels = [("listener", "public")];
    assert_eq!(
        metrics.value("portcullis_connections_refused_total", &labels),
        1.0
    );
    open.pop();
    eventually("a free place", || async {
        let mut connection = Connection::open(address).await;
        let _ = connection.try_send(&health).await;
        let response = connection.read_response_or_close().await?;
        (response.status == 200).then_some(())
    })
    .await;

    // A proxy in front speaks for many.
    let proxied = format!("{limits}\ntrusted_proxies: [127.0.0.1]");
    let world = World::start_with(|yaml| yaml.section(&proxied)).await;
    let mut open = Vec::new();
    for _ in 0..6 {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        assert_eq!(connection.request(&health).await.status, 200);
        open.push(connection);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_of_a_crowded_moment_is_served_when_there_is_room() {
    let world = World::start_with(|yaml| {
        yaml.section("limits: { connections: 10 }\noverload: { refuse_at_connections_percent: 80 }")
    })
    .await;
    let address = world.gateway.address("public");
    let mut others = Vec::new();
    for _ in 0..8 {
        let mut connection = Connection::open(address).await;
        let health = steps::request("GET", "/orders/health", &[]);
        assert_eq!(connection.request(&health).await.status, 200);
        others.push(connection);
    }
    let mut late = Http2Connection::open(address).await;
    let url = "http://api.acme.example/orders/health";
    assert_eq!(late.get(url, &[]).await.status, 503);
    drop(others);
    let late = tokio::sync::Mutex::new(late);
    eventually("service on the same connection", || async {
        let answer = late.lock().await.get(url, &[]).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

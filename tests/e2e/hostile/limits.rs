//! Too much, too long, too slow.

use std::fmt::Write;
use std::time::Duration;

use portcullis_e2e::{
    Authority, Caller, Connection, Response, TlsOptions, World, eventually_within,
};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{assert_alive, assert_all_invalid, statuses};
use crate::steps::{bearer, request};

#[tokio::test(flavor = "multi_thread")]
async fn token_is_bounded_before_anything_is_computed() {
    let world = World::start().await;
    let padded = |size: usize| {
        let bare = world
            .issuer
            .token()
            .scope("orders:read")
            .claim("pad", json!(""))
            .sign();
        let padding = "x".repeat((size.saturating_sub(bare.len())) * 3 / 4);
        world
            .issuer
            .token()
            .scope("orders:read")
            .claim("pad", json!(padding))
            .sign()
    };
    let ok = padded(16_000);
    assert!(ok.len() <= 16 << 10, "{}", ok.len());
    let answer = Caller::new()
        .get_with_token(&world.url("/orders/7"), &ok)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    world.service.forget();
    for size in [17_000, 30_000, 100_000, 1 << 20] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let text = request("GET", "/orders/7", &[&bearer(&padded(size))]);
        // The other side may stop reading in the middle of this.
        let _ = connection.try_send(text).await;
        let response = connection.read_response_or_close().await;
        let status = response.map(|response| response.status);
        assert!(
            matches!(status, None | Some(400 | 401 | 431)),
            "{size}: {status:?}"
        );
    }
    world.service.assert_untouched();
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_a_caller_sends_is_bounded() {
    let world = World::start().await;
    let mut many = String::from("GET /public/x HTTP/1.1\r\nHost: h\r\n");
    for n in 0..101 {
        write!(many, "X-{n}: a\r\n").unwrap();
    }
    let long = "a".repeat(9_000);
    let cases = [
        ("many headers", many + "\r\n", &[400, 431][..]),
        (
            "long header",
            format!(
                "GET /public/x HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
                "a".repeat(40_000)
            ),
            &[400, 431],
        ),
        (
            "long target",
            format!("GET /public/{long} HTTP/1.1\r\nHost: h\r\n\r\n"),
            &[400, 414],
        ),
        (
            "long query",
            format!("GET /public/x?{long} HTTP/1.1\r\nHost: h\r\n\r\n"),
            &[400, 414],
        ),
        (
            "very long target",
            format!("GET /public/{} HTTP/1.1\r\n", "a".repeat(70_000)),
            &[400, 414],
        ),
        (
            "long method",
            format!("{long} /public/x HTTP/1.1\r\nHost: h\r\n\r\n"),
            &[400, 405, 431],
        ),
        (
            "many segments",
            format!(
                "GET /public{} HTTP/1.1\r\nHost: h\r\n\r\n",
                "/a".repeat(3_000)
            ),
            &[200, 414],
        ),
        (
            "many dots",
            format!(
                "GET /public{} HTTP/1.1\r\nHost: h\r\n\r\n",
                "/..".repeat(1_000)
            ),
            &[400],
        ),
    ];
    for (name, text, allowed) in cases {
        let statuses = statuses(&world, text.as_bytes()).await;
        let is_allowed = statuses.iter().all(|status| allowed.contains(status));
        assert!(is_allowed && statuses.len() <= 1, "{name}: {statuses:?}");
    }
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_head_is_cut_off_at_its_deadline_on_every_request_of_a_connection() {
    let world = World::start_with(|yaml| yaml.section("limits: { header_timeout: 1s }")).await;
    for earlier_requests in [0, 1] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        for _ in 0..earlier_requests {
            let response = connection
                .request(request("GET", "/orders/health", &[]))
                .await;
            assert_eq!(response.status, 200);
        }
        let started = tokio::time::Instant::now();
        let trickle = async {
            for byte in request("GET", "/orders/health", &["X: y"]).bytes() {
                if connection.try_send([byte]).await.is_err() {
                    return;
                }
                if connection
                    .is_closed_within(Duration::from_millis(200))
                    .await
                {
                    return;
                }
            }
        };
        trickle.await;
        let took = started.elapsed();
        assert!(
            took < Duration::from_secs(5),
            "after {earlier_requests}: {took:?}"
        );
    }
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_ends_with_the_last_request_that_it_may_have_and_says_so() {
    const LAST: usize = 3;
    let limits = format!("limits: {{ requests_per_connection: {LAST} }}");
    let world = World::start_with(|yaml| yaml.section(&limits)).await;
    let ask = |n: usize| request("GET", &format!("/public/{n}"), &[]);
    for is_pipelined in [false, true] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        if is_pipelined {
            // And one more, which nobody takes.
            let all: String = (1..=LAST + 1).map(ask).collect();
            connection.send(all).await;
        }
        for n in 1..=LAST {
            if !is_pipelined {
                connection.send(ask(n)).await;
            }
            let response = connection.read_response().await;
            assert_eq!(response.status, 200, "{n}");
            let ends = response.header("connection") == Some("close");
            assert_eq!(ends, n == LAST, "{n}: {response:?}");
        }
        assert!(connection.is_closed_within(Duration::from_secs(5)).await);
        assert_alive(&world).await;
        assert_eq!(world.service.request_count(), LAST + 1);
        world.service.forget();
    }
}

/// What a caller says first over TLS: one record.
async fn client_hello() -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let options = TlsOptions::new(&Authority::new("edge"), "api.acme.example");
    let calling = tokio::spawn(async move { options.connect(address).await });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut hello = vec![0; 5];
    stream.read_exact(&mut hello).await.unwrap();
    let length = u16::from_be_bytes([hello[3], hello[4]]);
    hello.resize(5 + usize::from(length), 0);
    stream.read_exact(&mut hello[5..]).await.unwrap();
    calling.abort();
    hello
}

#[tokio::test(flavor = "multi_thread")]
async fn handshake_that_does_not_come_to_its_end_is_cut_off_at_its_deadline() {
    let world = World::start_with_gateway(
        |yaml| {
            yaml.listener("{ name: public, address: \"127.0.0.1:0\" }")
                .listener(
                    "{ name: secure, address: \"127.0.0.1:0\", tls: { certificates: \
                     [{ certificate: edge.pem, private_key: edge.key }] } }",
                )
                // Another limit must not be what ends it.
                .section("limits: { handshake_timeout: 1s, header_timeout: 60s }")
        },
        |builder| {
            let edge = Authority::new("edge").issue_for("api.acme.example");
            edge.write(builder.directory(), "edge");
            builder
        },
    )
    .await;
    let hello = client_hello().await;
    let half = hello.len() / 2;
    for (name, bytes) in [
        ("nothing", &hello[..0]),
        ("half a hello", &hello[..half]),
        ("a hello", &hello[..]),
    ] {
        let started = tokio::time::Instant::now();
        let mut connection = Connection::open(world.gateway.address("secure")).await;
        connection.send(bytes).await;
        let ended = tokio::time::timeout(Duration::from_secs(5), connection.read_to_end()).await;
        assert!(ended.is_ok(), "{name}");
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(900), "{name}: {took:?}");
    }
    let metrics = world.gateway.metrics().await;
    let labels = [("listener", "secure"), ("result", "timed_out")];
    assert_eq!(
        metrics.value("portcullis_tls_handshakes_total", &labels),
        3.0
    );
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_idle_connections_are_closed() {
    let world = World::start_with(|yaml| {
        yaml.section("limits: { header_timeout: 1s, idle_timeout: 1s, body_timeout: 1s }")
    })
    .await;
    let address = world.gateway.address("public");
    let mut silent = Connection::open(address).await;
    let mut idle = Connection::open(address).await;
    assert_eq!(
        idle.request(request("GET", "/orders/health", &[]))
            .await
            .status,
        200
    );
    let mut half = Connection::open(address).await;
    half.send("GET /orders/health HTTP/1.1\r\nHost: h\r\n")
        .await;
    let mut upload = Connection::open(address).await;
    upload
        .send(request("POST", "/public/x", &["Content-Length: 100"]) + "half")
        .await;
    for (name, connection) in [("silent", &mut silent), ("idle", &mut idle)] {
        assert!(
            connection.is_closed_within(Duration::from_secs(5)).await,
            "{name}"
        );
    }
    for (name, mut connection) in [("half a head", half), ("half a body", upload)] {
        let ended = tokio::time::timeout(Duration::from_secs(5), connection.read_to_end()).await;
        assert!(ended.is_ok(), "{name}");
    }
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_idle_connections_keep_nobody_out_and_end_with_the_idle_timeout() {
    const COUNT: usize = 2_000;
    const AT_ONCE: usize = 8;
    // Long enough for the last to come before the first is gone.
    let limits = "limits: { idle_timeout: 15s, connections_per_address: 5000 }";
    let world = World::start_with(|yaml| yaml.section(limits)).await;
    let before = world.gateway.holds().await;
    let address = world.gateway.address("public");
    let mut opening = JoinSet::new();
    for _ in 0..AT_ONCE {
        opening.spawn(async move {
            let health = request("GET", "/orders/health", &[]);
            let mut idle = Vec::new();
            for _ in 0..COUNT / AT_ONCE {
                let mut connection = Connection::open(address).await;
                assert_eq!(connection.request(&health).await.status, 200);
                idle.push(connection);
            }
            idle
        });
    }
    let idle = opening.join_all().await.into_iter().flatten();
    let mut idle: Vec<_> = idle.collect();
    let open = async || {
        let metrics = world.gateway.metrics().await;
        metrics.value("portcullis_connections", &[("listener", "public")])
    };
    assert_eq!(open().await, COUNT as f64);
    // One more is accepted and served among them.
    assert_alive(&world).await;
    eventually_within(Duration::from_secs(60), "an empty gateway", || async {
        (open().await == 0.0).then_some(())
    })
    .await;
    for connection in &mut idle {
        assert!(connection.is_closed_within(Duration::from_secs(5)).await);
    }
    assert_alive(&world).await;
    let before = before.and_kept(32);
    world.gateway.until_it_holds_no_more_than(before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn response_that_is_taken_byte_by_byte_is_given_up_in_time() {
    // More than the kernel takes ahead on both sides, which is all that a slow reader ever gets.
    const LENGTH: usize = 32 << 20;
    let world = World::start_with(|yaml| yaml.section("limits: { body_timeout: 1s }")).await;
    world
        .service
        .always(Response::new(200).body(vec![b'x'; LENGTH]));
    let mut slow = Connection::open_narrow(world.gateway.address("public")).await;
    slow.send(request("GET", "/public/x", &[])).await;
    let started = tokio::time::Instant::now();
    // Never silent: there is always a byte to be taken, and one at a time is.
    let dripping = async {
        while !slow.is_closed_within(Duration::from_secs(1)).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let lines = tokio::select! {
        lines = world.gateway.wait_for_access_log(1) => lines,
        () = dripping => panic!("closed before the first byte"),
    };
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let sent = lines[0]["http.response.body.size"].as_u64().unwrap();
    assert!(sent < LENGTH as u64, "{lines:?}");
    world.service.always(Response::new(200));
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn body_that_comes_in_drops_is_given_up_in_time() {
    let limits = "limits: { body_timeout: 1s, body_bytes_per_second: 1000 }";
    let world = World::start_with(|yaml| yaml.section(limits)).await;
    let upload = request("POST", "/public/x", &["Content-Length: 100000"]);
    let mut requests = 0;
    for earlier_requests in [0, 1] {
        let mut slow = Connection::open(world.gateway.address("public")).await;
        for _ in 0..earlier_requests {
            let health = request("GET", "/orders/health", &[]);
            assert_eq!(slow.request(health).await.status, 200);
        }
        slow.send(&upload).await;
        let started = tokio::time::Instant::now();
        // Never silent for long enough to be called silent.
        while slow.try_send("drop").await.is_ok() && started.elapsed() < Duration::from_secs(10) {
            if slow.is_closed_within(Duration::from_millis(200)).await {
                break;
            }
        }
        let took = started.elapsed();
        assert!(
            took < Duration::from_secs(5),
            "after {earlier_requests}: {took:?}"
        );
        requests += earlier_requests + 1;
        let lines = world.gateway.wait_for_access_log(requests).await;
        let line = &lines[requests - 1];
        assert_eq!(line["portcullis.code"], "request_timeout", "{lines:?}");
        assert_eq!(line["http.response.status_code"], 408, "{lines:?}");
    }

    // Twice as fast as it has to be, for three times as long as silence may last.
    let mut steady = Connection::open(world.gateway.address("public")).await;
    let head = request("POST", "/public/x", &["Content-Length: 6000"]);
    steady.send(&head).await;
    for _ in 0..10 {
        steady.send(vec![b'x'; 600]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(steady.read_response().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn body_that_is_too_large_is_refused() {
    let world = World::start_with(|yaml| yaml.section("limits: { body_bytes: 1KiB }")).await;
    let address = world.gateway.address("public");
    let mut connection = Connection::open(address).await;
    let at_most = request("POST", "/public/x", &["Content-Length: 1024"]);
    let response = connection.request(at_most + &"x".repeat(1024)).await;
    assert_eq!(response.status, 200);
    assert_eq!(world.service.last_request().body.len(), 1024);
    world.service.forget();

    let announced = request("POST", "/public/x", &["Content-Length: 1025"]);
    let response = connection.request(announced).await;
    assert_eq!(response.status, 413);
    assert!(response.text().contains("body_too_large"));
    world.service.assert_untouched();

    let mut connection = Connection::open(address).await;
    let chunked = request("POST", "/public/x", &["Transfer-Encoding: chunked"]);
    let chunk = format!("200\r\n{}\r\n", "x".repeat(0x200));
    connection.send(chunked + &chunk.repeat(3)).await;
    let response = connection.read_response().await;
    assert_eq!(response.status, 413);
    // Whoever may not call at all is told that, and not how large a body could be.
    let mut connection = Connection::open(address).await;
    let anonymous = request("POST", "/orders", &["Content-Length: 2000"]);
    assert_eq!(connection.request(anonymous).await.status, 401);
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_that_stalls_is_not_blamed_on_the_service() {
    let world = World::start_with(|yaml| {
        yaml.section("limits: { body_timeout: 10s }")
            .upstream_flow("name: hasty, addresses: [\"127.0.0.1:1\"], timeouts: { response: 1s }")
    })
    .await;
    let yaml = std::fs::read_to_string(world.gateway.directory().join("portcullis.yaml")).unwrap();
    let address = world.service.address().to_string();
    let hasty = yaml.replace("127.0.0.1:1\"", &format!("{address}\""));
    world.gateway.write("portcullis.yaml", &hasty);
    world.gateway.write(
        "policy/hasty.yaml",
        "owner: hasty\nroutes:\n- { name: hasty, match: { path: /hasty }, upstream: hasty, public: true }\n",
    );
    world.gateway.reload().await;
    let mut connection = Connection::open(world.gateway.address("public")).await;
    let head = request("POST", "/hasty", &["Content-Length: 100"]);
    let response = connection.request(head + "half").await;
    assert_eq!(response.status, 408, "{}", response.text());
    let failures = world.gateway.metrics().await.value(
        "portcullis_upstream_failures_total",
        &[("upstream", "hasty"), ("reason", "response_timeout")],
    );
    assert_eq!(failures, 0.0);
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_key_ids_by_the_hundred_cost_the_issuer_next_to_nothing() {
    let world = World::start().await;
    let before = world.issuer.key_set_fetches();
    let tokens = (0..300)
        .map(|n| {
            let token = world
                .issuer
                .token()
                .header("kid", json!(format!("made-up-{n}")));
            (format!("{n}"), token.sign())
        })
        .collect();
    assert_all_invalid(&world, tokens).await;
    let fetches = world.issuer.key_set_fetches() - before;
    assert!(fetches <= 2, "{fetches} fetches");
}

//! One JSON line a request, and nothing in it that could hurt.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use http::Method;
use portcullis_e2e::{
    Caller, Connection, Gateway, GatewayYaml, Issuer, Load, ORDERS_POLICY, Service, World,
    eventually,
};
use serde_json::{Value, json};

use crate::steps::request;

#[tokio::test(flavor = "multi_thread")]
async fn admitted_request_is_one_line_that_says_who_and_where() {
    let world = World::start().await;
    let token = world
        .issuer
        .token()
        .scope("orders:read")
        .claim("jti", json!("id-1"))
        .sign();
    let url = world.url("/orders/7?secret=canary");
    let headers = [
        ("authorization", &*format!("Bearer {token}")),
        ("host", "api.acme.example"),
    ];
    let answer = Caller::new().send(Method::GET, &url, &headers, b"").await;
    let lines = world.gateway.wait_for_access_log(1).await;
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    for (field, value) in [
        ("http.request.method", json!("GET")),
        ("portcullis.route", json!("orders-read")),
        ("portcullis.owner", json!("orders-team")),
        ("portcullis.code", json!("none")),
        ("portcullis.listener", json!("public")),
        ("url.path", json!("/orders/7")),
        ("http.response.status_code", json!(200)),
        ("client.address", json!("127.0.0.1")),
        ("server.address", json!("api.acme.example")),
        ("network.protocol.version", json!("1.1")),
        ("portcullis.decision", json!("admitted")),
        ("portcullis.issuer", json!("acme")),
        ("portcullis.token.id", json!("id-1")),
        ("portcullis.client.id", json!("orders-client")),
        ("portcullis.upstream.name", json!("orders")),
        (
            "portcullis.request.id",
            json!(answer.header("x-request-id").unwrap()),
        ),
    ] {
        assert_eq!(line[field], value, "{field} in {line:#}");
    }
    assert!(line["enduser.pseudo.id"].is_string(), "{line:#}");
    for field in [
        "http.server.request.duration",
        "portcullis.admission.duration",
        "portcullis.upstream.duration",
    ] {
        assert!(line[field].is_number(), "{field} in {line:#}");
    }
    let text = line.to_string();
    for secret in ["canary", "alice", token.as_str()] {
        assert!(!text.contains(secret), "`{secret}` in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_request_is_one_line_with_its_code() {
    let world = World::start().await;
    let caller = Caller::new();
    caller.get(&world.url("/orders/7")).await;
    caller.get(&world.url("/nowhere")).await;
    caller
        .get_with_token(&world.url("/admin/x"), &world.token("orders:read"))
        .await;
    let mut connection = Connection::open(world.gateway.address("public")).await;
    connection.request(request("GET", "/a/../b", &[])).await;
    let lines = world.gateway.wait_for_access_log(4).await;
    let seen: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line["portcullis.code"].clone(),
                line["http.response.status_code"].clone(),
            )
        })
        .collect();
    let wanted = [
        (json!("credential_missing"), json!(401)),
        (json!("route_not_found"), json!(404)),
        (json!("scope_insufficient"), json!(403)),
        (json!("path_ambiguous"), json!(400)),
    ];
    for pair in wanted {
        assert!(seen.contains(&pair), "{pair:?} in {seen:?}");
    }
    assert_eq!(lines.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn first_line_that_is_no_request_is_not_logged() {
    let world = World::start().await;
    let lines = [
        "Authorization:Bearer SECRET",
        "Cookie: sid=SECRET; x=y",
        "user=bob&password= SECRET HTTP/1.1",
        "GET u:SECRET@api.acme.example/x HTTP/1.1",
        "GET http://u:SECRET@api.acme.example/x HTTP/1.1",
        "GET /public/%3faccess_token=SECRET HTTP/1.1",
        "GET /public/%23access_token=SECRET HTTP/1.1",
        "SECRET / HTTP/1.1",
    ];
    for line in lines {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let bytes = format!("{line}\r\nHost: api.acme.example\r\n\r\n");
        let response = connection.request(bytes).await;
        assert!(
            matches!(response.status, 400 | 404),
            "{line}: {}",
            response.status
        );
    }
    let logged = world.gateway.wait_for_access_log(lines.len()).await;
    assert!(
        logged
            .iter()
            .all(|line| line["portcullis.code"].is_string())
    );
    let text = world.gateway.access_log_text() + &world.gateway.log_text();
    assert!(!text.contains("SECRET"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_a_caller_sends_breaks_out_of_its_line() {
    let world = World::start().await;
    let mut sent = 0;
    for line in [
        "User-Agent: a\"}{\"level\":\"fatal\"",
        "User-Agent: \u{9b}31m red",
        "X-Request-ID: \"},{\"",
        "Referer: https://x/\"}\\\"",
        "Host: \"evil\"",
    ] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let text = format!("GET /orders/health HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n");
        if connection.try_send(text).await.is_ok() {
            connection.read_response_or_close().await;
            sent += 1;
        }
    }
    for kid in [
        "a\nb",
        "a\r\nINFO forged",
        "\u{1b}[2J",
        "\"}{",
        "\u{0}",
        &"k".repeat(5_000),
    ] {
        let token = world
            .issuer
            .token()
            .header("kid", json!(kid))
            .claim("jti", json!(kid))
            .sign();
        Caller::new()
            .get_with_token(&world.url("/orders/7"), &token)
            .await;
        sent += 1;
    }
    let token = world
        .issuer
        .token()
        .scope("orders:read")
        .claim("jti", json!("a\nb\u{1b}[2J"));
    Caller::new()
        .get_with_token(&world.url("/orders/7"), &token.sign())
        .await;
    sent += 1;
    eventually("a line for each request", || async {
        // Every line parses, or this fails.
        (world.gateway.access_log().len() + 1 >= sent).then_some(())
    })
    .await;
    world.gateway.log();
    for line in world.gateway.access_log_text().lines() {
        assert!(line.len() <= 4096, "a line of {} bytes", line.len());
        assert!(!line.contains('\u{1b}'));
    }
}

/// The lines of two requests by alice and one by bob.
async fn lines_with(section: &str, files: &[(&str, &str)]) -> Vec<Value> {
    let world = World::start_with_gateway(
        |yaml| yaml.section(section),
        |mut builder| {
            for (path, content) in files {
                builder = builder.file(path, content);
            }
            builder
        },
    )
    .await;
    for (before, subject) in ["alice", "alice", "bob"].into_iter().enumerate() {
        let token = world
            .issuer
            .token()
            .scope("orders:read")
            .claim("sub", json!(subject));
        Caller::new()
            .get_with_token(&world.url("/orders/7"), &token.sign())
            .await;
        // A line follows the answer; those of two workers have no order.
        world.gateway.wait_for_access_log(before + 1).await;
    }
    world.gateway.access_log()
}

#[tokio::test(flavor = "multi_thread")]
async fn subject_is_pseudonymised_unless_told_otherwise() {
    let pseudonyms = |lines: &[Value]| -> Vec<Value> {
        lines
            .iter()
            .map(|line| line["enduser.pseudo.id"].clone())
            .collect()
    };
    let default = lines_with("", &[]).await;
    let ids = pseudonyms(&default);
    assert!(ids.iter().all(Value::is_string), "{default:?}");
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    let again = lines_with("", &[]).await;
    assert_ne!(
        pseudonyms(&again)[0],
        ids[0],
        "another process has another key"
    );

    let section = "access_log: { pseudonym_key: { file: pseudonym.key } }";
    let key = [("pseudonym.key", "0123456789abcdef0123456789abcdef")];
    let keyed = pseudonyms(&lines_with(section, &key).await);
    assert_eq!(
        pseudonyms(&lines_with(section, &key).await),
        keyed,
        "the same key, the same ids"
    );

    let plain = lines_with("access_log: { subject: plain }", &[]).await;
    let subject = plain[0]["enduser.id"].as_str();
    assert_eq!(subject, Some("alice"), "{}", plain[0]);
    let omitted = lines_with("access_log: { subject: omitted }", &[]).await;
    assert!(
        !omitted[0].to_string().contains("enduser"),
        "{}",
        omitted[0]
    );
    for line in default.iter().chain(&again).chain(&omitted) {
        assert!(!line.to_string().contains("alice"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_can_be_off() {
    let world = World::start_with(|yaml| yaml.section("access_log: { enabled: false }")).await;
    Caller::new().get(&world.url("/orders/health")).await;
    Caller::new().get(&world.url("/orders/health")).await;
    world.gateway.terminate();
    world.gateway.wait_for_exit(Duration::from_secs(10)).await;
    assert_eq!(world.gateway.access_log_text(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn file_is_opened_anew_after_a_hang_up() {
    let world = World::start_with(|yaml| yaml.section("access_log: { file: access.log }")).await;
    let path = world.gateway.directory().join("access.log");
    let rotated = world.gateway.directory().join("access.log.1");
    let lines =
        |path: &std::path::Path| fs::read_to_string(path).unwrap_or_default().lines().count();
    Caller::new().get(&world.url("/orders/health")).await;
    eventually("a line in the file", || async {
        (lines(&path) == 1).then_some(())
    })
    .await;
    fs::rename(&path, &rotated).unwrap();
    world.gateway.hang_up();
    eventually("a new file", || async { path.exists().then_some(()) }).await;
    Caller::new().get(&world.url("/orders/health")).await;
    eventually("a line in the new file", || async {
        (lines(&path) >= 1).then_some(())
    })
    .await;
    assert!(lines(&rotated) >= 1);
    assert_eq!(world.gateway.access_log_text(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_pipe_never_stalls_a_request_and_what_is_dropped_is_counted() {
    let world =
        World::start_with_gateway(|yaml| yaml, |builder| builder.with_stalled_stdout()).await;
    let url = world.url("/orders/health");
    let caller = Caller::new();
    let load = Load::start(4, move || {
        let (url, caller) = (url.clone(), caller.clone());
        async move {
            let started = tokio::time::Instant::now();
            let answer = caller
                .try_get(&url)
                .await
                .map_err(|error| error.to_string())?;
            let took = started.elapsed();
            match answer.status {
                200 if took < Duration::from_secs(3) => Ok(()),
                status => Err(format!("{status} after {took:?}")),
            }
        }
    });
    let name = "portcullis_access_log_lines_dropped_total";
    portcullis_e2e::eventually_within(Duration::from_secs(90), "dropped lines", || async {
        (world.gateway.metrics().await.value(name, &[]) > 0.0).then_some(())
    })
    .await;
    let dropped_at = load.calls();
    eventually("requests after the first drop", || async {
        (load.calls() > dropped_at + 500).then_some(())
    })
    .await;
    load.finish().await.assert_flawless();
    world.gateway.terminate();
    let status = world.gateway.wait_for_exit(Duration::from_secs(15)).await;
    assert_eq!(status.code(), Some(0), "and the exit is not held up");
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_blocks_never_stalls_a_request() {
    let issuer = Issuer::start().await;
    let service = Service::start().await;
    let yaml = GatewayYaml::new()
        .issuer("acme", &issuer)
        .upstream("orders", service.address())
        .section("access_log: { file: access.fifo }");
    let builder = Gateway::builder()
        .file("portcullis.yaml", &yaml.render())
        .file("policy/orders.yaml", ORDERS_POLICY);
    let fifo = builder.directory().join("access.fifo");
    let made = std::process::Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .unwrap();
    assert!(made.success());
    // A reader that is there and reads one byte, so that opening does not block.
    let mut reader = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(0o4000) // O_NONBLOCK
        .open(&fifo)
        .unwrap();
    let gateway = builder.start().await.until_ready().await;
    let caller = Caller::new();
    for _ in 0..2_000 {
        assert_eq!(caller.get(&gateway.url("/orders/health")).await.status, 200);
    }
    let mut byte = [0];
    assert_eq!(reader.read(&mut byte).unwrap(), 1);
    assert_eq!(byte, *b"{");
}

//! WebSocket: who may open one, what passes, and how it ends.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use portcullis_e2e::{
    Authority, Behaviour, Caller, Connection, DEADLINE, Gateway, GatewayBuilder, GatewayYaml,
    Issuer, Response, Service, TlsOptions, WebSocket, WebSocketService, eventually,
    eventually_within, unix_now,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tungstenite::{Error, Message};

use crate::steps::{bearer, request};

const POLICY: &str = r#"
owner: chat-team
scopes: { "chat:join": Join rooms }
routes:
  - name: chat
    match: { path: "/chat/{*room}" }
    upstream: chat
    require: { scopes: ["chat:join"] }
    websocket: true
  - name: news
    match: { path: "/news/{*rest}" }
    upstream: chat
    public: true
    websocket: true
    limits: { websocket_idle_timeout: 1s }
  - name: plain
    match: { path: "/plain/{*rest}" }
    upstream: chat
    require: { authenticated_only: true }
"#;

/// A gateway between an issuer and a service at `address`.
struct Setup {
    gateway: Gateway,
    issuer: Issuer,
}

impl Setup {
    async fn start(service: SocketAddr, sections: &str) -> Self {
        Self::start_with(service, |yaml| yaml.section(sections), |builder| builder).await
    }

    async fn start_with(
        service: SocketAddr,
        change: impl FnOnce(GatewayYaml) -> GatewayYaml,
        prepare: impl FnOnce(GatewayBuilder) -> GatewayBuilder,
    ) -> Self {
        let issuer = Issuer::start().await;
        let yaml = GatewayYaml::new()
            .issuer("acme", &issuer)
            .upstream("chat", service);
        let builder = Gateway::builder()
            .file("portcullis.yaml", &change(yaml).render())
            .file("policy/chat.yaml", POLICY);
        let gateway = prepare(builder).start().await.until_ready().await;
        Self { gateway, issuer }
    }

    fn address(&self) -> SocketAddr {
        self.gateway.address("public")
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.issuer.token().scope("chat:join").sign())
    }

    async fn join(&self) -> Result<WebSocket, Error> {
        let token = self.bearer();
        WebSocket::open(self.address(), "/chat/1", &[("authorization", &token)]).await
    }

    /// A WebSocket of a public route, by the byte, after the answer that opened it.
    async fn open_raw(&self, target: &str) -> TcpStream {
        let mut caller = TcpStream::connect(self.address()).await.unwrap();
        let ask = handshake(target, &[]);
        caller.write_all(ask.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(caller.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        caller
    }

    async fn ended(&self, reason: &str, count: f64) {
        let what = format!("{count} WebSockets that ended: {reason}");
        // Many of them end one after the other, as they began.
        eventually_within(Duration::from_secs(60), &what, || async {
            let metrics = self.gateway.metrics().await;
            let name = "portcullis_websockets_ended_total";
            (metrics.value(name, &[("reason", reason)]) == count).then_some(())
        })
        .await;
        let metrics = self.gateway.metrics().await;
        assert_eq!(metrics.value("portcullis_websockets", &[]), 0.0);
    }
}

/// A handshake by the byte; `changes` replace or add fields.
fn handshake(target: &str, changes: &[(&str, &str)]) -> String {
    let mut fields = vec![
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (name, value) in changes {
        fields.retain(|(known, _)| known != name);
        fields.push((name, value));
    }
    let lines: Vec<String> = fields
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    request("GET", target, &lines)
}

/// The answer that fits [`handshake`].
const OPENED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn messages_pass_both_ways_and_the_service_knows_who_speaks() {
    let service = WebSocketService::start();
    let setup = Setup::start(service.address(), "").await;
    let token = setup.bearer();
    let fields = [
        ("authorization", token.as_str()),
        ("x-user-id", "mallory"),
        ("x_scopes", "everything"),
        ("sec-websocket-protocol", "v2.chat, v1.chat"),
        ("x-request-id", "7b7d0a4e-0000-4000-8000-000000000001"),
    ];
    let mut socket = WebSocket::open(setup.address(), "/chat/1?since=5", &fields)
        .await
        .unwrap();
    assert_eq!(socket.head["sec-websocket-protocol"], "v2.chat");
    assert!(socket.head.contains_key("x-request-id"));
    socket.expect_echo("hello").await;
    for length in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
        let message = Message::binary(vec![7; length]);
        socket.say(message.clone()).await;
        assert_eq!(socket.hear().await.unwrap(), message);
    }
    socket.close().await;
    setup.ended("left", 1.0).await;

    let handshakes = service.handshakes();
    assert_eq!(handshakes.len(), 1);
    let seen = &handshakes[0];
    assert_eq!(seen["x-user-id"], "alice");
    assert_eq!(seen["x-scopes"], "chat:join");
    assert!(!seen.contains_key("authorization"));
    assert!(!seen.contains_key("x_scopes"));
    let lines = setup.gateway.wait_for_access_log(1).await;
    assert_eq!(lines.len(), 1, "one line: {lines:?}");
    assert_eq!(lines[0]["http.response.status_code"], 101);
    assert_eq!(lines[0]["url.path"], "/chat/1");
    assert_eq!(lines[0]["portcullis.decision"], "admitted");
    let bytes = |name: &str| lines[0][name].as_u64().unwrap();
    assert!(bytes("http.request.body.size") > 1_131_000, "{lines:?}");
    assert!(bytes("http.response.body.size") > 1_131_000, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_never_reaches_the_service() {
    let service = Service::start().await;
    let setup = Setup::start(service.address(), "").await;
    let good = setup.bearer();
    let weak = format!("Bearer {}", setup.issuer.token().scope("chat:read").sign());
    let ask = async |target: &str, changes: &[(&str, &str)]| {
        let mut connection = Connection::open(setup.address()).await;
        let answer = connection.request(handshake(target, changes)).await;
        (answer.status, answer)
    };
    let (status, answer) = ask("/chat/1", &[]).await;
    assert_eq!(status, 401);
    assert!(answer.header("www-authenticate").is_some());
    assert_eq!(ask("/chat/1", &[("Authorization", &weak)]).await.0, 403);
    assert_eq!(
        ask("/chat/1", &[("Authorization", "Bearer x.y.z")]).await.0,
        401
    );
    let with_token = ("Authorization", good.as_str());
    let (status, answer) = ask("/plain/1", &[with_token]).await;
    assert_eq!(status, 403);
    assert!(
        answer.text().contains("websocket_not_allowed"),
        "{answer:?}"
    );
    let (status, answer) = ask("/chat/1", &[with_token, ("Sec-WebSocket-Version", "8")]).await;
    assert_eq!(status, 426);
    assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    for change in [
        ("Sec-WebSocket-Key", "short"),
        ("Sec-WebSocket-Key", ""),
        ("Sec-WebSocket-Version", ""),
        ("Connection", "keep-alive"),
        ("Connection", "Upgrade, X-User-ID"),
        ("Connection", "Upgrade, close"),
        ("Content-Length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Expect", "100-continue"),
    ] {
        let (status, answer) = ask("/chat/1", &[with_token, change]).await;
        assert_eq!(status, 400, "{change:?}");
        assert!(
            answer.text().contains("websocket_malformed"),
            "{change:?} {answer:?}"
        );
    }
    service.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_requests_of_the_route_are_served_before_and_instead() {
    let service = Service::start().await;
    let setup = Setup::start(service.address(), "").await;
    let token = setup.bearer();
    let mut connection = Connection::open(setup.address()).await;
    let line = bearer(token.trim_start_matches("Bearer "));
    let answer = connection
        .request(request("GET", "/chat/1", &[&line]))
        .await;
    assert_eq!(answer.status, 200);
    let h2c = ["Connection: Upgrade", "Upgrade: h2c", line.as_str()];
    let answer = connection.request(request("GET", "/chat/1", &h2c)).await;
    assert_eq!(answer.status, 200, "an upgrade that nobody knows is none");
    assert_eq!(service.last_request().header("upgrade"), None);
    // The second request of a connection may open one, too.
    let sample = format!("{OPENED}\r\n");
    service.next(Behaviour::Write(
        [sample.as_bytes(), b"\x81\x02hi"].concat(),
    ));
    let ask = handshake("/chat/1", &[("Authorization", &token)]);
    let answer = connection.request(ask).await;
    assert_eq!(answer.status, 101);
    // What came with the answer is not lost.
    assert_eq!(connection.read_exactly(4).await.unwrap(), b"\x81\x02hi");
    let seen = service.last_request();
    assert_eq!(seen.header("upgrade"), Some("websocket"));
    assert_eq!(seen.header("connection"), Some("Upgrade"));
    assert_eq!(
        seen.header("sec-websocket-key"),
        Some("dGhlIHNhbXBsZSBub25jZQ==")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn service_that_opens_no_websocket_is_heard_and_the_connection_ends() {
    let service = Service::start().await;
    let setup = Setup::start(service.address(), "").await;
    let token = setup.bearer();
    for (answer, body) in [
        (
            Response::new(403).body("the room is full"),
            "the room is full",
        ),
        (Response::new(200).body("a page"), "a page"),
        (Response::new(404), ""),
        (Response::new(204), ""),
        (Response::new(302).header("location", "/chat/2"), ""),
    ] {
        service.next(answer);
        let mut connection = Connection::open(setup.address()).await;
        let ask = handshake("/chat/1", &[("Authorization", &token)]);
        let answer = connection.request(ask).await;
        assert!(answer.status != 101 && answer.status < 500, "{answer:?}");
        assert_eq!(answer.text(), body);
        assert!(answer.is_complete);
        assert!(connection.is_closed_within(Duration::from_secs(5)).await);
    }
    let lines = setup.gateway.wait_for_access_log(5).await;
    assert_eq!(lines[0]["http.response.status_code"], 403);
    assert_eq!(lines[0]["portcullis.decision"], "admitted");
}

#[tokio::test(flavor = "multi_thread")]
async fn service_that_opens_something_else_is_at_fault() {
    let service = Service::start().await;
    let setup = Setup::start(service.address(), "").await;
    let token = setup.bearer();
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    let switch = "HTTP/1.1 101 Switching Protocols\r\n";
    let heads = [
        OPENED.replace("s3pP", "S3pP"),
        OPENED.replace(accept, ""),
        OPENED.replace("Upgrade: websocket", "Upgrade: h2c"),
        OPENED.replace("Connection: Upgrade\r\n", ""),
        OPENED.replace("HTTP/1.1", "HTTP/1.0"),
        format!("{OPENED}Sec-WebSocket-Protocol: nobody-offered\r\n"),
        format!("{OPENED}Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        format!("{OPENED}Content-Length: 3\r\n"),
        switch.to_owned(),
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(40),
        "not HTTP at all".to_owned(),
    ];
    for head in heads {
        service.next(Behaviour::WriteAndClose(
            format!("{head}\r\n\x01\x02").into_bytes(),
        ));
        let mut connection = Connection::open(setup.address()).await;
        let ask = handshake("/chat/1", &[("Authorization", &token)]);
        let answer = connection.request(ask).await;
        assert_eq!(answer.status, 502, "{head:?} {answer:?}");
    }
    let metrics = setup.gateway.metrics().await;
    assert_eq!(metrics.value("portcullis_websockets", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn service_that_does_not_answer_is_not_waited_for() {
    let service = Service::start().await;
    let setup = Setup::start_with(
        service.address(),
        |yaml| {
            let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let nowhere = nowhere.local_addr().unwrap();
            let (slow, gone) = (service.address(), nowhere);
            yaml.upstream_flow(&format!(
                "name: slow, addresses: [\"{slow}\"], timeouts: {{ response: 500ms }}"
            ))
            .upstream_flow(&format!("name: gone, addresses: [\"{gone}\"]"))
        },
        |builder| {
            let policy = "owner: b\nroutes:\n  \
                - { name: slow, match: { path: /slow }, upstream: slow, public: true, websocket: true }\n  \
                - { name: gone, match: { path: /gone }, upstream: gone, public: true, websocket: true }\n";
            builder.file("policy/b.yaml", policy)
        },
    )
    .await;
    service.always(Behaviour::Stall);
    for (target, status) in [("/slow", 504), ("/gone", 502)] {
        let mut connection = Connection::open(setup.address()).await;
        let answer = connection.request(handshake(target, &[])).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

/// Pingora's own way loses more than one in a hundred of these.
#[tokio::test(flavor = "multi_thread")]
async fn none_of_six_thousand_is_lost_right_after_its_handshake() {
    let service = WebSocketService::start();
    let setup = Setup::start(service.address(), "").await;
    let (address, token) = (setup.address(), setup.bearer());
    let mut callers = JoinSet::new();
    for _ in 0..12 {
        let token = token.clone();
        callers.spawn(async move {
            for number in 0..500 {
                let path = if number % 2 == 0 {
                    "/chat/1"
                } else {
                    "/chat/hello"
                };
                let fields = [("authorization", token.as_str())];
                let mut socket = WebSocket::open(address, path, &fields).await.unwrap();
                if number % 2 == 1 {
                    assert_eq!(socket.hear().await.unwrap(), Message::text("hello"));
                }
                socket.expect_echo("still here").await;
                socket.close().await;
            }
        });
    }
    callers.join_all().await;
    setup.ended("left", 6_000.0).await;
    setup.gateway.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_closes_when_its_token_expires() {
    let service = WebSocketService::start();
    let setup = Setup::start(service.address(), "").await;
    let leeway = 30;
    let token = setup.issuer.token().scope("chat:join");
    let (issued, expires) = (unix_now() - 300, unix_now() - leeway + 3);
    let token = token
        .claim("iat", json!(issued))
        .claim("exp", json!(expires));
    let token = format!("Bearer {}", token.sign());
    let fields = [("authorization", token.as_str())];
    let opened = Instant::now();
    let mut socket = WebSocket::open(setup.address(), "/chat/1", &fields)
        .await
        .unwrap();
    socket.expect_echo("hello").await;
    assert_eq!(socket.hear_close().await, 1008);
    assert!(
        opened.elapsed() < Duration::from_secs(5),
        "{:?}",
        opened.elapsed()
    );
    while socket.hear().await.is_ok() {}
    setup.ended("token_expired", 1.0).await;
    eventually("the service's end", || async {
        (service.ended() == 1).then_some(())
    })
    .await;
    assert_eq!(service.close_codes(), [1008]);
    let refused = WebSocket::open(setup.address(), "/chat/1", &fields).await;
    assert!(matches!(refused, Err(Error::Http(answer)) if answer.status() == 401));
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_it_and_a_word_from_either_side_does_not() {
    let service = WebSocketService::start();
    let setup = Setup::start(service.address(), "limits: { websocket_idle_timeout: 60s }").await;
    let mut other = setup.join().await.unwrap();
    // Of this route it is one second.
    let mut socket = WebSocket::open(setup.address(), "/news/1", &[])
        .await
        .unwrap();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        socket.expect_echo("still here").await;
    }
    assert_eq!(socket.hear_close().await, 1001);
    eventually("the service's end", || async {
        (service.ended() == 1).then_some(())
    })
    .await;
    assert_eq!(service.close_codes(), [1001]);
    other.expect_echo("so am I").await;
    other.close().await;
    setup.ended("idle", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn none_stays_open_for_ever() {
    let service = WebSocketService::start();
    let setup = Setup::start(service.address(), "limits: { websocket_age: 1s }").await;
    let mut socket = setup.join().await.unwrap();
    assert_eq!(socket.hear_close().await, 1001);
    setup.ended("aged", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_within_a_frame_of_somebody_else() {
    let service = Service::start().await;
    let setup = Setup::start(service.address(), "limits: { websocket_age: 1s }").await;
    // Ten bytes are announced, and three come.
    let begun = [OPENED.as_bytes(), b"\r\n\x82\x0Aabc"].concat();
    service.next(Behaviour::Write(begun));
    let mut connection = Connection::open(setup.address()).await;
    let ask = handshake("/chat/1", &[("Authorization", &setup.bearer())]);
    assert_eq!(connection.request(ask).await.status, 101);
    assert_eq!(connection.read_to_end().await, b"\x82\x0Aabc");
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_tells_both_sides_and_takes_no_longer_than_that() {
    let service = WebSocketService::start();
    let setup = Setup::start(service.address(), "").await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let mut socket = setup.join().await.unwrap();
        socket.expect_echo("hello").await;
        sockets.push(socket);
    }
    setup.gateway.terminate();
    let closing = sockets.into_iter().map(|mut socket| async move {
        assert_eq!(socket.hear_close().await, 1001);
        while socket.hear().await.is_ok() {}
    });
    closing.collect::<JoinSet<()>>().join_all().await;
    let status = setup.gateway.wait_for_exit(Duration::from_secs(8)).await;
    assert_eq!(status.code(), Some(0));
    assert_eq!(service.close_codes(), [1001; 20]);
    assert_eq!(setup.gateway.access_log().len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_may_speak_at_once_and_nothing_is_lost() {
    let service = WebSocketService::start();
    let setup = Setup::start(service.address(), "").await;
    let mut sockets = JoinSet::new();
    for _ in 0..4 {
        let mut socket = setup.join().await.unwrap();
        sockets.spawn(async move {
            // The service sends 32 MiB while it is sent as much of them back to be echoed.
            socket.say("send 512").await;
            for number in 0..512 {
                let message = socket.hear().await.unwrap();
                assert_eq!(message.len(), 65_536, "{number}");
                if number < 64 {
                    socket.say(message).await;
                }
            }
            for _ in 0..64 {
                assert_eq!(socket.hear().await.unwrap().len(), 65_536);
            }
            socket.close().await;
        });
    }
    sockets.join_all().await;
    setup.ended("left", 4.0).await;
}

/// A thousand, of which each costs this process two descriptors and the gateway two; and 300 where
/// a process may have no more than the usual 1,024.
fn many_sockets() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let soft = line.split_whitespace().nth(3).unwrap();
    // What is not a number is `unlimited`.
    match soft.parse::<usize>() {
        Ok(limit) if limit < 4_096 => 300,
        _ => 1_000,
    }
}

/// Each may hold two buffers of 16 KiB, its two sockets' state, and little else.
#[tokio::test(flavor = "multi_thread")]
async fn callers_that_take_nothing_hold_little_and_are_closed() {
    let service = WebSocketService::start();
    // None may end before all are open; more than a thousand come from one address.
    let limits = "limits: { websocket_idle_timeout: 15s, connections_per_address: 2000 }";
    let setup = Setup::start(service.address(), limits).await;
    let held = setup.gateway.holds().await;
    let resident = || {
        let status = format!("/proc/{}/status", setup.gateway.process_id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<usize>()
            .unwrap()
    };
    let before = resident();
    let mut sockets = Vec::new();
    for _ in 0..many_sockets() {
        let mut socket = setup.join().await.unwrap();
        socket.say("send 1000").await;
        sockets.push(socket);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let each = (resident() - before) / sockets.len();
    assert!(each < 160, "{each} KiB for each WebSocket");
    let ends = async || {
        let metrics = setup.gateway.metrics().await;
        let name = "portcullis_websockets_ended_total";
        let of = |reason| metrics.value(name, &[("reason", reason)]);
        ["idle", "left", "cut_off"].map(of)
    };
    let all = sockets.len() as f64;
    eventually_within(Duration::from_secs(90), "the end of all", || async {
        (ends().await.iter().sum::<f64>() == all).then_some(())
    })
    .await;
    // On a busy machine the kernel may be first to give up who takes nothing (RFC 5482): that one has left.
    let [idle, left, cut_off] = ends().await;
    assert!(idle > all / 2.0, "{idle} idle, {left} left");
    assert_eq!(cut_off, 0.0);
    let answer = Caller::new().get(&setup.gateway.url("/plain/1")).await;
    assert_eq!(answer.status, 401, "others are served");
    setup.gateway.until_it_holds_no_more_than(held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_over_tls_and_over_mutual_tls() {
    let authority = Authority::new("Edge");
    let edge = authority.issue_for("api.acme.example");
    let services = Authority::new("Services");
    let gateways = Authority::new("Gateways");
    let service = Service::builder()
        .tls(&services.issue_for("chat.internal"))
        .demand_client_certificate(&gateways)
        .start()
        .await;
    service.next(Behaviour::Write(
        [OPENED.as_bytes(), b"\r\n\x81\x02hi"].concat(),
    ));
    let setup = Setup::start_with(
        service.address(),
        |yaml| {
            yaml.tls_listener().upstream_flow(&format!(
                "name: safe, addresses: [\"{}\"], tls: {{ server_name: chat.internal, \
                 trust: services.pem, certificate: own.pem, private_key: own.key }}",
                service.address()
            ))
        },
        |builder| {
            edge.write(builder.directory(), "edge");
            gateways.issue_for("gateway").write(builder.directory(), "own");
            let policy = "owner: b\nroutes:\n  \
                - { name: safe, match: { path: /safe }, upstream: safe, public: true, websocket: true }\n";
            builder
                .file("services.pem", &services.certificate_pem())
                .file("policy/b.yaml", policy)
        },
    )
    .await;
    let options = TlsOptions::new(&authority, "api.acme.example");
    let mut connection = Connection::open_tls(setup.address(), &options)
        .await
        .unwrap();
    let answer = connection.request(handshake("/safe", &[])).await;
    assert_eq!(answer.status, 101, "{answer:?}");
    assert_eq!(connection.read_exactly(4).await.unwrap(), b"\x81\x02hi");
    assert!(service.last_request().client_certificate.is_some());
    assert_eq!(
        service.last_request().header("x-forwarded-proto"),
        Some("https")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_that_leaves_during_the_handshake_is_not_waited_for() {
    let service = Service::start().await;
    service.always(Behaviour::Stall);
    let setup = Setup::start(service.address(), "").await;
    let token = setup.bearer();
    let mut callers = Vec::new();
    for _ in 0..20 {
        let mut connection = Connection::open(setup.address()).await;
        let ask = handshake("/chat/1", &[("Authorization", &token)]);
        // What is sent ahead is nobody's yet.
        connection.send(ask + "\u{1}\u{2}\u{3}").await;
        callers.push(connection);
    }
    service.wait_for_requests(20).await;
    drop(callers);
    eventually("no request in flight", || async {
        let metrics = setup.gateway.metrics().await;
        (metrics.value("portcullis_requests_in_flight", &[]) == 0.0).then_some(())
    })
    .await;
    assert_eq!(setup.gateway.wait_for_access_log(20).await.len(), 20);
}

/// A service on a thread that opens one WebSocket for [`handshake`], and goes on with `talk`.
fn talking_service(
    talk: impl FnOnce(std::net::TcpStream) + Send + 'static,
) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        stream
            .write_all(format!("{OPENED}\r\n").as_bytes())
            .unwrap();
        talk(stream);
    });
    (address, thread)
}

/// So many words, with these pauses, take three times the longest silence of `/news`.
const WORDS: usize = 30;
const PAUSE: Duration = Duration::from_millis(100);
const WORD_OF_THE_SERVICE: &[u8] = b"\x81\x02hi";
const WORD_OF_THE_CALLER: &[u8] = b"\x81\x82\0\0\0\0hi";

/// One side has heard `word` so often, then that it was silent for too long, and nothing else.
fn assert_heard(heard: &[u8], word: &[u8], times: usize) {
    let words = word.repeat(times);
    let rest = heard.strip_prefix(&words[..]);
    let is_closed = rest.is_some_and(|rest| {
        // Behind the first two bytes, for a service, an empty mask.
        let length = rest.get(1).map_or(0, |length| usize::from(length & 0x7F));
        let payload = &rest[rest.len().saturating_sub(length)..];
        rest.starts_with(b"\x88") && payload.starts_with(&1001_u16.to_be_bytes())
    });
    assert!(is_closed, "{}", heard.escape_ascii());
}

/// What a caller hears until the connection ends.
async fn hear_all(caller: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let hearing = timeout(DEADLINE, caller.read_to_end(&mut heard));
    hearing.await.expect("the end of a silence").unwrap();
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn word_of_the_service_alone_keeps_it_open() {
    let (address, service) = talking_service(|mut stream| {
        for _ in 0..WORDS {
            stream.write_all(WORD_OF_THE_SERVICE).unwrap();
            std::thread::sleep(PAUSE);
        }
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        assert_heard(&heard, b"", 0);
    });
    let setup = Setup::start(address, "").await;
    let mut caller = setup.open_raw("/news/1").await;
    let heard = hear_all(&mut caller).await;
    assert_heard(&heard, WORD_OF_THE_SERVICE, WORDS);
    setup.ended("idle", 1.0).await;
    service.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn word_of_the_caller_alone_keeps_it_open() {
    let (address, service) = talking_service(|mut stream| {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        assert_heard(&heard, WORD_OF_THE_CALLER, WORDS);
    });
    let setup = Setup::start(address, "").await;
    let mut caller = setup.open_raw("/news/1").await;
    for _ in 0..WORDS {
        caller.write_all(WORD_OF_THE_CALLER).await.unwrap();
        tokio::time::sleep(PAUSE).await;
    }
    assert_heard(&hear_all(&mut caller).await, b"", 0);
    setup.ended("idle", 1.0).await;
    service.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_of_both_sides_ends_it_and_not_before_its_time() {
    let (address, service) = talking_service(|mut stream| {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        assert_heard(&heard, b"", 0);
    });
    let setup = Setup::start(address, "").await;
    let opening = Instant::now();
    let mut caller = setup.open_raw("/news/1").await;
    assert_heard(&hear_all(&mut caller).await, b"", 0);
    let silence = opening.elapsed();
    assert!(silence >= Duration::from_secs(1), "{silence:?}");
    setup.ended("idle", 1.0).await;
    service.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn side_that_takes_nothing_is_idle_however_much_it_says() {
    let (address, service) = talking_service(|mut stream| {
        // Pings, until the other side has gone.
        while stream.write_all(b"\x89\x00").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let setup = Setup::start(address, "").await;
    let (mut heard, mut said) = setup.open_raw("/news/1").await.into_split();
    let hearing = tokio::spawn(async move {
        let mut all = Vec::new();
        let _ = heard.read_to_end(&mut all).await;
        all
    });
    // A frame that does not end.
    let mut announced = b"\x82\xFF\x00\x00\x00\x0F\xFF\xFF\xFF\xFF\x00\x00\x00\x00".to_vec();
    announced.resize(64 * 1024, 0);
    tokio::spawn(async move { while said.write_all(&announced).await.is_ok() {} });
    setup.ended("idle", 1.0).await;
    let heard = hearing.await.unwrap();
    let pings = heard.windows(2).filter(|two| two == b"\x89\x00").count();
    assert!(pings >= 10, "it was heard all the time: {pings}");
    let lines = setup.gateway.wait_for_access_log(1).await;
    assert_eq!(lines[0]["http.response.status_code"], 101);
    service.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_to_a_caller_who_says_no_more_still_passes() {
    let (address, service) = talking_service(|mut stream| {
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        assert_eq!(said, b"\x88\x80\x00\x00\x00\x00");
        std::thread::sleep(Duration::from_millis(300));
        stream.write_all(b"\x81\x03bye\x88\x02\x03\xE8").unwrap();
    });
    let setup = Setup::start(address, "").await;
    let mut caller = setup.open_raw("/news/1").await;
    let mut heard = Vec::new();
    caller.write_all(b"\x88\x80\x00\x00\x00\x00").await.unwrap();
    caller.shutdown().await.unwrap();
    caller.read_to_end(&mut heard).await.unwrap();
    assert!(
        heard == b"\x81\x03bye\x88\x02\x03\xE8",
        "{}",
        heard.escape_ascii()
    );
    setup.ended("left", 1.0).await;
    service.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_cut_off_has_a_line_that_says_so() {
    let service = WebSocketService::start();
    let memory =
        "overload: { memory: 1GiB, refuse_at_memory_percent: 99, close_at_memory_percent: 100 }";
    let setup = Setup::start(service.address(), memory).await;
    let mut socket = setup.join().await.unwrap();
    socket.expect_echo("hello").await;
    let yaml = std::fs::read_to_string(setup.gateway.directory().join("portcullis.yaml")).unwrap();
    let short = "memory: 1MiB, refuse_at_memory_percent: 99";
    let yaml = yaml.replace("memory: 1GiB, refuse_at_memory_percent: 99", short);
    setup.gateway.write("portcullis.yaml", &yaml);
    setup.gateway.reload().await;
    assert!(socket.hear().await.is_err());
    let lines = setup.gateway.wait_for_access_log(1).await;
    let line = &lines[0];
    assert_eq!(line["portcullis.code"], "overloaded", "{line}");
    assert_eq!(line["http.response.status_code"], 101, "{line}");
    assert_eq!(line["portcullis.route"], "chat", "{line}");
    assert_eq!(
        line["server.address"],
        setup.address().to_string(),
        "{line}"
    );
    // Two bytes of header, four of mask.
    assert_eq!(line["http.request.body.size"], 11, "{line}");
    assert_eq!(line["http.response.body.size"], 7, "{line}");
    setup.ended("cut_off", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_one_keeps_no_issuer_of_an_old_configuration_busy() {
    let service = WebSocketService::start();
    let leaving = Issuer::start().await;
    let flow = format!(
        "name: leaving, issuer: \"{}\", audiences: [a], keys: {{ url: \"{}\" }}, refresh_interval: 1s",
        leaving.issuer(),
        leaving.key_set_url()
    );
    let setup = Setup::start_with(
        service.address(),
        |yaml| yaml.issuer_flow(&flow),
        |builder| builder,
    )
    .await;
    let mut socket = setup.join().await.unwrap();
    eventually("a second fetch", || async {
        (leaving.key_set_fetches() >= 2).then_some(())
    })
    .await;
    let yaml = std::fs::read_to_string(setup.gateway.directory().join("portcullis.yaml")).unwrap();
    assert!(yaml.contains(&flow));
    let without: Vec<_> = yaml
        .lines()
        .filter(|line| !line.contains(&flow))
        .map(|line| format!("{line}\n"))
        .collect();
    setup.gateway.write("portcullis.yaml", &without.concat());
    setup.gateway.reload().await;
    let fetches = leaving.key_set_fetches();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(leaving.key_set_fetches(), fetches);
    socket.expect_echo("still here").await;
    socket.close().await;
}

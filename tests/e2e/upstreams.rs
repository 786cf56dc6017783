//! What happens between the gateway and a service.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use portcullis_e2e::{
    Authority, Behaviour, Caller, Connection, Gateway, GatewayYaml, Http2Connection, ORDERS_POLICY,
    Response, Service, TlsOptions, World, eventually,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

use crate::steps::request;

const ANY: &str = "/public/x";

async fn gateway(upstream: &str) -> Gateway {
    gateway_with(GatewayYaml::new().upstream_flow(upstream)).await
}

async fn gateway_with(yaml: GatewayYaml) -> Gateway {
    let policy = "owner: orders-team\nroutes:\n\
                  - { name: any, match: { path: \"/public/{*rest}\" }, upstream: orders, public: true }\n";
    Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", policy),
    ])
    .await
}

async fn get(gateway: &Gateway) -> portcullis_e2e::Answer {
    Caller::new().get(&gateway.url(ANY)).await
}

async fn post(gateway: &Gateway) -> portcullis_e2e::Answer {
    Caller::new()
        .send(Method::POST, &gateway.url(ANY), &[], b"once")
        .await
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_take_turns() {
    let services = [
        Service::start().await,
        Service::start().await,
        Service::start().await,
    ];
    let addresses: Vec<_> = services
        .iter()
        .map(|service| format!("\"{}\"", service.address()))
        .collect();
    let gateway = gateway(&format!(
        "name: orders, addresses: [{}]",
        addresses.join(", ")
    ))
    .await;
    for _ in 0..30 {
        assert_eq!(get(&gateway).await.status, 200);
    }
    for service in &services {
        assert_eq!(service.request_count(), 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn address_where_nobody_listens_costs_no_request_when_there_is_another() {
    let service = Service::start().await;
    let flow = format!(
        "name: orders, addresses: [\"{}\", \"{}\"]",
        nobody().await,
        service.address()
    );
    let gateway = gateway(&flow).await;
    for n in 0..10 {
        assert_eq!(get(&gateway).await.status, 200, "{n}");
        assert_eq!(
            post(&gateway).await.status,
            200,
            "nothing was sent, so even this is safe: {n}"
        );
    }
    assert_eq!(service.request_count(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn service_that_cannot_be_reached_is_a_bad_gateway() {
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"]",
        nobody().await
    ))
    .await;
    get(&gateway)
        .await
        .assert_refused(502, "upstream_unreachable");
    post(&gateway)
        .await
        .assert_refused(502, "upstream_unreachable");
}

#[tokio::test(flavor = "multi_thread")]
async fn service_that_does_not_answer_in_time_is_a_gateway_timeout() {
    let service = Service::start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"], timeouts: {{ response: 500ms }}, retries: 0",
        service.address()
    ))
    .await;
    service.always(Behaviour::Stall);
    let started = Instant::now();
    get(&gateway).await.assert_refused(504, "upstream_timeout");
    post(&gateway).await.assert_refused(504, "upstream_timeout");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    service.always(Response::new(200));
    assert_eq!(get(&gateway).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_that_is_not_accepted_in_time_is_a_gateway_timeout() {
    // A listener that accepts nobody, with its backlog full: further SYNs are dropped.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        waiting.push(stream);
    }
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{address}\"], timeouts: {{ connect: 300ms }}, retries: 0"
    ))
    .await;
    get(&gateway).await.assert_refused(504, "upstream_timeout");
    drop(listener);
}

#[tokio::test(flavor = "multi_thread")]
async fn handshake_that_does_not_end_in_time_is_a_gateway_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = Authority::new("internal");
    let yaml = GatewayYaml::new().upstream_flow(&format!(
        "name: orders, addresses: [\"{}\"], retries: 0, timeouts: {{ tls: 300ms }}, \
         tls: {{ server_name: orders.internal, trust: trust.pem }}",
        silent.local_addr().unwrap()
    ));
    let policy = "owner: a\nroutes:\n\
                  - { name: any, match: { path: \"/public/{*rest}\" }, upstream: orders, public: true }\n";
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", policy),
        ("trust.pem", &authority.certificate_pem()),
    ])
    .await;
    get(&gateway).await.assert_refused(504, "upstream_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connection_is_tried_again_where_that_is_safe_and_only_there() {
    for broken in [
        Behaviour::WriteAndClose(Vec::new()),
        Behaviour::WriteAndReset(Vec::new()),
    ] {
        let service = Service::start().await;
        let gateway = gateway(&format!(
            "name: orders, addresses: [\"{}\"]",
            service.address()
        ))
        .await;
        service.next(broken.clone());
        assert_eq!(get(&gateway).await.status, 200, "idempotent, so sent twice");
        assert_eq!(service.request_count(), 2);

        service.forget();
        service.next(broken.clone());
        post(&gateway).await.assert_refused(502, "upstream_broken");
        assert_eq!(service.request_count(), 1, "not idempotent, so sent once");

        service.forget();
        service.next(broken.clone());
        service.next(broken.clone());
        service.next(broken);
        assert_eq!(
            get(&gateway).await.status,
            502,
            "as often as configured, no more"
        );
        assert_eq!(service.request_count(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retried_body_is_the_same_body() {
    let service = Service::start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"]",
        service.address()
    ))
    .await;
    service.next(Behaviour::WriteAndClose(Vec::new()));
    let body = vec![b'x'; 10_000];
    let answer = Caller::new()
        .send(Method::PUT, &gateway.url(ANY), &[], &body)
        .await;
    if answer.status == 200 {
        assert_eq!(service.request_count(), 2);
        assert_eq!(service.last_request().body, body);
    } else {
        answer.assert_refused(502, "upstream_broken");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_that_the_service_has_closed_meanwhile_costs_no_request() {
    let service = Service::start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"]",
        service.address()
    ))
    .await;
    for _ in 0..5 {
        assert_eq!(get(&gateway).await.status, 200);
        service.take_down().await;
        service.bring_up().await;
    }
    assert_eq!(get(&gateway).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_is_kept_for_the_next_request() {
    let service = Service::start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"]",
        service.address()
    ))
    .await;
    for _ in 0..20 {
        assert_eq!(get(&gateway).await.status, 200);
    }
    assert!(
        service.connections() <= 2,
        "{} connections",
        service.connections()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_response_is_never_made_whole() {
    let service = Service::start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"]",
        service.address()
    ))
    .await;
    let with_length = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it".to_vec();
    let chunked =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhalf \r\n64\r\nof".to_vec();
    for head in [with_length, chunked] {
        for behaviour in [
            Behaviour::WriteAndClose(head.clone()),
            Behaviour::WriteAndReset(head.clone()),
        ] {
            service.next(behaviour.clone());
            let mut connection = Connection::open(gateway.address("public")).await;
            let response = connection.request(request("GET", ANY, &[])).await;
            let is_honest = response.status == 502 || !response.is_complete;
            assert!(is_honest, "{behaviour:?} was answered with {response:?}");
            assert!(connection.is_closed_within(Duration::from_secs(5)).await);
        }
    }
    assert_eq!(
        get(&gateway).await.text(),
        "hello from the service\n",
        "the pool is clean"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn response_that_stalls_in_its_middle_is_cut_off() {
    let service = Service::start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"], timeouts: {{ response: 500ms }}",
        service.address()
    ))
    .await;
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it".to_vec();
    service.next(Behaviour::Write(half));
    let started = Instant::now();
    let mut connection = Connection::open(gateway.address("public")).await;
    let response = connection.request(request("GET", ANY, &[])).await;
    assert!(!response.is_complete, "{response:?}");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_a_service_are_its_own_and_are_not_retried() {
    let service = Service::start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"]",
        service.address()
    ))
    .await;
    for status in [400, 401, 403, 404, 500, 502, 503, 504] {
        service.forget();
        service.next(
            Response::new(status)
                .header("content-type", "text/plain")
                .body("mine"),
        );
        let answer = get(&gateway).await;
        assert_eq!((answer.status, answer.text().as_str()), (status, "mine"));
        assert_eq!(service.request_count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn response_that_two_parsers_could_read_differently_is_refused_or_made_plain() {
    let service = Service::start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"]",
        service.address()
    ))
    .await;
    let cases = [
        (
            "two lengths",
            "content-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        ),
        ("no length that is one", "content-length: +2\r\n\r\nab"),
        ("control byte", "x: a\u{0}b\r\ncontent-length: 2\r\n\r\nab"),
        (
            "bad chunk",
            "transfer-encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
        ),
    ];
    for (name, rest) in cases {
        let bytes = format!("HTTP/1.1 200 OK\r\n{rest}").into_bytes();
        service.next(Behaviour::WriteAndClose(bytes));
        let mut connection = Connection::open(gateway.address("public")).await;
        let response = connection.request(request("GET", ANY, &[])).await;
        assert!(
            response.status == 502 || !response.is_complete,
            "{name}: {response:?}"
        );
        assert_eq!(
            get(&gateway).await.text(),
            "hello from the service\n",
            "{name}"
        );
    }
    // Both framings: the length is dropped, and nothing is left over for the next response.
    let both = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n\
                5\r\nhello\r\n0\r\n\r\n";
    service.next(Behaviour::WriteAndClose(both.as_bytes().to_vec()));
    let mut connection = Connection::open(gateway.address("public")).await;
    let response = connection.request(request("GET", ANY, &[])).await;
    assert!(
        response.status == 502 || response.text() == "hello",
        "{response:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn response_whose_head_is_broken_or_without_end_is_a_bad_gateway() {
    let service = Service::start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"]",
        service.address()
    ))
    .await;
    const OK: &str = "HTTP/1.1 200 OK\r\n";
    const REST: &str = "content-length: 2\r\n\r\nab";
    let many = |count: usize, value: &str| -> String {
        let fields: Vec<_> = (0..count).map(|n| format!("x-{n}: {value}\r\n")).collect();
        fields.concat()
    };
    let cases = [
        ("CR in a value", format!("{OK}x: a\rb\r\n{REST}")),
        ("CR in a name", format!("{OK}x\ry: a\r\n{REST}")),
        ("CR at the end of a value", format!("{OK}x: a\r\r\n{REST}")),
        (
            "CR before a length",
            format!("{OK}x: a\rcontent-length: 9\r\n{REST}"),
        ),
        ("CR in the reason", format!("HTTP/1.1 200 O\rK\r\n{REST}")),
        (
            "a field of 2 MiB",
            format!("{OK}x: {}\r\n{REST}", "a".repeat(2 << 20)),
        ),
        (
            "fields of 2 MiB",
            format!("{OK}{}{REST}", many(200, &"a".repeat(10 << 10))),
        ),
        ("300 fields", format!("{OK}{}{REST}", many(300, "a"))),
        ("no head", "<html>hello</html>\r\n\r\n".to_owned()),
    ];
    for (name, bytes) in cases {
        let bytes = bytes.into_bytes();
        for behaviour in [
            Behaviour::Write(bytes.clone()),
            Behaviour::WriteAndClose(bytes),
        ] {
            service.forget();
            service.next(behaviour);
            let mut connection = Connection::open(gateway.address("public")).await;
            let response = connection.request(request("GET", ANY, &[])).await;
            assert_eq!(response.status, 502, "{name}: {response:?}");
            assert!(response.text().contains("upstream_broken"), "{name}");
            assert!(connection.is_closed_within(Duration::from_secs(5)).await);
            assert_eq!(service.request_count(), 1, "{name} is not asked for again");
            assert_eq!(
                get(&gateway).await.text(),
                "hello from the service\n",
                "the pool is clean behind {name}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_responses_without_end_are_not_passed_on_without_end() {
    let service = Service::start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"]",
        service.address()
    ))
    .await;
    for interim in [
        "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        for (count, is_served) in [(16, true), (1_000, false)] {
            let last = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlast";
            let bytes = interim.repeat(count) + last;
            service.next(Behaviour::Write(bytes.into_bytes()));
            let mut connection = Connection::open(gateway.address("public")).await;
            connection.send(request("GET", ANY, &[])).await;
            let mut passed_on = 0;
            let end = loop {
                match connection.read_response_or_close().await {
                    Some(response) if response.status < 200 => passed_on += 1,
                    end => break end,
                }
            };
            assert!(passed_on <= 16, "{passed_on} of {count}");
            let served = end.is_some_and(|response| response.text() == "last");
            assert_eq!(served, is_served, "{count} times {interim}");
            assert_eq!(
                get(&gateway).await.text(),
                "hello from the service\n",
                "the pool is clean"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrade_that_nobody_asked_for_is_not_relayed() {
    let service = Service::start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"]",
        service.address()
    ))
    .await;
    let switching = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                      upgrade: tunnel\r\n\r\n"
        .to_vec();
    for lines in [
        &[][..],
        &["Connection: upgrade", "Upgrade: tunnel"][..],
        &[
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABk",
        ][..],
        &[
            "Connection: upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
        ][..],
    ] {
        service.next(Behaviour::Write(switching.clone()));
        service.next(Behaviour::Write(switching.clone()));
        let mut connection = Connection::open(gateway.address("public")).await;
        let response = connection.request(request("GET", ANY, lines)).await;
        assert_ne!(response.status, 101, "{lines:?}");
        service.take_down().await;
        service.bring_up().await;
        for received in service.requests() {
            assert_eq!(received.header("upgrade"), None, "{lines:?}");
            assert_eq!(received.header("http2-settings"), None, "{lines:?}");
        }
        service.forget();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_about_a_services_connection_reaches_no_caller_on_any_pair_of_versions() {
    let http1 = Service::start().await;
    // hyper sends none of those that HTTP/2 forbids (RFC 9113 §8.2.2), which leaves one.
    let http2 = Service::builder().http2().start().await;
    let about_the_connection = [
        ("connection", "x-of-one-hop"),
        ("x-of-one-hop", "a"),
        ("keep-alive", "timeout=60"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "h2c"),
        ("proxy-authenticate", "Basic"),
    ];
    for (service, protocol) in [(&http1, "http1"), (&http2, "http2")] {
        let response = Response::new(200).header("x-for-all", "b").body("hello");
        service.always(
            about_the_connection
                .iter()
                .fold(response, |response, pair| response.header(pair.0, pair.1)),
        );
        let gateway = gateway(&format!(
            "name: orders, addresses: [\"{}\"], protocol: {protocol}",
            service.address()
        ))
        .await;
        let mut connection = Connection::open(gateway.address("public")).await;
        let mut http2_connection = Http2Connection::open(gateway.address("public")).await;
        for turn in ["first", "second"] {
            let over_http1 = connection.request(request("GET", ANY, &[])).await;
            let over_http2 = http2_connection.get(&gateway.url(ANY), &[]).await;
            let what = format!("{protocol}, the {turn} request");
            assert_eq!((over_http1.status, over_http2.status), (200, 200), "{what}");
            assert_eq!(over_http1.header("x-for-all"), Some("b"), "{what}");
            assert_eq!(over_http2.header("x-for-all"), Some("b"), "{what}");
            // The gateway says what becomes of the caller's own connection.
            assert_eq!(
                over_http1.header("connection"),
                Some("keep-alive"),
                "{what}"
            );
            assert_eq!(over_http2.header("connection"), None, "{what}");
            for (name, _) in about_the_connection.iter().skip(1) {
                assert_eq!(over_http1.header(name), None, "{what}: {name}");
                assert_eq!(over_http2.header(name), None, "{what}: {name}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_without_a_body_leave_the_connection_usable() {
    let service = Service::start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"]",
        service.address()
    ))
    .await;
    let mut connection = Connection::open(gateway.address("public")).await;
    service.next(Response::new(200).body("twelve bytes"));
    connection.send(request("HEAD", ANY, &[])).await;
    let response = connection.read_head_response().await;
    assert_eq!(
        (response.status, response.header("content-length")),
        (200, Some("12"))
    );
    for status in [204, 304] {
        service.next(Behaviour::Write(
            format!("HTTP/1.1 {status} x\r\n\r\n").into_bytes(),
        ));
        let response = connection.request(request("GET", ANY, &[])).await;
        assert_eq!(response.status, status);
    }
    let response = connection.request(request("GET", ANY, &[])).await;
    assert_eq!(response.text(), "hello from the service\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_passes_with_its_trailers() {
    let authority = Authority::new("edge");
    let edge = authority.issue_for("api.acme.example");
    let service = Service::builder().http2().start().await;
    let yaml = GatewayYaml::new().tls_listener().upstream_flow(&format!(
        "name: orders, addresses: [\"{}\"], protocol: http2",
        service.address()
    ));
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", ORDERS_POLICY),
        ("edge.pem", &edge.certificate_pem),
        ("edge.key", &edge.private_key_pem),
    ])
    .await;
    let options = TlsOptions::new(&authority, "api.acme.example");
    let mut connection = Http2Connection::open_tls(gateway.address("public"), &options).await;
    for (status, message) in [("0", "ok"), ("5", "not found")] {
        service.next(
            Response::new(200)
                .header("content-type", "application/grpc")
                .body(b"\0\0\0\0\x03abc".to_vec())
                .trailer("grpc-status", status)
                .trailer("grpc-message", message),
        );
        let response = connection
            .request(
                "POST",
                "https://api.acme.example/public/acme.Orders/Get",
                &[
                    ("content-type", "application/grpc"),
                    ("te", "trailers"),
                    ("grpc-timeout", "1S"),
                ],
                b"\0\0\0\0\x02in",
                &[],
            )
            .await
            .unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(response.body, b"\0\0\0\0\x03abc");
        assert_eq!(response.trailers["grpc-status"], status);
        assert_eq!(response.trailers["grpc-message"], message);
        let received = service.last_request();
        assert_eq!(received.target, "/public/acme.Orders/Get");
        assert_eq!(received.header("te"), Some("trailers"));
        assert_eq!(received.body, b"\0\0\0\0\x02in");
    }
    assert_eq!(service.connections(), 1, "streams share a connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_that_takes_nothing_stalls_no_other_caller_of_an_http2_service() {
    let service = Service::builder().http2().start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"], protocol: http2",
        service.address()
    ))
    .await;
    let large = Response::new(200).body(vec![b'x'; 16 << 20]);
    let mut greedy = Vec::new();
    for _ in 0..12 {
        service.next(large.clone());
        let mut connection = Connection::open_narrow(gateway.address("public")).await;
        connection.send(request("GET", "/public/x", &[])).await;
        greedy.push(connection);
    }
    service.wait_for_requests(12).await;
    // Whatever windows there are have been filled by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    service.always(Response::new(200).body(vec![b'y'; 100_000]));
    for _ in 0..10 {
        let answer = tokio::time::timeout(Duration::from_secs(2), get(&gateway)).await;
        assert_eq!(answer.expect("an answer").text().len(), 100_000);
    }
    drop(greedy);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_service_is_not_blamed_on_a_caller_that_uploads_over_http2() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let yaml = GatewayYaml::new()
        .section("limits: { body_timeout: 1s }")
        .upstream_flow(&format!(
            "name: orders, addresses: [\"{}\"]",
            listener.local_addr().unwrap()
        ));
    let gateway = gateway_with(yaml).await;
    let service = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut left = 8 << 20;
        let mut bytes = vec![0; 1 << 16];
        while left > 0 {
            left -= stream.read(&mut bytes).await.unwrap().min(left);
        }
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        // Open until the answer has been read.
        let _ = stream.read(&mut bytes).await;
    });
    let mut caller = Http2Connection::open(gateway.address("public")).await;
    let body = vec![b'x'; 8 << 20];
    let url = "http://api.acme.example/public/x";
    let answer = caller.request("POST", url, &[], &body, &[]).await.unwrap();
    assert_eq!(answer.status, 204);
    drop(caller);
    service.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_of_http_1_0_gets_a_body_that_it_can_read() {
    let service = Service::start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"]",
        service.address()
    ))
    .await;
    service.next(Behaviour::Write(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec(),
    ));
    let mut connection = Connection::open(gateway.address("public")).await;
    let head = "GET /public/x HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n";
    let response = connection.request(head).await;
    assert_eq!(response.header("transfer-encoding"), None);
    // It ends with the connection, which is therefore not kept.
    assert_eq!(response.text(), "hello");
    assert!(connection.is_closed_within(Duration::from_secs(2)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_service_in_the_clear_is_spoken_to_with_prior_knowledge() {
    let service = Service::builder().http2().start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"], protocol: http2",
        service.address()
    ))
    .await;
    service.always(Behaviour::Echo);
    let body = vec![b'x'; 300_000];
    let answer = Caller::new()
        .send(Method::POST, &gateway.url("/public/a?b=c"), &[], &body)
        .await;
    assert_eq!((answer.status, answer.body.len()), (200, body.len()));
    assert_eq!(service.last_request().target, "/public/a?b=c");
}

#[tokio::test(flavor = "multi_thread")]
async fn name_of_an_upstream_is_resolved() {
    let service = Service::start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"localhost:{}\"]",
        service.address().port()
    ))
    .await;
    assert_eq!(get(&gateway).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn path_and_query_are_forwarded_byte_for_byte() {
    let world = World::start().await;
    for target in [
        "/public/a",
        "/public/a/",
        "/public/caf%C3%A9",
        "/public/caf%c3%a9",
        "/public/a%20b",
        "/public/100%25",
        "/public/%40me/@me/~me",
        "/public/a+b,c:d@e!f$g&h'i(j)*k=l",
        "/public/x?",
        "/public/x?a=1&a=2&b=%2F..%2F&c=//../",
        "/public/x?next=https://example.com/a/../b#",
        "/public/x?q='\"<>",
        "/public/...",
    ] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let response = connection.request(request("GET", target, &[])).await;
        if response.status == 400 {
            assert!(
                target.contains(['#', '"', '<']),
                "{target}: {}",
                response.text()
            );
            continue;
        }
        assert_eq!(response.status, 200, "{target}");
        let wanted = format!("GET {target} HTTP/1.1\r\n");
        let head = world.service.last_request().head_text();
        assert!(head.starts_with(&wanted), "{target} became {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn host_of_the_caller_is_what_the_service_sees() {
    let world = World::start().await;
    let mut connection = Connection::open(world.gateway.address("public")).await;
    connection.request(request("GET", ANY, &[])).await;
    assert_eq!(
        world.service.last_request().header("host"),
        Some("api.acme.example")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_that_gives_up_frees_the_service() {
    let service = Service::start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"]",
        service.address()
    ))
    .await;
    // Also when there is more to be read than is read ahead.
    for (count, further) in [(1, 0), (2, 100_000)] {
        service.next(Behaviour::Stall);
        let mut connection = Connection::open(gateway.address("public")).await;
        let next = request("GET", ANY, &[&format!("X: {}", "x".repeat(1000))]);
        let further = next.repeat(further / next.len());
        connection.send(request("GET", ANY, &[]) + &further).await;
        service.wait_for_requests(count).await;
        connection.finish_sending().await;
        eventually("end of the abandoned request", || async {
            (gateway.access_log().len() >= count).then_some(())
        })
        .await;
    }
    assert_eq!(get(&gateway).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_route_take_the_place_of_those_for_all() {
    let policy = "owner: b\nroutes:\n  \
        - { name: upload, match: { path: /upload }, upstream: quick, public: true, limits: { body_bytes: 2MiB } }\n  \
        - { name: form, match: { path: /form }, upstream: quick, public: true, limits: { body_bytes: 1KiB } }\n  \
        - { name: events, match: { path: /events }, upstream: quick, public: true, limits: { response_timeout: 20s } }\n  \
        - { name: hasty, match: { path: /hasty }, upstream: orders, public: true, limits: { response_timeout: 300ms } }\n  \
        - { name: other, match: { path: /other }, upstream: quick, public: true }\n";
    let service = Service::start().await;
    let yaml = GatewayYaml::new()
        .upstream("orders", service.address())
        .upstream_flow(&format!(
            "name: quick, addresses: [\"{}\"], timeouts: {{ response: 500ms }}, retries: 0",
            service.address()
        ))
        .section("limits: { body_bytes: 1MiB }");
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/b.yaml", policy),
    ])
    .await
    .until_ready()
    .await;
    let caller = Caller::new();
    let body = |length: usize| vec![b'x'; length];
    for (target, length, status) in [
        ("/upload", 2 << 20, 200),
        ("/upload", (2 << 20) + 1, 413),
        ("/form", 1024, 200),
        ("/form", 1025, 413),
        ("/other", 1 << 20, 200),
        ("/other", (1 << 20) + 1, 413),
    ] {
        let url = gateway.url(target);
        let answer = caller.send(Method::POST, &url, &[], &body(length)).await;
        assert_eq!(answer.status, status, "{target} {length}");
    }
    // Of a body whose length nobody has announced, what is too much is refused when it comes.
    let mut connection = Connection::open(gateway.address("public")).await;
    let head = request("POST", "/form", &["Transfer-Encoding: chunked"]);
    let chunk = format!("400\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", "x".repeat(1024));
    assert_eq!(connection.request(head + &chunk).await.status, 413);

    service.always(
        Response::new(200)
            .body("late")
            .after(Duration::from_secs(1)),
    );
    for (target, status) in [("/events", 200), ("/other", 504), ("/hasty", 504)] {
        assert_eq!(
            caller.get(&gateway.url(target)).await.status,
            status,
            "{target}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_for_a_service_says_that_the_connection_ends() {
    let service = Service::start().await;
    let gateway = gateway(&format!(
        "name: orders, addresses: [\"{}\"], retries: 0, timeouts: {{ response: 500ms }}",
        service.address()
    ))
    .await;
    for (behaviour, status) in [
        (Behaviour::WriteAndClose(Vec::new()), 502),
        (Behaviour::WriteAndReset(Vec::new()), 502),
        (Behaviour::Stall, 504),
        (Behaviour::WriteAndClose(b"nonsense\r\n\r\n".to_vec()), 502),
    ] {
        service.next(behaviour);
        let mut connection = Connection::open(gateway.address("public")).await;
        // What comes behind must not cost the caller the answer.
        let two = [request("GET", ANY, &[]), request("GET", ANY, &[])].concat();
        let answer = connection.request(two).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
        assert!(answer.is_complete);
        assert!(connection.is_closed_within(Duration::from_secs(5)).await);
    }
}

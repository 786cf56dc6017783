//! Frames of HTTP/2 as no well-behaved client sends them (RFC 9113).

use std::time::{Duration, Instant};

use portcullis_e2e::http2_frames::{END_STREAM, PREFACE, frame, headers, settings};
use portcullis_e2e::{
    Authority, Behaviour, Connection, Gateway, GatewayYaml, Http2Connection, Response, Service,
    TlsOptions, eventually,
};

use tokio::time::{sleep, timeout};

const INITIAL_WINDOW_SIZE: u16 = 4;

/// A TLS listener with short time limits, and a public route to a service.
pub(super) struct Edge {
    pub(super) authority: Authority,
    pub(super) service: Service,
    pub(super) gateway: Gateway,
}

impl Edge {
    async fn start(policy: &str) -> Self {
        Self::start_with(policy, "").await
    }

    pub(super) async fn start_with(policy: &str, section: &str) -> Self {
        let authority = Authority::new("edge");
        let edge = authority.issue_for("api.acme.example");
        let service = Service::start().await;
        let yaml = GatewayYaml::new()
            .tls_listener()
            .section("limits: { header_timeout: 1s, idle_timeout: 2s, body_timeout: 1s }")
            .section(section)
            .upstream_flow(&format!(
                "name: orders, addresses: [\"{}\"], timeouts: {{ response: 3s }}",
                service.address()
            ));
        let gateway = Gateway::start(&[
            ("portcullis.yaml", &yaml.render()),
            ("policy/orders.yaml", policy),
            ("edge.pem", &edge.certificate_pem),
            ("edge.key", &edge.private_key_pem),
        ])
        .await;
        Self {
            authority,
            service,
            gateway,
        }
    }

    /// A connection on which HTTP/2 was agreed, and nothing sent.
    pub(super) async fn connect(&self) -> Connection {
        self.try_connect().await.unwrap()
    }

    /// The same, unless the gateway will have none.
    pub(super) async fn try_connect(&self) -> std::io::Result<Connection> {
        let options = TlsOptions::new(&self.authority, "api.acme.example").with_protocols(&["h2"]);
        Connection::open_tls(self.gateway.address("public"), &options).await
    }

    pub(super) async fn until_nothing_is_in_flight(&self) {
        eventually("no request in flight", || async {
            let metrics = self.gateway.metrics().await;
            let in_flight = metrics.value("portcullis_requests_in_flight", &[]);
            (in_flight == 0.0).then_some(())
        })
        .await;
        self.gateway.assert_healthy();
    }
}

pub(super) fn request<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [
        (":method", method),
        (":scheme", "https"),
        (":authority", "api.acme.example"),
        (":path", path),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_that_never_begins_is_closed() {
    let edge = Edge::start(ORDERS_POLICY_WITHOUT_TOKENS).await;
    for beginning in [&b""[..], &PREFACE[..9]] {
        let mut connection = edge.connect().await;
        connection.send(beginning).await;
        assert!(
            connection.is_closed_within(Duration::from_secs(5)).await,
            "{beginning:?}"
        );
    }
    let mut idle = edge.connect().await;
    idle.send([PREFACE, &frame(4, 0, 0, b"")].concat()).await;
    let ended = timeout(Duration::from_secs(8), idle.read_to_end()).await;
    assert!(ended.is_ok(), "a connection without a request");
}

/// Clients that stream end their bodies like this.
#[tokio::test(flavor = "multi_thread")]
async fn body_that_ends_with_an_empty_frame_ends_once() {
    let edge = Edge::start(ORDERS_POLICY_WITHOUT_TOKENS).await;
    let mut connection = edge.connect().await;
    connection
        .send([PREFACE, &frame(4, 0, 0, b"")].concat())
        .await;
    for number in 0..3 {
        let stream = 2 * number + 1;
        let parts = [
            headers(stream, 0, &request("POST", "/public/x")),
            frame(0, 0, stream, b"all"),
            frame(0, 0, stream, b""),
            frame(0, 0, stream, b" of it"),
            frame(0, END_STREAM, stream, b""),
        ];
        for part in parts {
            connection.send(part).await;
            sleep(Duration::from_millis(50)).await;
        }
        edge.service.wait_for_requests(number as usize + 1).await;
        edge.until_nothing_is_in_flight().await;
    }
    let received = edge.service.requests();
    let bodies: Vec<_> = received.iter().map(|it| it.body.as_slice()).collect();
    assert_eq!(bodies, [b"all of it"; 3]);
    // Nothing was left over between them.
    assert!(received.iter().all(|it| it.connection == 0));
    let heads: usize = received.iter().map(|it| it.head.len()).sum();
    let chunks = "3\r\nall\r\n6\r\n of it\r\n0\r\n\r\n".len();
    let all = heads + 3 * chunks;
    assert_eq!(edge.service.bytes_received(), all as u64);
}

/// Beside a request that is answered late, so that nobody takes the connection for an idle one.
#[tokio::test(flavor = "multi_thread")]
async fn head_that_does_not_end_is_cut_off_in_time_beside_another_request() {
    const PATIENT: &str = r#"
owner: orders-team
routes:
  - name: patient
    match: { path: "/public/{*rest}" }
    upstream: orders
    public: true
    limits: { response_timeout: 10m }
"#;
    let edge = Edge::start(PATIENT).await;
    edge.service.always(Behaviour::Stall);
    let head = headers(3, END_STREAM, &request("GET", "/public/x"));
    // HEADERS without END_HEADERS.
    let mut open_ended = head.clone();
    open_ended[4] = END_STREAM;
    let beginnings = [
        ("half a frame's header", &head[..5]),
        ("half a frame", &head[..head.len() - 3]),
        ("half a head", &open_ended),
        ("half of another frame", &frame(6, 0, 0, b"12345678")[..12]),
    ];
    for (name, beginning) in beginnings {
        for drips in [false, true] {
            let mut connection = edge.connect().await;
            let first = headers(1, END_STREAM, &request("GET", "/public/x"));
            let opening = [PREFACE, &frame(4, 0, 0, b""), &first].concat();
            connection.send(opening).await;
            edge.service.wait_for_requests(1).await;
            edge.service.forget();
            let begun = Instant::now();
            if drips {
                for byte in beginning {
                    sleep(Duration::from_millis(20)).await;
                    // Whoever was closed on cannot send any more.
                    if connection.try_send([*byte]).await.is_err() {
                        break;
                    }
                }
            } else {
                connection.send(beginning).await;
            }
            let ended = timeout(Duration::from_secs(10), connection.read_to_end()).await;
            assert!(ended.is_ok(), "{name}, in drops: {drips}");
            let took = begun.elapsed();
            assert!(took > Duration::from_millis(900), "{name}: {took:?}");
        }
    }
    edge.until_nothing_is_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_that_has_had_its_answer_is_closed_when_it_has_been_idle_for_long() {
    let edge = Edge::start(ORDERS_POLICY_WITHOUT_TOKENS).await;
    let mut connection = edge.connect().await;
    let head = headers(1, END_STREAM, &request("GET", "/public/x"));
    connection
        .send([PREFACE, &frame(4, 0, 0, b""), &head].concat())
        .await;
    let started = Instant::now();
    let ended = timeout(Duration::from_secs(8), connection.read_to_end()).await;
    assert!(ended.is_ok(), "it is kept for ever");
    let took = started.elapsed();
    assert!(took > Duration::from_millis(1_800), "{took:?}");
    let lines = edge.gateway.wait_for_access_log(1).await;
    assert_eq!(lines[0]["http.response.status_code"], 200, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn response_that_is_not_taken_is_given_up() {
    let edge = Edge::start(ORDERS_POLICY_WITHOUT_TOKENS).await;
    edge.service
        .always(Response::new(200).body(vec![b'x'; 300_000]));
    for window in [0, 1_000] {
        let mut connection = edge.connect().await;
        let mut bytes = [PREFACE, &settings(INITIAL_WINDOW_SIZE, window)].concat();
        for stream in 0..20 {
            let fields = request("GET", "/public/x");
            bytes.extend(headers(2 * stream + 1, END_STREAM, &fields));
        }
        connection.send(bytes).await;
        edge.service.wait_for_requests(20).await;
        edge.service.forget();
        edge.until_nothing_is_in_flight().await;
    }
}

/// The caller is never silent: it widens its windows a little, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn stream_whose_window_grows_in_drops_is_given_up_and_a_steady_one_is_not() {
    // What sockets hold: nobody reads.
    const LENGTH: u64 = 600_000;
    let edge = Edge::start(ORDERS_POLICY_WITHOUT_TOKENS).await;
    edge.service
        .always(Response::new(200).body(vec![b'x'; LENGTH as usize]));
    // The steady one takes longer than the limit for a part, too, and all of it arrives.
    for (step, is_served) in [(1_u32, false), (100_000, true)] {
        let before = edge.gateway.access_log().len();
        let mut connection = edge.connect().await;
        let head = headers(1, END_STREAM, &request("GET", "/public/x"));
        let bytes = [PREFACE, &settings(INITIAL_WINDOW_SIZE, 0), &head].concat();
        connection.send(bytes).await;
        let step = step.to_be_bytes();
        let wider = [frame(8, 0, 0, &step), frame(8, 0, 1, &step)].concat();
        let widening = async {
            while connection.try_send(&wider).await.is_ok() {
                sleep(Duration::from_millis(200)).await;
            }
            std::future::pending::<()>().await;
        };
        let started = Instant::now();
        let lines = tokio::select! {
            lines = edge.gateway.wait_for_access_log(before + 1) => lines,
            () = widening => unreachable!("it waits for ever"),
        };
        let taken = lines[before]["http.response.body.size"].as_u64().unwrap();
        assert_eq!(taken == LENGTH, is_served, "{:?}", lines[before]);
        let took = started.elapsed();
        assert!(took > Duration::from_millis(900), "{took:?}");
        edge.until_nothing_is_in_flight().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wide_window_that_is_not_read_keeps_no_whole_responses() {
    let edge = Edge::start(ORDERS_POLICY_WITHOUT_TOKENS).await;
    edge.service
        .always(Response::new(200).body(vec![b'x'; 1_000_000]));
    let resident = || async {
        let metrics = edge.gateway.metrics().await;
        metrics.value("process_resident_memory_bytes", &[])
    };
    let before = resident().await;
    let mut connection = edge.connect().await;
    let window = (1_u32 << 31) - 1;
    let mut bytes = [PREFACE, &settings(4, window)].concat();
    bytes.extend(frame(8, 0, 0, &(window - 65_535).to_be_bytes()));
    for stream in 0..100 {
        bytes.extend(headers(
            2 * stream + 1,
            END_STREAM,
            &request("GET", "/public/x"),
        ));
    }
    connection.send(bytes).await;
    edge.service.wait_for_requests(100).await;
    sleep(Duration::from_millis(500)).await;
    let grown = resident().await - before;
    // What a service sent ahead waits in Pingora; the codec's part is what is bounded here. Without
    // that, it is all of the 100 MB.
    assert!(grown < 85e6, "{grown} bytes for one connection");
    edge.until_nothing_is_in_flight().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_are_too_large_are_refused_with_a_line() {
    let edge = Edge::start(ORDERS_POLICY_WITHOUT_TOKENS).await;
    let long = "x".repeat(1_000);
    // The limit is 32 KiB, and twice that and more is HTTP/2's own to refuse.
    for fields in [34, 60] {
        let mut connection = edge.connect().await;
        let mut head = request("GET", "/public/x").to_vec();
        head.extend((0..fields).map(|_| ("x-long", long.as_str())));
        let bytes = [
            PREFACE,
            &frame(4, 0, 0, b""),
            &headers(1, END_STREAM, &head),
        ]
        .concat();
        connection.send(bytes).await;
        eventually("a line", || async {
            let lines = edge.gateway.access_log();
            (lines.len() >= if fields == 34 { 1 } else { 2 }).then_some(())
        })
        .await;
    }
    for line in edge.gateway.access_log() {
        assert_eq!(line["portcullis.code"], "headers_too_large", "{line}");
        assert_eq!(line["http.response.status_code"], 431, "{line}");
    }
    edge.service.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_that_cancels_is_not_said_to_be_malformed() {
    let edge = Edge::start(ORDERS_POLICY_WITHOUT_TOKENS).await;
    edge.service
        .always(Response::new(200).after(Duration::from_secs(5)));
    let mut connection = edge.connect().await;
    let bytes = [
        PREFACE,
        &frame(4, 0, 0, b""),
        &headers(1, END_STREAM, &request("GET", "/public/x")),
    ]
    .concat();
    connection.send(bytes).await;
    edge.service.wait_for_requests(1).await;
    const CANCEL: u32 = 8;
    connection.send(frame(3, 0, 1, &CANCEL.to_be_bytes())).await;
    let lines = edge.gateway.wait_for_access_log(1).await;
    assert_eq!(lines[0]["portcullis.code"], "none", "{lines:?}");
    assert!(lines[0]["http.response.status_code"].is_null(), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn body_that_never_comes_is_not_waited_for() {
    let edge = Edge::start(ORDERS_POLICY_WITHOUT_TOKENS).await;
    let mut connection = edge.connect().await;
    let mut bytes = [PREFACE, &frame(4, 0, 0, b"")].concat();
    for stream in 0..10 {
        bytes.extend(headers(2 * stream + 1, 0, &request("POST", "/public/x")));
    }
    connection.send(bytes).await;
    let lines = edge.gateway.wait_for_access_log(10).await;
    for line in &lines {
        assert_eq!(line["portcullis.code"], "request_timeout", "{line}");
    }
    edge.until_nothing_is_in_flight().await;
}

/// A plain listener before a service, with these limits.
async fn plain(limits: &str) -> (Service, Gateway) {
    let service = Service::start().await;
    let yaml = GatewayYaml::new()
        .section(limits)
        .upstream("orders", service.address());
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", ORDERS_POLICY_WITHOUT_TOKENS),
    ])
    .await;
    (service, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn body_that_comes_in_drops_is_given_up_in_time_and_a_steady_one_is_not() {
    let limits = "limits: { body_timeout: 1s, body_bytes_per_second: 1000 }";
    let (service, gateway) = plain(limits).await;
    // Neither is ever silent for long enough to be called silent.
    for (size, parts, is_served) in [(4, 100, false), (600, 10, true)] {
        let before = gateway.access_log().len();
        let mut connection = Connection::open(gateway.address("public")).await;
        let head = headers(1, 0, &request("POST", "/public/x"));
        connection
            .send([PREFACE, &frame(4, 0, 0, b""), &head].concat())
            .await;
        let part = frame(0, 0, 1, &vec![b'x'; size]);
        let sending = async {
            for _ in 0..parts {
                if connection.try_send(&part).await.is_err() {
                    break;
                }
                sleep(Duration::from_millis(300)).await;
            }
            // An error is a gateway that has heard enough.
            let _ = connection.try_send(frame(0, END_STREAM, 1, b"")).await;
            std::future::pending::<()>().await;
        };
        let started = Instant::now();
        let lines = tokio::select! {
            lines = gateway.wait_for_access_log(before + 1) => lines,
            () = sending => unreachable!("it waits for ever"),
        };
        let took = started.elapsed();
        assert!(took < Duration::from_secs(10), "{size}: {took:?}");
        let line = &lines[before];
        let (status, code) = match is_served {
            true => (200, "none"),
            false => (408, "request_timeout"),
        };
        assert_eq!(line["http.response.status_code"], status, "{line}");
        assert_eq!(line["portcullis.code"], code, "{line}");
    }
    let received = service.requests();
    assert_eq!(received.len(), 1, "{received:?}");
    assert_eq!(received[0].body.len(), 6_000);
}

/// The next frame: its kind, flags, stream and payload.
async fn next_frame(connection: &mut Connection) -> (u8, u8, u32, Vec<u8>) {
    let head = connection.read_exactly(9).await.expect("a frame");
    let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
    let length = (number(0) >> 8) as usize;
    let payload = connection.read_exactly(length).await.expect("a payload");
    (head[3], head[4], number(5), payload)
}

/// Reads until this stream is refused, and has met nobody.
async fn until_refused(connection: &mut Connection, stream: u32) {
    const RST_STREAM: u8 = 3;
    const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
    loop {
        let (kind, _, of, payload) = next_frame(connection).await;
        if of == stream {
            assert_eq!((kind, &*payload), (RST_STREAM, &REFUSED_STREAM[..]));
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_beyond_the_limit_is_refused_and_taken_when_another_has_ended() {
    let (service, gateway) = plain("limits: { http2_streams: 3 }").await;
    service.always(Behaviour::Stall);
    let mut connection = Connection::open(gateway.address("public")).await;
    connection
        .send([PREFACE, &frame(4, 0, 0, b"")].concat())
        .await;
    // One of them is answered, when all are there and one too many has been refused.
    service.next(Response::new(200).after(Duration::from_secs(3)));
    for stream in [1, 3, 5, 7] {
        let head = headers(stream, END_STREAM, &request("GET", "/public/x"));
        connection.send(head).await;
    }
    until_refused(&mut connection, 7).await;
    service.wait_for_requests(3).await;
    loop {
        let (_, flags, stream, _) = next_frame(&mut connection).await;
        if stream != 0 && flags & END_STREAM != 0 {
            break;
        }
    }
    for stream in [9, 11] {
        let head = headers(stream, END_STREAM, &request("GET", "/public/y"));
        connection.send(head).await;
    }
    until_refused(&mut connection, 11).await;
    let targets: Vec<_> = service
        .wait_for_requests(4)
        .await
        .into_iter()
        .map(|received| received.target)
        .collect();
    assert_eq!(
        targets,
        ["/public/x", "/public/x", "/public/x", "/public/y"]
    );
    gateway.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn path_that_is_not_one_reaches_nobody() {
    let policy = "owner: a\nroutes:\n\
                  - { name: root, match: { path: / }, upstream: orders, public: true }\n\
                  - { name: all, match: { path: \"/{*rest}\" }, upstream: orders, public: true }\n";
    let edge = Edge::start(policy).await;
    for path in [
        "?q=1",
        "x",
        "*",
        "",
        "http://api.acme.example/x",
        "/a/../b",
        "//a",
    ] {
        let mut connection = edge.connect().await;
        let bytes = [
            PREFACE,
            &frame(4, 0, 0, b""),
            &headers(1, END_STREAM, &request("GET", path)),
        ]
        .concat();
        connection.send(bytes).await;
        connection
            .is_closed_within(Duration::from_millis(300))
            .await;
    }
    for scheme in ["ftp", "HTTPS", "file"] {
        let mut connection = edge.connect().await;
        let mut fields = request("GET", "/x");
        fields[1].1 = scheme;
        let bytes = [
            PREFACE,
            &frame(4, 0, 0, b""),
            &headers(1, END_STREAM, &fields),
        ]
        .concat();
        connection.send(bytes).await;
        connection
            .is_closed_within(Duration::from_millis(300))
            .await;
    }
    edge.until_nothing_is_in_flight().await;
    for received in edge.service.requests() {
        assert_eq!(
            received.target, "/x",
            "only a spelling of the scheme may pass"
        );
    }
}

pub(super) const ORDERS_POLICY_WITHOUT_TOKENS: &str = "owner: a\nroutes:\n\
    - { name: any, match: { path: \"/public/{*rest}\" }, upstream: orders, public: true }\n";

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_carry_nothing_are_not_taken_for_ever() {
    let edge = Edge::start(ORDERS_POLICY_WITHOUT_TOKENS).await;
    const ACK: u8 = 1;
    let floods = [
        ("settings", settings(INITIAL_WINDOW_SIZE, 65_535)),
        ("acknowledgements", frame(4, ACK, 0, &[])),
        ("pings", frame(6, 0, 0, b"pingpong")),
        ("pongs", frame(6, ACK, 0, b"pingpong")),
        ("priorities", frame(2, 0, 1, &[0, 0, 0, 0, 16])),
        ("window updates", frame(8, 0, 0, &[0, 0, 0, 1])),
        ("resets of nothing", {
            let request = headers(1, END_STREAM, &request("GET", "/public/x"));
            [request, frame(3, 0, 1, &[0, 0, 0, 8]).repeat(10)].concat()
        }),
        ("unknown frames", frame(0x2A, 0, 0, b"")),
    ];
    let flooded = async || {
        let metrics = edge.gateway.metrics().await;
        metrics.value("portcullis_connections_flooded_total", &[])
    };
    let mut expected = 0.0;
    for (name, flood) in floods {
        let mut connection = edge.connect().await;
        let preface = [PREFACE, &settings(INITIAL_WINDOW_SIZE, 65_535)].concat();
        connection.send(preface).await;
        // An error is the end that is waited for.
        let _ = connection.try_send(flood.repeat(20_000)).await;
        let reading = timeout(Duration::from_secs(10), connection.read_to_end());
        assert!(reading.await.is_ok(), "{name} are taken for ever");
        // h2 takes no acknowledgement of nothing, and no stream twice. The others end for what they are, not
        // for being idle.
        if !matches!(name, "acknowledgements" | "resets of nothing") {
            expected += 1.0;
        }
        eventually(&format!("an end for {name}"), || async {
            (flooded().await == expected).then_some(())
        })
        .await;
    }
    edge.gateway.assert_healthy();
    let mut connection = edge.connect().await;
    let head = headers(1, END_STREAM, &request("GET", "/public/x"));
    connection
        .send([PREFACE, &settings(INITIAL_WINDOW_SIZE, 1_000), &head].concat())
        .await;
    edge.service.wait_for_requests(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_that_takes_no_note_of_the_end_of_its_connection_is_closed_on() {
    const GOAWAY: u8 = 7;
    let service = Service::start().await;
    let yaml = GatewayYaml::new()
        .section("limits: { connection_age: 1s, idle_timeout: 1s }")
        .upstream("orders", service.address());
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", ORDERS_POLICY_WITHOUT_TOKENS),
    ])
    .await;
    let mut connection = Connection::open(gateway.address("public")).await;
    connection
        .send([PREFACE, &settings(INITIAL_WINDOW_SIZE, 65_535)].concat())
        .await;
    // Never silent, and never an answer to the ping that comes with the GOAWAY (RFC 9113 §6.8).
    let begun = Instant::now();
    for stream in (1..400).step_by(2) {
        let request = headers(stream, END_STREAM, &request("GET", "/public/x"));
        if connection.try_send(request).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    let lasted = begun.elapsed();
    assert!(lasted < Duration::from_secs(8), "served for {lasted:?}");
    let requests = service.requests().len();
    assert!(requests > 20, "it was served after it was told: {requests}");
    let received = connection.read_to_end().await;
    let goaway = frame(GOAWAY, 0, 0, &[0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]);
    assert!(received.windows(goaway.len()).any(|it| it == goaway));
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_that_takes_much_may_say_so_often() {
    let service = Service::start().await;
    let body = vec![b'x'; 64 << 20];
    service.always(Response::new(200).body(body.clone()));
    let yaml = GatewayYaml::new().upstream("orders", service.address());
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", ORDERS_POLICY_WITHOUT_TOKENS),
    ])
    .await;
    let mut connection = Http2Connection::open(gateway.address("public")).await;
    for _ in 0..2 {
        let answer = connection.get(&gateway.url("/public/x"), &[]).await;
        assert_eq!((answer.status, answer.body.len()), (200, body.len()));
    }
}

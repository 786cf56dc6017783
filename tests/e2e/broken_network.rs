//! A network that breaks between the gateway and a service, or an issuer: in the middle of a
//! response, silently, or a byte at a time. No caller takes a part for the whole, waits longer than
//! was promised, or is admitted for it; and when the network is whole again, so is everything else.

use std::time::Duration;

use portcullis_e2e::{
    AUDIENCE, Authority, Behaviour, Caller, Connection, Fault, FaultProxy, Gateway, GatewayYaml,
    Issuer, Load, ORDERS_POLICY, RawResponse, Response, Service, SigningKey, eventually,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::steps::request;

const NAME: &str = "orders.internal";
const ANY: &str = "/public/x";

/// `direct` is the same service, without the proxy between.
const POLICY: &str = r#"
owner: orders-team
routes:
  - { name: any, match: { path: "/public/{*rest}" }, upstream: orders, public: true }
  - name: events
    match: { path: "/events/{*rest}" }
    upstream: orders
    public: true
    limits: { response_timeout: 20s }
  - { name: direct, match: { path: "/direct/{*rest}" }, upstream: direct, public: true }
"#;

const BODY: &str = "a small body";
const WITH_LENGTH: &str = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\na small body";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                       7\r\na small\r\n5\r\n body\r\n0\r\n\r\n";
const UNTIL_CLOSED: &str = "HTTP/1.1 200 OK\r\n\r\na small body";

/// A gateway, and a service behind a network that breaks.
struct Line {
    gateway: Gateway,
    proxy: FaultProxy,
    service: Service,
}

impl Line {
    /// HTTP/1.1 in the clear; `more` is about the upstream.
    async fn start(more: &str) -> Self {
        Self::over(false, false, more).await
    }

    async fn over(http2: bool, tls: bool, more: &str) -> Self {
        let authority = Authority::new("internal");
        let mut builder = Service::builder();
        let mut flow = more.to_owned();
        if http2 {
            builder = builder.http2();
            flow.push_str(", protocol: http2");
        }
        if tls {
            builder = builder.tls(&authority.issue_for(NAME));
            flow.push_str(&format!(
                ", tls: {{ server_name: {NAME}, trust: trust.pem }}"
            ));
        }
        let service = builder.start().await;
        let proxy = FaultProxy::start(service.address()).await;
        let yaml = GatewayYaml::new()
            .upstream_flow(&format!(
                "name: orders, addresses: [\"{}\"]{flow}",
                proxy.address()
            ))
            .upstream_flow(&format!(
                "name: direct, addresses: [\"{}\"]{flow}",
                service.address()
            ));
        let gateway = Gateway::start(&[
            ("portcullis.yaml", &yaml.render()),
            ("policy/orders.yaml", POLICY),
            ("trust.pem", &authority.certificate_pem()),
        ])
        .await;
        Self {
            gateway,
            proxy,
            service,
        }
    }

    /// On a connection of its own, so that what breaks one breaks no other.
    async fn open(&self, target: &str) -> Connection {
        let mut connection = Connection::open(self.gateway.address("public")).await;
        connection.send(request("GET", target, &[])).await;
        connection
    }

    async fn ask(&self) -> RawResponse {
        self.open(ANY).await.read_response().await
    }

    async fn post(&self, target: &str) -> RawResponse {
        let mut connection = Connection::open(self.gateway.address("public")).await;
        let post = request("POST", target, &["Content-Length: 4"]) + "once";
        connection.request(post).await
    }

    /// Whoever asks another service is served at once meanwhile.
    async fn assert_others_are_served(&self) {
        let caller = Caller::new();
        let url = self.gateway.url("/direct/x");
        let answer = timeout(Duration::from_secs(5), caller.get(&url)).await;
        assert_eq!(answer.expect("an answer in time").status, 200);
    }

    /// Everything is as it was before the network broke.
    async fn assert_recovers(&self) {
        self.proxy.set(Fault::Pass);
        eventually("a whole answer", || async {
            let answer = self.ask().await;
            (is_whole(&answer) && answer.status == 200).then_some(())
        })
        .await;
        self.gateway.assert_healthy();
    }
}

/// Whether a caller takes it for the service's own and whole answer. If it does, it has to be that.
fn is_whole(response: &RawResponse) -> bool {
    let is_whole = response.status == 200 && response.is_complete;
    if is_whole {
        assert_eq!(response.text(), BODY, "{response:?}");
    }
    is_whole
}

/// Where the body begins in `wire`.
fn head_length(wire: &str) -> usize {
    wire.find("\r\n\r\n").unwrap() + 4
}

async fn read_head(connection: &mut Connection) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(connection.read_exactly(1).await.expect("a head"));
    }
}

fn reset(after: usize) -> Fault {
    Fault::Reset { after }
}

fn truncate(after: usize) -> Fault {
    Fault::Truncate { after }
}

#[tokio::test(flavor = "multi_thread")]
async fn response_that_is_cut_anywhere_is_never_whole() {
    let line = Line::start(", retries: 0").await;
    for wire in [WITH_LENGTH, CHUNKED] {
        line.service.always(Behaviour::Write(wire.into()));
        for after in 0..=wire.len() {
            for fault in [reset(after), truncate(after)] {
                line.proxy.set(fault);
                let response = line.ask().await;
                let what = format!("{fault:?} of {wire:?}: {response:?}");
                let may_be_whole = after == wire.len();
                assert!(!is_whole(&response) || may_be_whole, "{what}");
                assert!(matches!(response.status, 200 | 502), "{what}");
                if response.status == 502 {
                    assert!(response.text().contains("upstream_broken"), "{what}");
                }
            }
        }
        line.assert_recovers().await;
    }
}

/// Of a body that ends with the connection only a reset can say that it has not ended.
#[tokio::test(flavor = "multi_thread")]
async fn response_without_a_length_is_not_ended_by_a_reset() {
    let line = Line::start(", retries: 0").await;
    line.service.always(Behaviour::Write(UNTIL_CLOSED.into()));
    for after in 0..=UNTIL_CLOSED.len() {
        line.proxy.set(reset(after));
        let response = line.ask().await;
        let is_honest = response.status == 502 || !response.is_complete;
        assert!(is_honest, "{after}: {response:?}");
    }
    line.service
        .always(Behaviour::WriteAndClose(UNTIL_CLOSED.into()));
    line.assert_recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn response_over_http2_or_tls_that_is_cut_is_never_whole() {
    for (http2, tls) in [(true, false), (false, true), (true, true)] {
        let line = Line::over(http2, tls, ", retries: 0, timeouts: { response: 2s }").await;
        line.service.always(Response::new(200).body(BODY));
        assert!(is_whole(&line.ask().await));
        let length = line.proxy.answered();
        let mut broken = 0;
        // On HTTP/2 more may come than the response, so its end is not where the bytes end.
        for after in (0..length + 16).step_by(length / 50 + 1) {
            for fault in [reset(after), truncate(after)] {
                line.proxy.set(fault);
                let response = line.ask().await;
                let what = format!("{fault:?} (http2: {http2}, tls: {tls}): {response:?}");
                if !is_whole(&response) {
                    broken += 1;
                }
                assert!(matches!(response.status, 200 | 502 | 504), "{what}");
            }
        }
        assert!(broken >= 20, "{broken} (http2: {http2}, tls: {tls})");
        line.assert_recovers().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_the_framing_of_a_response_ends_it_without_its_end() {
    let line = Line::start(", retries: 0, timeouts: { response: 500ms }").await;
    line.service.always(Behaviour::Write(CHUNKED.into()));
    let begin = head_length(CHUNKED);
    let data: Vec<_> = ["a small", " body"]
        .into_iter()
        .flat_map(|part| {
            let at = begin + CHUNKED[begin..].find(part).unwrap();
            at..at + part.len()
        })
        .collect();
    for after in 0..CHUNKED.len() {
        // Bits that are flipped within the data are for the service and its caller to notice.
        if data.contains(&after) {
            continue;
        }
        let garbage = Fault::Insert {
            after,
            bytes: b"\x00\xff",
        };
        for fault in [Fault::Flip { after }, garbage] {
            line.proxy.set(fault);
            let response = line.ask().await;
            // In the head it may be within a value that nobody needs.
            let may_be_whole = after < begin;
            assert!(
                !is_whole(&response) || may_be_whole,
                "{fault:?}: {response:?}"
            );
        }
    }
    line.assert_others_are_served().await;
    line.assert_recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn response_whose_head_trickles_is_slow_and_keeps_nobody_else_waiting() {
    let line = Line::start(", retries: 0, timeouts: { response: 1s }").await;
    // Longer than the timeout in all, and never silent for so long.
    let padding = "y".repeat(200);
    line.service
        .always(Response::new(200).header("x-padding", &padding).body(BODY));
    line.proxy.set(Fault::Trickle {
        after: 0,
        bytes: 1,
        every: Duration::from_millis(10),
    });
    let started = Instant::now();
    let (answer, ()) = tokio::join!(line.ask(), line.assert_others_are_served());
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(is_whole(&answer));
    assert!(started.elapsed() > Duration::from_secs(2));
    line.assert_recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn body_that_trickles_is_passed_on_as_it_comes_until_it_is_silent_for_too_long() {
    // Up to 4 KiB of a response whose length is known are gathered.
    const LENGTH: usize = 60 * PART;
    const PART: usize = 512;
    let line = Line::start(", retries: 0, timeouts: { response: 2s }").await;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
    let wire = head.clone() + &"x".repeat(LENGTH);
    line.service.always(Behaviour::Write(wire.clone().into()));
    let trickle = Fault::Trickle {
        after: head.len(),
        bytes: PART,
        every: Duration::from_millis(50),
    };

    // Longer than the timeout in all, and never silent for so long.
    line.proxy.set(trickle);
    let mut connection = line.open(ANY).await;
    read_head(&mut connection).await;
    assert!(connection.read_exactly(1).await.is_some());
    let passed = line.proxy.answered();
    assert!(passed < wire.len(), "all of it came at once");
    let rest = connection.read_exactly(LENGTH - 1).await;
    assert_eq!(rest, Some(vec![b'x'; LENGTH - 1]));

    line.proxy.set(trickle);
    let mut short = line.open(ANY).await;
    let mut long = line.open("/events/x").await;
    for connection in [&mut short, &mut long] {
        read_head(connection).await;
    }
    line.proxy.set(Fault::Mute);
    let silent = Instant::now();
    let rest = short.read_to_end().await;
    assert!(rest.len() < LENGTH, "{}", rest.len());
    assert!(silent.elapsed() < Duration::from_secs(10));
    line.assert_others_are_served().await;
    // The other route has more patience.
    line.proxy.set(Fault::Pass);
    assert_eq!(
        long.read_exactly(LENGTH).await,
        Some(vec![b'x'; LENGTH]),
        "nothing is lost"
    );
    line.gateway.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn network_that_delays_everything_costs_time_and_nothing_else() {
    let line = Line::start(", retries: 0, timeouts: { response: 2s }").await;
    line.service.always(Response::new(200).body(BODY));
    let delay = Duration::from_millis(150);
    line.proxy.set(Fault::Delay {
        requests: delay,
        answers: delay,
    });
    let started = Instant::now();
    assert!(is_whole(&line.ask().await));
    assert!(started.elapsed() >= 2 * delay, "{:?}", started.elapsed());
    assert!(is_whole(&line.post(ANY).await));
    assert_eq!(line.service.last_request().body, b"once");

    // In either direction it is the service that takes too long.
    let long = Duration::from_secs(30);
    for (requests, answers) in [(Duration::ZERO, long), (long, Duration::ZERO)] {
        line.proxy.set(Fault::Delay { requests, answers });
        let started = Instant::now();
        for answer in [line.ask().await, line.post(ANY).await] {
            assert_eq!(answer.status, 504, "{answer:?}");
            assert!(answer.text().contains("upstream_timeout"), "{answer:?}");
        }
        assert!(started.elapsed() < Duration::from_secs(10));
        line.assert_others_are_served().await;
    }
    line.assert_recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_network_is_a_gateway_timeout_for_everybody_behind_it_and_for_nobody_else() {
    let timeouts = ", timeouts: { connect: 1s, tls: 1s, response: 1s }";
    for (http2, tls) in [(false, false), (true, false), (false, true)] {
        let line = Line::over(http2, tls, timeouts).await;
        line.service.always(Response::new(200).body(BODY));
        let before = line.gateway.holds().await;
        for fault in [Fault::HalfOpen, Fault::Mute, Fault::Deaf] {
            // There is a connection that is kept, and it is the next request's.
            assert!(is_whole(&line.ask().await));
            line.proxy.set(fault);
            let target = format!("/public/{fault:?}");
            let started = Instant::now();
            // So many that whatever each of them kept would be seen at the end.
            let mut waiting = Vec::new();
            for _ in 0..20 {
                waiting.push(line.open(ANY).await);
            }
            let (first, second, ()) = tokio::join!(
                line.ask(),
                line.post(&target),
                line.assert_others_are_served()
            );
            let what = format!("{fault:?} (http2: {http2}, tls: {tls})");
            let mut answers = vec![first, second];
            for mut connection in waiting {
                answers.push(connection.read_response().await);
            }
            for answer in answers {
                assert_eq!(answer.status, 504, "{what}: {answer:?}");
                assert!(answer.text().contains("upstream_timeout"), "{what}");
            }
            // A timeout each for the handshake and for the answer, and once more where it is tried
            // again.
            let took = started.elapsed();
            assert!(took < Duration::from_secs(12), "{what}: {took:?}");
            let posts = line.service.requests();
            let posts = posts.iter().filter(|seen| seen.target == target).count();
            assert!(posts <= 1, "{what}: sent {posts} times");
            line.assert_recovers().await;
        }
        line.gateway.until_it_holds_no_more_than(before).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_connections_that_a_router_has_forgotten_cost_an_answer_each_at_most() {
    for http2 in [false, true] {
        let line = Line::over(http2, false, ", timeouts: { response: 1s }").await;
        line.service.always(Response::new(200).body(BODY));
        for _ in 0..10 {
            assert!(is_whole(&line.ask().await));
        }
        let stranded = line.proxy.strand();
        let mut lost = 0;
        loop {
            let started = Instant::now();
            let answer = line.ask().await;
            assert!(started.elapsed() < Duration::from_secs(6));
            if is_whole(&answer) {
                break;
            }
            assert_eq!(answer.status, 504, "{answer:?}");
            lost += 1;
            assert!(lost <= stranded, "{lost} of {stranded} (http2: {http2})");
        }
        line.assert_recovers().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_on_a_connection_that_is_reset_is_sent_again_only_where_that_is_safe() {
    let line = Line::start("").await;
    line.service.always(Response::new(200).body(BODY));
    assert!(is_whole(&line.ask().await));
    line.service.forget();
    line.proxy.set(reset(0));
    let answer = line.post(ANY).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.text().contains("upstream_broken"), "{answer:?}");
    let answer = line.ask().await;
    assert_eq!(answer.status, 502, "{answer:?}");
    let methods: Vec<_> = line
        .service
        .requests()
        .into_iter()
        .map(|seen| seen.method)
        .collect();
    assert_eq!(methods, ["POST", "GET", "GET"]);
    line.assert_recovers().await;
}

/// How long the bearer of a token with an unknown key id waits at most: two seconds for the key
/// set, and what a busy machine takes.
const VERDICT_WITHIN: Duration = Duration::from_secs(6);

/// An issuer whose network breaks in this way: nobody with a good token notices, what has been
/// published meanwhile is believed when it can be fetched, and nothing else is.
async fn issuer_behind(fault: Fault) {
    let issuer = Issuer::start().await;
    let address = issuer.issuer().trim_start_matches("http://");
    let proxy = FaultProxy::start(address.parse().unwrap()).await;
    let service = Service::start().await;
    let yaml = GatewayYaml::new()
        .issuer_flow(&format!(
            "name: acme, issuer: \"{}\", audiences: [\"{AUDIENCE}\"], \
             keys: {{ url: \"http://{}/jwks\" }}, algorithms: [RS256, ES256], refresh_interval: 1s",
            issuer.issuer(),
            proxy.address()
        ))
        .upstream("orders", service.address());
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", ORDERS_POLICY),
    ])
    .await
    .until_ready()
    .await;
    let url = gateway.url("/orders/7");
    let caller = Caller::new();
    let cached = issuer.token().scope("orders:read").sign();
    assert_eq!(caller.get_with_token(&url, &cached).await.status, 200);
    let load = {
        let (caller, url) = (caller.clone(), url.clone());
        Load::start(1, move || {
            let (caller, url, token) = (caller.clone(), url.clone(), cached.clone());
            async move {
                let answer = caller.try_get_with_token(&url, &token);
                let answer = timeout(Duration::from_secs(5), answer).await;
                let answer = answer.map_err(|_| "no answer in time".to_owned())?;
                // Many of these run side by side.
                sleep(Duration::from_millis(10)).await;
                match answer.map_err(|error| format!("{error:?}"))?.status {
                    200 => Ok(()),
                    other => Err(format!("answered {other}")),
                }
            }
        })
    };

    proxy.set(fault);
    let key = issuer.publish(SigningKey::p256("second"));
    let failed = eventually(&format!("a failed refresh: {fault:?}"), || async {
        let issuer = gateway.status().await["issuers"][0].clone();
        (!issuer["last_error"].is_null()).then_some(issuer)
    })
    .await;
    assert_eq!(failed["key_ids"], serde_json::json!(["first"]), "{failed}");
    let unknown = issuer.token_signed_by(&key).scope("orders:read").sign();
    let started = Instant::now();
    let answer = caller.get_with_token(&url, &unknown).await;
    let took = started.elapsed();
    answer.assert_refused(503, "keys_unavailable");
    assert!(took < VERDICT_WITHIN, "{fault:?}: {took:?}");
    // Not remembered, so its signature is verified with the last good set.
    let fresh = issuer.token().scope("orders:read").sign();
    let started = Instant::now();
    assert_eq!(caller.get_with_token(&url, &fresh).await.status, 200);
    assert!(started.elapsed() < VERDICT_WITHIN, "{fault:?}");

    proxy.set(Fault::Pass);
    eventually(&format!("the new key after {fault:?}"), || async {
        let answer = caller.get_with_token(&url, &unknown).await;
        (answer.status == 200).then_some(())
    })
    .await;
    load.finish().await.assert_flawless();
    gateway.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_network_of_an_issuer_is_outlived_by_its_keys_and_mended_by_the_next_refresh() {
    let mut issuers = JoinSet::new();
    for fault in [
        Fault::Trickle {
            after: 0,
            bytes: 1,
            every: Duration::from_millis(200),
        },
        Fault::Delay {
            requests: Duration::ZERO,
            answers: Duration::from_secs(30),
        },
        Fault::Delay {
            requests: Duration::from_secs(30),
            answers: Duration::ZERO,
        },
        Fault::HalfOpen,
        Fault::Mute,
        Fault::Deaf,
        reset(0),
        // In its head, and in the key set itself.
        reset(30),
        truncate(30),
        reset(250),
        truncate(250),
        Fault::Flip { after: 0 },
        Fault::Insert {
            after: 250,
            bytes: b"\x00\xff",
        },
    ] {
        issuers.spawn(issuer_behind(fault));
    }
    issuers.join_all().await;
}

//! Where a request ends (RFC 9112 §6): nothing is smuggled behind one.

use std::time::Duration;

use portcullis_e2e::{Connection, Response, World};

use super::{assert_alive, statuses};
use crate::steps::{bearer, request};

const SMUGGLED: &str = "GET /public/smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn framing_that_two_parsers_could_read_differently_is_refused() {
    let world = World::start().await;
    let length = SMUGGLED.len();
    let inner = format!("0\r\n\r\n{SMUGGLED}");
    let framings = [
        format!(
            "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n{inner}",
            inner.len()
        ),
        format!("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{inner}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n{inner}"),
        format!("Transfer-Encoding: identity, chunked\r\n\r\n{inner}"),
        format!("Transfer-Encoding: gzip, chunked\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked, chunked\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n{inner}"),
        format!("Transfer-Encoding: \u{b}chunked\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\u{0}\r\n\r\n{inner}"),
        format!("Transfer-Encoding: \"chunked\"\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked;q=1\r\n\r\n{inner}"),
        format!("Transfer-Encoding : chunked\r\n\r\n{inner}"),
        format!(" Transfer-Encoding: chunked\r\n\r\n{inner}"),
        format!("Transfer-Encoding:\r\n chunked\r\n\r\n{inner}"),
        format!("Transfer-Encoding:\r\n\r\n{inner}"),
        format!("Content-Length: {length}\r\nContent-Length: 0\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: 0, {length}\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: +{length}\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: -{length}\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: 0x10\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: 5.0\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: 5 5\r\n\r\n{SMUGGLED}"),
        format!("Content-Length:\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: 18446744073709551616\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: \u{665}\r\n\r\n{SMUGGLED}"),
        format!("Content-Length : {length}\r\n\r\n{SMUGGLED}"),
    ];
    for framing in framings {
        let text = format!("POST /public/x HTTP/1.1\r\nHost: h\r\n{framing}");
        let statuses = statuses(&world, text.as_bytes()).await;
        assert!(
            matches!(statuses[..], [] | [400]),
            "{framing:?}: {statuses:?}"
        );
    }
    world.service.assert_untouched();
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_that_two_parsers_could_read_differently_is_refused() {
    let world = World::start().await;
    let mut heads: Vec<String> = vec![
        "GET /public/x HTTP/1.1\nHost: h\n\n".into(),
        "GET /public/x HTTP/1.1\r\nHost: h\n\r\n".into(),
        "GET /public/x HTTP/1.1\r\nHost: h\r\n\n".into(),
        "GET /public/x HTTP/1.1\nHost: h\r\n\r\n".into(),
        "GET /public/x HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n".into(),
        "GET /public/x HTTP/1.1\r\nHost: h\r\nX: a\u{0}b\r\n\r\n".into(),
        "GET /public/x HTTP/1.1\r\nHost: h\r\n: empty name\r\n\r\n".into(),
        "GET /public/x HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n".into(),
        "GET /public/x HTTP/1.1\r\nHost: h\r\nX\u{a0}: a\r\n\r\n".into(),
        "GET /public/x HTTP/1.1\r\nHost: h\r\nX Y: a\r\n\r\n".into(),
        "GET /public/x HTTP/1.1\r\n Host: h\r\n\r\n".into(),
        "GET /public/x HTTP/1.1 junk\r\nHost: h\r\n\r\n".into(),
        "GET /public/x  HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "GET  /public/x HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "GET /public/x HTTP/2.0\r\nHost: h\r\n\r\n".into(),
        "GET /public/x HTTP/1.2\r\nHost: h\r\n\r\n".into(),
        "GET /public/x http/1.1\r\nHost: h\r\n\r\n".into(),
        "GET /public/x\r\n\r\n".into(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
        "POST /public/x HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
    ];
    for field in ["Host", "Authorization", "Content-Length", "X-User-ID", "X"] {
        heads.push(format!(
            "GET /public/x HTTP/1.1\r\nHost: h\r\n{field}: a\r\n b\r\n\r\n"
        ));
        heads.push(format!(
            "GET /public/x HTTP/1.1\r\nHost: h\r\n{field}: a\r\n\tb\r\n\r\n"
        ));
        heads.push(format!(
            "GET /public/x HTTP/1.1\r\nHost: h\r\n{field} : a\r\n\r\n"
        ));
        heads.push(format!(
            "GET /public/x HTTP/1.1\r\nHost: h\r\n\t{field}: a\r\n\r\n"
        ));
    }
    for head in heads {
        let statuses = statuses(&world, head.as_bytes()).await;
        assert!(
            matches!(statuses[..], [] | [400] | [505]),
            "{head:?}: {statuses:?}"
        );
    }
    world.service.assert_untouched();
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_chunks_never_become_a_second_request() {
    let world = World::start().await;
    for chunks in [
        format!("{:x}0000000000000000\r\n{SMUGGLED}", 1),
        format!("+5\r\nhello\r\n0\r\n\r\n{SMUGGLED}"),
        format!("0x5\r\nhello\r\n0\r\n\r\n{SMUGGLED}"),
        format!("-1\r\nhello\r\n0\r\n\r\n{SMUGGLED}"),
        format!("5\nhello\n0\n\n{SMUGGLED}"),
        format!("5\r\nhello0\r\n\r\n{SMUGGLED}"),
        format!("5\r\nhelloXX0\r\n\r\n{SMUGGLED}"),
        format!("zz\r\nhello\r\n0\r\n\r\n{SMUGGLED}"),
        format!("\r\n0\r\n\r\n{SMUGGLED}"),
        format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000)),
    ] {
        let text = format!(
            "POST /public/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
        );
        statuses(&world, text.as_bytes()).await;
        for received in world.service.requests() {
            assert_ne!(received.target, "/public/smuggled", "{chunks:.60?}");
        }
    }
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn body_reaches_the_service_in_one_plain_framing() {
    let world = World::start().await;
    for (lines, body) in [
        ("Content-Length: 5", "hello"),
        ("Content-Length: 5\r\nContent-Length: 5", "hello"),
        (
            "Transfer-Encoding: chunked",
            "2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX-T: 1\r\n\r\n",
        ),
        ("transfer-encoding: Chunked", "5\r\nhello\r\n0\r\n\r\n"),
    ] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let head = format!("POST /public/x HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n");
        let response = connection.request(head + body).await;
        if response.status == 400 {
            assert!(lines.matches("Content-Length").count() == 2, "{lines}");
            continue;
        }
        assert_eq!(response.status, 200, "{lines}");
        let received = world.service.last_request();
        assert_eq!(received.body, b"hello", "{lines}");
        let framings =
            received.headers("content-length").len() + received.headers("transfer-encoding").len();
        assert_eq!(framings, 1, "{lines}: {}", received.head_text());
        assert!(received.trailers.is_empty(), "{lines}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_sent_ahead_are_judged_and_answered_one_by_one() {
    let world = World::start().await;
    world.service.next(
        Response::new(200)
            .body("first")
            .after(Duration::from_millis(500)),
    );
    let token = bearer(&world.token("orders:read"));
    let requests = [
        request("GET", "/orders/7", &[&token]),
        request("POST", "/public/x", &["Content-Length: 5"]) + "hello",
        request("POST", "/public/y", &["Transfer-Encoding: chunked"]) + "3\r\nabc\r\n0\r\n\r\n",
        // Nothing of the ones before is left: this one has no token.
        request("GET", "/orders/7", &[]),
        request("GET", "/public/z", &[]),
    ];
    // At once, and in parts whose borders are anywhere.
    for size in [usize::MAX, 1, 7, 100] {
        world.service.forget();
        let mut connection = Connection::open(world.gateway.address("public")).await;
        for part in requests.concat().as_bytes().chunks(size.min(1 << 20)) {
            connection.send(part).await;
        }
        let mut statuses = Vec::new();
        for _ in &requests {
            statuses.push(connection.read_response().await.status);
        }
        assert_eq!(statuses, [200, 200, 200, 401, 200], "{size}");
        let received: Vec<_> = world
            .service
            .requests()
            .into_iter()
            .map(|request| (request.target, request.body))
            .collect();
        let expected: [(&str, &[u8]); 4] = [
            ("/orders/7", b""),
            ("/public/x", b"hello"),
            ("/public/y", b"abc"),
            ("/public/z", b""),
        ];
        let expected = expected.map(|(target, body)| (target.to_owned(), body.to_vec()));
        assert_eq!(received, expected, "{size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_behind_a_request_spoils_nothing_but_itself() {
    let world = World::start().await;
    for nonsense in ["\r\n", "x", "GET /public/x HTTP/1.1\nHost: h\n\n"] {
        let slow = Response::new(200)
            .body("first")
            .after(Duration::from_millis(300));
        world.service.next(slow);
        let mut connection = Connection::open(world.gateway.address("public")).await;
        connection.send(request("GET", "/public/x", &[])).await;
        world.service.wait_for_requests(1).await;
        connection.send(nonsense).await;
        let response = connection.read_response().await;
        assert_eq!((response.status, response.text().as_str()), (200, "first"));
        connection.send("\r\n\r\n").await;
        let second = connection.read_response_or_close().await;
        assert!(second.is_none_or(|response| response.status == 400));
        assert_eq!(world.service.request_count(), 1, "{nonsense:?}");
        world.service.forget();
    }
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_within_a_body_that_was_sent_ahead_is_none() {
    let world = World::start().await;
    for offset in [0, 1, 3_900, 4_000, 4_050, 4_096, 5_000, 8_192, 12_000] {
        // Whatever is read at once, and however much is kept: this is a body.
        let body = format!("{}{SMUGGLED}{}", "x".repeat(offset), "y".repeat(9_000));
        let stream = [
            request("POST", "/public/1", &["Transfer-Encoding: chunked"]) + "5\r\nhel",
            "lo\r\n0\r\n\r\n".to_owned(),
            request(
                "GET",
                "/public/2",
                &[&format!("X-Long: {}", "z".repeat(6_000))],
            ),
            request(
                "POST",
                "/public/3",
                &[&format!("Content-Length: {}", body.len())],
            ) + &body,
            request("POST", "/public/4", &["Transfer-Encoding: chunked"])
                + &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
            request("GET", "/public/5", &[]),
        ]
        .concat();
        let pause = stream.find("lo\r\n0").unwrap();
        for parts in [[stream.as_str(), ""], [&stream[..pause], &stream[pause..]]] {
            world.service.forget();
            let mut connection = Connection::open(world.gateway.address("public")).await;
            for part in parts {
                connection.send(part).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            for number in 1..=5 {
                assert_eq!(
                    connection.read_response().await.status,
                    200,
                    "{offset}: {number}"
                );
            }
            let received = world.service.requests();
            let targets: Vec<_> = received.iter().map(|it| it.target.as_str()).collect();
            let expected = [
                "/public/1",
                "/public/2",
                "/public/3",
                "/public/4",
                "/public/5",
            ];
            assert_eq!(targets, expected, "{offset}");
            assert_eq!(received[2].body, body.as_bytes());
            assert_eq!(received[3].body, body.as_bytes());
        }
    }
    assert_alive(&world).await;
}

use std::time::Duration;

use super::*;

fn limits() -> Limits {
    Limits {
        connections: 1,
        connections_per_address: 1,
        handshake_timeout: Duration::from_secs(1),
        header_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
        body_timeout: Duration::from_secs(1),
        body_bytes: 64,
        body_bytes_per_second: 0,
        target_bytes: 64,
        headers: 5,
        header_bytes: 256,
        token_bytes: 64,
        failed_verifications_per_second: 0,
        http2_streams: 1,
        requests_per_connection: 1,
        connection_age: Duration::from_secs(1),
        websocket_idle_timeout: Duration::from_secs(1),
        websocket_age: Duration::from_secs(1),
    }
}

/// What is made of `bytes` when they come at once, and when they come one by one.
fn judge(bytes: &[u8]) -> Result<Option<usize>, Denial> {
    let judge_in = |steps: &mut dyn Iterator<Item = usize>| {
        let mut lines = Lines::default();
        for length in steps {
            if let Some(end) = lines.find_end(&bytes[..length], &limits())? {
                return check(&bytes[..end], &limits()).map(|_| Some(end));
            }
        }
        Ok(None)
    };
    let at_once = judge_in(&mut std::iter::once(bytes.len()));
    let one_by_one = judge_in(&mut (1..=bytes.len()));
    assert_eq!(
        at_once.is_ok(),
        one_by_one.is_ok(),
        "{:?}",
        bytes.escape_ascii().to_string()
    );
    at_once
}

#[test]
fn good_heads_pass_and_their_end_is_found() {
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost:a:8443\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "GET /a?b=[c]|{d} HTTP/1.1\r\nHost: a\r\nX:\r\nY: \t \r\nZ: \u{e4}\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
        "FOO / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let with_body = format!("{head}GET /next HTTP/1.1\r\n\r\n");
        assert_eq!(
            judge(with_body.as_bytes()),
            Ok(Some(head.len())),
            "{head:?}"
        );
        let unfinished = &head[..head.len() - 1];
        assert_eq!(judge(unfinished.as_bytes()), Ok(None), "{head:?}");
    }
}

#[test]
fn what_two_parsers_could_read_differently_is_refused() {
    let good = |lines: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
    let request_line = |line: &str| format!("{line}\r\nHost: a\r\n\r\n");
    let mut malformed = vec![
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\nHost: a\n\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\r\n\n".to_owned(),
        "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
    ];
    malformed.extend(
        [
            "GET /",
            "GET / ",
            "GET / HTTP/1.1 ",
            "GET / HTTP/1.2",
            "GET / HTTP/2.0",
            "GET / http/1.1",
            "GET / HTTP/1.1x",
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            " GET / HTTP/1.1",
            "GET\t/ HTTP/1.1",
            "G@T / HTTP/1.1",
            "GET a HTTP/1.1",
            "GET ?a HTTP/1.1",
            "GET  HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "GET /\"a HTTP/1.1",
            "GET /<a> HTTP/1.1",
            "GET /\u{e4} HTTP/1.1",
            "GET /\u{1} HTTP/1.1",
            "GET /\u{7f} HTTP/1.1",
            "GET ftp://a/ HTTP/1.1",
            "GET httpx://a/ HTTP/1.1",
            "CONNECT a:1 HTTP/1.1",
            "CONNECT /a HTTP/1.1",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1",
        ]
        .map(request_line),
    );
    malformed.extend(
        [
            ": a",
            "no colon",
            "X Y: a",
            "X\u{a0}: a",
            "X : a",
            " X: a",
            "\tX: a",
            "X: a\r\n b",
            "X: a\r\n\tb",
            "X: a\rb",
            "X: a\u{0}b",
            "X: a\u{1}b",
            "X: a\u{7f}b",
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 1",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Content-Length:",
            "Content-Length: +1",
            "Content-Length: -1",
            "Content-Length: 0x1",
            "Content-Length: 1, 1",
            "Content-Length: 1 1",
            "Content-Length: 1.0",
            "Content-Length: 10000000000000000000",
            "Content-Length: \u{665}",
            "Transfer-Encoding:",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: \"chunked\"",
            "Transfer-Encoding: chunked;q=1",
            "Transfer-Encoding: \u{b}chunked",
            "Transfer-Encoding : chunked",
            "content-length : 1",
        ]
        .map(good),
    );
    for head in malformed {
        assert_eq!(
            judge(head.as_bytes()),
            Err(Denial::RequestMalformed),
            "{head:?}"
        );
    }
}

#[test]
fn there_is_exactly_one_host() {
    assert_eq!(
        judge(b"GET / HTTP/1.0\r\n\r\n"),
        Err(Denial::AuthorityInvalid)
    );
    for hosts in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHOST: b\r\n",
        "Host:\r\n",
        "Host: a, b\r\n",
        "Host: u@a\r\n",
        "Host: a/b\r\n",
        "Host: a b\r\n",
        "Host: a\\b\r\n",
        "Host: \u{e4}\r\n",
        "Host: a?b\r\n",
        "Host: a#b\r\n",
        "Host: a%2eb\r\n",
    ] {
        let head = format!("GET / HTTP/1.1\r\n{hosts}\r\n");
        assert_eq!(
            judge(head.as_bytes()),
            Err(Denial::AuthorityInvalid),
            "{hosts:?}"
        );
    }
}

#[test]
fn too_much_is_refused_before_it_is_complete() {
    let long = "a".repeat(65);
    let target = format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(judge(target.as_bytes()), Err(Denial::TargetTooLong));
    let endless_target = format!("GET /{}", "a".repeat(200));
    assert_eq!(judge(endless_target.as_bytes()), Err(Denial::TargetTooLong));
    let endless_method = "A".repeat(200);
    assert_eq!(
        judge(endless_method.as_bytes()),
        Err(Denial::RequestMalformed)
    );
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: a\r\n".repeat(5));
    assert_eq!(judge(many.as_bytes()), Err(Denial::HeadersTooLarge));
    let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(400));
    assert_eq!(judge(endless.as_bytes()), Err(Denial::HeadersTooLarge));
    let wide = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "a".repeat(260)
    );
    assert_eq!(judge(wide.as_bytes()), Err(Denial::HeadersTooLarge));
}

#[tokio::test]
async fn a_target_in_absolute_form_is_reduced_where_its_authority_is_that_of_host() {
    for (target, host, reduced) in [
        ("http://a/b?c", "a", Some("/b?c")),
        ("HTTPS://A:1/b", "a:1", Some("/b")),
        ("http://a", "a", Some("/")),
        ("http://a?b", "a", Some("/?b")),
        ("http://a/b", "c", None),
        ("http://a:80/b", "a", None),
        ("http:///b", "a", None),
        ("http://u@a/b", "a", None),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\nbody");
        let alarm = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let patience = Duration::from_secs(1);
        let outcome = read(&mut head.as_bytes(), alarm, (patience, None), &limits()).await;
        match (outcome, reduced) {
            (Head::Complete(bytes, end, _), Some(reduced)) => {
                let expected = format!("GET {reduced} HTTP/1.1\r\nHost: {host}\r\n\r\nbody");
                assert_eq!(bytes, expected.as_bytes(), "{target}");
                assert_eq!(&bytes[end..], b"body", "{target}");
            }
            (Head::Refused(Denial::AuthorityInvalid, _), None) => {}
            (outcome, _) => panic!("{target}: {outcome:?}"),
        }
    }
}

/// How long a head is waited for of which `bytes` come after `delay`, and then nothing.
async fn waited(
    bytes: &[u8],
    delay: Duration,
    patience: Duration,
    head_timeout: Option<Duration>,
) -> Duration {
    let (mut caller, mut stream) = tokio::io::duplex(1024);
    let began = Instant::now();
    let alarm = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
    let limits = limits();
    let reading = read(&mut stream, alarm, (patience, head_timeout), &limits);
    let sending = async {
        tokio::time::sleep(delay).await;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut caller, bytes).await;
    };
    let (outcome, ()) = tokio::join!(reading, sending);
    assert!(matches!(outcome, Head::Ended), "{outcome:?}");
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_head_has_its_time_from_its_first_byte_or_with_the_first_one_altogether() {
    let seconds = Duration::from_secs;
    let some = b"GET / HTTP/1.1\r\n";
    let later = |bytes, delay| waited(bytes, seconds(delay), seconds(60), Some(seconds(10)));
    assert_eq!(later(b"", 0).await.as_secs(), 60);
    assert_eq!(later(some, 1).await.as_secs(), 11);
    assert_eq!(later(some, 59).await.as_secs(), 69);
    let first = |bytes, delay| waited(bytes, seconds(delay), seconds(10), None);
    assert_eq!(first(b"", 0).await.as_secs(), 10);
    assert_eq!(first(some, 9).await.as_secs(), 10);
}

use std::net::Ipv6Addr;
use std::time::UNIX_EPOCH;

use portcullis_config::Secret;
use serde_json::{Value, json};

use super::*;
use crate::telemetry::NONE;

fn entry() -> Entry<'static> {
    Entry {
        arrived: UNIX_EPOCH + Duration::from_millis(1_795_512_600_120),
        request_id: "0196f0c2a5b17d3c9a3be1d2f4a5c6d7",
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
        listener: "public",
        client_address: Some(IpAddr::from([192, 0, 2, 7])),
        method: "GET",
        host: b"api.acme.example",
        target: b"/orders/17?access_token=canary",
        http_version: "2",
        route: Some(Route {
            name: "orders-read",
            owner: "orders-team",
        }),
        outcome: Outcome::Admitted,
        code: NONE,
        status: Some(200),
        principal: Some(Principal {
            issuer: "acme",
            subject: Some("alice"),
            token_id: Some("a1b2"),
            client_id: Some("shop"),
        }),
        upstream: Some(Upstream {
            name: "orders",
            address: Some(SocketAddr::from(([10, 0, 0, 5], 8443))),
            duration: Some(Duration::from_micros(4_250)),
        }),
        duration: Duration::from_micros(4_900),
        admission_duration: Some(Duration::from_micros(31)),
        bytes_received: 0,
        bytes_sent: 512,
        user_agent: Some(b"curl/8.5.0"),
    }
}

fn log(subject: SubjectDisclosure) -> AccessLog {
    let metrics = Metrics::new().expect("metrics");
    AccessLog::open(
        &Settings {
            file: Some("/dev/null".into()),
            subject,
        },
        &metrics,
    )
    .expect("opens")
}

fn pseudonym(key: &str) -> SubjectDisclosure {
    SubjectDisclosure::Pseudonym(Some(Secret::new(key)))
}

/// The line as JSON; checks what holds for every line.
fn line(log: &AccessLog, entry: &Entry<'_>) -> Value {
    let line = String::from_utf8(log.line(entry)).expect("UTF-8");
    assert!(line.len() <= 4096, "{} bytes", line.len());
    assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
    assert!(!line.trim_end().chars().any(char::is_control), "{line}");
    serde_json::from_str(&line).expect("JSON")
}

#[test]
fn an_admitted_request_is_told_in_full() {
    let line = line(&log(pseudonym("key")), &entry());
    let expected = json!({
        "timestamp": "2026-11-24T09:30:00.120Z",
        "portcullis.request.id": "0196f0c2a5b17d3c9a3be1d2f4a5c6d7",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "portcullis.listener": "public",
        "client.address": "192.0.2.7",
        "http.request.method": "GET",
        "server.address": "api.acme.example",
        "url.path": "/orders/17",
        "network.protocol.version": "2",
        "portcullis.route": "orders-read",
        "portcullis.owner": "orders-team",
        "portcullis.decision": "admitted",
        "portcullis.code": "none",
        "http.response.status_code": 200,
        "portcullis.issuer": "acme",
        // printf 'acme\0alice' | openssl dgst -sha256 -hmac key
        "enduser.pseudo.id": "9dae61f74790b15014f6ef9366efc4bf",
        "portcullis.token.id": "a1b2",
        "portcullis.client.id": "shop",
        "portcullis.upstream.name": "orders",
        "portcullis.upstream.address": "10.0.0.5:8443",
        "portcullis.upstream.duration": 0.00425,
        "portcullis.admission.duration": 0.000_031,
        "http.server.request.duration": 0.0049,
        "http.request.body.size": 0,
        "http.response.body.size": 512,
        "user_agent.original": "curl/8.5.0",
    });
    assert_eq!(line, expected);
}

#[test]
fn a_request_that_found_nothing_leaves_fields_out() {
    let entry = Entry {
        trace_id: None,
        client_address: None,
        route: None,
        outcome: Outcome::Denied,
        code: "path_ambiguous",
        status: None,
        principal: None,
        upstream: None,
        admission_duration: None,
        user_agent: None,
        ..entry()
    };
    let line = line(&log(pseudonym("key")), &entry);
    assert_eq!(line["portcullis.code"], "path_ambiguous");
    for field in [
        "portcullis.route",
        "portcullis.issuer",
        "portcullis.upstream.name",
        "http.response.status_code",
    ] {
        assert_eq!(line.get(field), None, "{field}");
    }
}

#[test]
fn a_subject_appears_as_the_operator_wants() {
    let (omitted, plain) = (
        log(SubjectDisclosure::Omitted),
        log(SubjectDisclosure::Plain),
    );
    let line_of = |log: &AccessLog| line(log, &entry());
    assert_eq!(
        line_of(&omitted)
            .get("enduser.id")
            .or(line_of(&omitted).get("enduser.pseudo.id")),
        None
    );
    assert_eq!(line_of(&plain)["enduser.id"], "alice");

    let (one, same, other) = (
        log(pseudonym("one")),
        log(pseudonym("one")),
        log(pseudonym("other")),
    );
    assert_eq!(
        line_of(&one)["enduser.pseudo.id"],
        line_of(&same)["enduser.pseudo.id"]
    );
    assert_ne!(
        line_of(&one)["enduser.pseudo.id"],
        line_of(&other)["enduser.pseudo.id"]
    );
    assert!(!line_of(&one).to_string().contains("alice"));
}

#[test]
fn one_subject_at_two_issuers_has_two_pseudonyms() {
    let log = log(pseudonym("key"));
    let at = |issuer| {
        let principal = Principal {
            issuer,
            subject: Some("alice"),
            token_id: None,
            client_id: None,
        };
        line(
            &log,
            &Entry {
                principal: Some(principal),
                ..entry()
            },
        )["enduser.pseudo.id"]
            .clone()
    };
    assert_ne!(at("acme"), at("partner"));
}

#[test]
fn a_random_key_is_the_same_after_a_reload() {
    let (before, after) = (
        log(SubjectDisclosure::Pseudonym(None)),
        log(SubjectDisclosure::Pseudonym(None)),
    );
    assert_eq!(
        line(&before, &entry())["enduser.pseudo.id"],
        line(&after, &entry())["enduser.pseudo.id"]
    );
}

#[test]
fn no_query_fragment_or_userinfo_is_logged() {
    for (target, path) in [
        (&b"/a?token=canary"[..], "/a"),
        (b"/a#canary", "/a"),
        (b"?canary", ""),
        (b"http://canary:canary@host/a?canary", "/a"),
        (b"http://canary@host", ""),
        (b"/a/http://b", "/a/http://b"),
        (b"*", "*"),
    ] {
        let line = line(&log(pseudonym("key")), &Entry { target, ..entry() });
        assert_eq!(line["url.path"], path);
    }
}

#[test]
fn an_invented_method_is_other() {
    for (method, logged) in [
        ("PATCH", "PATCH"),
        ("get", "_OTHER"),
        ("PROPFIND", "_OTHER"),
        ("", "_OTHER"),
    ] {
        assert_eq!(
            line(&log(pseudonym("key")), &Entry { method, ..entry() })["http.request.method"],
            logged
        );
    }
}

#[test]
fn a_line_is_bounded_valid_json_whatever_bytes_arrive() {
    let all_bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let log = log(SubjectDisclosure::Plain);
    for hostile in [
        &b"\r\n{\"level\":\"fatal\"}\r\n"[..],
        b"\"}{\"level\":\"error\"",
        b"\x1b[2J\x1b]0;owned\x07",
        "\u{9b}31m\u{202e}\u{2028}\u{0}".as_bytes(),
        b"\xff\xfe\xc3\x28",
        &b"\\".repeat(100_000),
        &b"\x01".repeat(100_000),
        "😀".repeat(20_000).as_bytes(),
        &all_bytes,
    ] {
        let text = String::from_utf8_lossy(hostile);
        let principal = Principal {
            issuer: &text,
            subject: Some(&text),
            token_id: Some(&text),
            client_id: Some(&text),
        };
        let address = SocketAddr::from((Ipv6Addr::from([0xfedc_u16; 8]), u16::MAX));
        let upstream = Upstream {
            name: &text,
            address: Some(address),
            duration: Some(Duration::from_secs(u64::MAX)),
        };
        let _ = line(
            &log,
            &Entry {
                request_id: &text,
                trace_id: Some(&text),
                listener: &text,
                client_address: Some(address.ip()),
                method: &text,
                host: hostile,
                target: hostile,
                route: Some(Route {
                    name: &text,
                    owner: &text,
                }),
                principal: Some(principal),
                upstream: Some(upstream),
                duration: Duration::from_secs(u64::MAX),
                admission_duration: Some(Duration::from_secs(u64::MAX)),
                bytes_received: u64::MAX,
                bytes_sent: u64::MAX,
                user_agent: Some(hostile),
                code: "insufficient_user_authentication",
                ..entry()
            },
        );
    }
}

#[test]
fn a_long_value_is_cut_visibly_and_a_fitting_one_is_not() {
    let fits = "a".repeat(MAX_USER_AGENT);
    let line_of = |agent: &str| {
        let line = line(
            &log(pseudonym("key")),
            &Entry {
                user_agent: Some(agent.as_bytes()),
                ..entry()
            },
        );
        line["user_agent.original"]
            .as_str()
            .expect("text")
            .to_owned()
    };
    assert_eq!(line_of(&fits), fits);
    let cut = line_of(&format!("{fits}b"));
    assert!(cut.len() <= MAX_USER_AGENT && cut.ends_with("a…"), "{cut}");
    assert_eq!(
        line_of(&"é".repeat(MAX_USER_AGENT)).len() / 2,
        MAX_USER_AGENT / 2 - 2 + 1
    );
}

#[test]
fn no_field_is_the_parent_of_another_one() {
    let line = line(&log(SubjectDisclosure::Plain), &entry());
    let names: Vec<&String> = line.as_object().expect("object").keys().collect();
    for (parent, child) in names
        .iter()
        .flat_map(|parent| names.iter().map(move |child| (parent, child)))
    {
        assert!(
            !child.starts_with(&format!("{parent}.")),
            "{parent} and {child}"
        );
    }
}

#[test]
fn every_field_is_in_the_manual() {
    const MANUAL: &str = include_str!("../../../../docs/telemetry.md");
    for log in [log(SubjectDisclosure::Plain), log(pseudonym("key"))] {
        for field in line(&log, &entry()).as_object().expect("object").keys() {
            assert!(MANUAL.contains(&format!("| `{field}` |")), "{field}");
        }
    }
}

#[test]
fn a_sink_that_fails_never_stalls_a_request_and_every_line_is_counted() {
    let metrics = Metrics::new().expect("metrics");
    let settings = Settings {
        file: Some("/dev/full".into()),
        subject: SubjectDisclosure::Omitted,
    };
    let log = AccessLog::open(&settings, &metrics).expect("opens");
    for _ in 0..1000 {
        log.record(&entry());
    }
    assert!(log.flush(Duration::from_secs(10)));
    assert_eq!(metrics.access_log_lines_dropped().get(), 1000);
}

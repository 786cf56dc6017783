use serde_json::json;

use super::*;
use crate::demo::issuer::DASHBOARD;

const FORWARDED: Promise = Promise::Forwarded {
    service: "orders",
    caller: Some(&DASHBOARD),
};
const REFUSED: Promise = Promise::Refused {
    status: 403,
    challenge: Some(Challenge {
        error: Some("insufficient_scope"),
        scope: Some("orders:write"),
    }),
};

/// What `orders` answers to `dashboard`, with these header fields in the place of the right ones.
fn echoed(service: &str, path: &str, headers: &[&str]) -> Observed {
    let body = json!({
        "service": service,
        "method": "GET",
        "path": path,
        "headers": headers,
        "body_bytes": 0,
        "trailers": [],
    });
    Observed {
        answer: Answer::Response(Response {
            request: "GET /orders/42".to_owned(),
            status: 200,
            media_type: "application/json".to_owned(),
            challenges: Vec::new(),
            body: body.to_string(),
        }),
        reached: vec!["orders"],
    }
}

fn problem(status: u16, challenges: &[&str], reached: &[&'static str]) -> Observed {
    Observed {
        answer: Answer::Response(Response {
            request: "POST /orders".to_owned(),
            status,
            media_type: "application/problem+json".to_owned(),
            challenges: challenges.iter().map(|text| (*text).to_owned()).collect(),
            body: json!({ "code": "scope_insufficient" }).to_string(),
        }),
        reached: reached.to_vec(),
    }
}

#[test]
fn a_promise_of_identity_is_broken_by_anything_else_that_speaks_of_the_caller() {
    const USER: &str = "x-user-id: dashboard";
    const SCOPES: &str = "x-scopes: orders:read profile:read";
    const CLIENT: &str = "x-client-id: dashboard";
    let good = [USER, SCOPES, CLIENT];
    let path = "/orders/42";
    for (name, observed, is_kept) in [
        ("good", echoed("orders", path, &good), true),
        (
            "in any order",
            echoed("orders", path, &[CLIENT, SCOPES, USER]),
            true,
        ),
        (
            "beside others",
            echoed("orders", path, &[USER, "host: a", SCOPES, CLIENT]),
            true,
        ),
        ("another service", echoed("profile", path, &good), false),
        ("another path", echoed("orders", "/orders/43", &good), false),
        (
            "one is missing",
            echoed("orders", path, &[USER, CLIENT]),
            false,
        ),
        ("nobody", echoed("orders", path, &[]), false),
        (
            "somebody else",
            echoed("orders", path, &["x-user-id: admin", SCOPES, CLIENT]),
            false,
        ),
        (
            "two",
            echoed("orders", path, &[USER, USER, SCOPES, CLIENT]),
            false,
        ),
        (
            "folds",
            echoed("orders", path, &[USER, SCOPES, CLIENT, "x_user_id: admin"]),
            false,
        ),
        (
            "folds too",
            echoed("orders", path, &[USER, SCOPES, CLIENT, "X.Scopes: a"]),
            false,
        ),
        (
            "token",
            echoed("orders", path, &[USER, SCOPES, CLIENT, "authorization: a"]),
            false,
        ),
        ("refused", problem(403, &[], &[]), false),
    ] {
        let complaints = FORWARDED.complaints(&observed);
        assert_eq!(complaints.is_empty(), is_kept, "{name}: {complaints:?}");
    }
}

#[test]
fn a_promise_of_a_refusal_is_broken_by_another_status_challenge_or_a_reached_service() {
    const CHALLENGE: &str =
        r#"Bearer realm="portcullis", error="insufficient_scope", scope="orders:write""#;
    const WITHOUT_SCOPE: &str = r#"Bearer realm="portcullis", error="insufficient_scope""#;
    for (name, observed, is_kept) in [
        ("good", problem(403, &[CHALLENGE], &[]), true),
        ("another status", problem(401, &[CHALLENGE], &[]), false),
        ("no challenge", problem(403, &[], &[]), false),
        (
            "two challenges",
            problem(403, &[CHALLENGE, CHALLENGE], &[]),
            false,
        ),
        ("no scope", problem(403, &[WITHOUT_SCOPE], &[]), false),
        (
            "a service is reached",
            problem(403, &[CHALLENGE], &["profile"]),
            false,
        ),
        ("forwarded", echoed("orders", "/orders/42", &[]), false),
    ] {
        let complaints = REFUSED.complaints(&observed);
        assert_eq!(complaints.is_empty(), is_kept, "{name}: {complaints:?}");
    }
    let public = Promise::Forwarded {
        service: "orders",
        caller: None,
    };
    let no_one = echoed("orders", "/orders/42", &["host: a"]);
    assert_eq!(public.complaints(&no_one), Vec::<String>::new());
}

#[test]
fn only_the_alert_is_a_refused_handshake() {
    let observed = |answer| Observed {
        answer,
        reached: Vec::new(),
    };
    let promise = Promise::HandshakeRefused;
    let kept = promise.complaints(&observed(Answer::HandshakeRefused));
    assert_eq!(kept, Vec::<String>::new());
    let down = observed(Answer::Failed("connection refused".to_owned()));
    assert_eq!(promise.complaints(&down).len(), 1);
    assert_ne!(promise.complaints(&problem(403, &[], &[])).len(), 0);
}

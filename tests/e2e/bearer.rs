//! What a request meets: each row of the table of refusals, and nothing reaches the service.

use http::Method;
use portcullis_e2e::{
    Caller, Connection, Gateway, GatewayYaml, Issuer, ORDERS_POLICY, Service, SigningKey, World,
    unix_now,
};
use serde_json::json;

use crate::steps::{bearer, challenge_parameters, request};

#[tokio::test(flavor = "multi_thread")]
async fn good_token_is_forwarded_once_with_exactly_the_trusted_headers() {
    let world = World::start().await;
    let token = world.token("orders:write orders:read");
    let answer = Caller::new()
        .get_with_token(&world.url("/orders/7?expand=lines"), &token)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.text(), "hello from the service\n");

    assert_eq!(world.service.request_count(), 1);
    let received = world.service.last_request();
    assert_eq!(received.target, "/orders/7?expand=lines");
    assert_eq!(received.header("x-user-id"), Some("alice"));
    assert_eq!(
        received.header("x-scopes"),
        Some("orders:read orders:write")
    );
    assert_eq!(received.header("x-client-id"), Some("orders-client"));
    assert_eq!(received.header("authorization"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_without_a_credential_is_challenged_without_an_error() {
    let world = World::start().await;
    let caller = Caller::new();
    let token = world.token("orders:read");
    let good = format!("Bearer {token}");
    let cookie = format!("access_token={token}");
    let cases = [
        ("nothing", "/orders/7", vec![]),
        (
            "basic",
            "/orders/7",
            vec![("authorization", "Basic YWxpY2U6c2VjcmV0")],
        ),
        (
            "digest",
            "/orders/7",
            vec![("authorization", "Digest username=\"alice\"")],
        ),
        (
            "negotiate",
            "/orders/7",
            vec![("authorization", "Negotiate YII=")],
        ),
        (
            "token scheme",
            "/orders/7",
            vec![("authorization", "Token abc")],
        ),
        (
            "jwt scheme",
            "/orders/7",
            vec![("authorization", "JWT abc")],
        ),
        (
            "proxy-authorization",
            "/orders/7",
            vec![("proxy-authorization", &good)],
        ),
        (
            "x-authorization",
            "/orders/7",
            vec![("x-authorization", &good)],
        ),
        ("cookie", "/orders/7", vec![("cookie", &cookie)]),
        (
            "health checker",
            "/orders/7",
            vec![("user-agent", "kube-probe/1.30")],
        ),
    ];
    for (name, target, headers) in cases {
        let answer = caller
            .send(Method::GET, &world.url(target), &headers, b"")
            .await;
        answer.assert_refused(401, "credential_missing");
        assert_eq!(
            answer.challenge(),
            Some("Bearer realm=\"portcullis\""),
            "{name}"
        );
    }
    let query = format!("/orders/7?access_token={token}");
    let answer = caller.get(&world.url(&query)).await;
    answer.assert_refused(401, "credential_missing");
    assert_eq!(answer.challenge(), Some("Bearer realm=\"portcullis\""));
    let form = format!("access_token={token}");
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = caller
        .send(
            Method::POST,
            &world.url("/orders"),
            &headers,
            form.as_bytes(),
        )
        .await;
    answer.assert_refused(401, "credential_missing");
    world.service.assert_untouched();
    assert!(!world.gateway.access_log_text().contains(&token));
    assert!(!world.gateway.log_text().contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_method_is_exempt_from_the_credential() {
    let world = World::start().await;
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let lines = [
            "Origin: https://app.acme.example",
            "Access-Control-Request-Method: GET",
        ];
        connection.send(request(method, "/account", &lines)).await;
        let response = if method == "HEAD" {
            connection.read_head_response().await
        } else {
            connection.read_response().await
        };
        assert_eq!(response.status, 401, "{method}");
        assert_eq!(
            response.header("www-authenticate"),
            Some("Bearer realm=\"portcullis\"")
        );
    }
    world.service.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_credentials_are_refused_even_when_one_of_them_is_good() {
    let world = World::start().await;
    let good = bearer(&world.token("orders:read"));
    let other = bearer(&world.token("orders:read orders:write"));
    let cases = [
        (
            "the same twice",
            vec![good.as_str(), good.as_str()],
            "/orders/7",
        ),
        (
            "different",
            vec![good.as_str(), other.as_str()],
            "/orders/7",
        ),
        (
            "basic beside it",
            vec![good.as_str(), "Authorization: Basic YTpi"],
            "/orders/7",
        ),
        (
            "query beside it",
            vec![good.as_str()],
            "/orders/7?access_token=abc",
        ),
        (
            "query later",
            vec![good.as_str()],
            "/orders/7?a=1&access_token=abc",
        ),
        (
            "encoded query name",
            vec![good.as_str()],
            "/orders/7?access%5Ftoken=abc",
        ),
    ];
    for (name, lines, target) in cases {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let response = connection.request(request("GET", target, &lines)).await;
        assert_eq!(response.status, 400, "{name}: {}", response.text());
        assert!(
            response.text().contains("\"credential_repeated\""),
            "{name}: {}",
            response.text()
        );
        let challenge = challenge_parameters(response.header("www-authenticate").unwrap());
        assert_eq!(challenge["error"], "invalid_request", "{name}");
    }
    world.service.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_authorization_is_an_invalid_request() {
    let world = World::start().await;
    let token = world.token("orders:read");
    let cases = [
        "Authorization: Bearer".to_owned(),
        "Authorization: Bearer ".to_owned(),
        "Authorization: Bearer a b".to_owned(),
        "Authorization: Bearer \"abc\"".to_owned(),
        "Authorization: Bearer\tabc".to_owned(),
        "Authorization: Bearer a,b".to_owned(),
        format!("Authorization: Bearer {token}, Bearer {token}"),
        format!("Authorization: Bearer {token},"),
    ];
    for line in cases {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let response = connection
            .request(request("GET", "/orders/7", &[&line]))
            .await;
        assert_eq!(response.status, 400, "{line:?}: {}", response.text());
        assert!(
            response.text().contains("\"credential_malformed\""),
            "{line:?}"
        );
        let challenge = challenge_parameters(response.header("www-authenticate").unwrap());
        assert_eq!(challenge["error"], "invalid_request", "{line:?}");
    }
    world.service.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn scheme_is_compared_without_regard_to_case() {
    let world = World::start().await;
    let token = world.token("orders:read");
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let authorization = format!("{scheme} {token}");
        let headers = [("authorization", authorization.as_str())];
        let answer = Caller::new()
            .send(Method::GET, &world.url("/orders/7"), &headers, b"")
            .await;
        assert_eq!(answer.status, 200, "{scheme}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn token_that_is_not_good_is_refused_as_an_invalid_token() {
    let world = World::start().await;
    let stranger = std::sync::Arc::new(SigningKey::rsa("first"));
    let good = world.issuer.token().scope("orders:read");
    let now = unix_now();
    let cases = [
        ("malformed", "token_malformed", "abc".to_owned()),
        (
            "signature",
            "token_signature_invalid",
            good.clone().signed_by(&stranger).sign(),
        ),
        (
            "issuer",
            "issuer_unknown",
            good.clone()
                .claim("iss", json!("https://login.evil.example"))
                .sign(),
        ),
        (
            "audience",
            "token_audience_mismatch",
            good.clone()
                .claim("aud", json!("https://other.example"))
                .sign(),
        ),
        (
            "expired",
            "token_expired",
            good.clone().claim("exp", json!(now - 60)).sign(),
        ),
        (
            "not yet",
            "token_not_yet_valid",
            good.clone().claim("nbf", json!(now + 120)).sign(),
        ),
        (
            "type",
            "token_type_refused",
            good.clone().header("typ", json!("JWT")).sign(),
        ),
        (
            "algorithm",
            "token_algorithm_refused",
            good.clone().header("alg", json!("RS512")).sign(),
        ),
        (
            "key id",
            "token_key_unknown",
            good.clone().header("kid", json!("nobody")).sign(),
        ),
        (
            "no exp",
            "token_claim_invalid",
            good.clone().without_claim("exp").sign(),
        ),
    ];
    for (name, code, token) in cases {
        let answer = Caller::new()
            .get_with_token(&world.url("/orders/7"), &token)
            .await;
        answer.assert_refused(401, code);
        let challenge = challenge_parameters(answer.challenge().unwrap());
        assert_eq!(challenge["realm"], "portcullis", "{name}");
        assert_eq!(challenge["error"], "invalid_token", "{name}");
        assert!(
            !answer.text().contains(&token),
            "{name}: the token is in the answer"
        );
    }
    world.service.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_scope_is_answered_with_what_the_route_needs() {
    let world = World::start().await;
    let caller = Caller::new();
    let cases = [
        (Method::GET, "/orders/7", "", "orders:read"),
        (Method::GET, "/orders/7", "orders:write", "orders:read"),
        (
            Method::GET,
            "/orders/7",
            "orders:reader orders:rea read",
            "orders:read",
        ),
        (Method::GET, "/orders/7", "ORDERS:READ", "orders:read"),
        (
            Method::GET,
            "/orders/7",
            "orders:write,orders:read",
            "orders:read",
        ),
        (
            Method::POST,
            "/orders",
            "orders:read",
            "orders:read orders:write",
        ),
        (
            Method::GET,
            "/admin/x",
            "orders:read orders:write",
            "orders:admin",
        ),
        (
            Method::GET,
            "/reports",
            "orders:write",
            "orders:read orders:admin",
        ),
    ];
    for (method, target, scope, needed) in cases {
        let authorization = format!("Bearer {}", world.token(scope));
        let headers = [("authorization", authorization.as_str())];
        let answer = caller
            .send(method.clone(), &world.url(target), &headers, b"")
            .await;
        answer.assert_refused(403, "scope_insufficient");
        let challenge = challenge_parameters(answer.challenge().unwrap());
        assert_eq!(
            challenge["error"], "insufficient_scope",
            "{method} {target}"
        );
        let mut stated: Vec<_> = challenge["scope"].split(' ').collect();
        let mut needed: Vec<_> = needed.split(' ').collect();
        stated.sort_unstable();
        needed.sort_unstable();
        assert_eq!(stated, needed, "{method} {target} with {scope:?}");
    }
    world.service.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_of_the_scopes_and_any_valid_token_suffice_where_the_route_says_so() {
    let world = World::start().await;
    let cases = [
        ("/reports", "orders:read", 200),
        ("/reports", "orders:admin", 200),
        ("/reports", "orders:read orders:admin", 200),
        ("/reports", "orders:write", 403),
        ("/account", "", 200),
        ("/account", "anything else", 200),
    ];
    for (target, scope, status) in cases {
        let answer = Caller::new()
            .get_with_token(&world.url(target), &world.token(scope))
            .await;
        assert_eq!(answer.status, status, "{target} with {scope:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_no_route_matches_is_not_found_with_and_without_a_token() {
    let world = World::start().await;
    let token = world.token("orders:read orders:write orders:admin");
    let targets = [
        "/",
        "/order",
        "/orders/7/lines",
        "/ORDERS/7",
        "/administrator",
        "/metrics",
        "/healthz",
        "/readyz",
        "/status",
        "/reportsx",
    ];
    for target in targets {
        let answer = Caller::new().get(&world.url(target)).await;
        answer.assert_refused(404, "route_not_found");
        assert_eq!(answer.challenge(), None);
        let answer = Caller::new()
            .get_with_token(&world.url(target), &token)
            .await;
        answer.assert_refused(404, "route_not_found");
    }
    world.service.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_method_on_a_known_path_is_answered_with_those_that_are_allowed() {
    let world = World::start().await;
    let token = format!("Bearer {}", world.token("orders:read orders:write"));
    let headers = [("authorization", token.as_str())];
    let caller = Caller::new();
    for (method, target, allowed) in [
        (Method::DELETE, "/orders/7", vec!["GET", "HEAD"]),
        (Method::OPTIONS, "/orders/7", vec!["GET", "HEAD"]),
        (Method::PUT, "/orders", vec!["POST"]),
        (Method::TRACE, "/reports", vec!["GET"]),
        (Method::from_bytes(b"FOO").unwrap(), "/reports", vec!["GET"]),
        (Method::from_bytes(b"get").unwrap(), "/reports", vec!["GET"]),
    ] {
        let answer = caller
            .send(method.clone(), &world.url(target), &headers, b"")
            .await;
        answer.assert_refused(405, "method_not_allowed");
        let stated: Vec<_> = answer.header("allow").unwrap().split(", ").collect();
        assert_eq!(stated, allowed, "{method} {target}");
    }
    world.service.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_is_written_before_the_body_is_read() {
    let world = World::start().await;
    let mut connection = Connection::open(world.gateway.address("public")).await;
    let head = request("POST", "/orders", &["Content-Length: 1000000"]);
    let response = connection.request(head).await;
    assert_eq!(response.status, 401);
    world.service.assert_untouched();

    let mut connection = Connection::open(world.gateway.address("public")).await;
    let head = request(
        "POST",
        "/orders",
        &["Content-Length: 10", "Expect: 100-continue"],
    );
    let response = connection.request(head).await;
    assert_eq!(response.status, 401, "a refusal costs no body");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_a_refused_body_are_never_taken_for_a_request() {
    let world = World::start().await;
    let hidden = request("GET", "/public/hidden", &[]);
    let length = format!("Content-Length: {}", hidden.len());
    let head = request("POST", "/orders", &[&length]);
    let mut connection = Connection::open(world.gateway.address("public")).await;
    connection.send(head + &hidden).await;
    assert_eq!(connection.read_response().await.status, 401);
    // Whether the connection lives on or not, the body is no request.
    let next = request("GET", "/orders/health", &["Connection: close"]);
    if connection.try_send(next).await.is_ok() {
        connection.read_to_end().await;
    }
    let targets: Vec<_> = world
        .service
        .requests()
        .into_iter()
        .map(|received| received.target)
        .collect();
    assert!(
        !targets.contains(&"/public/hidden".to_owned()),
        "{targets:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_whose_keys_cannot_be_had_is_answered_with_503_and_nobody_is_admitted() {
    let issuer = Issuer::start_down(SigningKey::p256("only")).await;
    let service = Service::start().await;
    let yaml = GatewayYaml::new()
        .issuer("acme", &issuer)
        .upstream("orders", service.address());
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", ORDERS_POLICY),
    ])
    .await;
    let token = issuer.token().scope("orders:read").sign();
    let answer = Caller::new()
        .get_with_token(&gateway.url("/orders/7"), &token)
        .await;
    answer.assert_refused(503, "keys_unavailable");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=300).contains(&seconds), "{seconds}");
    assert_eq!(answer.challenge(), None, "it is not the caller's fault");
    service.assert_untouched();

    // A token that no configured issuer made is refused all the same.
    let foreign = issuer
        .token()
        .claim("iss", json!("https://evil.example"))
        .sign();
    let answer = Caller::new()
        .get_with_token(&gateway.url("/orders/7"), &foreign)
        .await;
    assert_eq!(answer.status, 401);
    // And public routes serve.
    let answer = Caller::new().get(&gateway.url("/orders/health")).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_for_one_route_is_judged_again_on_the_next() {
    let world = World::start().await;
    let token = world.token("orders:read");
    for _ in 0..3 {
        let answer = Caller::new()
            .get_with_token(&world.url("/orders/7"), &token)
            .await;
        assert_eq!(answer.status, 200);
        let answer = Caller::new()
            .get_with_token(&world.url("/admin/x"), &token)
            .await;
        answer.assert_refused(403, "scope_insufficient");
    }
    assert_eq!(world.service.request_count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn remembered_token_is_refused_as_soon_as_it_expires() {
    let issuer = Issuer::start().await;
    let service = Service::start().await;
    let yaml = GatewayYaml::new()
        .issuer_flow(&format!(
            "name: acme, issuer: \"{}\", audiences: [\"https://api.acme.example\"], \
             keys: {{ url: \"{}\" }}, leeway: 0s",
            issuer.issuer(),
            issuer.key_set_url()
        ))
        .upstream("orders", service.address());
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", ORDERS_POLICY),
    ])
    .await
    .until_ready()
    .await;
    let expiry = unix_now() + 3;
    let token = issuer
        .token()
        .scope("orders:read")
        .claim("exp", json!(expiry))
        .sign();
    let caller = Caller::new();
    loop {
        let before = unix_now();
        let answer = caller
            .get_with_token(&gateway.url("/orders/7"), &token)
            .await;
        if answer.status == 200 {
            assert!(before < expiry, "admitted after it had expired");
            continue;
        }
        answer.assert_refused(401, "token_expired");
        assert!(unix_now() >= expiry, "refused before it had expired");
        break;
    }
    assert!(service.request_count() > 1, "it was remembered for a while");
}

#[tokio::test(flavor = "multi_thread")]
async fn realm_of_the_challenge_can_be_chosen() {
    let world = World::start_with(|yaml| yaml.section("realm: acme-api")).await;
    let answer = Caller::new().get(&world.url("/orders/7")).await;
    assert_eq!(answer.challenge(), Some("Bearer realm=\"acme-api\""));
}

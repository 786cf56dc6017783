//! Nobody but the gateway writes identity headers.

use http::Method;
use portcullis_e2e::{
    Authority, Behaviour, Caller, Connection, Gateway, GatewayYaml, Http2Connection, Issuer,
    ORDERS_POLICY, Received, Response, Service, TlsOptions, World,
};
use serde_json::json;

use crate::steps::{bearer, request};

const IDENTITY: [&str; 3] = ["x-user-id", "x-scopes", "x-client-id"];

/// Every spelling of `name` with one of a few letter cases and each `-` as either `-` or `_`.
fn spellings(name: &str) -> Vec<String> {
    let dashes: Vec<_> = name.match_indices('-').map(|(at, _)| at).collect();
    let title: String = name
        .split('-')
        .map(|word| word[..1].to_uppercase() + &word[1..])
        .collect::<Vec<_>>()
        .join("-");
    let alternating: String = name
        .chars()
        .enumerate()
        .map(|(at, c)| {
            if at % 2 == 0 {
                c.to_ascii_uppercase()
            } else {
                c
            }
        })
        .collect();
    let mut all = Vec::new();
    for cased in [name.to_owned(), name.to_uppercase(), title, alternating] {
        for choice in 0..1_usize << dashes.len() {
            let mut bytes = cased.clone().into_bytes();
            for (bit, at) in dashes.iter().enumerate() {
                if choice >> bit & 1 == 1 {
                    bytes[*at] = b'_';
                }
            }
            all.push(String::from_utf8(bytes).unwrap());
        }
    }
    // Some services turn every mark into the same one.
    all.extend(
        ["!", "#", "$", "'", "*", "+", ".", "^", "`", "|", "~"].map(|m| name.replace('-', m)),
    );
    all
}

fn forgeries() -> Vec<String> {
    let names = IDENTITY.iter().flat_map(|name| spellings(name));
    names
        .flat_map(|name| [format!("{name}: mallory"), format!("{name}: root, admin")])
        .collect()
}

fn assert_only_trusted(received: &Received, expected: [Option<&str>; 3]) {
    for (name, value) in IDENTITY.into_iter().zip(expected) {
        let spellings = received.spellings_of(name);
        assert_eq!(
            spellings.len(),
            usize::from(value.is_some()),
            "{name}: {spellings:?}"
        );
        assert_eq!(received.header(name), value, "{name}");
    }
    let everything = format!("{:?} {:?}", received.fields, received.trailers);
    for forged in ["mallory", "root, admin"] {
        assert!(!everything.contains(forged), "{everything}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_header_from_the_caller_never_reaches_a_service() {
    let world = World::start().await;
    let authorization = bearer(&world.token("orders:read"));
    let alice = [Some("alice"), Some("orders:read"), Some("orders-client")];
    for line in forgeries() {
        for (target, expected) in [
            ("/orders/7", alice),
            ("/delegated/7", alice),
            ("/orders/health", [None; 3]),
            ("/public/x", [None; 3]),
        ] {
            let mut connection = Connection::open(world.gateway.address("public")).await;
            let text = request("GET", target, &[&line, &authorization, &line]);
            let response = connection.request(text).await;
            assert_eq!(
                response.status,
                200,
                "{line} on {target}: {}",
                response.text()
            );
            assert_only_trusted(&world.service.last_request(), expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_spellings_at_once_are_removed() {
    let world = World::start_with(|yaml| yaml.section("limits: { headers: 200 }")).await;
    let authorization = bearer(&world.token("orders:read"));
    let forgeries = forgeries();
    let mut lines: Vec<&str> = forgeries.iter().map(String::as_str).collect();
    lines.push(&authorization);
    let mut connection = Connection::open(world.gateway.address("public")).await;
    let response = connection
        .request(request("GET", "/orders/7", &lines))
        .await;
    assert_eq!(response.status, 200, "{}", response.text());
    let alice = [Some("alice"), Some("orders:read"), Some("orders-client")];
    assert_only_trusted(&world.service.last_request(), alice);
}

#[tokio::test(flavor = "multi_thread")]
async fn public_route_tells_the_service_about_nobody_even_with_a_good_token() {
    let world = World::start().await;
    let token = world.token("orders:read");
    let answer = Caller::new()
        .get_with_token(&world.url("/orders/health"), &token)
        .await;
    assert_eq!(answer.status, 200);
    let received = world.service.last_request();
    assert_only_trusted(&received, [None; 3]);
    assert_eq!(received.header("authorization"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_header_cannot_remove_what_the_gateway_writes() {
    let world = World::start().await;
    let authorization = bearer(&world.token("orders:read"));
    for nominated in [
        "X-User-ID",
        "close, X-Scopes",
        "x-client-id, keep-alive",
        "X_User_ID",
        "X-User-ID, X-Scopes, X-Client-ID, X-Request-ID, traceparent",
    ] {
        let line = format!("Connection: {nominated}");
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let lines = [line.as_str(), authorization.as_str(), "X-User-ID: mallory"];
        let response = connection
            .request(request("GET", "/orders/7", &lines))
            .await;
        if response.status == 400 {
            continue;
        }
        assert_eq!(response.status, 200, "{nominated}");
        let received = world.service.last_request();
        let alice = [Some("alice"), Some("orders:read"), Some("orders-client")];
        assert_only_trusted(&received, alice);
        assert!(received.header("x-request-id").is_some(), "{nominated}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_never_become_identity() {
    let world = World::start().await;
    let authorization = bearer(&world.token("orders:read orders:write"));
    let lines = [
        authorization.as_str(),
        "Transfer-Encoding: chunked",
        "Trailer: X-User-ID, X-Scopes",
    ];
    let body = "3\r\nabc\r\n0\r\nX-User-ID: mallory\r\nX_Scopes: mallory\r\n\r\n";
    let mut connection = Connection::open(world.gateway.address("public")).await;
    let response = connection
        .request(request("POST", "/orders", &lines) + body)
        .await;
    assert_eq!(response.status, 200, "{}", response.text());
    let received = world.service.last_request();
    assert_eq!(received.body, b"abc");
    let alice = [
        Some("alice"),
        Some("orders:read orders:write"),
        Some("orders-client"),
    ];
    assert_only_trusted(&received, alice);

    let mut connection = Connection::open(world.gateway.address("public")).await;
    let lines = ["Transfer-Encoding: chunked"];
    let response = connection
        .request(request("POST", "/public/x", &lines) + body)
        .await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_only_trusted(&world.service.last_request(), [None; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_does_not_carry_over_to_the_next_request_on_a_connection() {
    let world = World::start().await;
    let alice = bearer(&world.token("orders:read"));
    let bob = world
        .issuer
        .token()
        .scope("orders:read")
        .claim("sub", json!("bob"));
    let bob = bearer(&bob.without_claim("client_id").sign());
    let mut connection = Connection::open(world.gateway.address("public")).await;

    let response = connection
        .request(request("GET", "/orders/1", &[&alice]))
        .await;
    assert_eq!(response.status, 200);
    let response = connection
        .request(request("GET", "/orders/health", &[]))
        .await;
    assert_eq!(response.status, 200);
    assert_only_trusted(&world.service.last_request(), [None; 3]);
    let response = connection.request(request("GET", "/orders/2", &[])).await;
    assert_eq!(response.status, 401);
    let response = connection
        .request(request("GET", "/orders/3", &[&bob]))
        .await;
    assert_eq!(response.status, 200);
    let received = world.service.last_request();
    assert_eq!(received.header("x-user-id"), Some("bob"));
    assert_eq!(
        received.header("x-client-id"),
        None,
        "absent in the token, so absent here"
    );
    assert_eq!(world.service.request_count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_request_has_no_share_in_the_identity_before_it() {
    let world = World::start().await;
    let alice = bearer(&world.token("orders:read"));
    let both = request("GET", "/orders/1", &[&alice]) + &request("GET", "/orders/2", &[]);
    let mut connection = Connection::open(world.gateway.address("public")).await;
    let first = connection.request(both).await;
    assert_eq!(first.status, 200);
    if let Some(second) = connection.read_response_or_close().await {
        assert_eq!(second.status, 401);
    }
    assert_eq!(world.service.request_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_callers_are_treated_alike_towards_http1_and_http2_services() {
    let authority = Authority::new("edge");
    let edge = authority.issue_for("api.acme.example");
    let issuer = Issuer::start().await;
    let over_http1 = Service::start().await;
    let over_http2 = Service::builder().http2().start().await;
    let yaml = GatewayYaml::new()
        .tls_listener()
        .issuer("acme", &issuer)
        .upstream("orders", over_http1.address())
        .upstream_flow(&format!(
            "name: orders2, addresses: [\"{}\"], protocol: http2",
            over_http2.address()
        ));
    let second = ORDERS_POLICY
        .replace("upstream: orders", "upstream: orders2")
        .replace("name: orders-", "name: second-")
        .replace("path: \"/", "path: \"/second/")
        .replace("path: /", "path: /second/");
    // The scopes are defined once, in the first file.
    let routes = second.find("routes:").unwrap();
    let second = format!("owner: second-team\n{}", &second[routes..]);
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", ORDERS_POLICY),
        ("policy/second.yaml", &second),
        ("edge.pem", &edge.certificate_pem),
        ("edge.key", &edge.private_key_pem),
    ])
    .await
    .until_ready()
    .await;

    let options = TlsOptions::new(&authority, "api.acme.example");
    let token = format!(
        "Bearer {}",
        issuer.token().scope("orders:read orders:write").sign()
    );
    for (service, prefix) in [(&over_http1, ""), (&over_http2, "/second")] {
        let mut connection = Http2Connection::open_tls(gateway.address("public"), &options).await;
        let url = |path: &str| format!("https://api.acme.example{prefix}{path}");
        let forged = [
            ("x-user-id", "mallory"),
            ("x_user_id", "mallory"),
            ("x-user_id", "mallory"),
            ("x-scopes", "root, admin"),
        ];
        let mut headers = forged.to_vec();
        headers.push(("authorization", &token));
        let trailers = [("x-user-id", "mallory"), ("x_scopes", "mallory")];
        let response = connection
            .request("POST", &url("/orders"), &headers, b"abc", &trailers)
            .await
            .unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        let received = service.last_request();
        assert_eq!(received.body, b"abc");
        assert_eq!(received.header("host"), Some("api.acme.example"));
        let alice = [
            Some("alice"),
            Some("orders:read orders:write"),
            Some("orders-client"),
        ];
        assert_only_trusted(&received, alice);

        let response = connection
            .request("POST", &url("/public/x"), &forged, b"abc", &trailers)
            .await
            .unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        assert_only_trusted(&service.last_request(), [None; 3]);

        let response = connection.get(&url("/orders/7"), &forged).await;
        assert_eq!(response.status, 401);
        assert_eq!(service.request_count(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_headers_carry_the_configured_claims() {
    let world = World::start_with(|yaml| {
        yaml.section(
            "identity_headers: { x-tenant: tenant, x-groups: groups, x-age: age, x-vip: vip, \
             x-user-id: sub }",
        )
    })
    .await;
    let token = world
        .issuer
        .token()
        .scope("orders:read")
        .claim("tenant", json!("acme"))
        .claim("groups", json!(["staff", "ops"]))
        .claim("age", json!(42))
        .claim("vip", json!(true))
        .sign();
    let headers = [
        ("authorization", format!("Bearer {token}")),
        ("x_tenant", "mallory".to_owned()),
        ("X-Groups", "mallory".to_owned()),
    ];
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let answer = Caller::new()
        .send(Method::GET, &world.url("/orders/7"), &headers, b"")
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let received = world.service.last_request();
    for (name, value) in [
        ("x-tenant", "acme"),
        ("x-groups", "staff,ops"),
        ("x-age", "42"),
        ("x-vip", "true"),
        ("x-user-id", "alice"),
    ] {
        assert_eq!(received.header(name), Some(value), "{name}");
        assert_eq!(received.spellings_of(name).len(), 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claim_that_cannot_be_a_header_value_is_refused_not_mangled() {
    let world = World::start().await;
    for subject in [
        "alice\r\nX-Admin: 1",
        "alice\nx",
        "alice\u{0}",
        "alice\u{7f}",
        "alice\u{1b}[31m",
        " alice",
        "alice ",
        "ålice",
        "",
    ] {
        let token = world
            .issuer
            .token()
            .scope("orders:read")
            .claim("sub", json!(subject));
        let answer = Caller::new()
            .get_with_token(&world.url("/orders/7"), &token.sign())
            .await;
        assert_eq!(answer.status, 401, "{subject:?}: {}", answer.text());
    }
    for subject in [json!(42), json!({"a": 1}), json!(null), json!(["alice"])] {
        let token = world
            .issuer
            .token()
            .scope("orders:read")
            .claim("sub", subject.clone());
        let answer = Caller::new()
            .get_with_token(&world.url("/orders/7"), &token.sign())
            .await;
        assert_eq!(answer.status, 401, "{subject}: {}", answer.text());
    }
    world.service.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn authorization_is_forwarded_only_where_the_route_asks_for_it() {
    let world = World::start().await;
    let token = world.token("orders:read");
    let cookie = "session=1; theme=dark";
    for (target, forwarded) in [("/orders/7", false), ("/delegated/7", true)] {
        let authorization = format!("Bearer {token}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("proxy-authorization", authorization.as_str()),
            ("cookie", cookie),
        ];
        let answer = Caller::new()
            .send(Method::GET, &world.url(target), &headers, b"")
            .await;
        assert_eq!(answer.status, 200);
        let received = world.service.last_request();
        assert_eq!(
            received.header("authorization"),
            forwarded.then_some(authorization.as_str()),
            "{target}"
        );
        assert_eq!(received.header("proxy-authorization"), None);
        assert_eq!(received.header("cookie"), Some(cookie));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_make_a_service_see_another_request_are_removed() {
    let world = World::start().await;
    let token = format!("Bearer {}", world.token("orders:read"));
    for name in [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
        "x-original-uri",
        "x-forwarded-uri",
        "x-forwarded-path",
        "x-forwarded-prefix",
        "x-forwarded-method",
        "x-envoy-original-path",
    ] {
        let headers = [("authorization", token.as_str()), (name, "/public/x")];
        let answer = Caller::new()
            .send(Method::GET, &world.url("/orders/7"), &headers, b"")
            .await;
        assert_eq!(answer.status, 200, "{name}");
        let spellings = format!("{:?}", world.service.last_request().spellings_of(name));
        assert_eq!(spellings, "[]", "{name}");
        // And they never choose the route.
        let answer = Caller::new()
            .send(Method::GET, &world.url("/orders/7"), &headers[1..], b"")
            .await;
        assert_eq!(answer.status, 401, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_forgeries_are_counted() {
    let world = World::start().await;
    let name = "portcullis_identity_headers_stripped_total";
    let before = world.gateway.metrics().await.value(name, &[]);
    let headers = [("x-user-id", "mallory"), ("x_scopes", "mallory")];
    let url = world.url("/orders/health");
    Caller::new().send(Method::GET, &url, &headers, b"").await;
    let after = world.gateway.metrics().await.value(name, &[]);
    assert_eq!(after - before, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn response_of_a_service_reaches_the_caller_as_it_is() {
    let world = World::start().await;
    world.service.next(
        Response::new(201)
            .header("content-type", "application/json")
            .header("x-own", "1")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .body("{\"ok\":true}"),
    );
    let authorization = format!("Bearer {}", world.token("orders:read orders:write"));
    let headers = [("authorization", authorization.as_str())];
    let url = world.url("/orders");
    let answer = Caller::new()
        .send(Method::POST, &url, &headers, b"{}")
        .await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-own"), Some("1"));
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
    assert_eq!(answer.text(), "{\"ok\":true}");

    world.service.next(Behaviour::Echo);
    let body: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let answer = Caller::new()
        .send(Method::POST, &url, &headers, &body)
        .await;
    assert_eq!(answer.body, body, "a megabyte both ways");
}

//! Targets and authorities that two parsers could read differently.

use portcullis_e2e::{Connection, Gateway, GatewayYaml, Http2Connection, Issuer, Service, World};

use super::assert_alive;
use crate::steps::{bearer, request};

#[tokio::test(flavor = "multi_thread")]
async fn path_that_could_be_read_differently_is_refused_even_with_a_good_token() {
    let world = World::start().await;
    let authorization = bearer(&world.token("orders:read orders:write orders:admin"));
    for target in [
        "/public/../admin/x",
        "/public/./../admin/x",
        "/./admin/x",
        "/public/%2e%2e/admin/x",
        "/public/.%2e/admin/x",
        "/public/%2E%2E/admin/x",
        "/public/..%2fadmin/x",
        "/public%2f..%2fadmin/x",
        "/public/%252e%252e/admin/x",
        "/public/%25252e%25252e/admin/x",
        "//admin/x",
        "///admin/x",
        "/public//../admin/x",
        "/public//x",
        "/public/x//",
        "/public%5c..%5cadmin",
        "/public\\..\\admin\\x",
        "/public;/../admin/x",
        "/public/..;/admin/x",
        "/public/..;foo=bar/admin/x",
        "/admin;x=y/x",
        "/public/%00",
        "/public/%0a",
        "/public/%0d%0aX-Admin:%201",
        "/public/%7f",
        "/public/%",
        "/public/%2",
        "/public/%zz",
        "/public/%%32%65",
        "/public/%u002e",
        "/public/%c0%ae%c0%ae/admin",
        "/public/%ef%bc%8e%ef%bc%8e/..",
        "/public/%ff",
        "/public/#/../admin",
        "/#/admin",
        "/public/x%23",
        "/public/x%3f",
        "/orders/a%2fb",
        "/orders/.",
        "/orders/..",
        "/public/<script>",
        "/public/a|b",
        "/public/a^b",
        "/public/{x}",
        "/public/\u{e4}",
    ] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let response = connection
            .request(request("GET", target, &[&authorization]))
            .await;
        assert_eq!(response.status, 400, "{target}: {}", response.text());
    }
    world.service.assert_untouched();
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_shows_nothing_of_the_request_and_is_no_page() {
    let world = World::start().await;
    for (target, line) in [
        ("/<script>canary</script>", ""),
        ("/canary/%3Cscript%3E", ""),
        ("/canary?<script>canary", ""),
        ("/canary/../'\"x", ""),
        ("/orders/canary", ""),
        ("/orders/7", "Authorization: Bearer <script>canary</script>"),
        ("/orders/7", "Authorization: Bearer canary.canary.canary"),
        ("/canary", "X-Request-Id: <script>canary"),
    ] {
        let lines: Vec<_> = [line].into_iter().filter(|line| !line.is_empty()).collect();
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let response = connection.request(request("GET", target, &lines)).await;
        assert!(matches!(response.status, 400 | 401 | 404), "{response:?}");
        for (name, value) in [
            ("content-type", "application/problem+json"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(response.header(name), Some(value), "{target} {line}");
        }
        let head = String::from_utf8_lossy(&response.head).to_lowercase();
        for part in [head, response.text().to_lowercase()] {
            let is_shown = part.contains("canary") || part.contains("script");
            assert!(!is_shown, "{target} {line}: {part}");
        }
    }
    world.service.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn near_miss_of_a_protected_path_is_never_public() {
    let world = World::start().await;
    for target in [
        "/ADMIN/x",
        "/aDmin/x",
        "/admin/",
        "/admin./x",
        "/admin%20/x",
        "/admin/x/",
        "/admin/%20",
        "/administrator/x",
        "/orders/7/",
        "/orders/health/x",
        "/orders/healthy",
        "/orders/HEALTH",
        "/orders/%68ealthy",
        "/publicx/y",
        "/Public/x",
        "/orders",
        "/orders/",
    ] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let response = connection.request(request("GET", target, &[])).await;
        assert!(
            matches!(response.status, 400 | 401 | 404 | 405),
            "{target}: {}",
            response.status
        );
    }
    // The query never matches.
    for target in [
        "/admin/x?x=/public/x",
        "/admin/x?/../public/x",
        "/orders/7?/orders/health",
    ] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let response = connection.request(request("GET", target, &[])).await;
        assert_eq!(response.status, 401, "{target}");
    }
    world.service.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn target_in_another_form_is_judged_by_its_path_or_refused() {
    let world = World::start().await;
    let public = "http://api.acme.example/orders/health";
    for (line, statuses) in [
        (
            format!("GET {public} HTTP/1.1\r\nHost: api.acme.example"),
            &[200, 400][..],
        ),
        (
            format!("GET {public} HTTP/1.1\r\nHost: other.example"),
            &[400],
        ),
        (
            "GET http://api.acme.example/admin/x HTTP/1.1\r\nHost: api.acme.example".into(),
            &[400, 401],
        ),
        (
            "GET http://evil/public/../admin/x HTTP/1.1\r\nHost: evil".into(),
            &[400],
        ),
        ("GET admin/x HTTP/1.1\r\nHost: h".into(), &[400]),
        ("GET ?/public/x HTTP/1.1\r\nHost: h".into(), &[400]),
        ("GET * HTTP/1.1\r\nHost: h".into(), &[400, 404]),
        ("OPTIONS * HTTP/1.1\r\nHost: h".into(), &[400, 404, 405]),
        (
            "CONNECT api.acme.example:443 HTTP/1.1\r\nHost: api.acme.example:443".into(),
            &[400, 405],
        ),
        ("CONNECT /public/x HTTP/1.1\r\nHost: h".into(), &[400, 405]),
        ("GET file:///etc/passwd HTTP/1.1\r\nHost: h".into(), &[400]),
        ("GET @/public/x HTTP/1.1\r\nHost: h".into(), &[400]),
    ] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let response = connection.request(format!("{line}\r\n\r\n")).await;
        assert!(
            statuses.contains(&response.status),
            "{line}: {}",
            response.status
        );
    }
    for received in world.service.requests() {
        assert!(
            received
                .head
                .starts_with(b"GET /orders/health HTTP/1.1\r\n"),
            "{received:?}"
        );
    }
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authority_is_one_and_well_formed() {
    let world = World::start().await;
    for hosts in [
        "",
        "Host: a.example\r\nHost: b.example\r\n",
        "Host: a.example\r\nHost: a.example\r\n",
        "Host: a.example, b.example\r\n",
        "Host: user@a.example\r\n",
        "Host: user:password@a.example\r\n",
        "Host: a.example/../b\r\n",
        "Host: a.example/x\r\n",
        "Host: a example\r\n",
        "Host: a.example:99999\r\n",
        "Host: a.example:\u{e4}\r\n",
        "Host: a.example:80:80\r\n",
        "Host:\r\n",
        "Host: [::1\r\n",
        "Host: a..example\r\n",
        "Host: a_b?c\r\n",
        "Host: a.example#x\r\n",
        "Host: a.example\\b\r\n",
    ] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let text = format!("GET /orders/health HTTP/1.1\r\n{hosts}\r\n");
        let response = connection.request(text).await;
        assert_eq!(response.status, 400, "{hosts:?}");
    }
    world.service.assert_untouched();
    assert_alive(&world).await;
}

/// Frameworks differ in what a slash at the end is, in what is decoded, and in what case is.
const CONTESTED: &str = r#"
owner: a
scopes: { "orders:read": Read orders }
routes:
  - { name: files, match: { path: "/files/{*rest}" }, upstream: a, public: true }
  - name: tenant
    match: { path: "/{tenant}" }
    upstream: a
    require: { scopes: ["orders:read"] }
  - { name: me, match: { path: "/users/@me" }, upstream: a, public: true }
  - name: user
    match: { path: "/users/{user}" }
    upstream: a
    require: { scopes: ["orders:read"] }
  - { name: health, match: { path: "/orders/health" }, upstream: a, public: true }
  - name: orders
    match: { path: "/orders/{*rest}" }
    upstream: a
    require: { scopes: ["orders:read"] }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn path_that_a_service_takes_for_one_of_a_stricter_route_is_refused_on_every_version() {
    let (service, issuer) = (Service::start().await, Issuer::start().await);
    let yaml = GatewayYaml::new()
        .issuer("acme", &issuer)
        .upstream("a", service.address());
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/a.yaml", CONTESTED),
    ])
    .await;
    let mut http1 = Connection::open(gateway.address("public")).await;
    let mut http2 = Http2Connection::open(gateway.address("public")).await;
    for target in ["/files/x", "/users/@me", "/orders/health"] {
        let answer = http1.request(request("GET", target, &[])).await;
        assert_eq!(answer.status, 200, "{target}");
        let answer = http2.get(&gateway.url(target), &[]).await;
        assert_eq!(answer.status, 200, "{target}");
    }
    service.forget();
    for target in [
        "/files",
        "/files/",
        "/FILES/",
        "/files?x=/files/x",
        "/users/%40me",
        "/users/%40me/",
        "/%75sers/%40me",
        "/users/@ME",
        "/orders/health/",
        "/orders/he%61lth/",
        "/orders/HEALTH/",
    ] {
        let answer = Connection::open(gateway.address("public"))
            .await
            .request(request("GET", target, &[]))
            .await;
        assert_eq!(answer.status, 400, "{target}");
        let answer = http2.get(&gateway.url(target), &[]).await;
        assert_eq!(answer.status, 400, "{target} over HTTP/2");
    }
    service.assert_untouched();
}

//! Only the gateway can reach a service, and only the right service gets anything.

use std::net::SocketAddr;

use http::Method;
use portcullis_e2e::{
    Authority, Caller, Certificate, Gateway, GatewayYaml, Issuer, Leaf, Nginx, ORDERS_POLICY,
    Service, Validity, eventually,
};

const NAME: &str = "orders.internal";

/// A flow mapping's content for an upstream behind mutual TLS.
fn upstream(name: &str, address: SocketAddr, stem: &str) -> String {
    format!(
        "name: {name}, addresses: [\"{address}\"], tls: {{ server_name: {NAME}, \
         trust: tls/{stem}-trust.pem, certificate: tls/{stem}.pem, private_key: tls/{stem}.key }}"
    )
}

async fn gateway(issuer: &Issuer, upstreams: &[String], files: &[(&str, &str)]) -> Gateway {
    let mut yaml = GatewayYaml::new().issuer("acme", issuer);
    for flow in upstreams {
        yaml = yaml.upstream_flow(flow);
    }
    let mut builder = Gateway::builder()
        .file("portcullis.yaml", &yaml.render())
        .file("policy/orders.yaml", ORDERS_POLICY);
    for (path, content) in files {
        builder = builder.file(path, content);
    }
    builder.start().await.until_ready().await
}

async fn gateway_to(
    issuer: &Issuer,
    address: SocketAddr,
    trust: &Authority,
    identity: &Certificate,
) -> Gateway {
    gateway(
        issuer,
        &[upstream("orders", address, "gateway")],
        &[
            ("tls/gateway-trust.pem", &trust.certificate_pem()),
            ("tls/gateway.pem", &identity.certificate_pem),
            ("tls/gateway.key", &identity.private_key_pem),
        ],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_that_demands_a_certificate_sees_the_gateway_and_the_trusted_headers() {
    let authority = Authority::new("internal");
    let nginx = Nginx::start(&authority.issue_for(NAME), &authority).await;
    let issuer = Issuer::start().await;
    let identity = authority.issue(Leaf::new("portcullis"));
    let gateway = gateway_to(&issuer, nginx.address(), &authority, &identity).await;

    let token = format!(
        "Bearer {}",
        issuer.token().scope("orders:read orders:write").sign()
    );
    let headers = [("authorization", token.as_str()), ("x_user_id", "mallory")];
    let answer = Caller::new()
        .send(Method::GET, &gateway.url("/orders/7?a=%2F"), &headers, b"")
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = answer.text();
    for line in [
        "subject=CN=portcullis",
        "verified=SUCCESS",
        "protocol=HTTP/1.1",
        "target=/orders/7?a=%2F",
        "user=alice",
        "scopes=orders:read orders:write",
        "authorization=",
    ] {
        assert!(
            seen.lines().any(|seen| seen == line),
            "no {line:?} in {seen}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_speaks_http2_with_the_gateway_when_told_to() {
    let authority = Authority::new("internal");
    let nginx = Nginx::start(&authority.issue_for(NAME), &authority).await;
    let issuer = Issuer::start().await;
    let identity = authority.issue(Leaf::new("portcullis"));
    let flow = upstream("orders", nginx.address(), "gateway") + ", protocol: http2";
    let gateway = gateway(
        &issuer,
        &[flow],
        &[
            ("tls/gateway-trust.pem", &authority.certificate_pem()),
            ("tls/gateway.pem", &identity.certificate_pem),
            ("tls/gateway.key", &identity.private_key_pem),
        ],
    )
    .await;
    let token = issuer.token().scope("orders:read").sign();
    let answer = Caller::new()
        .get_with_token(&gateway.url("/orders/7"), &token)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(
        answer.text().contains("protocol=HTTP/2.0\n"),
        "{}",
        answer.text()
    );
    assert!(
        answer.text().contains("verified=SUCCESS\n"),
        "{}",
        answer.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn service_with_the_wrong_certificate_gets_nothing() {
    let authority = Authority::new("internal");
    let stranger = Authority::new("stranger");
    let identity = authority.issue(Leaf::new("portcullis"));
    let expired = authority.issue(
        Leaf::new(NAME)
            .with_name(NAME)
            .with_validity(Validity::Expired),
    );
    let not_yet = authority.issue(
        Leaf::new(NAME)
            .with_name(NAME)
            .with_validity(Validity::NotYet),
    );
    let issuer = Issuer::start().await;
    for (name, certificate) in [
        ("another authority", stranger.issue_for(NAME)),
        ("another name", authority.issue_for("billing.internal")),
        (
            "a longer name",
            authority.issue_for("orders.internal.evil.example"),
        ),
        ("no name at all", authority.issue(Leaf::new(NAME))),
        ("expired", expired),
        ("not yet valid", not_yet),
    ] {
        let service = Service::builder()
            .tls(&certificate)
            .demand_client_certificate(&authority)
            .start()
            .await;
        let gateway = gateway_to(&issuer, service.address(), &authority, &identity).await;
        let token = issuer.token().scope("orders:read").sign();
        let answer = Caller::new()
            .get_with_token(&gateway.url("/orders/7"), &token)
            .await;
        answer.assert_refused(502, "upstream_untrusted");
        assert!(
            service.requests().is_empty(),
            "{name}: {:?}",
            service.requests()
        );
        gateway
            .wait_for_log("TLS handshake with a service failed")
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn service_that_speaks_no_tls_is_never_spoken_to_in_the_clear() {
    let authority = Authority::new("internal");
    let identity = authority.issue(Leaf::new("portcullis"));
    let issuer = Issuer::start().await;
    let service = Service::start().await;
    let gateway = gateway_to(&issuer, service.address(), &authority, &identity).await;
    let token = issuer.token().scope("orders:read").sign();
    // A plain service waits for more of what it takes for a head, so this may be a timeout instead.
    let answer = Caller::new()
        .get_with_token(&gateway.url("/orders/7"), &token)
        .await;
    assert!(matches!(answer.status, 502 | 504), "{answer:?}");
    assert!(service.requests().is_empty(), "{:?}", service.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn service_that_refuses_the_gateways_certificate_is_a_bad_gateway() {
    let authority = Authority::new("internal");
    let stranger = Authority::new("stranger");
    let issuer = Issuer::start().await;
    let service = Service::builder()
        .tls(&authority.issue_for(NAME))
        .demand_client_certificate(&authority)
        .start()
        .await;
    let identity = stranger.issue(Leaf::new("portcullis"));
    let gateway = gateway_to(&issuer, service.address(), &authority, &identity).await;
    let token = issuer.token().scope("orders:read").sign();
    let answer = Caller::new()
        .get_with_token(&gateway.url("/orders/7"), &token)
        .await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(service.requests().is_empty());
}

/// Two upstreams at one address whose client certificates have the same serial number (of two
/// authorities). A pool that keys on the serial number would hand one the other's connection.
#[tokio::test(flavor = "multi_thread")]
async fn upstreams_with_different_certificates_never_share_a_connection() {
    for http2 in [false, true] {
        let clients = Authority::new("clients");
        let server = Authority::new("server");
        let first = clients.issue(Leaf::new("gateway-first").with_serial(4711));
        let second = clients.issue(Leaf::new("gateway-second").with_serial(4711));
        let mut builder = Service::builder()
            .tls(&server.issue_for(NAME))
            .demand_client_certificate(&clients);
        if http2 {
            builder = builder.http2();
        }
        let service = builder.start().await;
        let issuer = Issuer::start().await;
        let protocol = if http2 { ", protocol: http2" } else { "" };
        let policy = r#"
owner: orders-team
routes:
  - name: first
    match: { path: "/first/{id}" }
    upstream: first
    public: true
  - name: second
    match: { path: "/second/{id}" }
    upstream: second
    public: true
"#;
        let gateway = gateway(
            &issuer,
            &[
                upstream("first", service.address(), "first") + protocol,
                upstream("second", service.address(), "second") + protocol,
            ],
            &[
                ("policy/orders.yaml", policy),
                ("tls/first-trust.pem", &server.certificate_pem()),
                ("tls/first.pem", &first.certificate_pem),
                ("tls/first.key", &first.private_key_pem),
                ("tls/second-trust.pem", &server.certificate_pem()),
                ("tls/second.pem", &second.certificate_pem),
                ("tls/second.key", &second.private_key_pem),
            ],
        )
        .await;
        for id in 0..8 {
            for (path, certificate) in [("first", &first), ("second", &second)] {
                let answer = Caller::new()
                    .get(&gateway.url(&format!("/{path}/{id}")))
                    .await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                let received = service.last_request();
                assert_eq!(received.target, format!("/{path}/{id}"));
                assert_eq!(
                    received.client_certificate.as_ref(),
                    Some(&certificate.der),
                    "{path} was sent on the other's connection (http2: {http2})"
                );
            }
        }
        assert_eq!(
            service.connections(),
            2,
            "each kept its own (http2: {http2})"
        );
    }
}

/// An upstream that trusts another authority must not profit from a connection that was verified
/// for a neighbour.
#[tokio::test(flavor = "multi_thread")]
async fn connection_verified_for_one_trust_is_not_used_for_another() {
    let clients = Authority::new("clients");
    let server = Authority::new("server");
    let stranger = Authority::new("stranger");
    let identity = clients.issue(Leaf::new("portcullis"));
    let service = Service::builder()
        .tls(&server.issue_for(NAME))
        .demand_client_certificate(&clients)
        .start()
        .await;
    let issuer = Issuer::start().await;
    let policy = r#"
owner: orders-team
routes:
  - name: trusting
    match: { path: "/trusting" }
    upstream: trusting
    public: true
  - name: distrusting
    match: { path: "/distrusting" }
    upstream: distrusting
    public: true
"#;
    let gateway = gateway(
        &issuer,
        &[
            upstream("trusting", service.address(), "trusting"),
            upstream("distrusting", service.address(), "distrusting"),
        ],
        &[
            ("policy/orders.yaml", policy),
            ("tls/trusting-trust.pem", &server.certificate_pem()),
            ("tls/trusting.pem", &identity.certificate_pem),
            ("tls/trusting.key", &identity.private_key_pem),
            ("tls/distrusting-trust.pem", &stranger.certificate_pem()),
            ("tls/distrusting.pem", &identity.certificate_pem),
            ("tls/distrusting.key", &identity.private_key_pem),
        ],
    )
    .await;
    assert_eq!(
        Caller::new().get(&gateway.url("/trusting")).await.status,
        200
    );
    let answer = Caller::new().get(&gateway.url("/distrusting")).await;
    answer.assert_refused(502, "upstream_untrusted");
    assert_eq!(
        Caller::new().get(&gateway.url("/trusting")).await.status,
        200
    );
    assert_eq!(service.request_count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificate_is_presented_after_a_reload() {
    let authority = Authority::new("internal");
    let service = Service::builder()
        .tls(&authority.issue_for(NAME))
        .demand_client_certificate(&authority)
        .start()
        .await;
    let issuer = Issuer::start().await;
    let old = authority.issue(Leaf::new("portcullis").with_serial(1));
    let new = authority.issue(Leaf::new("portcullis").with_serial(1));
    let gateway = gateway_to(&issuer, service.address(), &authority, &old).await;
    let url = gateway.url("/orders/health");
    assert_eq!(Caller::new().get(&url).await.status, 200);
    assert_eq!(service.last_request().client_certificate, Some(old.der));

    gateway.write("tls/gateway.key", &new.private_key_pem);
    gateway.write("tls/gateway.pem", &new.certificate_pem);
    // Nobody has to say anything: the files are watched.
    eventually("the new certificate", || async {
        let answer = Caller::new().get(&url).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let presented = service.last_request().client_certificate;
        (presented.as_ref() == Some(&new.der)).then_some(())
    })
    .await;
}

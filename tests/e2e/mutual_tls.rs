//! Only the gateway can reach a service, only the right service gets anything, and a certificate
//! that is not what it has to be is no good on either side.

use std::net::SocketAddr;
use std::process::Stdio;

use http::Method;
use portcullis_e2e::{
    Answer, Authority, Caller, Certificate, DEADLINE, Gateway, GatewayYaml, Issuer, Leaf, Nginx,
    ORDERS_POLICY, Response, Service, Validity, eventually, unix_now,
};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::steps::request;

const NAME: &str = "orders.internal";

/// With it, OpenSSL shows certificates that it would have no part in otherwise.
const ANY_STRENGTH: [&str; 2] = ["-cipher", "DEFAULT@SECLEVEL=0"];

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
    let namesake = Authority::new("internal");
    let identity = authority.issue(Leaf::new("portcullis"));
    let leaf = || Leaf::new(NAME).with_name(NAME);
    let expired = authority.issue(leaf().with_validity(Validity::Expired));
    let not_yet = authority.issue(leaf().with_validity(Validity::NotYet));
    let issuer = Issuer::start().await;
    for (name, certificate) in [
        ("another authority", stranger.issue_for(NAME)),
        ("an authority of the same name", namesake.issue_for(NAME)),
        ("nobody's", leaf().self_signed()),
        ("for clients", authority.issue(leaf().for_clients_only())),
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
        gateway.wait_for_log("TLS with a service failed").await;
    }
}

/// `openssl s_server`, which answers everybody and shows what it is told to.
struct OpensslService {
    address: SocketAddr,
    /// Open, so that it can go on writing.
    _output: Lines<BufReader<ChildStdout>>,
    _process: Child,
    _directory: TempDir,
}

impl OpensslService {
    async fn start(certificate: &Certificate) -> Self {
        let directory = TempDir::with_prefix("portcullis-e2e-openssl-").unwrap();
        let (chain, key) = certificate.write(directory.path(), "server");
        let mut process = Command::new("openssl")
            .args(["s_server", "-www", "-accept", "127.0.0.1:0"])
            .args(ANY_STRENGTH)
            .arg("-cert")
            .arg(chain)
            .arg("-key")
            .arg(key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let accepting = async {
            loop {
                let line = output.next_line().await.unwrap();
                let line = line.expect("it says where it listens");
                if let Some(address) = line.strip_prefix("ACCEPT ") {
                    return address.parse::<SocketAddr>().unwrap();
                }
            }
        };
        let address = timeout(DEADLINE, accepting).await.unwrap();
        Self {
            address,
            _output: output,
            _process: process,
            _directory: directory,
        }
    }
}

/// With what nobody signs any more: OpenSSL has to be talked into it.
#[tokio::test(flavor = "multi_thread")]
async fn service_with_a_weak_key_or_signature_gets_nothing() {
    let authority = Authority::new("internal");
    let identity = authority.issue(Leaf::new("portcullis"));
    let issuer = Issuer::start().await;
    let token = issuer.token().scope("orders:read").sign();
    for (key, digest, reason) in [
        ("rsa:2048", "sha256", None),
        ("rsa:2048", "sha1", Some("UnsupportedSignatureAlgorithm")),
        ("rsa:1024", "sha256", Some("BadSignature")),
    ] {
        let certificate = authority.issue_by_openssl(NAME, key, digest);
        let service = OpensslService::start(&certificate).await;
        let gateway = gateway_to(&issuer, service.address, &authority, &identity).await;
        let answer = Caller::new()
            .get_with_token(&gateway.url("/orders/7"), &token)
            .await;
        match reason {
            None => assert_eq!(answer.status, 200, "{key}, {digest}: {}", answer.text()),
            Some(reason) => {
                answer.assert_refused(502, "upstream_untrusted");
                gateway.wait_for_log(reason).await;
            }
        }
    }
}

/// What a gateway answers to `openssl s_client`, which shows whatever certificate it is told to.
async fn answer_to_openssl(
    gateway: &Gateway,
    certificate: Option<&Certificate>,
    arguments: &[&str],
) -> String {
    let directory = TempDir::with_prefix("portcullis-e2e-openssl-").unwrap();
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-quiet", "-ign_eof"])
        .args(["-servername", "api.acme.example", "-connect"])
        .arg(gateway.address("public").to_string())
        .args(arguments);
    if let Some(certificate) = certificate {
        let (chain, key) = certificate.write(directory.path(), "client");
        command.arg("-cert").arg(chain).arg("-key").arg(key);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = request("GET", "/any", &["Connection: close"]);
    // A failed handshake ends it before it reads.
    let _ = input.write_all(text.as_bytes()).await;
    let output = timeout(DEADLINE, child.wait_with_output()).await;
    drop(input);
    String::from_utf8_lossy(&output.unwrap().unwrap().stdout).into_owned()
}

/// A gateway with a TLS listener that says in its log why a handshake failed.
async fn gateway_for(callers: &Authority, mode: &str, service: &Service) -> Gateway {
    let edge = Authority::new("edge").issue_for("api.acme.example");
    let yaml = GatewayYaml::new()
        .listener(&format!(
            "{{ name: public, address: \"127.0.0.1:0\", tls: {{ certificates: \
             [{{ certificate: tls/edge.pem, private_key: tls/edge.key }}], \
             client_certificates: {{ mode: {mode}, trust: tls/callers.pem }} }} }}"
        ))
        .upstream("orders", service.address());
    let policy = "owner: orders-team\nroutes:\n\
                  - { name: any, match: { path: /any }, upstream: orders, public: true }\n";
    Gateway::builder()
        .environment("PORTCULLIS_LOG", "debug")
        .file("portcullis.yaml", &yaml.render())
        .file("policy/orders.yaml", policy)
        .file("tls/edge.pem", &edge.certificate_pem)
        .file("tls/edge.key", &edge.private_key_pem)
        .file("tls/callers.pem", &callers.certificate_pem())
        .start()
        .await
}

/// The handshake gets no answer, and the log says that this is why.
async fn assert_handshake_fails(
    gateway: &Gateway,
    certificate: Option<&Certificate>,
    arguments: &[&str],
    reason: &str,
) {
    let failures = || gateway.log_text().matches(reason).count();
    let before = failures();
    let answer = answer_to_openssl(gateway, certificate, arguments).await;
    assert_eq!(answer, "", "{reason}, {arguments:?}");
    let what = format!("a handshake that fails with `{reason}`");
    eventually(&what, || async { (failures() > before).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_whose_certificate_is_not_what_it_has_to_be_is_refused_for_what_is_wrong_with_it() {
    let callers = Authority::new("callers");
    let leaf = || Leaf::new("caller");
    let good = [
        callers.issue(leaf()),
        callers.issue(leaf().for_clients_only()),
        callers.issue_by_openssl("caller", "rsa:2048", "sha256"),
    ];
    let of_validity = |validity| callers.issue(leaf().with_validity(validity));
    let bad = [
        (of_validity(Validity::Expired), "certificate expired"),
        (of_validity(Validity::NotYet), "certificate not valid yet"),
        (
            callers.issue(leaf().for_servers_only()),
            "certificate does not allow extended key usage for client authentication",
        ),
        // Nobody's, a stranger's, and that of a stranger who uses the name.
        (leaf().self_signed(), ""),
        (Authority::new("stranger").issue(leaf()), "UnknownIssuer"),
        (Authority::new("callers").issue(leaf()), ""),
        (
            callers.issue_by_openssl("caller", "rsa:2048", "sha1"),
            "UnsupportedSignatureAlgorithm",
        ),
        (
            callers.issue_by_openssl("caller", "rsa:1024", "sha256"),
            "BadSignature",
        ),
    ];
    let service = Service::start().await;
    // Optional means that there need not be one, not that any will do.
    for mode in ["required", "optional"] {
        let gateway = gateway_for(&callers, mode, &service).await;
        for version in ["-tls1_2", "-tls1_3"] {
            let [cipher, any] = ANY_STRENGTH;
            let arguments = [version, cipher, any];
            for certificate in &good {
                let answer = answer_to_openssl(&gateway, Some(certificate), &arguments).await;
                assert!(answer.starts_with("HTTP/1.1 200"), "{mode}: {answer}");
            }
            service.forget();
            for (certificate, reason) in &bad {
                let reason = format!("invalid peer certificate: {reason}");
                assert_handshake_fails(&gateway, Some(certificate), &arguments, &reason).await;
            }
            service.assert_untouched();
            if mode == "optional" {
                let answer = answer_to_openssl(&gateway, None, &arguments).await;
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            } else {
                let reason = "peer sent no certificates";
                assert_handshake_fails(&gateway, None, &arguments, reason).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_and_ciphers_of_tls_are_refused() {
    let service = Service::start().await;
    let gateway = gateway_for(&Authority::new("callers"), "optional", &service).await;
    let good = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"];
    let answer = answer_to_openssl(&gateway, None, &good).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    service.forget();
    for (version, cipher) in [
        ("-tls1", "ALL:@SECLEVEL=0"),
        ("-tls1_1", "ALL:@SECLEVEL=0"),
        // CBC, nothing at all, and nobody at the other end.
        ("-tls1_2", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"),
        ("-tls1_2", "ECDHE-ECDSA-AES256-SHA384:@SECLEVEL=0"),
        ("-tls1_2", "ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0"),
        ("-tls1_2", "AECDH-AES128-SHA:@SECLEVEL=0"),
        // Keys that open what was recorded before they were stolen.
        ("-tls1_2", "AES128-GCM-SHA256:@SECLEVEL=0"),
    ] {
        let arguments = [version, "-cipher", cipher];
        assert_handshake_fails(&gateway, None, &arguments, "peer is incompatible").await;
    }
    service.assert_untouched();
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
    // In TLS 1.3 the service says so after the handshake, and may be gone before it is heard.
    eventually("a refusal that says why", || async {
        let answer = Caller::new()
            .get_with_token(&gateway.url("/orders/7"), &token)
            .await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        (answer.json()["code"] == "upstream_untrusted").then_some(())
    })
    .await;
    gateway.wait_for_log("UnknownCA").await;
    assert!(service.requests().is_empty());
}

/// Long enough for a gateway to start.
const SHORT_LIFE: i64 = 12;

/// The last second of a certificate that expires soon.
fn soon() -> (i64, Validity) {
    let until = unix_now() + SHORT_LIFE;
    (until, Validity::Until(until.try_into().unwrap()))
}

/// Asks for as long as a certificate is good, and is served. The first answer after that.
async fn first_answer_after(until: i64, url: &str) -> Answer {
    let mut served = 0;
    loop {
        let begun = unix_now();
        let answer = Caller::new().get(url).await;
        if begun > until {
            assert!(served > 0, "it had expired before anything was asked");
            return answer;
        }
        if unix_now() <= until {
            assert_eq!(answer.status, 200, "{}", answer.text());
            served += 1;
        }
    }
}

/// A service that wants a new connection, and so a handshake, for each request.
async fn service_of_short_connections(certificate: &Certificate, authority: &Authority) -> Service {
    let service = Service::builder()
        .tls(certificate)
        .demand_client_certificate(authority)
        .start()
        .await;
    service.always(Response::new(200).header("connection", "close"));
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_certificate_that_expires_under_traffic_was_foretold_and_is_renewed_without_a_restart()
 {
    let authority = Authority::new("internal");
    let service = service_of_short_connections(&authority.issue_for(NAME), &authority).await;
    let issuer = Issuer::start().await;
    let (until, validity) = soon();
    let old = authority.issue(Leaf::new("portcullis").with_validity(validity));
    let gateway = gateway_to(&issuer, service.address(), &authority, &old).await;
    let url = gateway.url("/orders/health");
    let end = || async {
        let labels = [("usage", "upstream"), ("name", "orders")];
        let name = "portcullis_certificate_not_after_timestamp_seconds";
        gateway.metrics().await.value(name, &labels) as i64
    };
    assert_eq!(end().await, until);
    let answer = first_answer_after(until, &url).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    service.forget();
    for _ in 0..5 {
        let answer = Caller::new().get(&url).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
    }
    service.assert_untouched();

    let new = authority.issue(Leaf::new("portcullis"));
    gateway.write("tls/gateway.key", &new.private_key_pem);
    gateway.write("tls/gateway.pem", &new.certificate_pem);
    eventually("a request with the new certificate", || async {
        (Caller::new().get(&url).await.status == 200).then_some(())
    })
    .await;
    let presented = service.last_request().client_certificate;
    assert_eq!(presented.as_ref(), Some(&new.der));
    assert!(end().await > until);
}

#[tokio::test(flavor = "multi_thread")]
async fn services_certificate_that_expires_under_traffic_is_believed_no_longer_until_it_is_renewed()
{
    let authority = Authority::new("internal");
    let (until, validity) = soon();
    let leaf = Leaf::new(NAME).with_name(NAME).with_validity(validity);
    let service = service_of_short_connections(&authority.issue(leaf), &authority).await;
    let issuer = Issuer::start().await;
    let identity = authority.issue(Leaf::new("portcullis"));
    let gateway = gateway_to(&issuer, service.address(), &authority, &identity).await;
    let url = gateway.url("/orders/health");
    let answer = first_answer_after(until, &url).await;
    answer.assert_refused(502, "upstream_untrusted");
    gateway.wait_for_log("certificate expired").await;
    service.forget();
    for _ in 0..5 {
        let answer = Caller::new().get(&url).await;
        answer.assert_refused(502, "upstream_untrusted");
    }
    service.assert_untouched();

    service.present(&authority.issue_for(NAME), &authority);
    assert_eq!(Caller::new().get(&url).await.status, 200);
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

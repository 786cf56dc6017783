//! Sockets that callers connect to.

use std::process::Stdio;
use std::time::Duration;

use portcullis_e2e::{
    Authority, Caller, Certificate, Connection, DEADLINE, Gateway, GatewayBuilder, GatewayYaml,
    Http2Connection, Leaf, ORDERS_POLICY, Response, Service, TlsOptions, Validity, World,
    eventually, unix_now,
};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::steps::request;

const API: &str = "api.acme.example";
const PARTNERS: &str = "partners.acme.example";

static TLS12_ONLY: &[&SupportedProtocolVersion] = &[&TLS12];
static TLS13_ONLY: &[&SupportedProtocolVersion] = &[&TLS13];

/// A listener with a certificate for [`API`] and one for [`PARTNERS`].
struct Edge {
    authority: Authority,
    clients: Authority,
    service: Service,
    gateway: Gateway,
}

impl Edge {
    /// `tls` is the content of the listener's `tls` beside its certificates; `partners` that of
    /// the second certificate.
    async fn start(tls: &str, partners: &str) -> Self {
        let authority = Authority::new("edge");
        let clients = Authority::new("clients");
        let service = Service::start().await;
        let yaml = GatewayYaml::new()
            .listener(&format!(
                "{{ name: public, address: \"127.0.0.1:0\", tls: {{ certificates: [\
                 {{ certificate: tls/api.pem, private_key: tls/api.key }}, \
                 {{ certificate: tls/partners.pem, private_key: tls/partners.key{partners} }}]\
                 {tls} }} }}"
            ))
            .upstream("orders", service.address());
        let policy = &ORDERS_POLICY[..ORDERS_POLICY.find("routes:").unwrap()];
        let policy = format!(
            "{policy}routes:\n\
             - {{ name: any, match: {{ path: \"/any/{{*rest}}\" }}, upstream: orders, public: true }}\n\
             - {{ name: api, match: {{ host: {API}, path: /api }}, upstream: orders, public: true }}\n\
             - {{ name: partners, match: {{ host: {PARTNERS}, path: /partners }}, \
             upstream: orders, public: true }}\n"
        );
        let builder = Gateway::builder()
            .file("portcullis.yaml", &yaml.render())
            .file("policy/orders.yaml", &policy)
            .file("tls/clients.pem", &clients.certificate_pem());
        let builder = with_certificate(builder, "api", &authority.issue_for(API));
        let builder = with_certificate(builder, "partners", &authority.issue_for(PARTNERS));
        let gateway = builder.start().await;
        Self {
            authority,
            clients,
            service,
            gateway,
        }
    }

    fn options(&self, name: &str) -> TlsOptions {
        TlsOptions::new(&self.authority, name)
    }

    /// Connects and sends one request; `None` when there was no answer.
    async fn get(&self, options: &TlsOptions, host: &str, path: &str) -> Option<u16> {
        let address = self.gateway.address("public");
        let mut connection = Connection::open_tls(address, options).await.ok()?;
        let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        connection.try_send(text).await.ok()?;
        Some(connection.read_response_or_close().await?.status)
    }

    /// What `openssl s_client` prints about a connection for `name` and its answer to a request.
    async fn openssl(&self, name: &str, path: &str, arguments: &[&str]) -> String {
        let mut child = Command::new("openssl")
            .args(["s_client", "-ign_eof", "-servername", name, "-connect"])
            .arg(self.gateway.address("public").to_string())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let text = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        let mut input = child.stdin.take().unwrap();
        // A failed handshake ends it before it reads.
        let _ = input.write_all(text.as_bytes()).await;
        let output = timeout(DEADLINE, child.wait_with_output())
            .await
            .unwrap()
            .unwrap();
        drop(input);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn with_certificate(
    builder: GatewayBuilder,
    stem: &str,
    certificate: &Certificate,
) -> GatewayBuilder {
    builder
        .file(&format!("tls/{stem}.pem"), &certificate.certificate_pem)
        .file(&format!("tls/{stem}.key"), &certificate.private_key_pem)
}

const OPTIONAL: &str = ", client_certificates: { mode: optional, trust: tls/clients.pem }";
const REQUIRED: &str = ", client_certificates: { mode: required, trust: tls/clients.pem }";

#[tokio::test(flavor = "multi_thread")]
async fn certificate_is_chosen_by_name_and_the_first_is_the_default() {
    let edge = Edge::start("", "").await;
    for (name, path) in [(API, "/api"), (PARTNERS, "/partners")] {
        // The client verifies that the certificate bears the name it asked for.
        assert_eq!(
            edge.get(&edge.options(name), name, path).await,
            Some(200),
            "{name}"
        );
    }
    let unknown = edge
        .options("unknown.example")
        .connect(edge.gateway.address("public"))
        .await;
    let error = unknown.unwrap_err().to_string();
    assert!(
        error.contains("not valid for name"),
        "the default was presented: {error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn authority_of_another_certificate_is_misdirected() {
    // The two names differ in who may connect, so a connection for one is none for the other.
    let edge = Edge::start("", REQUIRED).await;
    let options = edge.options(API);
    assert_eq!(edge.get(&options, API, "/api").await, Some(200));
    for host in [
        PARTNERS,
        "PARTNERS.acme.example",
        "partners.acme.example:443",
        "partners.acme.example.",
    ] {
        assert_eq!(
            edge.get(&options, host, "/partners").await,
            Some(421),
            "{host}"
        );
        assert_eq!(
            edge.get(&options, host, "/any/x").await,
            Some(421),
            "{host}"
        );
    }
    let mut connection = Http2Connection::open_tls(edge.gateway.address("public"), &options).await;
    let response = connection
        .get(&format!("https://{PARTNERS}/partners"), &[])
        .await;
    assert_eq!(response.status, 421);
    let problem: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(problem["code"], "authority_misdirected");
    assert_eq!(
        connection
            .get(&format!("https://{API}/api"), &[])
            .await
            .status,
        200
    );
    assert_eq!(edge.service.request_count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn required_client_certificate_is_demanded_and_verified() {
    let edge = Edge::start(REQUIRED, "").await;
    let options = edge.options(API);
    let good = edge.clients.issue(Leaf::new("caller"));
    let stranger = Authority::new("stranger");
    let expired = edge
        .clients
        .issue(Leaf::new("caller").with_validity(Validity::Expired));
    assert_eq!(
        edge.get(&options.clone().with_certificate(&good), API, "/api")
            .await,
        Some(200)
    );
    let bad = [
        ("none", options.clone()),
        (
            "stranger",
            options
                .clone()
                .with_certificate(&stranger.issue(Leaf::new("caller"))),
        ),
        (
            "edge authority",
            options
                .clone()
                .with_certificate(&edge.authority.issue_for("x")),
        ),
        ("expired", options.clone().with_certificate(&expired)),
    ];
    for (name, options) in bad {
        for versions in [TLS12_ONLY, TLS13_ONLY] {
            let options = options.clone().with_versions(versions);
            assert_eq!(
                edge.get(&options, API, "/api").await,
                None,
                "{name} with {versions:?}"
            );
        }
    }
    assert_eq!(edge.service.request_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn optional_client_certificate_is_verified_when_it_is_given() {
    let edge = Edge::start(OPTIONAL, "").await;
    let options = edge.options(API);
    let good = edge.clients.issue(Leaf::new("caller"));
    let stranger = Authority::new("stranger").issue(Leaf::new("caller"));
    assert_eq!(edge.get(&options, API, "/api").await, Some(200), "without");
    let with = options.clone().with_certificate(&good);
    assert_eq!(
        edge.get(&with, API, "/api").await,
        Some(200),
        "with a good one"
    );
    let with = options.with_certificate(&stranger);
    assert_eq!(
        edge.get(&with, API, "/api").await,
        None,
        "with a stranger's"
    );
}

/// OpenSSL presents a session under any name it is told to; rustls' client would not.
#[tokio::test(flavor = "multi_thread")]
async fn session_of_a_lax_name_does_not_open_a_strict_one() {
    let edge = Edge::start("", REQUIRED).await;
    for version in ["-tls1_2", "-tls1_3"] {
        let session = edge.gateway.directory().join(format!("session{version}"));
        let session = session.to_str().unwrap();
        let lax = edge
            .openssl(API, "/api", &[version, "-sess_out", session])
            .await;
        assert!(lax.contains("HTTP/1.1 200"), "{lax}");
        let resumed = edge
            .openssl(API, "/api", &[version, "-sess_in", session])
            .await;
        assert!(resumed.contains("HTTP/1.1 200"), "{resumed}");
        let strict = edge
            .openssl(PARTNERS, "/partners", &[version, "-sess_in", session])
            .await;
        assert!(!strict.contains("HTTP/1.1 200"), "{strict}");
    }
    assert_eq!(edge.service.request_count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn session_does_not_outlive_the_certificate_that_was_shown_for_it() {
    let edge = Edge::start(REQUIRED, "").await;
    let until = unix_now() + 6;
    let short = Validity::Until(until.try_into().unwrap());
    let caller = edge.clients.issue(Leaf::new("caller").with_validity(short));
    let directory = edge.gateway.directory();
    let (certificate, key) = caller.write(directory, "caller");
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let session = |version| directory.join(format!("session{version}"));
    for version in ["-tls1_2", "-tls1_3"] {
        let path = session(version);
        let path = path.to_str().unwrap();
        let shown = [
            version,
            "-cert",
            certificate,
            "-key",
            key,
            "-sess_out",
            path,
        ];
        let first = edge.openssl(API, "/api", &shown).await;
        assert!(first.contains("HTTP/1.1 200"), "{first}");
        let resumed = edge
            .openssl(API, "/api", &[version, "-sess_in", path])
            .await;
        assert!(resumed.contains("Reused"), "{resumed}");
        assert!(resumed.contains("HTTP/1.1 200"), "{resumed}");
    }
    eventually("the end of the certificate", || async {
        (unix_now() > until).then_some(())
    })
    .await;
    for version in ["-tls1_2", "-tls1_3"] {
        let path = session(version);
        let resumed = edge
            .openssl(API, "/api", &[version, "-sess_in", path.to_str().unwrap()])
            .await;
        assert!(!resumed.contains("HTTP/1.1 200"), "{resumed}");
    }
    assert_eq!(edge.service.request_count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_tls_versions_are_spoken_unless_the_older_is_refused() {
    for (tls, with_12, with_13) in [
        ("", Some(200), Some(200)),
        (", minimum_version: \"1.3\"", None, Some(200)),
    ] {
        let edge = Edge::start(tls, "").await;
        let options = edge.options(API);
        for (versions, expected) in [(TLS12_ONLY, with_12), (TLS13_ONLY, with_13)] {
            let options = options.clone().with_versions(versions);
            assert_eq!(
                edge.get(&options, API, "/api").await,
                expected,
                "{versions:?}{tls}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_negotiated_and_http1_is_the_fallback() {
    let edge = Edge::start("", "").await;
    let address = edge.gateway.address("public");
    let mut connection = Http2Connection::open_tls(address, &edge.options(API)).await;
    for id in 0..5 {
        let url = format!("https://{API}/any/{id}");
        assert_eq!(connection.get(&url, &[]).await.status, 200);
    }
    for protocols in [&["http/1.1"][..], &[][..]] {
        let options = edge.options(API).with_protocols(protocols);
        assert_eq!(
            edge.get(&options, API, "/api").await,
            Some(200),
            "{protocols:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_on_a_tls_listener_gets_no_answer() {
    let edge = Edge::start("", "").await;
    let mut connection = Connection::open(edge.gateway.address("public")).await;
    connection.send(request("GET", "/api", &[])).await;
    let bytes = connection.read_to_end().await;
    assert!(
        !bytes.starts_with(b"HTTP/"),
        "{:?}",
        String::from_utf8_lossy(&bytes)
    );
    edge.service.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_bound_with_tls_never_speaks_without_after_a_reload() {
    let edge = Edge::start("", "").await;
    let address = edge.gateway.address("public");
    let options = edge.options(API);
    let get = format!("GET /api HTTP/1.1\r\nHost: {API}\r\n\r\n");
    let mut open = Connection::open_tls(address, &options).await.unwrap();
    open.try_send(get.clone()).await.unwrap();
    assert_eq!(open.read_response_or_close().await.unwrap().status, 200);
    let before = edge.service.request_count();

    for listener in ["public", "another"] {
        let yaml = GatewayYaml::new()
            .listener(&format!("{{ name: {listener}, address: \"127.0.0.1:0\" }}"))
            .upstream("orders", edge.service.address());
        edge.gateway.write("portcullis.yaml", &yaml.render());
        edge.gateway.reload().await;
        let mut plain = Connection::open(address).await;
        let _ = plain.try_send(get.clone()).await;
        assert!(plain.read_to_end().await.is_empty(), "{listener}");
        assert_eq!(edge.get(&options, API, "/api").await, None, "{listener}");
    }
    // A connection that is open already has met rules that are gone.
    open.try_send(get).await.unwrap();
    assert_eq!(open.read_response_or_close().await.unwrap().status, 421);
    assert_eq!(edge.service.request_count(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_listener_on_another_address_needs_the_dangerous_setting() {
    let service = Service::start().await;
    let yaml = |extra: &str| {
        GatewayYaml::new()
            .listener(&format!(
                "{{ name: public, address: \"0.0.0.0:0\"{extra} }}"
            ))
            .upstream("orders", service.address())
            .render()
    };
    let policy = "owner: a\nroutes:\n\
                  - { name: any, match: { path: /any }, upstream: orders, public: true }\n";
    let refused = Gateway::builder()
        .file("portcullis.yaml", &yaml(""))
        .file("policy/orders.yaml", policy)
        .try_start()
        .await
        .unwrap_err();
    assert!(
        refused.stderr.contains("dangerously_plaintext"),
        "{refused:?}"
    );
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml(", dangerously_plaintext: true")),
        ("policy/orders.yaml", policy),
    ])
    .await;
    let port = gateway.address("public").port();
    let answer = Caller::new()
        .get(&format!("http://127.0.0.1:{port}/any"))
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_listeners_serve_the_same_routes() {
    let service = Service::start().await;
    let yaml = GatewayYaml::new()
        .listener("{ name: public, address: \"127.0.0.1:0\" }")
        .listener("{ name: internal, address: \"[::1]:0\" }")
        .upstream("orders", service.address());
    let policy = "owner: a\nroutes:\n\
                  - { name: any, match: { path: /any }, upstream: orders, public: true }\n";
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", policy),
    ])
    .await;
    for listener in ["public", "internal"] {
        let url = format!("http://{}/any", gateway.address(listener));
        assert_eq!(Caller::new().get(&url).await.status, 200, "{listener}");
    }
    let forwarded = service.last_request();
    assert_eq!(forwarded.header("x-forwarded-for"), Some("::1"));
    assert!(
        forwarded
            .header("forwarded")
            .unwrap()
            .contains("for=\"[::1]\""),
        "RFC 7239 §6 wants IPv6 in brackets and quotes: {:?}",
        forwarded.header("forwarded")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_that_is_old_takes_no_more_requests_and_finishes_those_it_has() {
    let world = World::start_with(|yaml| yaml.section("limits: { connection_age: 2s }")).await;
    let address = world.gateway.address("public");
    let health = request("GET", "/orders/health", &[]);
    let mut busy = Connection::open(address).await;
    let mut idle = Connection::open(address).await;
    let mut http2 = Http2Connection::open(address).await;
    let uri = world.url("/orders/health");
    for connection in [&mut busy, &mut idle] {
        let answer = connection.request(&health).await;
        assert_ne!(answer.header("connection"), Some("close"), "{answer:?}");
    }
    assert_eq!(http2.get(&uri, &[]).await.status, 200);
    world.service.always(
        Response::new(200)
            .body("late")
            .after(Duration::from_secs(3)),
    );
    busy.send(&health).await;
    // It has begun before, and is answered after.
    let late = http2.get(&uri, &[]).await;
    assert_eq!((late.status, late.text().as_str()), (200, "late"));
    let late = busy.read_response().await;
    assert_eq!(late.text(), "late");
    // It began in time, and so it is the next one that is the last.
    assert_ne!(late.header("connection"), Some("close"), "{late:?}");
    world.service.always(Response::new(200));
    for connection in [&mut busy, &mut idle] {
        let last = connection.request(&health).await;
        assert_eq!(
            (last.status, last.header("connection")),
            (200, Some("close"))
        );
    }
    assert!(idle.is_closed_within(Duration::from_secs(1)).await);
    assert!(busy.is_closed_within(Duration::from_secs(1)).await);
    eventually("an empty gateway", || async {
        let metrics = world.gateway.metrics().await;
        let open = metrics.value("portcullis_connections", &[("listener", "public")]);
        (open == 0.0).then_some(())
    })
    .await;
}

//! Verification keys: fetched, rotated, withdrawn, and missing.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_e2e::{
    AuthorizationServer, Caller, Gateway, GatewayYaml, Http2Connection, Issuer, IssuerAnswer,
    ORDERS_POLICY, Service, SigningKey, eventually,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

const ORDER: &str = "/orders/7";

async fn start(yaml: GatewayYaml) -> (Gateway, Service) {
    let service = Service::start().await;
    let yaml = yaml.upstream("orders", service.address());
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", ORDERS_POLICY),
    ])
    .await;
    (gateway, service)
}

/// An issuer whose key set is fetched every second.
fn eager(issuer: &Issuer, extra: &str) -> GatewayYaml {
    GatewayYaml::new().issuer_flow(&format!(
        "name: acme, issuer: \"{}\", audiences: [\"https://api.acme.example\"], \
         keys: {{ url: \"{}\" }}, algorithms: [RS256, ES256, EdDSA], refresh_interval: 1s{extra}",
        issuer.issuer(),
        issuer.key_set_url()
    ))
}

async fn status(gateway: &Gateway, token: &str) -> u16 {
    Caller::new()
        .get_with_token(&gateway.url(ORDER), token)
        .await
        .status
}

async fn eventually_status(gateway: &Gateway, token: &str, wanted: u16) {
    eventually(&format!("an answer {wanted}"), || async {
        (status(gateway, token).await == wanted).then_some(())
    })
    .await;
}

/// Waits until the issuer has been asked this many times more.
async fn more_fetches(issuer: &Issuer, count: u64) {
    let before = issuer.key_set_fetches();
    eventually(&format!("{count} more fetches of the key set"), || async {
        (issuer.key_set_fetches() >= before + count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_real_authorization_server_are_accepted_with_each_algorithm() {
    let server = AuthorizationServer::start().await;
    let yaml = GatewayYaml::new().issuer_with_keys("acme", server.issuer(), "discovery: true");
    let (gateway, service) = start(yaml).await;
    let gateway = gateway.until_ready().await;
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = server.token_signed_with(algorithm, "orders:read").await;
        assert_eq!(status(&gateway, &token).await, 200, "{algorithm}");
        let received = service.last_request();
        let client = format!("orders-client-{}", algorithm.to_lowercase());
        assert_eq!(received.header("x-client-id"), Some(client.as_str()));
        assert_eq!(received.header("x-scopes"), Some("orders:read"));
    }
    let token = server.token("orders:write").await;
    assert_eq!(status(&gateway, &token).await, 403);
    assert_eq!(server.key_set_fetches().await, 1);
    assert_eq!(server.discovery_fetches().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_key_is_learned_from_the_first_token_that_names_it() {
    let server = AuthorizationServer::start().await;
    let yaml = GatewayYaml::new().issuer_with_keys("acme", server.issuer(), "discovery: true");
    let (gateway, _service) = start(yaml).await;
    let gateway = gateway.until_ready().await;
    let old = server.token("orders:read").await;
    assert_eq!(status(&gateway, &old).await, 200);

    server.rotate_keys().await;
    let new = server.token("orders:read").await;
    eventually_status(&gateway, &new, 200).await;
    assert_eq!(
        status(&gateway, &old).await,
        200,
        "the old key is still published"
    );
    assert!(server.key_set_fetches().await <= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_of_a_withdrawn_key_is_refused_after_the_next_refresh() {
    let issuer = Issuer::start().await;
    let second = issuer.publish(SigningKey::p256("second"));
    let (gateway, _service) = start(eager(&issuer, "")).await;
    let gateway = gateway.until_ready().await;
    let old = issuer.token().scope("orders:read").sign();
    let new = issuer.token_signed_by(&second).scope("orders:read").sign();
    assert_eq!(status(&gateway, &old).await, 200);
    assert_eq!(status(&gateway, &new).await, 200);
    // Both are remembered now, and that must not help the old one.
    issuer.withdraw(issuer.key());
    eventually_status(&gateway, &old, 401).await;
    assert_eq!(status(&gateway, &new).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_key_id_costs_one_fetch_that_all_who_wait_share() {
    let issuer = Issuer::start().await;
    let (gateway, _service) = start(GatewayYaml::new().issuer("acme", &issuer)).await;
    let gateway = Arc::new(gateway.until_ready().await);
    let fetches = issuer.key_set_fetches();

    let key = issuer.publish(SigningKey::ed25519("second"));
    issuer.answer_with(IssuerAnswer::Delayed(Duration::from_millis(500)));
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let token = issuer.token_signed_by(&key).scope("orders:read").sign();
        let gateway = Arc::clone(&gateway);
        callers.spawn(async move { status(&gateway, &token).await });
    }
    let answers = callers.join_all().await;
    assert_eq!(answers, [200; 50]);
    assert_eq!(issuer.key_set_fetches(), fetches + 1);

    // Within the pause after a fetch nothing that a caller makes up is worth another.
    let mut callers = JoinSet::new();
    for n in 0..50 {
        let header = json!(format!("made-up-{n}"));
        let token = issuer
            .token()
            .header("kid", header)
            .scope("orders:read")
            .sign();
        let gateway = Arc::clone(&gateway);
        callers.spawn(async move { status(&gateway, &token).await });
    }
    let answers = callers.join_all().await;
    assert_eq!(answers, [401; 50]);
    assert_eq!(issuer.key_set_fetches(), fetches + 1);
    let token = issuer.token().scope("orders:read").sign();
    assert_eq!(status(&gateway, &token).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousand_first_requests_after_the_start_cost_one_fetch() {
    let issuer = Issuer::start().await;
    issuer.answer_with(IssuerAnswer::Delayed(Duration::from_millis(500)));
    let (gateway, service) = start(GatewayYaml::new().issuer("acme", &issuer)).await;
    let answers = thousand_at_once(&gateway, &issuer).await;
    // Without a key nobody can say that a token is bad.
    assert!(
        answers.iter().all(|status| matches!(status, 200 | 503)),
        "{answers:?}"
    );
    let admitted = answers.iter().filter(|status| **status == 200).count();
    assert_eq!(service.request_count(), admitted);
    let gateway = gateway.until_ready().await;
    let answers = thousand_at_once(&gateway, &issuer).await;
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    assert_eq!(issuer.key_set_fetches(), 1);
}

/// As many requests, each with a token of its own.
async fn thousand_at_once(gateway: &Gateway, issuer: &Issuer) -> Vec<u16> {
    let uri = gateway.url(ORDER);
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let connection = Http2Connection::open(gateway.address("public")).await;
        for number in 0..100 {
            let token = issuer.token().scope("orders:read");
            let token = token.claim("jti", json!(number.to_string())).sign();
            let (mut connection, uri) = (connection.clone(), uri.clone());
            callers.spawn(async move {
                let credential = format!("Bearer {token}");
                let headers = [("authorization", credential.as_str())];
                connection.get(&uri, &headers).await.status
            });
        }
    }
    callers.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_that_is_down_at_start_is_answered_with_503_until_it_comes() {
    let server = AuthorizationServer::start_down().await;
    let healthy = Issuer::start().await;
    let yaml = GatewayYaml::new()
        .issuer_with_keys("late", server.issuer(), "discovery: true")
        .issuer("acme", &healthy);
    let (gateway, service) = start(yaml).await;
    let other = healthy.token().scope("orders:read").sign();
    eventually_status(&gateway, &other, 200).await;

    // Made by the issuer's name alone; nobody can verify it yet.
    let foreign = SigningKey::rsa("rs256-unknown");
    let unverifiable = portcullis_e2e::Token::new(server.issuer(), Arc::new(foreign))
        .scope("orders:read")
        .sign();
    let answer = Caller::new()
        .get_with_token(&gateway.url(ORDER), &unverifiable)
        .await;
    answer.assert_refused(503, "keys_unavailable");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(
        service.request_count(),
        1,
        "only the healthy issuer's token was forwarded"
    );

    server.bring_up().await;
    let token = server.token("orders:read").await;
    eventually_status(&gateway, &token, 200).await;
    assert_eq!(
        status(&gateway, &unverifiable).await,
        401,
        "and a forgery is a forgery"
    );
    assert_eq!(status(&gateway, &other).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_that_goes_down_later_is_outlived_by_its_keys() {
    let issuer = Issuer::start().await;
    let (gateway, _service) = start(eager(&issuer, "")).await;
    let gateway = gateway.until_ready().await;
    issuer.take_down().await;
    let failures = || async {
        let labels = [("issuer", "acme"), ("result", "failed")];
        let name = "portcullis_key_set_refreshes_total";
        gateway
            .metrics()
            .await
            .find(name, &labels)
            .unwrap_or_default()
    };
    eventually("failed refreshes", || async {
        (failures().await >= 2.0).then_some(())
    })
    .await;
    // Not remembered, so its signature is verified with the keys that are left.
    let token = issuer.token().scope("orders:read").sign();
    assert_eq!(status(&gateway, &token).await, 200);
    let metrics = gateway.metrics().await;
    let last = metrics.value(
        "portcullis_key_set_last_success_timestamp_seconds",
        &[("issuer", "acme")],
    );
    assert!(last > 0.0);

    let key = issuer.publish(SigningKey::p256("second"));
    issuer.bring_up().await;
    let token = issuer.token_signed_by(&key).scope("orders:read").sign();
    eventually_status(&gateway, &token, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_may_not_be_stale_are_gone_with_the_first_failed_refresh() {
    let issuer = Issuer::start().await;
    let (gateway, service) = start(eager(&issuer, ", max_stale: 0s")).await;
    let gateway = gateway.until_ready().await;
    let token = issuer.token().scope("orders:read").sign();
    assert_eq!(status(&gateway, &token).await, 200);
    issuer.take_down().await;
    // The remembered token does not outlive the keys either.
    eventually_status(&gateway, &token, 503).await;
    service.forget();
    let fresh = issuer.token().scope("orders:read").sign();
    assert_eq!(status(&gateway, &fresh).await, 503);
    service.assert_untouched();
    issuer.bring_up().await;
    eventually_status(&gateway, &token, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_place_of_a_key_set_leaves_the_last_good_one() {
    let issuer = Issuer::start().await;
    let (gateway, _service) = start(eager(&issuer, "")).await;
    let gateway = gateway.until_ready().await;
    let truncated = issuer.key_set()[..40].to_vec();
    let symmetric = json!({ "keys": [{ "kty": "oct", "kid": "first", "k": "c2VjcmV0" }] });
    let answers = [
        (
            "html",
            IssuerAnswer::Body(b"<html>Down for maintenance</html>".to_vec()),
        ),
        ("empty", IssuerAnswer::Body(Vec::new())),
        ("no keys", IssuerAnswer::Body(b"{\"keys\":[]}".to_vec())),
        ("truncated", IssuerAnswer::Body(truncated)),
        ("an array", IssuerAnswer::Body(b"[]".to_vec())),
        (
            "not UTF-8",
            IssuerAnswer::Body(b"{\"keys\":[\"\xff\"]}".to_vec()),
        ),
        (
            "symmetric",
            IssuerAnswer::Body(symmetric.to_string().into_bytes()),
        ),
        ("500", IssuerAnswer::Status(500)),
        ("404", IssuerAnswer::Status(404)),
    ];
    for (name, answer) in answers {
        issuer.answer_with(answer);
        more_fetches(&issuer, 2).await;
        let token = issuer.token().scope("orders:read").sign();
        assert_eq!(status(&gateway, &token).await, 200, "{name}");
    }
    gateway.assert_healthy();
    issuer.answer_with(IssuerAnswer::KeySet);
    let key = issuer.publish(SigningKey::p256("second"));
    let token = issuer.token_signed_by(&key).scope("orders:read").sign();
    eventually_status(&gateway, &token, 200).await;
}

/// However large it is: what is beyond the bounds is not read.
#[tokio::test(flavor = "multi_thread")]
async fn key_set_beyond_the_bounds_is_refused_whole_and_one_within_them_is_taken() {
    const MAX_BYTES: usize = 256 * 1024;
    const FAR_TOO_MANY: usize = 50_000_000;
    let issuer = Issuer::start().await;
    let (gateway, _service) = start(eager(&issuer, "")).await;
    let gateway = gateway.until_ready().await;
    issuer.answer_with(IssuerAnswer::Padded(FAR_TOO_MANY));
    more_fetches(&issuer, 3).await;
    // Of each no more than lies in sockets; read to the end, it would be twice as much by now.
    let sent = issuer.padding_sent();
    assert!(sent < FAR_TOO_MANY as u64, "{sent} bytes");

    // Whoever takes any of these sets has it.
    let second = issuer.publish(SigningKey::p256("second"));
    let set = |key: &SigningKey, filler: &Value, count: usize| {
        let mut keys = vec![issuer.key().public_jwk(), key.public_jwk()];
        keys.resize(count, filler.clone());
        IssuerAnswer::Body(json!({ "keys": keys }).to_string().into_bytes())
    };
    let real = SigningKey::p256("another").public_jwk();
    let too_large = "is larger than 262144 bytes";
    let too_many = "has more than 100 keys";
    for (name, answer, reason) in [
        ("50 MB", IssuerAnswer::Padded(FAR_TOO_MANY), too_large),
        (
            "a byte more",
            IssuerAnswer::Padded(MAX_BYTES + 1),
            too_large,
        ),
        ("10,000 keys", set(&second, &real, 10_000), too_large),
        (
            "10,000 of no use",
            set(&second, &json!({}), 10_000),
            too_many,
        ),
        ("a key more", set(&second, &real, 101), too_many),
    ] {
        issuer.answer_with(answer);
        more_fetches(&issuer, 2).await;
        let report = gateway.status().await;
        let error = report["issuers"][0]["last_error"].to_string();
        assert!(error.contains(reason), "{name}: {error}");
        let known = issuer.token().scope("orders:read").sign();
        assert_eq!(status(&gateway, &known).await, 200, "{name}");
        let unknown = issuer.token_signed_by(&second).scope("orders:read").sign();
        assert_eq!(status(&gateway, &unknown).await, 503, "{name}");
    }
    gateway.assert_healthy();

    issuer.answer_with(IssuerAnswer::Padded(MAX_BYTES));
    let token = issuer.token_signed_by(&second).scope("orders:read").sign();
    eventually_status(&gateway, &token, 200).await;
    let third = Arc::new(SigningKey::ed25519("third"));
    issuer.answer_with(set(&third, &real, 100));
    let token = issuer.token_signed_by(&third).scope("orders:read").sign();
    eventually_status(&gateway, &token, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_share_an_id_are_each_good_until_they_are_withdrawn() {
    let issuer = Issuer::start_with(SigningKey::p256("shared")).await;
    let twin = issuer.publish(SigningKey::p256("shared"));
    let other = issuer.publish(SigningKey::rsa("shared"));
    let (gateway, service) = start(eager(&issuer, "")).await;
    let gateway = gateway.until_ready().await;
    let token = |key: &Arc<SigningKey>| issuer.token_signed_by(key).scope("orders:read").sign();
    let old = token(issuer.key());
    for token in [&old, &token(&twin), &token(&other)] {
        assert_eq!(status(&gateway, token).await, 200);
    }
    let stranger = Arc::new(SigningKey::p256("shared"));
    assert_eq!(status(&gateway, &token(&stranger)).await, 401);
    assert_eq!(service.request_count(), 3);

    let left = json!({ "keys": [twin.public_jwk(), other.public_jwk()] });
    issuer.answer_with(IssuerAnswer::Body(left.to_string().into_bytes()));
    // Its id is still published, and the token is remembered: neither helps it.
    eventually_status(&gateway, &old, 401).await;
    for key in [&twin, &other] {
        assert_eq!(status(&gateway, &token(key)).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_that_hangs_or_trickles_keeps_nobody_waiting() {
    let issuer = Issuer::start().await;
    let (gateway, _service) = start(GatewayYaml::new().issuer("acme", &issuer)).await;
    let gateway = gateway.until_ready().await;
    for (n, answer) in [IssuerAnswer::Hang, IssuerAnswer::Trickle]
        .into_iter()
        .enumerate()
    {
        issuer.answer_with(answer);
        let known = issuer.token().scope("orders:read").sign();
        let kid = json!(format!("unknown-{n}"));
        let unknown = issuer
            .token()
            .header("kid", kid)
            .scope("orders:read")
            .sign();
        let gateway_url = gateway.url(ORDER);
        let waiting = tokio::spawn(async move {
            Caller::new()
                .get_with_token(&gateway_url, &unknown)
                .await
                .status
        });
        let started = tokio::time::Instant::now();
        assert_eq!(status(&gateway, &known).await, 200);
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "a known key waits for nobody"
        );
        let answer = waiting.await.unwrap();
        assert!(matches!(answer, 401 | 503), "{answer}");
        assert!(
            started.elapsed() < Duration::from_secs(15),
            "{:?}",
            started.elapsed()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_of_an_issuer_are_not_followed() {
    let issuer = Issuer::start().await;
    let elsewhere = Issuer::start_with(SigningKey::p256("evil")).await;
    let (gateway, _service) = start(eager(&issuer, "")).await;
    let gateway = gateway.until_ready().await;
    issuer.answer_with(IssuerAnswer::Redirect(elsewhere.key_set_url()));
    more_fetches(&issuer, 2).await;
    assert_eq!(elsewhere.key_set_fetches(), 0);
    let forged = issuer
        .token_signed_by(elsewhere.key())
        .scope("orders:read")
        .sign();
    // The issuer cannot be asked for that key, so there is no verdict.
    assert_eq!(status(&gateway, &forged).await, 503);
    let token = issuer.token().scope("orders:read").sign();
    assert_eq!(status(&gateway, &token).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_another_issuer_is_not_believed() {
    let issuer = Issuer::start().await;
    let elsewhere = Issuer::start_with(SigningKey::p256("evil")).await;
    let documents = [
        json!({ "issuer": elsewhere.issuer(), "jwks_uri": elsewhere.key_set_url() }),
        json!({ "issuer": format!("{}/", issuer.issuer()), "jwks_uri": issuer.key_set_url() }),
        json!({ "jwks_uri": issuer.key_set_url() }),
        json!({ "issuer": issuer.issuer() }),
        json!({ "issuer": issuer.issuer(), "jwks_uri": "file:///etc/passwd" }),
        json!({ "issuer": issuer.issuer(), "jwks_uri": "http://169.254.169.254/keys" }),
    ];
    for document in documents {
        issuer.answer_metadata_with(document.to_string().as_bytes());
        let yaml = GatewayYaml::new().issuer_with_keys("acme", issuer.issuer(), "discovery: true");
        let (gateway, service) = start(yaml).await;
        for key in [issuer.key(), elsewhere.key()] {
            let token = issuer.token_signed_by(key).scope("orders:read").sign();
            assert_eq!(status(&gateway, &token).await, 503, "{document}");
        }
        service.assert_untouched();
    }
    assert_eq!(elsewhere.key_set_fetches(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_one_issuer_are_no_use_to_another() {
    // The same key id on purpose.
    let acme = Issuer::start_with(SigningKey::p256("shared-id")).await;
    let partner = Issuer::start_with(SigningKey::p256("shared-id")).await;
    let yaml = GatewayYaml::new()
        .issuer("acme", &acme)
        .issuer("partner", &partner);
    let (gateway, service) = start(yaml).await;
    let gateway = gateway.until_ready().await;
    for (issuer, other) in [(&acme, &partner), (&partner, &acme)] {
        let good = issuer.token().scope("orders:read").sign();
        assert_eq!(status(&gateway, &good).await, 200);
        let crossed = issuer
            .token_signed_by(other.key())
            .scope("orders:read")
            .sign();
        assert_eq!(status(&gateway, &crossed).await, 401);
    }
    assert_eq!(service.request_count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn route_can_be_kept_to_one_issuer() {
    let acme = Issuer::start().await;
    let partner = Issuer::start_with(SigningKey::p256("partner")).await;
    let service = Service::start().await;
    let yaml = GatewayYaml::new()
        .issuer("acme", &acme)
        .issuer("partner", &partner)
        .upstream("orders", service.address());
    let policy = r#"
owner: orders-team
scopes: { "orders:read": Read orders }
routes:
  - name: staff
    match: { path: "/staff/{id}" }
    upstream: orders
    require: { scopes: ["orders:read"], issuers: [acme] }
  - name: all
    match: { path: "/orders/{id}" }
    upstream: orders
    require: { scopes: ["orders:read"] }
"#;
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", policy),
    ])
    .await
    .until_ready()
    .await;
    let staff = acme.token().scope("orders:read").sign();
    let partner = partner.token().scope("orders:read").sign();
    let answer = |path: &'static str, token: String| {
        let url = gateway.url(path);
        async move { Caller::new().get_with_token(&url, &token).await.status }
    };
    assert_eq!(answer("/orders/1", staff.clone()).await, 200);
    assert_eq!(answer("/orders/1", partner.clone()).await, 200);
    assert_eq!(answer("/staff/1", staff).await, 200);
    let refused = answer("/staff/1", partner).await;
    assert!(matches!(refused, 401 | 403), "{refused}");
    assert_eq!(service.request_count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_unusable_key_does_not_spoil_the_set() {
    let issuer = Issuer::start().await;
    let mut keys: Value = serde_json::from_slice(&issuer.key_set()).unwrap();
    let odd = [
        json!({ "kty": "AKP", "kid": "pq", "alg": "ML-DSA-65", "pub": "AAAA" }),
        json!({ "kty": "EC", "crv": "secp256k1", "kid": "k", "x": "AAAA", "y": "AAAA" }),
        json!({ "kty": "RSA", "kid": 42, "n": "AQAB", "e": "AQAB" }),
        json!({ "kty": "RSA", "kid": "tiny", "n": "AQAB", "e": "AQAB", "use": "sig" }),
        json!({ "kty": "RSA", "kid": "chain", "x5c": "not a list", "n": "AQAB", "e": "AQAB" }),
        json!("not even an object"),
        json!({ "kty": "OKP", "crv": "X25519", "kid": "x", "x": "AAAA" }),
    ];
    keys["keys"].as_array_mut().unwrap().extend(odd);
    issuer.answer_with(IssuerAnswer::Body(keys.to_string().into_bytes()));
    let (gateway, _service) = start(GatewayYaml::new().issuer("acme", &issuer)).await;
    let token = issuer.token().scope("orders:read").sign();
    eventually_status(&gateway, &token, 200).await;
    gateway.assert_healthy();
}

/// An RSA key of any size, by OpenSSL's command line: nobody else signs with a small one.
struct OpensslKey {
    directory: TempDir,
}

impl OpensslKey {
    fn generate(bits: usize) -> Self {
        let directory = TempDir::with_prefix("portcullis-e2e-openssl-").unwrap();
        let key = Self { directory };
        key.openssl(&format!("genrsa -out key.pem {bits}"));
        key
    }

    /// What it prints.
    fn openssl(&self, arguments: &str) -> Vec<u8> {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.directory.path())
            .output()
            .expect("openssl");
        assert!(output.status.success(), "{arguments}: {output:?}");
        output.stdout
    }

    fn modulus(&self) -> Vec<u8> {
        let output = self.openssl("rsa -in key.pem -noout -modulus");
        let output = String::from_utf8(output).unwrap();
        let hex = output.trim().strip_prefix("Modulus=").unwrap();
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    /// By RS256.
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        std::fs::write(self.directory.path().join("message"), message).unwrap();
        self.openssl("dgst -sha256 -sign key.pem message")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rsa_key_of_fewer_than_2048_bits_verifies_nothing_beside_one_that_has_them() {
    let issuer = Issuer::start().await;
    let mut published = vec![issuer.key().public_jwk()];
    let mut keys = Vec::new();
    // Zeros before a modulus make it look like one of 2048 bits.
    for (bits, zeros) in [(512, 0), (1024, 0), (1024, 128), (2047, 0), (2048, 0)] {
        let key = OpensslKey::generate(bits);
        let key_id = format!("{bits} bits behind {zeros} zeros");
        let modulus = [vec![0; zeros], key.modulus()].concat();
        published.push(json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": key_id,
            "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB",
        }));
        keys.push((bits, key_id, key));
    }
    let document = json!({ "keys": published }).to_string();
    issuer.answer_with(IssuerAnswer::Body(document.into_bytes()));
    let (gateway, service) = start(GatewayYaml::new().issuer("acme", &issuer)).await;
    let gateway = gateway.until_ready().await;
    for (bits, key_id, key) in &keys {
        let token = issuer
            .token()
            .header("kid", json!(key_id))
            .scope("orders:read")
            .with_signature(|input| key.sign(input));
        let answer = Caller::new()
            .get_with_token(&gateway.url(ORDER), &token)
            .await;
        if *bits < 2048 {
            answer.assert_refused(401, "token_key_unknown");
        } else {
            assert_eq!(answer.status, 200, "{key_id}: {}", answer.text());
        }
    }
    assert_eq!(service.request_count(), 1);
    let metrics = gateway.metrics().await;
    let usable = metrics.value("portcullis_key_set_keys", &[("issuer", "acme")]);
    assert_eq!(usable, 2.0);
    let log = gateway.log();
    let is_told = log.iter().any(|line| line["skipped"] == 4);
    assert!(is_told, "no four keys were skipped: {log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_set_in_a_file_is_watched() {
    let issuer = Issuer::start().await;
    let service = Service::start().await;
    let yaml = GatewayYaml::new()
        .issuer_with_keys("acme", issuer.issuer(), "file: keys.json")
        .upstream("orders", service.address());
    let key_set = String::from_utf8(issuer.key_set()).unwrap();
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", ORDERS_POLICY),
        ("keys.json", &key_set),
    ])
    .await;
    let old = issuer.token().scope("orders:read").sign();
    assert_eq!(status(&gateway, &old).await, 200);

    let key = issuer.publish(SigningKey::p256("second"));
    issuer.withdraw(issuer.key());
    gateway.write("keys.json", &String::from_utf8(issuer.key_set()).unwrap());
    let new = issuer.token_signed_by(&key).scope("orders:read").sign();
    eventually_status(&gateway, &new, 200).await;
    assert_eq!(status(&gateway, &old).await, 401);
    assert_eq!(issuer.key_set_fetches(), 0);
}

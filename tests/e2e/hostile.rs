//! What an attacker sends: tokens, paths and framing. Nothing of it is admitted, and the gateway
//! goes on as if nothing had been.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use portcullis_e2e::{Caller, Connection, Issuer, IssuerAnswer, SigningKey, World, unix_now};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::steps::{bearer, request};

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Presents each token on a protected route: all are refused as invalid tokens.
async fn assert_all_invalid(world: &World, tokens: Vec<(String, String)>) {
    let caller = Caller::new();
    for (name, token) in tokens {
        let answer = caller.get_with_token(&world.url("/orders/7"), &token).await;
        assert_eq!(answer.status, 401, "{name}: {}", answer.text());
        let challenge = answer.challenge().unwrap_or_default();
        assert!(
            challenge.contains("error=\"invalid_token\""),
            "{name}: {challenge}"
        );
        let problem = answer.json();
        assert!(problem["code"].is_string(), "{name}: {problem}");
    }
    world.service.assert_untouched();
    assert_alive(world).await;
}

/// The next good request on a fresh connection is served as if nothing had been.
async fn assert_alive(world: &World) {
    world.gateway.assert_healthy();
    let before = world.service.request_count();
    let token = world.token("orders:read");
    let answer = Caller::new()
        .get_with_token(&world.url("/orders/7"), &token)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(world.service.request_count(), before + 1);
    let panics = world
        .gateway
        .metrics()
        .await
        .value("portcullis_panics_total", &[]);
    assert_eq!(panics, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_without_a_signature_is_refused() {
    let world = World::start().await;
    let good = world.issuer.token().scope("orders:read");
    let mut tokens = Vec::new();
    for algorithm in ["none", "None", "NONE", "nOnE", "none ", "none\u{0}", ""] {
        let unsigned = good.clone().header("alg", json!(algorithm));
        tokens.push((
            format!("{algorithm:?} unsigned"),
            unsigned.with_signature(|_| Vec::new()),
        ));
        tokens.push((format!("{algorithm:?} signed"), unsigned.sign()));
    }
    let signed = good.sign();
    let (input, _) = signed.rsplit_once('.').unwrap();
    tokens.push(("no signature".to_owned(), format!("{input}.")));
    tokens.push(("no third part".to_owned(), input.to_owned()));
    assert_all_invalid(&world, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn algorithm_that_is_not_one_is_refused() {
    let world = World::start().await;
    let good = world.issuer.token().scope("orders:read");
    let algorithms = [
        Value::Null,
        json!(5),
        json!(["RS256"]),
        json!({"a": 1}),
        json!(true),
        json!("x".repeat(4_000)),
        json!("RS1"),
        json!("ES256K"),
        json!("ML-DSA-65"),
        json!("rs256"),
        json!("RS256 "),
        json!("HS256"),
        json!("dir"),
    ];
    let mut tokens: Vec<_> = algorithms
        .into_iter()
        .map(|algorithm| {
            let name = format!("{:.40}", algorithm.to_string());
            (name, good.clone().header("alg", algorithm).sign())
        })
        .collect();
    tokens.push(("missing".to_owned(), good.without_header("alg").sign()));
    assert_all_invalid(&world, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn public_key_is_no_hmac_secret() {
    let world = World::start().await;
    let curve = world.issuer.publish(SigningKey::p256("curve"));
    let rsa = world.issuer.key();
    let pem = |label: &str, der: &[u8]| {
        let lines: Vec<String> = STANDARD
            .encode(der)
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8(line.to_vec()).unwrap())
            .collect();
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            lines.join("\n")
        )
    };
    let info = rsa.rsa_public_key_info();
    let spki_pem = pem("PUBLIC KEY", &info);
    let jwk = rsa.public_jwk();
    let secrets = [
        ("SPKI PEM", spki_pem.clone().into_bytes()),
        (
            "SPKI PEM without newline",
            spki_pem.trim_end().as_bytes().to_vec(),
        ),
        ("SPKI DER", info),
        (
            "PKCS #1 PEM",
            pem("RSA PUBLIC KEY", &rsa.public_bytes()).into_bytes(),
        ),
        ("PKCS #1 DER", rsa.public_bytes()),
        ("JWK", jwk.to_string().into_bytes()),
        (
            "modulus",
            URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap(),
        ),
        ("curve point", curve.public_bytes()),
        ("x coordinate", curve.public_bytes()[1..33].to_vec()),
        ("empty", Vec::new()),
        ("key id", b"first".to_vec()),
    ];
    let mut tokens = Vec::new();
    for (name, secret) in &secrets {
        for kid in ["first", "curve"] {
            for (algorithm, hash) in [
                ("HS256", hmac::HMAC_SHA256),
                ("HS384", hmac::HMAC_SHA384),
                ("HS512", hmac::HMAC_SHA512),
            ] {
                let token = world
                    .issuer
                    .token()
                    .scope("orders:read")
                    .header("alg", json!(algorithm))
                    .header("kid", json!(kid));
                let key = hmac::Key::new(hash, secret);
                let token = token.with_signature(|input| hmac::sign(&key, input).as_ref().to_vec());
                tokens.push((format!("{algorithm} {kid} {name}"), token));
            }
        }
    }
    assert_all_invalid(&world, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn symmetric_key_in_the_set_verifies_nothing() {
    let world = World::start_with(|yaml| yaml).await;
    let mut keys: Value = serde_json::from_slice(&world.issuer.key_set()).unwrap();
    let secret = b"a secret that everybody can read";
    keys["keys"].as_array_mut().unwrap().push(json!({
        "kty": "oct", "kid": "shared", "alg": "HS256", "k": base64url(secret),
    }));
    world
        .issuer
        .answer_with(IssuerAnswer::Body(keys.to_string().into_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let token = world
        .issuer
        .token()
        .scope("orders:read")
        .header("alg", json!("HS256"))
        .header("kid", json!("shared"))
        .with_signature(|input| hmac::sign(&key, input).as_ref().to_vec());
    assert_all_invalid(&world, vec![("oct".to_owned(), token)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_fits_one_algorithm_only() {
    let world = World::start().await;
    let p384 = world.issuer.publish(SigningKey::p384("p384"));
    let p256 = world.issuer.publish(SigningKey::p256("p256"));
    let edwards = world.issuer.publish(SigningKey::ed25519("edwards"));
    // All are known before anything is crossed.
    for key in [&p384, &p256, &edwards] {
        let token = world
            .issuer
            .token_signed_by(key)
            .scope("orders:read")
            .sign();
        portcullis_e2e::eventually("the new keys", || async {
            let answer = Caller::new()
                .get_with_token(&world.url("/orders/7"), &token)
                .await;
            (answer.status == 200).then_some(())
        })
        .await;
    }
    world.service.forget();
    let mut tokens = Vec::new();
    for key in [&p384, &p256, &edwards, world.issuer.key()] {
        for algorithm in [
            "RS256", "RS384", "RS512", "PS256", "PS384", "ES256", "ES384", "ES512", "EdDSA",
        ] {
            if key.algorithm() == algorithm {
                continue;
            }
            let token = world
                .issuer
                .token_signed_by(key)
                .scope("orders:read")
                .header("alg", json!(algorithm));
            tokens.push((format!("{algorithm} with {}", key.key_id()), token.sign()));
        }
    }
    assert_all_invalid(&world, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_is_never_taken_from_the_token() {
    let world = World::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let evil = Arc::new(SigningKey::p256("evil"));
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let forged = world
        .issuer
        .token_signed_by(&evil)
        .scope("orders:admin orders:read");
    let certificate = STANDARD.encode(b"not even a certificate");
    let thumbprint = base64url(digest::digest(&digest::SHA256, b"x"));
    let parameters = [
        ("jwk", evil.public_jwk()),
        ("jku", json!(url)),
        ("jku", json!(format!("{}@{}", world.issuer.issuer(), url))),
        ("jku", json!(format!("{url}\r\nHost: evil"))),
        ("x5u", json!(url)),
        ("x5c", json!([certificate])),
        ("x5t", json!(thumbprint)),
        ("x5t#S256", json!(thumbprint)),
    ];
    let mut tokens = Vec::new();
    for (name, value) in parameters {
        let forged = forged.clone().header(name, value.clone());
        tokens.push((format!("{name} {value:.30}"), forged.sign()));
        let with_kid = forged.header("kid", json!("first"));
        tokens.push((
            format!("{name} {value:.30} with a known kid"),
            with_kid.sign(),
        ));
    }
    // Even a good signature does not excuse a pointer to another key.
    let good = world.issuer.token().scope("orders:read");
    for (name, value) in [
        ("jwk", evil.public_jwk()),
        ("jku", json!(url)),
        ("x5u", json!(url)),
        ("x5c", json!([])),
    ] {
        tokens.push((
            format!("good with {name}"),
            good.clone().header(name, value).sign(),
        ));
    }
    assert_all_invalid(&world, tokens).await;
    let contacted = tokio::time::timeout(Duration::from_millis(200), listener.accept()).await;
    assert!(
        contacted.is_err(),
        "the gateway followed an address in a token"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn key_id_is_only_ever_compared() {
    let world = World::start().await;
    let empty = hmac::Key::new(hmac::HMAC_SHA256, b"");
    let mut tokens = Vec::new();
    for kid in [
        "../../../dev/null",
        "/etc/passwd",
        "file:///dev/null",
        "' OR 1=1 --",
        "$(id)",
        "first\r\nX-Admin: 1",
        "first\u{0}",
        "\u{1b}[31mfirst",
        "FIRST",
        "first ",
        "",
        &"k".repeat(8_000),
    ] {
        let token = world
            .issuer
            .token()
            .scope("orders:read")
            .header("kid", json!(kid));
        tokens.push((format!("{kid:.30}"), token.sign()));
        let hashed = token
            .header("alg", json!("HS256"))
            .with_signature(|input| hmac::sign(&empty, input).as_ref().to_vec());
        tokens.push((format!("{kid:.30} with HMAC"), hashed));
    }
    for kid in [json!(1), json!(["first"]), json!({"first": 1}), json!(null)] {
        let token = world
            .issuer
            .token()
            .scope("orders:read")
            .header("kid", kid.clone());
        tokens.push((kid.to_string(), token.sign()));
    }
    assert_all_invalid(&world, tokens).await;
    // The log has one line for each, whatever was in it.
    world.gateway.log();
    world.gateway.access_log();
}

#[tokio::test(flavor = "multi_thread")]
async fn token_without_a_key_id_needs_exactly_one_key_that_fits() {
    let issuer_key = SigningKey::p256("one");
    let issuer = Issuer::start_with(issuer_key).await;
    let other = issuer.publish(SigningKey::rsa("two"));
    let world = World::start_with(|yaml| yaml.issuer("other", &issuer)).await;
    let status = |token: String| {
        let url = world.url("/orders/7");
        async move { Caller::new().get_with_token(&url, &token).await.status }
    };
    let anonymous = |key| {
        issuer
            .token_signed_by(key)
            .scope("orders:read")
            .without_header("kid")
            .sign()
    };
    assert_eq!(status(anonymous(issuer.key())).await, 200, "one P-256 key");
    assert_eq!(status(anonymous(&other)).await, 200, "one RSA key");
    let stranger = Arc::new(SigningKey::p256("stranger"));
    assert_eq!(status(anonymous(&stranger)).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn header_parameters_that_change_the_meaning_are_refused() {
    let world = World::start().await;
    let good = world.issuer.token().scope("orders:read");
    let cases = [
        (
            "crit",
            good.clone()
                .header("crit", json!(["bork"]))
                .header("bork", json!(1)),
        ),
        ("crit empty", good.clone().header("crit", json!([]))),
        (
            "crit with exp",
            good.clone()
                .header("crit", json!(["exp"]))
                .header("exp", json!(1)),
        ),
        ("crit no list", good.clone().header("crit", json!("bork"))),
        (
            "b64",
            good.clone()
                .header("b64", json!(false))
                .header("crit", json!(["b64"])),
        ),
        ("b64 alone", good.clone().header("b64", json!(false))),
        ("b64 true", good.clone().header("b64", json!(true))),
        ("zip", good.clone().header("zip", json!("DEF"))),
        ("enc", good.clone().header("enc", json!("A256GCM"))),
        ("nested", good.clone().header("cty", json!("JWT"))),
    ];
    let mut tokens: Vec<_> = cases
        .iter()
        .map(|(name, token)| ((*name).to_owned(), token.sign()))
        .collect();
    let inner = good.sign();
    let nested = good.clone().header("cty", json!("JWT"));
    let header = nested.header_json();
    tokens.push((
        "nested whole".to_owned(),
        nested.sign_raw(header.as_bytes(), inner.as_bytes()),
    ));
    // RFC 7797: the payload as it is.
    let unencoded = good
        .clone()
        .header("b64", json!(false))
        .header("crit", json!(["b64"]));
    let header = base64url(unencoded.header_json());
    let payload = unencoded.claims_json().replace('.', "");
    let input = format!("{header}.{payload}");
    let signature = world.issuer.key().sign("RS256", input.as_bytes());
    let token = format!("{header}.{}.{}", base64url(payload), base64url(signature));
    tokens.push(("unencoded payload".to_owned(), token));
    assert_all_invalid(&world, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_token_is_refused_without_work() {
    let world = World::start().await;
    let part = base64url(vec![b'x'; 300]);
    let mut tokens = Vec::new();
    for header in [
        json!({"alg": "RSA-OAEP", "enc": "A256GCM", "cty": "JWT", "kid": "first"}),
        json!({"alg": "PBES2-HS512+A256KW", "enc": "A256GCM", "p2c": 2_147_483_647, "p2s": "AAAA"}),
        json!({"alg": "dir", "enc": "A128CBC-HS256", "zip": "DEF"}),
        json!({"alg": "none", "enc": "none"}),
        json!({"alg": "RS256", "typ": "at+jwt", "kid": "first"}),
    ] {
        let header = base64url(header.to_string());
        tokens.push((
            header.clone(),
            format!("{header}.{part}.{part}.{part}.{part}"),
        ));
        tokens.push((header.clone(), format!("{header}..{part}.{part}.{part}")));
    }
    let started = tokio::time::Instant::now();
    assert_all_invalid(&world, tokens).await;
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn token_of_another_shape_is_refused() {
    let world = World::start().await;
    let token = world.token("orders:read");
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("three parts")
    };
    let tokens = [
        header.to_owned(),
        format!("{header}.{claims}"),
        format!("{token}.{signature}"),
        format!("{token}.{header}.{claims}.{signature}"),
        format!(".{token}"),
        format!("{token}."),
        format!("{header}..{claims}.{signature}"),
        format!(".{claims}.{signature}"),
        format!("{header}..{signature}"),
        "..".to_owned(),
        "...".to_owned(),
        ".".repeat(10_000),
        "a.".repeat(5_000),
        "opaque-token".to_owned(),
        format!("{token}="),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}=.{signature}"),
        token.replacen('.', "%2E", 1),
        format!("{header}.{}+/.{signature}", &claims[..claims.len() - 2]),
        format!("{header}.{claims}.{signature}AAAA"),
        format!("{header}.{claims}.{}", &signature[..signature.len() - 2]),
    ];
    let tokens = tokens
        .into_iter()
        .map(|token| (format!("{token:.60}"), token))
        .collect();
    assert_all_invalid(&world, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bit_of_a_signed_token_can_change() {
    let world = World::start().await;
    let key = world.issuer.publish(SigningKey::p256("second"));
    let token = world
        .issuer
        .token_signed_by(&key)
        .scope("orders:read")
        .sign();
    portcullis_e2e::eventually("the new key", || async {
        let answer = Caller::new()
            .get_with_token(&world.url("/orders/7"), &token)
            .await;
        (answer.status == 200).then_some(())
    })
    .await;
    world.service.forget();
    let mut tokens = Vec::new();
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        if bytes[at] == b'.' {
            continue;
        }
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        tokens.push((format!("byte {at}"), changed));
    }
    assert_all_invalid(&world, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn degenerate_ecdsa_signatures_are_refused() {
    let world = World::start().await;
    let key = world.issuer.publish(SigningKey::p256("second"));
    let good = world.issuer.token_signed_by(&key).scope("orders:read");
    // The order of P-256 (FIPS 186-5).
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let zero = [0; 32];
    let mut one = [0; 32];
    one[31] = 1;
    let pairs = [
        (zero, zero),
        (zero, one),
        (one, zero),
        (order, one),
        (one, order),
        (order, order),
        ([0xff; 32], [0xff; 32]),
        (one, one),
    ];
    let mut tokens: Vec<_> = pairs
        .into_iter()
        .enumerate()
        .map(|(n, (r, s))| {
            (
                format!("pair {n}"),
                good.with_signature(|_| [r, s].concat()),
            )
        })
        .collect();
    // The same good signature in the encoding of X.509 (RFC 7518 §3.4 wants r || s).
    let der = good.with_signature(|input| {
        let raw = key.sign("ES256", input);
        let integer = |bytes: &[u8]| {
            let mut value: Vec<u8> = bytes.iter().copied().skip_while(|b| *b == 0).collect();
            if value[0] >= 0x80 {
                value.insert(0, 0);
            }
            [vec![2, value.len() as u8], value].concat()
        };
        let content = [integer(&raw[..32]), integer(&raw[32..])].concat();
        [vec![0x30, content.len() as u8], content].concat()
    });
    tokens.push(("DER".to_owned(), der));
    assert_all_invalid(&world, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_two_parsers_could_read_differently_is_refused() {
    let world = World::start().await;
    let good = world.issuer.token().scope("orders:read");
    let header = good.header_json();
    let claims = good.claims_json();
    let open = claims.strip_suffix('}').unwrap();
    let open_header = header.strip_suffix('}').unwrap();
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let mut tokens = Vec::new();
    let mut add = |name: &str, header: &[u8], payload: &[u8]| {
        tokens.push((name.to_owned(), good.sign_raw(header, payload)));
    };
    for (name, payload) in [
        ("two exp", format!("{open},\"exp\":9999999999}}")),
        ("two scope", format!("{open},\"scope\":\"orders:admin\"}}")),
        ("two sub", format!("{open},\"sub\":\"root\"}}")),
        ("two aud", format!("{open},\"aud\":\"other\"}}")),
        (
            "escaped second sub",
            format!("{open},\"\\u0073ub\":\"root\"}}"),
        ),
        (
            "two of another claim",
            format!("{open},\"tenant\":\"a\",\"tenant\":\"b\"}}"),
        ),
        ("a string", format!("{claims:?}")),
        ("a number", "42".to_owned()),
        ("null", "null".to_owned()),
        ("true", "true".to_owned()),
        ("a list", format!("[{claims}]")),
        ("trailing object", format!("{claims}{{}}")),
        ("byte order mark", format!("\u{feff}{claims}")),
        ("lone surrogate", format!("{open},\"x\":\"\\ud800\"}}")),
        ("trailing comma", format!("{open},}}")),
        ("comment", format!("/* */{claims}")),
        ("not a number", format!("{open},\"x\":NaN}}")),
        ("deep", format!("{open},\"x\":{}}}", deep(200))),
        ("very deep", format!("{open},\"x\":{}}}", deep(4_000))),
        ("empty", String::new()),
    ] {
        add(name, header.as_bytes(), payload.as_bytes());
    }
    add(
        "not UTF-8",
        header.as_bytes(),
        &[open.as_bytes(), b",\"x\":\"\xff\"}"].concat(),
    );
    add(
        "overlong UTF-8",
        header.as_bytes(),
        &[open.as_bytes(), b",\"x\":\"\xc0\xaf\"}"].concat(),
    );
    for (name, header) in [
        (
            "alg twice, none first",
            format!("{{\"alg\":\"none\",{}", &header[1..]),
        ),
        (
            "alg twice, none last",
            format!("{open_header},\"alg\":\"none\"}}"),
        ),
        ("kid twice", format!("{open_header},\"kid\":\"evil\"}}")),
        ("typ twice", format!("{open_header},\"typ\":\"JWT\"}}")),
        ("header list", format!("[{header}]")),
        ("header null", "null".to_owned()),
        ("header with trailing object", format!("{header}{{}}")),
        (
            "header deep",
            format!("{open_header},\"x\":{}}}", deep(4_000)),
        ),
        ("header empty", String::new()),
    ] {
        add(name, header.as_bytes(), claims.as_bytes());
    }
    assert_all_invalid(&world, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_exactly_what_they_must_be() {
    let world = World::start().await;
    let good = world.issuer.token().scope("orders:read");
    let now = unix_now();
    let issuer = world.issuer.issuer();
    let audience = portcullis_e2e::AUDIENCE;
    let mut cases: Vec<(&str, Value)> = Vec::new();
    for value in [
        json!(null),
        json!(42),
        json!({}),
        json!(""),
        json!([issuer]),
        json!(["https://evil.example", issuer]),
        json!(format!("{issuer}/")),
        json!(format!("{issuer}.evil.example")),
        json!(issuer.to_uppercase()),
        json!(issuer.replace("http", "https")),
        json!(&issuer[..issuer.len() - 1]),
        json!(format!(" {issuer}")),
    ] {
        cases.push(("iss", value));
    }
    for value in [
        json!(null),
        json!(42),
        json!({}),
        json!(true),
        json!([]),
        json!(""),
        json!([[audience]]),
        json!([audience, 42]),
        json!("https://api.acme.example.evil"),
        json!("https://api.acme.exampl"),
        json!("HTTPS://API.ACME.EXAMPLE"),
        json!("https://api.acme.example/"),
        json!(format!("{audience} other")),
        json!(["other", "https://billing.acme.example"]),
        json!("orders-client"),
    ] {
        cases.push(("aud", value));
    }
    for name in ["exp", "nbf", "iat"] {
        for value in [
            json!((now + 300).to_string()),
            json!(true),
            json!([now]),
            json!({}),
            json!(null),
        ] {
            cases.push((name, value));
        }
    }
    cases.push(("exp", json!(now - 31)));
    cases.push(("exp", json!(0)));
    cases.push(("exp", json!(-1)));
    cases.push(("exp", json!(1e300)));
    cases.push(("nbf", json!(now + 120)));
    cases.push(("iat", json!(now + 120)));
    for value in [
        json!(null),
        json!(""),
        json!(7),
        json!({}),
        json!(["alice"]),
    ] {
        cases.push(("sub", value));
    }
    for value in [json!(7), json!(true), json!({}), json!(null)] {
        cases.push(("scope", value));
    }
    let mut tokens: Vec<_> = cases
        .into_iter()
        .map(|(name, value)| {
            (
                format!("{name}: {value}"),
                good.clone().claim(name, value).sign(),
            )
        })
        .collect();
    for name in ["iss", "aud", "exp", "sub"] {
        tokens.push((
            format!("no {name}"),
            good.clone().without_claim(name).sign(),
        ));
    }
    assert_all_invalid(&world, tokens).await;

    for (name, token) in [
        (
            "aud in a list",
            good.clone().claim("aud", json!(["other", audience])),
        ),
        ("just expired", good.clone().claim("exp", json!(now - 10))),
        ("almost valid", good.clone().claim("nbf", json!(now + 10))),
        ("with nbf", good.clone().claim("nbf", json!(now - 10))),
    ] {
        let answer = Caller::new()
            .get_with_token(&world.url("/orders/7"), &token.sign())
            .await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn token_of_another_kind_is_no_access_token() {
    let world = World::start().await;
    let good = world.issuer.token().scope("orders:read");
    let mut tokens: Vec<_> = [
        "JWT",
        "logout+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "oauth-authz-req+jwt",
        "JOSE",
        "",
        "token-introspection+jwt",
        "refresh+jwt",
        "at+jwt ",
        "at",
        "application/jwt",
        "id+jwt",
    ]
    .into_iter()
    .map(|kind| {
        (
            kind.to_owned(),
            good.clone().header("typ", json!(kind)).sign(),
        )
    })
    .collect();
    tokens.push((
        "typ number".to_owned(),
        good.clone().header("typ", json!(1)).sign(),
    ));
    tokens.push((
        "no typ".to_owned(),
        good.clone().without_header("typ").sign(),
    ));
    assert_all_invalid(&world, tokens).await;
    for kind in [
        "at+jwt",
        "AT+JWT",
        "application/at+jwt",
        "Application/At+JWT",
    ] {
        let token = good.clone().header("typ", json!(kind)).sign();
        let answer = Caller::new()
            .get_with_token(&world.url("/orders/7"), &token)
            .await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lax_profile_still_refuses_what_looks_like_another_kind_of_token() {
    let issuer = Issuer::start_with(SigningKey::p256("lax")).await;
    let world = World::start_with(|yaml| {
        yaml.issuer_flow(&format!(
            "name: lax, issuer: \"{}\", audiences: [\"https://api.acme.example\"], \
             keys: {{ url: \"{}\" }}, token_profile: jwt",
            issuer.issuer(),
            issuer.key_set_url()
        ))
    })
    .await;
    let good = issuer.token().scope("orders:read");
    for (name, token) in [
        ("JWT", good.clone().header("typ", json!("JWT"))),
        ("none", good.clone().without_header("typ")),
        ("at+jwt", good.clone()),
    ] {
        let answer = Caller::new()
            .get_with_token(&world.url("/orders/7"), &token.sign())
            .await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
    world.service.forget();
    let plain = good.header("typ", json!("JWT"));
    let tokens = [
        ("nonce", plain.clone().claim("nonce", json!("n"))),
        ("at_hash", plain.clone().claim("at_hash", json!("h"))),
        ("c_hash", plain.clone().claim("c_hash", json!("h"))),
        (
            "events",
            plain.clone().claim(
                "events",
                json!({"http://schemas.openid.net/event/backchannel-logout": {}}),
            ),
        ),
        ("refresh", plain.clone().header("typ", json!("refresh+jwt"))),
        (
            "Keycloak refresh",
            plain.clone().claim("typ", json!("Refresh")),
        ),
        ("Keycloak ID", plain.clone().claim("typ", json!("ID"))),
        (
            "token_use",
            plain.clone().claim("token_use", json!("refresh")),
        ),
        (
            "token_use id",
            plain.clone().claim("token_use", json!("id")),
        ),
        ("logout", plain.header("typ", json!("logout+jwt"))),
    ];
    let tokens = tokens
        .into_iter()
        .map(|(name, token)| (name.to_owned(), token.sign()))
        .collect();
    assert_all_invalid(&world, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_bounded_before_anything_is_computed() {
    let world = World::start().await;
    let padded = |size: usize| {
        let bare = world
            .issuer
            .token()
            .scope("orders:read")
            .claim("pad", json!(""))
            .sign();
        let padding = "x".repeat((size.saturating_sub(bare.len())) * 3 / 4);
        world
            .issuer
            .token()
            .scope("orders:read")
            .claim("pad", json!(padding))
            .sign()
    };
    let ok = padded(16_000);
    assert!(ok.len() <= 16 << 10, "{}", ok.len());
    let answer = Caller::new()
        .get_with_token(&world.url("/orders/7"), &ok)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    world.service.forget();
    for size in [17_000, 30_000, 100_000, 1 << 20] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let text = request("GET", "/orders/7", &[&bearer(&padded(size))]);
        // The other side may stop reading in the middle of this.
        let _ = connection.try_send(text).await;
        let response = connection.read_response_or_close().await;
        let status = response.map(|response| response.status);
        assert!(
            matches!(status, None | Some(400 | 401 | 431)),
            "{size}: {status:?}"
        );
    }
    world.service.assert_untouched();
    assert_alive(&world).await;
}

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

/// What the gateway answers before it closes, or goes on waiting for more.
async fn statuses(world: &World, bytes: &[u8]) -> Vec<u16> {
    let mut connection = Connection::open(world.gateway.address("public")).await;
    // The other side may stop reading in the middle of this.
    let _ = connection.try_send(bytes).await;
    // An error is a connection that is closed already.
    let mut statuses = Vec::new();
    let reading = async {
        while let Some(response) = connection.read_response_or_close().await {
            statuses.push(response.status);
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), reading).await;
    statuses
}

const SMUGGLED: &str = "GET /public/smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn framing_that_two_parsers_could_read_differently_is_refused() {
    let world = World::start().await;
    let length = SMUGGLED.len();
    let inner = format!("0\r\n\r\n{SMUGGLED}");
    let framings = [
        format!(
            "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n{inner}",
            inner.len()
        ),
        format!("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{inner}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n{inner}"),
        format!("Transfer-Encoding: identity, chunked\r\n\r\n{inner}"),
        format!("Transfer-Encoding: gzip, chunked\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked, chunked\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n{inner}"),
        format!("Transfer-Encoding: \u{b}chunked\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\u{0}\r\n\r\n{inner}"),
        format!("Transfer-Encoding: \"chunked\"\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked;q=1\r\n\r\n{inner}"),
        format!("Transfer-Encoding : chunked\r\n\r\n{inner}"),
        format!(" Transfer-Encoding: chunked\r\n\r\n{inner}"),
        format!("Transfer-Encoding:\r\n chunked\r\n\r\n{inner}"),
        format!("Transfer-Encoding:\r\n\r\n{inner}"),
        format!("Content-Length: {length}\r\nContent-Length: 0\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: 0, {length}\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: +{length}\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: -{length}\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: 0x10\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: 5.0\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: 5 5\r\n\r\n{SMUGGLED}"),
        format!("Content-Length:\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: 18446744073709551616\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: \u{665}\r\n\r\n{SMUGGLED}"),
        format!("Content-Length : {length}\r\n\r\n{SMUGGLED}"),
    ];
    for framing in framings {
        let text = format!("POST /public/x HTTP/1.1\r\nHost: h\r\n{framing}");
        let statuses = statuses(&world, text.as_bytes()).await;
        assert!(
            matches!(statuses[..], [] | [400]),
            "{framing:?}: {statuses:?}"
        );
    }
    world.service.assert_untouched();
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_that_two_parsers_could_read_differently_is_refused() {
    let world = World::start().await;
    let mut heads: Vec<String> = vec![
        "GET /public/x HTTP/1.1\nHost: h\n\n".into(),
        "GET /public/x HTTP/1.1\r\nHost: h\n\r\n".into(),
        "GET /public/x HTTP/1.1\r\nHost: h\r\n\n".into(),
        "GET /public/x HTTP/1.1\nHost: h\r\n\r\n".into(),
        "GET /public/x HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n".into(),
        "GET /public/x HTTP/1.1\r\nHost: h\r\nX: a\u{0}b\r\n\r\n".into(),
        "GET /public/x HTTP/1.1\r\nHost: h\r\n: empty name\r\n\r\n".into(),
        "GET /public/x HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n".into(),
        "GET /public/x HTTP/1.1\r\nHost: h\r\nX\u{a0}: a\r\n\r\n".into(),
        "GET /public/x HTTP/1.1\r\nHost: h\r\nX Y: a\r\n\r\n".into(),
        "GET /public/x HTTP/1.1\r\n Host: h\r\n\r\n".into(),
        "GET /public/x HTTP/1.1 junk\r\nHost: h\r\n\r\n".into(),
        "GET /public/x  HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "GET  /public/x HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        "GET /public/x HTTP/2.0\r\nHost: h\r\n\r\n".into(),
        "GET /public/x HTTP/1.2\r\nHost: h\r\n\r\n".into(),
        "GET /public/x http/1.1\r\nHost: h\r\n\r\n".into(),
        "GET /public/x\r\n\r\n".into(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
        "POST /public/x HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
    ];
    for field in ["Host", "Authorization", "Content-Length", "X-User-ID", "X"] {
        heads.push(format!(
            "GET /public/x HTTP/1.1\r\nHost: h\r\n{field}: a\r\n b\r\n\r\n"
        ));
        heads.push(format!(
            "GET /public/x HTTP/1.1\r\nHost: h\r\n{field}: a\r\n\tb\r\n\r\n"
        ));
        heads.push(format!(
            "GET /public/x HTTP/1.1\r\nHost: h\r\n{field} : a\r\n\r\n"
        ));
        heads.push(format!(
            "GET /public/x HTTP/1.1\r\nHost: h\r\n\t{field}: a\r\n\r\n"
        ));
    }
    for head in heads {
        let statuses = statuses(&world, head.as_bytes()).await;
        assert!(
            matches!(statuses[..], [] | [400] | [505]),
            "{head:?}: {statuses:?}"
        );
    }
    world.service.assert_untouched();
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_chunks_never_become_a_second_request() {
    let world = World::start().await;
    for chunks in [
        format!("{:x}0000000000000000\r\n{SMUGGLED}", 1),
        format!("+5\r\nhello\r\n0\r\n\r\n{SMUGGLED}"),
        format!("0x5\r\nhello\r\n0\r\n\r\n{SMUGGLED}"),
        format!("-1\r\nhello\r\n0\r\n\r\n{SMUGGLED}"),
        format!("5\nhello\n0\n\n{SMUGGLED}"),
        format!("5\r\nhello0\r\n\r\n{SMUGGLED}"),
        format!("5\r\nhelloXX0\r\n\r\n{SMUGGLED}"),
        format!("zz\r\nhello\r\n0\r\n\r\n{SMUGGLED}"),
        format!("\r\n0\r\n\r\n{SMUGGLED}"),
        format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000)),
    ] {
        let text = format!(
            "POST /public/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
        );
        statuses(&world, text.as_bytes()).await;
        for received in world.service.requests() {
            assert_ne!(received.target, "/public/smuggled", "{chunks:.60?}");
        }
    }
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn body_reaches_the_service_in_one_plain_framing() {
    let world = World::start().await;
    for (lines, body) in [
        ("Content-Length: 5", "hello"),
        ("Content-Length: 5\r\nContent-Length: 5", "hello"),
        (
            "Transfer-Encoding: chunked",
            "2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX-T: 1\r\n\r\n",
        ),
        ("transfer-encoding: Chunked", "5\r\nhello\r\n0\r\n\r\n"),
    ] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        let head = format!("POST /public/x HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n");
        let response = connection.request(head + body).await;
        if response.status == 400 {
            assert!(lines.matches("Content-Length").count() == 2, "{lines}");
            continue;
        }
        assert_eq!(response.status, 200, "{lines}");
        let received = world.service.last_request();
        assert_eq!(received.body, b"hello", "{lines}");
        let framings =
            received.headers("content-length").len() + received.headers("transfer-encoding").len();
        assert_eq!(framings, 1, "{lines}: {}", received.head_text());
        assert!(received.trailers.is_empty(), "{lines}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_a_caller_sends_is_bounded() {
    let world = World::start().await;
    let mut many = String::from("GET /public/x HTTP/1.1\r\nHost: h\r\n");
    for n in 0..101 {
        write!(many, "X-{n}: a\r\n").unwrap();
    }
    let long = "a".repeat(9_000);
    let cases = [
        ("many headers", many + "\r\n", &[400, 431][..]),
        (
            "long header",
            format!(
                "GET /public/x HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
                "a".repeat(40_000)
            ),
            &[400, 431],
        ),
        (
            "long target",
            format!("GET /public/{long} HTTP/1.1\r\nHost: h\r\n\r\n"),
            &[400, 414],
        ),
        (
            "long query",
            format!("GET /public/x?{long} HTTP/1.1\r\nHost: h\r\n\r\n"),
            &[400, 414],
        ),
        (
            "very long target",
            format!("GET /public/{} HTTP/1.1\r\n", "a".repeat(70_000)),
            &[400, 414],
        ),
        (
            "long method",
            format!("{long} /public/x HTTP/1.1\r\nHost: h\r\n\r\n"),
            &[400, 405, 431],
        ),
        (
            "many segments",
            format!(
                "GET /public{} HTTP/1.1\r\nHost: h\r\n\r\n",
                "/a".repeat(3_000)
            ),
            &[200, 414],
        ),
        (
            "many dots",
            format!(
                "GET /public{} HTTP/1.1\r\nHost: h\r\n\r\n",
                "/..".repeat(1_000)
            ),
            &[400],
        ),
    ];
    for (name, text, allowed) in cases {
        let statuses = statuses(&world, text.as_bytes()).await;
        let is_allowed = statuses.iter().all(|status| allowed.contains(status));
        assert!(is_allowed && statuses.len() <= 1, "{name}: {statuses:?}");
    }
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_head_is_cut_off_at_its_deadline_on_every_request_of_a_connection() {
    let world = World::start_with(|yaml| yaml.section("limits: { header_timeout: 1s }")).await;
    for earlier_requests in [0, 1] {
        let mut connection = Connection::open(world.gateway.address("public")).await;
        for _ in 0..earlier_requests {
            let response = connection
                .request(request("GET", "/orders/health", &[]))
                .await;
            assert_eq!(response.status, 200);
        }
        let started = tokio::time::Instant::now();
        let trickle = async {
            for byte in request("GET", "/orders/health", &["X: y"]).bytes() {
                if connection.try_send([byte]).await.is_err() {
                    return;
                }
                if connection
                    .is_closed_within(Duration::from_millis(200))
                    .await
                {
                    return;
                }
            }
        };
        trickle.await;
        let took = started.elapsed();
        assert!(
            took < Duration::from_secs(5),
            "after {earlier_requests}: {took:?}"
        );
    }
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_idle_connections_are_closed() {
    let world = World::start_with(|yaml| {
        yaml.section("limits: { header_timeout: 1s, idle_timeout: 1s, body_timeout: 1s }")
    })
    .await;
    let address = world.gateway.address("public");
    let mut silent = Connection::open(address).await;
    let mut idle = Connection::open(address).await;
    assert_eq!(
        idle.request(request("GET", "/orders/health", &[]))
            .await
            .status,
        200
    );
    let mut half = Connection::open(address).await;
    half.send("GET /orders/health HTTP/1.1\r\nHost: h\r\n")
        .await;
    let mut upload = Connection::open(address).await;
    upload
        .send(request("POST", "/public/x", &["Content-Length: 100"]) + "half")
        .await;
    for (name, connection) in [("silent", &mut silent), ("idle", &mut idle)] {
        assert!(
            connection.is_closed_within(Duration::from_secs(5)).await,
            "{name}"
        );
    }
    for (name, mut connection) in [("half a head", half), ("half a body", upload)] {
        let ended = tokio::time::timeout(Duration::from_secs(5), connection.read_to_end()).await;
        assert!(ended.is_ok(), "{name}");
    }
    assert_alive(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_key_ids_by_the_hundred_cost_the_issuer_next_to_nothing() {
    let world = World::start().await;
    let before = world.issuer.key_set_fetches();
    let tokens = (0..300)
        .map(|n| {
            let token = world
                .issuer
                .token()
                .header("kid", json!(format!("made-up-{n}")));
            (format!("{n}"), token.sign())
        })
        .collect();
    assert_all_invalid(&world, tokens).await;
    let fetches = world.issuer.key_set_fetches() - before;
    assert!(fetches <= 2, "{fetches} fetches");
}

//! Signatures, algorithms and keys (RFC 7515, RFC 8725).

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use portcullis_e2e::{Caller, Issuer, IssuerAnswer, SigningKey, World};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{assert_all_invalid, base64url};

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

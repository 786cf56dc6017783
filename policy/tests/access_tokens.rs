//! From a compact token to a verdict, with tokens signed by `jsonwebtoken`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests fail by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use portcullis_policy::*;
use serde_json::{Value, json};

const NOW: i64 = 1_700_000_000;

struct World {
    key: EcdsaKeyPair,
    keys: KeySet,
    issuers: IssuerSet,
    scopes: ScopeRegistry,
}

impl World {
    fn new(profile: TokenProfile) -> Self {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .unwrap();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).unwrap();
        let point = key.public_key().as_ref();
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": "k1", "use": "sig",
            "x": B64.encode(&point[1..33]), "y": B64.encode(&point[33..])});
        let oct = json!({"kty": "oct", "kid": "secret", "k": "AAAA"});
        let keys = KeySet::parse(
            json!({"keys": [jwk, oct, {"kty": "new"}]})
                .to_string()
                .as_bytes(),
        )
        .unwrap();
        assert_eq!((keys.len(), keys.skipped()), (1, 2));
        let issuer = Issuer {
            name: "acme".into(),
            issuer: "https://acme.example".into(),
            audiences: vec!["api".into()],
            algorithms: vec![Algorithm::ES256],
            profile,
            scope_claim: ScopeClaim::Scope,
            leeway: Duration::from_secs(30),
        };
        let scopes = ScopeRegistry::new([
            "orders:read".parse().unwrap(),
            "orders:write".parse().unwrap(),
        ]);
        Self {
            key,
            keys,
            issuers: IssuerSet::new(vec![issuer]),
            scopes,
        }
    }

    fn sign(&self, header: &str, payload: &str) -> String {
        let input = format!("{}.{}", B64.encode(header), B64.encode(payload));
        let signature = self
            .key
            .sign(&SystemRandom::new(), input.as_bytes())
            .unwrap();
        format!("{input}.{}", B64.encode(signature))
    }

    fn verify(&self, token: &str) -> Result<Arc<Principal>, Denial> {
        let token = PresentedToken::parse(token)?;
        let issuer = token.issuer(&self.issuers)?;
        let verified = token.verify(issuer, &self.keys, UnixTime::from_seconds(NOW))?;
        Principal::new(&verified, &IdentityHeaders::default(), &self.scopes).map(Arc::new)
    }

    fn verify_claims(&self, claims: &Value) -> Result<Arc<Principal>, Denial> {
        self.verify(&self.sign(HEADER, &claims.to_string()))
    }

    fn route(&self, scope: &str) -> Arc<Route> {
        let scopes = RequiredScopes::all(&self.scopes, &[scope.parse().unwrap()]).unwrap();
        Arc::new(Route {
            id: RouteId::from_index(0),
            name: "orders".into(),
            owner: "team".into(),
            host: None,
            path: "/orders".parse().unwrap(),
            methods: MethodSet::ALL,
            access: Access::Protected(Requirement {
                scopes,
                issuers: None,
            }),
        })
    }
}

const HEADER: &str = r#"{"alg":"ES256","typ":"at+jwt","kid":"k1"}"#;

fn claims() -> Value {
    json!({"iss": "https://acme.example", "aud": "api", "sub": "alice", "client_id": "app",
        "scope": "orders:read profile", "iat": NOW, "exp": NOW + 300})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

#[test]
fn a_good_token_yields_a_permit_where_its_scopes_suffice() {
    let world = World::new(TokenProfile::Rfc9068);
    let principal = world.verify_claims(&claims()).unwrap();
    let now = UnixTime::from_seconds(NOW);
    assert!(decide(&world.route("orders:read"), Some(&principal), now).is_ok());
    let denial = decide(&world.route("orders:write"), Some(&principal), now).unwrap_err();
    assert_eq!(
        challenge(&denial, "portcullis").unwrap(),
        r#"Bearer realm="portcullis", error="insufficient_scope", scope="orders:write""#
    );
    let denial = decide(&world.route("orders:read"), None, now).unwrap_err();
    assert_eq!(
        challenge(&denial, "portcullis").unwrap(),
        r#"Bearer realm="portcullis""#
    );
    let later = UnixTime::from_seconds(NOW + 330);
    assert_eq!(
        decide(&world.route("orders:read"), Some(&principal), later).unwrap_err(),
        Denial::TokenExpired
    );
    let identity: Vec<_> = principal
        .identity()
        .iter()
        .map(|(n, v)| (n.as_str(), v.to_str().unwrap()))
        .collect();
    assert_eq!(
        identity,
        [
            ("x-user-id", "alice"),
            ("x-scopes", "orders:read profile"),
            ("x-client-id", "app")
        ]
    );
}

#[test]
fn one_wrong_claim_is_enough_to_be_refused() {
    let world = World::new(TokenProfile::Rfc9068);
    for (name, value, code) in [
        ("iss", json!("https://acme.example/"), "issuer_unknown"),
        (
            "iss",
            json!(["https://acme.example"]),
            "token_claim_invalid",
        ),
        ("aud", json!("api-admin"), "token_audience_mismatch"),
        ("aud", json!([]), "token_audience_mismatch"),
        ("aud", json!(42), "token_claim_invalid"),
        ("aud", json!([["api"]]), "token_claim_invalid"),
        ("exp", json!(NOW - 30), "token_expired"),
        ("exp", json!("9999999999"), "token_claim_invalid"),
        ("exp", json!(1e300), "token_claim_invalid"),
        ("exp", Value::Null, "token_claim_invalid"),
        ("nbf", json!(NOW + 31), "token_not_yet_valid"),
        ("iat", json!(NOW + 31), "token_not_yet_valid"),
        ("iat", json!("now"), "token_claim_invalid"),
        ("sub", json!(""), "token_claim_invalid"),
        ("sub", json!(7), "token_claim_invalid"),
        (
            "sub",
            json!("a\r\nX-Admin: 1"),
            "token_claim_unrepresentable",
        ),
        ("scope", json!(["orders:read"]), "token_claim_invalid"),
        ("scope", json!("a\tb"), "token_claim_invalid"),
    ] {
        let denial = world
            .verify_claims(&with(name, value.clone()))
            .err()
            .map(|denial| denial.code());
        assert_eq!(denial, Some(code), "{name}: {value}");
    }
    for name in ["iss", "aud", "exp", "sub"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        assert_eq!(
            world.verify_claims(&claims).err().map(|d| d.code()),
            Some("token_claim_invalid"),
            "{name}"
        );
    }
    let mut late = with("exp", json!(NOW - 29));
    late["iat"] = json!(NOW - 300);
    assert!(
        world.verify_claims(&late).is_ok(),
        "an expiry within the leeway"
    );
    let mut brief = with("exp", json!(NOW + 20));
    brief["iat"] = json!(NOW + 20);
    assert!(world.verify_claims(&brief).is_ok(), "issued as it expires");
    for (name, value) in [("nbf", json!(NOW + 30)), ("aud", json!(["x", "api"]))] {
        assert!(
            world.verify_claims(&with(name, value.clone())).is_ok(),
            "{name}: {value}"
        );
    }
}

#[test]
fn a_hostile_header_is_refused_before_any_key_is_used() {
    let world = World::new(TokenProfile::Rfc9068);
    for (header, code) in [
        (
            r#"{"alg":"none","typ":"at+jwt"}"#,
            "token_algorithm_refused",
        ),
        (
            r#"{"alg":"HS256","typ":"at+jwt","kid":"k1"}"#,
            "token_algorithm_refused",
        ),
        (
            r#"{"alg":"RS256","typ":"at+jwt","kid":"k1"}"#,
            "token_algorithm_refused",
        ),
        (
            r#"{"alg":["ES256"],"typ":"at+jwt","kid":"k1"}"#,
            "token_algorithm_refused",
        ),
        (
            r#"{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"k1"}"#,
            "token_malformed",
        ),
        (
            r#"{"alg":"ES256","typ":"at+jwt","kid":"k1","crit":["x"],"x":1}"#,
            "token_header_refused",
        ),
        (
            r#"{"alg":"ES256","typ":"at+jwt","kid":"k1","jku":"https://evil.example"}"#,
            "token_header_refused",
        ),
        (
            r#"{"alg":"ES256","typ":"at+jwt","kid":"k1","b64":false}"#,
            "token_header_refused",
        ),
        (
            r#"{"alg":"ES256","typ":"at+jwt","kid":"other"}"#,
            "token_key_unknown",
        ),
        (
            r#"{"alg":"ES256","typ":"at+jwt","kid":"secret"}"#,
            "token_key_unknown",
        ),
        (
            r#"{"alg":"ES256","typ":"JWT","kid":"k1"}"#,
            "token_type_refused",
        ),
        (r#"{"alg":"ES256","kid":"k1"}"#, "token_type_refused"),
        (
            r#"{"alg":"ES256","typ":"implication/at+jwt","kid":"k1"}"#,
            "token_type_refused",
        ),
        (
            r#"{"alg":"ES256","typ":"dpop+jwt","kid":"k1"}"#,
            "token_type_refused",
        ),
        ("true", "token_malformed"),
    ] {
        let denial = world
            .verify(&world.sign(header, &claims().to_string()))
            .err()
            .map(|denial| denial.code());
        assert_eq!(denial, Some(code), "{header}");
    }
    for header in [
        r#"{"alg":"ES256","typ":"application/at+jwt","kid":"k1"}"#,
        r#"{"alg":"ES256","typ":"AT+JWT"}"#,
    ] {
        assert!(
            world
                .verify(&world.sign(header, &claims().to_string()))
                .is_ok(),
            "{header}"
        );
    }
}

#[test]
fn an_issuer_has_the_algorithms_that_it_was_given_whatever_keys_it_publishes() {
    let mut world = World::new(TokenProfile::Rfc9068);
    let token = world.sign(HEADER, &claims().to_string());
    assert_eq!(
        PresentedToken::parse(&token).unwrap().key_id(),
        Some("k1"),
        "by which its key is found"
    );
    assert!(world.verify(&token).is_ok());
    let (_, acme) = world.issuers.find("https://acme.example").unwrap();
    let mut acme = acme.clone();
    acme.algorithms = vec![Algorithm::RS256];
    world.issuers = IssuerSet::new(vec![acme]);
    assert_eq!(
        world.verify(&token).err(),
        Some(Denial::TokenAlgorithmRefused)
    );
}

#[test]
fn the_lenient_profile_still_refuses_other_kinds_of_token() {
    let world = World::new(TokenProfile::Jwt);
    let sign = |claims: &Value| {
        world.sign(
            r#"{"alg":"ES256","typ":"JWT","kid":"k1"}"#,
            &claims.to_string(),
        )
    };
    assert!(world.verify(&sign(&claims())).is_ok());
    for (name, value) in [
        ("nonce", json!("n")),
        ("events", json!({})),
        ("typ", json!("Refresh")),
        ("token_use", json!("id")),
    ] {
        assert_eq!(
            world.verify(&sign(&with(name, value))).err(),
            Some(Denial::TokenTypeRefused),
            "{name}"
        );
    }
}

#[test]
fn any_changed_character_of_a_token_is_refused() {
    let world = World::new(TokenProfile::Rfc9068);
    let token = world.sign(HEADER, &claims().to_string());
    for position in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[position] = if changed[position] == b'A' {
            b'B'
        } else {
            b'A'
        };
        assert!(
            world
                .verify(std::str::from_utf8(&changed).unwrap())
                .is_err(),
            "byte {position}"
        );
    }
    for shape in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        &format!("{token}."),
        &format!(".{token}"),
        &format!("{token}="),
    ] {
        assert_eq!(
            world.verify(shape).err(),
            Some(Denial::TokenMalformed),
            "{shape}"
        );
    }
    let repeated = claims()
        .to_string()
        .replacen('{', r#"{"scope":"orders:write","#, 1);
    assert_eq!(
        world.verify(&world.sign(HEADER, &repeated)).err(),
        Some(Denial::TokenMalformed)
    );
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    assert_eq!(
        world.verify(&world.sign(HEADER, &deep)).err(),
        Some(Denial::TokenMalformed)
    );
}

//! Which claims make an access token. Each case changes one thing in a good token, which is signed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests fail by panicking"
)]

mod signing;

use std::time::Duration;

use portcullis_policy::*;
use serde_json::{Value, json};
use signing::{NOW, SigningKey, claims, issuer, key_set};

const REMOVED: Option<Value> = None;

struct World {
    key: SigningKey,
    keys: KeySet,
    issuers: IssuerSet,
}

impl World {
    fn new(issuer: Issuer) -> Self {
        let key = SigningKey::generate(Algorithm::EdDSA);
        Self {
            keys: key_set(std::slice::from_ref(&key)),
            key,
            issuers: IssuerSet::new(vec![issuer]),
        }
    }

    fn judge_claims(&self, claims: &str) -> &'static str {
        self.judge(&self.key.header(), claims)
    }

    /// The code of the refusal, or `accepted`.
    fn judge(&self, header: &str, claims: &str) -> &'static str {
        match self.principal(header, claims) {
            Ok(_) => "accepted",
            Err(denial) => denial.code(),
        }
    }

    fn principal(&self, header: &str, claims: &str) -> Result<Principal, Denial> {
        let signed = self.key.sign(header, claims);
        let token = PresentedToken::parse(&signed)?;
        let issuer = token.issuer(&self.issuers)?;
        let verified = token.verify(issuer, &self.keys, UnixTime::from_seconds(NOW))?;
        let scopes = ScopeRegistry::default();
        let headers = IdentityHeaders::new([
            ("x-user-id", "sub"),
            ("x-scopes", "scope"),
            ("x-client-id", "client_id"),
            ("x-extra", "extra"),
        ])
        .unwrap();
        Principal::new(&verified, &headers, &scopes)
    }

    fn assert_all(
        &self,
        table: impl IntoIterator<Item = (&'static str, Option<Value>, &'static str)>,
    ) {
        for (name, value, expected) in table {
            let mut claims = claims();
            match value.clone() {
                Some(value) => claims[name] = value,
                None => drop(claims.as_object_mut().unwrap().remove(name)),
            }
            let short = value.map(|value| value.to_string().chars().take(80).collect::<String>());
            let code = self.judge_claims(&claims.to_string());
            assert_eq!(code, expected, "{name}: {}", short.unwrap_or_default());
        }
    }
}

const ACCEPTED: &str = "accepted";
const INVALID: &str = "token_claim_invalid";

#[test]
fn what_a_token_says_of_its_client_and_itself_is_kept_for_the_record() {
    let world = World::new(issuer("acme"));
    let principal = |changes: Value| {
        let mut claims = claims();
        claims
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        let header = world.key.header();
        world.principal(&header, &claims.to_string()).unwrap()
    };
    let named = principal(json!({ "client_id": "shop", "azp": "other", "jti": "t-1" }));
    assert_eq!(
        (named.client(), named.token_id()),
        (Some("shop"), Some("t-1"))
    );
    let exp = claims()["exp"].as_i64().unwrap();
    let leeway = 30;
    assert_eq!(named.refused_from(), UnixTime::from_seconds(exp + leeway));
}

#[test]
fn a_claim_becomes_a_header_in_one_way_or_the_token_is_refused() {
    let world = World::new(issuer("acme"));
    let header_of = |extra: Value| {
        let mut claims = claims();
        claims["extra"] = extra;
        let principal = world.principal(&world.key.header(), &claims.to_string());
        principal.map(|principal| {
            let mut all = principal.identity().iter();
            let extra = all.find(|(name, _)| name == "x-extra");
            extra.map(|(_, value)| value.to_str().unwrap().to_owned())
        })
    };
    for (claim, text) in [
        (json!("eu"), Some("eu")),
        (json!("a, b"), Some("a, b")),
        (json!(true), Some("true")),
        (json!(-7), Some("-7")),
        (json!(["a"]), Some("a")),
        (json!(["a", "b c"]), Some("a,b c")),
        (json!([]), None),
        (Value::Null, None),
    ] {
        assert_eq!(
            header_of(claim.clone()),
            Ok(text.map(str::to_owned)),
            "{claim}"
        );
    }
    for claim in [
        json!(""),
        json!(" eu"),
        json!("eu "),
        json!("e\nu"),
        json!("\u{e9}"),
        json!(["a", ""]),
        json!([""]),
        json!(["a,b"]),
        json!(["a", 7]),
        json!([["a"]]),
        json!({ "a": "b" }),
        json!({}),
    ] {
        let refused = Err(Denial::TokenClaimUnrepresentable);
        assert_eq!(header_of(claim.clone()), refused, "{claim}");
    }
}

#[test]
fn client_of_a_token_without_client_id_is_its_azp() {
    let mut acme = issuer("acme");
    acme.profile = TokenProfile::Jwt;
    let world = World::new(acme);
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove("client_id");
    claims["azp"] = json!("shop");
    claims["scope"] = json!("b a b");
    let principal = world
        .principal(&world.key.header(), &claims.to_string())
        .unwrap();
    assert_eq!(
        (principal.client(), principal.token_id()),
        (Some("shop"), None)
    );
    let written: Vec<_> = principal
        .identity()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(
        written,
        [
            ("x-user-id", "alice"),
            ("x-scopes", "a b"),
            ("x-client-id", "shop")
        ]
    );
}

#[test]
fn an_issuer_is_one_string_and_equal_byte_for_byte() {
    let unknown = "issuer_unknown";
    World::new(issuer("acme")).assert_all([
        ("iss", Some(json!("https://acme.example")), ACCEPTED),
        ("iss", REMOVED, INVALID),
        ("iss", Some(Value::Null), INVALID),
        ("iss", Some(json!(42)), INVALID),
        ("iss", Some(json!({})), INVALID),
        ("iss", Some(json!(["https://acme.example"])), INVALID),
        (
            "iss",
            Some(json!(["https://evil.example", "https://acme.example"])),
            INVALID,
        ),
        ("iss", Some(json!("")), unknown),
        ("iss", Some(json!("https://acme.example/")), unknown),
        ("iss", Some(json!("https://ACME.example")), unknown),
        ("iss", Some(json!("https://acme.example:443")), unknown),
        ("iss", Some(json!("http://acme.example")), unknown),
        ("iss", Some(json!("https://acme.exampl")), unknown),
        ("iss", Some(json!("https://acme.example.evil")), unknown),
        ("iss", Some(json!(" https://acme.example")), unknown),
        ("iss", Some(json!("https://acme.example\u{0}")), unknown),
        ("iss", Some(json!("https://acme\u{ff0e}example")), unknown),
        ("iss", Some(json!("https://\u{430}cme.example")), unknown),
    ]);
}

#[test]
fn an_audience_is_a_string_or_a_list_of_strings_that_has_an_accepted_one() {
    let others = |count| {
        (0..count)
            .map(|number| format!("other-{number}"))
            .collect::<Vec<_>>()
    };
    let other = "token_audience_mismatch";
    World::new(issuer("acme")).assert_all([
        ("aud", Some(json!("api")), ACCEPTED),
        ("aud", Some(json!(["api"])), ACCEPTED),
        (
            "aud",
            Some(json!([others(10_000), vec!["api".to_owned()]].concat())),
            ACCEPTED,
        ),
        ("aud", Some(json!(others(10_000))), other),
        ("aud", Some(json!("")), other),
        ("aud", Some(json!([""])), other),
        ("aud", Some(json!([])), other),
        ("aud", Some(json!("API")), other),
        ("aud", Some(json!("ap")), other),
        ("aud", Some(json!("api ")), other),
        ("aud", Some(json!("api,other")), other),
        ("aud", Some(json!("api other")), other),
        ("aud", Some(json!("api.evil")), other),
        // A service of the same issuer.
        ("aud", Some(json!("api-admin")), other),
        ("aud", REMOVED, INVALID),
        ("aud", Some(Value::Null), INVALID),
        ("aud", Some(json!(42)), INVALID),
        ("aud", Some(json!(true)), INVALID),
        ("aud", Some(json!({"api": true})), INVALID),
        ("aud", Some(json!([["api"]])), INVALID),
        ("aud", Some(json!(["api", 42])), INVALID),
        ("aud", Some(json!(["api", null])), INVALID),
    ]);
}

#[test]
fn an_expiry_is_past_from_its_second_on_and_later_by_the_leeway() {
    for (leeway, exp, expected) in [
        (0, NOW + 1, ACCEPTED),
        (0, NOW, "token_expired"),
        (0, NOW - 1, "token_expired"),
        (30, NOW, ACCEPTED),
        (30, NOW - 29, ACCEPTED),
        (30, NOW - 30, "token_expired"),
        (30, NOW - 31, "token_expired"),
    ] {
        let issuer = Issuer {
            leeway: Duration::from_secs(leeway),
            ..issuer("acme")
        };
        let mut claims = claims();
        claims["exp"] = json!(exp);
        claims["iat"] = json!(NOW - 60);
        let code = World::new(issuer).judge_claims(&claims.to_string());
        assert_eq!(code, expected, "{leeway} {exp}");
    }
}

#[test]
fn a_token_is_not_valid_before_its_nbf_or_iat_but_for_the_leeway() {
    let early = "token_not_yet_valid";
    World::new(issuer("acme")).assert_all([
        ("nbf", Some(json!(NOW + 30)), ACCEPTED),
        ("nbf", Some(json!(NOW + 31)), early),
        ("nbf", Some(json!(0)), ACCEPTED),
        ("iat", REMOVED, ACCEPTED),
        ("iat", Some(json!(NOW + 30)), ACCEPTED),
        ("iat", Some(json!(NOW + 31)), early),
        // Issued after it expires.
        ("exp", Some(json!(NOW - 1)), early),
    ]);
}

#[test]
fn a_time_is_a_number_of_seconds_before_the_year_10000() {
    let world = World::new(issuer("acme"));
    for name in ["exp", "nbf", "iat"] {
        for value in [
            "null",
            "true",
            "\"9999999999\"",
            "\"\"",
            "[]",
            "[1700000000]",
            "{}",
            "-1",
            "-0.5e1",
            "253402300800",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "1e300",
            "1.7e300",
            "1.7e20",
            "1.7976931348623157e308",
            "1.5e-7",
        ] {
            let mut claims = claims();
            claims[name] = json!("TIME");
            let claims = claims.to_string().replace("\"TIME\"", value);
            assert_eq!(world.judge_claims(&claims), INVALID, "{name}: {value}");
        }
    }
    for (name, value) in [
        ("exp", "1700000300.9"),
        ("exp", "1.7000003e9"),
        ("nbf", "1699999999.5"),
        ("iat", "1.6999e9"),
    ] {
        let mut claims = claims();
        claims[name] = json!("TIME");
        let claims = claims.to_string().replace("\"TIME\"", value);
        assert_eq!(world.judge_claims(&claims), ACCEPTED, "{name}: {value}");
    }
    // RFC 7519 §2 allows fractions; they are cut off, never rounded up.
    let mut claims = claims();
    claims["exp"] = json!(NOW as f64 - 30.0 + 0.999);
    claims["iat"] = json!(NOW - 300);
    assert_eq!(world.judge_claims(&claims.to_string()), "token_expired");
}

#[test]
fn a_subject_is_a_string_with_something_in_it_that_a_header_can_carry() {
    let unrepresentable = "token_claim_unrepresentable";
    World::new(issuer("acme")).assert_all([
        ("sub", Some(json!("alice, \"bob\" <a@b>; =")), ACCEPTED),
        ("sub", Some(json!("a".repeat(16_384))), ACCEPTED),
        ("sub", REMOVED, INVALID),
        ("sub", Some(Value::Null), INVALID),
        ("sub", Some(json!("")), INVALID),
        ("sub", Some(json!(7)), INVALID),
        ("sub", Some(json!({})), INVALID),
        ("sub", Some(json!(["alice"])), INVALID),
        ("sub", Some(json!("a\r\nX-Admin: 1")), unrepresentable),
        ("sub", Some(json!("a\nb")), unrepresentable),
        ("sub", Some(json!("a\u{0}b")), unrepresentable),
        ("sub", Some(json!("a\tb")), unrepresentable),
        ("sub", Some(json!("a\u{7f}")), unrepresentable),
        ("sub", Some(json!("\u{ff}")), unrepresentable),
        ("sub", Some(json!(" alice")), unrepresentable),
        ("sub", Some(json!("alice ")), unrepresentable),
        ("sub", Some(json!(" ")), unrepresentable),
        ("client_id", Some(json!("")), INVALID),
        ("client_id", Some(json!(["app"])), INVALID),
        ("client_id", Some(json!("a\r\nb")), unrepresentable),
        ("azp", Some(Value::Null), INVALID),
        ("jti", Some(json!(1)), INVALID),
    ]);
}

#[test]
fn tokens_that_the_same_issuer_signs_for_another_purpose_are_no_access_tokens() {
    let refused = "token_type_refused";
    let id_token = [("nonce", json!("n")), ("at_hash", json!("h"))];
    let logout = [(
        "events",
        json!({"http://schemas.openid.net/event/backchannel-logout": {}}),
    )];
    let proof = [("htm", json!("GET")), ("htu", json!("https://api.example"))];
    for (profile, typ, marks, expected) in [
        (TokenProfile::Rfc9068, "at+jwt", &[][..], ACCEPTED),
        (TokenProfile::Rfc9068, "application/at+jwt", &[], ACCEPTED),
        (TokenProfile::Rfc9068, "JWT", &[], refused),
        (
            TokenProfile::Rfc9068,
            "application/application/at+jwt",
            &[],
            refused,
        ),
        (TokenProfile::Rfc9068, "at+jwt ", &[], refused),
        (TokenProfile::Rfc9068, "", &[], refused),
        (TokenProfile::Rfc9068, "JWT", &id_token, refused),
        (TokenProfile::Rfc9068, "logout+jwt", &logout, refused),
        (TokenProfile::Rfc9068, "dpop+jwt", &proof, refused),
        (TokenProfile::Rfc9068, "refresh+jwt", &[], refused),
        (TokenProfile::Jwt, "JWT", &[], ACCEPTED),
        (TokenProfile::Jwt, "at+jwt", &[], ACCEPTED),
        (TokenProfile::Jwt, "JWT", &id_token, refused),
        (TokenProfile::Jwt, "JWT", &[("c_hash", json!("h"))], refused),
        (TokenProfile::Jwt, "JWT", &logout, refused),
        (TokenProfile::Jwt, "logout+jwt", &logout, refused),
        (TokenProfile::Jwt, "dpop+jwt", &proof, refused),
        (TokenProfile::Jwt, "refresh+jwt", &[], refused),
        (TokenProfile::Jwt, "secevent+jwt", &[], refused),
        (TokenProfile::Jwt, "oauth-authz-req+jwt", &[], refused),
        (TokenProfile::Jwt, "token-introspection+jwt", &[], refused),
        (TokenProfile::Jwt, "JOSE", &[], refused),
        (
            TokenProfile::Jwt,
            "JWT",
            &[("typ", json!("Refresh"))],
            refused,
        ),
        (
            TokenProfile::Jwt,
            "JWT",
            &[("typ", json!("Offline"))],
            refused,
        ),
        (TokenProfile::Jwt, "JWT", &[("typ", json!("ID"))], refused),
        (
            TokenProfile::Jwt,
            "JWT",
            &[("typ", json!("Bearer"))],
            ACCEPTED,
        ),
        (
            TokenProfile::Jwt,
            "JWT",
            &[("token_use", json!("refresh"))],
            refused,
        ),
        (
            TokenProfile::Jwt,
            "JWT",
            &[("token_use", json!("access"))],
            ACCEPTED,
        ),
    ] {
        let mut claims = claims();
        for (name, value) in marks {
            claims[*name] = value.clone();
        }
        let issuer = Issuer {
            profile,
            ..issuer("acme")
        };
        let header = json!({"alg": "EdDSA", "kid": "EdDSA", "typ": typ}).to_string();
        let code = World::new(issuer).judge(&header, &claims.to_string());
        assert_eq!(code, expected, "{profile:?} {typ} {marks:?}");
    }
}

#[test]
fn claims_that_two_readers_could_read_differently_are_refused() {
    let world = World::new(issuer("acme"));
    let good = claims().to_string();
    for (name, claims) in [
        ("exp twice", good.replacen('{', r#"{"exp":9999999999,"#, 1)),
        ("scope twice", good.replacen('{', r#"{"scope":"admin","#, 1)),
        ("sub twice", good.replacen('{', r#"{"sub":"root","#, 1)),
        (
            "sub twice, once escaped",
            good.replacen('{', r#"{"\u0073ub":"root","#, 1),
        ),
        ("two objects", format!("{good}{good}")),
        ("a byte order mark", format!("\u{feff}{good}")),
        ("a lone surrogate", good.replacen("alice", r"\ud800", 1)),
        ("a comment", good.replacen('{', "{/**/", 1)),
        ("a comma too many", good.replacen('}', ",}", 1)),
        (
            "deep nesting",
            good.replacen(
                '{',
                &format!("{{\"a\":{}{},", "[".repeat(100_000), "]".repeat(100_000)),
                1,
            ),
        ),
        (
            "257 members",
            good.replacen(
                '{',
                &(0..257).fold("{".to_owned(), |text, n| format!("{text}\"m{n}\":0,")),
                1,
            ),
        ),
        ("a string", "\"claims\"".to_owned()),
        ("a number", "1".to_owned()),
        ("null", "null".to_owned()),
        ("true", "true".to_owned()),
        ("a list", "[]".to_owned()),
        ("nothing", String::new()),
    ] {
        assert_eq!(world.judge_claims(&claims), "token_malformed", "{name}");
    }
    assert_eq!(world.judge_claims(&format!(" {good}\n")), ACCEPTED);
}

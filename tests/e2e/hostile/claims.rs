//! What a correct signature is over (RFC 7519, RFC 9068).

use portcullis_e2e::{Caller, Issuer, SigningKey, World, unix_now};
use serde_json::{Value, json};

use super::assert_all_invalid;

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
        format!("{header}.{}+/.{signature}", &claims[..claims.len() - 2]),
        format!("{header}.{claims}.{signature}AAAA"),
        format!("{header}.{claims}.{}", &signature[..signature.len() - 2]),
    ];
    let tokens = tokens
        .into_iter()
        .map(|token| (format!("{token:.60}"), token))
        .collect();
    assert_all_invalid(&world, tokens).await;
    // RFC 6750 §2.1: no `b64token`, so no credential in form.
    for token in [
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}=.{signature}"),
        token.replacen('.', "%2E", 1),
    ] {
        let answer = Caller::new()
            .get_with_token(&world.url("/orders/7"), &token)
            .await;
        answer.assert_refused(400, "credential_malformed");
    }
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
        (
            "just expired",
            good.clone()
                .claim("iat", json!(now - 300))
                .claim("exp", json!(now - 10)),
        ),
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

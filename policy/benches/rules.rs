//! What the rules cost: `cargo bench -p portcullis-policy`. Ratios between rows say something; the
//! times themselves are the machine's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench fails by panicking"
)]

#[path = "../tests/signing/mod.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod signing;

use std::sync::Arc;

use divan::{Bencher, black_box};
use portcullis_policy::*;
use serde_json::json;
use signing::{NOW, SigningKey, claims, issuer};

fn main() {
    divan::main();
}

/// A token that is verified for the first time: parse, signature, claims, principal.
#[divan::bench(args = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA])]
fn verify(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let key = SigningKey::generate(algorithm);
    let keys = KeySet::parse(json!({ "keys": [key.jwk()] }).to_string().as_bytes()).unwrap();
    let token = key.sign(&key.header(), &claims().to_string());
    let acme = issuer("acme");
    let headers = IdentityHeaders::default();
    let registry = registry(1);
    bencher.bench(|| {
        let presented = PresentedToken::parse(black_box(&token)).unwrap();
        let id = IssuerId::from_index(0);
        let now = UnixTime::from_seconds(NOW);
        let verified = presented.verify((id, &acme), &keys, now).unwrap();
        Principal::new(&verified, &headers, &registry).unwrap()
    });
}

/// Finding a route costs the same however many there are.
#[divan::bench(args = [10, 100, 1_000, 10_000])]
fn find(bencher: Bencher<'_, '_>, routes: usize) {
    let table = RouteTable::new((0..routes).map(|n| {
        Arc::new(route(
            n,
            &format!("/team-{n}/orders/{{id}}"),
            Access::Public,
        ))
    }))
    .unwrap();
    let path = format!("/team-{}/orders/42", routes / 2);
    let host = Host::from_authority("api.acme.example").unwrap();
    bencher.bench(|| {
        let request = Request {
            method: Some(Method::Get),
            host: Some(&host),
            path: RequestPath::parse(black_box(&path)).unwrap(),
        };
        table.find(&request).map(|route| route.id)
    });
}

/// A decision is a few bit tests, however many scopes a token has.
#[divan::bench(args = [1, 50, 500])]
fn decide_with_scopes(bencher: Bencher<'_, '_>, scopes: usize) {
    let key = SigningKey::generate(Algorithm::EdDSA);
    let keys = KeySet::parse(json!({ "keys": [key.jwk()] }).to_string().as_bytes()).unwrap();
    let registry = registry(scopes);
    let mut claims = claims();
    let names: Vec<&str> = registry.scopes().iter().map(Scope::as_str).collect();
    claims["scope"] = json!(names.join(" "));
    let signed = key.sign(&key.header(), &claims.to_string());
    let token = PresentedToken::parse(&signed).unwrap();
    let now = UnixTime::from_seconds(NOW);
    let acme = issuer("acme");
    let verified = token
        .verify((IssuerId::from_index(0), &acme), &keys, now)
        .unwrap();
    let principal = Principal::new(&verified, &IdentityHeaders::default(), &registry).unwrap();
    let principal = Arc::new(principal);
    let access = Access::Protected(Requirement {
        scopes: RequiredScopes::all(&registry, registry.scopes()).unwrap(),
        issuers: None,
    });
    let route = Arc::new(route(0, "/orders/{id}", access));
    bencher.bench(|| decide(black_box(&route), Some(&principal), now).is_ok());
}

/// The fate of the fields of a usual request.
#[divan::bench]
fn fates_of_ten_fields() -> usize {
    static RULES: std::sync::LazyLock<ServiceHeaders> =
        std::sync::LazyLock::new(|| ServiceHeaders::new(&IdentityHeaders::default()));
    [
        "host",
        "user-agent",
        "accept",
        "accept-encoding",
        "authorization",
        "content-type",
        "content-length",
        "cookie",
        "x-request-id",
        "x-user-id",
    ]
    .iter()
    .filter(|name| RULES.fate(black_box(name)) == HeaderFate::Forward)
    .count()
}

fn registry(scopes: usize) -> ScopeRegistry {
    ScopeRegistry::new((0..scopes).map(|n| format!("scope:{n}").parse().unwrap()))
}

fn route(n: usize, path: &str, access: Access) -> Route {
    Route {
        id: RouteId::from_index(n),
        name: format!("route-{n}").into(),
        owner: "team".into(),
        host: None,
        path: path.parse().unwrap(),
        methods: MethodSet::ALL,
        access,
    }
}

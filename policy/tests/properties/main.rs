//! What holds for all inputs, not for the examples that somebody thought of.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests fail by panicking"
)]

mod identity_headers;
mod paths;
mod routes;
mod scopes;
#[path = "../signing/mod.rs"]
mod signing;
mod tokens;

use std::sync::Arc;

use portcullis_policy::*;
use proptest::test_runner::Config;

/// So many cases; `PROPTEST_CASES` has another number tried, of all properties alike. A failure becomes
/// a test with a name, so none is kept in a file.
fn cases(cases: u32) -> Config {
    let default = Config::default();
    let is_asked_for = std::env::var_os("PROPTEST_CASES").is_some();
    Config {
        cases: if is_asked_for { default.cases } else { cases },
        failure_persistence: None,
        ..default
    }
}

/// One that asks for a token with these scopes.
fn protected_route(scopes: RequiredScopes) -> Arc<Route> {
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

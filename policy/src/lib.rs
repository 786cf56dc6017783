//! The decision: pure rules over an arrived request and a presented access token. No I/O, no async,
//! no clock; `now` is an input.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use portcullis_policy::*;
//!
//! # use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
//! # use base64::Engine;
//! # use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
//! # let pair = Ed25519KeyPair::generate()?;
//! # let key_set = format!(
//! #     r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"{}"}}]}}"#,
//! #     BASE64.encode(pair.public_key())
//! # );
//! # let input = [
//! #     r#"{"alg":"EdDSA","kid":"k1","typ":"at+jwt"}"#,
//! #     r#"{"iss":"https://login.acme.example","aud":"orders","sub":"alice","exp":1700000300,
//! #         "scope":"orders:read"}"#,
//! # ]
//! # .map(|part| BASE64.encode(part))
//! # .join(".");
//! # let token = format!("{input}.{}", BASE64.encode(pair.sign(input.as_bytes())));
//! // What the operator wrote, and what the issuer publishes.
//! let scopes = ScopeRegistry::new(["orders:read".parse()?]);
//! let route = Route {
//!     id: RouteId::from_index(0),
//!     name: "read-order".into(),
//!     owner: "orders-team".into(),
//!     host: Some("api.acme.example".parse()?),
//!     path: "/orders/{id}".parse()?,
//!     methods: [Method::Get].into_iter().collect(),
//!     access: Access::Protected(Requirement {
//!         scopes: RequiredScopes::all(&scopes, &["orders:read".parse()?])?,
//!         issuers: None,
//!     }),
//! };
//! let routes = RouteTable::new([Arc::new(route)]).map_err(|_| "two routes conflict")?;
//! let issuers = IssuerSet::new(vec![Issuer {
//!     name: "acme".into(),
//!     issuer: "https://login.acme.example".into(),
//!     audiences: vec!["orders".into()],
//!     algorithms: vec![Algorithm::EdDSA],
//!     profile: TokenProfile::Rfc9068,
//!     scope_claim: ScopeClaim::Scope,
//!     leeway: Duration::from_secs(30),
//! }]);
//! let keys = KeySet::parse(key_set.as_bytes())?;
//!
//! // From a request to a decision.
//! let decide_at = |token: &str, path, now| -> Result<Permit, Denial> {
//!     let host = Host::from_authority("api.acme.example:443").ok();
//!     let path = RequestPath::parse(path).map_err(|_| Denial::PathAmbiguous)?;
//!     let request = Request { method: Some(Method::Get), host: host.as_ref(), path };
//!     let route = routes.find(&request)?;
//!     let presented = PresentedToken::parse(token)?;
//!     let issuer = presented.issuer(&issuers)?;
//!     let verified = presented.verify(issuer, &keys, now)?;
//!     let principal = Principal::new(&verified, &IdentityHeaders::default(), &scopes)?;
//!     decide(route, Some(&Arc::new(principal)), now)
//! };
//!
//! let now = UnixTime::from_seconds(1_700_000_000);
//! let permit = decide_at(&token, "/orders/17", now).map_err(|denial| denial.code())?;
//! assert_eq!(&*permit.route().name, "read-order");
//! assert_eq!(permit.principal().map(Principal::subject), Some("alice"));
//!
//! let later = now.saturating_add(Duration::from_secs(330));
//! let denial = decide_at(&token, "/orders/17", later).unwrap_err();
//! assert_eq!(denial.code(), "token_expired");
//! let denial = decide_at(&token, "/orders/../admin", now).unwrap_err();
//! assert_eq!(denial.code(), "path_ambiguous");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests fail by panicking"
    )
)]

mod challenge;
mod decision;
mod denial;
mod host;
mod identity_headers;
mod issuer;
mod json;
mod key_set;
mod method;
mod path;
mod path_index;
mod path_pattern;
mod principal;
mod request;
mod requirement;
mod route;
mod route_table;
mod scope;
mod service_headers;
mod token;
mod unix_time;
mod what_if;

pub use challenge::challenge;
pub use decision::{Permit, decide};
pub use denial::{ChallengeError, Denial};
pub use host::{Host, InvalidHost};
pub use identity_headers::{IdentityHeaders, InvalidIdentityHeaders};
pub use issuer::{
    Algorithm, Issuer, IssuerId, IssuerSet, ScopeClaim, TokenProfile, UnsupportedAlgorithm,
};
pub use key_set::{InvalidKeySet, KeySet};
pub use method::{Method, MethodSet, UnknownMethod};
pub use path::{AmbiguousPath, RequestPath};
pub use path_index::PathIndex;
pub use path_pattern::{InvalidPathPattern, PathPattern};
pub use principal::Principal;
pub use request::Request;
pub use requirement::{InvalidRequiredScopes, RequiredScopes, Requirement};
pub use route::{Access, Route, RouteId};
pub use route_table::{RouteConflict, RouteTable};
pub use scope::{InvalidScope, Scope, ScopeId, ScopeRegistry, ScopeSet};
pub use service_headers::{HeaderFate, ServiceHeaders};
pub use token::{PresentedToken, VerifiedToken};
pub use unix_time::UnixTime;
pub use what_if::{Evidence, SupposedPrincipal, Supposition, what_if};

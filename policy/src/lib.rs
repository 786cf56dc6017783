//! The decision: pure rules over an arrived request and a presented access token. No I/O, no async,
//! no clock; `now` is an input.
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
mod principal;
mod request;
mod requirement;
mod route;
mod scope;
mod token;
mod unix_time;

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
pub use principal::Principal;
pub use request::Request;
pub use requirement::{InvalidRequiredScopes, RequiredScopes, Requirement};
pub use route::{
    Access, InvalidPathPattern, PathPattern, Route, RouteConflict, RouteId, RouteTable,
};
pub use scope::{InvalidScope, Scope, ScopeId, ScopeRegistry, ScopeSet};
pub use token::{PresentedToken, VerifiedToken};
pub use unix_time::UnixTime;

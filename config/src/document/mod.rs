//! The configuration *as written*: plain structs, one per YAML mapping, one file per top-level key.
//!
//! Nothing here has been checked beyond its shape. Names are still names, paths are still relative
//! to the file that wrote them, and no file other than the YAML itself has been opened.
//! [`crate::load`] turns these into [`crate::Config`], which is what the gateway runs on.
//!
//! Every field's doc comment is the reference manual: the JSON Schema and `docs/configuration.md`
//! are generated from it, so a default that is not in a comment does not exist.

mod access_log;
mod admin;
mod identity_headers;
mod issuers;
mod limits;
mod listeners;
mod overload;
mod policy_file;
mod secret_source;
mod shutdown;
mod token_cache;
pub(crate) mod units;
mod upstreams;

use schemars::JsonSchema;
use serde::Deserialize;

pub use access_log::{AccessLog, SubjectDisclosure};
pub use admin::Admin;
pub use identity_headers::IdentityHeaders;
pub use issuers::{Issuer, KeySource, ScopeClaim, TokenProfile};
pub use limits::Limits;
pub use listeners::{
    ClientCertificateMode, ClientCertificates, Listener, ListenerTls, ServerCertificate, TlsVersion,
};
pub use overload::Overload;
pub use policy_file::{
    Match, PolicyDocument, RequiredScopes, Requirement, Route, RouteLimits, ScopeDescriptions,
};
pub use secret_source::SecretSource;
pub use shutdown::Shutdown;
pub use token_cache::TokenCache;
pub use units::{ByteSize, HumanDuration};
pub use upstreams::{Timeouts, Upstream, UpstreamProtocol, UpstreamTls};

/// `portcullis.yaml`: what the platform team decides. Routes and scopes live in policy files.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GatewayDocument {
    /// Sockets that callers connect to. At least one.
    pub listeners: Vec<Listener>,
    /// Where metrics, health and status are served. Left out: not served at all.
    pub admin: Option<Admin>,
    /// Authorization servers whose access tokens are accepted.
    #[serde(default)]
    pub issuers: Vec<Issuer>,
    /// Services that requests are forwarded to.
    #[serde(default)]
    pub upstreams: Vec<Upstream>,
    /// Header name to claim: what services are told about the caller.
    /// Default: `x-user-id: sub`, `x-scopes: scope`, `x-client-id: client_id`.
    pub identity_headers: Option<IdentityHeaders>,
    /// Where the service teams' policy files are.
    pub policy: PolicyFiles,
    /// The `realm` of every `WWW-Authenticate` challenge. Default: `portcullis`.
    pub realm: Option<String>,
    /// Addresses or CIDR ranges of proxies in front of this gateway. Only from these is
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host` believed and extended;
    /// from anybody else they are removed. Default: none.
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
    /// One JSON line for each request. Default: to standard output, subject pseudonymised.
    pub access_log: Option<AccessLog>,
    /// Budgets for everything that a caller can send.
    pub limits: Option<Limits>,
    /// When new work is refused with 503, so that what was taken on is finished.
    pub overload: Option<Overload>,
    /// How many verified tokens are remembered.
    pub token_cache: Option<TokenCache>,
    /// What happens on `SIGTERM`.
    pub shutdown: Option<Shutdown>,
}

/// Where the policy files are.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyFiles {
    /// Paths or glob patterns, relative to the file that names them. A pattern that matches nothing
    /// is an error. New files that match are picked up while running.
    pub files: Vec<String>,
}

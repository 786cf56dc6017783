use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::HumanDuration;

/// An authorization server whose access tokens are accepted.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// Name of this issuer in logs, metrics and `require.issuers`.
    pub name: String,
    /// Compared with the `iss` claim byte for byte.
    pub issuer: String,
    /// Accepted values of `aud`. At least one.
    pub audiences: Vec<String>,
    /// Where the verification keys come from.
    pub keys: KeySource,
    /// Accepted signature algorithms: RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 EdDSA.
    /// Default: RS256, ES256, EdDSA.
    pub algorithms: Option<Vec<String>>,
    /// `rfc9068` requires the header `typ: at+jwt`; `jwt` also accepts `JWT` or none, and then refuses
    /// what looks like an ID, refresh or logout token. Default: `rfc9068`.
    pub token_profile: Option<TokenProfile>,
    /// Claim that carries the scopes. Default: `scope`.
    pub scope_claim: Option<ScopeClaim>,
    /// Tolerated difference between the issuer's clock and ours. At most 5m. Default: 30s.
    pub leeway: Option<HumanDuration>,
    /// How often the key set is fetched again (±10 %). From 1s to 24h. Default: 5m.
    pub refresh_interval: Option<HumanDuration>,
    /// How long the last good key set serves while the issuer cannot be reached.
    /// `0s` fails closed as soon as one refresh fails. At most 720h. Default: 24h.
    pub max_stale: Option<HumanDuration>,
    /// PEM file with the certificate authorities that the issuer's HTTPS certificate must chain to.
    /// Default: the system's.
    pub trust: Option<PathBuf>,
    /// Accept `http://` for an issuer that is not on loopback. Default: false.
    #[serde(default)]
    pub dangerously_allow_http: bool,
}

/// Where verification keys come from. Exactly one of the three.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeySource {
    /// `true`: find the key set through the issuer's metadata (OpenID Connect Discovery, then RFC 8414).
    pub discovery: Option<bool>,
    /// The key set's own address.
    pub url: Option<String>,
    /// A key set in a file; it is watched.
    pub file: Option<PathBuf>,
}

/// Which kinds of JWT an issuer's access tokens are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenProfile {
    /// RFC 9068: `typ` is `at+jwt`.
    Rfc9068,
    /// Any JWT that does not look like another kind of token.
    Jwt,
}

/// Claim that carries the scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScopeClaim {
    /// `scope`: a string of words (RFC 9068 §2.2.3).
    Scope,
    /// `scp`: a string of words or a list.
    Scp,
}

use schemars::JsonSchema;
use serde::Deserialize;

/// Verified tokens that are remembered, keyed by a hash, until they expire, their key is withdrawn
/// or the configuration is reloaded. The policy runs on every request all the same.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenCache {
    /// Number of tokens. 0 verifies every token on every request. Default: 20000.
    pub entries: Option<u32>,
}

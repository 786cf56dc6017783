use schemars::JsonSchema;
use serde::Deserialize;

use crate::node::UniqueMap;

/// Header name to claim name. The claim `scope` stands for the token's scopes, sorted and separated
/// by spaces, whatever claim the issuer carries them in; `client_id` falls back to `azp`.
/// Lists of strings are joined with `,`; numbers and booleans are written as in JSON.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct IdentityHeaders(pub UniqueMap<String>);

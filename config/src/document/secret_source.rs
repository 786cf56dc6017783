use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// Where a secret is. Secrets are never written in YAML. Exactly one of the two.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretSource {
    /// Name of an environment variable.
    pub env: Option<String>,
    /// Path of a file. A trailing newline is not part of the secret. Refused when everybody may read it.
    pub file: Option<PathBuf>,
}

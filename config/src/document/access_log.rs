use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::SecretSource;

/// The access log: one JSON line for each request.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    /// Write the log at all. Default: true.
    pub enabled: Option<bool>,
    /// Append to this file instead of standard output. It is opened anew on `SIGHUP`, so it can be rotated.
    pub file: Option<PathBuf>,
    /// How the subject (`sub`) appears. Default: `pseudonym`.
    pub subject: Option<SubjectDisclosure>,
    /// Key of the pseudonym (HMAC-SHA-256). The same key gives the same pseudonym on every instance
    /// and after a restart. At least 16 bytes. Default: a random key for each process.
    pub pseudonym_key: Option<SecretSource>,
}

/// How a subject appears in the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubjectDisclosure {
    /// Not at all.
    Omitted,
    /// As a keyed hash: the same subject has the same pseudonym, and the subject cannot be read from it.
    Pseudonym,
    /// As it is in the token.
    Plain,
}

use schemars::JsonSchema;
use serde::Deserialize;

use super::HumanDuration;

/// What happens on `SIGTERM`: readiness turns red, the listeners go on accepting for `grace`, then
/// they close and what is in flight has until `drain` to finish.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// How long new connections are still accepted after readiness turned red. Default: 0s.
    pub grace: Option<HumanDuration>,
    /// How long requests in flight may take to finish. Default: 30s.
    pub drain: Option<HumanDuration>,
}

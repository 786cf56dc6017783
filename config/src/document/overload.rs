use schemars::JsonSchema;
use serde::Deserialize;

use super::ByteSize;

/// When new work is refused with 503, so that what was taken on is finished and the process lives.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Overload {
    /// Memory that the gateway may use. Default: the limit of its control group, or else what the
    /// machine has.
    pub memory: Option<ByteSize>,
    /// Percentage of `memory` above which new requests are refused. Default: 85.
    pub refuse_at_memory_percent: Option<u32>,
    /// Percentage of `memory` above which no connection is accepted, and those with the most requests
    /// in flight are closed.
    /// Default: 95.
    pub close_at_memory_percent: Option<u32>,
    /// Percentage of `limits.connections` above which the requests of new connections are refused.
    /// Default: 95.
    pub refuse_at_connections_percent: Option<u32>,
}

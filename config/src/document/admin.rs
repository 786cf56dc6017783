use schemars::JsonSchema;
use serde::Deserialize;

/// The admin listener: `/metrics`, `/healthz`, `/readyz`, `/status`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// IP address and port, such as `127.0.0.1:9901`. Port 0 picks a free one.
    pub address: String,
    /// Allow an address that is not loopback. The admin listener speaks plain HTTP and asks for no
    /// credential: keep it behind a network policy. Default: false.
    #[serde(default)]
    pub dangerously_plaintext: bool,
}

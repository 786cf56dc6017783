use schemars::JsonSchema;
use serde::Deserialize;

use super::{ByteSize, HumanDuration};

/// Budgets for everything that a caller can send.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Open connections on all listeners together; more wait to be accepted (see `overload` for what
    /// happens before). Default: 10000.
    pub connections: Option<u32>,
    /// Open connections from one address (IPv6: one /64); further ones are closed at once. `trusted_proxies` may have
    /// any number. Default: 1000.
    pub connections_per_address: Option<u32>,
    /// Time for a TLS handshake. Default: 10s.
    pub handshake_timeout: Option<HumanDuration>,
    /// Time for a whole request header, from its first byte or the end of the handshake. Default: 10s.
    pub header_timeout: Option<HumanDuration>,
    /// Time that a connection may be idle between requests. Default: 60s.
    pub idle_timeout: Option<HumanDuration>,
    /// Longest silence within a request body, and longest time for a caller to take a part of a
    /// response. Default: 30s.
    pub body_timeout: Option<HumanDuration>,
    /// Largest request body. Default: 64MiB.
    pub body_bytes: Option<ByteSize>,
    /// Slowest average of a request body, once `body_timeout` has passed and until the service answers.
    /// 0 for none. Default: 256.
    pub body_bytes_per_second: Option<u32>,
    /// Longest request target (path and query). At most 32KiB. Default: 8KiB.
    pub target_bytes: Option<ByteSize>,
    /// Number of header fields. At most 250. Default: 100.
    pub headers: Option<u32>,
    /// Size of all header fields together. At most 256KiB. Default: 32KiB.
    pub header_bytes: Option<ByteSize>,
    /// Longest access token. At most 64KiB. Default: 16KiB.
    pub token_bytes: Option<ByteSize>,
    /// Access tokens from one address (IPv6: one /64) that may be verified and refused in a second; then
    /// only tokens that are remembered are taken from it, and others are refused a second later. 0 for any
    /// number. Default: 500.
    pub failed_verifications_per_second: Option<u32>,
    /// Concurrent HTTP/2 streams on one connection. Default: 100.
    pub http2_streams: Option<u32>,
    /// How long a connection is used: then it takes no more requests, and ends with those that it has.
    /// Whoever sends more over HTTP/2 one `idle_timeout` after GOAWAY is closed on. At most 24h. Default: 1h.
    pub connection_age: Option<HumanDuration>,
    /// Longest silence in a WebSocket, in both directions; also how long one side may take nothing.
    /// At most 24h. Default: 10m.
    pub websocket_idle_timeout: Option<HumanDuration>,
    /// How long a WebSocket may be open, whatever its token says. At most 168h. Default: 24h.
    pub websocket_age: Option<HumanDuration>,
    /// Requests on one HTTP/1 connection before it is closed. Default: 10000.
    pub requests_per_connection: Option<u32>,
}

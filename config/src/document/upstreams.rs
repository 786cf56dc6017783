use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::HumanDuration;

/// A service that requests are forwarded to.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Name of this upstream in routes, logs and metrics.
    pub name: String,
    /// `host:port` of each instance, used in turn. Names are resolved again every 30 seconds.
    pub addresses: Vec<String>,
    /// TLS to the service. Left out: plain HTTP, which only loopback addresses may speak.
    pub tls: Option<UpstreamTls>,
    /// Protocol to the service. gRPC needs `http2`. Default: `http1`.
    pub protocol: Option<UpstreamProtocol>,
    /// How long to wait for what.
    pub timeouts: Option<Timeouts>,
    /// How often a request is tried on another connection or address, where nothing was sent yet or
    /// the method is idempotent. At most 5. Default: 1.
    pub retries: Option<u32>,
    /// Allow plain HTTP to an address that is not loopback. The service then cannot know that its
    /// identity headers come from this gateway. Default: false.
    #[serde(default)]
    pub dangerously_plaintext: bool,
}

/// TLS to a service. With a certificate it is mutual.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// Name that the service's certificate must bear, also sent as SNI.
    pub server_name: String,
    /// PEM file with the certificate authorities of the service. The system's are never used.
    pub trust: PathBuf,
    /// PEM file with the gateway's own certificate, then its intermediates.
    pub certificate: Option<PathBuf>,
    /// PEM file with the gateway's private key. Refused when everybody may read it.
    pub private_key: Option<PathBuf>,
}

/// Protocol to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: negotiated over TLS, with prior knowledge over plain TCP.
    Http2,
}

/// How long to wait for what.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// For the TCP connection. Answered with 504. Default: 5s.
    pub connect: Option<HumanDuration>,
    /// For the TLS handshake, on top of `connect`. Answered with 504. Default: 5s.
    pub tls: Option<HumanDuration>,
    /// For the response to begin once the request is sent, and the longest silence before and within it. To
    /// an `http2` service the time runs from the request's head, so an upload has to end within it. Answered
    /// with 504. Default: 60s.
    pub response: Option<HumanDuration>,
    /// How long an idle connection is kept for the next request. Keep it below the service's own. Default: 50s.
    pub idle: Option<HumanDuration>,
}

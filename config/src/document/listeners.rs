use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// A socket that callers connect to.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Name of this listener in logs and metrics.
    pub name: String,
    /// IP address and port, such as `0.0.0.0:8443` or `[::]:8443`. Port 0 picks a free one.
    /// Changing it needs a restart, as adding or removing a listener and turning its TLS on or off do.
    pub address: String,
    /// TLS. Left out: plain HTTP, which only a loopback address may speak.
    pub tls: Option<ListenerTls>,
    /// Allow plain HTTP on an address that is not loopback. Access tokens then cross the network
    /// readable by everybody on it. Default: false.
    #[serde(default)]
    pub dangerously_plaintext: bool,
}

/// TLS towards callers.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// Chosen by SNI from the names in each certificate; the first is the default.
    pub certificates: Vec<ServerCertificate>,
    /// Whether callers are asked for a certificate. Default: `{ mode: off }`.
    pub client_certificates: Option<ClientCertificates>,
    /// Oldest TLS version. Default: `"1.2"`.
    pub minimum_version: Option<TlsVersion>,
}

/// One certificate of a listener, with its private key. Both files are watched.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerCertificate {
    /// PEM file: the certificate, then its intermediates.
    pub certificate: PathBuf,
    /// PEM file: the private key. Refused when everybody may read it.
    pub private_key: PathBuf,
    /// Client certificates for the names of this certificate. Default: the listener's.
    pub client_certificates: Option<ClientCertificates>,
}

/// Whether callers are asked for a certificate, and whose.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificates {
    /// `off`, `optional` (asked for, verified when given) or `required`.
    pub mode: ClientCertificateMode,
    /// PEM file with the certificate authorities of the callers. Needed unless `off`.
    pub trust: Option<PathBuf>,
}

/// Whether callers are asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificateMode {
    /// Not asked for.
    Off,
    /// Asked for, and verified when given.
    Optional,
    /// The handshake fails without one.
    Required,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    Tls13,
}

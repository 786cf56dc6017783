//! The configuration *as meant*: names have become the things they name, files have been read, and
//! nobody downstream checks anything again. No serde here; [`crate::load`] is the only maker.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use portcullis_policy as policy;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use crate::secret::Secret;

/// One checked configuration: everything that a generation of the gateway runs on.
#[derive(Debug)]
pub struct Config {
    /// Where this configuration was read from.
    pub path: PathBuf,
    /// Sockets that callers connect to; at least one.
    pub listeners: Vec<Listener>,
    /// Where the admin listener binds, if there is one.
    pub admin: Option<SocketAddr>,
    /// Authorization servers, in the order of [`policy::IssuerId`].
    pub issuers: Vec<Issuer>,
    /// Services, in the order of the index that [`Route::upstream`] holds.
    pub upstreams: Vec<Upstream>,
    /// Routes, in the order of [`policy::RouteId`].
    pub routes: Vec<Route>,
    /// Finds the route of a request.
    pub route_table: policy::RouteTable,
    /// Every scope that a route may name.
    pub scopes: policy::ScopeRegistry,
    /// What services are told about the caller, and what is always stripped.
    pub identity_headers: policy::IdentityHeaders,
    /// The realm of every challenge.
    pub realm: String,
    /// Proxies in front of this gateway whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The access log; `None` when it is off.
    pub access_log: Option<AccessLog>,
    /// Budgets for what callers send.
    pub limits: Limits,
    /// When new work is refused.
    pub overload: Overload,
    /// How many verified tokens are remembered.
    pub token_cache_entries: usize,
    /// How to stop.
    pub shutdown: Shutdown,
    /// The policy files, with the ones that are held at their last good content.
    pub policy_files: Vec<PolicyFile>,
    /// Every file whose change makes a new generation.
    pub watched_files: Vec<PathBuf>,
    /// Glob patterns (absolute) whose set of matches makes a new generation when it changes.
    pub watched_patterns: Vec<String>,
    /// What is suspicious but no error, such as a shadowed route.
    pub warnings: Vec<crate::Diagnostic>,
}

/// A socket that callers connect to.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Unique name.
    pub name: String,
    /// Where it binds.
    pub address: SocketAddr,
    /// TLS; `None` is plain HTTP, which was checked to be on loopback or marked dangerous.
    pub tls: Option<ListenerTls>,
}

/// TLS towards callers. The files were read and the keys match their certificates.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// At least one; the first is the default.
    pub certificates: Vec<ServerCertificate>,
    /// Refuse TLS 1.2.
    pub tls13_only: bool,
}

/// A certificate of a listener with the names it answers for and the policy of those names.
#[derive(Debug, Clone)]
pub struct ServerCertificate {
    /// Chain and signing key.
    pub certified_key: Arc<CertifiedKey>,
    /// DNS names (lower case) from the certificate; `*.` marks a wildcard of one label.
    pub names: Vec<String>,
    /// Whether callers are asked for a certificate under these names.
    pub client_certificates: ClientCertificates,
    /// End of the leaf's validity, seconds since 1970.
    pub not_after: i64,
}

/// Whether callers are asked for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Not asked for.
    Off,
    /// Asked for, verified when given.
    Optional(Arc<[CertificateDer<'static>]>),
    /// The handshake fails without one.
    Required(Arc<[CertificateDer<'static>]>),
}

/// An authorization server: what its tokens must be, and where its keys come from.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// What its tokens must be.
    pub policy: policy::Issuer,
    /// Where its keys come from.
    pub keys: KeySource,
    /// Time between refreshes.
    pub refresh_interval: Duration,
    /// How long the last good key set serves without a successful refresh.
    pub max_stale: Duration,
    /// Certificate authorities for its HTTPS; `None` is the system's.
    pub trust: Option<Arc<[CertificateDer<'static>]>>,
}

/// Where an issuer's keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Through metadata: these addresses are tried in turn (OpenID Connect Discovery, RFC 8414).
    Discovery {
        /// Metadata documents, most likely first.
        metadata_urls: Vec<String>,
        /// Whether the `jwks_uri` found there may be `http://` on a host that is not loopback.
        allow_http: bool,
    },
    /// From this address.
    Url(String),
    /// From a file, which was read and is watched; these are its bytes.
    File(PathBuf, Arc<[u8]>),
}

/// A service.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Unique name.
    pub name: String,
    /// `host:port`, resolved by the gateway; at least one.
    pub addresses: Vec<Address>,
    /// TLS; `None` is plain, which was checked to be loopback or marked dangerous.
    pub tls: Option<UpstreamTls>,
    /// Speak HTTP/2 to it.
    pub http2: bool,
    /// For the TCP connection.
    pub connect_timeout: Duration,
    /// For the TLS handshake.
    pub tls_timeout: Duration,
    /// For the response to begin, and the longest silence in it.
    pub response_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Further attempts where that is safe.
    pub retries: u32,
}

/// Host and port of one instance of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Host name, or an IP address as text without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// TLS to a service.
#[derive(Clone)]
pub struct UpstreamTls {
    /// Name in the service's certificate, sent as SNI.
    pub server_name: String,
    /// Certificate authorities, the only ones believed.
    pub trust: Arc<[CertificateDer<'static>]>,
    /// The gateway's certificate and key, when TLS is mutual.
    pub identity: Option<Arc<ClientIdentity>>,
}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamTls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// The gateway's certificate and key towards a service. The two were checked to belong together.
pub struct ClientIdentity {
    /// Leaf, then intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key, DER (PKCS #8, PKCS #1 or SEC 1).
    pub private_key: Secret,
    /// End of the leaf's validity, seconds since 1970.
    pub not_after: i64,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// What the gateway does with the requests of a route, beside deciding.
#[derive(Debug, Clone)]
pub struct Route {
    /// What is decided about them.
    pub policy: Arc<policy::Route>,
    /// Index into [`Config::upstreams`].
    pub upstream: usize,
    /// Whether the caller's `Authorization` goes to the service.
    pub forward_authorization: bool,
    /// Whether WebSockets are opened.
    pub websocket: bool,
    /// Its own limits.
    pub limits: RouteLimits,
    /// Owners of more specific routes that may take requests of this one.
    pub yields_to: Vec<String>,
    /// Index into [`Config::policy_files`]: the file that defines it.
    pub file: usize,
}

/// Limits of one route; what is `None` is as for all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// In place of [`Limits::body_bytes`].
    pub body_bytes: Option<u64>,
    /// In place of [`Limits::body_timeout`].
    pub body_timeout: Option<Duration>,
    /// In place of [`Upstream::response_timeout`].
    pub response_timeout: Option<Duration>,
    /// In place of [`Limits::websocket_idle_timeout`].
    pub websocket_idle_timeout: Option<Duration>,
}

/// The access log.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// Append here; `None` is standard output.
    pub file: Option<PathBuf>,
    /// How the subject appears.
    pub subject: SubjectDisclosure,
}

/// How a subject appears in the access log.
#[derive(Debug, Clone)]
pub enum SubjectDisclosure {
    /// Not at all.
    Omitted,
    /// As HMAC-SHA-256 under this key; `None` is a random key for each process.
    Pseudonym(Option<Secret>),
    /// As it is.
    Plain,
}

/// Budgets for what callers send; defaults applied, ceilings checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections, all listeners together.
    pub connections: usize,
    /// Open connections from one address that is no trusted proxy's.
    pub connections_per_address: usize,
    /// For a TLS handshake.
    pub handshake_timeout: Duration,
    /// For a whole request header.
    pub header_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
    /// Longest silence within a request body.
    pub body_timeout: Duration,
    /// Largest request body.
    pub body_bytes: u64,
    /// Slowest average of a request body after `body_timeout`; 0 is none.
    pub body_bytes_per_second: u32,
    /// Longest request target.
    pub target_bytes: usize,
    /// Number of header fields.
    pub headers: usize,
    /// All header fields together.
    pub header_bytes: usize,
    /// Longest access token.
    pub token_bytes: usize,
    /// Failed verifications of one address in a second; 0 is any number.
    pub failed_verifications_per_second: u32,
    /// Concurrent HTTP/2 streams on a connection.
    pub http2_streams: u32,
    /// How long a connection takes requests.
    pub connection_age: Duration,
    /// Longest silence in a WebSocket.
    pub websocket_idle_timeout: Duration,
    /// How long a WebSocket may be open.
    pub websocket_age: Duration,
    /// Requests on a connection.
    pub requests_per_connection: u32,
}

/// When new work is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overload {
    /// Bytes that the gateway may use; `None` is what its control group or the machine has.
    pub memory: Option<u64>,
    /// Percentage of the memory above which new requests are refused.
    pub refuse_at_memory_percent: u32,
    /// Percentage of the memory above which connections are closed.
    pub close_at_memory_percent: u32,
    /// Percentage of [`Limits::connections`] above which requests of new connections are refused.
    pub refuse_at_connections_percent: u32,
}

/// How to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shutdown {
    /// Accept this long after readiness turned red.
    pub grace: Duration,
    /// Time for what is in flight.
    pub drain: Duration,
}

/// A policy file of this generation.
#[derive(Debug, Clone)]
pub struct PolicyFile {
    /// Where it is.
    pub path: PathBuf,
    /// The team that owns it.
    pub owner: String,
    /// Its content: what a later load falls back to when the file turns bad.
    pub text: Arc<str>,
    /// What is wrong with the newer content, when `text` is an older one.
    pub pinned: Option<Vec<crate::Diagnostic>>,
}

//! What the admin listener shows, and where it gets it from. The JSON of `/status` is an interface:
//! fields are added, never renamed.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

use crate::telemetry::Timestamp;

/// Where the admin listener gets what it shows. Called on the admin thread; must not block.
pub trait StatusSource: Send + Sync + 'static {
    /// The gateway as it is now.
    fn status(&self) -> Status;

    /// Whether it should get traffic.
    fn readiness(&self) -> Readiness;

    /// All metrics in the Prometheus text format.
    ///
    /// # Errors
    /// When they cannot be rendered.
    fn metrics(&self) -> prometheus::Result<String>;
}

/// Whether the gateway should get traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It should.
    Ready,
    /// Not yet: these are missing, such as `configuration` or `listeners`.
    WaitingFor(Vec<String>),
    /// Not any more: it is about to stop.
    Draining,
}

/// The gateway at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Version of the program.
    pub version: &'static str,
    /// Process id.
    pub pid: u32,
    /// When the process started.
    pub started_at: Timestamp,
    /// The configuration in force.
    pub config: ConfigStatus,
    /// Sockets that callers connect to.
    pub listeners: Vec<ListenerStatus>,
    /// Authorization servers.
    pub issuers: Vec<IssuerStatus>,
    /// Services.
    pub upstreams: Vec<UpstreamStatus>,
    /// Policy files.
    pub policy_files: Vec<PolicyFileStatus>,
}

/// The configuration in force, and the last attempt to replace it.
#[derive(Debug, Clone, Serialize)]
pub struct ConfigStatus {
    /// Where it was read from.
    pub path: PathBuf,
    /// Counts configurations from 1.
    pub generation: u64,
    /// When this generation was put in force.
    pub loaded_at: Timestamp,
    /// The last attempt after the first load; `null` when there was none.
    pub last_reload: Option<ReloadStatus>,
}

/// An attempt to load the configuration.
#[derive(Debug, Clone, Serialize)]
pub struct ReloadStatus {
    /// When it was made.
    pub at: Timestamp,
    /// Whether its result is in force.
    pub ok: bool,
    /// Why it is not.
    pub diagnostics: Vec<DiagnosticStatus>,
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiagnosticStatus {
    /// The file it is in.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Stable code.
    pub code: String,
    /// What is wrong.
    pub message: String,
}

/// A socket that callers connect to.
#[derive(Debug, Clone, Serialize)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// The address that it is bound to.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// An authorization server and its key set.
#[derive(Debug, Clone, Serialize)]
pub struct IssuerStatus {
    /// Its name.
    pub name: String,
    /// Its identifier, which tokens carry as `iss`.
    pub issuer: String,
    /// Ids of the usable keys; empty when there is no key set that may be used.
    pub key_ids: Vec<String>,
    /// Seconds since the key set was last read; `null` when it never was.
    pub key_set_age_seconds: Option<u64>,
    /// Why the last attempt failed; `null` when it did not.
    pub last_error: Option<String>,
    /// When the key set is read next.
    pub next_refresh_at: Option<Timestamp>,
}

/// A service.
#[derive(Debug, Clone, Serialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Its addresses as configured, `host:port`.
    pub addresses: Vec<String>,
    /// What they resolve to.
    pub resolved: Vec<SocketAddr>,
}

/// A policy file.
#[derive(Debug, Clone, Serialize)]
pub struct PolicyFileStatus {
    /// Where it is.
    pub path: PathBuf,
    /// The team that owns it.
    pub owner: String,
    /// Whether its newest content is in force, rather than its last good one.
    pub current: bool,
    /// What is wrong with its newest content.
    pub diagnostics: Vec<DiagnosticStatus>,
}

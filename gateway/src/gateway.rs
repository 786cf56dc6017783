//! What all parts of a running gateway share, and what it tells the admin listener about itself.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use portcullis_config::{Address, Diagnostic};

use crate::admin::status::{
    ConfigStatus, DiagnosticStatus, IssuerStatus, ListenerStatus, PolicyFileStatus, Readiness,
    ReloadStatus, Status, StatusSource, UpstreamStatus,
};
use crate::authentication::Failures;
use crate::overload;
use crate::snapshot::Snapshot;
use crate::telemetry::{Metrics, Timestamp};

/// How long readiness waits for issuers that have no keys yet. After that the gateway is ready
/// without them: one broken issuer keeps nobody else's traffic away.
const ISSUER_PATIENCE: Duration = Duration::from_secs(30);

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    metrics: Metrics,
    snapshot: ArcSwap<Snapshot>,
    phase: AtomicU8,
    /// Every issuer has had keys, or has been waited for long enough.
    has_settled: AtomicBool,
    started: Instant,
    started_at: SystemTime,
    listeners: Vec<BoundListener>,
    last_reload: Mutex<Option<ReloadStatus>>,
    overload: overload::Gauge,
    failures: Failures,
}

/// A socket that callers connect to.
#[derive(Debug, Clone)]
pub(crate) struct BoundListener {
    pub(crate) name: Arc<str>,
    /// As configured; port 0 is any.
    pub(crate) configured: SocketAddr,
    /// As bound.
    pub(crate) address: SocketAddr,
    pub(crate) tls: bool,
}

const STARTING: u8 = 0;
const SERVING: u8 = 1;
const DRAINING: u8 = 2;

impl Gateway {
    pub(crate) fn new(first: Snapshot, listeners: Vec<BoundListener>) -> Self {
        Self {
            metrics: first.metrics().clone(),
            snapshot: ArcSwap::from_pointee(first),
            phase: AtomicU8::new(STARTING),
            has_settled: AtomicBool::new(false),
            started: Instant::now(),
            started_at: SystemTime::now(),
            listeners,
            last_reload: Mutex::new(None),
            overload: overload::Gauge::default(),
            failures: Failures::default(),
        }
    }

    /// The generation in force.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Puts a generation in force: requests that arrive from now on see it.
    pub(crate) fn install(&self, next: Snapshot) {
        let next = Arc::new(next);
        let previous = self.snapshot.swap(Arc::clone(&next));
        next.announce();
        // A WebSocket may hold the generation for as long as it is open, but what it needs is decided.
        previous.retire(&next);
    }

    pub(crate) fn serve(&self) {
        self.phase.store(SERVING, Ordering::Release);
    }

    pub(crate) fn drain(&self) {
        self.phase.store(DRAINING, Ordering::Release);
    }

    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) const fn overload(&self) -> &overload::Gauge {
        &self.overload
    }

    /// Tokens that were verified for nothing.
    pub(crate) const fn failures(&self) -> &Failures {
        &self.failures
    }

    pub(crate) fn listeners(&self) -> &[BoundListener] {
        &self.listeners
    }

    /// Remembers how the last attempt to load a configuration went.
    pub(crate) fn reloaded(&self, ok: bool, diagnostics: Vec<DiagnosticStatus>) {
        let status = ReloadStatus {
            at: SystemTime::now().into(),
            ok,
            diagnostics,
        };
        *self
            .last_reload
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    fn issuers_without_keys(&self) -> Vec<String> {
        let snapshot = self.snapshot();
        let issuers = snapshot.issuers().iter().zip(snapshot.key_set_caches());
        issuers
            .filter(|(_, keys)| keys.current().is_none())
            .map(|(issuer, _)| format!("keys of issuer `{}`", issuer.name))
            .collect()
    }
}

impl StatusSource for Gateway {
    fn status(&self) -> Status {
        let snapshot = self.snapshot();
        let config = snapshot.config();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            started_at: self.started_at.into(),
            config: ConfigStatus {
                path: config.path.clone(),
                generation: snapshot.generation(),
                loaded_at: snapshot.loaded_at().into(),
                last_reload: self
                    .last_reload
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone(),
            },
            listeners: self
                .listeners
                .iter()
                .map(|listener| ListenerStatus {
                    name: listener.name.to_string(),
                    address: listener.address,
                    tls: listener.tls,
                })
                .collect(),
            issuers: issuers(&snapshot),
            upstreams: upstreams(&snapshot),
            policy_files: config
                .policy_files
                .iter()
                .map(|file| PolicyFileStatus {
                    path: file.path.clone(),
                    owner: file.owner.clone(),
                    current: file.pinned.is_none(),
                    diagnostics: file
                        .pinned
                        .iter()
                        .flatten()
                        .map(diagnostic_status)
                        .collect(),
                })
                .collect(),
        }
    }

    fn readiness(&self) -> Readiness {
        match self.phase.load(Ordering::Acquire) {
            STARTING => return Readiness::WaitingFor(vec!["listeners".to_owned()]),
            DRAINING => return Readiness::Draining,
            _ => {}
        }
        if self.has_settled.load(Ordering::Acquire) {
            return Readiness::Ready;
        }
        let missing = self.issuers_without_keys();
        if missing.is_empty() || self.started.elapsed() >= ISSUER_PATIENCE {
            self.has_settled.store(true, Ordering::Release);
            return Readiness::Ready;
        }
        Readiness::WaitingFor(missing)
    }

    fn metrics(&self) -> prometheus::Result<String> {
        self.metrics
            .token_cache_resized(self.snapshot().tokens().len());
        self.metrics.render()
    }
}

/// A diagnostic as the admin listener shows it.
pub(crate) fn diagnostic_status(diagnostic: &Diagnostic) -> DiagnosticStatus {
    DiagnosticStatus {
        file: diagnostic.file.clone(),
        line: diagnostic.line,
        column: diagnostic.column,
        code: diagnostic.code.to_owned(),
        message: diagnostic.message.clone(),
    }
}

fn issuers(snapshot: &Snapshot) -> Vec<IssuerStatus> {
    let issuers = snapshot.issuers().iter().zip(snapshot.key_set_caches());
    issuers
        .map(|(issuer, cache)| {
            let report = cache.report();
            let current = cache.current();
            IssuerStatus {
                name: issuer.name.to_string(),
                issuer: issuer.issuer.to_string(),
                key_ids: current
                    .iter()
                    .flat_map(|key_set| key_set.keys().key_ids())
                    .map(str::to_owned)
                    .collect(),
                key_set_age_seconds: report.last_success.map(|read| read.elapsed().as_secs()),
                last_error: report.last_error,
                next_refresh_at: report.next_refresh_at.map(Timestamp::from),
            }
        })
        .collect()
}

fn upstreams(snapshot: &Snapshot) -> Vec<UpstreamStatus> {
    let configured = &snapshot.config().upstreams;
    configured
        .iter()
        .zip(snapshot.upstreams())
        .map(|(written, upstream)| UpstreamStatus {
            name: written.name.clone(),
            addresses: written.addresses.iter().map(host_and_port).collect(),
            resolved: upstream.endpoints.resolved(),
        })
        .collect()
}

fn host_and_port(Address { host, port }: &Address) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

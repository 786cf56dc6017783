//! One generation of the configuration, ready to serve. A request sees one from start to end; a
//! reload swaps the pointer.
//!
//! What outlives a generation is shared with the one before: keys of an issuer that is still the
//! same, addresses of an upstream that is still the same, the access log. Verified tokens are not.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use portcullis_config::{self as config, Config, RouteLimits, SubjectDisclosure};
use portcullis_policy::{IssuerId, IssuerSet, RouteId, RouteTable, ServiceHeaders};
use tokio::time::{Instant, timeout, timeout_at};

use crate::authentication::TokenCache;
use crate::downstream::tls::ListenerTls;
use crate::issuer::KeySetCache;
use crate::refusal::Fault;
use crate::telemetry::metrics::labels::CertificateUsage;
use crate::telemetry::metrics::{Certificate, ConfiguredNames, HeldBack, PolicyFile, RouteMetrics};
use crate::telemetry::{AccessLog, Metrics, NONE};
use crate::upstream::Upstream;
use crate::upstream::endpoints::Endpoints;

/// One generation.
#[derive(Debug)]
pub struct Snapshot {
    generation: u64,
    loaded_at: SystemTime,
    hash: u64,
    config: Arc<Config>,
    metrics: Metrics,
    issuers: IssuerSet,
    /// In the order of [`IssuerId`].
    key_set_caches: Vec<Arc<KeySetCache>>,
    /// In the order of [`RouteId`].
    routes: Vec<Route>,
    no_route: RouteMetrics,
    upstreams: Vec<Arc<Upstream>>,
    listeners: HashMap<String, Arc<ListenerTls>>,
    service_headers: ServiceHeaders,
    tokens: TokenCache,
    access_log: Option<AccessLog>,
}

/// A route with what serves it.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) policy: Arc<portcullis_policy::Route>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) forward_authorization: bool,
    pub(crate) websocket: bool,
    pub(crate) limits: RouteLimits,
    pub(crate) metrics: RouteMetrics,
}

/// Why a good configuration cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// TLS of a listener.
    #[error("listener `{listener}`: {error}")]
    Tls {
        /// Its name.
        listener: String,
        /// What rustls says.
        error: rustls::Error,
    },
    /// The HTTP client for an issuer.
    #[error("issuer `{issuer}`: {error}")]
    Issuer {
        /// Its name.
        issuer: String,
        /// What is wrong.
        error: reqwest::Error,
    },
    /// The access log.
    #[error("the access log cannot be opened: {0}")]
    AccessLog(#[from] std::io::Error),
}

impl Snapshot {
    /// Makes the generation after `previous` of a checked configuration, and of its [`access_log`]. Has to be called on the
    /// runtime that does not serve: issuers and names are looked up on it from here on.
    ///
    /// # Errors
    /// When a file or certificate that was good a moment ago cannot be used.
    pub(crate) fn build(
        config: Config,
        previous: Option<&Self>,
        metrics: &Metrics,
        access_log: Option<AccessLog>,
    ) -> Result<Self, BuildError> {
        let mut key_set_caches = Vec::new();
        for issuer in &config.issuers {
            key_set_caches.push(key_set_cache(issuer, previous, metrics)?);
        }
        let upstreams: Vec<_> = config
            .upstreams
            .iter()
            .map(|upstream| {
                let endpoints = endpoints(upstream, previous);
                let metrics = metrics.upstream(&upstream.name);
                Arc::new(Upstream::new(upstream, endpoints, metrics))
            })
            .collect();
        let routes = config
            .routes
            .iter()
            .filter_map(|route| {
                Some(Route {
                    policy: Arc::clone(&route.policy),
                    upstream: Arc::clone(upstreams.get(route.upstream)?),
                    forward_authorization: route.forward_authorization,
                    websocket: route.websocket,
                    limits: route.limits,
                    metrics: metrics.route(&route.policy.name),
                })
            })
            .collect();
        let mut listeners = HashMap::new();
        for listener in &config.listeners {
            if let Some(tls) = &listener.tls {
                let tls = ListenerTls::new(tls).map_err(|error| BuildError::Tls {
                    listener: listener.name.clone(),
                    error,
                })?;
                listeners.insert(listener.name.clone(), Arc::new(tls));
            }
        }
        Ok(Self {
            generation: previous.map_or(1, |previous| previous.generation + 1),
            loaded_at: SystemTime::now(),
            hash: content_hash(&config),
            issuers: IssuerSet::new(
                config
                    .issuers
                    .iter()
                    .map(|issuer| issuer.policy.clone())
                    .collect(),
            ),
            key_set_caches,
            routes,
            no_route: metrics.route(NONE),
            upstreams,
            listeners,
            service_headers: ServiceHeaders::new(&config.identity_headers),
            tokens: TokenCache::with_capacity(config.token_cache_entries),
            access_log,
            metrics: metrics.clone(),
            config: Arc::new(config),
        })
    }

    /// Waits for the first answers of issuers and name servers that are new in this generation, so
    /// that the first requests find them; not for long, since they may be down.
    pub(crate) async fn warm_up(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let attempts = async {
            for keys in &self.key_set_caches {
                keys.first_attempt(patience).await;
            }
        };
        let _ = timeout_at(deadline, attempts).await;
        self.resolve(deadline.saturating_duration_since(Instant::now()))
            .await;
    }

    /// The part of [`Snapshot::warm_up`] about names of upstreams.
    pub(crate) async fn resolve(&self, patience: Duration) {
        let lookups = async {
            for upstream in &self.upstreams {
                upstream.endpoints.first_lookup(patience).await;
            }
        };
        let _ = timeout(patience, lookups).await;
    }

    /// Tells the metrics which generation is in force, and what there is in it.
    pub(crate) fn announce(&self) {
        let config = &self.config;
        let is_held = config.policy_files.iter().any(|file| file.pinned.is_some());
        let held_back = if is_held {
            HeldBack::SomePolicyFiles
        } else {
            HeldBack::Nothing
        };
        self.metrics
            .configuration_loaded(self.generation, self.hash, held_back, self.loaded_at);
        let paths: Vec<_> = config
            .policy_files
            .iter()
            .map(|file| file.path.display().to_string())
            .collect();
        self.metrics
            .policy_files_replaced(config.policy_files.iter().zip(&paths).map(|(file, path)| {
                PolicyFile {
                    file: path,
                    owner: &file.owner,
                    is_current: file.pinned.is_none(),
                }
            }));
        let shown = shown_certificates(config);
        self.metrics
            .certificates_replaced(shown.iter().map(|(usage, name, not_after)| Certificate {
                usage: *usage,
                name,
                not_after: *not_after,
            }));
        self.metrics.retain(&ConfiguredNames {
            routes: config
                .routes
                .iter()
                .map(|route| &*route.policy.name)
                .collect(),
            upstreams: config
                .upstreams
                .iter()
                .map(|upstream| upstream.name.as_str())
                .collect(),
            issuers: config
                .issuers
                .iter()
                .map(|issuer| &*issuer.policy.name)
                .collect(),
            listeners: config
                .listeners
                .iter()
                .map(|listener| listener.name.as_str())
                .collect(),
        });
    }

    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) const fn loaded_at(&self) -> SystemTime {
        self.loaded_at
    }

    pub(crate) const fn config(&self) -> &Arc<Config> {
        &self.config
    }

    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) const fn issuers(&self) -> &IssuerSet {
        &self.issuers
    }

    pub(crate) fn routes(&self) -> &RouteTable {
        &self.config.route_table
    }

    pub(crate) fn route(&self, id: RouteId) -> Option<&Route> {
        self.routes.get(id.index())
    }

    pub(crate) const fn no_route(&self) -> &RouteMetrics {
        &self.no_route
    }

    pub(crate) const fn service_headers(&self) -> &ServiceHeaders {
        &self.service_headers
    }

    pub(crate) const fn tokens(&self) -> &TokenCache {
        &self.tokens
    }

    pub(crate) const fn access_log(&self) -> Option<&AccessLog> {
        self.access_log.as_ref()
    }

    pub(crate) fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// TLS of a listener; `None` when it speaks plain HTTP.
    pub(crate) fn listener_tls(&self, name: &str) -> Option<&Arc<ListenerTls>> {
        self.listeners.get(name)
    }

    pub(crate) fn issuer_name(&self, id: IssuerId) -> &str {
        self.issuers.get(id).map_or(NONE, |issuer| &issuer.name)
    }

    /// Gives up what `next` does not have in common with it, as nothing new arrives: requests that are
    /// under way verify once more, with the keys and addresses that are there.
    pub(crate) fn retire(&self, next: &Self) {
        self.tokens.clear();
        for keys in &self.key_set_caches {
            if !next
                .key_set_caches
                .iter()
                .any(|kept| Arc::ptr_eq(kept, keys))
            {
                keys.stop();
            }
        }
        for upstream in &self.upstreams {
            let endpoints = &upstream.endpoints;
            if !next
                .upstreams
                .iter()
                .any(|kept| Arc::ptr_eq(&kept.endpoints, endpoints))
            {
                endpoints.stop();
            }
        }
    }

    /// The keys of an issuer.
    ///
    /// # Errors
    /// When there is no such issuer in this generation, which would be a defect: it admits nobody.
    pub(crate) fn key_set_cache(&self, id: IssuerId) -> Result<&Arc<KeySetCache>, Fault> {
        self.key_set_caches.get(id.index()).ok_or(Fault::Internal)
    }

    pub(crate) fn key_set_caches(&self) -> &[Arc<KeySetCache>] {
        &self.key_set_caches
    }
}

/// The keys of an issuer that is as it was, or new ones.
fn key_set_cache(
    issuer: &config::Issuer,
    previous: Option<&Snapshot>,
    metrics: &Metrics,
) -> Result<Arc<KeySetCache>, BuildError> {
    let known = previous
        .into_iter()
        .flat_map(|previous| &previous.key_set_caches)
        .find(|cache| cache.belongs_to(issuer));
    if let Some(known) = known {
        known.adopt(issuer);
        return Ok(Arc::clone(known));
    }
    let name = &issuer.policy.name;
    KeySetCache::start(issuer, metrics.issuer(name))
        .map(Arc::new)
        .map_err(|error| BuildError::Issuer {
            issuer: name.to_string(),
            error,
        })
}

fn endpoints(upstream: &config::Upstream, previous: Option<&Snapshot>) -> Arc<Endpoints> {
    previous
        .into_iter()
        .flat_map(|previous| &previous.upstreams)
        .filter(|known| *known.name == *upstream.name)
        .map(|known| &known.endpoints)
        .find(|endpoints| endpoints.belong_to(&upstream.addresses))
        .map_or_else(
            || Arc::new(Endpoints::start(&upstream.name, &upstream.addresses)),
            Arc::clone,
        )
}

/// The access log that is open, if it is the one that is asked for; or else another one.
///
/// # Errors
/// When it cannot be opened.
pub(crate) fn access_log(
    config: &Config,
    previous: Option<&Snapshot>,
    metrics: &Metrics,
) -> Result<Option<AccessLog>, BuildError> {
    let Some(wanted) = &config.access_log else {
        return Ok(None);
    };
    let open = previous.and_then(|previous| {
        let settings = previous.config.access_log.as_ref()?;
        is_same_log(settings, wanted).then(|| previous.access_log.clone())?
    });
    match open {
        Some(log) => Ok(Some(log)),
        None => Ok(Some(AccessLog::open(wanted, metrics)?)),
    }
}

fn is_same_log(one: &config::AccessLog, other: &config::AccessLog) -> bool {
    let is_same_subject = match (&one.subject, &other.subject) {
        (SubjectDisclosure::Omitted, SubjectDisclosure::Omitted)
        | (SubjectDisclosure::Plain, SubjectDisclosure::Plain)
        | (SubjectDisclosure::Pseudonym(None), SubjectDisclosure::Pseudonym(None)) => true,
        (SubjectDisclosure::Pseudonym(Some(one)), SubjectDisclosure::Pseudonym(Some(other))) => {
            one.expose() == other.expose()
        }
        (
            SubjectDisclosure::Omitted | SubjectDisclosure::Plain | SubjectDisclosure::Pseudonym(_),
            _,
        ) => false,
    };
    one.file == other.file && is_same_subject
}

/// A hash over everything that the configuration was made from: two instances with one hash serve
/// the same.
fn content_hash(config: &Config) -> u64 {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut field = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    let read = |path: &Path| std::fs::read(path).unwrap_or_default();
    let base = config.path.parent().unwrap_or(Path::new(""));
    let base = std::path::absolute(base).unwrap_or_default();
    for path in &config.watched_files {
        // Where the directory is differs from machine to machine.
        let name = path.strip_prefix(&base).unwrap_or(path);
        field(name.as_os_str().as_encoded_bytes());
        match config.policy_files.iter().find(|file| file.path == *path) {
            Some(file) => field(file.text.as_bytes()),
            None => field(&read(path)),
        }
    }
    hash.finish()
        .as_ref()
        .first_chunk()
        .map_or(0, |first| u64::from_be_bytes(*first))
}

fn shown_certificates(config: &Config) -> Vec<(CertificateUsage, String, i64)> {
    let mut shown = Vec::new();
    for listener in &config.listeners {
        for certificate in listener.tls.iter().flat_map(|tls| &tls.certificates) {
            let name = certificate.names.first().map_or(NONE, String::as_str);
            let name = format!("{}/{name}", listener.name);
            shown.push((CertificateUsage::Listener, name, certificate.not_after));
        }
    }
    for upstream in &config.upstreams {
        let identity = upstream.tls.as_ref().and_then(|tls| tls.identity.as_ref());
        if let Some(identity) = identity {
            let name = upstream.name.clone();
            shown.push((CertificateUsage::Upstream, name, identity.not_after));
        }
    }
    shown
}

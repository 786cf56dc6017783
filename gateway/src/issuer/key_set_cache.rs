//! The last good key set of an issuer, kept fresh in the background.
//!
//! One task for each issuer does all the fetching, so that one broken issuer stops nobody else, and
//! so that any number of requests cost one fetch at a time. Requests only ever read a pointer; a
//! token with an unknown key id may ask for a fetch, within bounds, and waits for it, within bounds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use portcullis_config::{self as config, KeySource};
use portcullis_policy::{InvalidKeySet, KeySet};
use reqwest::Client;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::discovery::{self, DiscoveryError};
use super::fetch::{self, FetchError, Place};
use crate::telemetry::metrics::IssuerMetrics;
use crate::telemetry::metrics::labels::UnknownKeyId;

/// Between two fetches for the sake of unknown key ids.
const DEMAND_INTERVAL: Duration = Duration::from_secs(10);
/// How long a key id that the issuer does not publish is remembered as such.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
/// How many of them, at most.
const MAX_UNKNOWN: usize = 1024;
/// Longer ones are not remembered.
const MAX_KEY_ID: usize = 256;
/// How long a request waits for a fetch.
const DEMAND_PATIENCE: Duration = Duration::from_secs(2);
/// Between attempts after a failure: from, and up to this or the refresh interval.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// The key set of one issuer, for all generations that have it in common.
#[derive(Debug)]
pub struct KeySetCache {
    shared: Arc<Shared>,
    /// Ends the task with this; key sets in files have none.
    task: Option<AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    identity: Identity,
    current: ArcSwapOption<LoadedKeySet>,
    settings: ArcSwap<Settings>,
    metrics: IssuerMetrics,
    wake: Notify,
    /// Counts attempts that have ended.
    attempts: watch::Sender<u64>,
    demand: Mutex<Demand>,
    report: Mutex<Report>,
}

/// What the keys depend on: a generation that differs in it begins with none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    name: Box<str>,
    issuer: Box<str>,
    keys: KeySource,
    trust: Option<Arc<[rustls::pki_types::CertificateDer<'static>]>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settings {
    refresh_interval: Duration,
    max_stale: Duration,
}

/// A key set as it was read.
#[derive(Debug)]
pub struct LoadedKeySet {
    keys: KeySet,
    document: Bytes,
}

impl LoadedKeySet {
    /// The keys.
    #[must_use]
    pub const fn keys(&self) -> &KeySet {
        &self.keys
    }
}

/// What requests have asked for.
#[derive(Debug, Default)]
struct Demand {
    last: Option<Instant>,
    is_fetching: bool,
    has_failed: bool,
    unknown: HashMap<Box<str>, Instant>,
}

/// What is known about the key set, for the admin listener.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// When it was last read.
    pub last_success: Option<Instant>,
    /// Why the last attempt failed, if it did.
    pub last_error: Option<String>,
    /// When it is read next.
    pub next_refresh_at: Option<SystemTime>,
}

/// What a token with an unknown key id leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownKey {
    /// The key set has changed: look again.
    LookAgain,
    /// The issuer does not publish that key.
    NotPublished,
    /// The issuer cannot be asked, so there is no verdict.
    NoVerdict,
}

/// Why a key set could not be read.
#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error("`{url}`: {error}")]
    Fetch { url: Place, error: FetchError },
    #[error("`{url}`: {error}")]
    Invalid { url: Place, error: InvalidKeySet },
}

impl KeySetCache {
    /// Begins without keys and fetches them at once; from a file, has them already.
    ///
    /// # Errors
    /// When the certificate authorities of the issuer cannot be used.
    pub(crate) fn start(issuer: &config::Issuer, metrics: IssuerMetrics) -> reqwest::Result<Self> {
        let shared = Arc::new(Shared {
            identity: Identity::of(issuer),
            current: ArcSwapOption::empty(),
            settings: ArcSwap::from_pointee(Settings::of(issuer)),
            metrics,
            wake: Notify::new(),
            attempts: watch::Sender::new(0),
            demand: Mutex::new(Demand::default()),
            report: Mutex::new(Report::default()),
        });
        if let KeySource::File(_, document) = &issuer.keys {
            // `config` has parsed it: a file that is no key set is no configuration.
            if let Ok(keys) = KeySet::parse(document) {
                shared.accept(keys, Bytes::copy_from_slice(document));
            }
            shared.attempts.send_replace(1);
            return Ok(Self { shared, task: None });
        }
        let client = fetch::client(issuer)?;
        let task = tokio::spawn(refresh(Arc::clone(&shared), client));
        Ok(Self {
            shared,
            task: Some(task.abort_handle()),
        })
    }

    /// Whether the keys of `issuer` are these.
    pub(crate) fn belongs_to(&self, issuer: &config::Issuer) -> bool {
        self.shared.identity == Identity::of(issuer)
    }

    /// Takes over what may change without losing the keys.
    pub(crate) fn adopt(&self, issuer: &config::Issuer) {
        let settings = Settings::of(issuer);
        if **self.shared.settings.load() != settings {
            self.shared.settings.store(Arc::new(settings));
            self.shared.wake.notify_one();
        }
    }

    /// The key set, if there is one that may be used.
    pub(crate) fn current(&self) -> Option<Arc<LoadedKeySet>> {
        self.shared.current.load_full()
    }

    /// Whether `key_set` is still the one in use.
    pub(crate) fn is_current(&self, key_set: &Arc<LoadedKeySet>) -> bool {
        self.shared
            .current
            .load()
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, key_set))
    }

    /// Counts of this issuer.
    pub(crate) fn metrics(&self) -> &IssuerMetrics {
        &self.shared.metrics
    }

    /// What is known about the key set.
    pub(crate) fn report(&self) -> Report {
        self.shared
            .report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until the first attempt has ended, at most for `patience`.
    pub(crate) async fn first_attempt(&self, patience: Duration) {
        let mut attempts = self.shared.attempts.subscribe();
        let _ = timeout(patience, attempts.wait_for(|ended| *ended > 0)).await;
    }

    /// Finds out about a key id that `seen` lacks. One fetch serves all who ask while it runs; the
    /// next one comes after [`DEMAND_INTERVAL`] at the earliest.
    pub(crate) async fn ask_for(&self, key_id: &str, seen: &Arc<LoadedKeySet>) -> UnknownKey {
        let mut attempts = self.shared.attempts.subscribe();
        match self.shared.demand(key_id, seen, self.task.is_some()) {
            Demanded::Changed => return UnknownKey::LookAgain,
            Demanded::Suppressed { has_failed } => {
                self.shared.metrics.unknown_key_id(UnknownKeyId::Suppressed);
                return if has_failed {
                    UnknownKey::NoVerdict
                } else {
                    UnknownKey::NotPublished
                };
            }
            Demanded::Fetch => self.shared.metrics.unknown_key_id(UnknownKeyId::Fetched),
        }
        // An error cannot be: this holds the sender.
        let _ = timeout(DEMAND_PATIENCE, attempts.changed()).await;
        if !self.is_current(seen) {
            return UnknownKey::LookAgain;
        }
        let mut demand = self
            .shared
            .demand
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if demand.is_fetching || demand.has_failed {
            UnknownKey::NoVerdict
        } else {
            demand.remember(key_id, Instant::now());
            UnknownKey::NotPublished
        }
    }
}

impl KeySetCache {
    /// Fetches no more. The keys that are there stay.
    pub(crate) fn stop(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Drop for KeySetCache {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Identity {
    fn of(issuer: &config::Issuer) -> Self {
        Self {
            name: issuer.policy.name.clone(),
            issuer: issuer.policy.issuer.clone(),
            keys: issuer.keys.clone(),
            trust: issuer.trust.clone(),
        }
    }
}

impl Settings {
    const fn of(issuer: &config::Issuer) -> Self {
        Self {
            refresh_interval: issuer.refresh_interval,
            max_stale: issuer.max_stale,
        }
    }
}

enum Demanded {
    /// Somebody else has fetched meanwhile.
    Changed,
    /// A fetch is on its way.
    Fetch,
    /// No fetch now.
    Suppressed { has_failed: bool },
}

impl Demand {
    fn remember(&mut self, key_id: &str, now: Instant) {
        // No issuer names its keys so; what is not remembered costs a fetch every ten seconds.
        if key_id.len() > MAX_KEY_ID {
            return;
        }
        if self.unknown.len() >= MAX_UNKNOWN {
            self.unknown.retain(|_, until| *until > now);
        }
        // Whoever sends a thousand made-up key ids in half a minute finds the fetches suppressed.
        if self.unknown.len() < MAX_UNKNOWN {
            self.unknown.insert(key_id.into(), now + UNKNOWN_FOR);
        }
    }
}

impl Shared {
    fn demand(&self, key_id: &str, seen: &Arc<LoadedKeySet>, can_fetch: bool) -> Demanded {
        let now = Instant::now();
        let mut demand = self.demand.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unchanged = self
            .current
            .load()
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, seen));
        if !is_unchanged {
            return Demanded::Changed;
        }
        let has_failed = demand.has_failed;
        if demand.unknown.get(key_id).is_some_and(|until| *until > now) || !can_fetch {
            return Demanded::Suppressed { has_failed: false };
        }
        if demand.is_fetching {
            return Demanded::Fetch;
        }
        if demand
            .last
            .is_some_and(|last| now.duration_since(last) < DEMAND_INTERVAL)
        {
            return Demanded::Suppressed { has_failed };
        }
        demand.last = Some(now);
        demand.is_fetching = true;
        self.wake.notify_one();
        Demanded::Fetch
    }

    /// A key set was read. One that is as before stays the same one: tokens that were verified with
    /// it need not be verified again.
    fn accept(&self, keys: KeySet, document: Bytes) {
        let (usable, skipped) = (keys.len(), keys.skipped());
        let is_same = self
            .current
            .load()
            .as_ref()
            .is_some_and(|current| current.document == document);
        if !is_same {
            self.current
                .store(Some(Arc::new(LoadedKeySet { keys, document })));
            tracing::info!(
                portcullis.issuer = &*self.identity.name,
                keys = usable,
                skipped,
                "key set changed"
            );
        }
        self.metrics.key_set_refreshed(usable, SystemTime::now());
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.last_success = Some(Instant::now());
        report.last_error = None;
    }

    fn fail(&self, error: &RefreshError) {
        self.metrics.key_set_refresh_failed();
        let message = error.to_string();
        tracing::warn!(
            portcullis.issuer = &*self.identity.name,
            error.message = message,
            "key set not refreshed"
        );
        self.report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .last_error = Some(message);
    }

    fn begin_attempt(&self) {
        self.demand
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_fetching = true;
    }

    fn end_attempt(&self, has_failed: bool) {
        let mut demand = self.demand.lock().unwrap_or_else(PoisonError::into_inner);
        demand.is_fetching = false;
        demand.has_failed = has_failed;
        drop(demand);
        self.attempts.send_modify(|ended| *ended += 1);
    }

    /// When the last good key set may not be used any longer; `None` while there is none.
    fn expiry(&self) -> Option<Instant> {
        self.current.load().as_ref()?;
        let report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report
            .last_success
            .map(|success| success + self.settings.load().max_stale)
    }

    fn expire_if_due(&self, has_failed: bool) {
        // A key set is stale from the first refresh that fails: with a `max_stale` of nothing it
        // goes with that one, not before.
        if has_failed && self.expiry().is_some_and(|expiry| Instant::now() >= expiry) {
            self.current.store(None);
            self.metrics.key_set_expired();
            tracing::error!(
                portcullis.issuer = &*self.identity.name,
                "key set too old; this issuer's tokens are answered with 503"
            );
        }
    }
}

/// Fetches for as long as the cache lives.
async fn refresh(shared: Arc<Shared>, client: Client) {
    let mut retry = FIRST_RETRY;
    loop {
        shared.begin_attempt();
        let outcome = read(&shared.identity, &client).await;
        let has_failed = outcome.is_err();
        match outcome {
            Ok((keys, document)) => shared.accept(keys, document),
            Err(error) => shared.fail(&error),
        }
        shared.expire_if_due(has_failed);
        shared.end_attempt(has_failed);
        let interval = shared.settings.load().refresh_interval;
        let pause = if has_failed {
            let pause = retry.min(interval);
            retry = (retry * 2).min(LAST_RETRY);
            pause
        } else {
            retry = FIRST_RETRY;
            jittered(interval)
        };
        let next = Instant::now() + pause;
        shared
            .report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_refresh_at = Some(SystemTime::now() + pause);
        // The old set may expire while the issuer is down, between two attempts.
        loop {
            let expiry = shared
                .expiry()
                .filter(|expiry| has_failed && *expiry < next);
            tokio::select! {
                () = sleep_until(expiry.unwrap_or(next)) => {}
                () = shared.wake.notified() => break,
            }
            shared.expire_if_due(has_failed);
            if Instant::now() >= next {
                break;
            }
        }
    }
}

async fn read(identity: &Identity, client: &Client) -> Result<(KeySet, Bytes), RefreshError> {
    let url = match &identity.keys {
        KeySource::Url(url) => url.clone(),
        KeySource::Discovery {
            metadata_urls,
            allow_http,
        } => discovery::key_set_url(client, &identity.issuer, metadata_urls, *allow_http).await?,
        // Read by `config`, and no task runs for it.
        KeySource::File(path, _) => path.display().to_string(),
    };
    let document = match fetch::document(client, &url).await {
        Ok(document) => document,
        Err(error) => {
            let url = Place::of(&url);
            return Err(RefreshError::Fetch { url, error });
        }
    };
    match KeySet::parse(&document) {
        Ok(keys) => Ok((keys, document)),
        Err(error) => {
            let url = Place::of(&url);
            Err(RefreshError::Invalid { url, error })
        }
    }
}

/// Within 10 % of `interval`, so that a fleet that was started together does not ask together.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(rand::random_range(0.9..1.1))
}

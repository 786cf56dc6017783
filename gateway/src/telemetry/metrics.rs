//! Prometheus metrics. Names, labels and populations are an interface: `docs/telemetry.md` has a row
//! for each, and a test compares the two.
//!
//! Label values come from the configuration or from the enums in [`labels`], never from a request.
//! What runs for every request is resolved once, when a generation is built: [`Metrics::route`],
//! [`Metrics::upstream`], [`Metrics::issuer`] and [`Metrics::listener`] return handles whose methods
//! cost an atomic addition or two.
//!
//! A trap of the `prometheus` crate is kept out here: it hashes label values without a separator, so
//! that `("ab", "c")` and `("a", "bc")` would share one series. One configured name beside values of
//! a closed set cannot collide as long as no value of the set ends in another one (or begins with
//! it, where the set comes first); a test holds the sets to that.

mod handles;
pub mod labels;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

pub use handles::{
    InFlightRequest, IssuerMetrics, ListenerMetrics, OpenConnection, RouteMetrics, UpstreamMetrics,
};
use labels::{CertificateUsage, Reload, WebSocketEnd};

const NAMESPACE: &str = "portcullis";

/// The buckets that OpenTelemetry advises for `http.server.request.duration`.
const REQUEST_BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// From a remembered token (tens of microseconds) to a wait for an issuer's keys.
const ADMISSION_BUCKETS: [f64; 13] = [
    1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.1, 1.0, 10.0,
];

/// The largest value that survives the way through a 64-bit float, as any 48-bit number does.
const HASH_MASK: u64 = (1 << 48) - 1;

/// Every metric of the gateway, in a registry of its own. Clones share everything.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    admission_duration: Histogram,
    requests_in_flight: IntGauge,
    identity_headers_stripped: IntCounterVec,
    upstream_duration: HistogramVec,
    upstream_failures: IntCounterVec,
    upstream_retries: IntCounterVec,
    token_verifications: IntCounterVec,
    token_cache_entries: IntGauge,
    key_set_refreshes: IntCounterVec,
    key_set_last_success: IntGaugeVec,
    key_set_keys: IntGaugeVec,
    unknown_key_id_fetches: IntCounterVec,
    config_generation: IntGauge,
    config_hash: IntGauge,
    config_last_reload_successful: IntGauge,
    config_last_reload_timestamp: IntGauge,
    config_reloads: IntCounterVec,
    policy_file_current: IntGaugeVec,
    certificate_not_after: IntGaugeVec,
    connections: IntGaugeVec,
    connections_opened: IntCounterVec,
    connections_refused: IntCounterVec,
    connections_flooded: IntCounterVec,
    connections_shed: IntCounter,
    overloaded: IntGauge,
    websockets: IntGauge,
    websockets_ended: IntCounterVec,
    tls_handshakes: IntCounterVec,
    access_log_lines_dropped: IntCounter,
    log_lines_dropped: IntCounter,
    panics: IntCounter,
    clock_steps: IntCounter,
}

/// The names that a generation configures: series of all others are removed.
#[derive(Debug, Clone, Default)]
pub struct ConfiguredNames<'a> {
    /// Names of routes.
    pub routes: BTreeSet<&'a str>,
    /// Names of upstreams.
    pub upstreams: BTreeSet<&'a str>,
    /// Names of issuers.
    pub issuers: BTreeSet<&'a str>,
    /// Names of listeners.
    pub listeners: BTreeSet<&'a str>,
}

/// A policy file of the generation in force.
#[derive(Debug, Clone, Copy)]
pub struct PolicyFile<'a> {
    /// Its path, as in diagnostics.
    pub file: &'a str,
    /// The team that owns it.
    pub owner: &'a str,
    /// Whether its newest content is in force, rather than its last good one.
    pub is_current: bool,
}

/// A certificate that the gateway shows to somebody.
#[derive(Debug, Clone, Copy)]
pub struct Certificate<'a> {
    /// To whom it is shown.
    pub usage: CertificateUsage,
    /// Unique within the usage: the upstream's name, or the listener's name, a slash, and the first
    /// DNS name of the certificate.
    pub name: &'a str,
    /// End of the leaf's validity, seconds since 1970.
    pub not_after: i64,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// When two metrics have one name, which a test excludes.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let build_info = register(
            &registry,
            IntGaugeVec::new(
                opts("build_info", "Always 1; the label says which version runs."),
                &["version"],
            ),
        )?;
        build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let counter = |name, help| register(&registry, IntCounter::with_opts(opts(name, help)));
        let gauge = |name, help| register(&registry, IntGauge::with_opts(opts(name, help)));
        let counters = |name, help, labels: &[&str]| {
            register(&registry, IntCounterVec::new(opts(name, help), labels))
        };
        let gauges = |name, help, labels: &[&str]| {
            register(&registry, IntGaugeVec::new(opts(name, help), labels))
        };
        let durations = |name, help, labels: &[&str]| {
            register(
                &registry,
                HistogramVec::new(buckets(name, help, &REQUEST_BUCKETS), labels),
            )
        };
        let families = Families {
            requests: counters(
                "requests_total",
                "Requests that were answered, by route, outcome and refusal code.",
                &["route", "outcome", "code"],
            )?,
            request_duration: durations(
                "request_duration_seconds",
                "From a request's arrival to the end of its response.",
                &["route"],
            )?,
            admission_duration: register(
                &registry,
                Histogram::with_opts(buckets(
                    "admission_duration_seconds",
                    "From a request's arrival to the verdict: the gateway's own cost.",
                    &ADMISSION_BUCKETS,
                )),
            )?,
            requests_in_flight: gauge(
                "requests_in_flight",
                "Requests that have arrived and are not finished.",
            )?,
            identity_headers_stripped: counters(
                "identity_headers_stripped_total",
                "Header fields of callers that were removed because a service could take them for the gateway's.",
                &["route"],
            )?,
            upstream_duration: durations(
                "upstream_duration_seconds",
                "From the choice of an upstream's address to the end of its response, retries included.",
                &["upstream"],
            )?,
            upstream_failures: counters(
                "upstream_failures_total",
                "Attempts to reach an upstream that failed, by reason.",
                &["upstream", "reason"],
            )?,
            upstream_retries: counters(
                "upstream_retries_total",
                "Further attempts after one that failed.",
                &["upstream"],
            )?,
            token_verifications: counters(
                "token_verifications_total",
                "Access tokens that named a configured issuer, by verdict.",
                &["issuer", "result"],
            )?,
            token_cache_entries: gauge(
                "token_cache_entries",
                "Verified tokens that are remembered.",
            )?,
            key_set_refreshes: counters(
                "key_set_refreshes_total",
                "Attempts to read an issuer's key set.",
                &["issuer", "result"],
            )?,
            key_set_last_success: gauges(
                "key_set_last_success_timestamp_seconds",
                "When an issuer's key set was last read; 0 for never.",
                &["issuer"],
            )?,
            key_set_keys: gauges(
                "key_set_keys",
                "Usable keys in an issuer's key set.",
                &["issuer"],
            )?,
            unknown_key_id_fetches: counters(
                "unknown_key_id_fetches_total",
                "Tokens whose key id the key set lacks: whether that led to a fetch.",
                &["issuer", "result"],
            )?,
            config_generation: gauge(
                "config_generation",
                "Number of the configuration in force, from 1.",
            )?,
            config_hash: gauge(
                "config_hash",
                "48 bits of a hash of the configuration in force.",
            )?,
            config_last_reload_successful: gauge(
                "config_last_reload_successful",
                "1 when the last attempt to load the configuration put it in force, 0 when it was rejected.",
            )?,
            config_last_reload_timestamp: gauge(
                "config_last_reload_timestamp_seconds",
                "When the configuration was last attempted to load, with or without success.",
            )?,
            config_reloads: counters(
                "config_reloads_total",
                "Attempts to load the configuration, the first one included.",
                &["result"],
            )?,
            policy_file_current: gauges(
                "policy_file_current",
                "1 when a policy file's newest content is in force, 0 when it is held at its last good one.",
                &["file", "owner"],
            )?,
            certificate_not_after: gauges(
                "certificate_not_after_timestamp_seconds",
                "When a certificate of the gateway expires.",
                &["usage", "name"],
            )?,
            connections: gauges("connections", "Open connections of callers.", &["listener"])?,
            connections_opened: counters(
                "connections_total",
                "Connections of callers that were accepted.",
                &["listener"],
            )?,
            connections_refused: counters(
                "connections_refused_total",
                "Connections that were closed at once because their address has too many.",
                &["listener"],
            )?,
            connections_flooded: counters(
                "connections_flooded_total",
                "HTTP/2 connections that were closed for too many frames that carry nothing.",
                &["listener"],
            )?,
            connections_shed: counter(
                "connections_shed_total",
                "Connections that were closed in the middle of requests because memory was short.",
            )?,
            overloaded: gauge(
                "overloaded",
                "1 while memory is so short that new requests are refused.",
            )?,
            websockets: gauge("websockets", "Open WebSockets.")?,
            websockets_ended: counters(
                "websockets_ended_total",
                "WebSockets that were open and have ended.",
                &["reason"],
            )?,
            tls_handshakes: counters(
                "tls_handshakes_total",
                "TLS handshakes with callers.",
                &["listener", "result"],
            )?,
            access_log_lines_dropped: counter(
                "access_log_lines_dropped_total",
                "Lines of the access log that were lost because the sink was too slow or failed.",
            )?,
            log_lines_dropped: counter(
                "log_lines_dropped_total",
                "Lines of the operational log that were lost because standard error was too slow or failed.",
            )?,
            panics: counter("panics_total", "Panics; each is a defect of the gateway.")?,
            clock_steps: counter(
                "clock_steps_total",
                "Times that the wall clock was set by a second or more.",
            )?,
            registry: registry.clone(),
        };
        for result in Reload::ALL {
            families
                .config_reloads
                .with_label_values(&[result.as_str()]);
        }
        for end in WebSocketEnd::ALL {
            families.websockets_ended.with_label_values(&[end.as_str()]);
        }
        Ok(Self(Arc::new(families)))
    }

    /// Everything in the Prometheus text format, version 0.0.4.
    ///
    /// # Errors
    /// When the families contradict each other, which a test excludes.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.0.registry.gather())
    }

    /// Records the time from a request's arrival to its verdict.
    pub fn admission_decided(&self, duration: Duration) {
        self.0.admission_duration.observe(duration.as_secs_f64());
    }

    /// Sets how many verified tokens are remembered.
    pub fn token_cache_resized(&self, entries: usize) {
        self.0.token_cache_entries.set(saturating(entries));
    }

    /// A configuration is in force: `generation` counts from 1, 48 bits of `hash` are shown.
    pub fn configuration_loaded(
        &self,
        generation: u64,
        hash: u64,
        held_back: HeldBack,
        now: SystemTime,
    ) {
        self.0.config_generation.set(saturating(generation));
        self.0.config_hash.set(saturating(hash & HASH_MASK));
        self.reload_attempted(
            match held_back {
                HeldBack::Nothing => Reload::Applied,
                HeldBack::SomePolicyFiles => Reload::Partial,
            },
            now,
        );
    }

    /// A configuration was rejected; the one before stays in force.
    pub fn configuration_rejected(&self, now: SystemTime) {
        self.reload_attempted(Reload::Rejected, now);
    }

    fn reload_attempted(&self, result: Reload, now: SystemTime) {
        self.0
            .config_reloads
            .with_label_values(&[result.as_str()])
            .inc();
        self.0
            .config_last_reload_successful
            .set(i64::from(result != Reload::Rejected));
        self.0.config_last_reload_timestamp.set(unix_seconds(now));
    }

    /// Replaces what is known about policy files.
    ///
    /// Both labels are configured, so the collision above is possible in theory: it needs two files
    /// of which one's path continues the other's, and owners chosen to fit.
    pub fn policy_files_replaced<'a>(&self, files: impl IntoIterator<Item = PolicyFile<'a>>) {
        let mut known = BTreeSet::new();
        for PolicyFile {
            file,
            owner,
            is_current,
        } in files
        {
            self.0
                .policy_file_current
                .with_label_values(&[file, owner])
                .set(i64::from(is_current));
            known.insert((file, owner));
        }
        retain(&self.0.policy_file_current, |labels| {
            known.contains(&(value(labels, "file"), value(labels, "owner")))
        });
    }

    /// Replaces what is known about certificates. Of two with the same name the earlier end counts.
    pub fn certificates_replaced<'a>(
        &self,
        certificates: impl IntoIterator<Item = Certificate<'a>>,
    ) {
        let mut known = HashMap::new();
        for Certificate {
            usage,
            name,
            not_after,
        } in certificates
        {
            let end = known.entry((usage.as_str(), name)).or_insert(not_after);
            *end = not_after.min(*end);
        }
        for ((usage, name), not_after) in &known {
            self.0
                .certificate_not_after
                .with_label_values(&[*usage, *name])
                .set(*not_after);
        }
        retain(&self.0.certificate_not_after, |labels| {
            known.contains_key(&(value(labels, "usage"), value(labels, "name")))
        });
    }

    /// Removes the series of names that are no longer configured. Handles of a removed name can be
    /// used until they are dropped; what they record is not shown.
    pub fn retain(&self, names: &ConfiguredNames<'_>) {
        let families = &*self.0;
        let by = |label: &'static str, names: &BTreeSet<&str>| {
            let names: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
            move |labels: &HashMap<&str, &str>| {
                let name = value(labels, label);
                name == super::NONE || names.contains(name)
            }
        };
        let route = by("route", &names.routes);
        retain(&families.requests, &route);
        retain(&families.request_duration, &route);
        retain(&families.identity_headers_stripped, &route);
        let upstream = by("upstream", &names.upstreams);
        retain(&families.upstream_duration, &upstream);
        retain(&families.upstream_failures, &upstream);
        retain(&families.upstream_retries, &upstream);
        let issuer = by("issuer", &names.issuers);
        retain(&families.token_verifications, &issuer);
        retain(&families.key_set_refreshes, &issuer);
        retain(&families.key_set_last_success, &issuer);
        retain(&families.key_set_keys, &issuer);
        retain(&families.unknown_key_id_fetches, &issuer);
        let listener = by("listener", &names.listeners);
        retain(&families.connections, &listener);
        retain(&families.connections_opened, &listener);
        retain(&families.connections_refused, &listener);
        retain(&families.connections_flooded, &listener);
        retain(&families.tls_handshakes, &listener);
    }

    /// How many requests have arrived and are not finished.
    #[must_use]
    pub fn requests_in_flight(&self) -> u64 {
        u64::try_from(self.0.requests_in_flight.get()).unwrap_or(0)
    }

    /// Whether requests are refused because memory is short.
    pub fn overload_changed(&self, is_overloaded: bool) {
        self.0.overloaded.set(i64::from(is_overloaded));
    }

    /// Records that connections were closed because memory is short.
    pub fn connections_shed(&self, count: usize) {
        self.0.connections_shed.inc_by(count as u64);
    }

    /// Counts a WebSocket as open until the returned value says how it ended, or is dropped.
    #[must_use]
    pub fn websocket_opened(&self) -> OpenWebSocket {
        self.0.websockets.inc();
        OpenWebSocket {
            metrics: self.clone(),
            end: WebSocketEnd::CutOff,
        }
    }

    /// For the writer of the access log.
    #[must_use]
    pub fn access_log_lines_dropped(&self) -> IntCounter {
        self.0.access_log_lines_dropped.clone()
    }

    /// For the writer of the operational log.
    #[must_use]
    pub fn log_lines_dropped(&self) -> IntCounter {
        self.0.log_lines_dropped.clone()
    }

    /// Records that the wall clock was set.
    pub fn clock_stepped(&self) {
        self.0.clock_steps.inc();
    }

    /// For the panic hook.
    #[must_use]
    pub fn panics(&self) -> IntCounter {
        self.0.panics.clone()
    }
}

/// A WebSocket that is counted as open.
#[derive(Debug)]
pub struct OpenWebSocket {
    metrics: Metrics,
    end: WebSocketEnd,
}

impl OpenWebSocket {
    /// It has ended.
    pub fn ended(mut self, end: WebSocketEnd) {
        self.end = end;
    }
}

impl Drop for OpenWebSocket {
    fn drop(&mut self) {
        let families = &self.metrics.0;
        families.websockets.dec();
        families
            .websockets_ended
            .with_label_values(&[self.end.as_str()])
            .inc();
    }
}

/// What a configuration in force leaves at its last good content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBack {
    /// Everything is as in the files.
    Nothing,
    /// At least one policy file is held.
    SomePolicyFiles,
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(NAMESPACE)
}

fn buckets(name: &str, help: &str, bounds: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help)
        .namespace(NAMESPACE)
        .buckets(bounds.to_vec())
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: prometheus::Result<C>,
) -> prometheus::Result<C> {
    let collector = collector?;
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// Removes the series whose labels `keep` refuses.
fn retain<B: MetricVecBuilder>(series: &MetricVec<B>, keep: impl Fn(&HashMap<&str, &str>) -> bool) {
    for family in series.collect() {
        for metric in family.get_metric() {
            let labels: HashMap<&str, &str> = metric
                .get_label()
                .iter()
                .map(|pair| (pair.name(), pair.value()))
                .collect();
            if !keep(&labels) {
                // An error says that somebody else has removed it.
                let _ = series.remove(&labels);
            }
        }
    }
}

fn value<'a>(labels: &HashMap<&str, &'a str>, name: &str) -> &'a str {
    labels.get(name).copied().unwrap_or_default()
}

/// Time since 1970; a clock before that counts as 1970.
pub(super) fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn unix_seconds(time: SystemTime) -> i64 {
    saturating(since_epoch(time).as_secs())
}

fn saturating(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;

//! Handles: series that were looked up once, for those who count often.

use std::time::{Duration, SystemTime};

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::labels::{Handshake, KeySetRefresh, TokenVerification, UnknownKeyId, UpstreamFailure};
use super::{Metrics, saturating, unix_seconds};
use crate::telemetry::{NONE, Outcome};

impl Metrics {
    /// The metrics of a route; [`NONE`] is for requests that found none.
    #[must_use]
    pub fn route(&self, name: &str) -> RouteMetrics {
        let families = &*self.0;
        RouteMetrics {
            name: name.into(),
            admitted: families.requests.with_label_values(&[
                name,
                Outcome::Admitted.as_str(),
                NONE,
            ]),
            requests: families.requests.clone(),
            duration: families.request_duration.with_label_values(&[name]),
            identity_headers_stripped: families
                .identity_headers_stripped
                .with_label_values(&[name]),
        }
    }

    /// The metrics of an upstream.
    #[must_use]
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        let families = &*self.0;
        for reason in UpstreamFailure::ALL {
            families
                .upstream_failures
                .with_label_values(&[name, reason.as_str()]);
        }
        UpstreamMetrics {
            name: name.into(),
            duration: families.upstream_duration.with_label_values(&[name]),
            failures: families.upstream_failures.clone(),
            retries: families.upstream_retries.with_label_values(&[name]),
        }
    }

    /// The metrics of an issuer.
    #[must_use]
    pub fn issuer(&self, name: &str) -> IssuerMetrics {
        let families = &*self.0;
        let verification = |result: TokenVerification| {
            families
                .token_verifications
                .with_label_values(&[name, result.as_str()])
        };
        let refresh = |result: KeySetRefresh| {
            families
                .key_set_refreshes
                .with_label_values(&[name, result.as_str()])
        };
        let unknown = |result: UnknownKeyId| {
            families
                .unknown_key_id_fetches
                .with_label_values(&[name, result.as_str()])
        };
        IssuerMetrics {
            cached: verification(TokenVerification::Cached),
            verified: verification(TokenVerification::Verified),
            refused: verification(TokenVerification::Refused),
            refreshed: refresh(KeySetRefresh::Succeeded),
            refresh_failed: refresh(KeySetRefresh::Failed),
            last_success: families.key_set_last_success.with_label_values(&[name]),
            keys: families.key_set_keys.with_label_values(&[name]),
            fetched: unknown(UnknownKeyId::Fetched),
            suppressed: unknown(UnknownKeyId::Suppressed),
        }
    }

    /// The metrics of a listener.
    #[must_use]
    pub fn listener(&self, name: &str) -> ListenerMetrics {
        let families = &*self.0;
        let handshake = |result: Handshake| {
            families
                .tls_handshakes
                .with_label_values(&[name, result.as_str()])
        };
        ListenerMetrics {
            open: families.connections.with_label_values(&[name]),
            opened: families.connections_opened.with_label_values(&[name]),
            refused: families.connections_refused.with_label_values(&[name]),
            flooded: families.connections_flooded.with_label_values(&[name]),
            completed: handshake(Handshake::Completed),
            failed: handshake(Handshake::Failed),
            timed_out: handshake(Handshake::TimedOut),
        }
    }

    /// Counts a request as in flight until the returned value is dropped.
    #[must_use]
    pub fn request_arrived(&self) -> InFlightRequest {
        self.0.requests_in_flight.inc();
        InFlightRequest(self.0.requests_in_flight.clone())
    }
}

/// Counts the requests of one route.
#[derive(Debug, Clone)]
pub struct RouteMetrics {
    name: Box<str>,
    admitted: IntCounter,
    requests: IntCounterVec,
    duration: Histogram,
    identity_headers_stripped: IntCounter,
}

impl RouteMetrics {
    /// Records one finished request. `code` is the refusal's, or [`NONE`].
    pub fn record(&self, outcome: Outcome, code: &'static str, duration: Duration) {
        match outcome {
            Outcome::Admitted if code == NONE => self.admitted.inc(),
            Outcome::Admitted | Outcome::Denied | Outcome::Faulted => {
                self.requests
                    .with_label_values(&[&*self.name, outcome.as_str(), code])
                    .inc();
            }
        }
        self.duration.observe(duration.as_secs_f64());
    }

    /// Records header fields of a caller that were removed as forgeries of the gateway's own.
    pub fn identity_headers_stripped(&self, fields: u64) {
        self.identity_headers_stripped.inc_by(fields);
    }
}

/// Counts what happens with one upstream.
#[derive(Debug, Clone)]
pub struct UpstreamMetrics {
    name: Box<str>,
    duration: Histogram,
    failures: IntCounterVec,
    retries: IntCounter,
}

impl UpstreamMetrics {
    /// Records the time that a request spent with the upstream, whatever came of it.
    pub fn finished(&self, duration: Duration) {
        self.duration.observe(duration.as_secs_f64());
    }

    /// Records one attempt that failed.
    pub fn failed(&self, reason: UpstreamFailure) {
        self.failures
            .with_label_values(&[&*self.name, reason.as_str()])
            .inc();
    }

    /// Records one further attempt.
    pub fn retried(&self) {
        self.retries.inc();
    }
}

/// Counts the tokens and the key set of one issuer.
#[derive(Debug, Clone)]
pub struct IssuerMetrics {
    cached: IntCounter,
    verified: IntCounter,
    refused: IntCounter,
    refreshed: IntCounter,
    refresh_failed: IntCounter,
    last_success: IntGauge,
    keys: IntGauge,
    fetched: IntCounter,
    suppressed: IntCounter,
}

impl IssuerMetrics {
    /// Records the verdict on one access token.
    pub fn token_judged(&self, result: TokenVerification) {
        match result {
            TokenVerification::Cached => self.cached.inc(),
            TokenVerification::Verified => self.verified.inc(),
            TokenVerification::Refused => self.refused.inc(),
        }
    }

    /// Records that the key set was read, with this many usable keys.
    pub fn key_set_refreshed(&self, keys: usize, now: SystemTime) {
        self.refreshed.inc();
        self.keys.set(saturating(keys));
        self.last_success.set(unix_seconds(now));
    }

    /// Records that the key set could not be read.
    pub fn key_set_refresh_failed(&self) {
        self.refresh_failed.inc();
    }

    /// Records that the last good key set is too old to be used any longer.
    pub fn key_set_expired(&self) {
        self.keys.set(0);
    }

    /// Records what a token with an unknown key id led to.
    pub fn unknown_key_id(&self, result: UnknownKeyId) {
        match result {
            UnknownKeyId::Fetched => self.fetched.inc(),
            UnknownKeyId::Suppressed => self.suppressed.inc(),
        }
    }
}

/// Counts the connections of one listener.
#[derive(Debug, Clone)]
pub struct ListenerMetrics {
    open: IntGauge,
    opened: IntCounter,
    refused: IntCounter,
    flooded: IntCounter,
    completed: IntCounter,
    failed: IntCounter,
    timed_out: IntCounter,
}

impl ListenerMetrics {
    /// Counts a connection as open until the returned value is dropped.
    #[must_use]
    pub fn connection_accepted(&self) -> OpenConnection {
        self.opened.inc();
        self.open.inc();
        OpenConnection(self.open.clone())
    }

    /// Records that a connection was closed at once.
    pub fn connection_refused(&self) {
        self.refused.inc();
    }

    /// Records that a connection was closed for the HTTP/2 frames that came on it.
    pub fn connection_flooded(&self) {
        self.flooded.inc();
    }

    /// Records how a TLS handshake ended.
    pub fn handshake_ended(&self, result: Handshake) {
        match result {
            Handshake::Completed => self.completed.inc(),
            Handshake::Failed => self.failed.inc(),
            Handshake::TimedOut => self.timed_out.inc(),
        }
    }
}

/// A connection that is counted as open.
#[derive(Debug)]
pub struct OpenConnection(IntGauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A request that is counted as in flight.
#[derive(Debug)]
pub struct InFlightRequest(IntGauge);

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        self.0.dec();
    }
}

//! What the gateway tells about itself: [`metrics`] for dashboards and alerts, the operational
//! [`log`] on standard error, and the [`access_log`] with one line for each request.
//!
//! Three invariants hold in all of them. No token, cookie, secret, proof or query string is ever
//! written. What a caller sends never becomes the name or the label of a series. And a sink that
//! stalls never stalls a request: lines are dropped, and the drops are counted.
//!
//! `docs/telemetry.md` is the manual: every metric and every field, and what to do about it.

pub mod access_log;
pub mod line_writer;
pub mod log;
pub mod metrics;
mod timestamp;

pub use access_log::AccessLog;
pub use metrics::Metrics;
pub use timestamp::Timestamp;

/// How a request ended, as metrics and the access log tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A permit was issued and a service answered, whatever it answered.
    Admitted,
    /// Refused, and the caller can do something about it (4xx).
    Denied,
    /// Refused, and the fault is the gateway's, an issuer's or an upstream's (5xx).
    Faulted,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Admitted, Self::Denied, Self::Faulted];

    /// The label value and log field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Denied => "denied",
            Self::Faulted => "faulted",
        }
    }
}

/// Stands where there is no refusal code, or no route was found.
pub const NONE: &str = "none";

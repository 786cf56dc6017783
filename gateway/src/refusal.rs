//! Why a request was not served: the caller's fault, or not the caller's.

use portcullis_policy::Denial;

use crate::telemetry::Outcome;

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The caller is at fault, and can do something about it (4xx).
    Denied(Denial),
    /// The gateway, an issuer or a service is at fault (5xx). It admits nobody.
    Faulted(Fault),
}

/// What is wrong when the caller is not at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The token's issuer has no key set that may be used, so there is no verdict.
    KeysUnavailable,
    /// No address of the upstream can be connected to.
    UpstreamUnreachable,
    /// The TLS handshake with the upstream failed: trust, name, or the gateway's own certificate.
    UpstreamUntrusted,
    /// The upstream broke off, or does not speak HTTP.
    UpstreamBroken,
    /// The upstream was too slow.
    UpstreamTimeout,
    /// The gateway has too much to do.
    Overloaded,
    /// The gateway has stopped before the request was finished. No caller ever reads this.
    ShuttingDown,
    /// The gateway itself.
    Internal,
}

impl Refusal {
    /// Stable word for the problem, the log field, the metric label and the docs anchor.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Denied(denial) => denial.code(),
            Self::Faulted(fault) => fault.code(),
        }
    }

    /// HTTP status code.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Denied(denial) => denial.status(),
            Self::Faulted(fault) => fault.status(),
        }
    }

    /// One sentence for the caller.
    #[must_use]
    pub const fn title(&self) -> &'static str {
        match self {
            Self::Denied(denial) => denial.title(),
            Self::Faulted(fault) => fault.title(),
        }
    }

    /// How the request ended, for metrics and the access log.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Denied(_) => Outcome::Denied,
            Self::Faulted(_) => Outcome::Faulted,
        }
    }
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 8] = [
        Self::KeysUnavailable,
        Self::UpstreamUnreachable,
        Self::UpstreamUntrusted,
        Self::UpstreamBroken,
        Self::UpstreamTimeout,
        Self::Overloaded,
        Self::ShuttingDown,
        Self::Internal,
    ];

    /// Stable word.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::KeysUnavailable => "keys_unavailable",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamUntrusted => "upstream_untrusted",
            Self::UpstreamBroken => "upstream_broken",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Overloaded => "overloaded",
            Self::ShuttingDown => "shutting_down",
            Self::Internal => "internal_error",
        }
    }

    /// HTTP status code.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::KeysUnavailable | Self::Overloaded | Self::ShuttingDown => 503,
            Self::UpstreamUnreachable | Self::UpstreamUntrusted | Self::UpstreamBroken => 502,
            Self::UpstreamTimeout => 504,
            Self::Internal => 500,
        }
    }

    /// One sentence for the caller.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::KeysUnavailable => "the access token cannot be judged at the moment",
            Self::UpstreamUnreachable => "the service cannot be reached",
            Self::UpstreamUntrusted => "the service cannot be reached safely",
            Self::UpstreamBroken => "the service broke off",
            Self::UpstreamTimeout => "the service took too long",
            Self::Overloaded => "the gateway has too much to do at the moment",
            Self::ShuttingDown => "the gateway has stopped",
            Self::Internal => "the gateway failed",
        }
    }

    /// Seconds after which trying again may help (`Retry-After`, RFC 9110 §10.2.3).
    #[must_use]
    pub const fn retry_after_seconds(self) -> Option<u32> {
        match self {
            Self::KeysUnavailable => Some(5),
            Self::Overloaded | Self::ShuttingDown => Some(1),
            Self::UpstreamUnreachable
            | Self::UpstreamUntrusted
            | Self::UpstreamBroken
            | Self::UpstreamTimeout
            | Self::Internal => None,
        }
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Faulted(fault)
    }
}

//! The label values that do not come from the configuration.

/// An enum whose variants are label values.
macro_rules! label_values {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The label value.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)+
                }
            }
        }
    };
}

label_values! {
    /// What became of an access token that named a configured issuer.
    TokenVerification {
        /// It had been verified before and was remembered.
        Cached = "cached",
        /// Its signature and claims were verified now.
        Verified = "verified",
        /// It was refused.
        Refused = "refused",
    }
}

label_values! {
    /// What an attempt to read a key set led to.
    KeySetRefresh {
        /// The key set is as the issuer publishes it.
        Succeeded = "succeeded",
        /// The last good key set stays in use.
        Failed = "failed",
    }
}

label_values! {
    /// What a token with an unknown key id led to.
    UnknownKeyId {
        /// The key set was fetched, or a fetch under way was waited for.
        Fetched = "fetched",
        /// No fetch: there was one shortly before, or this key id is remembered as unknown.
        Suppressed = "suppressed",
    }
}

label_values! {
    /// Why an attempt to reach an upstream failed.
    UpstreamFailure {
        /// No connection: refused, unreachable, or the name did not resolve.
        ConnectRefused = "connect_refused",
        /// No connection in time.
        ConnectTimeout = "connect_timeout",
        /// The TLS handshake failed: trust, name, or the gateway's own certificate.
        Tls = "tls",
        /// The connection broke before the response was complete.
        Reset = "reset",
        /// The response did not begin, or fell silent, for too long.
        ResponseTimeout = "response_timeout",
        /// What came back is not the protocol.
        Protocol = "protocol",
    }
}

label_values! {
    /// How a TLS handshake with a caller ended.
    Handshake {
        /// With a connection.
        Completed = "completed",
        /// Without agreement: protocol, certificate, or the caller left.
        Failed = "failed",
        /// Not in time.
        TimedOut = "timed_out",
    }
}

label_values! {
    /// How a WebSocket ended.
    WebSocketEnd {
        /// The caller or the service left.
        Left = "left",
        /// Neither of them said anything for too long, or took what the other said.
        Idle = "idle",
        /// The access token that opened it was no longer good.
        TokenExpired = "token_expired",
        /// It was open for as long as any may be.
        Aged = "aged",
        /// The gateway stops.
        Stopping = "stopping",
        /// It was cut off: memory was short, or the time to stop was over.
        CutOff = "cut_off",
    }
}

label_values! {
    /// What an attempt to load the configuration led to.
    Reload {
        /// All of it is in force.
        Applied = "applied",
        /// It is in force, but at least one policy file is held at its last good content.
        Partial = "partial",
        /// The configuration before stays in force.
        Rejected = "rejected",
    }
}

label_values! {
    /// To whom a certificate of the gateway is shown.
    CertificateUsage {
        /// To callers.
        Listener = "listener",
        /// To a service, as the gateway's identity.
        Upstream = "upstream",
    }
}

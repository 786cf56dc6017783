use crate::MethodSet;

/// Every way in which a caller can be refused. The caller is at fault, never the gateway or a service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant is documented by its title and code"
)]
pub enum Denial {
    RequestMalformed,
    RequestTimeout,
    TargetTooLong,
    HeadersTooLarge,
    BodyTooLarge,
    AuthorityInvalid,
    AuthorityMisdirected,
    PathAmbiguous,
    RouteNotFound,
    MethodNotAllowed { allow: MethodSet },
    CredentialMissing,
    CredentialRepeated,
    CredentialMalformed,
    TokenMalformed,
    TokenHeaderRefused,
    TokenTypeRefused,
    TokenAlgorithmRefused,
    TokenKeyUnknown,
    TokenSignatureInvalid,
    TokenAudienceMismatch,
    TokenClaimInvalid { claim: &'static str },
    TokenClaimUnrepresentable,
    TokenExpired,
    TokenNotYetValid,
    TokenAttemptsExceeded,
    IssuerUnknown,
    IssuerNotAccepted,
    ScopeInsufficient { required: Box<str> },
    WebSocketMalformed,
    WebSocketVersion,
    WebSocketNotAllowed,
}

/// The `error` of a challenge (RFC 6750 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the registered ones")]
pub enum ChallengeError {
    InvalidRequest,
    InvalidToken,
    InsufficientScope,
}

impl ChallengeError {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope => "insufficient_scope",
        }
    }
}

impl Denial {
    /// Stable word for the problem type, the log field, the metric label and the docs anchor.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::RequestMalformed => "request_malformed",
            Self::RequestTimeout => "request_timeout",
            Self::TargetTooLong => "target_too_long",
            Self::HeadersTooLarge => "headers_too_large",
            Self::BodyTooLarge => "body_too_large",
            Self::AuthorityInvalid => "authority_invalid",
            Self::AuthorityMisdirected => "authority_misdirected",
            Self::PathAmbiguous => "path_ambiguous",
            Self::RouteNotFound => "route_not_found",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::CredentialMissing => "credential_missing",
            Self::CredentialRepeated => "credential_repeated",
            Self::CredentialMalformed => "credential_malformed",
            Self::TokenMalformed => "token_malformed",
            Self::TokenHeaderRefused => "token_header_refused",
            Self::TokenTypeRefused => "token_type_refused",
            Self::TokenAlgorithmRefused => "token_algorithm_refused",
            Self::TokenKeyUnknown => "token_key_unknown",
            Self::TokenSignatureInvalid => "token_signature_invalid",
            Self::TokenAudienceMismatch => "token_audience_mismatch",
            Self::TokenClaimInvalid { .. } => "token_claim_invalid",
            Self::TokenClaimUnrepresentable => "token_claim_unrepresentable",
            Self::TokenExpired => "token_expired",
            Self::TokenNotYetValid => "token_not_yet_valid",
            Self::TokenAttemptsExceeded => "token_attempts_exceeded",
            Self::IssuerUnknown => "issuer_unknown",
            Self::IssuerNotAccepted => "issuer_not_accepted",
            Self::ScopeInsufficient { .. } => "scope_insufficient",
            Self::WebSocketMalformed => "websocket_malformed",
            Self::WebSocketVersion => "websocket_version_unsupported",
            Self::WebSocketNotAllowed => "websocket_not_allowed",
        }
    }

    /// One sentence for the caller: the title of the problem (RFC 9457 §3.1.3). It never quotes what
    /// the caller sent.
    #[must_use]
    pub const fn title(&self) -> &'static str {
        match self {
            Self::RequestMalformed => "the request is not well-formed HTTP",
            Self::RequestTimeout => "the request did not arrive in time",
            Self::TargetTooLong => "the request target is too long",
            Self::HeadersTooLarge => "the request has too many or too large header fields",
            Self::BodyTooLarge => "the request body is too large",
            Self::AuthorityInvalid => "the request does not name exactly one valid host",
            Self::AuthorityMisdirected => "this connection was not made for that host",
            Self::PathAmbiguous => "the path could be read in two ways",
            Self::RouteNotFound => "nothing is served at this host and path",
            Self::MethodNotAllowed { .. } => "the path is not served with this method",
            Self::CredentialMissing => "an access token is needed",
            Self::CredentialRepeated => "more than one credential was sent",
            Self::CredentialMalformed => "the Authorization header is not `Bearer` and one token",
            Self::TokenMalformed => "the access token is not a signed JWT",
            Self::TokenHeaderRefused => "the access token has a header member that is not accepted",
            Self::TokenTypeRefused => "the token is not an access token",
            Self::TokenAlgorithmRefused => {
                "the access token is signed with an algorithm that is not accepted"
            }
            Self::TokenKeyUnknown => {
                "the access token is signed with a key that its issuer does not publish"
            }
            Self::TokenSignatureInvalid => "the signature of the access token does not fit",
            Self::TokenAudienceMismatch => "the access token is for another API",
            Self::TokenClaimInvalid { .. } => {
                "a claim of the access token is missing or of the wrong kind"
            }
            Self::TokenClaimUnrepresentable => {
                "a claim of the access token has a value that cannot be passed on"
            }
            Self::TokenExpired => "the access token has expired",
            Self::TokenNotYetValid => "the access token is not valid yet",
            Self::TokenAttemptsExceeded => {
                "too many access tokens from this address were refused a moment ago"
            }
            Self::IssuerUnknown => "the access token comes from an issuer that is not accepted",
            Self::IssuerNotAccepted => "this route does not take access tokens from that issuer",
            Self::ScopeInsufficient { .. } => {
                "the access token lacks a scope that this route needs"
            }
            Self::WebSocketMalformed => "the WebSocket handshake is not correct",
            Self::WebSocketVersion => "only version 13 of WebSocket is spoken",
            Self::WebSocketNotAllowed => "no WebSocket is served at this path",
        }
    }

    /// HTTP status code.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::RequestMalformed
            | Self::AuthorityInvalid
            | Self::PathAmbiguous
            | Self::CredentialRepeated
            | Self::CredentialMalformed
            | Self::WebSocketMalformed => 400,
            Self::RouteNotFound => 404,
            Self::MethodNotAllowed { .. } => 405,
            Self::RequestTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::AuthorityMisdirected => 421,
            Self::HeadersTooLarge => 431,
            Self::ScopeInsufficient { .. } | Self::WebSocketNotAllowed => 403,
            Self::WebSocketVersion => 426,
            Self::TokenAttemptsExceeded => 429,
            Self::CredentialMissing
            | Self::TokenMalformed
            | Self::TokenHeaderRefused
            | Self::TokenTypeRefused
            | Self::TokenAlgorithmRefused
            | Self::TokenKeyUnknown
            | Self::TokenSignatureInvalid
            | Self::TokenAudienceMismatch
            | Self::TokenClaimInvalid { .. }
            | Self::TokenClaimUnrepresentable
            | Self::TokenExpired
            | Self::TokenNotYetValid
            | Self::IssuerUnknown
            | Self::IssuerNotAccepted => 401,
        }
    }

    /// The challenge's `error`; none when nothing was presented or no credential could help.
    #[must_use]
    pub const fn challenge_error(&self) -> Option<ChallengeError> {
        match self {
            Self::RequestMalformed
            | Self::RequestTimeout
            | Self::TargetTooLong
            | Self::HeadersTooLarge
            | Self::BodyTooLarge
            | Self::AuthorityInvalid
            | Self::AuthorityMisdirected
            | Self::PathAmbiguous
            | Self::RouteNotFound
            | Self::MethodNotAllowed { .. }
            | Self::CredentialMissing
            | Self::TokenAttemptsExceeded
            | Self::WebSocketMalformed
            | Self::WebSocketVersion
            | Self::WebSocketNotAllowed => None,
            Self::CredentialRepeated | Self::CredentialMalformed => {
                Some(ChallengeError::InvalidRequest)
            }
            Self::ScopeInsufficient { .. } => Some(ChallengeError::InsufficientScope),
            Self::TokenMalformed
            | Self::TokenHeaderRefused
            | Self::TokenTypeRefused
            | Self::TokenAlgorithmRefused
            | Self::TokenKeyUnknown
            | Self::TokenSignatureInvalid
            | Self::TokenAudienceMismatch
            | Self::TokenClaimInvalid { .. }
            | Self::TokenClaimUnrepresentable
            | Self::TokenExpired
            | Self::TokenNotYetValid
            | Self::IssuerUnknown
            | Self::IssuerNotAccepted => Some(ChallengeError::InvalidToken),
        }
    }
}

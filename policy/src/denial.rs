use crate::MethodSet;

/// Every way in which a caller can be refused. The caller is at fault, never the gateway or a service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant is documented by its title and code"
)]
pub enum Denial {
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
    IssuerUnknown,
    IssuerNotAccepted,
    ScopeInsufficient { required: Box<str> },
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
            Self::IssuerUnknown => "issuer_unknown",
            Self::IssuerNotAccepted => "issuer_not_accepted",
            Self::ScopeInsufficient { .. } => "scope_insufficient",
        }
    }

    /// HTTP status code.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::PathAmbiguous | Self::CredentialRepeated | Self::CredentialMalformed => 400,
            Self::RouteNotFound => 404,
            Self::MethodNotAllowed { .. } => 405,
            Self::ScopeInsufficient { .. } => 403,
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
            Self::PathAmbiguous
            | Self::RouteNotFound
            | Self::MethodNotAllowed { .. }
            | Self::CredentialMissing => None,
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

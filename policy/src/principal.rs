use http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::{Denial, IdentityHeaders, IssuerId, ScopeRegistry, ScopeSet, UnixTime, VerifiedToken};

/// All that was verified about a caller, with the identity headers ready made.
#[derive(Debug)]
pub struct Principal {
    issuer: IssuerId,
    subject: Box<str>,
    client: Option<Box<str>>,
    token_id: Option<Box<str>>,
    scopes: ScopeSet,
    refused_from: UnixTime,
    identity: Vec<(HeaderName, HeaderValue)>,
}

impl Principal {
    /// Whom a verified token speaks for, in the terms of one generation of the policy.
    ///
    /// # Errors
    /// [`Denial::TokenClaimUnrepresentable`] when a configured claim cannot be a header value.
    pub fn new(
        token: &VerifiedToken,
        headers: &IdentityHeaders,
        registry: &ScopeRegistry,
    ) -> Result<Self, Denial> {
        let mut identity = Vec::new();
        for (header, claim) in headers.iter() {
            if let Some(text) = header_text(token, claim)? {
                let is_printable = text.bytes().all(|byte| matches!(byte, 0x20..=0x7E));
                if !is_printable || text.trim() != text || text.is_empty() {
                    return Err(Denial::TokenClaimUnrepresentable);
                }
                let value =
                    HeaderValue::try_from(text).map_err(|_| Denial::TokenClaimUnrepresentable)?;
                identity.push((header.clone(), value));
            }
        }
        Ok(Self {
            issuer: token.issuer(),
            subject: token.subject().into(),
            client: token.client().map(Into::into),
            token_id: token.claim("jti").and_then(Value::as_str).map(Into::into),
            scopes: registry.set_of(token.scopes()),
            refused_from: token.refused_from(),
            identity,
        })
    }

    /// The issuer of the token.
    #[must_use]
    pub const fn issuer(&self) -> IssuerId {
        self.issuer
    }

    /// `sub`.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The OAuth client: `client_id`, or `azp` where there is none.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        self.client.as_deref()
    }

    /// `jti`.
    #[must_use]
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// The registered scopes among the granted ones.
    #[must_use]
    pub const fn scopes(&self) -> &ScopeSet {
        &self.scopes
    }

    /// When the token is past its `exp` and the issuer's leeway.
    #[must_use]
    pub const fn refused_from(&self) -> UnixTime {
        self.refused_from
    }

    /// Whether the token is past its `exp` and the issuer's leeway.
    #[must_use]
    pub fn is_expired(&self, now: UnixTime) -> bool {
        now >= self.refused_from
    }

    /// The headers that a service gets.
    #[must_use]
    pub fn identity(&self) -> &[(HeaderName, HeaderValue)] {
        &self.identity
    }
}

fn header_text(token: &VerifiedToken, claim: &str) -> Result<Option<String>, Denial> {
    match claim {
        "scope" => {
            let mut scopes: Vec<&str> = token.scopes().collect();
            scopes.sort_unstable();
            scopes.dedup();
            return Ok((!scopes.is_empty()).then(|| scopes.join(" ")));
        }
        "client_id" => return Ok(token.client().map(str::to_owned)),
        _ => {}
    }
    match token.claim(claim) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Bool(flag)) => Ok(Some(flag.to_string())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(Value::Array(items)) => {
            let words: Option<Vec<&str>> = items
                .iter()
                .map(|item| {
                    item.as_str()
                        .filter(|word| !word.is_empty() && !word.contains(','))
                })
                .collect();
            let words = words.ok_or(Denial::TokenClaimUnrepresentable)?;
            Ok((!words.is_empty()).then(|| words.join(",")))
        }
        Some(Value::Object(_)) => Err(Denial::TokenClaimUnrepresentable),
    }
}

//! Access tokens, good by default and as bad as a test wants them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::SigningKey;
use crate::world::AUDIENCE;

/// A token in the making. Start from a good one and change one thing.
#[derive(Debug, Clone)]
pub struct Token {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    key: Arc<SigningKey>,
}

impl Token {
    /// A good access token of `issuer` (RFC 9068) without scopes, for five minutes.
    pub fn new(issuer: &str, key: Arc<SigningKey>) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let now = unix_now();
        let header = object(json!({
            "alg": key.algorithm(), "typ": "at+jwt", "kid": key.key_id(),
        }));
        let claims = object(json!({
            "iss": issuer,
            "aud": AUDIENCE,
            "sub": "alice",
            "client_id": "orders-client",
            "iat": now,
            "exp": now + 300,
            "jti": format!("token-{}", SERIAL.fetch_add(1, Ordering::Relaxed)),
        }));
        Self {
            header,
            claims,
            key,
        }
    }

    /// Sets the scope.
    #[must_use]
    pub fn scope(self, scope: &str) -> Self {
        self.claim("scope", json!(scope))
    }

    /// Sets a claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: Value) -> Self {
        self.claims.insert(name.to_owned(), value);
        self
    }

    /// Leaves a claim out.
    #[must_use]
    pub fn without_claim(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Sets a header parameter.
    #[must_use]
    pub fn header(mut self, name: &str, value: Value) -> Self {
        self.header.insert(name.to_owned(), value);
        self
    }

    /// Leaves a header parameter out.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name);
        self
    }

    /// Signs with another key; the header stays as it is.
    #[must_use]
    pub fn signed_by(mut self, key: &Arc<SigningKey>) -> Self {
        self.key = Arc::clone(key);
        self
    }

    /// The header as JSON.
    pub fn header_json(&self) -> String {
        serde_json::to_string(&self.header).unwrap()
    }

    /// The claims as JSON.
    pub fn claims_json(&self) -> String {
        serde_json::to_string(&self.claims).unwrap()
    }

    /// The compact serialization (RFC 7515 §7.1).
    pub fn sign(&self) -> String {
        self.sign_raw(self.header_json().as_bytes(), self.claims_json().as_bytes())
    }

    /// A correct signature over any bytes at all.
    pub fn sign_raw(&self, header: &[u8], payload: &[u8]) -> String {
        let algorithm = self
            .header
            .get("alg")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let input = format!("{}.{}", base64url(header), base64url(payload));
        let signature = self.key.sign(algorithm, input.as_bytes());
        format!("{input}.{}", base64url(&signature))
    }

    /// This header and these claims with a signature of the test's own making.
    pub fn with_signature(&self, signature: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
        let input = format!(
            "{}.{}",
            base64url(self.header_json().as_bytes()),
            base64url(self.claims_json().as_bytes())
        );
        let signature = signature(input.as_bytes());
        format!("{input}.{}", base64url(&signature))
    }
}

/// Seconds since 1970.
pub fn unix_now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        .try_into()
        .unwrap()
}

pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A part of a compact serialization: 0 is the header, 1 the claims.
#[cfg(test)]
pub(crate) fn decode_part(token: &str, part: usize) -> Value {
    let text = token.split('.').nth(part).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("not an object: {other}"),
    }
}

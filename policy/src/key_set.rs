use std::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use serde_json::Value;

use crate::{Algorithm, Denial};

/// The keys of one issuer that are fit to verify with, parsed once (RFC 7517).
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    skipped: usize,
}

struct Key {
    id: Option<Box<str>>,
    /// One parsed key for each algorithm that it may be used with.
    verifiers: Vec<(Algorithm, ParsedPublicKey)>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A document that is no key set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum InvalidKeySet {
    #[error("the key set is larger than 256 KiB")]
    TooLarge,
    #[error("the key set is not a JSON object with a list `keys`")]
    Malformed,
    #[error("the key set has more than 100 keys")]
    TooManyKeys,
    #[error("the key set has no key that a signature can be verified with")]
    NoUsableKey,
}

const MAX_BYTES: usize = 256 * 1024;
const MAX_KEYS: usize = 100;
/// Keys tried for one token, at most.
const MAX_TRIES: usize = 3;

impl KeySet {
    /// Parses a JWK set. A key of an unknown type, for encryption, with a private or symmetric part,
    /// or too weak is left out and counted; the others serve.
    ///
    /// # Errors
    /// When the document is no key set, is too large, or has no usable key.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidKeySet> {
        if json.len() > MAX_BYTES {
            return Err(InvalidKeySet::TooLarge);
        }
        let document: Value = serde_json::from_slice(json).map_err(|_| InvalidKeySet::Malformed)?;
        let listed = document
            .get("keys")
            .and_then(Value::as_array)
            .ok_or(InvalidKeySet::Malformed)?;
        if listed.len() > MAX_KEYS {
            return Err(InvalidKeySet::TooManyKeys);
        }
        let keys: Vec<Key> = listed.iter().filter_map(Key::from_json).collect();
        if keys.is_empty() {
            return Err(InvalidKeySet::NoUsableKey);
        }
        Ok(Self {
            skipped: listed.len() - keys.len(),
            keys,
        })
    }

    /// How many listed keys were left out.
    #[must_use]
    pub const fn skipped(&self) -> usize {
        self.skipped
    }

    /// Number of usable keys.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no usable key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key ids, as published.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(|key| key.id.as_deref())
    }

    /// Verifies `signature` with the key that the token names; without a name, only where exactly
    /// one key fits (RFC 7515 §4.1.4).
    pub(crate) fn verify(
        &self,
        key_id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Denial> {
        let is_named = |key: &&Key| key_id.is_none_or(|id| key.id.as_deref() == Some(id));
        if !self.keys.iter().any(|key| is_named(&key)) {
            return Err(Denial::TokenKeyUnknown);
        }
        let mut fitting = self
            .keys
            .iter()
            .filter(is_named)
            .filter_map(|key| key.verifier(algorithm))
            .peekable();
        if fitting.peek().is_none() {
            return Err(Denial::TokenAlgorithmRefused);
        }
        if key_id.is_none() && fitting.clone().count() > 1 {
            return Err(Denial::TokenKeyUnknown);
        }
        match fitting
            .take(MAX_TRIES)
            .any(|verifier| verifier.verify_sig(message, signature).is_ok())
        {
            true => Ok(()),
            false => Err(Denial::TokenSignatureInvalid),
        }
    }
}

impl Key {
    fn verifier(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        self.verifiers
            .iter()
            .find(|(mine, _)| *mine == algorithm)
            .map(|(_, verifier)| verifier)
    }

    fn from_json(json: &Value) -> Option<Self> {
        // A private or symmetric part in a published set is a secret that everybody has.
        if ["d", "k", "p", "q"]
            .iter()
            .any(|secret| json.get(secret).is_some())
        {
            return None;
        }
        let jwk: Jwk = serde_json::from_value(json.clone()).ok()?;
        // RFC 7517 §4.2, §4.3: a key is used for what it is published for.
        if jwk
            .common
            .public_key_use
            .as_ref()
            .is_some_and(|purpose| *purpose != PublicKeyUse::Signature)
            || jwk
                .common
                .key_operations
                .as_ref()
                .is_some_and(|uses| !uses.contains(&KeyOperations::Verify))
        {
            return None;
        }
        let only: Option<Algorithm> = match json.get("alg") {
            None => None,
            Some(name) => Some(name.as_str()?.parse().ok()?),
        };
        let parse = |algorithm| Some((algorithm, parse_key(&jwk.algorithm, algorithm)?));
        let verifiers: Vec<_> = Algorithm::ALL
            .into_iter()
            .filter(|algorithm| only.is_none_or(|only| only == *algorithm))
            .filter_map(parse)
            .collect();
        (!verifiers.is_empty()).then(|| Self {
            id: jwk.common.key_id.map(Into::into),
            verifiers,
        })
    }
}

fn parse_key(parameters: &AlgorithmParameters, algorithm: Algorithm) -> Option<ParsedPublicKey> {
    match parameters {
        AlgorithmParameters::RSA(rsa) => {
            let without_zeros = |number: Vec<u8>| -> Vec<u8> {
                number.into_iter().skip_while(|byte| *byte == 0).collect()
            };
            let n = without_zeros(decode(&rsa.n)?);
            let e = without_zeros(decode(&rsa.e)?);
            // RFC 8017 §3.1: odd, and 3 or more. With 1, anybody can sign.
            if e == [1] || e.last().is_none_or(|byte| byte % 2 == 0) {
                return None;
            }
            // RFC 7518 §3.3: 2048 bits or more, counted from the highest bit that is set.
            if n.len() < 256
                || (n.len() == 256 && n.first().is_none_or(|byte| *byte < 0x80))
                || n.len() > 1024
                || has_roca_fingerprint(&n)
            {
                return None;
            }
            RsaPublicKeyComponents { n, e }
                .to_parsed_public_key(rsa_parameters(algorithm)?)
                .ok()
        }
        AlgorithmParameters::EllipticCurve(curve) => {
            let (scheme, length): (&'static dyn signature::VerificationAlgorithm, usize) =
                match (algorithm, &curve.curve) {
                    (Algorithm::ES256, EllipticCurve::P256) => {
                        (&signature::ECDSA_P256_SHA256_FIXED, 32)
                    }
                    (Algorithm::ES384, EllipticCurve::P384) => {
                        (&signature::ECDSA_P384_SHA384_FIXED, 48)
                    }
                    _ => return None,
                };
            let (x, y) = (decode(&curve.x)?, decode(&curve.y)?);
            (x.len() == length && y.len() == length)
                .then(|| ParsedPublicKey::new(scheme, [&[4][..], &x, &y].concat()).ok())
                .flatten()
        }
        AlgorithmParameters::OctetKeyPair(pair)
            if algorithm == Algorithm::EdDSA && pair.curve == EllipticCurve::Ed25519 =>
        {
            let x = decode(&pair.x)?;
            (x.len() == 32)
                .then(|| ParsedPublicKey::new(&signature::ED25519, x).ok())
                .flatten()
        }
        _ => None,
    }
}

/// Whether the private key follows from the modulus `n` (ROCA, CVE-2017-15361): the primes of
/// certain smart cards and TPMs are powers of 65537 modulo every small prime, and so is their
/// product. One in 2^28 of other moduli looks the same and is refused with them.
fn has_roca_fingerprint(n: &[u8]) -> bool {
    let is_prime = |number: &u32| (2..*number).all(|divisor| !number.is_multiple_of(divisor));
    (3..=167).filter(is_prime).all(|prime| {
        let residue = n
            .iter()
            .fold(0, |residue, byte| (residue << 8 | u32::from(*byte)) % prime);
        let mut power = 1;
        (1..prime).any(|_| {
            power = power * 65_537 % prime;
            power == residue
        })
    })
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 | Algorithm::ES384 | Algorithm::EdDSA => None,
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests;

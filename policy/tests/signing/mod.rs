//! An issuer of the tests: keys made for the run, and compact tokens signed with them.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use portcullis_policy::*;
use serde_json::{Value, json};

pub(crate) const NOW: i64 = 1_700_000_000;

/// The issuer `https://NAME.example`, whose access tokens are as RFC 9068 has them.
pub(crate) fn issuer(name: &str) -> Issuer {
    Issuer {
        name: name.into(),
        issuer: format!("https://{name}.example").into(),
        audiences: vec!["api".into()],
        algorithms: Algorithm::ALL.to_vec(),
        profile: TokenProfile::Rfc9068,
        scope_claim: ScopeClaim::Scope,
        leeway: Duration::from_secs(30),
    }
}

/// Claims that [`issuer`] `acme` would sign.
pub(crate) fn claims() -> Value {
    json!({"iss": "https://acme.example", "aud": "api", "sub": "alice", "client_id": "app",
        "scope": "orders:read", "iat": NOW, "exp": NOW + 300})
}

/// Of one algorithm, by whose name it is published.
pub(crate) struct SigningKey {
    pub(crate) algorithm: Algorithm,
    pair: Pair,
}

enum Pair {
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    pub(crate) fn generate(algorithm: Algorithm) -> Self {
        let rsa = |encoding| {
            Pair::Rsa(
                Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
                encoding,
            )
        };
        let ecdsa = |scheme| Pair::Ecdsa(EcdsaKeyPair::generate(scheme).unwrap());
        let pair = match algorithm {
            Algorithm::RS256 => rsa(&signature::RSA_PKCS1_SHA256),
            Algorithm::RS384 => rsa(&signature::RSA_PKCS1_SHA384),
            Algorithm::RS512 => rsa(&signature::RSA_PKCS1_SHA512),
            Algorithm::PS256 => rsa(&signature::RSA_PSS_SHA256),
            Algorithm::PS384 => rsa(&signature::RSA_PSS_SHA384),
            Algorithm::PS512 => rsa(&signature::RSA_PSS_SHA512),
            Algorithm::ES256 => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::ES384 => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::EdDSA => Pair::Ed25519(Ed25519KeyPair::generate().unwrap()),
        };
        Self { algorithm, pair }
    }

    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair, _) => {
                let key = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({"kty": "RSA", "n": B64.encode(key.n), "e": B64.encode(key.e)})
            }
            Pair::Ecdsa(pair) => {
                let (x, y) = {
                    let point = &pair.public_key().as_ref()[1..];
                    point.split_at(point.len() / 2)
                };
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": B64.encode(x), "y": B64.encode(y)})
            }
            Pair::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": B64.encode(pair.public_key())})
            }
        };
        jwk["kid"] = json!(self.algorithm.as_str());
        jwk["alg"] = json!(self.algorithm.as_str());
        jwk["use"] = json!("sig");
        jwk
    }

    pub(crate) fn header(&self) -> String {
        let name = self.algorithm.as_str();
        json!({"alg": name, "kid": name, "typ": "at+jwt"}).to_string()
    }

    pub(crate) fn sign(&self, header: &str, payload: &str) -> String {
        let input = format!("{}.{}", B64.encode(header), B64.encode(payload));
        let (message, random) = (input.as_bytes(), SystemRandom::new());
        let signature = match &self.pair {
            Pair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Pair::Ecdsa(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        };
        format!("{input}.{}", B64.encode(signature))
    }
}

/// What an issuer with these keys publishes.
pub(crate) fn key_set(keys: &[SigningKey]) -> KeySet {
    let keys: Vec<Value> = keys.iter().map(SigningKey::jwk).collect();
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

//! Keys that sign anything they are given.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair,
};
use serde_json::{Value, json};

use crate::token::base64url;

/// A private key with a key id.
#[derive(Debug)]
pub struct SigningKey {
    key_id: String,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// A new RSA key of 2048 bits.
    pub fn rsa(key_id: &str) -> Self {
        Self::new(
            key_id,
            Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        )
    }

    /// A new key on the curve P-256.
    pub fn p256(key_id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self::new(key_id, Pair::P256(pair))
    }

    /// A new key on the curve P-384.
    pub fn p384(key_id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        Self::new(key_id, Pair::P384(pair))
    }

    /// A new Ed25519 key.
    pub fn ed25519(key_id: &str) -> Self {
        Self::new(key_id, Pair::Ed25519(Ed25519KeyPair::generate().unwrap()))
    }

    fn new(key_id: &str, pair: Pair) -> Self {
        Self {
            key_id: key_id.to_owned(),
            pair,
        }
    }

    /// Its `kid`.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The algorithm that this key signs with when nobody says otherwise.
    pub fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
            Pair::P384(_) => "ES384",
            Pair::Ed25519(_) => "EdDSA",
        }
    }

    /// The public half, with `kid`, `use` and `alg`.
    pub fn public_jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                json!({
                    "kty": "RSA",
                    "n": base64url(public.modulus().big_endian_without_leading_zero()),
                    "e": base64url(public.exponent().big_endian_without_leading_zero()),
                })
            }
            Pair::P256(pair) => ec_jwk("P-256", pair),
            Pair::P384(pair) => ec_jwk("P-384", pair),
            Pair::Ed25519(pair) => json!({
                "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key().as_ref()),
            }),
        };
        jwk["kid"] = json!(self.key_id);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.algorithm());
        jwk
    }

    /// The public key in the encoding that its kind is usually passed around in, for attacks that
    /// use it as an HMAC secret: PKCS #1 for RSA, the point for curves.
    pub fn public_bytes(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            Pair::P256(pair) | Pair::P384(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// The RSA public key as SubjectPublicKeyInfo, DER.
    ///
    /// # Panics
    /// When this is no RSA key.
    pub fn rsa_public_key_info(&self) -> Vec<u8> {
        let Pair::Rsa(pair) = &self.pair else {
            panic!("not an RSA key")
        };
        let info: aws_lc_rs::encoding::PublicKeyX509Der<'_> =
            aws_lc_rs::encoding::AsDer::as_der(pair.public_key()).unwrap();
        info.as_ref().to_vec()
    }

    /// Signs as JWS does (RFC 7518 §3): fixed-length `r || s` for the curves.
    ///
    /// `algorithm` chooses the padding and hash of an RSA key and means nothing to the others.
    pub fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(rsa_encoding(algorithm), &random, message, &mut out)
                    .unwrap();
                out
            }
            Pair::P256(pair) | Pair::P384(pair) => {
                pair.sign(&random, message).unwrap().as_ref().to_vec()
            }
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

fn ec_jwk(curve: &str, pair: &EcdsaKeyPair) -> Value {
    // An uncompressed point: 0x04, then both coordinates.
    let coordinates = &pair.public_key().as_ref()[1..];
    let (x, y) = coordinates.split_at(coordinates.len() / 2);
    json!({ "kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y) })
}

fn rsa_encoding(algorithm: &str) -> &'static dyn RsaEncoding {
    match algorithm {
        "RS384" => &signature::RSA_PKCS1_SHA384,
        "RS512" => &signature::RSA_PKCS1_SHA512,
        "PS256" => &signature::RSA_PSS_SHA256,
        "PS384" => &signature::RSA_PSS_SHA384,
        "PS512" => &signature::RSA_PSS_SHA512,
        _ => &signature::RSA_PKCS1_SHA256,
    }
}

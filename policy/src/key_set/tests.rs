//! Wycheproof's vectors of the signature primitives, with their keys as JWK sets. Their messages are
//! no JWS signing inputs, so they go to `KeySet::verify` itself. And how much a set may hold.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;
use wycheproof::ecdsa::TestName as Ecdsa;
use wycheproof::eddsa::TestName as Eddsa;
use wycheproof::rsa_pkcs1_verify::TestName as Pkcs1;
use wycheproof::rsa_pss_verify::TestName as Pss;

use super::*;
use Algorithm::{ES256, ES384, PS256, PS384, PS512, RS256, RS384, RS512};

#[test]
fn every_pkcs1_vector_has_its_verdict() {
    for (file, algorithm, expected) in [
        (Pkcs1::Rsa2048Sha256, RS256, (9, 250)),
        (Pkcs1::Rsa2048Sha384, RS384, (7, 251)),
        (Pkcs1::Rsa2048Sha512, RS512, (8, 251)),
        (Pkcs1::Rsa3072Sha256, RS256, (8, 251)),
        (Pkcs1::Rsa3072Sha384, RS384, (7, 252)),
        (Pkcs1::Rsa3072Sha512, RS512, (8, 252)),
        (Pkcs1::Rsa4096Sha256, RS256, (7, 251)),
        (Pkcs1::Rsa4096Sha384, RS384, (7, 252)),
        (Pkcs1::Rsa4096Sha512, RS512, (7, 252)),
        (Pkcs1::Rsa8192Sha256, RS256, (7, 251)),
        (Pkcs1::Rsa8192Sha384, RS384, (7, 252)),
        (Pkcs1::Rsa8192Sha512, RS512, (7, 252)),
    ] {
        let verdicts = judge(file.json_data(), algorithm, rsa_key);
        assert_eq!(verdicts.counts(), expected, "{file:?}");
        assert_eq!(verdicts.surprises, [0; 0], "{file:?}");
    }
}

#[test]
fn every_pss_vector_with_the_parameters_of_jose_has_its_verdict() {
    for (file, algorithm, expected) in [
        (Pss::RsaPss2048Sha256Mgf1SaltLen32, PS256, (63, 45)),
        (Pss::RsaPss3072Sha256Mgf1SaltLen32, PS256, (63, 45)),
        (Pss::RsaPss4096Sha256Mgf1SaltLen32, PS256, (63, 45)),
        (Pss::RsaPss2048Sha384Mgf1SaltLen48, PS384, (95, 46)),
        (Pss::RsaPss4096Sha384Mgf1SaltLen48, PS384, (95, 46)),
        (Pss::RsaPss4096Sha512Mgf1SaltLen64, PS512, (132, 47)),
    ] {
        let verdicts = judge(file.json_data(), algorithm, rsa_key);
        assert_eq!(verdicts.counts(), expected, "{file:?}");
        assert_eq!(verdicts.surprises, [0; 0], "{file:?}");
    }
}

/// RFC 7518 §3.5: one hash for message and mask, and a salt of its length.
#[test]
fn no_pss_signature_with_other_parameters_is_accepted() {
    // One vector of the first file has a salt of 32 bytes, which is right for PS256.
    for (file, algorithm, accepted, refused) in [
        (Pss::RsaPss2048Sha256Mgf1SaltLen0, PS256, &[69][..], 102),
        (Pss::RsaPss2048Sha256Mgf1Sha1_20, PS256, &[], 108),
        (Pss::RsaPss2048Sha512_256Mgf1SaltLen32, PS256, &[], 115),
        (Pss::RsaPss4096Sha512Mgf1SaltLen32, PS512, &[], 177),
    ] {
        let verdicts = judge(file.json_data(), algorithm, rsa_key);
        assert_eq!(verdicts.accepted, accepted, "{file:?}");
        assert_eq!(verdicts.refused, refused, "{file:?}");
    }
}

#[test]
fn every_ecdsa_vector_has_its_verdict() {
    for (file, algorithm, expected) in [
        (Ecdsa::EcdsaSecp256r1Sha256P1363, ES256, (173, 89)),
        (Ecdsa::EcdsaSecp384r1Sha384P1363, ES384, (193, 87)),
    ] {
        let verdicts = judge(file.json_data(), algorithm, ec_key);
        assert_eq!(verdicts.counts(), expected, "{file:?}");
        assert_eq!(verdicts.surprises, [0; 0], "{file:?}");
    }
}

/// RFC 7518 §3.4: the two numbers side by side, not in ASN.1, and one hash for each curve.
#[test]
fn no_ecdsa_signature_of_another_encoding_hash_or_curve_is_accepted() {
    for (file, algorithm, expected) in [
        (Ecdsa::EcdsaSecp256r1Sha256, ES256, 484),
        (Ecdsa::EcdsaSecp256r1Sha512P1363, ES256, 332),
        (Ecdsa::EcdsaSecp256k1Sha256P1363, ES256, 252),
        (Ecdsa::EcdsaSecp384r1Sha384, ES384, 504),
        (Ecdsa::EcdsaSecp384r1Sha512P1363, ES384, 318),
        (Ecdsa::EcdsaSecp521r1Sha512P1363, ES384, 318),
    ] {
        let verdicts = judge(file.json_data(), algorithm, ec_key);
        assert_eq!(verdicts.counts(), (0, expected), "{file:?}");
    }
}

#[test]
fn every_ed25519_vector_has_its_verdict() {
    let verdicts = judge(
        Eddsa::Ed25519.json_data(),
        Algorithm::EdDSA,
        |key| json!({"kty": "OKP", "crv": "Ed25519", "x": jose(&key["pk"])}),
    );
    assert_eq!(verdicts.counts(), (88, 63));
    assert_eq!(verdicts.surprises, [0; 0]);
}

#[test]
fn key_set_is_bounded_to_the_byte_and_to_the_key() {
    let key = edwards_key(&Ed25519KeyPair::generate().unwrap());
    let usable = |document: &str| KeySet::parse(document.as_bytes()).map(|keys| keys.len());
    let one = json!({ "keys": [key] }).to_string();
    let padded = |length: usize| one.clone() + &" ".repeat(length - one.len());
    assert_eq!(usable(&padded(256 * 1024)), Ok(1));
    let too_large = Err(InvalidKeySet::TooLarge);
    assert_eq!(usable(&padded(256 * 1024 + 1)), too_large);
    let too_many = Err(InvalidKeySet::TooManyKeys);
    for (good, all, expected) in [
        (1, 100, Ok(1)),
        (100, 100, Ok(100)),
        (1, 101, too_many.clone()),
        (101, 101, too_many.clone()),
        (1, 10_000, too_many),
        (10_000, 10_000, too_large),
    ] {
        let mut keys = vec![key.clone(); good];
        keys.resize(all, json!({}));
        let document = json!({ "keys": keys }).to_string();
        assert_eq!(usable(&document), expected, "{good} of {all}");
    }
}

#[test]
fn no_more_than_three_keys_of_one_id_are_tried_and_without_an_id_none_of_several() {
    let pairs: Vec<_> = (0..4)
        .map(|_| Ed25519KeyPair::generate().unwrap())
        .collect();
    let listed: Vec<Value> = pairs.iter().map(edwards_key).collect();
    let document = json!({ "keys": listed }).to_string();
    let keys = KeySet::parse(document.as_bytes()).unwrap();
    for (number, pair) in pairs.iter().enumerate() {
        let signature = pair.sign(b"message");
        let judge = |id| keys.verify(id, Algorithm::EdDSA, b"message", signature.as_ref());
        let expected = match number {
            0..3 => Ok(()),
            _ => Err(Denial::TokenSignatureInvalid),
        };
        assert_eq!(judge(Some("shared")), expected, "{number}");
        assert_eq!(judge(Some("other")), Err(Denial::TokenKeyUnknown));
        assert_eq!(judge(None), Err(Denial::TokenKeyUnknown));
    }
}

fn edwards_key(pair: &Ed25519KeyPair) -> Value {
    let x = URL_SAFE_NO_PAD.encode(pair.public_key());
    json!({"kty": "OKP", "crv": "Ed25519", "kid": "shared", "x": x})
}

#[derive(Default)]
struct Verdicts {
    /// Numbers of the vectors.
    accepted: Vec<u64>,
    refused: usize,
    /// Those that have another verdict than the file gives them.
    surprises: Vec<u64>,
}

impl Verdicts {
    fn counts(&self) -> (usize, usize) {
        (self.accepted.len(), self.refused)
    }
}

/// Judges each vector of a file with the key of its group, which `to_jwk` makes a JWK of. What a
/// verifier may refuse as outdated, `acceptable`, is to be refused.
fn judge(file: &str, algorithm: Algorithm, to_jwk: fn(&Value) -> Value) -> Verdicts {
    let file: Value = serde_json::from_str(file).unwrap();
    let mut verdicts = Verdicts::default();
    for group in file["testGroups"].as_array().unwrap() {
        let document = json!({ "keys": [to_jwk(&group["publicKey"])] }).to_string();
        let keys = KeySet::parse(document.as_bytes()).unwrap_or_default();
        for test in group["tests"].as_array().unwrap() {
            let is_valid = match test["result"].as_str().unwrap() {
                "valid" => true,
                "invalid" | "acceptable" => false,
                other => panic!("{other}"),
            };
            let id = test["tcId"].as_u64().unwrap();
            let (message, signature) = (bytes(&test["msg"]), bytes(&test["sig"]));
            let verdict = keys.verify(None, algorithm, &message, &signature);
            match verdict {
                Ok(()) => verdicts.accepted.push(id),
                Err(_) => verdicts.refused += 1,
            }
            if verdict.is_ok() != is_valid {
                verdicts.surprises.push(id);
            }
        }
    }
    verdicts
}

fn rsa_key(key: &Value) -> Value {
    json!({"kty": "RSA", "n": jose(&key["modulus"]), "e": jose(&key["publicExponent"])})
}

fn ec_key(key: &Value) -> Value {
    let curve = match key["curve"].as_str().unwrap() {
        "secp256r1" => "P-256",
        "secp384r1" => "P-384",
        "secp521r1" => "P-521",
        other => other,
    };
    let point = bytes(&key["uncompressed"]);
    let (x, y) = point[1..].split_at(point.len() / 2);
    json!({"kty": "EC", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
}

fn jose(hex: &Value) -> String {
    URL_SAFE_NO_PAD.encode(bytes(hex))
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

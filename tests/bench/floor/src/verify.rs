//! What one signature costs, alone: aws-lc-rs, the key parsed once, on one thread. Prints JSON: the
//! median of several batches, in microseconds, for each algorithm.

use std::error::Error;
use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
    RsaKeyPair,
};

/// What is signed in an access token of the benchmark: header and claims in Base64.
const MESSAGE: [u8; 370] = [b'a'; 370];
const WARM_UP: usize = 300;
const BATCHES: usize = 15;
const BATCH: usize = 700;

fn main() -> Result<(), Box<dyn Error>> {
    let random = SystemRandom::new();

    let rsa = RsaKeyPair::generate(KeySize::Rsa2048)?;
    let mut signature = vec![0; rsa.public_modulus_len()];
    rsa.sign(&RSA_PKCS1_SHA256, &random, &MESSAGE, &mut signature)?;
    let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, rsa.public_key())?;
    let rs256 = microseconds(&key, &signature)?;

    let ecdsa = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let signature = ecdsa.sign(&random, &MESSAGE)?;
    let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, ecdsa.public_key())?;
    let es256 = microseconds(&key, signature.as_ref())?;

    let ed25519 = Ed25519KeyPair::generate()?;
    let signature = ed25519.sign(&MESSAGE);
    let key = ParsedPublicKey::new(&ED25519, ed25519.public_key())?;
    let eddsa = microseconds(&key, signature.as_ref())?;

    println!(r#"{{"RS256":{rs256:.2},"ES256":{es256:.2},"EdDSA":{eddsa:.2}}}"#);
    Ok(())
}

fn microseconds(key: &ParsedPublicKey, signature: &[u8]) -> Result<f64, Box<dyn Error>> {
    for _ in 0..WARM_UP {
        key.verify_sig(&MESSAGE, signature)?;
    }
    let mut batches = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let start = Instant::now();
        for _ in 0..BATCH {
            key.verify_sig(&MESSAGE, signature)?;
        }
        batches.push(start.elapsed().as_secs_f64() * 1e6 / BATCH as f64);
    }
    batches.sort_by(f64::total_cmp);
    Ok(batches[BATCHES / 2])
}

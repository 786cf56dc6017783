//! What one signature costs, alone: aws-lc-rs, the key parsed once, on one thread. As in a proxy, each one is
//! of another message, and the processor's caches have seen other work since the one before. Prints JSON:
//! medians in microseconds, for each algorithm; under `warm` those of one signature again and again.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
    RsaKeyPair,
};

/// What is signed in an access token of the benchmark: header and claims in Base64.
const MESSAGE: usize = 370;
/// Signatures that are verified in turn.
const SIGNATURES: usize = 500;
const WARM_UP: usize = 300;
const ROUNDS: usize = 2000;
/// Other work, in bytes: more than the first two levels of cache.
const OTHER_WORK: usize = 3 << 20;

type Signed = (Vec<u8>, Vec<u8>);
type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let random = SystemRandom::new();

    let rsa = RsaKeyPair::generate(KeySize::Rsa2048)?;
    let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, rsa.public_key())?;
    let rs256 = Costs::of(&key, |message| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
        Ok(signature)
    })?;

    let ecdsa = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, ecdsa.public_key())?;
    let es256 = Costs::of(&key, |message| {
        Ok(ecdsa.sign(&random, message)?.as_ref().to_vec())
    })?;

    let ed25519 = Ed25519KeyPair::generate()?;
    let key = ParsedPublicKey::new(&ED25519, ed25519.public_key())?;
    let eddsa = Costs::of(&key, |message| Ok(ed25519.sign(message).as_ref().to_vec()))?;

    println!(
        r#"{{"RS256":{:.2},"ES256":{:.2},"EdDSA":{:.2},"warm":{{"RS256":{:.2},"ES256":{:.2},"EdDSA":{:.2}}}}}"#,
        rs256.in_turn, es256.in_turn, eddsa.in_turn, rs256.warm, es256.warm, eddsa.warm
    );
    Ok(())
}

/// Medians, in microseconds.
struct Costs {
    in_turn: f64,
    warm: f64,
}

impl Costs {
    fn of(key: &ParsedPublicKey, sign: impl Fn(&[u8]) -> Outcome<Vec<u8>>) -> Outcome<Self> {
        let signed = (0..SIGNATURES)
            .map(|number| {
                let message = format!("{number:0MESSAGE$}").into_bytes();
                let signature = sign(&message)?;
                Ok((message, signature))
            })
            .collect::<Outcome<Vec<Signed>>>()?;
        let mut other = vec![0_u8; OTHER_WORK];
        let verify = |(message, signature): &Signed| key.verify_sig(message, signature);
        for one in signed.iter().take(WARM_UP) {
            verify(one)?;
        }
        let (mut in_turn, mut warm) = (Vec::new(), Vec::new());
        for one in signed.iter().cycle().take(ROUNDS) {
            for byte in other.iter_mut().step_by(64) {
                *byte = byte.wrapping_add(1);
            }
            black_box(&other);
            let start = Instant::now();
            verify(one)?;
            in_turn.push(start.elapsed());
        }
        for one in std::iter::repeat_n(&signed[0], ROUNDS) {
            let start = Instant::now();
            verify(one)?;
            warm.push(start.elapsed());
        }
        let median = |mut times: Vec<std::time::Duration>| {
            times.sort();
            times[times.len() / 2].as_secs_f64() * 1e6
        };
        Ok(Self {
            in_turn: median(in_turn),
            warm: median(warm),
        })
    }
}

//! A token as a case describes it.

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use portcullis_e2e::{SigningKey, Token};
use serde_json::Value;

use super::catalogue::{Signature, TokenSpec};
use super::http1::bytes;
use super::world::AttackWorld;

pub(super) fn make(world: &AttackWorld, spec: &TokenSpec) -> String {
    let key = key(world, spec.key.as_deref().unwrap_or("first"));
    let mut token = world.issuer.token_signed_by(&key).scope("orders:read");
    for (name, value) in &spec.header {
        token = token.header(&world.fill(name), world.fill_value(value));
    }
    for (name, value) in &spec.claims {
        token = token.claim(&world.fill(name), world.fill_value(value));
    }
    for name in &spec.without_header {
        token = token.without_header(name);
    }
    for name in &spec.without_claims {
        token = token.without_claim(name);
    }
    let header = match &spec.raw_header {
        Some(raw) => bytes(&world.fill(raw)),
        None => token.header_json().into_bytes(),
    };
    let payload = match &spec.raw_payload {
        Some(raw) => bytes(&world.fill(raw)),
        None => token.claims_json().into_bytes(),
    };
    let (header, payload) = (base64url(header), base64url(payload));
    let input = format!("{header}.{payload}");
    let signature = base64url(signature(world, spec, &token, &key, input.as_bytes()));
    match &spec.compact {
        None => format!("{input}.{signature}"),
        Some(text) => {
            let text = text
                .replace("{{header}}", &header)
                .replace("{{payload}}", &payload)
                .replace("{{signature}}", &signature);
            world.fill(&text)
        }
    }
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn key(world: &AttackWorld, name: &str) -> Arc<SigningKey> {
    let keys = &world.keys;
    Arc::clone(match name {
        "first" => world.issuer.key(),
        "p256" => &keys.p256,
        "p384" => &keys.p384,
        "edwards" => &keys.edwards,
        "stranger" => &keys.stranger,
        "stranger-p256" => &keys.stranger_p256,
        other => panic!("no such key: {other}"),
    })
}

fn signature(
    world: &AttackWorld,
    spec: &TokenSpec,
    token: &Token,
    key: &SigningKey,
    input: &[u8],
) -> Vec<u8> {
    let header: Value = serde_json::from_str(&token.header_json()).unwrap();
    let algorithm = header["alg"].as_str().unwrap_or_default();
    let good = || key.sign(algorithm, input);
    match &spec.signature {
        None => good(),
        Some(Signature::Word(word)) => match word.as_str() {
            "good" => good(),
            "none" => Vec::new(),
            "der" => der(&good()),
            other => panic!("no such signature: {other}"),
        },
        Some(Signature::Hmac { hmac: name, alg }) => {
            let hash = match alg.as_deref().unwrap_or("HS256") {
                "HS256" => hmac::HMAC_SHA256,
                "HS384" => hmac::HMAC_SHA384,
                "HS512" => hmac::HMAC_SHA512,
                other => panic!("no such hash: {other}"),
            };
            let key = hmac::Key::new(hash, &secret(world, name));
            hmac::sign(&key, input).as_ref().to_vec()
        }
        Some(Signature::Numbers { r, s }) => [number(r), number(s)].concat(),
        Some(Signature::Hex { hex }) => world
            .fill(hex)
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect(),
    }
}

/// A number of 32 bytes; `n` is the order of P-256 (FIPS 186-5).
fn number(name: &Value) -> [u8; 32] {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut bytes = [0; 32];
    let name = match name {
        Value::String(name) => name.clone(),
        number => number.to_string(),
    };
    match name.as_str() {
        "0" => {}
        "1" => bytes[31] = 1,
        "n" => bytes = ORDER,
        "max" => bytes = [0xff; 32],
        other => panic!("no such number: {other}"),
    }
    bytes
}

/// `r || s` in the encoding of X.509.
fn der(raw: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let mut value: Vec<u8> = bytes.iter().copied().skip_while(|b| *b == 0).collect();
        if value.first().is_none_or(|first| *first >= 0x80) {
            value.insert(0, 0);
        }
        [vec![2, value.len() as u8], value].concat()
    };
    let (r, s) = raw.split_at(raw.len() / 2);
    let content = [integer(r), integer(s)].concat();
    [vec![0x30, content.len() as u8], content].concat()
}

fn secret(world: &AttackWorld, name: &str) -> Vec<u8> {
    let rsa = world.issuer.key();
    let pem = |label: &str, der: &[u8]| {
        let text = STANDARD.encode(der);
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        let lines = lines.join("\n");
        format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
    };
    let spki = || pem("PUBLIC KEY", &rsa.rsa_public_key_info());
    match name {
        "spki_pem" => spki().into_bytes(),
        "spki_pem_trimmed" => spki().trim_end().as_bytes().to_vec(),
        "spki_der" => rsa.rsa_public_key_info(),
        "pkcs1_pem" => pem("RSA PUBLIC KEY", &rsa.public_bytes()).into_bytes(),
        "pkcs1_der" => rsa.public_bytes(),
        "jwk" => rsa.public_jwk().to_string().into_bytes(),
        "modulus" => {
            let jwk = rsa.public_jwk();
            URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap()
        }
        "p256_point" => world.keys.p256.public_bytes(),
        "p256_x" => world.keys.p256.public_bytes()[1..33].to_vec(),
        "empty" => Vec::new(),
        "key_id" => b"first".to_vec(),
        other => panic!("no such secret: {other}"),
    }
}

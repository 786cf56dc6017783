//! Signatures made by others, with payloads that are no claims: what `Jws` and `KeySet` say of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;

/// Vectors that are valid by their file and refused here, and why.
const REFUSED_THOUGH_VALID: [(&str, &[u64]); 3] = [
    (
        "HMAC is never accepted; 367 and 370 repeat 357 and are called invalid",
        &[1, 348, 352, 357, 358, 359, 372, 373, 376, 377],
    ),
    ("ES512 is not accepted", &[347, 351]),
    (
        "the key is for PS256 and the token says PS384 (RFC 7517 §4.4)",
        &[346, 350],
    ),
];

#[test]
fn every_wycheproof_signature_has_its_verdict() {
    let file = parse(include_bytes!(
        "../../tests/data/wycheproof/json_web_signature_test.json"
    ));
    let mut refused_though_valid = BTreeSet::new();
    let mut counts = BTreeMap::new();
    for group in list(&file["testGroups"]) {
        let keys = match group.get("public") {
            Some(key) => json!({ "keys": [key] }),
            // A symmetric key.
            None => json!({ "keys": [group["private"]] }),
        };
        for test in list(&group["tests"]) {
            let id = test["tcId"].as_u64().unwrap();
            let verdict = judge(test["jws"].as_str().unwrap(), &keys);
            if is_valid(test) {
                if verdict.is_err() {
                    refused_though_valid.insert(id);
                }
            } else {
                assert!(verdict.is_err(), "{id}: {}", test["comment"]);
            }
            *counts.entry(code(&verdict)).or_insert(0) += 1;
        }
    }
    let listed = REFUSED_THOUGH_VALID.iter().flat_map(|(_, ids)| *ids);
    assert_eq!(refused_though_valid, listed.copied().collect());
    let expected = BTreeMap::from([
        ("accepted", 32),
        ("token_algorithm_refused", 41),
        ("token_header_refused", 1),
        ("token_key_unknown", 6),
        ("token_malformed", 27),
        ("token_signature_invalid", 294),
    ]);
    assert_eq!(counts, expected);
}

#[test]
fn every_wycheproof_key_set_has_its_verdict() {
    let file = parse(include_bytes!(
        "../../tests/data/wycheproof/json_web_key_test.json"
    ));
    let mut counts = BTreeMap::new();
    for group in list(&file["testGroups"]) {
        let keys = group.get("public").unwrap_or(&group["private"]);
        for test in list(&group["tests"]) {
            let verdict = judge(test["jws"].as_str().unwrap(), keys);
            let is_for_hmac = group.get("public").is_none();
            assert_eq!(
                verdict.is_ok(),
                is_valid(test) && !is_for_hmac,
                "{}: {}",
                test["tcId"],
                test["comment"]
            );
            *counts.entry(code(&verdict)).or_insert(0) += 1;
        }
    }
    let expected = BTreeMap::from([
        ("accepted", 1),
        ("token_algorithm_refused", 15),
        ("token_key_unknown", 10),
    ]);
    assert_eq!(counts, expected);
}

#[test]
fn no_private_or_symmetric_key_of_wycheproof_is_usable() {
    let file = parse(include_bytes!(
        "../../tests/data/wycheproof/json_web_signature_test.json"
    ));
    let keys: Vec<&Value> = list(&file["testGroups"])
        .iter()
        .filter_map(|group| group.get("private"))
        .collect();
    assert_eq!(keys.len(), 23);
    for key in keys {
        let document = json!({ "keys": [key] }).to_string();
        assert!(KeySet::parse(document.as_bytes()).is_err(), "{document}");
    }
}

#[test]
fn worked_examples_of_the_rfcs_have_their_verdict_and_only_under_their_key() {
    let examples = parse(include_bytes!("../../tests/data/rfc_examples.json"));
    let examples = list(&examples);
    assert_eq!(examples.len(), 10);
    for example in examples {
        let name = &example["name"];
        let jws = example["jws"].as_str().unwrap();
        let verdict = judge(jws, &json!({ "keys": [example["key"]] }));
        assert_eq!(code(&verdict), example["verdict"], "{name}");
        for other in examples {
            let same_key = |member| other["key"].get(member) == example["key"].get(member);
            if ["n", "x", "k"].into_iter().all(same_key) {
                continue;
            }
            let mut key = other["key"].clone();
            key["kid"] = example["key"]["kid"].clone();
            let verdict = judge(jws, &json!({ "keys": [key] }));
            assert!(verdict.is_err(), "{name} with the key of {}", other["name"]);
        }
    }
}

/// What becomes of a JWS where a key set document is all that an issuer publishes.
fn judge(jws: &str, key_set: &Value) -> Result<(), Denial> {
    let (jws, _) = Jws::parse(jws)?;
    let keys = KeySet::parse(key_set.to_string().as_bytes()).unwrap_or_default();
    jws.verify(&keys)
}

fn code(verdict: &Result<(), Denial>) -> &'static str {
    match verdict {
        Ok(()) => "accepted",
        Err(denial) => denial.code(),
    }
}

fn is_valid(test: &Value) -> bool {
    match test["result"].as_str() {
        Some("valid") => true,
        Some("invalid") => false,
        other => panic!("{other:?}"),
    }
}

fn parse(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

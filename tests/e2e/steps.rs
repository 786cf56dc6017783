//! Small steps that several stories take.

use std::collections::BTreeMap;

/// An HTTP/1.1 request without a body; each of `headers` is a whole line.
pub(crate) fn request(method: &str, target: &str, headers: &[&str]) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: api.acme.example\r\n");
    for line in headers {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text
}

/// `Authorization: Bearer …` as a line.
pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

/// The parameters of a `Bearer` challenge.
pub(crate) fn challenge_parameters(challenge: &str) -> BTreeMap<String, String> {
    let mut rest = challenge
        .strip_prefix("Bearer ")
        .unwrap_or_else(|| panic!("not a Bearer challenge: {challenge}"));
    let mut parameters = BTreeMap::new();
    while let Some((name, after)) = rest.split_once("=\"") {
        let (value, after) = after.split_once('"').expect("a closing quote");
        parameters.insert(
            name.trim_start_matches([',', ' ']).to_owned(),
            value.to_owned(),
        );
        rest = after;
    }
    assert!(
        rest.is_empty(),
        "rest of a challenge: {rest:?} in {challenge}"
    );
    parameters
}

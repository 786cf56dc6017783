//! What fuzzers try on the parsers that strangers reach, and on the readers of what teams write.
//! Each target takes any bytes, and panics when one of its promises is broken. `libfuzzer/` runs
//! them; the tests replay the corpora.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a target fails by panicking"
)]

mod chunks;
mod control_frames;
mod gateway_file;
mod head;

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use portcullis_config::{Catalog, check_policy};
use portcullis_policy::{
    Algorithm, HeaderFate, Host, IdentityHeaders, Issuer, IssuerSet, KeySet, PresentedToken,
    RequestPath, ScopeClaim, ServiceHeaders, TokenProfile, UnixTime,
};

pub use chunks::chunks;
pub use control_frames::control_frames;
pub use gateway_file::gateway_file;
pub use head::head;

/// A name, and what is done with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("chunks", chunks),
    ("control_frames", control_frames),
    ("gateway_file", gateway_file),
    ("head", head),
    ("headers", headers),
    ("host", host),
    ("key_set", key_set),
    ("path", path),
    ("policy", policy),
    ("token", token),
];

/// Public keys of RFC 7515 (A.2, A.3) and RFC 8037 (A.2). Their private halves are in the RFCs; no
/// fuzzer computes a signature with them.
const KEYS: &str = r#"{"keys":[
{"kty":"EC","kid":"p256","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
{"kty":"OKP","kid":"edwards","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
]}"#;

/// Where `length` bytes are cut in two: everywhere when they are few, and else evenly.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (1..length).step_by(length / 128 + 1)
}

/// Nothing that was not signed is a token.
pub fn token(bytes: &[u8]) {
    static WORLD: OnceLock<(IssuerSet, KeySet)> = OnceLock::new();
    let (issuers, keys) = WORLD.get_or_init(|| {
        let issuer = Issuer {
            name: "acme".into(),
            issuer: "https://login.acme.example".into(),
            audiences: vec!["https://api.acme.example".into()],
            algorithms: vec![Algorithm::ES256, Algorithm::EdDSA],
            profile: TokenProfile::Rfc9068,
            scope_claim: ScopeClaim::Scope,
            leeway: Duration::from_secs(30),
        };
        let keys = KeySet::parse(KEYS.as_bytes()).expect("two keys");
        (IssuerSet::new(vec![issuer]), keys)
    });
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(presented) = PresentedToken::parse(text) else {
        return;
    };
    let _ = presented.key_id();
    let Ok((id, issuer)) = presented.issuer(issuers) else {
        return;
    };
    let _ = id;
    let now = UnixTime::from_seconds(1_700_000_000);
    assert!(
        presented.verify((id, issuer), keys, now).is_err(),
        "a token that nobody has signed: {text}"
    );
}

/// What is not refused is bounded, and no secret is a key.
pub fn key_set(bytes: &[u8]) {
    if let Ok(keys) = KeySet::parse(bytes) {
        assert!(keys.len() <= bytes.len(), "more keys than bytes");
        assert!(keys.key_ids().count() <= keys.len());
    }
}

/// The path that is judged is the path that others see: the URL parser of browsers and Node.js finds
/// nothing to change in it, and no segment has a meaning of its own.
pub fn path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(path) = RequestPath::parse(text) else {
        return;
    };
    assert_eq!(path.as_str(), text);
    for segment in path.segments() {
        assert!(
            !matches!(&*segment, b"" | b"." | b".."),
            "a segment with a meaning: {text}"
        );
        let is_separator = |byte: &u8| matches!(byte, b'/' | b'\\' | b'\0');
        assert!(
            !segment.iter().any(is_separator),
            "a separator within a segment: {text}"
        );
    }
    let url = url::Url::parse(&format!("http://a{text}"));
    let Ok(url) = url else {
        panic!("no URL: {text}");
    };
    assert_eq!(
        decoded(url.path()),
        decoded(text),
        "browsers see another path"
    );
    assert_eq!(url.query(), None);
    assert_eq!(url.fragment(), None);
}

fn decoded(path: &str) -> Vec<Vec<u8>> {
    // The decoder is one for forms, in which `+` is a space.
    path.split('/')
        .map(|segment| {
            let escaped = segment
                .replace('+', "%2B")
                .replace('&', "%26")
                .replace('=', "%3D");
            let pair = form_urlencoded::parse(escaped.as_bytes()).next();
            pair.map_or(Cow::Borrowed(""), |(name, _)| name)
                .into_owned()
                .into_bytes()
        })
        .collect()
}

/// No spelling of an identity header is forwarded.
pub fn headers(bytes: &[u8]) {
    static RULES: OnceLock<ServiceHeaders> = OnceLock::new();
    let rules = RULES.get_or_init(|| ServiceHeaders::new(&IdentityHeaders::default()));
    let Ok(name) = std::str::from_utf8(bytes) else {
        return;
    };
    let fate = rules.fate(name);
    // As CGI, WSGI and their heirs do it, and some that are laxer.
    let words: Vec<String> = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    if matches!(&*words.join("_"), "x_user_id" | "x_scopes" | "x_client_id") {
        assert_eq!(fate, HeaderFate::RemoveForgery, "{name}");
    }
}

/// A host has one spelling.
pub fn host(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(host) = Host::from_authority(text) {
        let again = Host::from_authority(host.as_str());
        assert_eq!(
            again.as_ref().map(Host::as_str),
            Ok(host.as_str()),
            "{text}"
        );
        assert!(!host.as_str().bytes().any(|byte| byte.is_ascii_uppercase()));
    }
}

/// Whatever a team writes is a policy or a list of problems, each with a place.
pub fn policy(bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("written");
    let catalog = Catalog {
        upstreams: vec!["orders".to_owned()],
        http2_upstreams: Vec::new(),
        issuers: vec!["acme".to_owned()],
        scopes: Vec::new(),
        routes: Vec::new(),
    };
    for diagnostic in check_policy(file.path(), &catalog).iter() {
        assert!(diagnostic.line >= 1 && diagnostic.column >= 1);
    }
}

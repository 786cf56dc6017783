//! Nothing that was not signed as it stands yields a `Permit`.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use portcullis_policy::*;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use crate::signing::{NOW, SigningKey, claims, issuer, key_set};
use crate::{cases, protected_route};

const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::RS256,
    Algorithm::PS256,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

struct World {
    keys: Vec<SigningKey>,
    key_set: KeySet,
    issuers: IssuerSet,
    /// Admits whoever has any good token.
    route: Arc<Route>,
    /// Two for each key, for different callers.
    tokens: Vec<[String; 2]>,
}

impl World {
    /// Made once for each test process: RSA keys take their time.
    fn get() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| {
            let keys: Vec<_> = ALGORITHMS.into_iter().map(SigningKey::generate).collect();
            let mut others = claims();
            others["sub"] = json!("mallory");
            let sign =
                |key: &SigningKey, claims: &Value| key.sign(&key.header(), &claims.to_string());
            let world = Self {
                key_set: key_set(&keys),
                issuers: IssuerSet::new(vec![issuer("acme")]),
                route: protected_route(RequiredScopes::authenticated_only()),
                tokens: keys
                    .iter()
                    .map(|key| [sign(key, &claims()), sign(key, &others)])
                    .collect(),
                keys,
            };
            for token in world.tokens.iter().flatten() {
                assert!(world.admit(token).is_ok(), "{token}");
            }
            world
        })
    }

    fn admit(&self, token: &str) -> Result<Permit, Denial> {
        let now = UnixTime::from_seconds(NOW);
        let token = PresentedToken::parse(token)?;
        let issuer = token.issuer(&self.issuers)?;
        let verified = token.verify(issuer, &self.key_set, now)?;
        let principal = Principal::new(
            &verified,
            &IdentityHeaders::default(),
            &ScopeRegistry::default(),
        )?;
        decide(&self.route, Some(&Arc::new(principal)), now)
    }
}

/// Each bit of each character, so also those of a last character that decode to nothing, and
/// characters that are not of the alphabet.
#[test]
fn a_token_with_any_one_character_changed_is_refused_whatever_its_algorithm() {
    let world = World::get();
    for [token, _] in &world.tokens {
        for position in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            let original = changed[position];
            let value = ALPHABET.iter().position(|byte| *byte == original);
            let flipped = (0..6).filter_map(|bit| ALPHABET.get(value? ^ 1 << bit).copied());
            for byte in flipped
                .chain(*b".=+/ \n\0A")
                .filter(|byte| *byte != original)
            {
                changed[position] = byte;
                let changed = std::str::from_utf8(&changed).unwrap();
                assert!(world.admit(changed).is_err(), "byte {position}: {changed}");
            }
        }
    }
}

#[test]
fn a_token_signed_with_a_strangers_key_is_refused_whatever_its_algorithm() {
    let world = World::get();
    for algorithm in ALGORITHMS {
        let stranger = SigningKey::generate(algorithm);
        for published in &world.keys {
            // The stranger's own algorithm, or that of the published key.
            for name in [algorithm.as_str(), published.algorithm.as_str()] {
                let header = json!({"alg": name, "kid": published.algorithm.as_str(),
                    "typ": "at+jwt"});
                let token = stranger.sign(&header.to_string(), &claims().to_string());
                let denial = world.admit(&token).unwrap_err();
                let expected = if name == published.algorithm.as_str() {
                    Denial::TokenSignatureInvalid
                } else {
                    Denial::TokenAlgorithmRefused
                };
                assert_eq!(denial, expected, "{header} by {algorithm}");
            }
        }
    }
}

#[test]
fn the_parts_of_two_good_tokens_make_no_third() {
    let world = World::get();
    let tokens: Vec<Vec<&str>> = world
        .tokens
        .iter()
        .flatten()
        .map(|token| token.split('.').collect())
        .collect();
    for header in &tokens {
        for payload in &tokens {
            for signature in &tokens {
                let mixed = [header[0], payload[1], signature[2]];
                let is_good = tokens.iter().any(|token| *token == mixed);
                assert_eq!(world.admit(&mixed.join(".")).is_ok(), is_good, "{mixed:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn no_text_that_nobody_signed_yields_a_permit(token in unsigned_text()) {
        prop_assert!(World::get().admit(&token).is_err());
    }

    #[test]
    fn no_good_claims_under_a_made_up_signature_yield_a_permit(token in badly_signed()) {
        prop_assert!(World::get().admit(&token).is_err());
    }

    #[test]
    fn no_edited_token_yields_a_permit(
        (algorithm, which) in (0..ALGORITHMS.len(), 0..2_usize),
        edits in prop::collection::vec(edit(), 1..5),
    ) {
        let world = World::get();
        let mut token: Vec<char> = world.tokens[algorithm][which].chars().collect();
        for edit in edits {
            edit.apply(&mut token);
        }
        let token: String = token.into_iter().collect();
        prop_assume!(!world.tokens.iter().flatten().any(|good| *good == token));
        prop_assert!(world.admit(&token).is_err());
    }

    #[test]
    fn no_protected_route_admits_a_caller_without_a_principal(
        requirement in requirement(),
        now in any::<i64>(),
    ) {
        let route = protected_route(requirement);
        let decision = decide(&route, None, UnixTime::from_seconds(now));
        prop_assert_eq!(decision.err(), Some(Denial::CredentialMissing));
    }
}

fn unsigned_text() -> impl Strategy<Value = String> {
    let part = || prop::collection::vec(any::<u8>(), 0..80).prop_map(|bytes| B64.encode(bytes));
    prop_oneof![
        any::<String>(),
        "[A-Za-z0-9_.-]{0,200}",
        (part(), part(), part())
            .prop_map(|(header, claims, signature)| { format!("{header}.{claims}.{signature}") }),
    ]
}

/// Names of algorithms and keys as they should be and as they should not, good claims, and bytes in
/// the place of the signature.
fn badly_signed() -> impl Strategy<Value = String> {
    let algorithm = select(vec![
        "none", "None", "", "HS256", "HS512", "RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA",
    ]);
    let key_id = select(vec![
        None,
        Some("RS256"),
        Some("ES256"),
        Some("EdDSA"),
        Some("x"),
    ]);
    let signature = prop_oneof![
        Just(Vec::new()),
        select(vec![32_usize, 64, 96, 132, 256]).prop_map(|length| vec![0; length]),
        prop::collection::vec(any::<u8>(), 64),
        prop::collection::vec(any::<u8>(), 96),
        prop::collection::vec(any::<u8>(), 256),
        prop::collection::vec(any::<u8>(), 0..300),
    ];
    (algorithm, key_id, signature).prop_map(|(algorithm, key_id, signature)| {
        let mut header = json!({"alg": algorithm, "typ": "at+jwt"});
        if let Some(key_id) = key_id {
            header["kid"] = json!(key_id);
        }
        let (header, claims) = (header.to_string(), claims().to_string());
        [
            B64.encode(header),
            B64.encode(claims),
            B64.encode(signature),
        ]
        .join(".")
    })
}

#[derive(Debug, Clone)]
enum Edit {
    Replace(Index, char),
    Insert(Index, char),
    Delete(Index),
    Cut(Index),
    Repeat(Index, Index),
    Swap(Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let character = || {
        prop_oneof![
            8 => select(ALPHABET.to_vec()).prop_map(char::from),
            2 => select(vec!['.', '=', '+', '/', ' ', '\n', '\0', 'é']),
        ]
    };
    let index = any::<Index>;
    prop_oneof![
        (index(), character()).prop_map(|(at, with)| Edit::Replace(at, with)),
        (index(), character()).prop_map(|(at, what)| Edit::Insert(at, what)),
        index().prop_map(Edit::Delete),
        index().prop_map(Edit::Cut),
        (index(), index()).prop_map(|(from, to)| Edit::Repeat(from, to)),
        (index(), index()).prop_map(|(one, other)| Edit::Swap(one, other)),
    ]
}

impl Edit {
    fn apply(self, token: &mut Vec<char>) {
        if token.is_empty() {
            return;
        }
        let length = token.len();
        match self {
            Self::Replace(at, with) => token[at.index(length)] = with,
            Self::Insert(at, what) => token.insert(at.index(length), what),
            Self::Delete(at) => drop(token.remove(at.index(length))),
            Self::Cut(at) => token.truncate(at.index(length)),
            Self::Repeat(from, to) => {
                let piece = token[from.index(length)..].to_vec();
                let to = to.index(length);
                token.splice(to..to, piece);
            }
            Self::Swap(one, other) => token.swap(one.index(length), other.index(length)),
        }
    }
}

fn requirement() -> impl Strategy<Value = RequiredScopes> {
    (1..100_usize, any::<Index>(), 0..3_u8).prop_map(|(count, required, kind)| {
        let scopes: Vec<Scope> = (0..count)
            .map(|number| format!("s{number}").parse().unwrap())
            .collect();
        let registry = ScopeRegistry::new(scopes.clone());
        let required = &scopes[..=required.index(count)];
        match kind {
            0 => RequiredScopes::all(&registry, required).unwrap(),
            1 => RequiredScopes::any(&registry, required).unwrap(),
            _ => RequiredScopes::authenticated_only(),
        }
    })
}

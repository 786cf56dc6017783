//! What scopes decide, against sets of names.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use portcullis_policy::*;
use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::json;

use crate::signing::{NOW, SigningKey, claims, issuer, key_set};
use crate::{cases, protected_route};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Demand {
    All,
    Any,
    AuthenticatedOnly,
}

#[derive(Debug, Clone)]
struct Case {
    registered: Vec<String>,
    demand: Demand,
    required: Vec<String>,
    granted: Vec<String>,
    more: Vec<String>,
}

/// More scopes than a machine word has bits, and some that nobody registered.
fn case() -> impl Strategy<Value = Case> {
    (1..140_usize).prop_flat_map(|count| {
        let registered: Vec<String> = (0..count).map(|number| format!("s{number}")).collect();
        let known: Vec<String> = (0..count + 5).map(|number| format!("s{number}")).collect();
        let demand = prop_oneof![
            Just(Demand::All),
            Just(Demand::Any),
            Just(Demand::AuthenticatedOnly)
        ];
        (
            Just(registered.clone()),
            demand,
            subsequence(registered, 1..=count.min(4)).prop_shuffle(),
            subsequence(known.clone(), 0..=count + 5).prop_shuffle(),
            subsequence(known, 0..=count + 5),
        )
            .prop_map(|(registered, demand, required, granted, more)| Case {
                registered,
                demand,
                required,
                granted,
                more,
            })
    })
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_requirement_is_met_by_the_sets_of_names_that_meet_it_and_more_scopes_never_hurt(
        case in case()
    ) {
        let registry = ScopeRegistry::new(case.registered.iter().map(|name| name.parse().unwrap()));
        let required: Vec<Scope> = case.required.iter().map(|name| name.parse().unwrap()).collect();
        let scopes = match case.demand {
            Demand::All => RequiredScopes::all(&registry, &required).unwrap(),
            Demand::Any => RequiredScopes::any(&registry, &required).unwrap(),
            Demand::AuthenticatedOnly => RequiredScopes::authenticated_only(),
        };
        let route = protected_route(scopes);
        let judge = |granted: &[String]| {
            let principal = principal(granted, &registry);
            decide(&route, Some(&principal), UnixTime::from_seconds(NOW)).map(drop)
        };

        let names: BTreeSet<&String> = case.required.iter().collect();
        let granted: BTreeSet<&String> = case.granted.iter().collect();
        let is_met = match case.demand {
            Demand::All => names.is_subset(&granted),
            Demand::Any => !names.is_disjoint(&granted),
            Demand::AuthenticatedOnly => true,
        };
        let required = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
        let expected = if is_met {
            Ok(())
        } else {
            Err(Denial::ScopeInsufficient { required: required.into() })
        };
        prop_assert_eq!(judge(&case.granted), expected);

        let both = [case.granted, case.more].concat();
        if is_met {
            prop_assert_eq!(judge(&both), Ok(()));
        }
    }
}

fn principal(granted: &[String], registry: &ScopeRegistry) -> Arc<Principal> {
    static WORLD: OnceLock<(SigningKey, KeySet, IssuerSet)> = OnceLock::new();
    let (key, keys, issuers) = WORLD.get_or_init(|| {
        let key = SigningKey::generate(Algorithm::EdDSA);
        let keys = key_set(std::slice::from_ref(&key));
        (key, keys, IssuerSet::new(vec![issuer("acme")]))
    });
    let mut claims = claims();
    claims["scope"] = json!(granted.join(" "));
    let signed = key.sign(&key.header(), &claims.to_string());
    let token = PresentedToken::parse(&signed).unwrap();
    let issuer = token.issuer(issuers).unwrap();
    let verified = token
        .verify(issuer, keys, UnixTime::from_seconds(NOW))
        .unwrap_or_else(|denial| panic!("{denial:?}"));
    Arc::new(Principal::new(&verified, &IdentityHeaders::default(), registry).unwrap())
}

//! Which names a service could take for an identity header.

use portcullis_policy::{HeaderFate, IdentityHeaders, ServiceHeaders};
use proptest::prelude::*;
use proptest::sample::select;

use crate::cases;

#[test]
fn every_case_and_every_separator_spells_the_identity_header() {
    let headers = ServiceHeaders::new(&IdentityHeaders::default());
    let separators = (0..128_u8)
        .map(char::from)
        .filter(|c| !c.is_ascii_alphanumeric());
    let mut spellings = 0;
    for separator in separators {
        for upper in 0..1_u32 << "xscopes".len() {
            let mut letters = "xscopes".chars().enumerate().map(|(at, c)| {
                if upper >> at & 1 == 1 {
                    c.to_ascii_uppercase()
                } else {
                    c
                }
            });
            let first = letters.next().unwrap();
            let name = format!("{first}{separator}{}", letters.collect::<String>());
            assert_eq!(headers.fate(&name), HeaderFate::RemoveForgery, "{name:?}");
            spellings += 1;
        }
    }
    assert_eq!(spellings, 66 * 128);
}

proptest! {
    #![proptest_config(cases(1024))]

    #[test]
    fn a_name_is_a_forgery_if_and_only_if_its_words_are_those_of_a_configured_one(
        (names, name) in names()
    ) {
        let mapping = names.iter().map(|name| (name.as_str(), "sub"));
        let Ok(headers) = IdentityHeaders::new(mapping) else {
            // Two of them fold together.
            let clash = names.iter().enumerate().any(|(at, one)| {
                names[at + 1..].iter().any(|other| is_same(one, other))
            });
            prop_assert!(clash, "{:?}", names);
            return Ok(());
        };
        let expected = names.iter().any(|configured| is_same(configured, &name));
        let is_forgery = ServiceHeaders::new(&headers).fate(&name) == HeaderFate::RemoveForgery;
        prop_assert_eq!(is_forgery, expected);
    }
}

/// The same words of letters and digits, whatever separates them.
fn is_same(one: &str, other: &str) -> bool {
    let words = |name: &str| -> Vec<String> {
        let lower: String = name
            .bytes()
            .map(|byte| match byte.is_ascii_alphanumeric() {
                true => char::from(byte.to_ascii_lowercase()),
                false => ' ',
            })
            .collect();
        lower.split_whitespace().map(str::to_owned).collect()
    };
    words(one) == words(other)
}

/// Configured names, and one that is like one of them, or nearly.
fn names() -> impl Strategy<Value = (Vec<String>, String)> {
    let configured = prop::collection::vec("X-Id-[a-cA-C0-1_.~-]{1,4}", 1..4);
    configured.prop_flat_map(|names| {
        let spelling = select(names.clone()).prop_flat_map(|name| {
            name.chars()
                .map(|c| {
                    if c.is_ascii_alphanumeric() {
                        let (upper, lower) = (c.to_ascii_uppercase(), c.to_ascii_lowercase());
                        prop_oneof![40 => select(vec![upper, lower]), 1 => any::<char>()].boxed()
                    } else {
                        let others =
                            select(vec!['-', '_', '.', ' ', '~', '!', '\0', 'é', 'ſ', 'K']);
                        prop_oneof![40 => others, 1 => any::<char>()].boxed()
                    }
                })
                .collect::<Vec<_>>()
                .prop_map(|characters| characters.into_iter().collect::<String>())
        });
        let name = prop_oneof![
            6 => spelling,
            1 => select(names.clone()).prop_map(|name| format!("{name}s")),
            1 => select(names.clone()).prop_map(|name| name.replace('-', "")),
            1 => select(names.clone()).prop_map(|name| name[1..].to_owned()),
            1 => any::<String>(),
        ];
        (Just(names), name)
    })
}

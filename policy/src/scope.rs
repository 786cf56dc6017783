use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// One scope word: `scope-token` of RFC 6749 §3.3, compared as a whole and case-sensitively.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Box<str>);

/// Text that is not one scope word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a scope is one or more printable ASCII characters without space, `\"` and `\\`")]
pub struct InvalidScope;

impl Scope {
    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_scope_token(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidScope)
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 6749 §3.3: `scope-token = 1*( %x21 / %x23-5B / %x5D-7E )`.
pub(crate) fn is_scope_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E))
}

/// A registered scope: its place in the [`ScopeRegistry`] and its bit in a [`ScopeSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeId(u32);

/// Every scope that a route may name. It belongs to one generation of the policy, and so do the
/// [`ScopeSet`]s made with it.
#[derive(Debug, Default)]
pub struct ScopeRegistry {
    scopes: Vec<Scope>,
    ids: HashMap<Scope, ScopeId>,
}

impl ScopeRegistry {
    /// Registers each distinct scope.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Self {
        let mut registry = Self::default();
        for scope in scopes {
            let Ok(next) = u32::try_from(registry.scopes.len()) else {
                break;
            };
            if let std::collections::hash_map::Entry::Vacant(vacant) = registry.ids.entry(scope) {
                registry.scopes.push(vacant.key().clone());
                vacant.insert(ScopeId(next));
            }
        }
        registry
    }

    /// The scope with this name, if it is registered.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<ScopeId> {
        self.ids.get(name).copied()
    }

    /// Every scope, in the order of registration.
    #[must_use]
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// The registered ones among `names`. What nobody registered cannot be required, so it is left out.
    pub fn set_of<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> ScopeSet {
        names.into_iter().filter_map(|name| self.id(name)).collect()
    }
}

impl std::borrow::Borrow<str> for Scope {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A set of registered scopes as bits: containment is a few `and`s, however many scopes there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScopeSet {
    /// Trailing zero words are never stored, so that equal sets are equal values.
    words: Box<[u64]>,
}

impl ScopeSet {
    /// Whether every scope of `other` is in this set.
    #[must_use]
    pub fn contains_all(&self, other: &Self) -> bool {
        other.words.len() <= self.words.len()
            && self
                .words
                .iter()
                .zip(&other.words)
                .all(|(mine, theirs)| theirs & !mine == 0)
    }

    /// Whether some scope is in both sets.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.words
            .iter()
            .zip(&other.words)
            .any(|(mine, theirs)| mine & theirs != 0)
    }

    /// Whether there is no scope in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

impl FromIterator<ScopeId> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = ScopeId>>(ids: I) -> Self {
        let mut words: Vec<u64> = Vec::new();
        for ScopeId(id) in ids {
            let (word, bit) = (id as usize / 64, id % 64);
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            if let Some(word) = words.get_mut(word) {
                *word |= 1 << bit;
            }
        }
        Self {
            words: words.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_one_whole_word() {
        for word in [
            "orders:read",
            "https://acme.example/orders.read",
            "a,b",
            "!",
            "~",
        ] {
            assert!(word.parse::<Scope>().is_ok(), "{word}");
        }
        for word in ["", "a b", " a", "a\t", "a\"", "a\\", "é", "a\u{a0}", "a\n"] {
            assert_eq!(word.parse::<Scope>(), Err(InvalidScope), "{word:?}");
        }
    }

    #[test]
    fn look_alikes_of_a_scope_are_other_scopes() {
        let registry = ScopeRegistry::new(["read".parse().unwrap(), "write".parse().unwrap()]);
        let names: Vec<String> = registry.scopes().iter().map(Scope::to_string).collect();
        assert_eq!(names, ["read", "write"]);
        let read = registry.set_of(["read"]);
        for other in [
            vec!["thread"],
            vec!["read2"],
            vec!["READ"],
            vec!["read:all"],
            vec!["re", "ad"],
            vec!["a,read"],
        ] {
            assert!(
                !registry.set_of(other.iter().copied()).contains_all(&read),
                "{other:?}"
            );
        }
        assert!(
            registry
                .set_of(["write", "unknown", "read"])
                .contains_all(&read)
        );
    }

    #[test]
    fn sets_span_words() {
        let registry = ScopeRegistry::new((0..200).map(|n| format!("s{n}").parse().unwrap()));
        let wide = registry.set_of(["s0", "s64", "s199"]);
        assert!(wide.contains_all(&registry.set_of(["s199"])));
        assert!(!wide.contains_all(&registry.set_of(["s198"])));
        assert!(!registry.set_of(["s0"]).contains_all(&wide));
        assert!(wide.intersects(&registry.set_of(["s1", "s64"])));
        assert!(!wide.intersects(&registry.set_of(["s65"])));
        assert!(wide.contains_all(&ScopeSet::default()));
        assert_eq!(wide.words.len(), 4, "a bit for each, and no more");
        assert!(ScopeSet::default().is_empty() && !wide.is_empty());
    }
}

//! Verified tokens, remembered. What is remembered is who the caller is, never what is allowed: the
//! policy runs on every request. An entry is good for one generation of the configuration and one
//! key set of its issuer, and `decide` looks at its expiry each time.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use aws_lc_rs::digest;
use portcullis_policy::Principal;
use quick_cache::sync::Cache;

use crate::issuer::key_set_cache::LoadedKeySet;

/// A token, told apart from all others without being kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    /// SHA-256: whoever could find two tokens with one hash could be somebody else.
    pub(crate) fn of(token: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }
}

impl std::hash::Hash for TokenHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

/// A hash needs no hashing.
#[derive(Default)]
pub(crate) struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A token that was verified with `key_set`.
#[derive(Clone)]
pub(crate) struct Remembered {
    pub(crate) principal: Arc<Principal>,
    pub(crate) key_set: Arc<LoadedKeySet>,
}

type Weighter = quick_cache::UnitWeighter;

/// The tokens of one generation.
pub(crate) struct TokenCache(
    Option<Cache<TokenHash, Remembered, Weighter, BuildHasherDefault<FirstBytes>>>,
);

impl std::fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCache")
            .field("entries", &self.len())
            .finish_non_exhaustive()
    }
}

impl TokenCache {
    /// Room for `entries`; with none, nothing is remembered.
    pub(crate) fn with_capacity(entries: usize) -> Self {
        Self((entries > 0).then(|| {
            Cache::with(
                entries,
                entries as u64,
                quick_cache::UnitWeighter,
                BuildHasherDefault::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            )
        }))
    }

    pub(crate) fn get(&self, token: &TokenHash) -> Option<Remembered> {
        self.0.as_ref()?.get(token)
    }

    pub(crate) fn insert(&self, token: TokenHash, remembered: Remembered) {
        if let Some(cache) = &self.0 {
            cache.insert(token, remembered);
        }
    }

    pub(crate) fn remove(&self, token: &TokenHash) {
        if let Some(cache) = &self.0 {
            cache.remove(token);
        }
    }

    /// Forgets all of them.
    pub(crate) fn clear(&self) {
        if let Some(cache) = &self.0 {
            cache.clear();
        }
    }

    /// Number of remembered tokens.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, Cache::len)
    }
}

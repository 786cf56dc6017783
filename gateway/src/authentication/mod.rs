//! What a request presents → who that is.

pub mod access_token;
mod failures;
mod token_cache;

pub(crate) use failures::Failures;
pub(crate) use token_cache::TokenCache;

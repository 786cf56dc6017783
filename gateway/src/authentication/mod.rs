//! What a request presents → who that is.

pub mod access_token;
mod token_cache;

pub(crate) use token_cache::TokenCache;

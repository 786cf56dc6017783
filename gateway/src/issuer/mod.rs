//! Speaking to authorization servers: [`fetch`] reads documents within bounds, [`discovery`] finds a
//! key set, and [`key_set_cache`] keeps the last good one.

pub mod discovery;
pub mod fetch;
pub mod key_set_cache;

pub use key_set_cache::KeySetCache;

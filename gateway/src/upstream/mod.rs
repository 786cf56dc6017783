//! Facing the services: which address, under which TLS identity ([`peer`]), and what of a request
//! and its response passes ([`request`], [`response`]), and what an error of it is (`failure.rs`).

pub mod endpoints;
pub(crate) mod failure;
pub mod peer;
pub mod request;
pub mod response;

pub(crate) use peer::Upstream;

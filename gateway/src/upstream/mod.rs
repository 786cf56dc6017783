//! Facing the services: which address, under which TLS identity ([`peer`]), and what of a request
//! and its response passes ([`request`], [`response`]).

pub mod endpoints;
pub mod peer;
pub mod request;
pub mod response;

pub(crate) use peer::Upstream;

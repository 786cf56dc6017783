//! YAML → checked [`Config`]. Blocking file reads, and nothing else that touches the world.
//!
//! Two kinds of file: `portcullis.yaml` is the platform team's, each policy file is a service team's.
//! The way of both, in the order of the modules:
//!
//! 1. [`node`]: text → tree, by the parser of record; a second parser only knows where things are.
//! 2. [`document`]: tree → the files *as written*, every structural problem at once.
//! 3. `check`, `resolve`: documents → [`Config`], the configuration *as meant*. Names have become
//!    the things they name, certificates and keys were read, routes cannot clash.
//!
//! What is wrong is a [`Diagnostic`] with a place; all of them are told, not the first. [`load`] is
//! for the start and for `portcullis check`; [`reload`] is for a gateway that serves, and holds a
//! broken policy file at its last good content while the others move on (see [`containment`]).
//! [`check_policy`] is for a team that has nothing but its own file and a [`Catalog`].

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )
)]

mod catalog;
mod certificate;
mod check;
mod config;
pub mod containment;
pub mod diagnostic;
pub mod document;
mod file;
mod generation;
pub mod node;
mod places;
mod read;
mod reference;
mod resolve;
mod schema;
pub mod secret;
mod source;
mod suggest;
mod url;

pub use catalog::{Catalog, CatalogRoute, CatalogScope, check_policy};
pub use config::{
    AccessLog, Address, ClientCertificates, ClientIdentity, Config, Issuer, KeySource, Limits,
    Listener, ListenerTls, Overload, PolicyFile, Route, RouteLimits, ServerCertificate, Shutdown,
    SubjectDisclosure, Upstream, UpstreamTls,
};
pub use containment::reload;
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use generation::load;
pub use reference::configuration_markdown;
pub use schema::{gateway_schema, policy_schema};
pub use secret::Secret;

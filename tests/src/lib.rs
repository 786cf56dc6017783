//! The harness of the end-to-end tests: the real `portcullis` binary between real callers and real
//! servers, each on a port of its own on loopback, each owned by the test that started it.
//!
//! - [`Gateway`] runs the binary on YAML that a test wrote; [`portcullis`] runs its other commands.
//!   [`Held`] is what it holds, to be given back.
//! - [`GatewayYaml`] and [`World`] write the YAML that most tests start from.
//! - [`AuthorizationServer`] is npm's `oidc-provider`; [`Issuer`] is ours and does as it is told,
//!   for tokens and key sets that no honest server would make.
//! - [`Service`] records every byte that the gateway sends it; [`Nginx`] is a service that demands
//!   client certificates and is not ours.
//! - [`WebSocketService`] and [`WebSocket`] speak WebSocket by a library that is not ours.
//! - [`FaultProxy`] is a network that breaks as it is told; [`Namespace`] one that can be cut, with
//!   a [`NameServer`]; [`ControlGroup`] is a bound on memory.
//! - [`Caller`] is a polite HTTP client; [`Connection`] sends exactly the bytes it is given;
//!   [`Http2Connection`] is an HTTP/2 client that can send trailers.
//! - [`Authority`] issues certificates; [`Prometheus`] scrapes.
//!
//! Nothing sleeps for a fixed time to let something happen: [`eventually`] polls with a deadline.
//! Nothing is shared between tests but the installed npm modules, so they run in parallel.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "a harness fails its test by panicking"
)]

mod authorization_server;
mod caller;
mod connection;
mod control_group;
mod eventually;
mod fault_proxy;
mod gateway;
mod held;
mod http2_connection;
pub mod http2_frames;
mod issuer;
mod load;
mod metrics;
mod namespace;
mod nginx;
mod pki;
mod process;
mod prometheus;
mod service;
mod signing_key;
mod token;
mod websocket;
mod world;

pub use authorization_server::AuthorizationServer;
pub use caller::{Answer, Caller};
pub use connection::{Connection, RawResponse, TlsOptions};
pub use control_group::ControlGroup;
pub use eventually::{DEADLINE, eventually, eventually_within};
pub use fault_proxy::{Fault, FaultProxy};
pub use gateway::{CommandOutput, Gateway, GatewayBuilder, portcullis, portcullis_binary};
pub use held::Held;
pub use http2_connection::{Http2Connection, Http2Response};
pub use issuer::{Issuer, IssuerAnswer};
pub use load::{Load, LoadReport};
pub use metrics::Metrics;
pub use namespace::{NameAnswer, NameServer, Namespace};
pub use nginx::Nginx;
pub use pki::{Authority, Certificate, Leaf, Validity};
pub use prometheus::{Prometheus, promtool_check_metrics};
pub use service::{Behaviour, Received, Response, Service, ServiceBuilder};
pub use signing_key::SigningKey;
pub use token::{Token, unix_now};
pub use websocket::{WebSocket, WebSocketService};
pub use world::{AUDIENCE, GatewayYaml, ORDERS_POLICY, World};

/// Makes aws-lc-rs the process's TLS provider. Every part of the harness that speaks TLS calls it.
pub(crate) fn install_crypto_provider() {
    // An error only says that another part of the harness was first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

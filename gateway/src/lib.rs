//! The gateway: what fetches, waits, stores and sends. The walk of one request, in reading order:
//!
//! 1. [`downstream`]: a socket is accepted and its TLS settled (`listener`, `tls`, `stream`); each
//!    HTTP/1 head is read within bounds and held to one meaning (`head`) before Pingora sees it.
//! 2. [`proxy`]: the phases of Pingora's proxy. [`exchange`] is what a request carries through them;
//!    it pins one [`snapshot`], a generation of the configuration.
//! 3. [`admission`]: the story. What arrived (`downstream::request`), which route, what was presented
//!    (`downstream::credential`), who that is ([`authentication`], with keys from [`issuer`]), and
//!    `policy::decide`, which alone makes a permit. Whatever else comes of it is a [`refusal`].
//! 4. [`upstream`]: with a permit, a peer; forgeries stripped, identity injected.
//!    A WebSocket is carried by `websocket`.
//! 5. [`telemetry`]: always, one line in the access log and the metrics.
//!
//! [`server`] puts it together, on worker threads with a runtime each, `overload` keeps it alive,
//! [`reload`] replaces generations, [`admin`] tells about it, [`cli`] has a file for each command.

pub mod admin;
pub mod admission;
pub mod authentication;
pub mod cli;
mod clock;
mod demo;
pub mod downstream;
pub mod exchange;
pub mod gateway;
pub mod issuer;
mod overload;
mod process;
pub mod proxy;
pub mod refusal;
pub mod reload;
pub mod server;
pub mod snapshot;
pub mod telemetry;
mod turns;
pub mod upstream;
mod websocket;
mod workers;

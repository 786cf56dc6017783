//! The end-to-end tests: a module for each promise.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::large_futures,
    reason = "a test fails by panicking, and its name says what it is about"
)]

mod access_log;
mod admin;
mod attacks;
mod bearer;
mod broken_network;
mod certificates;
mod cli;
mod clock;
mod drain;
mod faults;
mod hostile;
mod identity_headers;
mod keys;
mod listeners;
mod mutual_tls;
mod networks;
mod process;
mod reload;
mod request_ids_and_forwarding;
mod secrets;
mod steps;
mod streams;
mod upstreams;
mod websockets;

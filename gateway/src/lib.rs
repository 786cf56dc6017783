//! The gateway: what fetches, waits, stores and sends.
//!
//! Here so far: the operational log, the metrics and the access log ([`telemetry`]), the admin
//! listener ([`admin`]), and the offline commands of the binary `portcullis` ([`cli`]). The data
//! path (listeners, admission, forwarding) is not built yet, so there is no `run`.

pub mod admin;
pub mod cli;
pub mod telemetry;

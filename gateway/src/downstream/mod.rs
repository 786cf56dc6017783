//! Facing the caller: sockets and TLS ([`listener`], `connections`, [`tls`], [`stream`]), one
//! connection's requests ([`connection`], [`head`], `body_clock`), what a request says ([`request`],
//! [`credential`], [`forwarding`], [`trace`]), and the answer when it is refused ([`response`]).

pub(crate) mod body_clock;
pub mod chunks;
pub mod connection;
pub(crate) mod connections;
pub mod control_frames;
pub mod credential;
pub mod forwarding;
pub mod head;
pub(crate) mod inbound;
pub mod listener;
pub mod request;
pub mod response;
pub mod stream;
pub mod tls;
pub mod trace;

//! WebSocket (RFC 6455), on routes that allow it. The gateway makes the handshake with the service
//! itself ([`service`]), from a request that [`handshake`] found correct in full, and then carries what
//! both sides say ([`tunnel`]) until one of them leaves, both are silent for too long, or the access
//! token that opened it is no longer good.
//!
//! Pingora would carry an upgraded connection, too, and loses some of them right after the handshake
//! when the service answers fast. So it is asked for none.

mod frames;
pub(crate) mod handshake;
pub(crate) mod service;
pub(crate) mod tunnel;

//! The story of a request: who asks, for what, and whether they may.

use pingora_http::RequestHeader;
use portcullis_policy::{self as policy, Access, Denial, Permit};

use crate::authentication::access_token::{self, Caller, Verifications};
use crate::downstream::credential;
use crate::downstream::request::{Arrived, check_length};
use crate::exchange::Exchange;
use crate::gateway::Gateway;
use crate::refusal::{Fault, Refusal};
use crate::websocket::handshake;

/// A request in, a permit or a refusal out.
///
/// # Errors
/// The first reason to refuse it.
pub(crate) async fn admit(
    header: &RequestHeader,
    exchange: &mut Exchange,
    gateway: &Gateway,
    verifications: &Verifications,
) -> Result<Permit, Refusal> {
    let snapshot = std::sync::Arc::clone(exchange.snapshot());
    let limits = &snapshot.config().limits;

    let connection = exchange.connection();
    let is_surplus = connection.is_some_and(|connection| connection.is_surplus);
    if !gateway.overload().accepts_requests(is_surplus) {
        return Err(Fault::Overloaded.into());
    }
    let request = Arrived::read(header, limits)?; // what arrived
    if let Some(connection) = exchange.connection() {
        let tls = snapshot.listener_tls(&connection.listener);
        connection.serves(request.host(), tls.map(|tls| &**tls))?;
    }

    let route = snapshot.routes().find(&request.as_policy())?; // what it asks for
    exchange.belongs_to(route.id);

    let now = exchange.now();
    let principal = match &route.access {
        Access::Public => None, // nobody is asked
        Access::Protected(_) => {
            let token = credential::find(header, request.query(), limits.token_bytes)?; // what it presents
            let caller = Caller {
                address: exchange.answerable_address(),
                failures: gateway.failures(),
                verifications,
            };
            Some(access_token::authenticate(&snapshot, token, now, caller).await?) // who that is
        }
    };
    let permit = policy::decide(route, principal.as_ref(), now)?; // may it
    let settings = snapshot.route(route.id).ok_or(Fault::Internal)?;
    check_length(
        header,
        settings.limits.body_bytes.unwrap_or(limits.body_bytes),
    )?;
    check_websocket(header, settings.websocket)?;
    Ok(permit)
}

/// Whether the WebSocket that a request asks for may be opened; good where it asks for none.
///
/// # Errors
/// What is wrong with the handshake; [`Denial::WebSocketNotAllowed`] where the route has none.
pub(crate) fn check_websocket(header: &RequestHeader, is_allowed: bool) -> Result<(), Denial> {
    if !handshake::is_asked_for(header) {
        return Ok(());
    }
    handshake::check_request(header)?;
    if is_allowed {
        Ok(())
    } else {
        Err(Denial::WebSocketNotAllowed)
    }
}

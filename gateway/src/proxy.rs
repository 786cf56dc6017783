//! The phases of Pingora's proxy, in running order; each is a few lines that call whoever knows.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::TRANSFER_ENCODING;
use http::{HeaderValue, Version};
use pingora_core::connectors::TransportConnector;
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use portcullis_policy::Denial;

use crate::admission;
use crate::authentication::access_token::Verifications;
use crate::downstream::body_clock::{self, Progress};
use crate::downstream::connection::Connection;
use crate::downstream::response;
use crate::downstream::trace::{REQUEST_ID, TRACESTATE};
use crate::exchange::{Exchange, RequestLine};
use crate::gateway::Gateway;
use crate::refusal::{Fault, Refusal};
use crate::telemetry::metrics::labels::UpstreamFailure;
use crate::upstream::failure::{failure_of, fault_of};
use crate::upstream::request::{self, ForwardAuthorization, Injected};
use crate::websocket::tunnel::Tunnel;
use crate::websocket::{handshake, service};

/// For the rest of a body that nobody waits for any more.
const AFTER_RESPONSE: Duration = Duration::from_secs(1);

/// Further attempts that any upstream can be configured to have, and the first.
pub(crate) const MAX_ATTEMPTS: usize = 6;

/// The gateway as Pingora's proxy calls it.
pub struct Proxy {
    gateway: Arc<Gateway>,
    /// For WebSockets, each of which has a connection of its own.
    connector: TransportConnector,
    /// Of the tokens that come to this worker.
    verifications: Verifications,
}

impl Proxy {
    pub(crate) fn new(gateway: Arc<Gateway>, connector: TransportConnector) -> Self {
        Self {
            gateway,
            connector,
            verifications: Verifications::default(),
        }
    }

    /// Makes the service's handshake of a permitted request, and relays what comes of it. The WebSocket
    /// itself is carried by whoever drives the connection.
    async fn open_websocket(
        &self,
        session: &mut Session,
        exchange: &mut Box<Exchange>,
    ) -> Result<()> {
        let caller = session.req_header().clone();
        let opening = async {
            let (stream, peer) = self.connect(exchange).await?;
            let mut request = caller.clone();
            write_request(&caller, &mut request, exchange)?;
            let patience = exchange.response_timeout();
            let answer = service::shake_hands(stream, &peer, request, patience).await;
            answer.inspect_err(|error| record_failure(exchange, error))
        };
        let answer = tokio::select! {
            biased;
            answer = opening => answer?,
            // Of the caller nothing is expected now; this ends when it leaves.
            _ = session.as_downstream_mut().read_body_or_idle(true) => {
                let left = Error::explain(ErrorType::ConnectionClosed, "the caller has left");
                return Err(left.into_down());
            }
        };
        match answer {
            service::Answer::Opened(opened) => {
                let handed_over = exchange.switch_protocols();
                exchange.becomes(Tunnel::new(handed_over, session.req_header(), opened));
                // Pingora gives the connection back, as it does for another request.
                session.set_keepalive(Some(0));
                session.set_keepalive_reuses_remaining(Some(1));
                Ok(())
            }
            service::Answer::Refused(service, head) => {
                relay(session, exchange, *service, head).await
            }
        }
    }

    /// A new connection to the service: to another of its addresses for each attempt.
    async fn connect(&self, exchange: &mut Exchange) -> Result<(Stream, Box<HttpPeer>)> {
        loop {
            let peer = next_peer(exchange)?;
            match self.connector.new_stream(&*peer).await {
                Ok(stream) => return Ok((stream, peer)),
                Err(error) => {
                    record_failure(exchange, &error);
                    if !may_retry(exchange) {
                        return Err(error.into_up());
                    }
                }
            }
        }
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy")
            .field("gateway", &self.gateway)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    /// Boxed: Pingora's futures carry it, and are moved.
    type CTX = Box<Exchange>;

    /// Compression and the like are no business of a gateway that enforces tokens.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    /// Runs once, when the head has arrived. Pins the generation.
    fn new_ctx(&self) -> Box<Exchange> {
        Box::new(Exchange::new(self.gateway.snapshot()))
    }

    /// Runs once, before any upstream is chosen. `Ok(true)`: the refusal is already written.
    async fn request_filter(
        &self,
        session: &mut Session,
        exchange: &mut Box<Exchange>,
    ) -> Result<bool> {
        let connection = Connection::of(session).map(Arc::clone);
        exchange.arrive(session.req_header(), connection.as_ref());
        let header = session.req_header();
        match admission::admit(header, exchange, &self.gateway, &self.verifications).await {
            Ok(permit) => {
                exchange.admit(permit);
                if handshake::is_asked_for(session.req_header()) {
                    self.open_websocket(session, exchange).await?;
                    return Ok(true);
                }
                let patience = exchange.body_timeout();
                if !session.is_http2() {
                    session.as_downstream_mut().set_read_timeout(Some(patience));
                } else if !session.as_mut().is_body_done() {
                    body_clock::expect_within(patience);
                }
                Ok(false)
            }
            Err(refusal) => {
                exchange.refuse(refusal);
                if handshake::is_asked_for(session.req_header()) {
                    // Whoever takes the answer for another one would go on in another protocol.
                    session.set_keepalive(None);
                }
                // Who cannot be told is gone.
                response::write(session, exchange)
                    .await
                    .map_err(|error| error.into_down())?;
                Ok(true)
            }
        }
    }

    /// Runs for each attempt: another address each time.
    async fn upstream_peer(
        &self,
        _: &mut Session,
        exchange: &mut Box<Exchange>,
    ) -> Result<Box<HttpPeer>> {
        // The body is sent from its beginning.
        exchange.upload = Progress::default();
        next_peer(exchange)
    }

    /// Runs when no connection was made: nothing was sent, so any request may be tried again.
    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        exchange: &mut Box<Exchange>,
        mut error: Box<Error>,
    ) -> Box<Error> {
        record_failure(exchange, &error);
        error.set_retry(may_retry(exchange));
        error
    }

    /// Runs for each attempt, after Pingora has removed what the caller's `Connection` names.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream_request: &mut RequestHeader,
        exchange: &mut Box<Exchange>,
    ) -> Result<()> {
        write_request(session.req_header(), upstream_request, exchange)
    }

    /// Runs for each part of the request's body.
    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        exchange: &mut Box<Exchange>,
    ) -> Result<()> {
        let bytes = body.as_ref().map_or(0, Bytes::len);
        if end_of_stream && bytes == 0 {
            // Of nothing, Pingora makes an empty chunk, which is the end of a body, and then ends it once more:
            // to a service the second end is the beginning of another request.
            *body = None;
        }
        let is_hurried = exchange.attempts.answered.is_none();
        let (most, patience) = (exchange.body_bytes(), exchange.body_timeout());
        let slowest = exchange.snapshot().config().limits.body_bytes_per_second;
        exchange
            .upload
            .add(bytes, most, patience, slowest, is_hurried)
            .map_err(|denial| {
                let kind = ErrorType::HTTPStatus(denial.status());
                Error::explain(kind, denial.title()).into_down()
            })?;
        if end_of_stream {
            body_clock::expect_nothing();
        } else if exchange.attempts.answered.is_none() {
            // Until the service has taken this part, the caller is not asked for the next one.
            body_clock::expect_within(patience + exchange.response_timeout());
        }
        Ok(())
    }

    /// Runs when a service's response begins, and for each interim response before it.
    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        upstream_response: &mut ResponseHeader,
        exchange: &mut Box<Exchange>,
    ) -> Result<()> {
        crate::upstream::response::check(upstream_response, &mut exchange.attempts.interim)?;
        if !upstream_response.status.is_informational() {
            exchange.attempts.answered = Some(upstream_response.status.as_u16());
            expect_rest_of_body(session, exchange);
        }
        Ok(())
    }

    /// Runs for each part of the response's body.
    fn response_body_filter(
        &self,
        session: &mut Session,
        _: &mut Option<Bytes>,
        end_of_stream: bool,
        exchange: &mut Box<Exchange>,
    ) -> Result<Option<Duration>> {
        if session.is_http2() {
            if end_of_stream && !session.as_mut().is_body_done() {
                body_clock::expect_within(AFTER_RESPONSE);
            } else {
                expect_rest_of_body(session, exchange);
            }
        }
        Ok(None)
    }

    /// Runs before the response goes to the caller.
    async fn response_filter(
        &self,
        session: &mut Session,
        upstream_response: &mut ResponseHeader,
        exchange: &mut Box<Exchange>,
    ) -> Result<()> {
        crate::upstream::response::strip(upstream_response);
        if session.req_header().version == Version::HTTP_10 {
            // It knows no chunks (RFC 9112 §6.1): the end of the connection is the end of the body.
            upstream_response.remove_header(&TRANSFER_ENCODING);
            session.set_keepalive(None);
        }
        upstream_response.insert_header(REQUEST_ID.clone(), exchange.request_id_value().clone())
    }

    /// Runs when a connection broke: what was sent may have been done. It is tried again where it
    /// may be done twice, the whole request is still at hand, and nothing was answered.
    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        exchange: &mut Box<Exchange>,
        client_reused: bool,
    ) -> Box<Error> {
        if *error.esource() != ErrorSource::Upstream {
            error.set_retry(false);
            return error;
        }
        // Nothing came from either side; the service was waiting for the rest of the request. Not so over
        // HTTP/2: there Pingora's patience runs from the head, whatever is sent or not taken meanwhile.
        let is_http2 = exchange.upstream().is_some_and(|upstream| upstream.http2);
        if *error.etype() == ErrorType::ReadTimedout
            && !is_http2
            && !session.as_mut().is_body_done()
        {
            error.as_down();
            error.set_retry(false);
            return error;
        }
        record_failure(exchange, &error);
        // One that is slow, or answers nonsense, would only be asked for more of it. Pingora knows
        // of some errors that the service has done nothing (HTTP/2's REFUSED_STREAM and GOAWAY).
        error.retry.decide_reuse(client_reused);
        let may_help = error.retry() || failure_of(&error) == UpstreamFailure::Reset;
        let is_repeatable = session.req_header().method.is_idempotent()
            && !session.as_ref().retry_buffer_truncated()
            && session.response_written().is_none();
        error.set_retry(may_help && is_repeatable && may_retry(exchange));
        error
    }

    /// Runs when all attempts have failed, or the caller is gone.
    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Box<Exchange>,
    ) -> FailToProxy {
        let nothing = |error_code| FailToProxy {
            error_code,
            can_reuse_downstream: false,
        };
        let refusal = if let Some(fault) = exchange.fault_of_cut() {
            Some(fault.into())
        } else if *error.esource() == ErrorSource::Downstream && exchange.has_malformed_body() {
            Some(Denial::RequestMalformed.into())
        } else {
            refusal_of(error)
        };
        let Some(refusal) = refusal else {
            return nothing(0);
        };
        let status = refusal.status();
        exchange.refuse(refusal);
        if session.response_written().is_some() {
            // Too late for another answer: cutting it off is the only way to say that it is not
            // whole (to HTTP/1.0, where the end of the connection is the end of the body, there is
            // none). What came before is not kept from the caller.
            if !session.is_http2() {
                session.as_downstream_mut().shutdown().await;
            }
            return nothing(0);
        }
        // Pingora ends the connection whatever it is told here, so the caller has to be told, too, or
        // its next request is lost.
        session.set_keepalive(None);
        let is_written = response::write(session, exchange).await.is_ok();
        if is_written && !session.is_http2() {
            session.as_downstream_mut().shutdown().await;
        }
        nothing(status)
    }

    /// Runs last, whatever happened.
    async fn logging(
        &self,
        session: &mut Session,
        _: Option<&Error>,
        exchange: &mut Box<Exchange>,
    ) {
        if exchange.is_finished() {
            return;
        }
        let status = session
            .response_written()
            .map(|response| response.status.as_u16());
        let (received, sent) = (session.body_bytes_read(), session.body_bytes_sent());
        let line = RequestLine::of(session.req_header());
        exchange.finish(&line, status, received as u64, sent as u64);
    }

    /// Runs when the connection goes on: what it is handed is the WebSocket that was opened, if one was.
    fn persist_connection_context(
        &self,
        _: &Session,
        exchange: &Box<Exchange>,
    ) -> Option<Box<dyn Any + Send + Sync>> {
        let tunnel: Box<dyn Any + Send + Sync> = exchange.take_tunnel()?;
        Some(tunnel)
    }

    /// What failed is in the access log with its code, and counted; Pingora's line would have the
    /// query in it.
    fn suppress_error_log(&self, _: &Session, _: &Box<Exchange>, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Box<Exchange>,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// Once the response has begun, a body that is still owed may be slow for as long as the response is:
/// whoever streams both ways waits for the other.
fn expect_rest_of_body(session: &mut Session, exchange: &Exchange) {
    if !session.is_http2() || session.as_mut().is_body_done() {
        return;
    }
    body_clock::expect_within(exchange.body_timeout() + exchange.response_timeout());
}

/// A peer for the next attempt: another address each time.
fn next_peer(exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
    exchange.permit()?;
    let patience = exchange.response_timeout();
    let upstream = Arc::clone(exchange.upstream().ok_or_else(no_upstream)?);
    let attempts = &mut exchange.attempts;
    attempts.since.get_or_insert_with(Instant::now);
    if attempts.count > 0 {
        upstream.metrics.retried();
    }
    attempts.count += 1;
    let Some((address, mut peer)) = upstream.next_peer() else {
        upstream.metrics.failed(UpstreamFailure::ConnectRefused);
        return Err(Error::explain(ErrorType::ConnectNoRoute, "no address is known").into_up());
    };
    attempts.address = Some(address);
    peer.options.read_timeout = Some(patience);
    peer.options.write_timeout = Some(patience);
    Ok(peer)
}

/// Makes `request`, as the caller sent it, what the service gets.
fn write_request(
    caller: &RequestHeader,
    request: &mut RequestHeader,
    exchange: &mut Exchange,
) -> Result<()> {
    let permit = exchange.permit()?;
    let snapshot = exchange.snapshot();
    let route = exchange.route().ok_or_else(no_upstream)?;
    let origin = exchange.origin().ok_or_else(no_upstream)?;
    let injected = Injected {
        request_id: exchange.request_id_value(),
        trace: exchange.trace(),
        origin,
        trace_state: caller
            .headers
            .get_all(&TRACESTATE)
            .iter()
            .map(HeaderValue::clone)
            .collect(),
    };
    let authorization = match route.forward_authorization {
        true => ForwardAuthorization::Yes,
        false => ForwardAuthorization::No,
    };
    let forgeries = request::prepare(
        request,
        permit,
        authorization,
        snapshot.service_headers(),
        &injected,
    );
    // The first attempt that gets so far, which another may follow.
    if forgeries > 0 && !exchange.attempts.has_counted_forgeries {
        route.metrics.identity_headers_stripped(forgeries);
        exchange.attempts.has_counted_forgeries = true;
    }
    Ok(())
}

/// Relays the answer of a service that opens no WebSocket. It ends the connection: a caller that takes
/// it for one would go on in another protocol.
async fn relay(
    session: &mut Session,
    exchange: &mut Exchange,
    mut service: HttpSession,
    mut head: Box<ResponseHeader>,
) -> Result<()> {
    exchange.attempts.answered = Some(head.status.as_u16());
    crate::upstream::response::strip(&mut head);
    head.insert_header(REQUEST_ID.clone(), exchange.request_id_value().clone())?;
    session.set_keepalive(None);
    session
        .write_response_header(head, false)
        .await
        .map_err(Error::into_down)?;
    loop {
        let part = service
            .read_body_bytes()
            .await
            .inspect_err(|error| record_failure(exchange, error));
        let Some(part) = part.map_err(Error::into_up)? else {
            break;
        };
        session
            .write_response_body(Some(part), false)
            .await
            .map_err(Error::into_down)?;
    }
    session
        .write_response_body(None, true)
        .await
        .map_err(Error::into_down)
}

fn may_retry(exchange: &Exchange) -> bool {
    exchange
        .upstream()
        .is_some_and(|upstream| exchange.attempts.count <= upstream.retries)
}

fn no_upstream() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "a permit without its route")
}

fn record_failure(exchange: &Exchange, error: &Error) {
    if let Some(upstream) = exchange.upstream() {
        let failure = failure_of(error);
        upstream.metrics.failed(failure);
        // Of an untrusted service the code alone does not say what is wrong.
        if failure == UpstreamFailure::Tls && upstream.may_tell() {
            tracing::warn!(
                portcullis.upstream.name = &*upstream.name,
                server.address = exchange.attempts.address.map(tracing::field::display),
                error.message = %error,
                "TLS with a service failed"
            );
        }
    }
}

/// Whose fault an error is; `None` when the caller is gone and nobody is left to be told.
fn refusal_of(error: &Error) -> Option<Refusal> {
    match error.esource() {
        ErrorSource::Upstream => Some(fault_of(error).into()),
        ErrorSource::Downstream => match error.etype() {
            ErrorType::WriteError
            | ErrorType::WriteTimedout
            | ErrorType::ReadError
            | ErrorType::ConnectionClosed
            // A stream of HTTP/2 that was reset.
            | ErrorType::H2Error => None,
            ErrorType::ReadTimedout | ErrorType::HTTPStatus(408) => {
                Some(Denial::RequestTimeout.into())
            }
            ErrorType::HTTPStatus(413) => Some(Denial::BodyTooLarge.into()),
            // Its body is not what its head says.
            _ => Some(Denial::RequestMalformed.into()),
        },
        ErrorSource::Internal | ErrorSource::Unset => {
            tracing::error!(
                error.r#type = error.etype().as_str(),
                "request failed in the gateway"
            );
            Some(Fault::Internal.into())
        }
    }
}

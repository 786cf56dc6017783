//! The handshake with the service: a connection of its own, which is never one of the pool.

use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONNECTION, UPGRADE};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::timeout;

use super::handshake::{self, UPGRADE_OPTION, WEBSOCKET};
use crate::upstream::response;

/// What a service answers to a handshake.
pub(crate) enum Answer {
    /// The WebSocket is open.
    Opened(Opened),
    /// Anything else: an answer like any other, whose body is still to be read.
    Refused(Box<HttpSession>, Box<ResponseHeader>),
}

/// An open WebSocket, on the service's side.
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    /// The answer that opened it.
    pub(crate) head: Box<ResponseHeader>,
    /// What the service has said already.
    pub(crate) early: Bytes,
}

/// Sends `request`, which has been prepared for the service, as a handshake. All of the answer's head
/// has to come within `patience`.
///
/// # Errors
/// The service breaks off, is too slow, or opens something that was not asked for.
pub(crate) async fn shake_hands(
    stream: Stream,
    peer: &HttpPeer,
    mut request: RequestHeader,
    patience: Duration,
) -> Result<Answer> {
    request.insert_header(CONNECTION, UPGRADE_OPTION)?;
    request.insert_header(UPGRADE, WEBSOCKET)?;
    let mut session = HttpSession::new_with_options(stream, peer);
    session.read_timeout = Some(patience);
    session.write_timeout = Some(patience);
    let too_late = || Error::explain(ErrorType::ReadTimedout, "no answer to a handshake");
    let head = timeout(patience, exchange_heads(&mut session, &request))
        .await
        .map_err(|_| too_late().into_up())?
        .map_err(Error::into_up)?;
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Answer::Refused(Box::new(session), head));
    }
    handshake::check_response(&request, &head)?;
    let early = early_bytes(&mut session).await?;
    Ok(Answer::Opened(Opened {
        stream: session.into_inner(),
        head,
        early,
    }))
}

/// The answer that counts; interim ones (RFC 9110 §15.2) before it are for nobody.
async fn exchange_heads(
    session: &mut HttpSession,
    request: &RequestHeader,
) -> Result<Box<ResponseHeader>> {
    session
        .write_request_header(Box::new(request.clone()))
        .await?;
    let mut interim = 0;
    loop {
        let head = session.read_resp_header_parts().await?;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(head);
        }
        response::check(&head, &mut interim)?;
        if !head.status.is_informational() {
            return Ok(head);
        }
    }
}

/// What came in one read with the head. Of what has not come yet, nothing is waited for.
async fn early_bytes(session: &mut HttpSession) -> Result<Bytes> {
    let mut reading = std::pin::pin!(session.read_body_bytes());
    let early = std::future::poll_fn(|context| match reading.as_mut().poll(context) {
        Poll::Ready(read) => Poll::Ready(read.map(Option::unwrap_or_default)),
        Poll::Pending => Poll::Ready(Ok(Bytes::new())),
    });
    early.await.map_err(Error::into_up)
}

//! The only writer of refusals: status, challenge and a problem that scripts can read (RFC 9457).

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use portcullis_policy::{Denial, challenge};
use serde::Serialize;

use super::trace::REQUEST_ID;
use crate::exchange::Exchange;
use crate::refusal::{Fault, Refusal};
use crate::websocket::handshake;

/// A body up to this size is read and dropped after the answer, so that the connection lives on.
const DRAINED_BODY_BYTES: u64 = 64 * 1024;
/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The members of a problem (RFC 9457 §3), and the request's id.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    request_id: &'a str,
}

/// A refusal as a caller sees it.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(header::HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

/// Answers a request that was refused, before its body is read.
///
/// # Errors
/// When the caller cannot be written to.
pub(crate) async fn write(session: &mut Session, exchange: &Exchange) -> Result<()> {
    let answer = answer(exchange);
    let mut head = ResponseHeader::build_no_case(answer.status, Some(answer.headers.len() + 3))?;
    for (name, value) in answer.headers {
        head.insert_header(name, value)?;
    }
    if exchange.ends_connection() {
        session.set_keepalive(None);
    } else if has_small_body(session) {
        // Otherwise Pingora closes, and the caller's next request on this connection is lost.
        session.set_close_on_response_before_downstream_finish(false);
        session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
    }
    // No answer to HEAD has a body (RFC 9110 §9.3.2).
    let has_body = session.req_header().method != http::Method::HEAD;
    session
        .write_response_header(Box::new(head), !has_body)
        .await?;
    if has_body {
        session.write_response_body(Some(answer.body), true).await?;
    }
    Ok(())
}

/// Whether the rest of the request is short, and already on its way.
fn has_small_body(session: &Session) -> bool {
    let headers = &session.req_header().headers;
    if headers.contains_key(header::TRANSFER_ENCODING) || headers.contains_key(header::EXPECT) {
        return false;
    }
    headers.get(header::CONTENT_LENGTH).is_none_or(|length| {
        length
            .to_str()
            .ok()
            .and_then(|length| length.parse().ok())
            .is_some_and(|length: u64| length <= DRAINED_BODY_BYTES)
    })
}

/// The same answer as bytes, for a request whose head was refused. It ends the connection.
pub(crate) fn http1(exchange: &Exchange, has_body: bool) -> Vec<u8> {
    let answer = answer(exchange);
    let mut head = String::with_capacity(512);
    // Writing to a `String` cannot fail.
    let _ = write!(
        head,
        "HTTP/1.1 {} {}\r\n",
        answer.status.as_str(),
        answer.status.canonical_reason().unwrap_or_default()
    );
    for (name, value) in &answer.headers {
        if let Ok(value) = value.to_str() {
            let _ = write!(head, "{name}: {value}\r\n");
        }
    }
    head.push_str("connection: close\r\n\r\n");
    let mut bytes = head.into_bytes();
    if has_body {
        bytes.extend_from_slice(&answer.body);
    }
    bytes
}

fn answer(exchange: &Exchange) -> Answer {
    let internal = Refusal::Faulted(Fault::Internal);
    let refusal = exchange.refusal().unwrap_or(&internal);
    let realm = &exchange.snapshot().config().realm;
    Answer::new(refusal, realm, exchange.request_id_value())
}

impl Answer {
    /// The answer to a request with this id.
    pub(crate) fn new(refusal: &Refusal, realm: &str, request_id: &HeaderValue) -> Self {
        let status = refusal.status();
        let problem = Problem {
            r#type: format!("urn:portcullis:refusal:{}", refusal.code()),
            title: refusal.title(),
            status,
            code: refusal.code(),
            request_id: request_id.to_str().unwrap_or_default(),
        };
        let mut body = serde_json::to_vec(&problem).unwrap_or_default();
        // For people with a terminal.
        body.push(b'\n');
        let body = Bytes::from(body);
        let mut headers = vec![
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/problem+json"),
            ),
            (header::CONTENT_LENGTH, HeaderValue::from(body.len())),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (
                header::X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            ),
            (REQUEST_ID.clone(), request_id.clone()),
        ];
        match refusal {
            Refusal::Denied(denial) => {
                let challenge =
                    challenge(denial, realm).and_then(|text| HeaderValue::try_from(text).ok());
                headers.extend(challenge.map(|challenge| (header::WWW_AUTHENTICATE, challenge)));
                if let Denial::MethodNotAllowed { allow } = denial {
                    let allow = HeaderValue::try_from(allow.to_string()).ok();
                    headers.extend(allow.map(|allow| (header::ALLOW, allow)));
                }
                if *denial == Denial::TokenAttemptsExceeded {
                    headers.push((header::RETRY_AFTER, HeaderValue::from(1)));
                }
                if *denial == Denial::WebSocketVersion {
                    // RFC 6455 §4.4, RFC 9110 §15.5.22.
                    headers.extend([
                        (header::SEC_WEBSOCKET_VERSION, handshake::VERSION),
                        (header::UPGRADE, handshake::WEBSOCKET),
                    ]);
                }
            }
            Refusal::Faulted(fault) => {
                let seconds = fault.retry_after_seconds().map(HeaderValue::from);
                headers.extend(seconds.map(|seconds| (header::RETRY_AFTER, seconds)));
            }
        }
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers,
            body,
        }
    }
}

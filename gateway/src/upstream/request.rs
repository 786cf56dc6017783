//! What a service gets of a request: strip, then inject. The only writer of identity headers.
//!
//! This runs after Pingora has removed what the caller's `Connection` nominates, so that a caller
//! cannot remove what is written here.

use http::header::{AUTHORIZATION, COOKIE, HOST, TE};
use http::{HeaderName, HeaderValue, Version};
use pingora_core::Result;
use pingora_http::RequestHeader;
use portcullis_policy::{HeaderFate, Permit, ServiceHeaders};

use crate::downstream::forwarding::Origin;
use crate::downstream::trace::{REQUEST_ID, TRACEPARENT, TRACESTATE, Trace};

/// What is written into a request, beside who makes it.
pub(crate) struct Injected<'a> {
    pub(crate) request_id: &'a HeaderValue,
    pub(crate) trace: &'a Trace,
    pub(crate) origin: &'a Origin,
    /// As the caller sent it: it belongs to a trace that goes on.
    pub(crate) trace_state: Vec<HeaderValue>,
}

/// Whether the caller's `Authorization` passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForwardAuthorization {
    Yes,
    No,
}

/// Makes `request` what the service of a permitted request gets. Says how many fields were removed
/// because they spoke in the gateway's name.
///
/// # Errors
/// When a value that was made here is no header value, which would be a defect.
pub(crate) fn prepare(
    request: &mut RequestHeader,
    permit: &Permit,
    authorization: ForwardAuthorization,
    headers: &ServiceHeaders,
    injected: &Injected<'_>,
) -> Result<u64> {
    let forgeries = strip(request, authorization, headers);
    join_cookies(request)?;
    say_host(request)?;
    for (name, value) in permit
        .principal()
        .map_or(&[][..], |principal| principal.identity())
    {
        request.insert_header(name.clone(), value.clone())?;
    }
    injected.origin.write(request)?;
    request.insert_header(REQUEST_ID.clone(), injected.request_id.clone())?;
    if let Some(parent) = injected.trace.parent() {
        request.insert_header(TRACEPARENT.clone(), parent)?;
    }
    if injected.trace.is_continued() {
        for state in &injected.trace_state {
            request.append_header(TRACESTATE.clone(), state.clone())?;
        }
    }
    Ok(forgeries)
}

fn strip(
    request: &mut RequestHeader,
    authorization: ForwardAuthorization,
    headers: &ServiceHeaders,
) -> u64 {
    let mut forgeries = 0;
    let mut removed: Vec<HeaderName> = Vec::new();
    for name in request.headers.keys() {
        match headers.fate(name.as_str()) {
            HeaderFate::Forward if *name == AUTHORIZATION => {
                if authorization == ForwardAuthorization::No {
                    removed.push(name.clone());
                }
            }
            HeaderFate::Forward if *name == TE => {
                // RFC 9113 §8.2.2; gRPC needs it. To HTTP/1 it is about the connection.
                let is_trailers = request
                    .headers
                    .get_all(TE)
                    .iter()
                    .all(|te| te == "trailers");
                if request.version != Version::HTTP_2 || !is_trailers {
                    removed.push(name.clone());
                }
            }
            HeaderFate::Forward => {}
            HeaderFate::Remove => removed.push(name.clone()),
            HeaderFate::RemoveForgery => {
                forgeries += request.headers.get_all(name).iter().count() as u64;
                removed.push(name.clone());
            }
        }
    }
    for name in &removed {
        request.remove_header(name);
    }
    forgeries
}

/// A caller of HTTP/2 says its scheme, and Pingora would pass it on; from a `Host` it makes the
/// pseudo-headers itself, with the scheme that is spoken to the service.
fn say_host(request: &mut RequestHeader) -> Result<()> {
    if request.version != Version::HTTP_2 || request.headers.contains_key(HOST) {
        return Ok(());
    }
    let authority = request
        .uri
        .authority()
        .map(|authority| authority.as_str().to_owned());
    match authority {
        Some(authority) => request.insert_header(HOST, authority),
        None => Ok(()),
    }
}

/// HTTP/2 may split cookies into several fields; towards HTTP/1 they are one (RFC 9113 §8.2.3).
fn join_cookies(request: &mut RequestHeader) -> Result<()> {
    if request.headers.get_all(COOKIE).iter().nth(1).is_none() {
        return Ok(());
    }
    let joined = request
        .headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect::<Vec<_>>()
        .join(&b"; "[..]);
    request.remove_header(&COOKIE);
    match HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        Ok(cookie) => request.insert_header(COOKIE, cookie),
        // Parts of header values are a header value.
        Err(_) => Ok(()),
    }
}

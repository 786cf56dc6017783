//! What a service gets of a request: strip, then inject. The only writer of identity headers.
//!
//! This runs after Pingora has removed what the caller's `Connection` nominates, so that a caller
//! cannot remove what is written here.

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HOST, TE};
use http::{HeaderMap, HeaderValue, Version};
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

/// Makes `request` what the service of a permitted request gets. Says how many fields were left out
/// because they spoke in the gateway's name.
///
/// The head is written anew, with the fields that pass and those that the gateway adds: what is not
/// copied here reaches nobody. Names come out in one spelling, lower case or as HTTP/1 has always had
/// them; Pingora's map of original spellings would cost more than all the rest.
pub(crate) fn prepare(
    request: &mut RequestHeader,
    permit: &Permit,
    authorization: ForwardAuthorization,
    rules: &ServiceHeaders,
    injected: &Injected<'_>,
) -> u64 {
    let mut headers = HeaderMap::with_capacity(request.headers.len() + WRITTEN_FIELDS);
    let forgeries = copy(request, authorization, rules, &mut headers);
    join_cookies(&mut headers);
    say_host(request, &mut headers);
    for (name, value) in permit
        .principal()
        .map_or(&[][..], |principal| principal.identity())
    {
        headers.insert(name.clone(), value.clone());
    }
    injected.origin.write(&mut headers);
    headers.insert(REQUEST_ID.clone(), injected.request_id.clone());
    if let Some(parent) = injected.trace.parent() {
        headers.insert(TRACEPARENT.clone(), parent);
    }
    if injected.trace.is_continued() {
        for state in &injected.trace_state {
            headers.append(TRACESTATE.clone(), state.clone());
        }
    }
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = request.method.clone();
    // The path was held to be, byte for byte, what arrived.
    parts.uri = request.uri.clone();
    parts.version = request.version;
    parts.headers = headers;
    *request = RequestHeader::from(parts);
    forgeries
}

/// Fields that are written here, about.
const WRITTEN_FIELDS: usize = 12;

fn copy(
    request: &RequestHeader,
    authorization: ForwardAuthorization,
    rules: &ServiceHeaders,
    headers: &mut HeaderMap,
) -> u64 {
    let mut forgeries = 0;
    for (name, value) in &request.headers {
        let passes = match rules.fate(name.as_str()) {
            HeaderFate::Forward if *name == AUTHORIZATION => {
                authorization == ForwardAuthorization::Yes
            }
            // RFC 9113 §8.2.2; gRPC needs it. To HTTP/1 it is about the connection.
            HeaderFate::Forward if *name == TE => {
                request.version == Version::HTTP_2 && value == "trailers"
            }
            HeaderFate::Forward => true,
            HeaderFate::Remove => false,
            HeaderFate::RemoveForgery => {
                forgeries += 1;
                false
            }
        };
        if passes {
            headers.append(name.clone(), value.clone());
        }
    }
    forgeries
}

/// A caller of HTTP/2 says its scheme, and Pingora would pass it on; from a `Host` it makes the
/// pseudo-headers itself, with the scheme that is spoken to the service.
fn say_host(request: &RequestHeader, headers: &mut HeaderMap) {
    if request.version != Version::HTTP_2 || headers.contains_key(HOST) {
        return;
    }
    let authority = request.uri.authority().map(|authority| authority.as_str());
    // An authority is a header value.
    if let Some(Ok(host)) = authority.map(HeaderValue::from_str) {
        headers.insert(HOST, host);
    }
}

/// HTTP/2 may split cookies into several fields; towards HTTP/1 they are one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let joined = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect::<Vec<_>>()
        .join(&b"; "[..]);
    // Parts of header values are a header value.
    if let Ok(cookie) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        headers.insert(COOKIE, cookie);
    }
}

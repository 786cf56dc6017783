//! What a caller gets of a service's response: everything but what is about the connection between
//! the gateway and the service (RFC 9110 §7.6.1).

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, PROXY_AUTHENTICATE, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderName, HeaderValue, StatusCode, Version};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Interim responses that a service may send before the one that counts.
const MAX_INTERIM: u32 = 16;

/// Refuses a response that would turn the connection into something that nobody asked for, or whose
/// end two parsers could see in different places. `interim` counts those that came before.
///
/// # Errors
/// The service is at fault.
pub(crate) fn check(response: &ResponseHeader, interim: &mut u32) -> Result<()> {
    let refuse =
        |why: &'static str| Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
    // No upgrade is ever forwarded.
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        return refuse("unsolicited 101 from a service");
    }
    if response.status.is_informational() {
        *interim += 1;
        if *interim > MAX_INTERIM {
            return refuse("too many interim responses from a service");
        }
    }
    let encodings = response.headers.get_all(TRANSFER_ENCODING);
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    if encodings.iter().count() > 1 || !encodings.iter().all(is_chunked) {
        return refuse("a transfer encoding of a service that is not `chunked`");
    }
    Ok(())
}

/// Removes what is about one connection, the service's version of HTTP included (RFC 9110 §2.5).
pub(crate) fn strip(response: &mut ResponseHeader) {
    if response.version < Version::HTTP_11 {
        response.set_version(Version::HTTP_11);
    }
    // RFC 9110 §8.6, RFC 9112 §6.1: these have no body, and must not announce one.
    if response.status == StatusCode::NO_CONTENT || response.status.is_informational() {
        response.remove_header(&CONTENT_LENGTH);
        response.remove_header(&TRANSFER_ENCODING);
    }
    collapse_length(response);
    let nominated: Vec<HeaderName> = response
        .headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .filter(|name| !is_needed(name))
        .collect();
    for name in &nominated {
        response.remove_header(name);
    }
    let about_the_connection = [
        &CONNECTION,
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &PROXY_AUTHENTICATE,
        &TE,
        &TRAILER,
        &UPGRADE,
    ];
    for name in about_the_connection {
        if response.headers.contains_key(name) {
            response.remove_header(name);
        }
    }
}

/// A length that is said twice, or as `5, 5`, is said once. Pingora has refused lengths that differ.
fn collapse_length(response: &mut ResponseHeader) {
    let mut lengths = response.headers.get_all(CONTENT_LENGTH).iter();
    let (Some(first), second) = (lengths.next(), lengths.next()) else {
        return;
    };
    if second.is_none() && !first.as_bytes().contains(&b',') {
        return;
    }
    let single = first
        .as_bytes()
        .split(|byte| *byte == b',')
        .next()
        .and_then(|length| HeaderValue::from_bytes(length.trim_ascii()).ok());
    response.remove_header(&CONTENT_LENGTH);
    if let Some(single) = single {
        // The name is a header name.
        let _ = response.insert_header(CONTENT_LENGTH, single);
    }
}

/// Without these a response would be read in another way than its service wrote it.
fn is_needed(name: &HeaderName) -> bool {
    matches!(*name, CONTENT_LENGTH | TRANSFER_ENCODING | CONTENT_TYPE)
}

//! What a caller gets of a service's response: everything but what is about the connection between
//! the gateway and the service (RFC 9110 §7.6.1).

use http::header::{CONNECTION, PROXY_AUTHENTICATE, TE, TRAILER, UPGRADE};
use http::{HeaderName, StatusCode, Version};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Refuses a response that would turn the connection into something that nobody asked for.
///
/// # Errors
/// When the service switches protocols: no upgrade is ever forwarded.
pub(crate) fn check(response: &ResponseHeader) -> Result<()> {
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        return Error::e_explain(
            ErrorType::InvalidHTTPHeader,
            "unsolicited 101 from a service",
        );
    }
    Ok(())
}

/// Removes what is about one connection, the service's version of HTTP included (RFC 9110 §2.5).
pub(crate) fn strip(response: &mut ResponseHeader) {
    if response.version < Version::HTTP_11 {
        response.set_version(Version::HTTP_11);
    }
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

/// Without these a response would be read in another way than its service wrote it.
fn is_needed(name: &HeaderName) -> bool {
    matches!(
        *name,
        http::header::CONTENT_LENGTH | http::header::TRANSFER_ENCODING | http::header::CONTENT_TYPE
    )
}

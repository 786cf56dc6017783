//! The opening handshake (RFC 6455 §4), as each side has to speak it. What is not correct in full makes
//! no tunnel: a service that saw something else in it would read what follows as requests.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use portcullis_policy::Denial;

use crate::downstream::request::single;

/// The only one there is (RFC 6455 §4.1).
pub(crate) const VERSION: HeaderValue = HeaderValue::from_static("13");
/// The protocol's name in `Upgrade`.
pub(crate) const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// What `Connection` says on both sides.
pub(crate) const UPGRADE_OPTION: HeaderValue = HeaderValue::from_static("Upgrade");

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a request asks for a WebSocket and nothing else. Every other upgrade is one that this
/// gateway does not know, which a server ignores (RFC 9110 §7.8).
pub(crate) fn is_asked_for(header: &RequestHeader) -> bool {
    header.version != Version::HTTP_2 && single(&header.headers, &UPGRADE).is_some_and(is_websocket)
}

/// Whether a request that asks for a WebSocket does so correctly (RFC 6455 §4.2.1), without anything
/// that another parser could take for something else.
///
/// # Errors
/// What is wrong first.
pub(crate) fn check_request(header: &RequestHeader) -> Result<(), Denial> {
    let headers = &header.headers;
    let is_for_a_tunnel = header.method == Method::GET
        && header.version == Version::HTTP_11
        && asks_to_upgrade(headers)
        && !headers.contains_key(TRANSFER_ENCODING)
        && !headers.contains_key(EXPECT)
        && headers
            .get_all(CONTENT_LENGTH)
            .iter()
            .all(|length| length == "0")
        && single(headers, &SEC_WEBSOCKET_KEY).is_some_and(is_key);
    if !is_for_a_tunnel {
        return Err(Denial::WebSocketMalformed);
    }
    match single(headers, &SEC_WEBSOCKET_VERSION) {
        Some(version) if *version == VERSION => Ok(()),
        Some(_) => Err(Denial::WebSocketVersion),
        None => Err(Denial::WebSocketMalformed),
    }
}

/// Whether `Connection` names the upgrade, and nothing that would be removed with it (RFC 9110 §7.6.1).
fn asks_to_upgrade(headers: &HeaderMap) -> bool {
    let mut has_upgrade = false;
    for option in headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
    {
        if option.eq_ignore_ascii_case(b"upgrade") {
            has_upgrade = true;
        } else if !option.eq_ignore_ascii_case(b"keep-alive") {
            return false;
        }
    }
    has_upgrade
}

/// 16 bytes in base64 (RFC 6455 §4.1).
fn is_key(key: &HeaderValue) -> bool {
    STANDARD
        .decode(key.as_bytes())
        .is_ok_and(|bytes| bytes.len() == 16)
}

/// Whether a service's answer of 101 opens the WebSocket that `request` asked for, with nothing that
/// was not offered (RFC 6455 §4.1).
///
/// # Errors
/// The service is at fault.
pub(crate) fn check_response(request: &RequestHeader, response: &ResponseHeader) -> Result<()> {
    let (asked, headers) = (&request.headers, &response.headers);
    let refuse =
        |why: &'static str| Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
    if response.status != StatusCode::SWITCHING_PROTOCOLS
        || response.version != Version::HTTP_11
        || !single(headers, &UPGRADE).is_some_and(is_websocket)
        || !has_upgrade_option(headers)
        || headers.contains_key(CONTENT_LENGTH)
        || headers.contains_key(TRANSFER_ENCODING)
    {
        return refuse("a service's 101 that opens no WebSocket");
    }
    let wanted = single(asked, &SEC_WEBSOCKET_KEY).map(accept);
    if single(headers, &SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes)
        != wanted.as_deref().map(str::as_bytes)
    {
        return refuse("a service's 101 for another handshake");
    }
    let offers = |name: &HeaderName, chosen: &[u8]| words(asked, name).any(|word| word == chosen);
    let protocols = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().count();
    let is_offered = words(headers, &SEC_WEBSOCKET_PROTOCOL)
        .all(|protocol| offers(&SEC_WEBSOCKET_PROTOCOL, protocol));
    if protocols > 1 || words(headers, &SEC_WEBSOCKET_PROTOCOL).count() > 1 || !is_offered {
        return refuse("a service's subprotocol that nobody offered");
    }
    if !words(headers, &SEC_WEBSOCKET_EXTENSIONS)
        .all(|extension| offers(&SEC_WEBSOCKET_EXTENSIONS, extension))
    {
        return refuse("a service's extension that nobody offered");
    }
    Ok(())
}

fn has_upgrade_option(headers: &HeaderMap) -> bool {
    words(headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}

/// Elements of a list, without their parameters.
fn words<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|element| {
            let end = element
                .iter()
                .position(|byte| *byte == b';')
                .unwrap_or(element.len());
            element.get(..end).unwrap_or_default().trim_ascii()
        })
}

/// What proves that a service has read `key` (RFC 6455 §4.2.2). A checksum, and no secret.
fn accept(key: &HeaderValue) -> String {
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(GUID);
    STANDARD.encode(hash.finish())
}

fn is_websocket(protocol: &HeaderValue) -> bool {
    protocol.as_bytes().eq_ignore_ascii_case(b"websocket")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 §1.2.
    const REQUEST: [(&str, &str); 6] = [
        ("host", "server.example.com"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "chat, superchat"),
        ("sec-websocket-version", "13"),
    ];
    const RESPONSE: [(&str, &str); 4] = [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("sec-websocket-protocol", "chat"),
    ];

    fn request(fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut header = RequestHeader::build("GET", b"/chat", None).unwrap();
        for (name, value) in fields {
            header.append_header(*name, *value).unwrap();
        }
        header
    }

    fn response(fields: &[(&'static str, &str)]) -> ResponseHeader {
        let mut header = ResponseHeader::build(101, None).unwrap();
        for (name, value) in fields {
            header.append_header(*name, *value).unwrap();
        }
        header
    }

    /// `fields` with those of one name replaced by `values`.
    fn with(
        fields: &[(&'static str, &'static str)],
        name: &'static str,
        values: &[&'static str],
    ) -> Vec<(&'static str, &'static str)> {
        let mut changed: Vec<_> = fields.iter().copied().filter(|it| it.0 != name).collect();
        changed.extend(values.iter().map(|value| (name, *value)));
        changed
    }

    #[test]
    fn handshake_of_the_rfc_is_one() {
        let header = request(&REQUEST);
        assert!(is_asked_for(&header));
        assert_eq!(check_request(&header), Ok(()));
        check_response(&header, &response(&RESPONSE)).unwrap();
    }

    #[test]
    fn spellings_that_the_rfc_allows_pass() {
        for (name, values) in [
            ("upgrade", &["WebSocket"][..]),
            ("connection", &["keep-alive, upgrade"]),
            ("connection", &["Keep-Alive", "UPGRADE"]),
            ("content-length", &["0"]),
            ("sec-websocket-protocol", &[]),
        ] {
            let header = request(&with(&REQUEST, name, values));
            assert!(is_asked_for(&header), "{name} {values:?}");
            assert_eq!(check_request(&header), Ok(()), "{name} {values:?}");
        }
    }

    #[test]
    fn handshake_that_could_be_read_otherwise_is_refused() {
        for (name, values) in [
            ("connection", &[][..]),
            ("connection", &["close"]),
            ("connection", &["keep-alive"]),
            ("connection", &["Upgrade, Authorization"]),
            ("connection", &["Upgrade, X-User-ID"]),
            ("connection", &["Upgrade,"]),
            ("connection", &["Upgrade", "close"]),
            ("sec-websocket-key", &[]),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ="]),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ"]),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25j"]),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZR=="]),
            (
                "sec-websocket-key",
                &["AAAAAAAAAAAAAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAAAA=="],
            ),
            ("sec-websocket-version", &[]),
            ("sec-websocket-version", &["13", "13"]),
            ("transfer-encoding", &["chunked"]),
            ("content-length", &["1"]),
            ("content-length", &["00"]),
            ("expect", &["100-continue"]),
        ] {
            let header = request(&with(&REQUEST, name, values));
            assert!(is_asked_for(&header), "{name} {values:?}");
            let refused = Err(Denial::WebSocketMalformed);
            assert_eq!(check_request(&header), refused, "{name} {values:?}");
        }
        for version in ["12", "8", "14", "013", "13, 8"] {
            let header = request(&with(&REQUEST, "sec-websocket-version", &[version]));
            let refused = Err(Denial::WebSocketVersion);
            assert_eq!(check_request(&header), refused, "{version}");
        }
        let mut post = request(&REQUEST);
        post.set_method(Method::POST);
        assert_eq!(check_request(&post), Err(Denial::WebSocketMalformed));
        let mut old = request(&REQUEST);
        old.set_version(Version::HTTP_10);
        assert_eq!(check_request(&old), Err(Denial::WebSocketMalformed));
    }

    #[test]
    fn other_upgrades_are_none() {
        for values in [
            &[][..],
            &["h2c"],
            &["websocket, h2c"],
            &["websocket", "websocket"],
            &["websocket/13"],
        ] {
            let header = request(&with(&REQUEST, "upgrade", values));
            assert!(!is_asked_for(&header), "{values:?}");
        }
    }

    #[test]
    fn answer_that_opens_something_else_is_refused() {
        let asked = request(&REQUEST);
        for (name, values) in [
            ("upgrade", &[][..]),
            ("upgrade", &["h2c"]),
            ("upgrade", &["websocket", "h2c"]),
            ("connection", &[]),
            ("connection", &["close"]),
            ("sec-websocket-accept", &[]),
            ("sec-websocket-accept", &["s3pPLMBiTxaQ9kYGzzhZRbK+xOO="]),
            ("sec-websocket-protocol", &["Chat"]),
            ("sec-websocket-protocol", &["chat, superchat"]),
            ("sec-websocket-protocol", &["chat", "superchat"]),
            ("sec-websocket-protocol", &[""]),
            ("sec-websocket-extensions", &["permessage-deflate"]),
            ("content-length", &["5"]),
            ("transfer-encoding", &["chunked"]),
        ] {
            let answer = response(&with(&RESPONSE, name, values));
            assert!(
                check_response(&asked, &answer).is_err(),
                "{name} {values:?}"
            );
        }
        let ok = ResponseHeader::build(200, None).unwrap();
        assert!(check_response(&asked, &ok).is_err());
    }

    #[test]
    fn extension_that_was_offered_may_be_chosen() {
        let offer = "permessage-deflate; client_max_window_bits, x-other";
        let asked = request(&with(&REQUEST, "sec-websocket-extensions", &[offer]));
        let chosen = "permessage-deflate; server_no_context_takeover";
        let answer = response(&with(&RESPONSE, "sec-websocket-extensions", &[chosen]));
        check_response(&asked, &answer).unwrap();
    }
}

//! Ids of a request: its own (`X-Request-ID`) and those of the trace that it belongs to (W3C Trace
//! Context, level 1).

use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderName, HeaderValue};
use pingora_http::RequestHeader;
use uuid::Builder;

/// The header of a request's id.
pub(crate) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header of its trace.
pub(crate) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header of what vendors keep beside the trace.
pub(crate) static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longest id that is taken over from a caller.
const MAX_REQUEST_ID: usize = 128;

/// The id of a request: the caller's, where it is harmless to show, or a new one.
pub(crate) fn request_id(header: &RequestHeader) -> HeaderValue {
    let mut given = header.headers.get_all(&REQUEST_ID).iter();
    match (given.next(), given.next()) {
        (Some(id), None) if is_harmless(id.as_bytes()) => id.clone(),
        _ => new_request_id(SystemTime::now()),
    }
}

/// A new id: UUID version 7 (RFC 9562 §5.7), so that ids sort by time.
pub(crate) fn new_request_id(now: SystemTime) -> HeaderValue {
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let milliseconds = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    let id = Builder::from_unix_timestamp_millis(milliseconds, &rand::random()).into_uuid();
    let mut buffer = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = id.hyphenated().encode_lower(&mut buffer);
    // Hexadecimal digits and hyphens are a header value.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

fn is_harmless(id: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len())
        && id
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// The trace of a request, with the gateway's own span in it.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    /// 32 hexadecimal digits.
    id: [u8; 32],
    /// 16 hexadecimal digits: the gateway's span, the parent of the service's.
    span: [u8; 16],
    /// Two hexadecimal digits.
    flags: [u8; 2],
    /// The caller began it, so its `tracestate` belongs to it.
    is_continued: bool,
}

impl Trace {
    /// Goes on with the caller's trace, or begins one where there is none that is well-formed.
    pub(crate) fn of(header: &RequestHeader) -> Self {
        let mut given = header.headers.get_all(&TRACEPARENT).iter();
        let parent = match (given.next(), given.next()) {
            (Some(parent), None) => parse(parent.as_bytes()),
            _ => None,
        };
        match parent {
            Some((id, flags)) => Self {
                id,
                flags,
                is_continued: true,
                ..Self::begin()
            },
            None => Self::begin(),
        }
    }

    /// Before anything is known of a request.
    pub(crate) const fn none() -> Self {
        Self {
            id: [b'0'; 32],
            span: [b'0'; 16],
            flags: *b"00",
            is_continued: false,
        }
    }

    /// Begins a trace that nobody has asked to be sampled.
    pub(crate) fn begin() -> Self {
        let mut trace = Self::none();
        let random = rand::random::<[u8; 24]>();
        let (id, span) = random.split_at(16);
        hex(id, &mut trace.id);
        hex(span, &mut trace.span);
        trace
    }

    /// The id of the trace.
    pub(crate) fn id(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or_default()
    }

    /// Whether the caller's `tracestate` goes on with it.
    pub(crate) const fn is_continued(&self) -> bool {
        self.is_continued
    }

    /// The value of `traceparent` for the service.
    pub(crate) fn parent(&self) -> Option<HeaderValue> {
        let mut text = [b'-'; 55];
        let (version, rest) = text.split_at_mut(2);
        version.copy_from_slice(b"00");
        rest.get_mut(1..33)?.copy_from_slice(&self.id);
        rest.get_mut(34..50)?.copy_from_slice(&self.span);
        rest.get_mut(51..53)?.copy_from_slice(&self.flags);
        HeaderValue::from_bytes(&text).ok()
    }
}

fn hex(bytes: impl AsRef<[u8]>, digits: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes.as_ref()) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
}

/// Trace id and flags of a `traceparent` (§3.2.2): lower case, nothing all zero, and of a later
/// version only what this one has.
fn parse(text: &[u8]) -> Option<([u8; 32], [u8; 2])> {
    let is_hex = |field: &[u8]| {
        field
            .iter()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte))
    };
    let is_zero = |field: &[u8]| field.iter().all(|byte| *byte == b'0');
    let mut fields = text.splitn(5, |byte| *byte == b'-');
    let (version, id, parent, flags) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    );
    let is_whole = match version {
        b"00" => fields.next().is_none(),
        b"ff" => false,
        _ => true,
    };
    let is_good = is_whole
        && version.len() == 2
        && parent.len() == 16
        && [version, id, parent, flags].into_iter().all(is_hex)
        && !is_zero(id)
        && !is_zero(parent);
    if !is_good {
        return None;
    }
    Some((id.try_into().ok()?, flags.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn trace(parents: &[&str]) -> Trace {
        let mut header = RequestHeader::build("GET", b"/", None).unwrap();
        for parent in parents {
            header.append_header("traceparent", *parent).unwrap();
        }
        Trace::of(&header)
    }

    #[test]
    fn a_good_trace_goes_on_with_another_span() {
        let later = PARENT.replacen("00", "01", 1) + "-something";
        for parent in [PARENT, &later] {
            let trace = trace(&[parent]);
            assert!(trace.is_continued(), "{parent}");
            let forwarded = trace.parent().unwrap();
            let forwarded = forwarded.to_str().unwrap();
            assert_eq!(forwarded.len(), 55);
            assert!(forwarded.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
            assert!(forwarded.ends_with("-01"));
            assert!(!forwarded.contains("00f067aa0ba902b7"));
        }
    }

    #[test]
    fn a_malformed_trace_is_replaced() {
        let upper = PARENT.to_uppercase();
        let unfinished = &PARENT[..54];
        let longer = format!("{PARENT}-x");
        for parents in [
            &[][..],
            &[PARENT, PARENT],
            &[upper.as_str()],
            &[unfinished],
            &[longer.as_str()],
            &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"],
        ] {
            let trace = trace(parents);
            assert!(!trace.is_continued(), "{parents:?}");
            assert_ne!(trace.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        }
    }

    #[test]
    fn new_request_ids_are_uuids_and_all_different() {
        let now = SystemTime::now();
        let (first, second) = (new_request_id(now), new_request_id(now));
        assert_ne!(first, second);
        assert_eq!(
            uuid::Uuid::try_parse(first.to_str().unwrap())
                .unwrap()
                .get_version_num(),
            7
        );
    }
}

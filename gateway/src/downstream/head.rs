//! The head of an HTTP/1 request: read within bounds, and refused when two parsers could read it
//! differently. This runs on the bytes as they arrived, before anything else sees them; what passes
//! is a strict subset of RFC 9112.

use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use memchr::{memchr, memmem};
use portcullis_config::Limits;
use portcullis_policy::Denial;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::{Instant, Sleep};

/// What came of waiting for a request.
#[derive(Debug)]
pub enum Head {
    /// A whole head that may be parsed, so many bytes of these, and whatever came with it.
    Complete(BytesMut, usize, Body),
    /// The caller has left, or said nothing in time. There is nobody to answer.
    Ended,
    /// Not HTTP as it has to be. The bytes are for the log: only what precedes the refusal.
    Refused(Denial, BytesMut),
}

/// How a request says where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// By its length, which is 0 when there is none.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// Space for a head, and for the part of a body that comes with it. Most heads are smaller.
const INITIAL_BYTES: usize = 4096;

/// The longest method that anybody uses is half of this.
const MAX_METHOD: usize = 32;

/// Reads one head from `stream`: its first byte within `patience`, all of it within `head_timeout` from
/// then on; `None`: all of it within `patience`. `alarm` is the connection's own; moving it to a later time
/// costs nothing, as a new one for each head would.
pub async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    mut alarm: Pin<&mut Sleep>,
    (patience, head_timeout): (Duration, Option<Duration>),
    limits: &Limits,
) -> Head {
    let mut bytes = BytesMut::with_capacity(INITIAL_BYTES);
    alarm.as_mut().reset(Instant::now() + patience);
    let mut lines = Lines::default();
    let mut is_first = true;
    loop {
        let read = tokio::select! {
            biased;
            read = stream.read_buf(&mut bytes) => read,
            () = alarm.as_mut() => return Head::Ended,
        };
        // Closed, or broken.
        if !read.is_ok_and(|length| length > 0) {
            return Head::Ended;
        }
        match lines.find_end(&bytes, limits) {
            Ok(Some(end)) => {
                let head = bytes.get(..end).unwrap_or_default();
                let checked =
                    check(head, limits).and_then(|body| Ok((body, absolute_target(head)?)));
                return match checked {
                    Ok((body, None)) => Head::Complete(bytes, end, body),
                    Ok((body, Some(target))) => {
                        let after_head = bytes.len() - end;
                        let bytes = reduced(&bytes, &target);
                        let end = bytes.len() - after_head;
                        Head::Complete(bytes, end, body)
                    }
                    Err(denial) => Head::Refused(denial, bytes),
                };
            }
            Ok(None) if is_first => {
                is_first = false;
                if let Some(head_timeout) = head_timeout {
                    alarm.as_mut().reset(Instant::now() + head_timeout);
                }
            }
            Ok(None) => {}
            Err(denial) => return Head::Refused(denial, bytes),
        }
    }
}

/// Finds the empty line as bytes arrive; each byte is looked at once.
#[derive(Debug, Default)]
struct Lines {
    /// Start of the line that is not complete yet.
    line: usize,
    scanned: usize,
    count: usize,
}

impl Lines {
    fn find_end(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Denial> {
        while let Some(offset) = memchr(b'\n', bytes.get(self.scanned..).unwrap_or_default()) {
            let newline = self.scanned + offset;
            let line = bytes.get(self.line..newline).unwrap_or_default();
            // RFC 9112 §2.2 lets a bare LF pass for CRLF; then two parsers see two ends of a line.
            let Some(line) = line.strip_suffix(b"\r") else {
                return Err(Denial::RequestMalformed);
            };
            (self.line, self.scanned) = (newline + 1, newline + 1);
            if line.is_empty() {
                return if self.count == 0 {
                    Err(Denial::RequestMalformed)
                } else {
                    Ok(Some(newline + 1))
                };
            }
            self.count += 1;
            if self.count > limits.headers + 1 {
                return Err(Denial::HeadersTooLarge);
            }
        }
        self.scanned = bytes.len();
        // No less than a whole head may have: how it was cut on its way makes no difference.
        let longest = MAX_METHOD + limits.target_bytes + " HTTP/1.1\r ".len();
        if self.count == 0 && bytes.len() > longest {
            return Err(too_long_a_request_line(bytes));
        }
        if bytes.len() > longest + "\n\r".len() + limits.header_bytes {
            return Err(Denial::HeadersTooLarge);
        }
        Ok(None)
    }
}

fn too_long_a_request_line(bytes: &[u8]) -> Denial {
    match memchr(b' ', bytes.get(..=MAX_METHOD).unwrap_or_default()) {
        Some(_) => Denial::TargetTooLong,
        None => Denial::RequestMalformed,
    }
}

/// Whether a whole head says one thing to every parser; if so, where its body ends.
///
/// # Errors
/// What is wrong first.
pub(crate) fn check(head: &[u8], limits: &Limits) -> Result<Body, Denial> {
    let mut lines = head
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r"));
    let request_line = lines.next().flatten().ok_or(Denial::RequestMalformed)?;
    let version = check_request_line(request_line, limits)?;
    let mut framing = Framing::default();
    let mut header_bytes = 0;
    for line in lines {
        let Some(line) = line else {
            // What follows the last line feed is nothing.
            break;
        };
        if line.is_empty() {
            break;
        }
        header_bytes += line.len() + 2;
        if header_bytes > limits.header_bytes {
            return Err(Denial::HeadersTooLarge);
        }
        let (name, value) = field(line)?;
        framing.see(name, value)?;
    }
    framing.check(version)?;
    Ok(match framing.encodings {
        0 => Body::Length(framing.length),
        _ => Body::Chunked,
    })
}

/// The part of a checked head that is a target in absolute form, and the origin form of it.
#[derive(Debug, PartialEq, Eq)]
struct AbsoluteTarget {
    place: Range<usize>,
    origin_form: Vec<u8>,
}

/// A target in absolute form is for proxies; a service gets the origin form (RFC 9112 §3.2.2). Its
/// authority has to be that of `Host`: whoever believes the other one sees another request.
fn absolute_target(head: &[u8]) -> Result<Option<AbsoluteTarget>, Denial> {
    let start = memchr(b' ', head).map_or(0, |space| space + 1);
    let length = memchr(b' ', head.get(start..).unwrap_or_default()).unwrap_or_default();
    let target = head.get(start..start + length).unwrap_or_default();
    if matches!(target, [b'/', ..] | b"*") {
        return Ok(None);
    }
    let after_scheme = memmem::find(target, b"://").map_or(0, |colon| colon + 3);
    let rest = target.get(after_scheme..).unwrap_or_default();
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = head
        .split(|byte| *byte == b'\n')
        .skip(1)
        .filter_map(|line| field(line.strip_suffix(b"\r")?).ok())
        .find(|(name, _)| name.eq_ignore_ascii_case(b"host"))
        .map(|(_, value)| value);
    if !host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) {
        return Err(Denial::AuthorityInvalid);
    }
    let slash: &[u8] = if path.first() == Some(&b'/') {
        b""
    } else {
        b"/"
    };
    Ok(Some(AbsoluteTarget {
        place: start..start + length,
        origin_form: [slash, path].concat(),
    }))
}

fn reduced(bytes: &[u8], target: &AbsoluteTarget) -> BytesMut {
    let before = bytes.get(..target.place.start).unwrap_or_default();
    let after = bytes.get(target.place.end..).unwrap_or_default();
    [before, &target.origin_form, after]
        .concat()
        .as_slice()
        .into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

fn check_request_line(line: &[u8], limits: &Limits) -> Result<Version, Denial> {
    let method_end = memchr(b' ', line).ok_or(Denial::RequestMalformed)?;
    let (method, rest) = line.split_at(method_end);
    let rest = rest.get(1..).unwrap_or_default();
    let target_end = memchr(b' ', rest).ok_or(Denial::RequestMalformed)?;
    let (target, version) = rest.split_at(target_end);
    let version = match version {
        b" HTTP/1.1" => Version::Http11,
        b" HTTP/1.0" => Version::Http10,
        _ => return Err(Denial::RequestMalformed),
    };
    if method.is_empty() || method.len() > MAX_METHOD || !method.iter().all(|byte| is_token(*byte))
    {
        return Err(Denial::RequestMalformed);
    }
    // A tunnel is nothing that this gateway makes (RFC 9110 §9.3.6).
    if method == b"CONNECT" {
        return Err(Denial::RequestMalformed);
    }
    if target.len() > limits.target_bytes {
        return Err(Denial::TargetTooLong);
    }
    check_target(target)?;
    Ok(version)
}

/// Origin-form, absolute-form of `http` and `https`, or `*` (RFC 9112 §3.2). What may stand in a
/// path is `RequestPath`'s to say; here it is what no target may contain.
fn check_target(target: &[u8]) -> Result<(), Denial> {
    if !target.iter().all(|byte| is_target(*byte)) {
        return Err(Denial::RequestMalformed);
    }
    // Browsers send it in a query; in a path, the next parser would answer in our place.
    let path = target.split(|byte| *byte == b'?').next();
    if path.is_some_and(|path| path.contains(&b'`')) {
        return Err(Denial::PathAmbiguous);
    }
    let is_absolute = |scheme: &[u8]| {
        target
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    match target {
        [b'/', ..] | b"*" => Ok(()),
        _ if is_absolute(b"http://") || is_absolute(b"https://") => Ok(()),
        _ => Err(Denial::RequestMalformed),
    }
}

/// Name and value of a field line (RFC 9112 §5), the value without the white space around it.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Denial> {
    let colon = memchr(b':', line).ok_or(Denial::RequestMalformed)?;
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    // A line that begins with white space continues the one before to some (obs-fold, §5.2); white
    // space before the colon is part of the name to some (§5.1). Neither is a token.
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(Denial::RequestMalformed);
    }
    if !is_field_content(value) {
        return Err(Denial::RequestMalformed);
    }
    Ok((name, value.trim_ascii()))
}

/// What says where the request goes and where it ends.
#[derive(Debug, Default)]
struct Framing {
    hosts: usize,
    lengths: usize,
    length: u64,
    encodings: usize,
}

impl Framing {
    fn see(&mut self, name: &[u8], value: &[u8]) -> Result<(), Denial> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts += 1;
                if value.is_empty() || !value.iter().all(|byte| is_authority(*byte)) {
                    return Err(Denial::AuthorityInvalid);
                }
            }
            // RFC 9110 §10.1.1 knows one. Of any other, a service may believe that the body is held back.
            6 if name.eq_ignore_ascii_case(b"expect")
                && !value.eq_ignore_ascii_case(b"100-continue") =>
            {
                return Err(Denial::RequestMalformed);
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.lengths += 1;
                // 18 digits fit 64 bits, signed or not.
                if !(1..=18).contains(&value.len()) || !value.iter().all(u8::is_ascii_digit) {
                    return Err(Denial::RequestMalformed);
                }
                let digits = std::str::from_utf8(value).ok();
                self.length = digits
                    .and_then(|digits| digits.parse().ok())
                    .ok_or(Denial::RequestMalformed)?;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.encodings += 1;
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Denial::RequestMalformed);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check(&self, version: Version) -> Result<(), Denial> {
        // RFC 9112 §6.1, §6.3: one of the two, once. Both, or one twice, is how requests are smuggled.
        if self.lengths + self.encodings > 1 {
            return Err(Denial::RequestMalformed);
        }
        match version {
            Version::Http10 if self.encodings > 0 => Err(Denial::RequestMalformed),
            // RFC 9112 §3.2. HTTP/1.0 could do without, but then nobody knows which host was meant:
            // not the rule about client certificates, and not the service.
            Version::Http10 | Version::Http11 if self.hosts != 1 => Err(Denial::AuthorityInvalid),
            Version::Http10 | Version::Http11 => Ok(()),
        }
    }
}

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const AUTHORITY: u8 = 4;

/// What each byte may be part of; a look-up for each byte of each head.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut class = 0;
        #[expect(clippy::cast_possible_truncation, reason = "the loop ends at 255")]
        let value = byte as u8;
        // RFC 9110 §5.6.2.
        if value.is_ascii_alphanumeric()
            || matches!(
                value,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            )
        {
            class |= TOKEN;
        }
        // Visible, and no end of a target to any parser (`#`) nor of a quoted one.
        if value.is_ascii_graphic() && !matches!(value, b'#' | b'"' | b'<' | b'>') {
            class |= TARGET;
        }
        if value.is_ascii_alphanumeric() || matches!(value, b'-' | b'.' | b'_' | b':' | b'[' | b']')
        {
            class |= AUTHORITY;
        }
        #[expect(clippy::indexing_slicing, reason = "the loop ends at 255")]
        {
            classes[byte] = class;
        }
        byte += 1;
    }
    classes
};

#[expect(clippy::indexing_slicing, reason = "there is an entry for each byte")]
fn class(byte: u8) -> u8 {
    CLASSES[usize::from(byte)]
}

pub(super) fn is_token(byte: u8) -> bool {
    class(byte) & TOKEN != 0
}

/// Whether `value` is the content of a field (RFC 9110 §5.5). Tokens and cookies are long: without a
/// branch for each byte, many are looked at at a time.
fn is_field_content(value: &[u8]) -> bool {
    let is_content = |byte: u8| (byte >= b' ') & (byte != 0x7F) | (byte == b'\t');
    value
        .iter()
        .fold(true, |are_content, byte| are_content & is_content(*byte))
}

fn is_target(byte: u8) -> bool {
    class(byte) & TARGET != 0
}

fn is_authority(byte: u8) -> bool {
    class(byte) & AUTHORITY != 0
}

#[cfg(test)]
mod tests;

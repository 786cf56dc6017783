use std::io;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use portcullis_config::Limits;
use portcullis_gateway::downstream::head::{Body, Head, read as read_head};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

/// A name and its value.
type Field<'a> = (&'a [u8], &'a [u8]);

/// A head that is accepted says one thing: to Pingora's parser, to a plain reading of RFC 9112, and
/// however it is cut on its way.
pub fn head(bytes: &[u8]) {
    let whole = read(bytes, bytes.len(), bytes.len());
    for first in crate::cuts(bytes.len()) {
        assert_eq!(read(bytes, first, bytes.len()), whole, "cut at {first}");
    }
    assert_eq!(read(bytes, 1, 1), whole, "byte by byte");
    if let Some(accepted) = &whole {
        check(bytes, accepted);
    }
}

/// What Pingora gets.
#[derive(Debug, PartialEq, Eq)]
struct Accepted {
    head: Vec<u8>,
    /// What was read behind it, and what was not.
    behind: Vec<u8>,
    body: Body,
}

/// What comes of `bytes` when the `first` so many come at once, and `then` so many at a time.
fn read(bytes: &[u8], first: usize, then: usize) -> Option<Accepted> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime")
    });
    let mut parts = Parts {
        left: bytes,
        next: first,
        then,
    };
    let head = runtime.block_on(async {
        let alarm = pin!(sleep(PATIENCE));
        read_head(&mut parts, alarm, (PATIENCE, None), &LIMITS).await
    });
    match head {
        Head::Complete(bytes, end, body) => {
            let (head, behind) = bytes.split_at(end);
            Some(Accepted {
                head: head.to_vec(),
                behind: [behind, parts.left].concat(),
                body,
            })
        }
        Head::Ended | Head::Refused(..) => None,
    }
}

/// The bytes never keep anybody waiting.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Small, so that they are reached.
static LIMITS: Limits = Limits {
    connections: 1,
    connections_per_address: 1,
    handshake_timeout: PATIENCE,
    header_timeout: PATIENCE,
    idle_timeout: PATIENCE,
    body_timeout: PATIENCE,
    body_bytes: 64,
    body_bytes_per_second: 0,
    target_bytes: 64,
    headers: 8,
    header_bytes: 256,
    token_bytes: 64,
    failed_verifications_per_second: 0,
    http2_streams: 1,
    connection_age: PATIENCE,
    websocket_idle_timeout: PATIENCE,
    websocket_age: PATIENCE,
    requests_per_connection: 1,
};

/// A connection on which bytes come in parts.
struct Parts<'a> {
    left: &'a [u8],
    next: usize,
    then: usize,
}

impl AsyncRead for Parts<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let length = this.next.min(this.left.len()).min(buffer.remaining());
        let (part, left) = this.left.split_at(length);
        buffer.put_slice(part);
        (this.left, this.next) = (left, this.then);
        Poll::Ready(Ok(()))
    }
}

fn check(bytes: &[u8], accepted: &Accepted) {
    let empty_line = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let (arrived, behind) = bytes.split_at(empty_line.expect("an empty line") + 4);
    assert_eq!(accepted.behind, behind);

    // No line ends in anything but CRLF, and none continues the one before.
    let head = accepted.head.as_slice();
    let lines: Vec<&[u8]> = head
        .strip_suffix(b"\r\n")
        .expect("an empty line")
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r\n").expect("CRLF"))
        .collect();
    let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    assert!(!lines.iter().any(|line| line.iter().any(is_control)));
    let (request_line, lines) = lines.split_first().expect("a request line");
    let words: Vec<&[u8]> = request_line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = *words.as_slice() else {
        panic!("a request line has three words");
    };
    let fields: Vec<Field<'_>> = lines.iter().map(|line| field(line)).collect();
    assert!(fields.len() <= LIMITS.headers);
    assert!(lines.iter().map(|line| line.len() + 2).sum::<usize>() <= LIMITS.header_bytes);

    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut parsed = httparse::Request::new(&mut headers);
    let end = httparse::Status::Complete(head.len());
    assert_eq!(parsed.parse(head), Ok(end));
    assert_eq!(parsed.method.map(str::as_bytes), Some(method));
    assert_eq!(parsed.path.map(str::as_bytes), Some(target));
    let minor = u8::from(version != b"HTTP/1.0");
    assert_eq!(parsed.version, Some(minor));
    let headers = parsed.headers.iter();
    let headers: Vec<Field<'_>> = headers
        .map(|header| (header.name.as_bytes(), header.value))
        .collect();
    assert_eq!(headers, fields);

    let hosts = values(&fields, b"host");
    let [host] = *hosts.as_slice() else {
        panic!("{} hosts", hosts.len());
    };
    let lengths = values(&fields, b"content-length");
    let codings = values(&fields, b"transfer-encoding");
    let body = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Body::Length(0),
        ([length], []) => Body::Length(number(length)),
        ([], [coding]) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked") && minor == 1);
            Body::Chunked
        }
        _ => panic!("two ends of one body"),
    };
    assert_eq!(accepted.body, body);

    assert_ne!(method, b"CONNECT");
    let written = arrived.split(|byte| *byte == b' ').nth(1);
    let written = written.expect("a target");
    assert!(written.len() <= LIMITS.target_bytes);
    if matches!(written, [b'/', ..] | b"*") {
        assert_eq!(head, arrived, "nothing is rewritten");
    } else {
        let prefix = [method, b" ", written].concat();
        let rest = arrived.strip_prefix(prefix.as_slice());
        let reduced = [method, b" ", &origin_form(written, host)].concat();
        assert_eq!(
            head,
            [reduced.as_slice(), rest.expect("a version")].concat()
        );
    }
}

fn field(line: &[u8]) -> Field<'_> {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = line.split_at(colon.expect("a colon"));
    assert!(!name.is_empty() && name.iter().all(u8::is_ascii_graphic));
    let value = value.strip_prefix(b":").unwrap_or_default();
    (name, value.trim_ascii())
}

fn values<'a>(fields: &[Field<'a>], name: &[u8]) -> Vec<&'a [u8]> {
    let own = fields
        .iter()
        .filter(|(own, _)| own.eq_ignore_ascii_case(name));
    own.map(|(_, value)| *value).collect()
}

fn number(digits: &[u8]) -> u64 {
    assert!(digits.iter().all(u8::is_ascii_digit));
    let digits = std::str::from_utf8(digits).expect("ASCII");
    digits.parse().expect("a number of 64 bits")
}

/// The target in absolute form that was `written`, without what `Host` says already.
fn origin_form(written: &[u8], host: &[u8]) -> Vec<u8> {
    let written = std::str::from_utf8(written).expect("ASCII");
    let (scheme, rest) = written.split_once("://").expect("the absolute form");
    assert!(matches!(&*scheme.to_ascii_lowercase(), "http" | "https"));
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    assert!(authority.as_bytes().eq_ignore_ascii_case(host));
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{slash}{path}").into_bytes()
}

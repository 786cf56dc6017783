//! The access log: one JSON line for each request, whatever became of it.
//!
//! A line is valid JSON and at most 4 KiB long whatever bytes arrived: what a caller chose is cut,
//! bytes that are not UTF-8 become U+FFFD, and control characters are escaped, so that a line shown
//! on a terminal is inert. Field names are OpenTelemetry's where it has one, `portcullis.*` where it
//! has not; `docs/telemetry.md` lists them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use aws_lc_rs::{hmac, rand};
use portcullis_config::{AccessLog as Settings, SubjectDisclosure};

use super::line_writer::{AppendFile, LineWriter, StandardStream};
use super::{Metrics, Outcome, Timestamp};
use line::{Line, MAX_CLAIM, MAX_HOST, MAX_NAME, MAX_PATH, MAX_USER_AGENT};

mod line;

/// One finished request.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// When the request arrived.
    pub arrived: SystemTime,
    /// `X-Request-ID`, as the caller and the service saw it.
    pub request_id: &'a str,
    /// Trace id of the W3C `traceparent`.
    pub trace_id: Option<&'a str>,
    /// Name of the listener.
    pub listener: &'a str,
    /// Address of the caller, behind trusted proxies the one they name.
    pub client_address: Option<IpAddr>,
    /// Method; anything but a registered one becomes `_OTHER`.
    pub method: &'a str,
    /// Authority as it arrived.
    pub host: &'a [u8],
    /// Request target as it arrived; the query is cut off here.
    pub target: &'a [u8],
    /// `1.0`, `1.1` or `2`.
    pub http_version: &'static str,
    /// The route that was found.
    pub route: Option<Route<'a>>,
    /// How the request ended.
    pub outcome: Outcome,
    /// The refusal's code, or [`super::NONE`].
    pub code: &'static str,
    /// Status of the response; `None` when there was none.
    pub status: Option<u16>,
    /// Who the caller was verified to be.
    pub principal: Option<Principal<'a>>,
    /// The upstream that was chosen.
    pub upstream: Option<Upstream<'a>>,
    /// From arrival to the end of the response.
    pub duration: Duration,
    /// From arrival to the verdict.
    pub admission_duration: Option<Duration>,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// Bytes of the response's body.
    pub bytes_sent: u64,
    /// `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
}

/// A route as the access log tells it.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// Its name.
    pub name: &'a str,
    /// The team that owns it.
    pub owner: &'a str,
}

/// A verified caller as the access log tells it.
#[derive(Debug, Clone, Copy)]
pub struct Principal<'a> {
    /// Name of the issuer in the configuration.
    pub issuer: &'a str,
    /// `sub`; how it appears is configured.
    pub subject: Option<&'a str>,
    /// `jti`.
    pub token_id: Option<&'a str>,
    /// `client_id`.
    pub client_id: Option<&'a str>,
}

/// An upstream as the access log tells it.
#[derive(Debug, Clone, Copy)]
pub struct Upstream<'a> {
    /// Its name.
    pub name: &'a str,
    /// The address that was tried last.
    pub address: Option<SocketAddr>,
    /// Time spent with it.
    pub duration: Option<Duration>,
}

/// Writes the access log. Clones share the file.
#[derive(Debug, Clone)]
pub struct AccessLog {
    writer: LineWriter,
    subject: Subject,
}

/// [`SubjectDisclosure`] with the key made ready.
#[derive(Debug, Clone)]
enum Subject {
    Omitted,
    Pseudonym(Arc<hmac::Key>),
    Plain,
}

impl AccessLog {
    /// Opens the file or standard output and starts the thread that writes.
    ///
    /// # Errors
    /// When the file cannot be opened for appending, or the thread cannot be started.
    pub fn open(settings: &Settings, metrics: &Metrics) -> io::Result<Self> {
        let dropped = metrics.access_log_lines_dropped();
        let writer = match &settings.file {
            Some(path) => LineWriter::start("access-log", AppendFile::open(path)?, dropped),
            None => LineWriter::start("access-log", StandardStream::stdout()?, dropped),
        }?;
        let subject = match &settings.subject {
            SubjectDisclosure::Omitted => Subject::Omitted,
            SubjectDisclosure::Plain => Subject::Plain,
            SubjectDisclosure::Pseudonym(Some(key)) => Subject::Pseudonym(hmac_key(key.expose())),
            SubjectDisclosure::Pseudonym(None) => Subject::Pseudonym(hmac_key(process_key()?)),
        };
        Ok(Self { writer, subject })
    }

    /// Queues the line of one request. Never waits; a line without a place is dropped and counted.
    pub fn record(&self, entry: &Entry<'_>) {
        self.writer.write_line(self.line(entry));
    }

    /// Opens the file anew before the next line, after it was rotated.
    pub fn reopen(&self) {
        self.writer.reopen();
    }

    /// Waits until all lines so far are written, at most for `timeout`; says whether they were.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        self.writer.flush(timeout)
    }

    fn line(&self, entry: &Entry<'_>) -> Vec<u8> {
        let mut line = Line::new();
        line.display("timestamp", Timestamp::from(entry.arrived));
        line.text("portcullis.request.id", entry.request_id, MAX_NAME);
        line.optional_text("trace_id", entry.trace_id, MAX_NAME);
        line.text("portcullis.listener", entry.listener, MAX_NAME);
        if let Some(address) = entry.client_address {
            line.display("client.address", address);
        }
        line.text(
            "http.request.method",
            registered_method(entry.method),
            MAX_NAME,
        );
        line.bytes("server.address", entry.host, MAX_HOST);
        line.bytes("url.path", path_of(entry.target), MAX_PATH);
        line.text("network.protocol.version", entry.http_version, MAX_NAME);
        if let Some(route) = entry.route {
            line.text("portcullis.route", route.name, MAX_NAME);
            line.text("portcullis.owner", route.owner, MAX_NAME);
        }
        line.text("portcullis.decision", entry.outcome.as_str(), MAX_NAME);
        line.text("portcullis.code", entry.code, MAX_NAME);
        if let Some(status) = entry.status {
            line.number("http.response.status_code", status);
        }
        if let Some(principal) = entry.principal {
            line.text("portcullis.issuer", principal.issuer, MAX_NAME);
            self.write_subject(&mut line, &principal);
            line.optional_text("portcullis.token.id", principal.token_id, MAX_CLAIM);
            line.optional_text("portcullis.client.id", principal.client_id, MAX_CLAIM);
        }
        if let Some(upstream) = entry.upstream {
            line.text("portcullis.upstream.name", upstream.name, MAX_NAME);
            if let Some(address) = upstream.address {
                line.display("portcullis.upstream.address", address);
            }
            line.optional_seconds("portcullis.upstream.duration", upstream.duration);
        }
        line.optional_seconds("portcullis.admission.duration", entry.admission_duration);
        line.optional_seconds("http.server.request.duration", Some(entry.duration));
        line.number("http.request.body.size", entry.bytes_received);
        line.number("http.response.body.size", entry.bytes_sent);
        if let Some(user_agent) = entry.user_agent {
            line.bytes("user_agent.original", user_agent, MAX_USER_AGENT);
        }
        line.finish()
    }

    fn write_subject(&self, line: &mut Line, principal: &Principal<'_>) {
        let Some(subject) = principal.subject else {
            return;
        };
        match &self.subject {
            Subject::Omitted => {}
            Subject::Plain => line.text("enduser.id", subject, MAX_CLAIM),
            Subject::Pseudonym(key) => {
                // A subject is unique within its issuer only (RFC 7519 §4.1.2). Names of issuers
                // have no NUL.
                let mut context = hmac::Context::with_key(key);
                context.update(principal.issuer.as_bytes());
                context.update(&[0]);
                context.update(subject.as_bytes());
                line.hex(
                    "enduser.pseudo.id",
                    context.sign().as_ref().get(..16).unwrap_or_default(),
                );
            }
        }
    }
}

fn hmac_key(key: &[u8]) -> Arc<hmac::Key> {
    Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key))
}

/// One random key for the whole process: a reload does not change the pseudonyms.
fn process_key() -> io::Result<&'static [u8; 32]> {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    if let Some(key) = KEY.get() {
        return Ok(key);
    }
    let mut key = [0; 32];
    rand::fill(&mut key).map_err(|_| io::Error::other("the system has no randomness"))?;
    Ok(KEY.get_or_init(|| key))
}

/// The methods of RFC 9110 §9 and RFC 5789; a caller can invent any number of others.
fn registered_method(method: &str) -> &str {
    match method {
        "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH" => {
            method
        }
        _ => "_OTHER",
    }
}

/// The part of a request target that may be logged: a query holds secrets often enough, and an
/// absolute target (RFC 9112 §3.2.2) may hold a password in front of the host.
fn path_of(target: &[u8]) -> &[u8] {
    // Also where somebody has escaped what begins a query.
    let begins_query = |at: &usize| {
        let rest = target.get(*at..).unwrap_or_default();
        matches!(
            rest,
            [b'?' | b'#', ..] | [b'%', b'3', b'f' | b'F', ..] | [b'%', b'2', b'3', ..]
        )
    };
    let end = (0..target.len()).find(begins_query).unwrap_or(target.len());
    let path = target.get(..end).unwrap_or_default();
    let Some(scheme) = path.windows(3).position(|window| window == b"://") else {
        return path;
    };
    if path.starts_with(b"/") {
        return path;
    }
    let authority = path.get(scheme + 3..).unwrap_or_default();
    let slash = authority
        .iter()
        .position(|byte| *byte == b'/')
        .unwrap_or(authority.len());
    authority.get(slash..).unwrap_or_default()
}

#[cfg(test)]
mod tests;

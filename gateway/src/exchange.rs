//! What one request carries between the phases of Pingora's proxy: Pingora's `CTX`.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderValue, Method, StatusCode, Uri, Version};
use pingora_core::{Error, ErrorType};
use pingora_http::RequestHeader;
use portcullis_policy::{Denial, Permit, RouteId, UnixTime};

use crate::downstream::body_clock::Progress;
use crate::downstream::connection::Connection;
use crate::downstream::connections::Cut;
use crate::downstream::forwarding::Origin;
use crate::downstream::request::authority_text;
use crate::downstream::trace::{self, Trace};
use crate::refusal::{Fault, Refusal};
use crate::snapshot::{Route, Snapshot};
use crate::telemetry::access_log::{self, Entry};
use crate::telemetry::metrics::InFlightRequest;
use crate::telemetry::{NONE, Outcome};
use crate::upstream::Upstream;
use crate::websocket::tunnel::Tunnel;

/// One request, from its arrival to the end of its response.
#[derive(Debug)]
pub struct Exchange {
    /// The generation that this request sees, from start to end.
    snapshot: Arc<Snapshot>,
    arrived: Instant,
    arrived_at: SystemTime,
    request_id: HeaderValue,
    trace: Trace,
    connection: Option<Arc<Connection>>,
    origin: Option<Origin>,
    route: Option<RouteId>,
    verdict: Verdict,
    admission: Option<Duration>,
    /// Attempts to reach a service.
    pub(crate) attempts: Attempts,
    /// What has come of the request's body, for the attempt under way.
    pub(crate) upload: Progress,
    /// When it was answered, if what follows is no part of the answer.
    answered_after: Option<Duration>,
    /// What takes its place, on its way to the connection.
    tunnel: Mutex<Option<Box<Tunnel>>>,
    /// What to say of it should it be cut off.
    asked: Option<(Method, Uri, Version)>,
    is_finished: bool,
    _in_flight: InFlightRequest,
}

/// What has been decided about a request.
#[derive(Debug)]
enum Verdict {
    Pending,
    Admitted(Permit),
    /// A permit may have been issued before a service failed.
    Refused(Refusal, Option<Permit>),
}

/// Attempts to reach a service, for one request.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// How many were begun.
    pub(crate) count: u32,
    /// When the first one was.
    pub(crate) since: Option<Instant>,
    /// The address of the last one.
    pub(crate) address: Option<SocketAddr>,
    /// Interim responses (1xx) of the service.
    pub(crate) interim: u32,
    /// What was stripped of the request was counted.
    pub(crate) has_counted_forgeries: bool,
    /// Status of the response that counts, once it has begun.
    pub(crate) answered: Option<u16>,
}

impl Exchange {
    /// A request has arrived.
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            _in_flight: snapshot.metrics().request_arrived(),
            snapshot,
            arrived: Instant::now(),
            arrived_at: SystemTime::now(),
            request_id: HeaderValue::from_static(NONE),
            trace: Trace::none(),
            connection: None,
            origin: None,
            route: None,
            verdict: Verdict::Pending,
            admission: None,
            attempts: Attempts::default(),
            upload: Progress::default(),
            answered_after: None,
            tunnel: Mutex::new(None),
            asked: None,
            is_finished: false,
        }
    }

    /// The request opens a WebSocket: what this was goes on in the returned one, and [`Tunnel`] has to
    /// be given back with [`Exchange::becomes`].
    pub(crate) fn switch_protocols(&mut self) -> Box<Self> {
        self.attempts.answered = Some(StatusCode::SWITCHING_PROTOCOLS.as_u16());
        self.answered_after = Some(self.arrived.elapsed());
        let mut successor = Self::new(Arc::clone(&self.snapshot));
        successor.is_finished = true;
        Box::new(std::mem::replace(self, successor))
    }

    /// What goes on in place of the request.
    pub(crate) fn becomes(&mut self, tunnel: Tunnel) {
        self.tunnel = Mutex::new(Some(Box::new(tunnel)));
    }

    /// What goes on in place of the request, once.
    pub(crate) fn take_tunnel(&self) -> Option<Box<Tunnel>> {
        self.tunnel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Takes in what the head says about the request itself.
    pub(crate) fn arrive(&mut self, header: &RequestHeader, connection: Option<&Arc<Connection>>) {
        self.asked = Some((header.method.clone(), header.uri.clone(), header.version));
        self.request_id = trace::request_id(header);
        self.trace = Trace::of(header);
        if let Some(connection) = connection {
            let trusted = &self.snapshot.config().trusted_proxies;
            self.origin = Some(Origin::of(header, connection, trusted));
            self.came_on(connection);
        }
    }

    /// The head of the request is not to be believed.
    pub(crate) fn arrive_without_head(&mut self, connection: &Arc<Connection>) {
        self.request_id = trace::new_request_id(self.arrived_at);
        self.trace = Trace::begin();
        self.came_on(connection);
    }

    fn came_on(&mut self, connection: &Arc<Connection>) {
        connection.load.request_arrived();
        self.connection = Some(Arc::clone(connection));
    }

    pub(crate) const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    pub(crate) const fn connection(&self) -> Option<&Arc<Connection>> {
        self.connection.as_ref()
    }

    pub(crate) const fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    pub(crate) const fn trace(&self) -> &Trace {
        &self.trace
    }

    pub(crate) const fn request_id_value(&self) -> &HeaderValue {
        &self.request_id
    }

    pub(crate) fn request_id(&self) -> &str {
        self.request_id.to_str().unwrap_or(NONE)
    }

    /// The time of the verdict: when the request arrived.
    pub(crate) fn now(&self) -> UnixTime {
        let since_epoch = self
            .arrived_at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        UnixTime::from_seconds(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX))
    }

    /// Remembers which route the request belongs to, admitted or not.
    pub(crate) fn belongs_to(&mut self, route: RouteId) {
        self.route = Some(route);
    }

    pub(crate) fn admit(&mut self, permit: Permit) {
        self.verdict = Verdict::Admitted(permit);
        self.decided();
    }

    /// The request is refused, before or after it was admitted.
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        let permit = match std::mem::replace(&mut self.verdict, Verdict::Pending) {
            Verdict::Admitted(permit) => Some(permit),
            Verdict::Refused(_, permit) => permit,
            Verdict::Pending => None,
        };
        self.verdict = Verdict::Refused(refusal, permit);
        self.decided();
    }

    fn decided(&mut self) {
        if self.admission.is_none() {
            let took = self.arrived.elapsed();
            self.admission = Some(took);
            self.snapshot.metrics().admission_decided(took);
        }
    }

    /// The permit, without which no phase that faces a service does anything.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn permit(&self) -> pingora_core::Result<&Permit> {
        match &self.verdict {
            Verdict::Admitted(permit) => Ok(permit),
            Verdict::Pending | Verdict::Refused(..) => {
                Error::e_explain(ErrorType::InternalError, "no permit")
            }
        }
    }

    pub(crate) const fn refusal(&self) -> Option<&Refusal> {
        match &self.verdict {
            Verdict::Refused(refusal, _) => Some(refusal),
            Verdict::Pending | Verdict::Admitted(_) => None,
        }
    }

    pub(crate) fn refused_status(&self) -> u16 {
        self.refusal().map_or(500, Refusal::status)
    }

    /// Whether the connection cannot be trusted to be where the next request begins, or is the
    /// wrong one for its caller.
    pub(crate) fn ends_connection(&self) -> bool {
        match self.refusal() {
            Some(Refusal::Denied(denial)) => {
                matches!(denial.status(), 400 | 408 | 413 | 414 | 421 | 431)
            }
            // Who comes back later finds another connection, or another instance.
            Some(Refusal::Faulted(fault)) => *fault == Fault::Overloaded,
            None => false,
        }
    }

    /// Whether the request's body has turned out not to be one.
    pub(crate) fn has_malformed_body(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(|connection| connection.inbound.has_failed())
    }

    /// Why the gateway has cut the connection off, if it has.
    pub(crate) fn fault_of_cut(&self) -> Option<Fault> {
        match self.connection.as_ref()?.load.why_cut()? {
            Cut::Overload => Some(Fault::Overloaded),
            Cut::Shutdown => Some(Fault::ShuttingDown),
        }
    }

    /// The route that the request belongs to.
    pub(crate) fn route(&self) -> Option<&Route> {
        self.snapshot.route(self.route?)
    }

    /// The upstream that the request is for.
    pub(crate) fn upstream(&self) -> Option<&Arc<Upstream>> {
        Some(&self.route()?.upstream)
    }

    /// How long the service may be silent.
    pub(crate) fn response_timeout(&self) -> Duration {
        self.route()
            .map(|route| {
                let own = route.limits.response_timeout;
                own.unwrap_or(route.upstream.response_timeout)
            })
            .unwrap_or_default()
    }

    /// How long the caller may be silent within the request's body.
    pub(crate) fn body_timeout(&self) -> Duration {
        self.route()
            .and_then(|route| route.limits.body_timeout)
            .unwrap_or(self.snapshot.config().limits.body_timeout)
    }

    /// The most bytes that the request's body may have.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.route()
            .and_then(|route| route.limits.body_bytes)
            .unwrap_or(self.snapshot.config().limits.body_bytes)
    }

    /// Whether it was recorded how the request ended, or something else goes on in its place.
    pub(crate) const fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Whose fault it is that the request is dropped before it ended, if it is the gateway's.
    pub(crate) fn fault_of_drop(&self) -> Option<Fault> {
        match std::thread::panicking() {
            true => Some(Fault::Internal),
            false => self.fault_of_cut(),
        }
    }

    /// Records how the request ended, in the metrics and the access log.
    pub(crate) fn finish(
        &mut self,
        line: &RequestLine<'_>,
        status: Option<u16>,
        bytes_received: u64,
        bytes_sent: u64,
    ) {
        self.is_finished = true;
        let duration = self.arrived.elapsed();
        let (outcome, code) = match &self.verdict {
            Verdict::Admitted(_) => (Outcome::Admitted, NONE),
            Verdict::Refused(refusal, _) => (refusal.outcome(), refusal.code()),
            // The caller left while it was being decided.
            Verdict::Pending => (Outcome::Denied, "caller_left"),
        };
        let answered_after = self.answered_after.unwrap_or(duration);
        let route = self.route();
        let metrics = route.map_or_else(|| self.snapshot.no_route(), |route| &route.metrics);
        metrics.record(outcome, code, answered_after);
        let upstream = self.upstream().filter(|_| self.attempts.count > 0);
        let upstream_duration = self.attempts.since.map(|since| since.elapsed());
        if let (Some(upstream), Some(duration)) = (upstream, upstream_duration) {
            upstream.metrics.finished(duration.min(answered_after));
        }
        let Some(log) = self.snapshot.access_log() else {
            return;
        };
        let permit = match &self.verdict {
            Verdict::Admitted(permit) => Some(permit),
            Verdict::Refused(_, permit) => permit.as_ref(),
            Verdict::Pending => None,
        };
        let principal = permit
            .and_then(Permit::principal)
            .map(|principal| access_log::Principal {
                issuer: self.snapshot.issuer_name(principal.issuer()),
                subject: Some(principal.subject()),
                token_id: principal.token_id(),
                client_id: principal.client(),
            });
        log.record(&Entry {
            arrived: self.arrived_at,
            request_id: self.request_id(),
            trace_id: Some(self.trace.id()),
            listener: self
                .connection
                .as_ref()
                .map_or(NONE, |connection| &connection.listener),
            client_address: self.client(),
            method: line.method,
            host: line.host,
            target: line.target,
            http_version: line.version,
            route: route.map(|route| access_log::Route {
                name: &route.policy.name,
                owner: &route.policy.owner,
            }),
            outcome,
            code,
            status,
            principal,
            upstream: upstream.map(|upstream| access_log::Upstream {
                name: &upstream.name,
                address: self.attempts.address,
                duration: upstream_duration,
            }),
            duration,
            admission_duration: self.admission,
            bytes_received,
            bytes_sent,
            user_agent: line.user_agent,
        });
    }

    /// The address that answers for the request; `None` for a trusted proxy that does not say whose it
    /// is.
    pub(crate) fn answerable_address(&self) -> Option<IpAddr> {
        let trusted = &self.snapshot.config().trusted_proxies;
        self.client()
            .filter(|address| !trusted.iter().any(|net| net.contains(address)))
    }

    fn client(&self) -> Option<IpAddr> {
        self.origin.as_ref().map(Origin::client).or_else(|| {
            self.connection
                .as_ref()
                .map(|connection| connection.peer.ip())
        })
    }
}

/// Whoever is cut off, by a time limit or the end of the process, has a line too.
impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.load.request_finished();
        }
        if self.is_finished {
            return;
        }
        if let Some((method, uri, version)) = self.asked.take() {
            let status = self.attempts.answered;
            if let Some(fault) = self.fault_of_drop() {
                self.refuse(fault.into());
            } else if status.is_none() {
                self.refuse(Denial::RequestTimeout.into());
            }
            let line = RequestLine::cut_off(&method, &uri, version);
            self.finish(&line, status, 0, 0);
        }
    }
}

fn version_text(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

/// What a caller asked for, as it arrived, for the access log.
#[derive(Debug)]
pub(crate) struct RequestLine<'a> {
    method: &'a str,
    target: &'a [u8],
    host: &'a [u8],
    version: &'static str,
    user_agent: Option<&'a [u8]>,
}

impl<'a> RequestLine<'a> {
    pub(crate) fn of(header: &'a RequestHeader) -> Self {
        Self {
            method: header.method.as_str(),
            target: header.raw_path(),
            host: authority_text(header).unwrap_or_default(),
            version: version_text(header.version),
            user_agent: header
                .headers
                .get(http::header::USER_AGENT)
                .map(HeaderValue::as_bytes),
        }
    }

    fn cut_off(method: &'a Method, uri: &'a Uri, version: Version) -> Self {
        Self {
            method: method.as_str(),
            target: uri.path().as_bytes(),
            host: uri
                .authority()
                .map_or(b"", |authority| authority.as_str().as_bytes()),
            version: version_text(version),
            user_agent: None,
        }
    }

    /// No answer to `HEAD` has one (RFC 9110 §9.3.2).
    pub(crate) fn has_body_in_response(&self) -> bool {
        self.method != "HEAD"
    }

    /// Of a head that was refused: what its first line says, if it begins as a request does. What does
    /// not may be anything, such as the rest of a body with a password in it.
    pub(crate) fn from_head(bytes: &'a [u8]) -> Self {
        let end = bytes
            .iter()
            .position(|byte| matches!(byte, b'\r' | b'\n'))
            .unwrap_or(bytes.len());
        let mut words = bytes
            .get(..end)
            .unwrap_or_default()
            .split(|byte| *byte == b' ');
        let method = words
            .next()
            .and_then(|method| std::str::from_utf8(method).ok())
            .filter(|method| method.parse::<portcullis_policy::Method>().is_ok());
        let target = words
            .next()
            .filter(|target| method.is_some() && target.starts_with(b"/"));
        Self {
            method: method.unwrap_or_default(),
            target: target.unwrap_or_default(),
            host: b"",
            version: "1.1",
            user_agent: None,
        }
    }
}

//! One connection of a caller, and the requests on it.
//!
//! HTTP/1 is driven from here, request by request: [`head`] reads and checks each head, and only
//! then does Pingora get the bytes. So the deadlines and bounds of a head hold for every request of
//! a connection, and nothing that two parsers could read differently reaches one.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use memchr::memmem;
use pingora_core::apps::{
    HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp as _,
};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::protocols::{Shutdown, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::{HttpProxy, Session};
use portcullis_config::{ClientCertificates, Limits};
use portcullis_policy::{Denial, Host};
use rustls::pki_types::CertificateDer;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::body_clock;
use super::connections::Load;
use super::head::{self, Head};
use super::inbound::Inbound;
use super::response;
use super::stream::ClientStream;
use super::tls::{Entry, ListenerTls};
use crate::exchange::{Exchange, RequestLine};
use crate::proxy::Proxy;
use crate::snapshot::Snapshot;
use crate::websocket::tunnel::Tunnel;

/// What is known about a connection, for every request on it.
#[derive(Debug)]
pub struct Connection {
    /// Name of the listener.
    pub(crate) listener: Arc<str>,
    /// The other end of the socket.
    pub(crate) peer: SocketAddr,
    /// What the handshake settled; `None` for plain HTTP.
    pub(crate) tls: Option<ConnectionTls>,
    /// There were too many when it was accepted: while there are, its requests are refused.
    pub(crate) is_surplus: bool,
    /// What it has in hand.
    pub(crate) load: Arc<Load>,
    /// What comes in, over HTTP/1.
    pub(crate) inbound: Inbound,
}

/// What a TLS handshake settled.
#[derive(Debug)]
pub(crate) struct ConnectionTls {
    /// Whether the caller was asked for a certificate, and whose it could be.
    client_certificates: ClientCertificates,
    /// What it has shown, with the key to it; empty for nothing.
    chain: Box<[CertificateDer<'static>]>,
    /// Other rules that the chain was judged by, and the verdicts.
    judged: Mutex<Vec<(ClientCertificates, bool)>>,
}

impl ConnectionTls {
    pub(crate) const fn new(
        client_certificates: ClientCertificates,
        chain: Box<[CertificateDer<'static>]>,
    ) -> Self {
        Self {
            client_certificates,
            chain,
            judged: Mutex::new(Vec::new()),
        }
    }

    /// Whether `entry` would have let this caller in.
    fn satisfies(&self, entry: &Entry) -> bool {
        let now = &entry.client_certificates;
        match (&self.client_certificates, now) {
            (ClientCertificates::Off, ClientCertificates::Off) => true,
            (ClientCertificates::Optional(_), ClientCertificates::Optional(_))
                if self.chain.is_empty() =>
            {
                true
            }
            (ClientCertificates::Optional(then), ClientCertificates::Optional(now))
            | (ClientCertificates::Required(then), ClientCertificates::Required(now))
                if is_within(then, now) =>
            {
                true
            }
            (ClientCertificates::Optional(_), ClientCertificates::Optional(_))
            | (ClientCertificates::Required(_), ClientCertificates::Required(_)) => {
                self.is_vouched_for(entry)
            }
            (
                ClientCertificates::Off
                | ClientCertificates::Optional(_)
                | ClientCertificates::Required(_),
                _,
            ) => false,
        }
    }

    /// Authorities have changed: who is vouched for by one that has stayed need not connect anew. That is some
    /// signatures, once for each rule.
    fn is_vouched_for(&self, entry: &Entry) -> bool {
        let rule = &entry.client_certificates;
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, verdict)) = judged.iter().find(|(known, _)| known == rule) {
            return *verdict;
        }
        if judged.len() >= MAX_RULES {
            return false;
        }
        let verdict = entry.vouches_for(&self.chain);
        judged.push((rule.clone(), verdict));
        verdict
    }
}

/// That one connection is judged by, since that costs something: then it has to be made anew.
const MAX_RULES: usize = 16;

impl Connection {
    /// The connection that a request came on.
    pub(crate) fn of(session: &Session) -> Option<&Arc<Self>> {
        let facts = session.digest()?.proxy_digest.as_ref()?;
        facts.user_data.as_ref()?.downcast_ref()
    }

    /// `http` or `https`.
    pub(crate) const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Whether requests for `host` may come on this connection: whoever is asked for a certificate
    /// under that name has to have been asked here, by the same rule (RFC 9110 §7.4). The rule may
    /// have changed since the handshake; then it is the new one that has to be met.
    ///
    /// # Errors
    /// [`Denial::AuthorityMisdirected`]: the caller has to make another connection.
    pub(crate) fn serves(&self, host: &Host, listener: Option<&ListenerTls>) -> Result<(), Denial> {
        let (tls, listener) = match (&self.tls, listener) {
            (Some(tls), Some(listener)) => (tls, listener),
            // The listener's TLS has gone with a reload, and with it the rules to be met.
            (Some(_), None) => return Err(Denial::AuthorityMisdirected),
            (None, _) => return Ok(()),
        };
        let is_met = listener
            .entry(Some(host.as_str()))
            .is_some_and(|entry| tls.satisfies(entry));
        if is_met {
            Ok(())
        } else {
            Err(Denial::AuthorityMisdirected)
        }
    }
}

/// Whether everybody whom `then` vouched for is vouched for `now`.
fn is_within<T: PartialEq>(then: &Arc<[T]>, now: &Arc<[T]>) -> bool {
    Arc::ptr_eq(then, now) || then.iter().all(|authority| now.contains(authority))
}

/// Serves HTTP/1 until the connection ends. The first head has to come within `first_patience`.
pub(crate) async fn serve_http1(
    stream: ClientStream,
    first_patience: Duration,
    connection: &Arc<Connection>,
    proxy: &Arc<HttpProxy<Proxy>>,
    gateway: &crate::gateway::Gateway,
    shutdown: ShutdownWatch,
) {
    let mut stopping = shutdown.clone();
    let mut stopped = pin!(stopped(&mut stopping));
    let mut alarm = pin!(sleep(first_patience));
    let mut stream: Stream = Box::new(stream);
    let mut settings: Option<HttpPersistentSettings> = None;
    let retires = {
        let snapshot = gateway.snapshot();
        Instant::now() + snapshot.config().limits.connection_age
    };
    loop {
        // Copied: a connection that is idle must not keep a generation alive.
        let limits = gateway.snapshot().config().limits.clone();
        let (patience, head_timeout) = match settings {
            // The clock of the first head runs from the start of the connection.
            None => (first_patience, None),
            Some(_) => (limits.idle_timeout, Some(limits.header_timeout)),
        };
        let reading = tell_whether_at_once(head::read(
            &mut stream,
            alarm.as_mut(),
            (patience, head_timeout),
            &limits,
        ));
        let (head, was_at_once) = tokio::select! {
            biased;
            read = reading => read,
            () = stopped.as_mut() => (Head::Ended, false),
        };
        if was_at_once {
            // Others go first: a caller who sends one request after the other without waiting for answers
            // would have the worker to itself.
            yield_now().await;
        }
        let (mut bytes, end, body) = match head {
            Head::Complete(bytes, end, body) => (bytes, end, body),
            Head::Ended => return,
            Head::Refused(denial, bytes) => {
                refuse_head(&mut stream, denial, &bytes, connection, gateway.snapshot()).await;
                return;
            }
        };
        let after_head = bytes.get(end..).unwrap_or_default();
        let Ok(own) = connection.inbound.begin(body, after_head) else {
            let denial = Denial::RequestMalformed;
            refuse_head(&mut stream, denial, &bytes, connection, gateway.snapshot()).await;
            return;
        };
        bytes.truncate(end + own);
        let mut session = ServerSession::new_http1(stream);
        match settings.take() {
            None => {
                session.set_keepalive(Some(0));
                let further = limits.requests_per_connection.saturating_sub(1);
                session.set_keepalive_reuses_remaining(Some(further));
            }
            Some(settings) => settings.apply_to_session(&mut session),
        }
        if Instant::now() >= retires {
            // The answer says so. What is set of its keep-alive is set anew when the head is read.
            session.set_keepalive_reuses_remaining(Some(0));
        }
        session.set_pipelined_prefix(bytes);
        session.set_read_timeout(Some(limits.body_timeout));
        session.set_write_timeout(Some(limits.body_timeout));
        let Some(reused) = proxy.process_new_http(session, &shutdown).await else {
            return;
        };
        connection.inbound.open();
        (stream, settings) = reused.consume();
        let context = settings
            .as_mut()
            .and_then(HttpPersistentSettings::take_user_context);
        if let Some(Ok(tunnel)) = context.map(<Box<dyn Any + Send + Sync>>::downcast::<Tunnel>) {
            tunnel.run(stream, stopped).await;
            return;
        }
    }
}

/// Whether nobody had to wait, beside what came of it.
async fn tell_whether_at_once<T>(future: impl Future<Output = T>) -> (T, bool) {
    let mut future = pin!(future);
    match poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
        Poll::Ready(output) => (output, true),
        Poll::Pending => (future.await, false),
    }
}

/// Resolves when the gateway drains.
async fn stopped(shutdown: &mut ShutdownWatch) {
    // An error says that the sender is gone: then the gateway is, too.
    let _ = shutdown.wait_for(|is_stopping| *is_stopping).await;
}

/// Answers a head that nothing else will see, and ends the connection: where the next request would
/// begin is anybody's guess.
async fn refuse_head(
    stream: &mut Stream,
    denial: Denial,
    bytes: &[u8],
    connection: &Arc<Connection>,
    snapshot: Arc<Snapshot>,
) {
    let line = RequestLine::from_head(bytes);
    let mut exchange = Exchange::new(snapshot);
    exchange.arrive_without_head(connection);
    exchange.refuse(denial.into());
    let answer = response::http1(&exchange, line.has_body_in_response());
    let is_sent = tokio::time::timeout(WRITE_TIMEOUT, async {
        stream.write_all(&answer).await?;
        stream.flush().await
    })
    .await
    .is_ok_and(|written| written.is_ok());
    let body = memmem::find(&answer, b"\r\n\r\n").map_or(0, |end| answer.len() - end - 4);
    let (status, sent) = match is_sent {
        true => (Some(exchange.refused_status()), body),
        false => (None, 0),
    };
    exchange.finish(&line, status, 0, sent as u64);
    Shutdown::shutdown(stream.as_mut()).await;
}

/// For the answer to a head that was refused.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves HTTP/2 until the connection ends.
pub(crate) async fn serve_http2(
    stream: ClientStream,
    proxy: &Arc<HttpProxy<Proxy>>,
    limits: &Limits,
    load: &Load,
    mut shutdown: ShutdownWatch,
) {
    let app = Arc::new(Http2 {
        proxy: Arc::clone(proxy),
        options: {
            let mut options = HttpServerOptions::default();
            options.h2_idle_timeout = Some(limits.idle_timeout);
            options
        },
        limits: http2_options(limits),
        body_timeout: limits.body_timeout,
    });
    // Of this connection alone: once true, it takes no new streams, and ends with those that it has.
    let (retire, retiring) = watch::channel(*shutdown.borrow());
    let mut serving = pin!(app.process_new(Box::new(stream), &retiring));
    tokio::select! {
        _ = &mut serving => return,
        () = sleep(limits.connection_age) => {}
        () = stopped(&mut shutdown) => {}
    }
    retire.send_replace(true);
    // A caller need not take note of it, and h2 goes on with one that never answers its ping. Who begins
    // something new after so long will never stop by itself.
    let mut seen: Option<Seen> = None;
    loop {
        tokio::select! {
            _ = &mut serving => return,
            () = sleep(limits.idle_timeout) => {
                let now = Seen { arrived: load.arrived(), is_idle: load.is_idle() };
                if let Some(before) = seen
                    && (now.arrived != before.arrived || now.is_idle && before.is_idle)
                {
                    return;
                }
                seen = Some(now);
            }
        }
    }
}

/// A connection that was told to end, at one time. What the codec still has of a response is no request any
/// more, so idle is who was found so twice, with no request in between.
struct Seen {
    arrived: u64,
    is_idle: bool,
}

/// Pingora's proxy with the limits of one connection.
struct Http2 {
    proxy: Arc<HttpProxy<Proxy>>,
    options: HttpServerOptions,
    limits: H2Options,
    body_timeout: Duration,
}

/// Streams of one connection that the codec resets for what the caller did wrong with them, in its life; the default
/// is 1,024. Each makes room for another request, while the one before may be at a service already
/// (CVE-2025-8671): nobody has more under way than streams and these.
const FAULTY_STREAMS: usize = 100;

/// Bytes of a response that wait in the codec, for each stream; the default is six times as much.
const SEND_BUFFER: usize = 64 * 1024;

fn http2_options(limits: &Limits) -> H2Options {
    let mut options = default_h2_options();
    // Twice what may come, and HTTP/2's 32 bytes for each field (RFC 9113 §6.5.2): what is too large is
    // refused by the same check as on HTTP/1, with a problem and a line, unless it is beyond reason.
    let list = 2 * (limits.header_bytes + limits.target_bytes) + 32 * limits.headers;
    options.max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX));
    options.max_concurrent_streams(limits.http2_streams);
    options.max_local_error_reset_streams(Some(FAULTY_STREAMS));
    // Of each stream, for a caller who opens a wide window and then reads nothing.
    options.max_send_buffer_size(SEND_BUFFER);
    options
}

#[async_trait]
impl HttpServerApp for Http2 {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        session.set_write_timeout(Some(self.body_timeout));
        session.set_total_drain_timeout(Some(self.body_timeout));
        let serving = self.proxy.process_new_http(session, shutdown);
        body_clock::guard(serving).await.flatten()
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(self.limits.clone())
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

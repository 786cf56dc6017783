//! The accept loop of a listener: from a socket to a connection that speaks HTTP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use portcullis_config::Limits;
use rustls::HandshakeKind;
use socket2::SockRef;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor;

use super::connection::{Connection, ConnectionTls, serve_http1, serve_http2};
use super::connections::{Connections, OpenConnection, Slot};
use super::inbound::Inbound;
use super::stream::{ClientStream, Transport};
use super::tls::ListenerTls;
use crate::gateway::Gateway;
use crate::proxy::Proxy;
use crate::telemetry::metrics::ListenerMetrics;
use crate::telemetry::metrics::labels::Handshake;
use crate::turns::Turns;
use crate::workers::Workers;

/// What every HTTP/2 connection begins with (RFC 9113 §3.4).
pub(super) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Before the next try when no connection can be accepted, as when descriptors or memory run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound socket with all that its connections need.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) name: Arc<str>,
    pub(crate) gateway: Arc<Gateway>,
    /// The socket was bound to speak TLS: whatever is configured since, it never does without.
    pub(crate) is_tls: bool,
    pub(crate) metrics: ListenerMetrics,
    pub(crate) connections: Arc<Connections>,
    /// True once the gateway drains: connections finish what is in flight, and end.
    pub(crate) shutdown: ShutdownWatch,
}

impl Listener {
    /// Accepts until the returned future is dropped. Connections go on without it, on `workers`; none
    /// of them keeps the workers alive.
    pub(crate) async fn accept(self, socket: TcpListener, workers: Arc<Workers>) {
        loop {
            while self.gateway.overload().closes_connections() {
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            let slot = self.connections.slot().await;
            match socket.accept().await {
                Ok((tcp, peer)) => self.hand_over(tcp, peer, slot, &workers),
                Err(error) => {
                    // Waiting keeps the loop from spinning while descriptors are short.
                    if is_shortage(&error) {
                        if self.connections.may_tell() {
                            tracing::warn!(portcullis.listener = &*self.name, error.message = %error, "connection not accepted");
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    /// Puts a connection on the worker whose turn it is, for as long as it lasts.
    fn hand_over(&self, tcp: TcpStream, peer: SocketAddr, slot: Slot, workers: &Workers) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let Some(open) = self.enter(peer.ip(), slot) else {
            return;
        };
        let (Ok(tcp), Some(worker)) = (tcp.into_std(), workers.next()) else {
            return;
        };
        let (listener, proxy) = (self.clone(), Arc::clone(&worker.proxy));
        let handshakes = worker.handshakes.clone();
        worker.runtime.spawn(async move {
            let _counted = listener.metrics.connection_accepted();
            // The socket belongs to this runtime from here on.
            if let Ok(tcp) = TcpStream::from_std(tcp) {
                tokio::select! {
                    () = listener.serve(tcp, peer, &open, &proxy, &handshakes) => {}
                    () = open.load().cut() => {}
                }
            }
            if open.load().has_flooded() {
                listener.flooded(peer);
            }
            drop(open);
        });
    }

    /// `None` for an address that has too many already.
    fn enter(&self, address: IpAddr, slot: Slot) -> Option<OpenConnection> {
        let snapshot = self.gateway.snapshot();
        let config = snapshot.config();
        let is_trusted = config
            .trusted_proxies
            .iter()
            .any(|net| net.contains(&address));
        let most = config.limits.connections_per_address;
        let open = self.connections.enter(slot, address, is_trusted, most);
        if open.is_none() {
            self.metrics.connection_refused();
            if self.connections.may_tell() {
                tracing::warn!(portcullis.listener = &*self.name, client.address = %address, "connection refused: its address has too many");
            }
        }
        open
    }

    /// An HTTP/2 connection was closed for the frames that came on it.
    fn flooded(&self, peer: SocketAddr) {
        self.metrics.connection_flooded();
        if self.connections.may_tell() {
            tracing::warn!(portcullis.listener = &*self.name, client.address = %peer.ip(), "connection closed: too many HTTP/2 control frames");
        }
    }

    async fn serve(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        open: &OpenConnection,
        proxy: &Arc<HttpProxy<Proxy>>,
        handshakes: &Turns,
    ) {
        // What the connection needs of its generation is copied: one that stays open for days must
        // not keep the generation alive.
        let (limits, tls, is_surplus) = {
            let snapshot = self.gateway.snapshot();
            let tls = snapshot.listener_tls(&self.name).map(Arc::clone);
            let config = snapshot.config();
            let is_surplus = self.connections.is_crowded(config);
            if is_surplus {
                self.gateway.overload().crowded(true);
            }
            (config.limits.clone(), tls, is_surplus)
        };
        // Responses are gathered into segments here; the kernel must not wait for more.
        let _ = tcp.set_nodelay(true);
        // What a caller does not take is not kept for longer than this, whoever has it: HTTP/2's
        // codec, or the kernel after the connection was closed (RFC 5482).
        let _ = SockRef::from(&tcp).set_tcp_user_timeout(Some(limits.body_timeout));
        let established = match tls {
            Some(tls) => self.handshake(tcp, &tls, &limits, handshakes).await,
            // The listener has lost its TLS, or has gone, with a reload.
            None if self.is_tls => None,
            None => Some((Transport::Plain(tcp), None, Spoken::Unknown)),
        };
        if let Some((transport, tls, spoken)) = established {
            let connection = Arc::new(Connection {
                listener: Arc::clone(&self.name),
                peer,
                tls,
                is_surplus,
                load: Arc::clone(open.load()),
                inbound: Inbound::default(),
            });
            self.serve_http(transport, spoken, &connection, proxy, &limits)
                .await;
        }
    }

    async fn handshake(
        &self,
        tcp: TcpStream,
        tls: &ListenerTls,
        limits: &Limits,
        turns: &Turns,
    ) -> Option<(Transport, Option<ConnectionTls>, Spoken)> {
        match timeout(limits.handshake_timeout, handshake(tcp, tls, turns)).await {
            Ok(Ok((transport, facts, spoken))) => {
                self.metrics.handshake_ended(Handshake::Completed);
                Some((transport, Some(facts), spoken))
            }
            Ok(Err(error)) => {
                self.metrics.handshake_ended(Handshake::Failed);
                tracing::debug!(portcullis.listener = &*self.name, error.message = %error, "handshake failed");
                None
            }
            Err(_) => {
                self.metrics.handshake_ended(Handshake::TimedOut);
                None
            }
        }
    }

    /// The first bytes have a deadline of their own: until they are there, no other one runs.
    async fn serve_http(
        &self,
        mut transport: Transport,
        spoken: Spoken,
        connection: &Arc<Connection>,
        proxy: &Arc<HttpProxy<Proxy>>,
        limits: &Limits,
    ) {
        let deadline = Instant::now() + limits.header_timeout;
        let first = match spoken {
            Spoken::Http1 => Bytes::new(),
            // Without TLS, HTTP/2 is spoken with prior knowledge (RFC 9113 §3.3): its preface is no
            // request of HTTP/1.
            Spoken::Http2 | Spoken::Unknown => {
                let first = tokio::select! {
                    first = timeout_at(deadline, first_bytes(&mut transport)) => first,
                    () = self.draining() => return,
                };
                let Ok(Ok(first)) = first else {
                    return;
                };
                first
            }
        };
        let is_http2 = first == HTTP2_PREFACE;
        if spoken == Spoken::Http2 && !is_http2 {
            return;
        }
        let http2 = is_http2.then_some(limits.header_timeout);
        let stream = ClientStream::new(transport, first, http2, Arc::clone(connection));
        let shutdown = self.shutdown.clone();
        if is_http2 {
            serve_http2(stream, proxy, limits, &connection.load, shutdown).await;
        } else {
            let patience = deadline.saturating_duration_since(Instant::now());
            let gateway = &self.gateway;
            serve_http1(stream, patience, connection, proxy, gateway, shutdown).await;
        }
    }

    async fn draining(&self) {
        let mut shutdown = self.shutdown.clone();
        let _ = shutdown.wait_for(|is_stopping| *is_stopping).await;
    }
}

/// What a handshake has settled about the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Http1,
    Http2,
    /// There was none.
    Unknown,
}

/// Reads until it is clear whether HTTP/2 is spoken.
async fn first_bytes(transport: &mut Transport) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(HTTP2_PREFACE.len());
    while bytes.len() < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(&bytes) {
        let mut rest = (&mut *transport).take((HTTP2_PREFACE.len() - bytes.len()) as u64);
        if rest.read_buf(&mut bytes).await? == 0 {
            break;
        }
    }
    Ok(bytes.into())
}

async fn handshake(
    tcp: TcpStream,
    tls: &ListenerTls,
    turns: &Turns,
) -> io::Result<(Transport, ConnectionTls, Spoken)> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
    let entry = tls
        .entry(start.client_hello().server_name())
        .ok_or_else(|| io::Error::other("no certificate"))?;
    // Nothing before this takes long, so a hello that drips takes no turn from anybody.
    let stream = turns
        .begin(start.into_stream(Arc::clone(&entry.server)))
        .await?;
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    // A session that is resumed brings along what was shown then, and nobody has looked at it since.
    let is_resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    if is_resumed && !chain.is_empty() && !entry.vouches_for(chain) {
        return Err(io::Error::other(
            "the certificate of a resumed session is good no longer",
        ));
    }
    let facts = ConnectionTls::new(entry.client_certificates.clone(), chain.into());
    let spoken = match session.alpn_protocol() {
        Some(b"h2") => Spoken::Http2,
        Some(_) | None => Spoken::Http1,
    };
    Ok((Transport::Tls(Box::new(stream)), facts, spoken))
}

/// Whether the gateway is short of something, rather than the caller gone before it was accepted.
fn is_shortage(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

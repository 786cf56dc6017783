//! The accept loop of a listener: from a socket to a connection that speaks HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use portcullis_config::Limits;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor;

use super::connection::{Connection, ConnectionTls, serve_http1, serve_http2};
use super::stream::{ClientStream, Transport};
use super::tls::ListenerTls;
use crate::gateway::Gateway;
use crate::proxy::Proxy;
use crate::telemetry::metrics::ListenerMetrics;
use crate::telemetry::metrics::labels::Handshake;

/// What every HTTP/2 connection begins with (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Before the next try when no connection can be accepted, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound socket with all that its connections need.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) name: Arc<str>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) proxy: Arc<HttpProxy<Proxy>>,
    pub(crate) metrics: ListenerMetrics,
    pub(crate) slots: Arc<ConnectionSlots>,
    /// True once the gateway drains: connections finish what is in flight, and end.
    pub(crate) shutdown: ShutdownWatch,
}

/// One slot for each open connection, all listeners together.
#[derive(Debug)]
pub(crate) struct ConnectionSlots {
    free: Arc<Semaphore>,
    size: Mutex<usize>,
}

/// An open connection's slot.
#[derive(Debug)]
pub(crate) struct Slot(
    #[expect(dead_code, reason = "held, and given back when dropped")] Option<OwnedSemaphorePermit>,
);

impl ConnectionSlots {
    pub(crate) fn new(size: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(size)),
            size: Mutex::new(size),
        }
    }

    async fn acquire(&self) -> Slot {
        // Never closed, so this always gets one.
        Slot(Arc::clone(&self.free).acquire_owned().await.ok())
    }

    /// How many connections are open.
    pub(crate) fn in_use(&self) -> usize {
        let size = *self.size.lock().unwrap_or_else(PoisonError::into_inner);
        // Each accept loop holds one while it waits.
        size.saturating_sub(self.free.available_permits())
    }

    /// Changes how many there are. Connections that are open stay; of a smaller number, what is in
    /// use is given up with the next change.
    pub(crate) fn resize(&self, wanted: usize) {
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted > *size {
            self.free.add_permits(wanted - *size);
            *size = wanted;
        } else {
            *size -= self.free.forget_permits(*size - wanted);
        }
    }
}

impl Listener {
    /// Accepts until the returned future is dropped. Connections go on without it.
    pub(crate) async fn accept(self, socket: TcpListener) {
        loop {
            let slot = self.slots.acquire().await;
            match socket.accept().await {
                Ok((tcp, peer)) => {
                    let listener = self.clone();
                    tokio::spawn(async move {
                        let _open = listener.metrics.connection_accepted();
                        listener.serve(tcp, peer).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    // Waiting keeps the loop from spinning while descriptors are short.
                    if is_shortage(&error) {
                        tracing::warn!(portcullis.listener = &*self.name, error.message = %error, "connection not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    async fn serve(&self, tcp: TcpStream, peer: SocketAddr) {
        // Responses are gathered into segments here; the kernel must not wait for more.
        let _ = tcp.set_nodelay(true);
        let snapshot = self.gateway.snapshot();
        let limits = &snapshot.config().limits;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        match snapshot.listener_tls(&self.name) {
            Some(tls) => self.serve_tls(tcp, peer, tls, limits).await,
            None => self.serve_plain(tcp, peer, limits).await,
        }
    }

    async fn serve_tls(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        tls: &ListenerTls,
        limits: &Limits,
    ) {
        let handshake = timeout(limits.handshake_timeout, handshake(tcp, tls)).await;
        let (transport, facts, is_http2) = match handshake {
            Ok(Ok(established)) => {
                self.metrics.handshake_ended(Handshake::Completed);
                established
            }
            Ok(Err(error)) => {
                self.metrics.handshake_ended(Handshake::Failed);
                tracing::debug!(portcullis.listener = &*self.name, error.message = %error, "handshake failed");
                return;
            }
            Err(_) => {
                self.metrics.handshake_ended(Handshake::TimedOut);
                return;
            }
        };
        self.serve_http(transport, Bytes::new(), is_http2, peer, Some(facts), limits)
            .await;
    }

    /// HTTP/2 without TLS is spoken with prior knowledge (RFC 9113 §3.3): its preface is no request.
    async fn serve_plain(&self, mut tcp: TcpStream, peer: SocketAddr, limits: &Limits) {
        let first = tokio::select! {
            first = timeout(limits.header_timeout, first_bytes(&mut tcp)) => first,
            () = self.draining() => return,
        };
        let Ok(Ok(first)) = first else {
            return;
        };
        let is_http2 = first == HTTP2_PREFACE;
        self.serve_http(Transport::Plain(tcp), first, is_http2, peer, None, limits)
            .await;
    }

    async fn serve_http(
        &self,
        transport: Transport,
        replay: Bytes,
        is_http2: bool,
        peer: SocketAddr,
        tls: Option<ConnectionTls>,
        limits: &Limits,
    ) {
        let connection = Arc::new(Connection {
            listener: Arc::clone(&self.name),
            peer,
            tls,
        });
        let stream = ClientStream::new(transport, replay, is_http2, Arc::clone(&connection));
        let shutdown = self.shutdown.clone();
        if is_http2 {
            serve_http2(stream, &self.proxy, limits, shutdown).await;
        } else {
            serve_http1(stream, &connection, &self.proxy, &self.gateway, shutdown).await;
        }
    }

    async fn draining(&self) {
        let mut shutdown = self.shutdown.clone();
        let _ = shutdown.wait_for(|is_stopping| *is_stopping).await;
    }
}

/// Reads until it is clear whether HTTP/2 is spoken.
async fn first_bytes(tcp: &mut TcpStream) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(HTTP2_PREFACE.len());
    while bytes.len() < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(&bytes) {
        let mut rest = tcp.take((HTTP2_PREFACE.len() - bytes.len()) as u64);
        if rest.read_buf(&mut bytes).await? == 0 {
            break;
        }
    }
    Ok(bytes.into())
}

type Established = (Transport, ConnectionTls, bool);

async fn handshake(tcp: TcpStream, tls: &ListenerTls) -> io::Result<Established> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
    let entry = tls
        .entry(start.client_hello().server_name())
        .ok_or_else(|| io::Error::other("no certificate"))?;
    let stream = start.into_stream(Arc::clone(&entry.server)).await?;
    let (_, session) = stream.get_ref();
    let facts = ConnectionTls {
        client_certificates: entry.client_certificates.clone(),
        has_client_certificate: session
            .peer_certificates()
            .is_some_and(|chain| !chain.is_empty()),
    };
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    Ok((Transport::Tls(Box::new(stream)), facts, is_http2))
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

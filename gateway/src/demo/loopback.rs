//! A small HTTP/1.1 server on loopback, for the demo's issuer and its services.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A bound socket that does not answer yet. Whoever answers on it may need to know its address first.
pub(super) struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Takes a free port of `127.0.0.1`.
    pub(super) async fn bind() -> io::Result<Bound> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Bound { listener, address })
    }

    /// Where callers will find it.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers every request with `respond`, over TLS when there is an acceptor.
    pub(super) fn serve<R, F>(self, tls: Option<TlsAcceptor>, respond: R) -> Loopback
    where
        R: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(self.listener, tls, respond));
        Loopback { _tasks: tasks }
    }
}

/// A running server. Dropping it closes its socket and all of its connections.
pub(super) struct Loopback {
    _tasks: JoinSet<()>,
}

async fn accept<R, F>(listener: TcpListener, tls: Option<TlsAcceptor>, respond: R)
where
    R: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Small answers are not worth waiting for more to send.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(serve_stream(stream, tls.clone(), respond.clone()));
                }
                // No descriptors left, most likely: the next attempt would fail at once as well.
                Err(_) => tokio::time::sleep(PAUSE_AFTER_ACCEPT_ERROR).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_stream<R, F>(stream: TcpStream, tls: Option<TlsAcceptor>, respond: R)
where
    R: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    match tls {
        None => serve_connection(stream, respond).await,
        Some(acceptor) => {
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
            if let Ok(Ok(stream)) = handshake {
                serve_connection(stream, respond).await;
            }
        }
    }
}

async fn serve_connection<S, R, F>(stream: S, respond: R)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    R: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Full<Bytes>>>,
{
    let service = service_fn(move |request| {
        let response = respond(request);
        async { Ok::<_, Infallible>(response.await) }
    });
    // A connection that breaks is the caller's affair; nobody here could do anything about it.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE_AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(50);

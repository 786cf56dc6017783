//! The admin listener: `/metrics`, `/healthz`, `/readyz` and `/status`, read only.
//!
//! It has a thread and a runtime of its own, so that it answers while the data plane is saturated,
//! and so that a slow scraper costs the data plane nothing. It shares no code with the public
//! listeners: nothing that arrives there can reach it.
//!
//! Each connection serves one request and has a deadline, and their number is bounded: that is all
//! the protection it has, so it binds to loopback unless the configuration says that it is dangerous.

pub mod status;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use status::{Readiness, StatusSource};

/// Connections at a time; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 256;

/// For the head of the request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);

/// For a whole connection, the response included.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// A request here is one line and a few headers.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Before the next try when a connection cannot be accepted, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROMETHEUS_TEXT: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The running admin listener. It stops when this is dropped.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Serves on a bound socket.
    ///
    /// # Errors
    /// When the runtime or its thread cannot be started, or the socket cannot be used.
    pub fn start(
        listener: std::net::TcpListener,
        source: Arc<dyn StatusSource>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        never = serve(listener, source) => match never {},
                        _ = stopped => {}
                    }
                });
            })?;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        // The source may own this: then the admin thread itself can be the last to let go of it.
        if let Some(thread) = self
            .thread
            .take()
            .filter(|thread| thread.thread().id() != thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, source: Arc<dyn StatusSource>) -> Infallible {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Never closed, so this always gets one.
        let slot = Arc::clone(&slots).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let source = Arc::clone(&source);
                tokio::spawn(async move {
                    // A caller that breaks off or runs out of time is nobody's trouble but its own.
                    let _ = timeout(CONNECTION_TIMEOUT, serve_connection(stream, source)).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(error.message = %error, "admin connection not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, source: Arc<dyn StatusSource>) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &*source);
        async { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

/// The answer to a request; hyper leaves the body of an answer to `HEAD` out.
fn respond(method: &Method, path: &str, source: &dyn StatusSource) -> Response<Full<Bytes>> {
    if !matches!(path, "/metrics" | "/healthz" | "/readyz" | "/status") {
        return text(StatusCode::NOT_FOUND, "not found\n");
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => match source.metrics() {
            Ok(metrics) => response(StatusCode::OK, PROMETHEUS_TEXT, metrics.into()),
            Err(error) => internal_error(&error),
        },
        "/readyz" => readiness(source.readiness()),
        "/status" => json(StatusCode::OK, &source.status()),
        _ => text(StatusCode::OK, "ok\n"),
    }
}

#[derive(Serialize)]
struct ReadinessBody {
    ready: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waiting_for: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
}

fn readiness(readiness: Readiness) -> Response<Full<Bytes>> {
    let body = |ready, waiting_for, state| ReadinessBody {
        ready,
        waiting_for,
        state,
    };
    match readiness {
        Readiness::Ready => json(StatusCode::OK, &body(true, Vec::new(), None)),
        Readiness::WaitingFor(parts) => {
            json(StatusCode::SERVICE_UNAVAILABLE, &body(false, parts, None))
        }
        Readiness::Draining => json(
            StatusCode::SERVICE_UNAVAILABLE,
            &body(false, Vec::new(), Some("draining")),
        ),
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(body) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            response(status, JSON, bytes.into())
        }
        // A path that is not UTF-8 has no JSON.
        Err(error) => internal_error(&error),
    }
}

fn internal_error(error: &dyn std::error::Error) -> Response<Full<Bytes>> {
    tracing::error!(error.message = %error, "admin page not rendered");
    text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    response(status, TEXT, Bytes::from_static(body.as_bytes()))
}

fn response(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;

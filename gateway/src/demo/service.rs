//! A service behind the gateway: it tells what it was sent, and talks to nobody without a certificate.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::loopback::{Bound, Loopback};

/// An echo service behind mutual TLS.
pub(super) struct Service {
    name: &'static str,
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    _server: Loopback,
}

impl Service {
    /// Starts it on a free loopback port.
    ///
    /// # Errors
    /// No port could be had.
    pub(super) async fn start(name: &'static str, tls: Arc<ServerConfig>) -> io::Result<Service> {
        let bound = Bound::bind().await?;
        let address = bound.address();
        let requests = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&requests);
        let server = bound.serve(Some(TlsAcceptor::from(tls)), move |request| {
            counter.fetch_add(1, Ordering::Relaxed);
            echo(name, request)
        });
        Ok(Service {
            name,
            address,
            requests,
            _server: server,
        })
    }

    /// What the gateway calls this upstream.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests have reached it.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// What a service tells about a request. A header field is one string, `name: value`, so that
/// repeated fields and their order stay visible.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The service's name.
    pub(super) service: String,
    /// The request's method.
    pub(super) method: String,
    /// The request's target: path and query.
    pub(super) path: String,
    /// Every header field.
    pub(super) headers: Vec<String>,
    /// The length of the body.
    pub(super) body_bytes: usize,
    /// Every trailer field.
    pub(super) trailers: Vec<String>,
}

async fn echo(service: &str, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, mut body) = request.into_parts();
    let mut body_bytes = 0;
    let mut trailers = HeaderMap::new();
    while let Some(Ok(frame)) = body.frame().await {
        match frame.into_data() {
            Ok(data) => body_bytes += data.len(),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    let seen = Seen {
        service: service.to_owned(),
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: fields(&head.headers),
        body_bytes,
        trailers: fields(&trailers),
    };
    match serde_json::to_string_pretty(&seen) {
        Ok(json) => {
            let mut response = Response::new(Full::from(format!("{json}\n")));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(_) => {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

fn fields(headers: &HeaderMap) -> Vec<String> {
    headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect()
}

//! A service that keeps every byte that it receives.

mod http1;
mod http2;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::{Authority, Certificate, eventually, install_crypto_provider};

/// A recording service.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// What a service does with a request.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// Answers.
    Respond(Response),
    /// Answers with the request's body.
    Echo,
    /// Writes these bytes in place of a response and keeps the connection open.
    Write(Vec<u8>),
    /// Writes these bytes (perhaps none) and closes.
    WriteAndClose(Vec<u8>),
    /// Writes these bytes (perhaps none) and resets the connection.
    WriteAndReset(Vec<u8>),
    /// Never answers.
    Stall,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
    delay: Duration,
}

impl Response {
    /// An empty answer with this status.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
            delay: Duration::ZERO,
        }
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Adds a trailer field (HTTP/2 only).
    #[must_use]
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Waits before answering.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

impl From<Response> for Behaviour {
    fn from(response: Response) -> Self {
        Self::Respond(response)
    }
}

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Number of the connection, from 0.
    pub connection: usize,
    /// The head byte for byte, up to and with the empty line. Empty with HTTP/2.
    pub head: Vec<u8>,
    /// Method.
    pub method: String,
    /// Request target, byte for byte (HTTP/2: `:path`).
    pub target: String,
    /// Names as they were spelled, and values, in order (HTTP/2: with `:authority` as `host`).
    pub fields: Vec<(String, String)>,
    /// The body, decoded from its framing.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
    /// The client's certificate, DER.
    pub client_certificate: Option<Vec<u8>>,
}

impl Received {
    /// All values of a field.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The only value of a field, or `None`.
    ///
    /// # Panics
    /// When there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.headers(name);
        assert!(values.len() <= 1, "several {name}: {values:?}");
        values.first().copied()
    }

    /// Names that a lax service would read as `name`: any case, and any mark for `-`, as CGI and its
    /// heirs do.
    pub fn spellings_of(&self, name: &str) -> Vec<&str> {
        let fold = |text: &str| {
            text.to_ascii_lowercase()
                .replace(|c: char| !c.is_ascii_alphanumeric(), "-")
        };
        self.fields
            .iter()
            .chain(&self.trailers)
            .map(|(known, _)| known.as_str())
            .filter(|known| fold(known) == fold(name))
            .collect()
    }

    /// The head as text.
    pub fn head_text(&self) -> String {
        String::from_utf8_lossy(&self.head).into_owned()
    }
}

/// Says what a service is like.
#[derive(Debug, Default)]
pub struct ServiceBuilder {
    address: Option<SocketAddr>,
    http2: bool,
    certificate: Option<Certificate>,
    client_authority: Option<String>,
}

#[derive(Debug)]
struct Shared {
    http2: bool,
    acceptor: Mutex<Option<Arc<ServerConfig>>>,
    received: Mutex<Vec<Received>>,
    next: Mutex<VecDeque<Behaviour>>,
    always: Mutex<Behaviour>,
    connections: AtomicUsize,
    bytes: AtomicU64,
}

impl ServiceBuilder {
    /// Listens there, and not on a free port of loopback.
    #[must_use]
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Speaks HTTP/2: after ALPN over TLS, with prior knowledge in the clear.
    #[must_use]
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Speaks TLS with this certificate.
    #[must_use]
    pub fn tls(mut self, certificate: &Certificate) -> Self {
        self.certificate = Some(certificate.clone());
        self
    }

    /// Demands a client certificate of this authority.
    #[must_use]
    pub fn demand_client_certificate(mut self, authority: &Authority) -> Self {
        self.client_authority = Some(authority.certificate_pem());
        self
    }

    /// Starts listening.
    pub async fn start(self) -> Service {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(self.address.unwrap_or(loopback))
            .await
            .unwrap();
        let tls = self.certificate.as_ref().map(|certificate| {
            server_config(certificate, self.client_authority.as_deref(), self.http2)
        });
        let shared = Shared {
            http2: self.http2,
            acceptor: Mutex::new(tls),
            received: Mutex::default(),
            next: Mutex::default(),
            always: Mutex::new(Response::new(200).body("hello from the service\n").into()),
            connections: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
        };
        let service = Service {
            address: listener.local_addr().unwrap(),
            shared: Arc::new(shared),
            accepting: Mutex::new(None),
        };
        service.accept_on(listener);
        service
    }
}

impl Service {
    /// A service in the clear that speaks HTTP/1.1 and answers 200.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// For a service that is something else.
    pub fn builder() -> ServiceBuilder {
        ServiceBuilder::default()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does this with the next request that nothing else was said about.
    pub fn next(&self, behaviour: impl Into<Behaviour>) {
        self.shared.next.lock().unwrap().push_back(behaviour.into());
    }

    /// Does this with every request that nothing else was said about.
    pub fn always(&self, behaviour: impl Into<Behaviour>) {
        *self.shared.always.lock().unwrap() = behaviour.into();
    }

    /// Every complete request so far.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// How many complete requests there were.
    pub fn request_count(&self) -> usize {
        self.shared.received.lock().unwrap().len()
    }

    /// The latest request.
    ///
    /// # Panics
    /// When there was none.
    pub fn last_request(&self) -> Received {
        self.requests()
            .pop()
            .expect("no request reached the service")
    }

    /// Waits for this many requests.
    pub async fn wait_for_requests(&self, count: usize) -> Vec<Received> {
        eventually(&format!("{count} requests at the service"), || async {
            let requests = self.requests();
            (requests.len() >= count).then_some(requests)
        })
        .await
    }

    /// Forgets what it has received.
    pub fn forget(&self) {
        self.shared.received.lock().unwrap().clear();
        self.shared.bytes.store(0, Ordering::SeqCst);
    }

    /// How many connections were accepted (TLS: and completed their handshake).
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many bytes arrived on them, complete requests or not (HTTP/1.1 only).
    pub fn bytes_received(&self) -> u64 {
        self.shared.bytes.load(Ordering::SeqCst)
    }

    /// Asserts that nothing at all has arrived.
    pub fn assert_untouched(&self) {
        let requests = self.requests();
        assert!(requests.is_empty(), "the service received {requests:?}");
        assert_eq!(
            self.bytes_received(),
            0,
            "the service received part of a request"
        );
    }

    /// Presents another certificate from the next connection on.
    pub fn present(&self, certificate: &Certificate, client_authority: &Authority) {
        let config = server_config(
            certificate,
            Some(&client_authority.certificate_pem()),
            self.shared.http2,
        );
        *self.shared.acceptor.lock().unwrap() = Some(config);
    }

    /// Closes the listener and every connection.
    pub async fn take_down(&self) {
        let task = self.accepting.lock().unwrap().take();
        if let Some(task) = task {
            task.abort();
            // An error is the cancellation that was asked for.
            let _ = task.await;
        }
    }

    /// Listens again, on the same port.
    pub async fn bring_up(&self) {
        let listener = eventually("binding the service's address again", || async {
            TcpListener::bind(self.address).await.ok()
        })
        .await;
        self.accept_on(listener);
    }

    fn accept_on(&self, listener: TcpListener) {
        let task = tokio::spawn(accept(listener, Arc::clone(&self.shared)));
        *self.accepting.lock().unwrap() = Some(task);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(task) = self.accepting.lock().unwrap().take() {
            task.abort();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        // An error is a connection that is already gone.
        let _ = stream.set_nodelay(true);
        connections.spawn(serve(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let config = shared.acceptor.lock().unwrap().clone();
    let Some(config) = config else {
        let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
        return shared.serve(stream, connection, None).await;
    };
    let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else {
        return;
    };
    let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(|leaf| leaf.as_ref().to_vec());
    shared.serve(stream, connection, certificate).await;
}

impl Shared {
    async fn serve<S>(self: Arc<Self>, stream: S, connection: usize, certificate: Option<Vec<u8>>)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + http1::Linger + 'static,
    {
        if self.http2 {
            http2::serve(self, stream, connection, certificate).await;
        } else {
            http1::serve(self, stream, connection, certificate).await;
        }
    }

    fn record(&self, received: Received) -> Behaviour {
        self.received.lock().unwrap().push(received);
        let next = self.next.lock().unwrap().pop_front();
        next.unwrap_or_else(|| self.always.lock().unwrap().clone())
    }
}

fn server_config(
    certificate: &Certificate,
    client_authority: Option<&str>,
    http2: bool,
) -> Arc<ServerConfig> {
    install_crypto_provider();
    let builder = ServerConfig::builder();
    let builder = match client_authority {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
                .unwrap();
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(certificate.private_key_pem.as_bytes()).unwrap();
    let chain = vec![CertificateDer::from(certificate.der.clone())];
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![if http2 {
        b"h2".to_vec()
    } else {
        b"http/1.1".to_vec()
    }];
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Connection, Http2Connection, Leaf, TlsOptions};

    const REQUEST: &str = "POST /a//%2e HTTP/1.1\r\nHost:  h\r\nX_y: 1\r\nx-Y: 2\r\n\
                           Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n";

    #[tokio::test]
    async fn requests_are_kept_byte_for_byte() {
        let service = Service::start().await;
        service.next(Behaviour::Echo);
        let mut connection = Connection::open(service.address()).await;
        let response = connection.request(REQUEST).await;
        assert_eq!((response.status, response.text().as_str()), (200, "abc"));
        let received = service.last_request();
        assert!(REQUEST.as_bytes().starts_with(&received.head));
        assert_eq!(received.target, "/a//%2e");
        assert_eq!(received.spellings_of("x-y"), ["X_y", "x-Y"]);
        assert_eq!(received.trailers, [("X-T".to_owned(), "1".to_owned())]);
        assert_eq!(service.bytes_received(), REQUEST.len() as u64);
    }

    #[tokio::test]
    async fn connections_break_in_the_way_that_was_asked_for() {
        let service = Service::start().await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec();
        for behaviour in [
            Behaviour::WriteAndClose(head.clone()),
            Behaviour::WriteAndReset(head.clone()),
        ] {
            service.next(behaviour);
            let mut connection = Connection::open(service.address()).await;
            let response = connection.request(REQUEST).await;
            assert_eq!(
                (response.is_complete, response.text().as_str()),
                (false, "half")
            );
        }
        service.take_down().await;
        assert!(TcpStream::connect(service.address()).await.is_err());
        service.bring_up().await;
        let mut connection = Connection::open(service.address()).await;
        assert_eq!(connection.request(REQUEST).await.status, 200);
    }

    #[tokio::test]
    async fn http2_carries_trailers_both_ways_behind_mutual_tls() {
        let authority = Authority::new("internal");
        let service = Service::builder()
            .http2()
            .tls(&authority.issue_for("orders.internal"))
            .demand_client_certificate(&authority)
            .start()
            .await;
        service.next(Response::new(200).body("ok").trailer("grpc-status", "0"));
        let caller = authority.issue(Leaf::new("gateway"));
        let options = TlsOptions::new(&authority, "orders.internal").with_certificate(&caller);
        let mut connection = Http2Connection::open_tls(service.address(), &options).await;
        let response = connection
            .request(
                "POST",
                "https://orders.internal/a?b",
                &[("x", "1")],
                b"in",
                &[("t", "1")],
            )
            .await
            .unwrap();
        assert_eq!(response.trailers["grpc-status"], "0");
        let received = service.last_request();
        assert_eq!(received.target, "/a?b");
        assert_eq!(received.header("host"), Some("orders.internal"));
        assert_eq!(received.trailers, [("t".to_owned(), "1".to_owned())]);
        assert_eq!(received.client_certificate, Some(caller.der));
    }
}

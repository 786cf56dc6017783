//! HTTP/1.1 by the byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{Authority, Certificate, DEADLINE, install_crypto_provider};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection that sends exactly what it is given.
pub struct Connection {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("unread", &self.unread)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects in the clear.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: Box::new(stream),
            unread: Vec::new(),
        }
    }

    /// Connects in the clear, from this address of loopback.
    pub async fn open_from(local: &str, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        let local = SocketAddr::new(local.parse().unwrap(), 0);
        socket.bind(local).unwrap();
        Self {
            stream: Box::new(socket.connect(address).await.unwrap()),
            unread: Vec::new(),
        }
    }

    /// Connects in the clear, with room for a few bytes that nobody has read yet.
    pub async fn open_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self {
            stream: Box::new(socket.connect(address).await.unwrap()),
            unread: Vec::new(),
        }
    }

    /// Connects with TLS.
    ///
    /// # Errors
    /// When the handshake fails. With TLS 1.3 a server that refuses a client certificate is only
    /// noticed on the first read.
    pub async fn open_tls(address: SocketAddr, options: &TlsOptions) -> std::io::Result<Self> {
        let stream = options.connect(address).await?;
        Ok(Self {
            stream: Box::new(stream),
            unread: Vec::new(),
        })
    }

    /// Sends these bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends these bytes, unless the other side is gone.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// Sends a request and reads its response.
    pub async fn request(&mut self, bytes: impl AsRef<[u8]>) -> RawResponse {
        self.send(bytes).await;
        self.read_response().await
    }

    /// Reads one response: head, then as much body as the head announces.
    ///
    /// # Panics
    /// When none comes.
    pub async fn read_response(&mut self) -> RawResponse {
        self.try_read_response(true).await.expect("a response")
    }

    /// Reads the response to `HEAD`, which has no body whatever its head announces.
    ///
    /// # Panics
    /// When none comes.
    pub async fn read_head_response(&mut self) -> RawResponse {
        self.try_read_response(false).await.expect("a response")
    }

    /// Reads one response, or `None` when the connection was closed instead.
    pub async fn read_response_or_close(&mut self) -> Option<RawResponse> {
        self.try_read_response(true).await
    }

    async fn try_read_response(&mut self, has_body: bool) -> Option<RawResponse> {
        let end = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill().await {
                assert!(
                    self.unread.is_empty(),
                    "closed within a head: {:?}",
                    String::from_utf8_lossy(&self.unread)
                );
                return None;
            }
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let mut response = RawResponse::parse(head);
        if !has_body || response.status < 200 || matches!(response.status, 204 | 304) {
            return Some(response);
        }
        if response.header("transfer-encoding").is_some() {
            response.is_complete = self.read_chunks(&mut response.body).await;
        } else if let Some(length) = response.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.unread.len() < length && self.fill().await {}
            response.is_complete = self.unread.len() >= length;
            let taken = length.min(self.unread.len());
            response.body = self.unread.drain(..taken).collect();
        } else {
            while self.fill().await {}
            response.body = std::mem::take(&mut self.unread);
        }
        Some(response)
    }

    /// Reads a chunked body; the answer is whether it came to its proper end.
    async fn read_chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(line) = self.read_line().await else {
                return false;
            };
            let size = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16).unwrap();
            if size == 0 {
                while let Some(line) = self.read_line().await {
                    if line.is_empty() {
                        return true;
                    }
                }
                return false;
            }
            while self.unread.len() < size + 2 {
                if !self.fill().await {
                    return false;
                }
            }
            body.extend(self.unread.drain(..size));
            self.unread.drain(..2);
        }
    }

    async fn read_line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.unread, b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..at + 2).collect();
                return Some(String::from_utf8(line[..at].to_vec()).unwrap());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// This many bytes; `None` when the other side closes before.
    pub async fn read_exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.unread.len() < count {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.unread.drain(..count).collect())
    }

    /// Everything until the other side closes.
    pub async fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.unread)
    }

    /// Whether the other side closes, without another byte, before the deadline.
    pub async fn is_closed_within(&mut self, deadline: Duration) -> bool {
        let mut byte = [0];
        match timeout(deadline, self.stream.read(&mut byte)).await {
            Err(_) => false,
            Ok(Ok(0) | Err(_)) => self.unread.is_empty(),
            Ok(Ok(_)) => {
                self.unread.extend(byte);
                false
            }
        }
    }

    /// Closes our half.
    pub async fn finish_sending(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Reads more; false at the end. A reset counts as an end.
    async fn fill(&mut self) -> bool {
        let read = timeout(DEADLINE, self.stream.read_buf(&mut self.unread)).await;
        read.expect("the other side neither answers nor closes")
            .is_ok_and(|count| count > 0)
    }
}

/// A response as it was read.
#[derive(Debug, Clone)]
pub struct RawResponse {
    /// Status code.
    pub status: u16,
    /// Names and values in order, names as they were spelled.
    pub fields: Vec<(String, String)>,
    /// The body, decoded from its framing.
    pub body: Vec<u8>,
    /// Whether the body came to its announced end.
    pub is_complete: bool,
    /// The head, byte for byte.
    pub head: Vec<u8>,
}

impl RawResponse {
    fn parse(head: Vec<u8>) -> Self {
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut lines = text.split("\r\n");
        let status_line = lines.next().unwrap();
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
        let fields = lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (name, value) = line.split_once(':').expect("a field has a colon");
                (name.to_owned(), value.trim().to_owned())
            })
            .collect();
        Self {
            status,
            fields,
            body: Vec::new(),
            is_complete: true,
            head,
        }
    }

    /// The first value of a field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// How to speak TLS to the gateway.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    trust: String,
    server_name: String,
    certificate: Option<Certificate>,
    protocols: Vec<Vec<u8>>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl TlsOptions {
    /// Trusts `authority`, expects (and asks for) `server_name`.
    pub fn new(authority: &Authority, server_name: &str) -> Self {
        Self {
            trust: authority.certificate_pem(),
            server_name: server_name.to_owned(),
            certificate: None,
            protocols: Vec::new(),
            versions: rustls::ALL_VERSIONS,
        }
    }

    /// Presents a client certificate when asked.
    #[must_use]
    pub fn with_certificate(mut self, certificate: &Certificate) -> Self {
        self.certificate = Some(certificate.clone());
        self
    }

    /// Offers these protocols (ALPN).
    #[must_use]
    pub fn with_protocols(mut self, protocols: &[&str]) -> Self {
        self.protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        self
    }

    /// Speaks these TLS versions only.
    #[must_use]
    pub fn with_versions(mut self, versions: &'static [&'static SupportedProtocolVersion]) -> Self {
        self.versions = versions;
        self
    }

    /// Connects and completes the handshake.
    ///
    /// # Errors
    /// When either fails.
    pub async fn connect(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let config = Arc::new(self.client_config());
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.server_name.clone()).unwrap();
        let handshake = TlsConnector::from(config).connect(name, stream);
        timeout(DEADLINE, handshake)
            .await
            .expect("a handshake within the deadline")
    }

    fn client_config(&self) -> ClientConfig {
        install_crypto_provider();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.trust.as_bytes()).unwrap())
            .unwrap();
        let builder = ClientConfig::builder_with_protocol_versions(self.versions)
            .with_root_certificates(roots);
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let key = PrivateKeyDer::from_pem_slice(certificate.private_key_pem.as_bytes());
                let chain = vec![CertificateDer::from(certificate.der.clone())];
                builder.with_client_auth_cert(chain, key.unwrap()).unwrap()
            }
        };
        config.alpn_protocols = self.protocols.clone();
        config
    }
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

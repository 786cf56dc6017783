//! An HTTP/2 client that sends what it is told, trailers too.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::TlsOptions;

type Body = BoxBody<Bytes, Infallible>;

/// One HTTP/2 connection. A clone is the same one, for requests side by side.
#[derive(Debug, Clone)]
pub struct Http2Connection {
    sender: SendRequest<Body>,
}

/// A complete response.
#[derive(Debug, Clone)]
pub struct Http2Response {
    /// Status code.
    pub status: u16,
    /// Header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: HeaderMap,
}

impl Http2Response {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Http2Connection {
    /// Connects with prior knowledge in the clear.
    pub async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    /// Connects with TLS and negotiates `h2`.
    pub async fn open_tls(address: SocketAddr, options: &TlsOptions) -> Self {
        let options = options.clone().with_protocols(&["h2"]);
        let stream = options.connect(address).await.unwrap();
        assert_eq!(
            stream.get_ref().1.alpn_protocol(),
            Some(&b"h2"[..]),
            "h2 was not negotiated"
        );
        Self::over(stream).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        // An error reaches the requests on the connection.
        tokio::spawn(async move { drop(connection.await) });
        Self { sender }
    }

    /// `GET` with these header fields.
    pub async fn get(&mut self, uri: &str, headers: &[(&str, &str)]) -> Http2Response {
        self.request("GET", uri, headers, b"", &[]).await.unwrap()
    }

    /// Any request. The authority is that of `uri`.
    ///
    /// # Errors
    /// When the stream is reset or the connection broken.
    pub async fn request(
        &mut self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        trailers: &[(&str, &str)],
    ) -> hyper::Result<Http2Response> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let full = Full::new(Bytes::from(body.to_vec()));
        let body = if trailers.is_empty() {
            full.boxed()
        } else {
            let trailers = trailers
                .iter()
                .map(|(name, value)| {
                    let name: HeaderName = name.parse().unwrap();
                    let value: HeaderValue = value.parse().unwrap();
                    (name, value)
                })
                .collect();
            full.with_trailers(std::future::ready(Some(Ok(trailers))))
                .boxed()
        };
        let response = self.begin(request.body(body).unwrap()).await?;
        let (parts, body) = response.into_parts();
        let collected = body.collect().await?;
        Ok(Http2Response {
            status: parts.status.as_u16(),
            headers: parts.headers,
            trailers: collected.trailers().cloned().unwrap_or_default(),
            body: collected.to_bytes().to_vec(),
        })
    }

    /// A request whose body may come bit by bit. Returns when the response begins.
    ///
    /// # Errors
    /// When the stream is reset or the connection broken.
    pub async fn begin(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }
}

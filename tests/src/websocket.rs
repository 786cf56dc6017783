//! WebSocket from both sides, by `tungstenite`.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::{WebSocketStream, client_async};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Error, Message};

use crate::DEADLINE;

/// A service that takes WebSockets, each on a thread of its own, so that it answers at once. It sends
/// back what it is sent; to the text `send N` it answers with `N` binary messages of 64 KiB, to
/// `hello` at the end of the path with a message before anybody has asked.
#[derive(Debug)]
pub struct WebSocketService {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    opened: Mutex<Vec<HeaderMap>>,
    ended: AtomicUsize,
    close_codes: Mutex<Vec<u16>>,
}

impl WebSocketService {
    /// Listens on a free port, for as long as the process lives.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_nodelay(true).unwrap();
                let shared = Arc::clone(&serving);
                thread::spawn(move || {
                    // An error is a caller who has left.
                    let _ = serve(stream, &shared);
                    shared.ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The heads of the handshakes so far.
    pub fn handshakes(&self) -> Vec<HeaderMap> {
        self.shared.opened.lock().unwrap().clone()
    }

    /// How many connections have ended.
    pub fn ended(&self) -> usize {
        self.shared.ended.load(Ordering::SeqCst)
    }

    /// The codes with which callers have closed, in order.
    pub fn close_codes(&self) -> Vec<u16> {
        self.shared.close_codes.lock().unwrap().clone()
    }
}

#[expect(clippy::result_large_err, reason = "the library's own types")]
fn serve(stream: std::net::TcpStream, shared: &Shared) -> Result<(), Error> {
    let mut says_hello = false;
    let record = |request: &Request, mut response: Response| {
        shared
            .opened
            .lock()
            .unwrap()
            .push(request.headers().clone());
        says_hello = request.uri().path().ends_with("/hello");
        if let Some(protocols) = request.headers().get("sec-websocket-protocol") {
            let first = protocols.to_str().unwrap().split(',').next().unwrap();
            let first = first.trim().parse().unwrap();
            response
                .headers_mut()
                .insert("sec-websocket-protocol", first);
        }
        Ok(response)
    };
    let mut socket =
        tungstenite::accept_hdr(stream, record).map_err(|_| Error::ConnectionClosed)?;
    if says_hello {
        socket.send(Message::text("hello"))?;
    }
    loop {
        match socket.read()? {
            Message::Text(text) if text.starts_with("send ") => {
                let count: usize = text["send ".len()..].parse().unwrap();
                for _ in 0..count {
                    socket.send(Message::binary(vec![0x55; 64 * 1024]))?;
                }
            }
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message)?,
            Message::Close(frame) => {
                let code = frame.map_or(1005, |frame| frame.code.into());
                shared.close_codes.lock().unwrap().push(code);
            }
            _ => {}
        }
    }
}

/// A caller's end of a WebSocket.
#[derive(Debug)]
pub struct WebSocket<S = TcpStream> {
    /// The fields of the answer that opened it.
    pub head: HeaderMap,
    inner: WebSocketStream<S>,
}

impl WebSocket {
    /// Opens one at `ws://ADDRESS/PATH`, with further header fields.
    ///
    /// # Errors
    /// When the handshake fails; an answer of another status is [`Error::Http`].
    pub async fn open(
        address: SocketAddr,
        path: &str,
        fields: &[(&'static str, &str)],
    ) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Self::open_on(stream, &format!("ws://{address}{path}"), fields).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Opens one on `stream`.
    ///
    /// # Errors
    /// As of [`WebSocket::open`].
    pub async fn open_on(
        stream: S,
        url: &str,
        fields: &[(&'static str, &str)],
    ) -> Result<Self, Error> {
        let mut request = url.into_client_request()?;
        for (name, value) in fields {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let opening = timeout(DEADLINE, client_async(request, stream));
        let (inner, response) = opening.await.expect("an answer to the handshake")?;
        Ok(Self {
            head: response.headers().clone(),
            inner,
        })
    }

    /// Sends a message.
    ///
    /// # Panics
    /// When the WebSocket is closed.
    pub async fn say(&mut self, message: impl Into<Message>) {
        self.inner.send(message.into()).await.unwrap();
    }

    /// The next message, or why there is none.
    ///
    /// # Errors
    /// When the connection is broken, or what came is not WebSocket.
    ///
    /// # Panics
    /// When nothing comes for a long time.
    pub async fn hear(&mut self) -> Result<Message, Error> {
        let next = timeout(DEADLINE, self.inner.next()).await;
        next.expect("a message, or the end")
            .unwrap_or(Err(Error::ConnectionClosed))
    }

    /// Sends a text and expects it back.
    ///
    /// # Panics
    /// When something else comes.
    pub async fn expect_echo(&mut self, text: &str) {
        self.say(text).await;
        assert_eq!(self.hear().await.unwrap(), Message::text(text));
    }

    /// The code that the other side closes with; messages before are dropped.
    ///
    /// # Panics
    /// When it breaks off instead.
    pub async fn hear_close(&mut self) -> u16 {
        loop {
            match self.hear().await.expect("a closing frame") {
                Message::Close(frame) => return frame.map_or(1005, |frame| frame.code.into()),
                _ => continue,
            }
        }
    }

    /// Closes, and waits for the other side to do so.
    pub async fn close(mut self) {
        self.inner.close(None).await.unwrap();
        while self.hear().await.is_ok() {}
    }
}

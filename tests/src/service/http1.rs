//! HTTP/1.1 with a parser that understands little and keeps everything.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{Behaviour, Received, Response, Shared};
use crate::connection::find;

/// A stream that can be made to reset its connection when it is dropped.
pub(super) trait Linger {
    /// Resets instead of closing.
    fn reset_on_drop(&self);
}

impl Linger for TcpStream {
    fn reset_on_drop(&self) {
        self.set_zero_linger().unwrap();
    }
}

impl Linger for TlsStream<TcpStream> {
    fn reset_on_drop(&self) {
        self.get_ref().0.reset_on_drop();
    }
}

/// Serves one connection until it ends.
pub(super) async fn serve<S>(
    shared: Arc<Shared>,
    stream: S,
    connection: usize,
    certificate: Option<Vec<u8>>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Linger,
{
    let mut reader = Reader {
        stream,
        unread: Vec::new(),
        shared: &shared,
    };
    while let Some(mut received) = reader.read_request().await {
        received.connection = connection;
        received.client_certificate.clone_from(&certificate);
        let body = received.body.clone();
        let is_head = received.method == "HEAD";
        let behaviour = shared.record(received);
        let stream = &mut reader.stream;
        let written = match behaviour {
            Behaviour::Respond(response) => {
                tokio::time::sleep(response.delay).await;
                stream.write_all(&serialize(&response, is_head)).await
            }
            Behaviour::Echo => {
                let response = Response::new(200).body(body);
                stream.write_all(&serialize(&response, is_head)).await
            }
            Behaviour::Write(bytes) => stream.write_all(&bytes).await,
            Behaviour::WriteAndClose(bytes) => {
                // An error is a gateway that went away first.
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Behaviour::WriteAndReset(bytes) => {
                // An error is a gateway that went away first.
                let _ = stream.write_all(&bytes).await;
                let _ = stream.flush().await;
                // A reset discards what the gateway has not read yet, so let it read first.
                tokio::time::sleep(Duration::from_millis(200)).await;
                stream.reset_on_drop();
                return;
            }
            Behaviour::Stall => std::future::pending().await,
        };
        if written.is_err() || reader.stream.flush().await.is_err() {
            return;
        }
    }
}

fn serialize(response: &Response, is_head: bool) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {} Status\r\n", response.status);
    let has_length = |(name, _): &(String, String)| name.eq_ignore_ascii_case("content-length");
    if !response.headers.iter().any(has_length) {
        text.push_str(&format!("content-length: {}\r\n", response.body.len()));
    }
    for (name, value) in &response.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    if !is_head {
        bytes.extend(&response.body);
    }
    bytes
}

struct Reader<'a, S> {
    stream: S,
    unread: Vec<u8>,
    shared: &'a Shared,
}

impl<S: AsyncRead + Unpin> Reader<'_, S> {
    async fn read_request(&mut self) -> Option<Received> {
        let end = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().await?;
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut lines = text.split("\r\n");
        let request_line = lines.next().unwrap_or_default();
        let (method, rest) = request_line.split_once(' ').unwrap_or((request_line, ""));
        let target = rest.rsplit_once(' ').map_or(rest, |(target, _)| target);
        let mut received = Received {
            connection: 0,
            method: method.to_owned(),
            target: target.to_owned(),
            fields: lines.filter(|line| !line.is_empty()).map(field).collect(),
            head,
            body: Vec::new(),
            trailers: Vec::new(),
            client_certificate: None,
        };
        if received.headers("transfer-encoding").contains(&"chunked") {
            self.read_chunks(&mut received).await?;
        } else if let Some(length) = received.headers("content-length").first() {
            let length: usize = length.parse().ok()?;
            while self.unread.len() < length {
                self.fill().await?;
            }
            received.body = self.unread.drain(..length).collect();
        }
        Some(received)
    }

    async fn read_chunks(&mut self, received: &mut Received) -> Option<()> {
        loop {
            let line = self.read_line().await?;
            let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
            if size == 0 {
                break;
            }
            while self.unread.len() < size + 2 {
                self.fill().await?;
            }
            received.body.extend(self.unread.drain(..size));
            self.unread.drain(..2);
        }
        loop {
            let line = self.read_line().await?;
            if line.is_empty() {
                return Some(());
            }
            received.trailers.push(field(&line));
        }
    }

    async fn read_line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.unread, b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.unread).await.ok()?;
        self.shared.bytes.fetch_add(read as u64, Ordering::SeqCst);
        (read > 0).then_some(())
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_owned(), value.trim().to_owned())
}

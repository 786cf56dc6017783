//! A caller's connection as Pingora sees it: plain or TLS, writes gathered, closed without cutting
//! off what the caller has yet to read.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use pingora_http::ResponseHeader;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_rustls::server::TlsStream;

use super::chunks::Malformed;
use super::connection::Connection;
use super::control_frames::{ControlFrames, TooMany};

/// Head and body of a small response leave as one segment.
const WRITE_BUFFER: usize = 4096;
/// How long, and for how many bytes, a closing connection listens: closing a socket with unread
/// bytes resets it, and the caller may lose the response that it was about to read.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;
/// How often a caller that has sent much ahead is looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A caller's connection.
pub(crate) struct ClientStream {
    io: BufWriter<Transport>,
    fd: RawFd,
    /// Bytes of HTTP/2 that were read to find out that it is spoken.
    replay: Bytes,
    /// Over HTTP/2.
    http2: Option<Http2>,
    connection: Arc<Connection>,
    closing: Option<Closing>,
    /// For a caller that has sent much ahead.
    watch: Option<Pin<Box<Sleep>>>,
    socket: Arc<SocketDigest>,
    /// Pingora hands this to every request of the connection; it carries [`Connection`].
    facts: Arc<ProxyDigest>,
}

/// What is watched on a connection that speaks HTTP/2.
struct Http2 {
    frames: ControlFrames,
    /// Bytes that were read without a pause.
    turn: usize,
    /// How long a head, or a frame that is not of a body, may take.
    head_timeout: Duration,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Http2 {
    /// Ready when something is unfinished for too long.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(since) = self.frames.unfinished_since() else {
            return Poll::Pending;
        };
        let deadline = Instant::from_std(since) + self.head_timeout;
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if alarm.deadline() != deadline {
            alarm.as_mut().reset(deadline);
        }
        alarm.as_mut().poll(context)
    }
}

/// h2 reads on as long as there is something, and the other connections of its thread wait.
const TURN: usize = 16 * 1024;

pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl ClientStream {
    /// Over HTTP/2, `http2` is how long a head may take there.
    pub(crate) fn new(
        transport: Transport,
        replay: Bytes,
        http2: Option<Duration>,
        connection: Arc<Connection>,
    ) -> Self {
        let fd = transport.tcp().as_raw_fd();
        if http2.is_none() {
            connection.inbound.keep(&replay);
        }
        let socket = SocketDigest::from_raw_fd(fd);
        // Set once, here: it cannot be set already.
        let _ = socket.peer_addr.set(Some(connection.peer.into()));
        // Pingora's type wants the answer of a CONNECT proxy, which there was none of.
        let no_proxy = Box::new(
            ResponseHeader::build_no_case(200, None)
                .unwrap_or_else(|_| unreachable!("200 is a status code")),
        );
        Self {
            io: BufWriter::with_capacity(WRITE_BUFFER, transport),
            fd,
            replay,
            http2: http2.map(|head_timeout| Http2 {
                frames: ControlFrames::new(std::time::Instant::now()),
                turn: 0,
                head_timeout,
                alarm: None,
            }),
            socket: Arc::new(socket),
            facts: Arc::new(ProxyDigest::new(
                no_proxy,
                Some(Box::new(Arc::clone(&connection))),
            )),
            connection,
            closing: None,
            watch: None,
        }
    }

    /// How long what was written may wait to be taken, from now on (RFC 5482).
    pub(crate) fn set_patience(&self, patience: Duration) {
        // Without it, the limit is as it was.
        let _ = SockRef::from(self.io.get_ref().tcp()).set_tcp_user_timeout(Some(patience));
    }

    /// Ends the connection after all that was written has been read, within a bounded time.
    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inbound = &self.connection.inbound;
        let closing = self.closing.get_or_insert_with(|| {
            inbound.open();
            Closing {
                alarm: Box::pin(sleep(LINGER)),
                has_said_so: false,
                left: LINGER_BYTES,
            }
        });
        if closing.alarm.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !closing.has_said_so {
            ready!(Pin::new(&mut self.io).poll_shutdown(context))?;
            closing.has_said_so = true;
            closing.alarm.as_mut().reset(Instant::now() + LINGER);
            // Polled once, so that it wakes this.
            let _ = closing.alarm.as_mut().poll(context);
        }
        let mut unread = [0; 4096];
        while closing.left > 0 {
            let mut buffer = ReadBuf::new(&mut unread);
            // Whoever has broken off needs no patience.
            let Ok(()) = ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer)) else {
                break;
            };
            if buffer.filled().is_empty() {
                break;
            }
            closing.left = closing.left.saturating_sub(buffer.filled().len());
        }
        Poll::Ready(Ok(()))
    }
}

/// A connection on its way out.
struct Closing {
    alarm: Pin<Box<Sleep>>,
    /// The caller knows that nothing more comes.
    has_said_so: bool,
    /// Bytes that are still listened to.
    left: usize,
}

impl fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientStream")
            .field("fd", &self.fd)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.http2.is_some() {
            return self.poll_frames(context, buffer);
        }
        if self.connection.inbound.room_ahead().is_some() {
            return self.poll_ahead(context);
        }
        let malformed = |_: Malformed| io::Error::from(io::ErrorKind::InvalidData);
        if self.connection.inbound.fill(buffer).map_err(malformed)? {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        let own = self.connection.inbound.read(read).map_err(malformed)?;
        buffer.set_filled(before + own);
        Poll::Ready(Ok(()))
    }
}

impl ClientStream {
    fn sent(&mut self, bytes: usize) {
        if let Some(http2) = &mut self.http2 {
            http2.frames.sent(bytes);
        }
    }

    fn poll_frames(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(http2) = &mut self.http2 else {
            return Poll::Ready(Ok(()));
        };
        if http2.turn >= TURN {
            http2.turn = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if self.replay.has_remaining() {
            let length = self.replay.len().min(buffer.remaining());
            buffer.put_slice(&self.replay.split_to(length));
        } else {
            let read = Pin::new(&mut self.io).poll_read(context, buffer);
            if read.is_pending() {
                http2.turn = 0;
                ready!(http2.poll_late(context));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            ready!(read)?;
        }
        let read = buffer.filled().get(before..).unwrap_or_default();
        http2.turn += read.len();
        http2
            .frames
            .read(read, std::time::Instant::now())
            .map_err(|TooMany| {
                self.connection.load.flooded();
                io::Error::from(io::ErrorKind::InvalidData)
            })?;
        Poll::Ready(Ok(()))
    }

    /// The request is complete: what comes now is of the next one. Ready when the caller has left.
    fn poll_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; 1024];
        loop {
            let room = self.connection.inbound.room_ahead().unwrap_or_default();
            let Some(space) = bytes.get_mut(..room.min(1024)).filter(|it| !it.is_empty()) else {
                // Whoever sends so much ahead is not read from until it is its turn.
                return self.poll_left(context);
            };
            let mut buffer = ReadBuf::new(space);
            ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.connection.inbound.keep(buffer.filled());
        }
    }

    /// Ready when the caller has left, although there is more to be read: the socket would say so all
    /// the time, so it is asked now and then.
    fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, watch, .. } = self;
        let tcp = io.get_ref().tcp();
        let alarm = watch.get_or_insert_with(|| Box::pin(sleep(LOOK_INTERVAL)));
        while alarm.as_mut().poll(context).is_ready() {
            let ready = pin!(tcp.ready(Interest::READABLE)).poll(context);
            if matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed()) {
                return Poll::Ready(Ok(()));
            }
            alarm.as_mut().reset(Instant::now() + LOOK_INTERVAL);
        }
        Poll::Pending
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(context, bytes))?;
        self.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(context, slices))?;
        self.sent(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.http2.is_some() {
            return Pin::new(&mut self.io).poll_shutdown(context);
        }
        self.poll_close(context)
    }
}

impl Transport {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(context, slices),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Self::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        // Whoever is gone cannot be told.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.fd
    }
}

/// TLS is this module's own affair: Pingora is told the protocol, and nothing else about it.
impl Ssl for ClientStream {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.http2.is_some().then_some(ALPN::H2)
    }
}

#[async_trait]
impl Peek for ClientStream {}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(Arc::clone(&self.facts))
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.socket))
    }
}

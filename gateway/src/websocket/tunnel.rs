//! An open WebSocket: both sides are carried until one of them leaves, or the gateway ends it.

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE, USER_AGENT};
use pingora_core::protocols::Stream;
use pingora_http::{RequestHeader, ResponseHeader};
use portcullis_policy::{Permit, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::frames::{CloseCode, Frames, Reach, close};
use super::handshake::{UPGRADE_OPTION, WEBSOCKET};
use super::service::Opened;
use crate::downstream::stream::ClientStream;
use crate::downstream::trace::REQUEST_ID;
use crate::exchange::{Exchange, RequestLine};
use crate::refusal::Fault;
use crate::telemetry::metrics::labels::WebSocketEnd;
use crate::upstream::response;

/// Of each direction.
const BUFFER: usize = 16 * 1024;
/// For a frame to end, for the other side's closing frame, and for the last bytes to be read.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The wall clock may be set while a token is waited for.
const CLOCK_LOOK: Duration = Duration::from_secs(5);

/// A WebSocket between a caller, whose connection is not here yet, and a service.
pub(crate) struct Tunnel {
    /// Is finished when the WebSocket is.
    exchange: Box<Exchange>,
    service: Stream,
    early: Bytes,
    /// The answer that opens it.
    head: Vec<u8>,
    /// What the access log says of the request; its token is not kept.
    request: RequestHeader,
    limits: Limits,
    /// The caller has had the answer.
    is_open: bool,
    ways: Ways,
}

/// How long a WebSocket may stay.
struct Limits {
    /// Silent in both directions, or not taking what the other side says.
    idle: Duration,
    age: Duration,
    token_refused_from: Option<UnixTime>,
    /// For a caller to take the answer.
    write: Duration,
}

impl Tunnel {
    /// The caller's `request` is answered by what `opened` says.
    pub(crate) fn new(exchange: Box<Exchange>, request: &RequestHeader, opened: Opened) -> Self {
        let config = exchange.snapshot().config();
        let limits = Limits {
            idle: exchange
                .route()
                .and_then(|route| route.limits.websocket_idle_timeout)
                .unwrap_or(config.limits.websocket_idle_timeout),
            age: config.limits.websocket_age,
            token_refused_from: exchange
                .permit()
                .ok()
                .and_then(Permit::principal)
                .map(|principal| principal.refused_from()),
            write: config.limits.body_timeout,
        };
        Self {
            head: answer(*opened.head, &exchange),
            service: opened.stream,
            early: opened.early,
            request: remembered(request),
            exchange,
            limits,
            is_open: false,
            ways: Ways::default(),
        }
    }

    /// Opens the WebSocket towards the caller, and carries it until it ends. `stopping` says that the
    /// gateway drains.
    pub(crate) async fn run(mut self, mut caller: Stream, stopping: impl Future<Output = ()>) {
        let traffic = Traffic::new();
        let opening = async {
            caller.write_all(&self.head).await?;
            caller.write_all(&self.early).await?;
            caller.flush().await
        };
        self.is_open = matches!(timeout(self.limits.write, opening).await, Ok(Ok(())));
        if self.is_open {
            // Longer than it is waited for here, which ends with a closing frame.
            set_patience(&caller, self.limits.idle + 10 * CLOSE_TIMEOUT);
            self.ways.to_caller.passed(&self.early);
            let open = self.exchange.snapshot().metrics().websocket_opened();
            let ends = self.limits.reached(&traffic, stopping);
            let ways = &mut self.ways;
            let end = carry(&mut caller, &mut self.service, ways, &traffic, ends).await;
            open.ended(end);
            set_patience(&caller, self.limits.write);
        }
        self.finish(None);
        // Closing a socket with unread bytes resets it, and what was sent last is lost. A caller's
        // connection sees to that by itself.
        let service_reads = timeout(CLOSE_TIMEOUT, async {
            self.service.shutdown().await?;
            tokio::io::copy(&mut self.service, &mut tokio::io::sink()).await
        });
        let _ = tokio::join!(caller.shutdown(), service_reads);
    }

    /// Records how it ended; `cut` is the gateway's own reason for cutting it off.
    fn finish(&mut self, cut: Option<Fault>) {
        if let Some(fault) = cut {
            self.exchange.refuse(fault.into());
        }
        let line = RequestLine::of(&self.request);
        let status = self.is_open.then_some(101);
        let (received, sent) = (self.ways.to_service.bytes, self.ways.to_caller.bytes);
        self.exchange.finish(&line, status, received, sent);
    }
}

/// One that is cut off has a line too.
impl Drop for Tunnel {
    fn drop(&mut self) {
        if !self.exchange.is_finished() {
            let cut = self.exchange.fault_of_drop();
            self.finish(cut);
        }
    }
}

/// How long the caller may take to take what was written.
fn set_patience(caller: &Stream, patience: Duration) {
    if let Some(stream) = caller.as_any().downcast_ref::<ClientStream>() {
        stream.set_patience(patience);
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}

/// What the caller gets of a service's 101.
fn answer(mut head: ResponseHeader, exchange: &Exchange) -> Vec<u8> {
    response::strip(&mut head);
    let mut headers = std::mem::take(&mut head.as_owned_parts().headers);
    headers.insert(CONNECTION, UPGRADE_OPTION);
    headers.insert(UPGRADE, WEBSOCKET);
    headers.insert(REQUEST_ID.clone(), exchange.request_id_value().clone());
    let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    for (name, value) in &headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// What the access log says of a request, without its token.
fn remembered(request: &RequestHeader) -> RequestHeader {
    let mut remembered = request.clone();
    let others: Vec<_> = request
        .headers
        .keys()
        .filter(|name| !matches!(**name, HOST | USER_AGENT))
        .collect();
    for name in others {
        remembered.remove_header(name);
    }
    remembered
}

impl Limits {
    /// Resolves when the gateway has to end the WebSocket.
    async fn reached(&self, traffic: &Traffic, stopping: impl Future<Output = ()>) -> Limit {
        tokio::select! {
            biased;
            () = stopping => Limit::Stopping,
            () = expired(self.token_refused_from) => Limit::TokenExpired,
            () = sleep(self.age) => Limit::Aged,
            () = traffic.silence(self.idle) => Limit::Idle,
        }
    }
}

/// Why the gateway ends a WebSocket.
#[derive(Debug, Clone, Copy)]
enum Limit {
    Stopping,
    TokenExpired,
    Aged,
    Idle,
}

impl Limit {
    /// What both sides are told (RFC 6455 §7.4.1).
    const fn closing(self) -> (CloseCode, &'static str) {
        match self {
            Self::TokenExpired => (CloseCode::PolicyViolation, "the access token has expired"),
            Self::Idle => (
                CloseCode::GoingAway,
                "nothing was said, or taken, for too long",
            ),
            Self::Aged => (CloseCode::GoingAway, "it was open for too long"),
            Self::Stopping => (CloseCode::GoingAway, "the gateway stops"),
        }
    }
}

impl From<Limit> for WebSocketEnd {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::Stopping => Self::Stopping,
            Limit::TokenExpired => Self::TokenExpired,
            Limit::Aged => Self::Aged,
            Limit::Idle => Self::Idle,
        }
    }
}

async fn expired(refused_from: Option<UnixTime>) {
    let Some(refused_from) = refused_from else {
        return std::future::pending().await;
    };
    loop {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let end = u64::try_from(refused_from.as_seconds()).unwrap_or_default();
        let left = Duration::from_secs(end).saturating_sub(now);
        if left.is_zero() {
            return;
        }
        sleep(left.min(CLOCK_LOOK)).await;
    }
}

/// What is said in both directions, and when something last was.
#[derive(Debug)]
struct Traffic {
    since: Instant,
    /// Milliseconds from then to the last progress.
    progress: AtomicU64,
    /// Milliseconds from then, since when a side does not take what it is sent; [`TAKEN`] if it does.
    caller_waits: AtomicU64,
    service_waits: AtomicU64,
}

const TAKEN: u64 = u64::MAX;

impl Traffic {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            progress: AtomicU64::new(0),
            caller_waits: AtomicU64::new(TAKEN),
            service_waits: AtomicU64::new(TAKEN),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(TAKEN - 1)
    }

    fn moved(&self) {
        self.progress.store(self.now(), Ordering::Relaxed);
    }

    /// Resolves when nothing has moved for `limit`, or one side has taken nothing, whatever it says.
    async fn silence(&self, limit: Duration) {
        loop {
            let since = [&self.progress, &self.caller_waits, &self.service_waits]
                .into_iter()
                .map(|since| since.load(Ordering::Relaxed))
                .fold(TAKEN, u64::min);
            let end = self.since + Duration::from_millis(since) + limit;
            if Instant::now() >= end {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// What has gone one way.
#[derive(Debug, Default)]
struct Way {
    frames: Frames,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Ways {
    to_caller: Way,
    to_service: Way,
}

impl Way {
    fn passed(&mut self, bytes: &[u8]) {
        self.frames.advance(bytes, Reach::Everything);
        self.bytes += bytes.len() as u64;
    }
}

/// Carries both ways until a side leaves or `reached` says why the gateway ends it; then both are told,
/// each at the end of a frame, and may answer.
async fn carry(
    caller: &mut Stream,
    service: &mut Stream,
    ways: &mut Ways,
    traffic: &Traffic,
    reached: impl Future<Output = Limit>,
) -> WebSocketEnd {
    let Ways {
        to_caller,
        to_service,
    } = ways;
    let (mut from_caller, mut at_caller) = split(caller);
    let (mut from_service, mut at_service) = split(service);
    let (ending, is_ending) = watch::channel(false);
    let limit = {
        let inward = Pump {
            traffic,
            waits: &traffic.caller_waits,
            is_ending: is_ending.clone(),
        };
        let mut inward = pin!(inward.run(&mut from_service, &mut at_caller, to_caller));
        let outward = Pump {
            traffic,
            waits: &traffic.service_waits,
            is_ending,
        };
        let mut outward = pin!(outward.run(&mut from_caller, &mut at_service, to_service));
        // Whoever leaves may have said something last, and the other side may still answer it.
        let limit = tokio::select! {
            () = &mut inward => {
                let _ = timeout(CLOSE_TIMEOUT, outward).await;
                return WebSocketEnd::Left;
            }
            () = &mut outward => {
                let _ = timeout(CLOSE_TIMEOUT, inward).await;
                return WebSocketEnd::Left;
            }
            limit = reached => limit,
        };
        ending.send_replace(true);
        let _ = timeout(CLOSE_TIMEOUT, async { tokio::join!(inward, outward) }).await;
        limit
    };
    let (code, reason) = limit.closing();
    let for_caller = to_caller
        .frames
        .can_be_closed()
        .then(|| close(code, reason, false));
    let for_service = to_service
        .frames
        .can_be_closed()
        .then(|| close(code, reason, true));
    let goodbyes = async {
        tokio::join!(
            say_goodbye(
                for_caller,
                &mut at_caller,
                &mut from_caller,
                &mut to_service.frames
            ),
            say_goodbye(
                for_service,
                &mut at_service,
                &mut from_service,
                &mut to_caller.frames
            ),
        )
    };
    // Whoever does not take part in it is closed on.
    let _ = timeout(CLOSE_TIMEOUT, goodbyes).await;
    limit.into()
}

/// Says the last word, and listens for the other side's. `None`: there is no end of a frame to say it at,
/// or it has been said.
async fn say_goodbye(
    last: Option<Vec<u8>>,
    to: &mut (impl AsyncWrite + Unpin),
    from: &mut (impl AsyncRead + Unpin),
    answer: &mut Frames,
) -> io::Result<()> {
    let Some(last) = last else {
        return Ok(());
    };
    to.write_all(&last).await?;
    to.flush().await?;
    let mut buffer = vec![0; BUFFER];
    while !answer.are_closed() {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        answer.advance(buffer.get(..length).unwrap_or_default(), Reach::Everything);
    }
    Ok(())
}

/// Carries one way: what is not taken is not read.
struct Pump<'t> {
    traffic: &'t Traffic,
    /// Since when the side that it carries to takes nothing.
    waits: &'t AtomicU64,
    is_ending: watch::Receiver<bool>,
}

impl Pump<'_> {
    /// Ends when either side leaves, of which the other one is told; when the WebSocket is ending, at the
    /// end of a frame.
    async fn run(
        mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        way: &mut Way,
    ) {
        let mut buffer = vec![0; BUFFER];
        loop {
            let is_ending = *self.is_ending.borrow();
            if is_ending && way.frames.is_between() {
                return;
            }
            let read = tokio::select! {
                biased;
                _ = self.is_ending.wait_for(|is_ending| *is_ending), if !is_ending => continue,
                read = from.read(&mut buffer) => read,
            };
            let Ok(length @ 1..) = read else {
                let _ = to.shutdown().await;
                return;
            };
            let bytes = buffer.get(..length).unwrap_or_default();
            let rest = match is_ending {
                true => bytes.get(..way.frames.clone().advance(bytes, Reach::EndOfFrame)),
                false => Some(bytes),
            };
            if self.write(rest.unwrap_or_default(), to, way).await.is_err() {
                return;
            }
        }
    }

    async fn write(
        &self,
        mut bytes: &[u8],
        to: &mut (impl AsyncWrite + Unpin),
        way: &mut Way,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            self.waits.store(self.traffic.now(), Ordering::Relaxed);
            let written = to.write(bytes).await?;
            let (taken, others) = bytes.split_at_checked(written).unwrap_or((bytes, &[]));
            if taken.is_empty() {
                return Err(io::ErrorKind::WriteZero.into());
            }
            way.passed(taken);
            self.traffic.moved();
            bytes = others;
        }
        to.flush().await?;
        self.traffic.moved();
        self.waits.store(TAKEN, Ordering::Relaxed);
        Ok(())
    }
}

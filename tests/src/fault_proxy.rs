//! A network that breaks in the way that it is told to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// Further ones wait until one has ended.
const MOST_CONNECTIONS: usize = 1000;

/// What is on its way on one connection in one direction, at most.
const BUFFER: usize = 16 * 1024;

/// Passes TCP connections on to an address, with a fault that can be changed while it runs. It ends
/// when it is dropped, and every connection with it.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    orders: watch::Sender<Order>,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

/// What becomes of the bytes on every connection. A number of bytes is one of answers, and counted
/// on each connection from the moment that the fault was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Passes everything.
    Pass,
    /// Holds up each part of a request, and each part of an answer, for this long.
    Delay {
        /// Towards the target.
        requests: Duration,
        /// Back from it.
        answers: Duration,
    },
    /// Passes answers a few bytes at a time, once the first `after` have gone through at once.
    Trickle {
        /// How many pass at once.
        after: usize,
        /// How many pass together from there on.
        bytes: usize,
        /// The pause behind them.
        every: Duration,
    },
    /// Resets the connection, on both sides, as soon as this many bytes of an answer have passed;
    /// with none, where its first byte would.
    Reset {
        /// How many pass.
        after: usize,
    },
    /// Closes an answer cleanly (FIN) where [`Fault::Reset`] would reset it.
    Truncate {
        /// How many pass.
        after: usize,
    },
    /// Inverts every bit of the byte of an answer that comes behind this many.
    Flip {
        /// How many come before.
        after: usize,
    },
    /// Puts these bytes into an answer behind this many of its own.
    Insert {
        /// How many come before.
        after: usize,
        /// What nobody has sent.
        bytes: &'static [u8],
    },
    /// Accepts and keeps connections, passes nothing and closes nothing. What is on its way then
    /// arrives when the fault is another one.
    HalfOpen,
    /// Half-open in one direction: requests arrive, and no answer does.
    Mute,
    /// Half-open in the other direction: no request arrives.
    Deaf,
}

#[derive(Debug, Clone, Copy)]
struct Order {
    /// Tells two orders for the same fault apart.
    number: u64,
    fault: Fault,
    /// Connections with a lower number are half-open for good.
    stranded: usize,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    answered: AtomicUsize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Requests,
    Answers,
}

/// One direction of a connection.
struct Pump {
    direction: Direction,
    connection: usize,
    orders: watch::Receiver<Order>,
    counts: Arc<Counts>,
}

impl FaultProxy {
    /// Stands in front of `target`, and passes everything.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (orders, seen) = watch::channel(Order {
            number: 0,
            fault: Fault::Pass,
            stranded: 0,
        });
        let counts = Arc::new(Counts::default());
        let accepting = tokio::spawn(accept(listener, target, seen, Arc::clone(&counts)));
        Self {
            address,
            orders,
            counts,
            accepting,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks the connections in this way from now on, those that are open and those that come.
    pub fn set(&self, fault: Fault) {
        self.counts.answered.store(0, Ordering::SeqCst);
        self.orders.send_modify(|order| {
            order.number += 1;
            order.fault = fault;
        });
    }

    /// Leaves every connection that is open half-open for good, whatever becomes of later ones: what
    /// a router does that has forgotten them. Says how many there have been.
    pub fn strand(&self) -> usize {
        let connections = self.connections();
        self.orders
            .send_modify(|order| order.stranded = connections);
        connections
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// How many bytes of answers it has passed since the fault was chosen.
    pub fn answered(&self) -> usize {
        self.counts.answered.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    orders: watch::Receiver<Order>,
    counts: Arc<Counts>,
) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let connection = counts.connections.fetch_add(1, Ordering::SeqCst);
        let pump = |direction| Pump {
            direction,
            connection,
            orders: orders.clone(),
            counts: Arc::clone(&counts),
        };
        let (requests, answers) = (pump(Direction::Requests), pump(Direction::Answers));
        connections.spawn(serve(stream, target, requests, answers));
        while connections.try_join_next().is_some() {}
        if connections.len() >= MOST_CONNECTIONS {
            connections.join_next().await;
        }
    }
}

async fn serve(mut caller: TcpStream, target: SocketAddr, requests: Pump, answers: Pump) {
    let Ok(mut target) = TcpStream::connect(target).await else {
        let _ = caller.set_zero_linger();
        return;
    };
    // An error is a connection that is already gone.
    let _ = caller.set_nodelay(true);
    let _ = target.set_nodelay(true);
    let ended = {
        let (from_caller, to_caller) = caller.split();
        let (from_target, to_target) = target.split();
        tokio::try_join!(
            requests.run(from_caller, to_target),
            answers.run(from_target, to_caller)
        )
    };
    if ended.is_err() {
        let _ = caller.set_zero_linger();
        let _ = target.set_zero_linger();
    }
}

impl Pump {
    /// Passes what comes until it ends; an error means that the connection is to be reset.
    async fn run(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        let (mut number, mut passed) = (0, 0);
        loop {
            let order = *self.orders.borrow_and_update();
            if order.number != number {
                (number, passed) = (order.number, 0);
            }
            if self.is_dead(order) {
                self.orders.changed().await.map_err(io::Error::other)?;
                continue;
            }
            let (at_once, pause_before, pause_behind) = self.pace(order.fault, passed);
            let count = tokio::select! {
                biased;
                changed = self.orders.changed() => {
                    changed.map_err(io::Error::other)?;
                    continue;
                }
                count = from.read(&mut buffer[..at_once]) => count?,
            };
            if count == 0 {
                return to.shutdown().await;
            }
            self.pause(pause_before).await;
            let mut bytes = buffer[..count].to_vec();
            let is_cut = self.spoil(order.fault, passed, &mut bytes);
            to.write_all(&bytes).await?;
            passed += count;
            if self.direction == Direction::Answers {
                self.counts
                    .answered
                    .fetch_add(bytes.len(), Ordering::SeqCst);
            }
            match order.fault {
                Fault::Truncate { .. } if is_cut => return to.shutdown().await,
                _ if is_cut => return Err(io::ErrorKind::ConnectionReset.into()),
                _ => self.pause(pause_behind).await,
            }
        }
    }

    fn is_dead(&self, order: Order) -> bool {
        let is_dead = match order.fault {
            Fault::HalfOpen => true,
            Fault::Mute => self.direction == Direction::Answers,
            Fault::Deaf => self.direction == Direction::Requests,
            _ => false,
        };
        is_dead || self.connection < order.stranded
    }

    /// How many bytes to take at once, and how long to wait before they are passed and behind.
    fn pace(&self, fault: Fault, passed: usize) -> (usize, Duration, Duration) {
        let none = Duration::ZERO;
        match (fault, self.direction) {
            (Fault::Delay { requests, .. }, Direction::Requests) => (BUFFER, requests, none),
            (Fault::Delay { answers, .. }, Direction::Answers) => (BUFFER, answers, none),
            (Fault::Trickle { after, .. }, Direction::Answers) if passed < after => {
                (BUFFER.min(after - passed), none, none)
            }
            (Fault::Trickle { bytes, every, .. }, Direction::Answers) => (bytes, none, every),
            _ => (BUFFER, none, none),
        }
    }

    /// Waits, but no longer than the fault lasts.
    async fn pause(&mut self, duration: Duration) {
        if !duration.is_zero() {
            // Either end of it is one.
            let _ = timeout(duration, self.orders.changed()).await;
        }
    }

    /// Does to `bytes`, before which `passed` have gone, what the fault says; true where it cuts
    /// the answer off behind them.
    fn spoil(&self, fault: Fault, passed: usize, bytes: &mut Vec<u8>) -> bool {
        if self.direction == Direction::Requests {
            return false;
        }
        match fault {
            Fault::Reset { after } | Fault::Truncate { after } if passed + bytes.len() >= after => {
                bytes.truncate(after.saturating_sub(passed));
                return true;
            }
            Fault::Flip { after } if (passed..passed + bytes.len()).contains(&after) => {
                bytes[after - passed] ^= 0xff;
            }
            Fault::Insert {
                after,
                bytes: further,
            } if (passed..passed + bytes.len()).contains(&after) => {
                let at = after - passed;
                drop(bytes.splice(at..at, further.iter().copied()));
            }
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Connection, Service};

    const REQUEST: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

    async fn answer(fault: Fault) -> Vec<u8> {
        let service = Service::start().await;
        let proxy = FaultProxy::start(service.address()).await;
        proxy.set(fault);
        let mut connection = Connection::open(proxy.address()).await;
        connection.send(REQUEST).await;
        connection.read_to_end().await
    }

    #[tokio::test]
    async fn answers_are_cut_and_spoiled_where_they_are_told_to_be() {
        assert_eq!(answer(Fault::Truncate { after: 9 }).await, b"HTTP/1.1 ");
        assert_eq!(answer(Fault::Truncate { after: 0 }).await, b"");
        // What has not been read when a reset comes may be lost with it.
        let read = answer(Fault::Reset { after: 9 }).await;
        assert!(b"HTTP/1.1 ".starts_with(&read), "{read:?}");
        let service = Service::start().await;
        let proxy = FaultProxy::start(service.address()).await;
        let mut connection = Connection::open(proxy.address()).await;
        for (fault, begin) in [
            (Fault::Flip { after: 0 }, &b"\xb7TTP"[..]),
            (
                Fault::Insert {
                    after: 1,
                    bytes: b"--",
                },
                &b"H--TTP"[..],
            ),
            (Fault::Pass, &b"HTTP"[..]),
        ] {
            proxy.set(fault);
            connection.send(REQUEST).await;
            let read = connection.read_exactly(begin.len()).await;
            assert_eq!(read.as_deref(), Some(begin), "{fault:?}");
            let status_line = b"HTTP/1.1 200 Status\r\ncontent-length: 23\r\n\r\n".len();
            let extra = begin.len() - begin.len().min(4);
            let rest = status_line + 23 + extra - begin.len();
            assert!(connection.read_exactly(rest).await.is_some());
        }
    }

    #[tokio::test]
    async fn half_open_connections_hold_what_is_on_its_way() {
        let service = Service::start().await;
        let proxy = FaultProxy::start(service.address()).await;
        proxy.set(Fault::Mute);
        let mut connection = Connection::open(proxy.address()).await;
        connection.send(REQUEST).await;
        service.wait_for_requests(1).await;
        assert!(!connection.is_closed_within(Duration::from_millis(50)).await);
        proxy.set(Fault::Deaf);
        assert_eq!(connection.read_response().await.status, 200);
        connection.send(REQUEST).await;
        assert!(!connection.is_closed_within(Duration::from_millis(50)).await);
        assert_eq!(service.request_count(), 1);
        proxy.set(Fault::Pass);
        assert_eq!(connection.read_response().await.status, 200);
        assert_eq!(proxy.strand(), 1);
        connection.send(REQUEST).await;
        let mut later = Connection::open(proxy.address()).await;
        assert_eq!(later.request(REQUEST).await.status, 200);
        assert_eq!(service.request_count(), 3);
        drop(proxy);
        assert_eq!(connection.read_to_end().await, b"");
    }
}

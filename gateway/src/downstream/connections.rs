//! All open connections of callers: how many there may be, whose they are, and which of them are given
//! up when memory runs out.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use portcullis_config::Config;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// One for each connection that may be open, all listeners together, and one entry for each that is.
#[derive(Debug)]
pub(crate) struct Connections {
    free: Arc<Semaphore>,
    size: Mutex<usize>,
    serial: AtomicU64,
    open: Mutex<Open>,
    /// The second, since the epoch, in which a refusal was last told.
    told: AtomicU64,
}

#[derive(Debug, Default)]
struct Open {
    loads: HashMap<u64, Arc<Load>>,
    /// Of the addresses that have any.
    by_address: HashMap<IpAddr, usize>,
}

/// The right to accept one connection.
#[derive(Debug)]
pub(crate) struct Slot(
    #[expect(dead_code, reason = "held, and given back when dropped")] Option<OwnedSemaphorePermit>,
);

/// An open connection, until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    connections: Arc<Connections>,
    serial: u64,
    address: IpAddr,
    load: Arc<Load>,
    _slot: Slot,
}

/// What one connection has in hand.
#[derive(Debug, Default)]
pub(crate) struct Load {
    is_proxy: bool,
    requests: AtomicU32,
    /// Requests that have ever arrived.
    arrived: AtomicU64,
    has_flooded: AtomicBool,
    cut: AtomicU8,
    cutting: Notify,
}

/// Why a connection is cut off in the middle of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Memory has run out.
    Overload = 1,
    /// The gateway stops, and the time for finishing has passed.
    Shutdown = 2,
}

impl Connections {
    pub(crate) fn new(size: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(size)),
            size: Mutex::new(size),
            serial: AtomicU64::new(0),
            open: Mutex::default(),
            told: AtomicU64::new(0),
        }
    }

    /// Whether a refusal may be told in the log now: one a second, however many there are.
    pub(crate) fn may_tell(&self) -> bool {
        let second = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        self.told.swap(second, Ordering::Relaxed) != second
    }

    /// Waits until one more connection may be open.
    pub(crate) async fn slot(&self) -> Slot {
        // Never closed, so this always gets one.
        Slot(Arc::clone(&self.free).acquire_owned().await.ok())
    }

    /// Enters a connection that was accepted; `None` when its address has `most` already. A trusted
    /// proxy may have any number.
    pub(crate) fn enter(
        self: &Arc<Self>,
        slot: Slot,
        address: IpAddr,
        is_proxy: bool,
        most: usize,
    ) -> Option<OpenConnection> {
        let address = network(address);
        let mut open = self.open();
        let count = open.by_address.entry(address).or_default();
        if *count >= most && !is_proxy {
            return None;
        }
        *count += 1;
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let load = Arc::new(Load {
            is_proxy,
            ..Load::default()
        });
        open.loads.insert(serial, Arc::clone(&load));
        Some(OpenConnection {
            connections: Arc::clone(self),
            serial,
            address,
            load,
            _slot: slot,
        })
    }

    /// Whether so many are open that further ones are told to come back later.
    pub(crate) fn is_crowded(&self, config: &Config) -> bool {
        let share = config.overload.refuse_at_connections_percent as usize;
        let size = *self.size.lock().unwrap_or_else(PoisonError::into_inner);
        self.count().saturating_mul(100) > size.saturating_mul(share)
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.open().loads.len()
    }

    /// Changes how many there may be. Those that are open stay; of a smaller number, what is in use is
    /// given up with the next change.
    pub(crate) fn resize(&self, wanted: usize) {
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted > *size {
            self.free.add_permits(wanted - *size);
            *size = wanted;
        } else {
            *size -= self.free.forget_permits(*size - wanted);
        }
    }

    /// Cuts off this percentage of what is going on. Says how many connections that were. Who has many streams
    /// open and takes nothing holds the most memory, and is the first to go; then who has one request
    /// in flight, then who has none, such as half of a head; trusted proxies, which speak for many, are
    /// the last.
    pub(crate) fn shed(&self, percent: u64) -> usize {
        let mut loads: Vec<_> = self
            .open()
            .loads
            .values()
            .filter(|load| load.why_cut().is_none())
            .map(|load| (load.requests(), Arc::clone(load)))
            .collect();
        loads.sort_unstable_by_key(|(requests, load)| (load.is_proxy, Reverse(*requests)));
        let weight = |requests: u32| u64::from(requests.max(1));
        let all: u64 = loads.iter().map(|(requests, _)| weight(*requests)).sum();
        let (mut given_up, mut count) = (0, 0);
        for (requests, load) in loads {
            if given_up * 100 >= all * percent {
                break;
            }
            given_up += weight(requests);
            count += 1;
            load.cut_off(Cut::Overload);
        }
        count
    }

    /// Cuts off every connection.
    pub(crate) fn cut_off_all(&self, why: Cut) {
        for load in self.open().loads.values() {
            load.cut_off(why);
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever has one address of IPv6 has all of its /64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

impl OpenConnection {
    pub(crate) const fn load(&self) -> &Arc<Load> {
        &self.load
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        open.loads.remove(&self.serial);
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

impl Load {
    pub(crate) fn request_arrived(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.arrived.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn request_finished(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many requests have ever arrived.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Whether there is no request in hand.
    pub(crate) fn is_idle(&self) -> bool {
        self.requests() == 0
    }

    fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// There were more frames than a caller has use for.
    pub(crate) fn flooded(&self) {
        self.has_flooded.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_flooded(&self) -> bool {
        self.has_flooded.load(Ordering::Relaxed)
    }

    fn cut_off(&self, why: Cut) {
        self.cut.store(why as u8, Ordering::Release);
        self.cutting.notify_one();
    }

    /// Resolves when the connection is cut off.
    pub(crate) async fn cut(&self) {
        self.cutting.notified().await;
    }

    /// Why the connection was cut off, if it was.
    pub(crate) fn why_cut(&self) -> Option<Cut> {
        match self.cut.load(Ordering::Acquire) {
            1 => Some(Cut::Overload),
            2 => Some(Cut::Shutdown),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    async fn open(connections: &Arc<Connections>, address: IpAddr) -> Option<OpenConnection> {
        let slot = connections.slot().await;
        connections.enter(slot, address, address == PROXY, 2)
    }

    #[tokio::test]
    async fn address_has_no_more_connections_than_it_may() {
        let connections = Arc::new(Connections::new(10));
        let mut proxied = Vec::new();
        for _ in 0..4 {
            proxied.push(open(&connections, PROXY).await.unwrap());
        }
        let first = open(&connections, HERE).await.unwrap();
        let _second = open(&connections, HERE).await.unwrap();
        assert!(open(&connections, HERE).await.is_none());
        assert!(open(&connections, THERE).await.is_some());
        drop(first);
        assert!(open(&connections, HERE).await.is_some());
    }

    #[tokio::test]
    async fn addresses_of_one_ipv6_network_are_one() {
        let connections = Arc::new(Connections::new(10));
        let enter = async |address: &str| open(&connections, address.parse().unwrap()).await;
        let _first = enter("2001:db8::1").await.unwrap();
        let _second = enter("2001:db8::2:3").await.unwrap();
        assert!(enter("2001:db8::4").await.is_none());
        assert!(enter("2001:db8:0:1::4").await.is_some());
    }

    #[tokio::test]
    async fn nothing_of_a_closed_connection_is_kept() {
        let connections = Arc::new(Connections::new(1));
        for _ in 0..3 {
            // Without its slot back, the second one would wait for ever.
            let connection = open(&connections, HERE).await.unwrap();
            assert_eq!(connections.count(), 1);
            drop(connection);
        }
        assert_eq!(connections.count(), 0);
        assert!(connections.open().by_address.is_empty());
    }

    #[tokio::test]
    async fn whoever_has_most_in_flight_goes_first() {
        let connections = Arc::new(Connections::new(10));
        let mut open_ones = Vec::new();
        for (requests, address) in [(1, HERE), (90, HERE), (0, THERE), (9, THERE), (5, PROXY)] {
            let connection = open(&connections, address).await.unwrap();
            for _ in 0..requests {
                connection.load().request_arrived();
            }
            open_ones.push(connection);
        }
        let cut = |connection: &OpenConnection| connection.load().why_cut();
        let mut order = Vec::new();
        for _ in 0..open_ones.len() {
            assert_eq!(connections.shed(10), 1, "a tenth is one of so few");
            let cut_now = (0..5).filter(|at| cut(&open_ones[*at]).is_some() && !order.contains(at));
            order.extend(cut_now.collect::<Vec<_>>());
        }
        assert_eq!(
            order,
            [1, 3, 0, 2, 4],
            "the proxy is the last, and the idle one before"
        );
        open_ones[1].load().cut().await;
        assert_eq!(connections.shed(10), 0);
    }
}

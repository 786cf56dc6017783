//! The addresses of an upstream: names are looked up in the background, and again every 30 seconds.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use portcullis_config::Address;
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// Between look-ups, and after one that failed.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(30);
const LOOKUP_RETRY: Duration = Duration::from_secs(1);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of one name, at most.
const MAX_PER_NAME: usize = 64;

/// Where the instances of a service are, for all generations that have them in common.
#[derive(Debug)]
pub(crate) struct Endpoints {
    written: Vec<Address>,
    resolved: Arc<ArcSwap<Vec<SocketAddr>>>,
    /// True once every name was looked up.
    looked_up: watch::Receiver<bool>,
    task: Option<AbortHandle>,
}

impl Endpoints {
    /// Has IP addresses at once; names are looked up from now on.
    pub(crate) fn start(upstream: &str, written: &[Address]) -> Self {
        let literal: Vec<_> = written.iter().map(literal).collect();
        let resolved: Vec<_> = literal.iter().flatten().copied().collect();
        let needs_lookup = literal.iter().any(Option::is_none);
        let resolved = Arc::new(ArcSwap::from_pointee(resolved));
        let (done, looked_up) = watch::channel(!needs_lookup);
        let task = needs_lookup.then(|| {
            let lookup = Lookup {
                upstream: upstream.into(),
                written: written.to_vec(),
                resolved: Arc::clone(&resolved),
                done,
            };
            tokio::spawn(lookup.run()).abort_handle()
        });
        Self {
            written: written.to_vec(),
            resolved,
            looked_up,
            task,
        }
    }

    /// Whether these are the endpoints of `written`.
    pub(crate) fn belong_to(&self, written: &[Address]) -> bool {
        self.written == written
    }

    /// The address for the `turn`th attempt; the addresses take turns.
    pub(crate) fn address(&self, turn: usize) -> Option<SocketAddr> {
        let resolved = self.resolved.load();
        let place = turn.checked_rem(resolved.len())?;
        resolved.get(place).copied()
    }

    /// All of them.
    pub(crate) fn resolved(&self) -> Vec<SocketAddr> {
        self.resolved.load().to_vec()
    }

    /// Looks up no more. The addresses that are there stay.
    pub(crate) fn stop(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }

    /// Waits until every name was looked up once, at most for `patience`.
    pub(crate) async fn first_lookup(&self, patience: Duration) {
        let mut looked_up = self.looked_up.clone();
        let _ = timeout(patience, looked_up.wait_for(|done| *done)).await;
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.stop();
    }
}

fn literal(address: &Address) -> Option<SocketAddr> {
    let ip: IpAddr = address.host.parse().ok()?;
    Some(SocketAddr::new(ip, address.port))
}

struct Lookup {
    upstream: Box<str>,
    written: Vec<Address>,
    resolved: Arc<ArcSwap<Vec<SocketAddr>>>,
    done: watch::Sender<bool>,
}

impl Lookup {
    async fn run(self) {
        let mut known: Vec<Vec<SocketAddr>> = vec![Vec::new(); self.written.len()];
        loop {
            let mut is_complete = true;
            for (address, known) in self.written.iter().zip(&mut known) {
                match literal(address) {
                    Some(literal) => *known = vec![literal],
                    None => match self.look_up(address).await {
                        Some(found) => *known = found,
                        // What was found before goes on serving.
                        None => is_complete = false,
                    },
                }
            }
            let addresses: Vec<_> = known.iter().flatten().copied().collect();
            if **self.resolved.load() != addresses {
                tracing::info!(
                    portcullis.upstream.name = &*self.upstream,
                    addresses = addresses.len(),
                    "upstream resolved"
                );
                self.resolved.store(Arc::new(addresses));
            }
            self.done.send_replace(true);
            sleep(if is_complete {
                LOOKUP_INTERVAL
            } else {
                LOOKUP_RETRY
            })
            .await;
        }
    }

    async fn look_up(&self, address: &Address) -> Option<Vec<SocketAddr>> {
        let lookup = lookup_host((address.host.as_str(), address.port));
        let found: Vec<_> = match timeout(LOOKUP_TIMEOUT, lookup).await {
            Ok(Ok(found)) => {
                let mut found: Vec<_> = found.collect();
                // Name servers give them in another order each time.
                found.sort_unstable();
                found.truncate(MAX_PER_NAME);
                found
            }
            Ok(Err(error)) => {
                tracing::warn!(
                    portcullis.upstream.name = &*self.upstream,
                    server.address = address.host,
                    error.message = %error,
                    "name of an upstream not resolved"
                );
                return None;
            }
            Err(_) => {
                tracing::warn!(
                    portcullis.upstream.name = &*self.upstream,
                    server.address = address.host,
                    "name of an upstream not resolved in time"
                );
                return None;
            }
        };
        (!found.is_empty()).then_some(found)
    }
}

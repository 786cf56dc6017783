//! What a gateway holds, and whether it gives it back.

use crate::{Gateway, eventually};

/// What an allocator keeps for the next time; remembered tokens and counts of refusals are within it.
const ALLOCATOR_BYTES: f64 = 32.0 * 1024.0 * 1024.0;
/// Connections to services that wait for the next request.
const KEPT_CONNECTIONS: f64 = 8.0;

/// What a gateway holds at one time.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    bytes: f64,
    descriptors: f64,
}

impl Held {
    /// With this many more connections to services that wait for the next request: many requests side by
    /// side need as many.
    #[must_use]
    pub fn and_kept(mut self, connections: u32) -> Self {
        self.descriptors += f64::from(connections);
        self
    }

    /// With whatever memory: an allocator that has had much keeps some until it is asked for more.
    #[must_use]
    pub fn and_any_memory(mut self) -> Self {
        self.bytes = f64::INFINITY;
        self
    }
}

impl Gateway {
    /// Memory and descriptors that it holds now.
    pub async fn holds(&self) -> Held {
        let metrics = self.metrics().await;
        Held {
            bytes: metrics.value("process_resident_memory_bytes", &[]),
            descriptors: metrics.value("process_open_fds", &[]),
        }
    }

    /// Waits until it has given back all that it took since `before`.
    ///
    /// # Panics
    /// When it keeps some of it.
    pub async fn until_it_holds_no_more_than(&self, before: Held) {
        let what = format!("memory and descriptors given back, down to {before:?}");
        eventually(&what, || async {
            let now = self.holds().await;
            let is_back = now.bytes <= before.bytes + ALLOCATOR_BYTES
                && now.descriptors <= before.descriptors + KEPT_CONNECTIONS;
            is_back.then_some(())
        })
        .await;
    }
}

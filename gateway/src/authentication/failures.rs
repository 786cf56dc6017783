//! Who makes the gateway verify tokens for nothing. A signature that does not fit costs as much as one
//! that does, so what one address may cost is bounded; tokens that are remembered cost nothing, and are
//! taken all the while.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::downstream::connections::network;

/// However many addresses there are. Two that share a slot share its limit for a second; which ones do,
/// nobody can know.
const SLOTS: usize = 1 << 14;

/// Failed verifications of the current second, by address.
pub(crate) struct Failures {
    /// The second in the upper half, the count in the lower.
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
    since: Instant,
}

impl std::fmt::Debug for Failures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Failures").finish_non_exhaustive()
    }
}

impl Default for Failures {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            since: Instant::now(),
        }
    }
}

impl Failures {
    /// Whether `address` has had `limit` of them in this second; a limit of 0 is none.
    pub(crate) fn are_exceeded(&self, address: IpAddr, limit: u32, now: Instant) -> bool {
        let Some(slot) = self.slot(address).filter(|_| limit > 0) else {
            return false;
        };
        let (second, count) = unpacked(slot.load(Ordering::Relaxed));
        second == self.second(now) && count >= limit
    }

    /// `address` has had one more.
    pub(crate) fn add(&self, address: IpAddr, now: Instant) {
        let Some(slot) = self.slot(address) else {
            return;
        };
        let current = self.second(now);
        // Threads that meet here may lose a count, which lets one more token be tried.
        let (second, count) = unpacked(slot.load(Ordering::Relaxed));
        let count = if second == current {
            count.saturating_add(1)
        } else {
            1
        };
        slot.store(
            u64::from(current) << 32 | u64::from(count),
            Ordering::Relaxed,
        );
    }

    fn slot(&self, address: IpAddr) -> Option<&AtomicU64> {
        let hash = self.hasher.hash_one(network(address));
        self.slots
            .get(usize::try_from(hash).unwrap_or_default() % SLOTS)
    }

    fn second(&self, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.since).as_secs();
        // Zero is what a slot has that was never used.
        u32::try_from(elapsed).unwrap_or(u32::MAX).saturating_add(1)
    }
}

fn unpacked(slot: u64) -> (u32, u32) {
    let half = |value: u64| u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    (half(slot >> 32), half(slot))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn limit_is_of_an_address_and_of_a_second() {
        let failures = Failures::default();
        let start = failures.since;
        let (here, there): (IpAddr, IpAddr) =
            ("2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        for _ in 0..5 {
            assert!(!failures.are_exceeded(here, 5, start));
            failures.add(here, start);
        }
        assert!(failures.are_exceeded(here, 5, start));
        assert!(
            failures.are_exceeded("2001:db8::2".parse().unwrap(), 5, start),
            "of the same network"
        );
        assert!(!failures.are_exceeded(there, 5, start));
        assert!(!failures.are_exceeded(here, 0, start), "no limit");
        let next = start + Duration::from_secs(1);
        assert!(!failures.are_exceeded(here, 5, next));
        failures.add(here, next);
        assert!(failures.are_exceeded(here, 1, next));
    }
}

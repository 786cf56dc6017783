//! Overload: what is refused, and what is given up, so that the process lives and goes on serving what
//! it has taken on.
//!
//! Memory is looked at several times a second. Above the first threshold new requests are refused with
//! 503; above the second, no connection is accepted, and those with the most requests in flight are
//! closed, as many at each look as it takes. Health and metrics have a thread of their own and answer throughout.
//!
//! Resident memory says too much once the load has gone: the allocator gives pages back when it is
//! asked for others, and somebody who is refused asks for none. So it counts for no more than what is
//! open could hold.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use portcullis_config::Overload as Thresholds;
use procfs::process::Process;
use procfs::{Current as _, Meminfo};
use tokio::time::{MissedTickBehavior, interval};

use crate::downstream::connections::Connections;
use crate::gateway::Gateway;

/// Between two looks. Ten gigabits fill 60 MB in this time.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// More than a connection holds by itself, with TLS and HTTP/2; a head that is being read comes on top.
const CONNECTION_BYTES: u64 = 128 * 1024;
/// More than a request in flight holds, in both directions.
const REQUEST_BYTES: u64 = 1024 * 1024;
/// About what a remembered token holds, with its claims.
const TOKEN_BYTES: u64 = 4 * 1024;

/// How the gateway is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    /// Well.
    None = 0,
    /// New requests are refused.
    Refusing = 1,
    /// Connections are closed, too.
    Closing = 2,
}

/// What was seen at the last look.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    pressure: AtomicU8,
    is_crowded: AtomicBool,
}

impl Gauge {
    /// Whether a request may begin on a connection; `is_surplus` is one that was accepted when there
    /// were too many.
    pub(crate) fn accepts_requests(&self, is_surplus: bool) -> bool {
        self.pressure.load(Ordering::Relaxed) == Pressure::None as u8
            && !(is_surplus && self.is_crowded.load(Ordering::Relaxed))
    }

    /// Whether connections are closed, so that no more are accepted.
    pub(crate) fn closes_connections(&self) -> bool {
        self.pressure.load(Ordering::Relaxed) == Pressure::Closing as u8
    }

    /// Whether too many connections are open.
    pub(crate) fn crowded(&self, is_crowded: bool) {
        self.is_crowded.store(is_crowded, Ordering::Relaxed);
    }

    /// Says whether it was another one before.
    fn set(&self, pressure: Pressure) -> bool {
        self.pressure.swap(pressure as u8, Ordering::Relaxed) != pressure as u8
    }
}

/// Looks at memory for as long as the gateway runs.
pub(crate) async fn watch(gateway: Arc<Gateway>, connections: Arc<Connections>) {
    let available = available();
    let at_rest = used().unwrap_or_default();
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let snapshot = gateway.snapshot();
        let thresholds = &snapshot.config().overload;
        gateway
            .overload()
            .crowded(connections.is_crowded(snapshot.config()));
        // Without either, there is nothing to go by.
        let (Some(resident), Some(all)) = (used(), thresholds.memory.or(available)) else {
            continue;
        };
        let limits = &snapshot.config().limits;
        // The space for it doubles as it comes.
        let head = 2 * (limits.header_bytes + limits.target_bytes) as u64;
        let could_hold = at_rest
            + connections.count() as u64 * (CONNECTION_BYTES + head)
            + gateway.metrics().requests_in_flight() * REQUEST_BYTES
            + snapshot.tokens().len() as u64 * TOKEN_BYTES;
        let used = resident.min(could_hold);
        let pressure = pressure(used, all, thresholds);
        if gateway.overload().set(pressure) {
            gateway
                .metrics()
                .overload_changed(pressure != Pressure::None);
            match pressure {
                Pressure::None => tracing::info!(used, available = all, "memory is enough again"),
                Pressure::Refusing => {
                    tracing::warn!(
                        used,
                        available = all,
                        "memory is short: requests are refused"
                    );
                }
                Pressure::Closing => tracing::error!(
                    used,
                    available = all,
                    "memory is short: connections with many requests are closed"
                ),
            }
        }
        if pressure == Pressure::Closing {
            let enough = all / 100 * u64::from(thresholds.refuse_at_memory_percent);
            let percent = share_to_close(used, enough, at_rest);
            gateway
                .metrics()
                .connections_shed(connections.shed(percent));
        }
    }
}

/// The percentage of what is going on that has to end for memory to be `enough` again, if all of it
/// holds the same; no more than half at once, since what was closed shows with the next look only.
fn share_to_close(used: u64, enough: u64, at_rest: u64) -> u64 {
    let held = used.saturating_sub(at_rest).max(1);
    (used.saturating_sub(enough) / held.div_ceil(100)).clamp(10, 50)
}

fn pressure(used: u64, available: u64, thresholds: &Thresholds) -> Pressure {
    let is_above =
        |percent: u32| u128::from(used) * 100 > u128::from(available) * u128::from(percent);
    if is_above(thresholds.close_at_memory_percent) {
        Pressure::Closing
    } else if is_above(thresholds.refuse_at_memory_percent) {
        Pressure::Refusing
    } else {
        Pressure::None
    }
}

/// Resident memory of this process.
fn used() -> Option<u64> {
    let pages = Process::myself().ok()?.statm().ok()?.resident;
    pages.checked_mul(procfs::page_size())
}

/// The limit of the control group, or of one above it; or else what the machine has.
fn available() -> Option<u64> {
    let machine = Meminfo::current().ok().map(|memory| memory.mem_total);
    let groups = Process::myself().and_then(|process| process.cgroups());
    let limits = groups
        .into_iter()
        .flat_map(|groups| groups.0)
        .filter_map(|group| {
            let is_unified = group.controllers.iter().all(String::is_empty);
            let is_memory = group.controllers.iter().any(|name| name == "memory");
            if is_unified {
                smallest_limit(Path::new("/sys/fs/cgroup"), &group.pathname, "memory.max")
            } else if is_memory {
                let root = Path::new("/sys/fs/cgroup/memory");
                smallest_limit(root, &group.pathname, "memory.limit_in_bytes")
            } else {
                None
            }
        });
    limits.chain(machine).min()
}

/// Of the group at `path` and all above it. Inside of a container the path may be that of the host:
/// then the group at the root is the container's own.
fn smallest_limit(root: &Path, path: &str, file: &str) -> Option<u64> {
    let group: PathBuf = root.join(path.trim_start_matches('/'));
    group
        .ancestors()
        .take_while(|ancestor| ancestor.starts_with(root))
        .filter_map(|ancestor| fs::read_to_string(ancestor.join(file)).ok())
        // `max` is no limit.
        .filter_map(|limit| limit.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn each_threshold_counts_above_its_percentage() {
        let thresholds = Thresholds {
            memory: None,
            refuse_at_memory_percent: 85,
            close_at_memory_percent: 95,
            refuse_at_connections_percent: 95,
        };
        for (used, expected) in [
            (0, Pressure::None),
            (85, Pressure::None),
            (86, Pressure::Refusing),
            (95, Pressure::Refusing),
            (96, Pressure::Closing),
            (u64::MAX, Pressure::Closing),
        ] {
            assert_eq!(pressure(used, 100, &thresholds), expected, "{used}");
        }
        assert_eq!(pressure(1, 0, &thresholds), Pressure::Closing);
    }

    #[test]
    fn more_is_closed_the_more_is_held_too_much() {
        for (used, enough, at_rest, expected) in [
            (100, 85, 40, 15 * 100 / 60),
            (100, 99, 40, 10),
            (400, 85, 40, 50),
            (100, 85, 100, 50),
            (85, 85, 40, 10),
        ] {
            let share = share_to_close(used * MIB, enough * MIB, at_rest * MIB);
            assert!(share.abs_diff(expected) <= 1, "{used} {enough}: {share}");
        }
    }

    #[test]
    fn this_process_uses_some_of_what_is_available() {
        let (used, available) = (used().unwrap(), available().unwrap());
        assert!(used > MIB && used < available, "{used} of {available}");
    }

    #[test]
    fn smallest_limit_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("a/b");
        fs::create_dir_all(&group).unwrap();
        let limit = || smallest_limit(root.path(), "/a/b", "memory.max");
        assert_eq!(limit(), None);
        fs::write(group.join("memory.max"), "max\n").unwrap();
        assert_eq!(limit(), None);
        fs::write(root.path().join("a/memory.max"), "1000\n").unwrap();
        assert_eq!(limit(), Some(1000));
        fs::write(group.join("memory.max"), "2000\n").unwrap();
        assert_eq!(limit(), Some(1000));
        fs::write(group.join("memory.max"), "10\n").unwrap();
        assert_eq!(limit(), Some(10));
        // A path of the host's, of which nothing is to be seen here.
        fs::write(root.path().join("memory.max"), "77\n").unwrap();
        let of_the_host = smallest_limit(root.path(), "/kubepods/pod1", "memory.max");
        assert_eq!(of_the_host, Some(77));
    }
}

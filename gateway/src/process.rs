//! What the system lets this process do, and what the process asks of it.

use std::io;
use std::thread;

use portcullis_config::Config;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setpriority_process,
    setrlimit,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Descriptors beside those of callers and services: listeners, files, issuers, the admin listener.
const OTHER_DESCRIPTORS: u64 = 128;
/// A tenth of what a worker gets of a processor that both want. Where there is enough for both, nothing is lost.
const LOW_PRIORITY: i32 = 10;

/// Keeps memory out of core files, and from other processes of the same user: tokens and private keys
/// are in it. A limit on core files alone does not bind a handler that the kernel pipes them to
/// (`core(5)`).
///
/// # Errors
/// When the system refuses.
pub(crate) fn hide_memory() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let limited = setrlimit(Resource::Core, none);
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(limited?)
}

/// Takes as many descriptors as the system gives without being asked by an administrator.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(error.message = %error, "limit of descriptors not raised");
    }
}

/// As many connections of callers as there are descriptors for, and no more than `limits.connections`: beyond
/// that the admin listener would wait with everybody else.
pub(crate) fn possible_connections(config: &Config) -> usize {
    let descriptors = getrlimit(Resource::Nofile).current;
    config
        .limits
        .connections
        .min(descriptors.map_or(usize::MAX, connections_with))
}

/// Tells where that is less than was asked for.
pub(crate) fn report_descriptors(config: &Config) {
    let possible = possible_connections(config);
    if possible < config.limits.connections {
        tracing::warn!(
            limits.connections = config.limits.connections,
            possible,
            "fewer descriptors than limits.connections needs: raise LimitNOFILE (ulimit -n), or lower it"
        );
    }
}

/// Each has a descriptor to its caller and, while a request is in flight, one to its service. Requests over
/// HTTP/2 may need more.
fn connections_with(descriptors: u64) -> usize {
    let each = descriptors.saturating_sub(OTHER_DESCRIPTORS) / 2;
    usize::try_from(each).unwrap_or(usize::MAX).max(1)
}

/// Does long work on a thread of its own, where it yields to whoever serves requests. What it spawns runs on
/// the runtime that this is called on.
///
/// # Errors
/// When there is no thread to be had. `None` when the work panics.
pub(crate) async fn in_background<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (done, result) = oneshot::channel();
    let runtime = Handle::current();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Of this thread, and those that it starts (`setpriority(2)`). Without it the work is done all
            // the same.
            let _ = setpriority_process(None, LOW_PRIORITY);
            let _entered = runtime.enter();
            // Whoever has asked may have left.
            let _ = done.send(work());
        })?;
    Ok(result.await.ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_needs_a_descriptor_on_either_side() {
        assert_eq!(connections_with(20_128), 10_000);
        assert_eq!(connections_with(20_127), 9_999);
        assert_eq!(connections_with(0), 1);
    }

    #[tokio::test]
    async fn background_work_has_a_low_priority_and_others_keep_theirs() {
        let priority = || rustix::process::getpriority_process(None).ok();
        let before = priority();
        let inside = in_background("test", priority).await.ok().flatten();
        assert_eq!(inside, Some(Some(LOW_PRIORITY)));
        assert_eq!(priority(), before);
    }

    #[tokio::test]
    async fn panic_of_background_work_is_told() {
        let outcome = in_background("test", || panic!("as it should")).await;
        assert!(matches!(outcome, Ok(None::<()>)));
    }
}

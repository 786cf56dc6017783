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

/// Tells where `limits.connections` is more than there are descriptors for: accepting would stop at a
/// number that nobody has chosen, and the admin listener would wait with it.
pub(crate) fn report_descriptors(config: &Config) {
    let connections = config.limits.connections;
    let needed = descriptors_for(connections);
    if let Some(descriptors) = getrlimit(Resource::Nofile).current
        && descriptors < needed
    {
        tracing::warn!(
            limits.connections = connections,
            descriptors,
            needed,
            "fewer descriptors than limits.connections needs: raise LimitNOFILE (ulimit -n), or lower it"
        );
    }
}

/// One to the caller and, while a request is in flight, one to its service. Requests over HTTP/2 may need
/// more.
fn descriptors_for(connections: usize) -> u64 {
    2 * connections as u64 + OTHER_DESCRIPTORS
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
        assert_eq!(descriptors_for(10_000), 20_128);
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

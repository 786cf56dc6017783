use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// How long anything that must happen may take on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(20);

/// Polls `attempt` until it yields a value.
///
/// # Panics
/// When [`DEADLINE`] has passed; `what` says what did not happen.
pub async fn eventually<T, F>(what: &str, attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    eventually_within(DEADLINE, what, attempt).await
}

/// Like [`eventually`], with a deadline of its own.
///
/// # Panics
/// When the deadline has passed.
pub async fn eventually_within<T, F>(
    deadline: Duration,
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(
            Instant::now() < end,
            "within {deadline:?}: {what} did not happen"
        );
        tokio::time::sleep(PAUSE).await;
    }
}

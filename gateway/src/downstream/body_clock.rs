//! Time for request bodies. Over HTTP/2, where Pingora has no limit, silence ends a request: a caller
//! that stops sending must not hold a stream, and a connection to a service, for ever. Each part of
//! the body, and each part of the response, moves the deadline; [`proxy`](crate::proxy) says by how
//! much. Whoever owes nothing has none.
//!
//! A body that comes in drops is no silence: [`Progress`] holds it to a slowest average, and to a size.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use portcullis_policy::Denial;
use tokio::time::{Instant, sleep_until};

/// What has come of a request body.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    since: Option<Instant>,
    bytes: u64,
}

impl Progress {
    /// Takes a part of the body into account, which may have `most` bytes in all, and has to have
    /// `bytes_per_second` of them once `patience` has passed; 0 is no matter.
    ///
    /// # Errors
    /// The body has become too large, or comes too slowly.
    pub(crate) fn add(
        &mut self,
        bytes: usize,
        most: u64,
        patience: Duration,
        bytes_per_second: u32,
        is_hurried: bool,
    ) -> Result<(), Denial> {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.bytes > most {
            return Err(Denial::BodyTooLarge);
        }
        // None, when it does not matter how long it takes.
        let granted = self.bytes.checked_div(bytes_per_second.into());
        let is_late = granted.is_some_and(|seconds| {
            let granted = patience.saturating_add(Duration::from_secs(seconds));
            now.duration_since(since) > granted
        });
        if is_hurried && is_late {
            return Err(Denial::RequestTimeout);
        }
        Ok(())
    }
}

tokio::task_local! {
    static DEADLINE: Cell<Option<Instant>>;
}

/// Runs `serving` until the deadline that it has set last has passed; then `None`.
pub(crate) async fn guard<T>(serving: impl Future<Output = T>) -> Option<T> {
    DEADLINE
        .scope(Cell::new(None), async {
            let mut serving = pin!(serving);
            let mut alarm = pin!(sleep_until(Instant::now()));
            poll_fn(|context| {
                if let Poll::Ready(done) = serving.as_mut().poll(context) {
                    return Poll::Ready(Some(done));
                }
                let Some(deadline) = DEADLINE.with(Cell::get) else {
                    return Poll::Pending;
                };
                if alarm.deadline() != deadline {
                    alarm.as_mut().reset(deadline);
                }
                alarm.as_mut().poll(context).map(|()| None)
            })
            .await
        })
        .await
}

/// The next part is owed within `patience`.
pub(crate) fn expect_within(patience: Duration) {
    // An error says that nobody guards this request: HTTP/1 has time limits of Pingora's.
    let _ = DEADLINE.try_with(|deadline| deadline.set(Some(Instant::now() + patience)));
}

/// Nothing is owed.
pub(crate) fn expect_nothing() {
    let _ = DEADLINE.try_with(|deadline| deadline.set(None));
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_ends_the_request_after_the_limit() {
        let started = Instant::now();
        let outcome = guard(async {
            expect_within(LIMIT);
            sleep(Duration::from_secs(20)).await;
            expect_within(LIMIT);
            pending::<()>().await;
        })
        .await;
        assert_eq!(outcome, None);
        assert_eq!(started.elapsed().as_secs(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_ends_a_request_that_owes_nothing() {
        let outcome = guard(async {
            expect_within(LIMIT);
            expect_nothing();
            sleep(Duration::from_secs(86_400)).await;
        })
        .await;
        assert_eq!(outcome, Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_deadline_replaces_a_later_one() {
        let started = Instant::now();
        let outcome = guard(async {
            expect_within(LIMIT);
            sleep(Duration::from_secs(1)).await;
            expect_within(Duration::from_secs(1));
            pending::<()>().await;
        })
        .await;
        assert_eq!(outcome, None);
        assert_eq!(started.elapsed().as_secs(), 2);
    }
}

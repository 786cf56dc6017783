//! Costly work in turns. A signature takes a worker as long as several requests that need none, and a storm of
//! them would keep those waiting for all of it: handshakes on new connections, tokens that are new. So a
//! worker does such work for a fifth of a millisecond, then looks what else has come, and goes on.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::yield_now;

/// As many small signatures as fit, or one of RSA.
const BUDGET: Duration = Duration::from_micros(200);

/// The turns of one kind of work on one worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Time that the work has taken since others were let go first. Whoever holds it has its turn.
    spent: Mutex<Duration>,
    waiting: AtomicUsize,
}

impl Turns {
    /// Runs `work`, its first step when it is its turn. What follows waits for no turn: what was begun is not
    /// kept waiting by what was not, nor does that wait for a caller that is slow to go on.
    pub(crate) async fn begin<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        let first_step = {
            let _waiting = Waiting::begin(&self.0.waiting);
            let mut spent = self.0.spent.lock().await;
            if *spent >= BUDGET {
                // Whatever else is ready goes first, and so does what has arrived on sockets meanwhile.
                yield_now().await;
                *spent = Duration::ZERO;
            }
            let start = Instant::now();
            let step = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
            *spent += start.elapsed();
            step
        };
        match first_step {
            Poll::Ready(output) => output,
            Poll::Pending => work.await,
        }
    }

    /// How many have not had their turn yet.
    pub(crate) fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }
}

/// Counts one that waits until it is dropped: it has had its turn, or was given up.
pub(crate) struct Waiting<'w>(&'w AtomicUsize);

impl<'w> Waiting<'w> {
    pub(crate) fn begin(waiting: &'w AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::pending;
    use std::rc::Rc;
    use std::thread;

    use tokio::task::LocalSet;
    use tokio::time::timeout;

    use super::*;

    /// What `works` and whatever else is ready do, in the order in which they do it.
    async fn order(works: usize, each: Duration) -> Vec<&'static str> {
        let turns = Turns::default();
        let done = Rc::new(RefCell::new(Vec::new()));
        let local = LocalSet::new();
        for _ in 0..works {
            let (turns, done) = (turns.clone(), Rc::clone(&done));
            local.spawn_local(async move {
                let step = async {
                    thread::sleep(each);
                    done.borrow_mut().push("work");
                };
                turns.begin(step).await;
            });
        }
        let others = Rc::clone(&done);
        local.spawn_local(async move {
            let begun = || others.borrow().iter().filter(|it| **it == "work").count();
            while begun() < works {
                others.borrow_mut().push("request");
                yield_now().await;
            }
        });
        local.await;
        done.take()
    }

    fn most_in_a_row(done: &[&str]) -> Option<usize> {
        done.split(|it| *it == "request").map(<[_]>::len).max()
    }

    #[tokio::test]
    async fn worker_looks_what_else_is_ready_after_each_costly_step() {
        let done = order(20, BUDGET).await;
        assert!(most_in_a_row(&done) <= Some(2), "{done:?}");
    }

    #[tokio::test]
    async fn cheap_steps_share_a_turn() {
        // Each sleeps for no time at all.
        let done = order(20, Duration::ZERO).await;
        assert!(most_in_a_row(&done) > Some(2), "{done:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn caller_that_says_nothing_more_holds_up_nobody() {
        let turns = Turns::default();
        let mut silent = pin!(turns.begin(pending::<()>()));
        let first = poll_fn(|context| Poll::Ready(silent.as_mut().poll(context))).await;
        assert!(first.is_pending());
        let other = timeout(Duration::from_secs(1), turns.begin(async {}));
        assert!(other.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_given_up_in_its_turn_leaves_it() {
        let turns = Turns::default();
        turns.begin(async { thread::sleep(BUDGET) }).await;
        {
            let mut given_up = pin!(turns.begin(async {}));
            let first = poll_fn(|context| Poll::Ready(given_up.as_mut().poll(context))).await;
            assert!(
                first.is_pending(),
                "it has its turn, and lets others go first"
            );
            assert_eq!(turns.waiting(), 1);
        }
        assert_eq!(turns.waiting(), 0);
        let other = timeout(Duration::from_secs(1), turns.begin(async {}));
        assert!(other.await.is_ok());
    }
}

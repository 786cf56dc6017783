//! Handshakes in turns. The first step of a full handshake is a signature, which takes a worker as long as
//! ten requests or more; a storm of them would keep requests on open connections waiting for all of them.
//! So a worker begins handshakes for a fifth of a millisecond, then looks what else has come, and goes on.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::yield_now;

/// As many small signatures as fit, or one of RSA.
const BUDGET: Duration = Duration::from_micros(200);

/// The handshakes that one worker begins.
#[derive(Debug, Clone, Default)]
pub(crate) struct HandshakeTurns {
    /// Time that they have taken since others were let go first. Whoever holds it has its turn.
    spent: Arc<Mutex<Duration>>,
}

impl HandshakeTurns {
    /// Runs `handshake`, its first step when it is its turn. What follows is cheap, and waits for no turn: a
    /// handshake that was begun is not kept waiting by those that were not, nor do they wait for a caller
    /// that is slow to go on.
    pub(crate) async fn begin<F: Future>(&self, handshake: F) -> F::Output {
        let mut handshake = pin!(handshake);
        let first_step = {
            let mut spent = self.spent.lock().await;
            if *spent >= BUDGET {
                // Whatever else is ready goes first, and so does what has arrived on sockets meanwhile.
                yield_now().await;
                *spent = Duration::ZERO;
            }
            let start = Instant::now();
            let step = poll_fn(|context| Poll::Ready(handshake.as_mut().poll(context))).await;
            *spent += start.elapsed();
            step
        };
        match first_step {
            Poll::Ready(output) => output,
            Poll::Pending => handshake.await,
        }
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

    /// What `HANDSHAKES` and whatever else is ready do, in the order in which they do it.
    async fn order(handshakes: usize, each: Duration) -> Vec<&'static str> {
        let turns = HandshakeTurns::default();
        let done = Rc::new(RefCell::new(Vec::new()));
        let local = LocalSet::new();
        for _ in 0..handshakes {
            let (turns, done) = (turns.clone(), Rc::clone(&done));
            local.spawn_local(async move {
                let step = async {
                    thread::sleep(each);
                    done.borrow_mut().push("handshake");
                };
                turns.begin(step).await;
            });
        }
        let others = Rc::clone(&done);
        local.spawn_local(async move {
            let begun = || {
                others
                    .borrow()
                    .iter()
                    .filter(|it| **it == "handshake")
                    .count()
            };
            while begun() < handshakes {
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
    async fn worker_looks_what_else_is_ready_after_each_costly_handshake() {
        let done = order(20, BUDGET).await;
        assert!(most_in_a_row(&done) <= Some(2), "{done:?}");
    }

    #[tokio::test]
    async fn cheap_handshakes_share_a_turn() {
        // Each sleeps for no time at all.
        let done = order(20, Duration::ZERO).await;
        assert!(most_in_a_row(&done) > Some(2), "{done:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn caller_that_says_nothing_more_holds_up_nobody() {
        let turns = HandshakeTurns::default();
        let mut silent = pin!(turns.begin(pending::<()>()));
        let first = poll_fn(|context| Poll::Ready(silent.as_mut().poll(context))).await;
        assert!(first.is_pending());
        let other = timeout(Duration::from_secs(1), turns.begin(async {}));
        assert!(other.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn handshake_that_is_given_up_in_its_turn_leaves_it() {
        let turns = HandshakeTurns::default();
        turns.begin(async { thread::sleep(BUDGET) }).await;
        {
            let mut given_up = pin!(turns.begin(async {}));
            let first = poll_fn(|context| Poll::Ready(given_up.as_mut().poll(context))).await;
            assert!(
                first.is_pending(),
                "it has its turn, and lets others go first"
            );
        }
        let other = timeout(Duration::from_secs(1), turns.begin(async {}));
        assert!(other.await.is_ok());
    }
}

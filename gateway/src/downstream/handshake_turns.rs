//! Handshakes in turns. A full handshake is a signature, which takes a worker as long as ten requests or
//! more; a storm of them would keep requests on open connections waiting for all of them. So a worker
//! does one step of one handshake, then looks what else has come, before the next step.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// The handshakes of one worker.
#[derive(Debug, Clone)]
pub(crate) struct HandshakeTurns(Arc<Semaphore>);

impl HandshakeTurns {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// Runs `handshake`, each step of it when it is its turn. While it waits for its caller it has none,
    /// so that a slow one holds up nobody.
    pub(crate) async fn take<F: Future>(&self, handshake: F) -> F::Output {
        let mut handshake = pin!(handshake);
        loop {
            {
                let _turn = self.0.acquire().await;
                // Whatever else is ready goes first, and so does what has arrived on sockets meanwhile.
                yield_now().await;
                let step = poll_fn(|context| Poll::Ready(handshake.as_mut().poll(context)));
                if let Poll::Ready(output) = step.await {
                    return output;
                }
            }
            // The step has seen to it that this task is woken when there is more to do.
            let mut is_woken = false;
            poll_fn(|_| {
                let woken = if is_woken {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                };
                is_woken = true;
                woken
            })
            .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test]
    async fn one_step_of_a_handshake_is_done_between_two_looks_at_what_else_is_ready() {
        const HANDSHAKES: usize = 20;
        let turns = HandshakeTurns::new();
        let done = Rc::new(RefCell::new(Vec::new()));
        let local = LocalSet::new();
        for _ in 0..HANDSHAKES {
            let (turns, done) = (turns.clone(), Rc::clone(&done));
            local.spawn_local(async move {
                turns
                    .take(async {
                        for _ in 0..2 {
                            done.borrow_mut().push("step");
                            yield_now().await;
                        }
                    })
                    .await;
            });
        }
        let others = Rc::clone(&done);
        local.spawn_local(async move {
            while others.borrow().iter().filter(|it| **it == "step").count() < 2 * HANDSHAKES {
                others.borrow_mut().push("request");
                yield_now().await;
            }
        });
        local.await;
        let done = done.borrow();
        // At the very first, the one that is let go first meets the next one.
        let in_a_row = done.split(|it| *it == "request").map(<[_]>::len).max();
        assert!(in_a_row <= Some(2), "{done:?}");
        assert_eq!(
            done.iter().filter(|it| **it == "step").count(),
            2 * HANDSHAKES
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_says_nothing_holds_up_nobody() {
        let turns = HandshakeTurns::new();
        let silent = turns.take(std::future::pending::<()>());
        let other = turns.take(async { "done" });
        let silent = tokio::time::timeout(Duration::from_secs(1), silent);
        let (silent, other) = tokio::join!(silent, other);
        assert!(silent.is_err());
        assert_eq!(other, "done");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_given_up_while_it_has_its_turn_leaves_it() {
        let turns = HandshakeTurns::new();
        {
            let mut given_up = pin!(turns.take(async {}));
            let first = poll_fn(|context| Poll::Ready(given_up.as_mut().poll(context))).await;
            assert!(
                first.is_pending(),
                "it has its turn, and lets others go first"
            );
        }
        let other = tokio::time::timeout(Duration::from_secs(1), turns.take(async {}));
        assert!(other.await.is_ok());
    }
}

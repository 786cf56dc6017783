//! Worker threads, each with a runtime of its own. A connection stays on one thread, and so do its
//! requests and the connections to services that they use: nothing is handed over, nothing is stolen.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pingora_proxy::HttpProxy;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::proxy::Proxy;
use crate::turns::Turns;

/// What is left at the end has been cut off already.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(100);

/// All of them. They end when this is dropped.
pub(crate) struct Workers {
    workers: Vec<Worker>,
    turn: AtomicUsize,
}

/// One thread, with the connections to services that are its own.
pub(crate) struct Worker {
    /// To put a connection on it.
    pub(crate) runtime: Handle,
    pub(crate) proxy: Arc<HttpProxy<Proxy>>,
    pub(crate) handshakes: Turns,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// Starts one for each of `proxies`; at least one is needed to serve anybody.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be started.
    pub(crate) fn start(proxies: Vec<HttpProxy<Proxy>>) -> io::Result<Self> {
        let workers = proxies
            .into_iter()
            .enumerate()
            .map(|(number, proxy)| Worker::start(number, proxy))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            workers,
            turn: AtomicUsize::new(0),
        })
    }

    /// The one whose turn it is.
    pub(crate) fn next(&self) -> Option<&Worker> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.workers.get(turn.checked_rem(self.workers.len())?)
    }

    pub(crate) fn proxies(&self) -> impl Iterator<Item = &Arc<HttpProxy<Proxy>>> {
        self.workers.iter().map(|worker| &worker.proxy)
    }
}

impl Worker {
    fn start(number: usize, proxy: HttpProxy<Proxy>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                // An error says that `Workers` is gone, which is the same.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
            })?;
        Ok(Self {
            runtime: handle,
            proxy: Arc::new(proxy),
            handshakes: Turns::default(),
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            drop(worker.stop.take());
        }
        for worker in &mut self.workers {
            // A thread cannot wait for itself, should it be the last to let go.
            let thread = worker
                .thread
                .take()
                .filter(|thread| thread.thread().id() != thread::current().id());
            if let Some(thread) = thread {
                let _ = thread.join();
            }
        }
    }
}

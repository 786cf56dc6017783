//! Requests in a loop, beside whatever else a test does.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinHandle;

/// Workers that repeat one call until told to stop.
#[derive(Debug)]
pub struct Load {
    stopping: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    workers: Vec<JoinHandle<Vec<String>>>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadReport {
    /// How many calls were made.
    pub calls: u64,
    /// What went wrong, one line for each failed call.
    pub failures: Vec<String>,
}

impl Load {
    /// Starts `workers` loops over `call`; an error is a failed call.
    pub fn start<F>(workers: usize, call: impl Fn() -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send,
    {
        let stopping = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(AtomicU64::new(0));
        let workers = (0..workers)
            .map(|_| {
                let (stopping, calls) = (Arc::clone(&stopping), Arc::clone(&calls));
                let call = call.clone();
                tokio::spawn(async move {
                    let mut failures = Vec::new();
                    while !stopping.load(Ordering::Relaxed) {
                        if let Err(failure) = call().await {
                            failures.push(failure);
                        }
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                    failures
                })
            })
            .collect();
        Self {
            stopping,
            calls,
            workers,
        }
    }

    /// How many calls were made so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Lets every worker finish its call.
    pub async fn finish(self) -> LoadReport {
        self.stopping.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for worker in self.workers {
            failures.extend(worker.await.unwrap());
        }
        LoadReport {
            calls: self.calls.load(Ordering::Relaxed),
            failures,
        }
    }
}

impl LoadReport {
    /// Asserts that there were calls and that all went well.
    ///
    /// # Panics
    /// When not.
    pub fn assert_flawless(&self) {
        assert!(self.calls > 0, "there was no load");
        let shown: Vec<_> = self.failures.iter().take(5).collect();
        assert!(
            self.failures.is_empty(),
            "{} of {} calls failed: {shown:#?}",
            self.failures.len(),
            self.calls
        );
    }
}

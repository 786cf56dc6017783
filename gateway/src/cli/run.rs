use std::io::Write as _;
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use sd_notify::NotifyState;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use super::{ConfigPath, ENVIRONMENT, FOUND_WANTING, GOOD, TIMED_OUT};
use crate::server::{Drained, Server};
use crate::telemetry::Metrics;
use crate::telemetry::log::{self, LogOptions};

/// Serve
///
/// Loads the configuration, binds the listeners and serves until SIGTERM or SIGINT, which drain:
/// readiness turns red, new connections are accepted for `shutdown.grace`, then what is in flight has
/// `shutdown.drain` to finish. SIGHUP loads the configuration anew, and so does a change of any of its
/// files; a bad configuration changes nothing, and is told in the log, in a metric and in `/status`.
///
/// Exit codes: 0 after a clean drain, 1 for a bad configuration, 3 when a socket or file cannot be had,
/// 4 when the drain's deadline cut something off.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigPath,
    #[command(flatten)]
    log: LogOptions,
    /// Worker threads. Default: one for each processor that this process may use
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZeroU16>,
    /// Write the bound addresses to this file, as JSON, once everything serves
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

impl Run {
    pub(super) fn run(self) -> u8 {
        let Some(config) = self.config.load() else {
            return FOUND_WANTING;
        };
        self.serve(config).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            ENVIRONMENT
        })
    }

    fn threads(&self) -> NonZeroUsize {
        let processors = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.threads.map_or_else(processors, NonZeroUsize::from)
    }

    fn serve(self, config: portcullis_config::Config) -> anyhow::Result<u8> {
        let metrics = Metrics::new().context("cannot make the metrics")?;
        // Flushes the log at the end of the process.
        let _log = log::init(self.log, &metrics).context("cannot start the log")?;
        // The workers have runtimes of their own; this one accepts, reloads and waits for signals.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        let outcome = runtime.block_on(self.serve_on_runtime(config, &metrics));
        // What was cut off is not waited for.
        runtime.shutdown_timeout(Duration::from_millis(100));
        outcome
    }

    async fn serve_on_runtime(
        self,
        config: portcullis_config::Config,
        metrics: &Metrics,
    ) -> anyhow::Result<u8> {
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        let server = Server::start(config, metrics, self.threads()).await?;
        if let Some(path) = &self.ready_file {
            write_ready_file(path, &server)
                .with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        for (name, address) in server.listeners() {
            tracing::info!(portcullis.listener = name, server.address = %address, "listening");
        }
        if let Some(address) = server.admin() {
            tracing::info!(server.address = %address, "admin listening");
        }
        tell_systemd(&[NotifyState::Ready]);
        let mut watchdog = sd_notify::watchdog_enabled()
            .map(|limit| tokio::time::interval((limit / 2).max(Duration::from_millis(100))));
        let mut reloads = JoinSet::new();
        loop {
            let ping = async {
                match &mut watchdog {
                    Some(pings) => pings.tick().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = signals.hang_up.recv() => {
                    if let Ok(since_boot) = NotifyState::monotonic_usec_now() {
                        tell_systemd(&[NotifyState::Reloading, since_boot]);
                    }
                    reloads.spawn(server.reload());
                }
                // Not waited for in between: a stop, or the watchdog, may not be late for it.
                Some(_) = reloads.join_next() => {
                    if reloads.is_empty() {
                        tell_systemd(&[NotifyState::Ready]);
                    }
                }
                _ = ping => tell_systemd(&[NotifyState::Watchdog]),
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
            }
        }
        tell_systemd(&[NotifyState::Stopping]);
        tracing::info!("draining");
        Ok(match server.shutdown().await {
            Drained::Finished => {
                tracing::info!("stopped");
                GOOD
            }
            Drained::CutOff => {
                tracing::error!("requests were cut off at the drain's deadline");
                TIMED_OUT
            }
        })
    }
}

struct Signals {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Does nothing where systemd is not listening.
fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(error.message = %error, "systemd not notified");
    }
}

/// In one step: whoever waits for the file never sees half of it.
fn write_ready_file(path: &Path, server: &Server) -> std::io::Result<()> {
    let listeners: serde_json::Map<_, _> = server
        .listeners()
        .map(|(name, address)| (name.to_owned(), json!(address.to_string())))
        .collect();
    let admin = server.admin().map(|address| address.to_string());
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
    writeln!(
        file,
        "{}",
        json!({ "listeners": listeners, "admin": admin })
    )?;
    file.persist(path)?;
    Ok(())
}

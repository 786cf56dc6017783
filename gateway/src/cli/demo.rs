use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{ENVIRONMENT, FOUND_WANTING, GOOD};
use crate::demo;
use crate::telemetry::Metrics;
use crate::telemetry::log::{self, LogFormat, LogLevel, LogOptions};

/// See it work: issuer, services and gateway on loopback, with calls to make
///
/// Starts a development issuer, two services behind mutual TLS and the gateway in front of them, all
/// in this process and on 127.0.0.1. Nothing else is needed: no network, no files. It prints where
/// its configuration is, what each route needs, and `curl` lines to paste into another terminal.
///
/// Ctrl-C stops everything and removes the files. Do not protect anything with it: the issuer prints
/// its clients' secrets.
///
/// Exit codes: 0 when it was stopped or all calls went as promised, 1 when a call of `--once` did
/// not, 3 when a socket or file cannot be had.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Port of the gateway. Where another program has it, a free one is taken and printed
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// Write configuration and certificates to this directory, empty or absent, and leave them there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Make the calls instead of waiting: print each request, its status and what the service saw
    #[arg(long)]
    once: bool,
}

impl Demo {
    pub(super) fn run(self) -> u8 {
        self.run_to_the_end().unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            ENVIRONMENT
        })
    }

    fn run_to_the_end(self) -> anyhow::Result<u8> {
        let metrics = Metrics::new().context("cannot make the metrics")?;
        // What the demo prints is not to be broken up by what is no trouble.
        let quiet = LogOptions {
            log_level: LogLevel::Error,
            log_format: LogFormat::Auto,
        };
        let _log = log::init(quiet, &metrics).context("cannot start the log")?;
        let runtime = tokio::runtime::Runtime::new().context("cannot start a runtime")?;
        let outcome = runtime.block_on(self.run_on_runtime(&metrics));
        runtime.shutdown_timeout(Duration::from_millis(100));
        outcome
    }

    async fn run_on_runtime(self, metrics: &Metrics) -> anyhow::Result<u8> {
        let mut stop = Stop::listen().context("cannot listen for signals")?;
        let mut demo = tokio::select! {
            demo = demo::Demo::start(self.port, self.keep, metrics) => demo?,
            () = stop.requested() => return Ok(GOOD),
        };
        let outcome = if self.once {
            tokio::select! {
                outcome = take_tour(&mut demo) => outcome,
                () = stop.requested() => Ok(FOUND_WANTING),
            }
        } else {
            serve(&demo, &mut stop).await
        };
        // Whoever asks again does not want to wait for what is in flight.
        tokio::select! {
            () = demo.shutdown() => {}
            () = stop.requested() => {}
        }
        outcome.context("cannot write to standard output")
    }
}

async fn take_tour(demo: &mut demo::Demo) -> io::Result<u8> {
    let mut out = io::stdout();
    let report = demo.take_tour(&mut out).await?;
    writeln!(out, "{report}")?;
    if report.is_as_promised() {
        writeln!(
            out,
            "Without --once, the demo waits and prints `curl` lines to try."
        )?;
        Ok(GOOD)
    } else {
        Ok(FOUND_WANTING)
    }
}

async fn serve(demo: &demo::Demo, stop: &mut Stop) -> io::Result<u8> {
    demo.introduce(&mut io::stdout())?;
    stop.requested().await;
    Ok(GOOD)
}

/// The signals that end the demo. A closed terminal is one of them: the files should not outlive it.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

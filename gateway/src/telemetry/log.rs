//! The operational log: what happens to the gateway itself, on standard error.
//!
//! The level that an operator asks for applies to the gateway's own code only. Other crates are
//! capped here, whatever was asked for: at `debug` and `trace`, Pingora prints whole request heads
//! with `Authorization` and cookies, and hyper and h2 print header blocks; at `warn` and `error`,
//! Pingora prints the request target, query string included, once for each request that fails,
//! which is also a way to flood a log without a credential. Nothing is lost by silence: a request
//! that fails has its line in the access log, with a code, and an upstream's trouble is counted.

use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::time::Duration;

use clap::{Args, ValueEnum};
use prometheus::IntCounter;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use super::Metrics;
use super::line_writer::{LineWriter, StandardStream};

/// How long the end of the process may wait for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// What to log, and how it looks.
#[derive(Debug, Clone, Copy, Args)]
pub struct LogOptions {
    /// Least severe level that is logged of the gateway's own events
    #[arg(long, env = "PORTCULLIS_LOG", value_enum, default_value_t = LogLevel::Info, value_name = "LEVEL")]
    pub log_level: LogLevel,
    /// How a log line looks
    #[arg(long, value_enum, default_value_t = LogFormat::Auto, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// Least severe level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Somebody must act
    Error,
    /// Degraded, but serving
    Warn,
    /// Life cycle: started, reloaded, refreshed, stopped
    Info,
    /// Why something was decided
    Debug,
    /// Every step
    Trace,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people when standard error is a terminal, JSON otherwise
    Auto,
    /// One line of text, with colours on a terminal
    Human,
    /// One JSON object a line
    Json,
}

/// Writes out what is still queued when it is dropped; `main` keeps it.
#[derive(Debug)]
pub struct LogGuard(LineWriter);

impl Drop for LogGuard {
    fn drop(&mut self) {
        // Whoever is too slow loses the end; a process that cannot stop would be worse.
        let _ = self.0.flush(FLUSH_TIMEOUT);
    }
}

/// Starts the log for this process and takes over the reporting of panics.
///
/// # Errors
/// When standard error is closed, the writing thread cannot be started, or there is a log already.
pub fn init(options: LogOptions, metrics: &Metrics) -> io::Result<LogGuard> {
    let writer = LineWriter::start(
        "log",
        StandardStream::stderr()?,
        metrics.log_lines_dropped(),
    )?;
    // Takes over the `log` facade too, which is what most other crates write to.
    subscriber(options, io::stderr().is_terminal(), writer.clone())
        .try_init()
        .map_err(io::Error::other)?;
    let panics = metrics.panics();
    std::panic::set_hook(Box::new(move |panic| report(panic, &panics)));
    Ok(LogGuard(writer))
}

fn subscriber<W>(options: LogOptions, is_terminal: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let human = match options.log_format {
        LogFormat::Auto => is_terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = if human {
        lines.with_ansi(is_terminal).boxed()
    } else {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed()
    };
    Registry::default()
        .with(capped(options.log_level))
        .with(lines)
}

/// The level for the gateway's crates (targets that begin with `portcullis`), the caps for all others.
fn capped(level: LogLevel) -> Targets {
    Targets::new()
        .with_default(LevelFilter::ERROR)
        .with_target("pingora", LevelFilter::OFF)
        .with_target("portcullis", level)
}

/// Says where a panic happened, never what it said: a message may quote what a caller sent.
fn report(panic: &PanicHookInfo<'_>, panics: &IntCounter) {
    panics.inc();
    let (file, line) = panic.location().map_or(("unknown", 0), |location| {
        (location.file(), location.line())
    });
    tracing::error!(
        code.file.path = file,
        code.line.number = line,
        thread.name = std::thread::current().name().unwrap_or("unnamed"),
        "panicked; this is a defect of the gateway"
    );
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged while `body` runs, at the most talkative level.
    fn logged(log_format: LogFormat, body: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let options = LogOptions {
            log_level: LogLevel::Trace,
            log_format,
        };
        // Takes over the `log` facade too; the subscriber is this thread's.
        let guard = subscriber(options, false, move || writer.clone()).set_default();
        body();
        drop(guard);
        let bytes = buffer.0.lock().expect("lock").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn no_header_that_another_crate_logs_reaches_the_log() {
        const CANARY: &str = "Bearer canary-7f3a";
        let text = logged(LogFormat::Json, || {
            for target in [
                "pingora_proxy",
                "pingora_core::protocols::http::v1::server",
                "pingora_proxy::proxy_h2",
                "h2::codec::framed_write",
                "hyper::proto::h1::io",
                "hyper_util::client",
                "rustls::conn",
                "tokio_util::codec",
                "reqwest::connect",
                "some_crate_of_tomorrow",
            ] {
                log::trace!(target: target, "Authorization: {CANARY}");
                log::debug!(target: target, "Authorization: {CANARY}");
                log::info!(target: target, "Authorization: {CANARY}");
                log::warn!(target: target, "Authorization: {CANARY}");
            }
            log::error!(target: "pingora_proxy", "Fail to proxy: GET /?access_token={CANARY}");
            tracing::debug!(target: "h2::codec", headers = CANARY, "send");
            tracing::trace!(target: "pingora_proxy", headers = CANARY, "send");
        });
        assert_eq!(text, "");
    }

    #[test]
    fn a_json_line_has_message_level_target_and_fields_side_by_side() {
        let text = logged(LogFormat::Json, || {
            tracing::debug!(
                target: "portcullis_gateway::issuer",
                { portcullis.issuer = "a\"\n\u{1b}[31m" },
                "key set refreshed"
            );
        });
        let line: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
        assert_eq!(text.lines().count(), 1);
        assert_eq!(line["level"], "DEBUG");
        assert_eq!(line["message"], "key set refreshed");
        assert_eq!(line["portcullis.issuer"], "a\"\n\u{1b}[31m");
        assert_eq!(line["target"], "portcullis_gateway::issuer");
    }

    #[test]
    fn an_error_of_another_crate_is_logged() {
        let text = logged(LogFormat::Human, || {
            log::error!(target: "rustls::common_state", "traffic keys exhausted");
        });
        assert!(
            text.contains("ERROR rustls::common_state: traffic keys exhausted"),
            "{text}"
        );
    }

    #[test]
    fn a_panic_is_counted_and_its_message_is_not_logged() {
        let panics = IntCounter::new("panics", "panics").expect("valid name");
        let counted = panics.clone();
        let before = std::panic::take_hook();
        let text = logged(LogFormat::Json, || {
            std::panic::set_hook(Box::new(move |panic| report(panic, &counted)));
            let _ = std::panic::catch_unwind(|| panic!("token canary-7f3a"));
        });
        std::panic::set_hook(before);
        assert_eq!(panics.get(), 1);
        assert!(text.contains(file!()) && !text.contains("canary"), "{text}");
    }
}

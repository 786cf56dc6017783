//! Lines on their way to a sink that may be slow: bounded, never blocking, every loss counted.
//!
//! A thread of its own does the writing. What makes this more than a channel: a line that could not
//! be *written* is counted like one that found no place in the queue, a line torn by a full disk
//! never corrupts the next one, and a file can be opened anew while lines arrive.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait; at 4 KiB each no more than 32 MiB.
const QUEUED_LINES: usize = 8192;

/// Lines that are already there are written together, up to about this many bytes.
const BATCH_BYTES: usize = 64 * 1024;

/// How long lines gather before the next batch. To wake a thread for each line, and to write each alone,
/// costs more than to make the line.
const GATHER: Duration = Duration::from_millis(5);

/// Between two looks at something that gives no notice.
const POLL: Duration = Duration::from_millis(5);

/// Where lines end up.
pub trait Sink: Write + Send + 'static {
    /// Opens the sink anew, so that a rotated file is left alone. Nothing to do for a stream.
    ///
    /// # Errors
    /// When the new one cannot be opened; the old one stays in use.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends lines to a [`Sink`] without ever waiting for it. Clones share the queue.
#[derive(Debug, Clone)]
pub struct LineWriter {
    queue: SyncSender<Message>,
    reopen: Arc<AtomicBool>,
    dropped: IntCounter,
}

#[derive(Debug)]
enum Message {
    /// One line, its newline included.
    Line(Vec<u8>),
    /// Everything before this was written, or given up on.
    Flush(SyncSender<()>),
    /// Look at the `reopen` flag now.
    Wake,
}

impl LineWriter {
    /// Starts the thread that writes, called `name`. Each line that is lost increments `dropped`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(name: &str, sink: impl Sink, dropped: IntCounter) -> io::Result<Self> {
        Self::with_capacity(name, sink, dropped, QUEUED_LINES)
    }

    fn with_capacity(
        name: &str,
        sink: impl Sink,
        dropped: IntCounter,
        lines: usize,
    ) -> io::Result<Self> {
        let (queue, receiver) = sync_channel(lines);
        let reopen = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            sink,
            receiver,
            reopen: Arc::clone(&reopen),
            dropped: dropped.clone(),
            mid_line: false,
        };
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || worker.run())?;
        Ok(Self {
            queue,
            reopen,
            dropped,
        })
    }

    /// Queues one line, which ends in a newline; drops and counts it when the queue is full.
    pub fn write_line(&self, line: Vec<u8>) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.dropped.inc();
        }
    }

    /// Opens the sink anew before the next line is written.
    pub fn reopen(&self) {
        // The flag carries the request: a full queue has no place for a message, but then the
        // thread is about to wake up anyway.
        self.reopen.store(true, Ordering::Release);
        let _ = self.queue.try_send(Message::Wake);
    }

    /// Waits until all that was queued before is written, at most for `timeout`; says whether it was.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let (done, written) = sync_channel(1);
        let mut message = Message::Flush(done);
        while let Err(error) = self.queue.try_send(message) {
            let TrySendError::Full(unsent) = error else {
                return false;
            };
            if Instant::now() >= deadline {
                return false;
            }
            message = unsent;
            thread::sleep(POLL);
        }
        written
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .is_ok()
    }
}

/// `tracing` formats an event into a buffer of its own and hands it over in one call.
impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_line(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        self.clone()
    }
}

struct Worker<S> {
    sink: S,
    receiver: Receiver<Message>,
    reopen: Arc<AtomicBool>,
    dropped: IntCounter,
    /// The sink holds the beginning of a line whose rest was lost.
    mid_line: bool,
}

impl<S: Sink> Worker<S> {
    /// Ends when every [`LineWriter`] of the queue is gone and the queue is empty.
    fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_BYTES);
        let mut flushed = Vec::new();
        while let Ok(message) = self.receiver.recv() {
            let mut next = Some(message);
            while let Some(message) = next {
                match message {
                    Message::Line(line) => batch.extend_from_slice(&line),
                    Message::Flush(done) => flushed.push(done),
                    Message::Wake => {}
                }
                next = (batch.len() < BATCH_BYTES)
                    .then(|| self.receiver.try_recv().ok())
                    .flatten();
            }
            if self.reopen.swap(false, Ordering::AcqRel) {
                match self.sink.reopen() {
                    Ok(()) => self.mid_line = false,
                    Err(error) => tracing::error!(error.message = %error, "log file not reopened"),
                }
            }
            self.write(&batch);
            for done in flushed.drain(..) {
                let _ = done.try_send(());
            }
            if (1..BATCH_BYTES).contains(&batch.len()) {
                thread::sleep(GATHER);
            }
            batch.clear();
        }
    }

    fn write(&mut self, batch: &[u8]) {
        if batch.is_empty() {
            return;
        }
        if self.mid_line && self.sink.write_all(b"\n").is_ok() {
            self.mid_line = false;
        }
        let mut rest = batch;
        while !self.mid_line && !rest.is_empty() {
            match self.sink.write(rest) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody else made the pipe we inherited non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(POLL),
                Ok(0) | Err(_) => break,
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            }
        }
        let written = batch.len() - rest.len();
        if !rest.is_empty() {
            self.mid_line |= written
                .checked_sub(1)
                .and_then(|last| batch.get(last))
                .is_some_and(|byte| *byte != b'\n');
            self.dropped
                .inc_by(rest.iter().filter(|byte| **byte == b'\n').count() as u64);
        }
        let _ = self.sink.flush();
    }
}

/// Standard output or standard error, without the standard library's buffer: that one keeps what it
/// could not write and repeats it later.
#[derive(Debug)]
pub struct StandardStream(File);

impl StandardStream {
    /// Standard output.
    ///
    /// # Errors
    /// When it is closed.
    pub fn stdout() -> io::Result<Self> {
        Ok(Self(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }

    /// Standard error.
    ///
    /// # Errors
    /// When it is closed.
    pub fn stderr() -> io::Result<Self> {
        Ok(Self(File::from(io::stderr().as_fd().try_clone_to_owned()?)))
    }
}

impl Write for StandardStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for StandardStream {}

/// A file that grows at its end, created readable by its owner and group.
#[derive(Debug)]
pub struct AppendFile {
    path: PathBuf,
    file: File,
}

impl AppendFile {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// When it cannot be opened for appending.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&path)?;
        Ok(Self { path, file })
    }
}

impl Write for AppendFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for AppendFile {
    fn reopen(&mut self) -> io::Result<()> {
        *self = Self::open(self.path.clone())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

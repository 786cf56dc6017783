//! A child process whose output is collected and which does not outlive its test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually;

/// Lines that a process has written so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(Arc<Collected>);

#[derive(Debug, Default)]
struct Collected {
    lines: Mutex<Vec<String>>,
    at_end: AtomicBool,
}

impl Lines {
    /// Reads `source` to its end on a thread of its own.
    pub(crate) fn collect(source: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let sink = lines.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(source);
            let mut line = Vec::new();
            while reader
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
            {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                sink.0.lines.lock().unwrap().push(text);
                line.clear();
            }
            sink.0.at_end.store(true, Ordering::Release);
        });
        lines
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lines.lock().unwrap().clone()
    }

    /// Waits for the end of the stream.
    pub(crate) async fn finish(&self) {
        eventually("end of output", || async {
            self.0.at_end.load(Ordering::Acquire).then_some(())
        })
        .await;
    }
}

/// A running program. Killed when dropped; its output is printed when the test is failing.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

impl Process {
    /// Starts `command` and collects both of its outputs.
    pub(crate) fn start(name: &str, mut command: Command) -> Self {
        command.stdout(Stdio::piped());
        let mut process = Self::start_with_stdout(name, command);
        process.stdout = Lines::collect(process.child.stdout.take().unwrap());
        process
    }

    /// Starts `command` with the standard output that it already has.
    pub(crate) fn start_with_stdout(name: &str, mut command: Command) -> Self {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot start {:?}: {error}", command.get_program());
            });
        let stderr = Lines::collect(child.stderr.take().unwrap());
        Self {
            name: name.to_owned(),
            child,
            stdout: Lines::default(),
            stderr,
        }
    }

    /// The reading end of standard output, when it is not being collected.
    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(id, signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
    }

    /// The exit status, if the process has ended.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Everything written so far, for a failure message.
    pub(crate) fn output(&self) -> String {
        let mut text = String::new();
        for (stream, lines) in [("stderr", &self.stderr), ("stdout", &self.stdout)] {
            for line in lines.all() {
                text.push_str(&format!("[{} {stream}] {line}\n", self.name));
            }
        }
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error only says that it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.output());
        }
    }
}

//! The real binary.

use std::env;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::pki::write_private;
use crate::process::{Lines, Process};
use crate::{Caller, DEADLINE, Metrics, Namespace, eventually, eventually_within};

const CONFIG: &str = "portcullis.yaml";
const READY_FILE: &str = "ready.json";

/// A running gateway with a directory of its own.
#[derive(Debug)]
pub struct Gateway {
    process: Mutex<Process>,
    directory: TempDir,
    ready: Value,
    /// Held open and never read, when the test asked for it.
    _stalled_stdout: Option<std::process::ChildStdout>,
}

impl Gateway {
    /// Writes `files` (path, content) and runs the gateway on `portcullis.yaml`.
    ///
    /// Returns when its listeners are bound and its configuration is loaded.
    pub async fn start(files: &[(&str, &str)]) -> Self {
        let mut builder = Self::builder();
        for (path, content) in files {
            builder = builder.file(path, content);
        }
        builder.start().await
    }

    /// For a gateway that needs more than files.
    pub fn builder() -> GatewayBuilder {
        GatewayBuilder {
            directory: TempDir::with_prefix("portcullis-e2e-").unwrap(),
            environment: Vec::new(),
            stdout_is_read: true,
            launcher: None,
        }
    }

    /// Where a listener of the configuration was bound.
    pub fn address(&self, listener: &str) -> SocketAddr {
        self.ready["listeners"][listener]
            .as_str()
            .unwrap_or_else(|| panic!("no listener `{listener}` in {}", self.ready))
            .parse()
            .unwrap()
    }

    /// `http://…` on the listener `public`.
    pub fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address("public"))
    }

    /// Where the admin listener was bound.
    pub fn admin_address(&self) -> SocketAddr {
        self.ready["admin"]
            .as_str()
            .expect("no admin listener")
            .parse()
            .unwrap()
    }

    /// `http://…` on the admin listener.
    pub fn admin_url(&self, target: &str) -> String {
        format!("http://{}{target}", self.admin_address())
    }

    /// The directory that holds the configuration.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The process id.
    pub fn process_id(&self) -> u32 {
        self.process.lock().unwrap().id()
    }

    /// Overwrites a file of the configuration, in place. The running gateway notices by itself;
    /// [`Gateway::reload`] makes it look at once.
    pub fn write(&self, path: &str, content: &str) {
        write_private(&self.directory().join(path), content.as_bytes());
    }

    /// Sends `SIGHUP`.
    pub fn hang_up(&self) {
        self.process.lock().unwrap().signal(Signal::SIGHUP);
    }

    /// Sends `SIGHUP` and waits for the next generation.
    pub async fn reload(&self) {
        let before = self.generation().await;
        self.hang_up();
        self.wait_for_generation_after(before).await;
    }

    /// The number of the generation that is serving.
    pub async fn generation(&self) -> u64 {
        self.metrics()
            .await
            .value("portcullis_config_generation", &[]) as u64
    }

    /// Waits until a generation newer than `before` is serving.
    pub async fn wait_for_generation_after(&self, before: u64) -> u64 {
        eventually("a new generation of the configuration", || async {
            let now = self.generation().await;
            (now > before).then_some(now)
        })
        .await
    }

    /// A scrape of `/metrics`.
    pub async fn metrics(&self) -> Metrics {
        let answer = Caller::new().get(&self.admin_url("/metrics")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        Metrics::parse(&answer.text())
    }

    /// `/status` of the admin listener.
    pub async fn status(&self) -> Value {
        let answer = Caller::new().get(&self.admin_url("/status")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Waits until `/readyz` answers 200 and every issuer has keys.
    pub async fn until_ready(self) -> Self {
        eventually("readiness", || async {
            let answer = Caller::new().get(&self.admin_url("/readyz")).await;
            let status = self.status().await;
            let issuers = status["issuers"].as_array().expect("a list of issuers");
            let has_keys = |issuer: &Value| {
                issuer["key_ids"]
                    .as_array()
                    .is_some_and(|key_ids| !key_ids.is_empty())
            };
            (answer.status == 200 && issuers.iter().all(has_keys)).then_some(())
        })
        .await;
        self
    }

    /// Sends `SIGTERM`.
    pub fn terminate(&self) {
        self.process.lock().unwrap().signal(Signal::SIGTERM);
    }

    /// Waits for the process to end by itself.
    pub async fn wait_for_exit(&self, deadline: Duration) -> ExitStatus {
        eventually_within(deadline, "exit of the gateway", || async { self.exited() }).await
    }

    /// The exit status, if the process has ended.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.process.lock().unwrap().exited()
    }

    /// Panics when the gateway is not running or has panicked.
    pub fn assert_healthy(&self) {
        assert_eq!(self.exited(), None, "the gateway has ended");
        let log = self.log_text();
        assert!(
            !log.contains("panicked at"),
            "the gateway has panicked:\n{log}"
        );
    }

    /// The operational log so far: one JSON object a line.
    pub fn log(&self) -> Vec<Value> {
        let lines = self.process.lock().unwrap().stderr.all();
        lines
            .iter()
            .map(|line| {
                serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("log line is not JSON ({error}): {line}"))
            })
            .collect()
    }

    /// The operational log so far, as it was written.
    pub fn log_text(&self) -> String {
        self.process.lock().unwrap().stderr.all().join("\n")
    }

    /// Waits for a line of the operational log that contains `text`.
    pub async fn wait_for_log(&self, text: &str) {
        eventually(&format!("a log line with `{text}`"), || async {
            self.log_text().contains(text).then_some(())
        })
        .await;
    }

    /// Standard output so far, as it was written: the access log.
    pub fn access_log_text(&self) -> String {
        self.process.lock().unwrap().stdout.all().join("\n")
    }

    /// The access log on standard output so far.
    pub fn access_log(&self) -> Vec<Value> {
        let lines = self.process.lock().unwrap().stdout.all();
        lines
            .iter()
            .map(|line| {
                serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("access log line is not JSON ({error}): {line}"))
            })
            .collect()
    }

    /// Waits until the access log has `count` lines and returns them.
    pub async fn wait_for_access_log(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} access log lines"), || async {
            let lines = self.access_log();
            (lines.len() >= count).then_some(lines)
        })
        .await
    }
}

/// Says how a gateway starts.
#[derive(Debug)]
pub struct GatewayBuilder {
    directory: TempDir,
    environment: Vec<(String, String)>,
    stdout_is_read: bool,
    /// What becomes the gateway, if it does not start by itself.
    launcher: Option<Command>,
}

impl GatewayBuilder {
    /// Adds a file below the configuration's directory, readable by its owner alone.
    #[must_use]
    pub fn file(self, path: &str, content: &str) -> Self {
        write_private(&self.directory.path().join(path), content.as_bytes());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Never reads standard output, so that its pipe fills up.
    #[must_use]
    pub fn with_stalled_stdout(mut self) -> Self {
        self.stdout_is_read = false;
        self
    }

    /// Lets it have this many open files and no more.
    #[must_use]
    pub fn with_open_files(self, limit: u32) -> Self {
        self.with_limit(&format!("--nofile={limit}:{limit}"))
    }

    /// Starts it under a limit, in the words of util-linux's `prlimit`.
    #[must_use]
    pub fn with_limit(mut self, limit: &str) -> Self {
        let mut command = Command::new("prlimit");
        command.arg(limit).arg(portcullis_binary());
        self.launcher = Some(command);
        self
    }

    /// Puts it into this network.
    #[must_use]
    pub fn inside(mut self, namespace: &Namespace) -> Self {
        self.launcher = Some(namespace.command(&portcullis_binary()));
        self
    }

    /// The directory that will hold the configuration.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Runs the gateway and waits until its listeners are bound.
    pub async fn start(self) -> Gateway {
        match self.try_start().await {
            Ok(gateway) => gateway,
            Err(output) => panic!("the gateway did not start: {output:?}"),
        }
    }

    /// Runs the gateway; an error is how it ended before it was ready.
    pub async fn try_start(self) -> Result<Gateway, CommandOutput> {
        let ready_file = self.directory.path().join(READY_FILE);
        // A launcher becomes the gateway, which therefore has its process id.
        let mut command = self
            .launcher
            .unwrap_or_else(|| Command::new(portcullis_binary()));
        command
            .arg("run")
            .arg("--config")
            .arg(self.directory.path().join(CONFIG))
            .arg("--ready-file")
            .arg(&ready_file)
            .env_remove("NOTIFY_SOCKET")
            .envs(self.environment)
            .stdin(Stdio::null());
        let mut stalled_stdout = None;
        let mut process = if self.stdout_is_read {
            Process::start("portcullis", command)
        } else {
            command.stdout(Stdio::piped());
            let mut process = Process::start_with_stdout("portcullis", command);
            stalled_stdout = process.take_stdout();
            process
        };
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while !ready_file.exists() {
            if let Some(status) = process.exited() {
                process.stderr.finish().await;
                return Err(CommandOutput {
                    status: status.code(),
                    stdout: process.stdout.all().join("\n"),
                    stderr: process.stderr.all().join("\n"),
                });
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "the gateway was not ready within {DEADLINE:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ready = serde_json::from_slice(&fs::read(&ready_file).unwrap())
            .expect("the ready file is written in one step");
        Ok(Gateway {
            process: Mutex::new(process),
            directory: self.directory,
            ready,
            _stalled_stdout: stalled_stdout,
        })
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// The exit code; `None` when a signal ended it.
    pub status: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// Runs `portcullis` with `arguments` in `directory` until it ends.
pub async fn portcullis(directory: &Path, arguments: &[&str], stdin: &str) -> CommandOutput {
    let mut command = Command::new(portcullis_binary());
    command
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = KilledOnDrop(command.spawn().unwrap());
    let mut input = child.0.stdin.take().unwrap();
    // A command that does not read its standard input closes it.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    let stdout = Lines::collect(child.0.stdout.take().unwrap());
    let stderr = Lines::collect(child.0.stderr.take().unwrap());
    let child = Mutex::new(child);
    let status = eventually_within(
        Duration::from_secs(60),
        &format!("exit of `portcullis {}`", arguments.join(" ")),
        || async { child.lock().unwrap().0.try_wait().unwrap() },
    )
    .await;
    stdout.finish().await;
    stderr.finish().await;
    CommandOutput {
        status: status.code(),
        stdout: stdout.all().join("\n"),
        stderr: stderr.all().join("\n"),
    }
}

/// The binary under test: `$PORTCULLIS_BIN`, or the one that cargo built beside this test.
///
/// # Panics
/// When it is not there.
pub fn portcullis_binary() -> PathBuf {
    if let Some(path) = env::var_os("PORTCULLIS_BIN") {
        return PathBuf::from(path);
    }
    let test = env::current_exe().unwrap();
    let profile = test
        .ancestors()
        .find(|path| path.file_name().is_some_and(|name| name == "deps"))
        .and_then(Path::parent)
        .expect("a test runs in cargo's `deps`");
    let binary = profile.join("portcullis");
    assert!(
        binary.is_file(),
        "{} is missing: run `cargo build --bin portcullis` first, or name another binary in \
         PORTCULLIS_BIN",
        binary.display()
    );
    binary
}

struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // An error only says that it has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

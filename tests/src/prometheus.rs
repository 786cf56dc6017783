//! Debian's Prometheus and its `promtool`.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::nginx::free_address;
use crate::pki::write_private;
use crate::process::Process;
use crate::{Caller, CommandOutput, eventually};

/// A Prometheus that scrapes one target every second.
#[derive(Debug)]
pub struct Prometheus {
    _process: Process,
    _directory: TempDir,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts scraping `/metrics` of `target`.
    pub async fn scraping(target: SocketAddr) -> Self {
        let directory = TempDir::with_prefix("portcullis-e2e-prometheus-").unwrap();
        let path = directory.path();
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
             scrape_configs:\n\
             - job_name: portcullis\n  static_configs: [{{ targets: ['{target}'] }}]\n"
        );
        write_private(&path.join("prometheus.yml"), config.as_bytes());
        let address = free_address();
        let mut command = Command::new("prometheus");
        command
            .arg(format!(
                "--config.file={}",
                path.join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                path.join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"));
        let process = Process::start("prometheus", command);
        let prometheus = Self {
            _process: process,
            _directory: directory,
            address,
        };
        eventually("start of Prometheus", || async {
            let ready = format!("http://{address}/-/ready");
            Caller::new()
                .try_get(&ready)
                .await
                .ok()
                .filter(|answer| answer.status == 200)
        })
        .await;
        prometheus
    }

    /// Waits until a query has a result, and returns its samples.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        eventually(&format!("a result of {expression}"), || async {
            let samples = self.query_now(expression).await;
            (!samples.is_empty()).then_some(samples)
        })
        .await
    }

    async fn query_now(&self, expression: &str) -> Vec<Value> {
        let escaped: String = expression
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let url = format!("http://{}/api/v1/query?query={escaped}", self.address);
        let answer = Caller::new().get(&url).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["data"]["result"].as_array().unwrap().clone()
    }
}

/// Runs `promtool check metrics` on an exposition.
pub fn promtool_check_metrics(exposition: &str) -> CommandOutput {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is part of Debian's package prometheus");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(exposition.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    CommandOutput {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

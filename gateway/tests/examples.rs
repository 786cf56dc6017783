//! What people copy from `deploy/` and read in `docs/` is right: examples load, the README shows one
//! of them, names of metrics exist, links lead somewhere.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking, and its name is its documentation"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use portcullis_config::{Config, KeySource, load};
use portcullis_policy::{Access, Method};
use tempfile::TempDir;

#[test]
fn every_example_loads_without_errors_and_warnings() {
    let names = examples();
    assert!(names.len() >= 5, "{names:?}");
    for name in names {
        let config = Example::copy(&name).load();
        assert!(config.warnings.is_empty(), "{name}: {:?}", config.warnings);
        assert!(!config.routes.is_empty(), "{name} has no route");
    }
}

#[test]
fn the_minimal_example_is_at_most_20_lines_of_yaml() {
    let lines = lines_of_yaml("minimal");
    assert!(lines <= 20, "{lines} lines");
    let readme = read("deploy/examples/minimal/README.md");
    assert!(readme.contains(&format!("{lines} lines of YAML")));
}

#[test]
fn the_canonical_example_is_at_most_30_lines_of_yaml() {
    let lines = lines_of_yaml("canonical");
    assert!(lines <= 30, "{lines} lines");
    let readme = read("deploy/examples/canonical/README.md");
    assert!(readme.contains(&format!("{lines} lines of YAML")));
}

#[test]
fn the_canonical_example_has_key_set_issuer_audience_scope_identity_headers_and_mutual_tls() {
    let config = Example::copy("canonical").load();

    let [issuer] = &config.issuers[..] else {
        panic!("one issuer, not {}", config.issuers.len())
    };
    let key_set = "https://login.acme.example/jwks.json";
    assert_eq!(issuer.keys, KeySource::Url(key_set.to_owned()));
    assert_eq!(&*issuer.policy.issuer, "https://login.acme.example");
    let audiences: Vec<&str> = issuer.policy.audiences.iter().map(|it| &**it).collect();
    assert_eq!(audiences, ["https://api.acme.example"]);

    let [route] = &config.routes[..] else {
        panic!("one route, not {}", config.routes.len())
    };
    let methods: Vec<Method> = route.policy.methods.iter().collect();
    assert_eq!(methods, [Method::Get]);
    let Access::Protected(requirement) = &route.policy.access else {
        panic!("the route is public")
    };
    assert_eq!(requirement.scopes.names(), "orders:read");

    let headers: Vec<(&str, &str)> = config
        .identity_headers
        .iter()
        .map(|(header, claim)| (header.as_str(), claim))
        .collect();
    assert_eq!(headers, [("x-user-id", "sub"), ("x-scopes", "scope")]);

    let tls = config.upstreams[route.upstream].tls.as_ref().unwrap();
    assert_eq!(tls.server_name, "orders.internal");
    assert_eq!(tls.trust.len(), 1, "one authority is believed");
    assert!(tls.identity.is_some(), "the gateway shows a certificate");
}

#[test]
fn the_readme_shows_the_canonical_example() {
    let readme = read("README.md");
    let files = [
        read("deploy/examples/canonical/portcullis.yaml"),
        read("deploy/examples/canonical/policy/orders.yaml"),
    ];
    assert_eq!(code_blocks(&readme, "yaml"), files);
}

#[test]
fn metrics_in_the_dashboard_and_the_alert_rules_are_documented() {
    let documented = metric_names(&read("docs/telemetry.md"));
    for file in [
        "deploy/grafana/gateway.json",
        "deploy/prometheus/alerts.yaml",
        "deploy/prometheus/alerts_test.yaml",
        "deploy/README.md",
        "docs/refusals.md",
    ] {
        let used = metric_names(&read(file));
        assert!(!used.is_empty(), "{file} names no metric");
        let unknown: Vec<&String> = used.difference(&documented).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}");
    }
}

#[test]
fn every_refusal_is_explained_and_every_explanation_is_of_a_refusal() {
    let codes: BTreeSet<String> = ["policy/src/denial.rs", "gateway/src/refusal.rs"]
        .iter()
        .flat_map(|file| refusal_codes(&read(file)))
        .collect();
    assert!(codes.len() > 20, "{codes:?}");
    let explained: BTreeSet<String> = read("docs/refusals.md")
        .lines()
        .filter_map(|line| Some(line.strip_prefix("### ")?.to_owned()))
        .collect();
    assert_eq!(codes, explained);
}

#[test]
fn every_alert_has_a_case_that_fires_and_one_that_is_silent() {
    let cases = read("deploy/prometheus/alerts_test.yaml");
    for line in read("deploy/prometheus/alerts.yaml").lines() {
        let Some(alert) = line.trim().strip_prefix("- alert: ") else {
            continue;
        };
        for case in [format!("{alert} fires"), format!("{alert} is silent")] {
            assert!(cases.contains(&format!("- name: {case}\n")), "no {case}");
        }
    }
}

#[test]
fn the_systemd_unit_waits_longer_than_a_drain_takes() {
    let shutdown = Example::copy("minimal").load().shutdown;
    let seconds: u64 = read("deploy/systemd/portcullis.service")
        .lines()
        .find_map(|line| line.strip_prefix("TimeoutStopSec=")?.strip_suffix('s'))
        .expect("TimeoutStopSec in seconds")
        .parse()
        .unwrap();
    assert!(Duration::from_secs(seconds) > shutdown.grace + shutdown.drain);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            if !link.contains("://") && !leads_somewhere(link, &document) {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn links_and_anchors_are_found_as_readers_of_the_repository_find_them() {
    let text = "# The `caller's` fault\n## A b\n## A b\n[x](#a-b-1) [`y`](z.md#q)[w](v)\n\
                ```\n[no](no)\n# no\n```\n`[no](no)`\n";
    assert_eq!(anchors(text), ["the-callers-fault", "a-b", "a-b-1"]);
    assert_eq!(links(text), ["#a-b-1", "z.md#q", "v"]);
}

/// A copy of an example, with certificates.
struct Example {
    name: String,
    directory: TempDir,
}

impl Example {
    fn copy(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let example = root().join("deploy/examples").join(name);
        copy_files(&example, directory.path());
        let script = directory.path().join("make-certificates");
        let output = Command::new("bash").arg(script).output().unwrap();
        assert!(output.status.success(), "{name}: {output:?}");
        Self {
            name: name.to_owned(),
            directory,
        }
    }

    fn load(&self) -> Config {
        load(&self.directory.path().join("portcullis.yaml"))
            .unwrap_or_else(|diagnostics| panic!("{}:\n{diagnostics}", self.name))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What is in a directory, in the order of names.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

/// All files below a directory whose names end in `.extension`.
fn files_below(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let (directories, mut files): (Vec<PathBuf>, Vec<PathBuf>) =
        entries(directory).into_iter().partition(|it| it.is_dir());
    files.retain(|file| file.extension().is_some_and(|it| it == extension));
    for directory in directories {
        files.extend(files_below(&directory, extension));
    }
    files
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for path in entries(from) {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_files(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

/// Names of the examples.
fn examples() -> Vec<String> {
    entries(&root().join("deploy/examples"))
        .iter()
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect()
}

/// Lines that are neither blank nor a comment, in all YAML files of an example together.
fn lines_of_yaml(example: &str) -> usize {
    files_below(&root().join("deploy/examples").join(example), "yaml")
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .map(|text| {
            text.lines()
                .map(str::trim)
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .count()
        })
        .sum()
}

/// Names of metrics in a text; those of a histogram's series without their suffix.
fn metric_names(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("portcullis_"))
        .map(|word| {
            ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix))
                .unwrap_or(word)
                .to_owned()
        })
        .collect()
}

/// The words that functions called `code` of a source file can return. Not every kind of refusal can
/// be listed in a constant: some hold a value.
fn refusal_codes(source: &str) -> Vec<String> {
    source
        .split("fn code(")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("\n    }\n")?.0))
        .flat_map(|body| body.split("=> \"").skip(1))
        .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
        .collect()
}

/// Markdown at the top, below `docs/` and below `deploy/`.
fn documents() -> Vec<PathBuf> {
    let mut documents = entries(&root());
    documents.retain(|path| path.extension().is_some_and(|it| it == "md"));
    documents.extend(files_below(&root().join("docs"), "md"));
    documents.extend(files_below(&root().join("deploy"), "md"));
    assert!(documents.len() > 20, "{documents:?}");
    documents
}

/// Whether the file and the heading exist that a link in `document` names.
fn leads_somewhere(link: &str, document: &Path) -> bool {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() {
        document.to_path_buf()
    } else {
        document.with_file_name(file)
    };
    if anchor.is_empty() {
        return target.exists();
    }
    fs::read_to_string(target).is_ok_and(|text| anchors(&text).iter().any(|it| it == anchor))
}

/// The contents of the code blocks in a language.
fn code_blocks(text: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}");
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while lines.any(|line| line == opening) {
        let block = lines.by_ref().take_while(|line| *line != "```");
        blocks.push(block.flat_map(|line| [line, "\n"]).collect());
    }
    blocks
}

/// Lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// Targets of `[text](target)`, outside of code.
fn links(text: &str) -> Vec<&str> {
    prose(text)
        .flat_map(|line| line.split('`').step_by(2))
        .flat_map(|text| text.split("](").skip(1))
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect()
}

/// Anchors of headings: lower case, hyphens for spaces, `-` and `_` as the only punctuation, and a
/// number where one comes again.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for line in prose(text) {
        let Some((marks, heading)) = line.split_once(' ') else {
            continue;
        };
        if marks.is_empty() || marks.chars().any(|c| c != '#') {
            continue;
        }
        let anchor: String = heading
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let mut free = anchor.clone();
        let mut number = 0;
        while anchors.contains(&free) {
            number += 1;
            free = format!("{anchor}-{number}");
        }
        anchors.push(free);
    }
    anchors
}

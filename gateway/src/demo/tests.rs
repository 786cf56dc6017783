use std::fs;
use std::net::TcpListener;
use std::path::Path;

use tempfile::TempDir;
use tokio::process::Command;

use super::*;

async fn start(port: u16, keep: Option<PathBuf>) -> Demo {
    let metrics = Metrics::new().expect("metrics");
    Demo::start(port, keep, &metrics).await.expect("a demo")
}

async fn introduction_of(demo: &Demo) -> String {
    let mut out = Vec::new();
    demo.introduce(&mut out).expect("write");
    String::from_utf8(out).expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_the_tour_goes_as_promised_and_nothing_is_left() {
    let mut demo = start(0, None).await;
    let directory = demo.files.directory().to_owned();
    assert!(directory.join("portcullis.yaml").is_file());
    let mut out = Vec::new();
    let report = demo.take_tour(&mut out).await.expect("write");
    let out = String::from_utf8(out).expect("UTF-8");
    assert!(report.is_as_promised(), "{out}");
    demo.shutdown().await;
    assert!(!directory.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn printed_lines_do_as_promised_when_they_are_pasted() {
    let demo = start(0, None).await;
    let introduction = introduction_of(&demo).await;
    let (_, script) = introduction.split_once("in this order:").expect("calls");
    let (script, _) = script.split_once("Ctrl-C").expect("an end");
    let output = Command::new("sh")
        .args(["-c", script])
        .env("no_proxy", "127.0.0.1")
        .output()
        .await
        .expect("sh and curl");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let promised: Vec<_> = script
        .lines()
        .filter_map(|line| line.strip_prefix("#    Expect "))
        .filter_map(|promise| promise.get(..3))
        .filter(|status| status.parse::<u16>().is_ok())
        .collect();
    let statuses: Vec<_> = stdout
        .split("HTTP/1.1 ")
        .skip(1)
        .filter_map(|response| response.get(..3))
        .collect();
    assert_eq!(statuses, promised, "{introduction}\n{output:?}");
    assert!(promised.len() > 10, "{introduction}");
    demo.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_told_and_another_one_is_used() {
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = other.local_addr().expect("bound").port();
    let demo = start(port, None).await;
    let listener = demo.places.gateway;
    assert_ne!(listener.port(), port);
    let introduction = introduction_of(&demo).await;
    let told = format!(
        "Port {port} is taken; the gateway listens on {} instead",
        listener.port()
    );
    assert!(introduction.contains(&told), "{introduction}");
    demo.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_port_is_used_and_nothing_is_said_about_it() {
    let port = {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        free.local_addr().expect("bound").port()
    };
    let demo = start(port, None).await;
    assert_eq!(demo.places.gateway.port(), port);
    assert!(!introduction_of(&demo).await.contains("is taken"));
    demo.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_kept_are_a_good_configuration_afterwards() {
    let parent = TempDir::new().expect("a directory");
    let keep = parent.path().join("kept");
    let demo = start(0, Some(keep.clone())).await;
    demo.shutdown().await;
    let config = portcullis_config::load(&keep.join("portcullis.yaml")).expect("a configuration");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.routes.len(), 4);
}

#[tokio::test]
async fn a_directory_with_something_in_it_is_refused_and_left_alone() {
    let keep = TempDir::new().expect("a directory");
    let mine = keep.path().join("portcullis.yaml");
    fs::write(&mine, "mine").expect("write");
    let metrics = Metrics::new().expect("metrics");
    let Err(error) = Demo::start(0, Some(keep.path().to_owned()), &metrics).await else {
        panic!("it started");
    };
    assert!(error.to_string().contains("is not empty"), "{error}");
    assert_eq!(fs::read_to_string(&mine).expect("read"), "mine");
    assert_eq!(entries(keep.path()), 1);
}

fn entries(directory: &Path) -> usize {
    fs::read_dir(directory).expect("a directory").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_introduction_fits_an_80_column_terminal() {
    let demo = start(0, None).await;
    let introduction = introduction_of(&demo).await;
    let directory = demo.files.directory().display().to_string();
    for line in introduction
        .lines()
        .filter(|line| !line.contains(&directory))
    {
        assert!(line.chars().count() <= 80, "{line}");
    }
    demo.shutdown().await;
}

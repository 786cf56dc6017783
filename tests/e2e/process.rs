//! What the gateway asks of the system for itself.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portcullis_e2e::{GatewayBuilder, World};

async fn world(gateway: impl FnOnce(GatewayBuilder) -> GatewayBuilder) -> World {
    World::start_with_gateway(|yaml| yaml, gateway).await
}

/// Whether a program that aborts leaves a core file here, when it is allowed to.
fn core_files_are_written() -> bool {
    let directory = tempfile::tempdir().unwrap();
    let status = Command::new("prlimit")
        .args(["--core=unlimited", "sh", "-c", "kill -ABRT $$"])
        .current_dir(directory.path())
        .status()
        .unwrap();
    status.core_dumped()
}

#[expect(clippy::print_stderr, reason = "a test that shows nothing says so")]
#[tokio::test(flavor = "multi_thread")]
async fn memory_is_not_written_to_a_core_file() {
    if !core_files_are_written() {
        eprintln!("skipped: no program leaves a core file on this machine");
        return;
    }
    let world = world(|builder| builder.with_limit("--core=unlimited")).await;
    let id = Pid::from_raw(world.gateway.process_id().try_into().unwrap());
    kill(id, Signal::SIGABRT).unwrap();
    let status = world.gateway.wait_for_exit(Duration::from_secs(10)).await;
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32));
    assert!(!status.core_dumped());
    world.gateway.log();
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_of_descriptors_is_raised_and_told_of_where_it_is_low() {
    let shortage = "fewer descriptors than limits.connections needs";
    let world = world(|builder| builder.with_limit("--nofile=256:1024")).await;
    let metrics = world.gateway.metrics().await;
    assert_eq!(metrics.value("process_max_fds", &[]), 1024.0);
    world.gateway.wait_for_log(shortage).await;

    let modest = World::start_with_gateway(
        |yaml| yaml.section("limits: { connections: 400 }"),
        |builder| builder.with_limit("--nofile=256:1024"),
    )
    .await;
    modest.gateway.terminate();
    modest.gateway.wait_for_exit(Duration::from_secs(10)).await;
    let log = modest.gateway.log();
    assert!(!format!("{log:?}").contains(shortage), "{log:?}");
}

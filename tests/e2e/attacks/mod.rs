//! The attack catalogue (`tests/attacks`), run against the real gateway. Its README is the manual of the
//! format; here is what carries it out.

mod catalogue;
mod http1;
mod http2;
mod rows;
mod token;
mod world;

use catalogue::Case;
use world::AttackWorld;

/// Runs every case of one file and tells about all that went wrong.
async fn run(file: &str) {
    let cases = catalogue::load(file);
    assert!(!cases.is_empty(), "{file} has no cases");
    let world = AttackWorld::start().await;
    let mut failures = Vec::new();
    world.check_alive().await.unwrap();
    let before = world.gateway.holds().await;
    for case in &cases {
        run_case(&world, case, &mut failures).await;
    }
    world.gateway.until_it_holds_no_more_than(before).await;
    assert!(
        failures.is_empty(),
        "{} of {} cases of {file} failed:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

async fn run_case(world: &AttackWorld, case: &Case, failures: &mut Vec<String>) {
    let before = world.service.request_count();
    let expected = match case.runs_on_http1() {
        true => http1::run(world, case, failures).await,
        false => 0,
    };
    let expected = match case.runs_on_http2() {
        true => expected + http2::run(world, case, failures).await,
        false => expected,
    };
    // What was smuggled may come late: the good request gives it time.
    if let Err(why) = world.check_alive().await {
        failures.push(format!("{}: afterwards {why}", case.title()));
    }
    let received = world.service.request_count() - before;
    let expected = expected + 1;
    if received != expected {
        let requests = world.service.requests();
        let targets: Vec<_> = requests
            .iter()
            .skip(before)
            .map(|request| format!("{} {}", request.method, request.target))
            .collect();
        let title = case.title();
        failures.push(format!(
            "{title}: the service got {received} requests, not {expected}: {targets:?}"
        ));
    }
    world.service.forget();
}

macro_rules! files {
    ($($name:ident),+ $(,)?) => {
        /// Every file of the catalogue.
        const FILES: &[&str] = &[$(stringify!($name)),+];

        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                run(concat!(stringify!($name), ".yaml")).await;
            }
        )+
    };
}

files!(
    claims,
    desync_guardian,
    framing,
    http2,
    identity,
    jose,
    jwt_hack,
    limits,
    paths,
    routes,
    smugglex,
    transport,
);

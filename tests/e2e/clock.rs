//! A clock that is set while the gateway runs: what has expired is refused, remembered or not.

use std::fs;
use std::path::PathBuf;

use portcullis_e2e::{Caller, Connection, World, eventually, unix_now};
use tokio::time::Instant;

use crate::steps::{bearer, request};

/// Debian's libfaketime, in the directory of whichever architecture this is.
fn libfaketime() -> PathBuf {
    let directories = fs::read_dir("/usr/lib").unwrap();
    directories
        .map(|entry| entry.unwrap().path().join("faketime/libfaketime.so.1"))
        .find(|path| path.exists())
        .expect("libfaketime is part of Debian's package libfaketime")
}

/// A world whose gateway has its clock from a file, and logs at this level.
async fn with_clock(level: &'static str) -> (World, impl Fn(&str)) {
    let offset = tempfile::NamedTempFile::new().unwrap();
    fs::write(offset.path(), "+0").unwrap();
    let world = World::start_with_gateway(
        |yaml| yaml,
        |builder| {
            builder
                .environment("LD_PRELOAD", libfaketime().to_str().unwrap())
                .environment("FAKETIME_TIMESTAMP_FILE", offset.path().to_str().unwrap())
                .environment("FAKETIME_NO_CACHE", "1")
                // Timers are not what this is about.
                .environment("DONT_FAKE_MONOTONIC", "1")
                .environment("PORTCULLIS_LOG", level)
        },
    )
    .await;
    let set = move |clock: &str| fs::write(offset.path(), clock).unwrap();
    (world, set)
}

#[tokio::test(flavor = "multi_thread")]
async fn validity_follows_the_clock_wherever_it_is_set() {
    let (world, set_clock) = with_clock("info").await;
    let token = world.token("orders:read");
    for (clock, status, code) in [
        ("+0", 200, None),
        ("+3600", 401, Some("token_expired")),
        ("-3600", 401, Some("token_not_yet_valid")),
        ("+0", 200, None),
        ("+2000000000", 401, Some("token_expired")),
        ("-1700000000", 401, Some("token_not_yet_valid")),
        ("+0", 200, None),
    ] {
        set_clock(clock);
        let answer = eventually(
            &format!("an answer {status} with the clock at {clock}"),
            || async {
                let answer = Caller::new()
                    .get_with_token(&world.url("/orders/7"), &token)
                    .await;
                (answer.status == status).then_some(answer)
            },
        )
        .await;
        if let Some(code) = code {
            answer.assert_refused(status, code);
        }
    }
    set_clock("+3600");
    world.gateway.wait_for_log("the clock was set").await;
    // Remembered, and not yet valid by the time that is true after all.
    let early = world.issuer.token().scope("orders:read");
    let early = early.claim("nbf", (unix_now() + 3000).into());
    let early = early.claim("exp", (unix_now() + 7200).into()).sign();
    for (clock, status) in [("+3600", 200), ("+0", 401)] {
        set_clock(clock);
        eventually("the early token's status", || async {
            let answer = Caller::new()
                .get_with_token(&world.url("/orders/7"), &early)
                .await;
            (answer.status == status).then_some(())
        })
        .await;
    }
    let metrics = world.gateway.metrics().await;
    assert!(metrics.value("portcullis_clock_steps_total", &[]) >= 1.0);
    world.gateway.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn validity_follows_a_clock_that_drifts_slowly() {
    const LEEWAY: i64 = 30;
    const LIFETIME: i64 = 300;
    let (world, set_clock) = with_clock("info").await;
    let token = world.token("orders:read");
    // Shown when it is not valid only: the other one may be remembered for a second.
    let unseen = world.token("orders:read");
    let issued = Instant::now();
    let caller = Caller::new();
    // Forth beyond its expiry, and back before it was issued.
    let forth = (0..=400).step_by(5);
    let back = (-60..=400).rev().step_by(5);
    for drift in forth.chain(back) {
        set_clock(&format!("{drift:+}"));
        let elapsed = || i64::try_from(issued.elapsed().as_secs()).unwrap();
        let before = drift + elapsed();
        let answer = caller.get_with_token(&world.url("/orders/7"), &token).await;
        let after = drift + elapsed();
        let what = format!("{before} to {after} seconds after it was issued");
        // Two seconds either way belong to how they are counted.
        if before > LIFETIME + LEEWAY + 2 {
            assert_eq!(answer.status, 401, "{what}");
            answer.assert_refused(401, "token_expired");
        } else if after < -LEEWAY - 2 {
            let answer = caller
                .get_with_token(&world.url("/orders/7"), &unseen)
                .await;
            answer.assert_refused(401, "token_not_yet_valid");
        } else if before > 2 - LEEWAY && after < LIFETIME + LEEWAY - 2 {
            assert_eq!(answer.status, 200, "{what}");
        }
    }
    let metrics = world.gateway.metrics().await;
    assert_eq!(metrics.value("portcullis_panics_total", &[]), 0.0);
    world.gateway.assert_healthy();
}

/// Pingora writes the date into an answer, and panics when that is before 1970.
#[tokio::test(flavor = "multi_thread")]
async fn panic_costs_the_request_that_it_happens_in_and_no_other() {
    const MARK: &str = "mark-of-a-secret";
    let (world, set_clock) = with_clock("trace").await;
    let token = world.issuer.token().scope("orders:read");
    let token = token.claim("ticket", MARK.into()).sign();
    let target = format!("/orders/7?ticket={MARK}");
    let ask = request("GET", &target, &[&bearer(&token)]);
    let mut before = Connection::open(world.gateway.address("public")).await;
    assert_eq!(before.request(&ask).await.status, 200);
    let mut unlucky = Connection::open(world.gateway.address("public")).await;
    set_clock("-2500000000");
    unlucky.send(&ask).await;
    assert_eq!(unlucky.read_to_end().await, b"", "no half of an answer");
    set_clock("+0");
    assert_eq!(before.request(&ask).await.status, 200);
    let metrics = world.gateway.metrics().await;
    assert_eq!(metrics.value("portcullis_panics_total", &[]), 1.0);
    let lines = world.gateway.wait_for_access_log(3).await;
    let codes: Vec<_> = lines.iter().map(|line| &line["portcullis.code"]).collect();
    assert_eq!(
        codes
            .iter()
            .filter(|code| ***code == "internal_error")
            .count(),
        1,
        "{codes:?}"
    );
    world.gateway.wait_for_log("panicked").await;
    eventually("nothing in flight", || async {
        let metrics = world.gateway.metrics().await;
        (metrics.value("portcullis_requests_in_flight", &[]) == 0.0).then_some(())
    })
    .await;
    // Where it happened is said, and nothing of what was being served.
    let said = world.gateway.log_text() + &world.gateway.access_log_text();
    for secret in token.split('.').chain([MARK]) {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

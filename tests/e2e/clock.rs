//! A clock that is set while the gateway runs: what has expired is refused, remembered or not.

use std::fs;
use std::path::PathBuf;

use portcullis_e2e::{Caller, World, eventually};

/// Debian's libfaketime, in the directory of whichever architecture this is.
fn libfaketime() -> PathBuf {
    let directories = fs::read_dir("/usr/lib").unwrap();
    directories
        .map(|entry| entry.unwrap().path().join("faketime/libfaketime.so.1"))
        .find(|path| path.exists())
        .expect("libfaketime is part of Debian's package libfaketime")
}

#[tokio::test(flavor = "multi_thread")]
async fn validity_follows_the_clock_wherever_it_is_set() {
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
        },
    )
    .await;
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
        fs::write(offset.path(), clock).unwrap();
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
    world.gateway.assert_healthy();
}

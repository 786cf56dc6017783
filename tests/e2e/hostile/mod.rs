//! What an attacker sends: tokens, paths and framing. Nothing of it is admitted, and the gateway
//! goes on as if nothing had been.

mod claims;
mod framing;
mod http2;
mod limits;
mod overload;
mod paths;
mod tokens;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_e2e::{Caller, Connection, World};

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Presents each token on a protected route: all are refused as invalid tokens.
async fn assert_all_invalid(world: &World, tokens: Vec<(String, String)>) {
    let caller = Caller::new();
    for (name, token) in tokens {
        let answer = caller.get_with_token(&world.url("/orders/7"), &token).await;
        assert_eq!(answer.status, 401, "{name}: {}", answer.text());
        let challenge = answer.challenge().unwrap_or_default();
        assert!(
            challenge.contains("error=\"invalid_token\""),
            "{name}: {challenge}"
        );
        let problem = answer.json();
        assert!(problem["code"].is_string(), "{name}: {problem}");
    }
    world.service.assert_untouched();
    assert_alive(world).await;
}

/// The next good request on a fresh connection is served as if nothing had been.
async fn assert_alive(world: &World) {
    world.gateway.assert_healthy();
    let before = world.service.request_count();
    let token = world.token("orders:read");
    let answer = Caller::new()
        .get_with_token(&world.url("/orders/7"), &token)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(world.service.request_count(), before + 1);
    let panics = world
        .gateway
        .metrics()
        .await
        .value("portcullis_panics_total", &[]);
    assert_eq!(panics, 0.0);
}

/// What the gateway answers before it closes, or goes on waiting for more.
async fn statuses(world: &World, bytes: &[u8]) -> Vec<u16> {
    let mut connection = Connection::open(world.gateway.address("public")).await;
    // The other side may stop reading in the middle of this.
    let _ = connection.try_send(bytes).await;
    // An error is a connection that is closed already.
    let mut statuses = Vec::new();
    let reading = async {
        while let Some(response) = connection.read_response_or_close().await {
            statuses.push(response.status);
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), reading).await;
    statuses
}

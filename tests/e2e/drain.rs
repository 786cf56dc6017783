//! `SIGTERM`: what is in flight finishes, and nobody waits for longer than that.

use std::time::Duration;

use portcullis_e2e::{
    Authority, Behaviour, Caller, Connection, Gateway, GatewayYaml, Http2Connection, Issuer,
    IssuerAnswer, ORDERS_POLICY, Response, Service, TlsOptions, World, eventually,
};
use tokio::net::{TcpStream, UnixDatagram};
use tokio::time::Instant;

use crate::steps::request;

const HEALTH: &str = "/orders/health";

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_finish_and_the_exit_is_clean() {
    let world = World::start().await;
    world.service.always(
        Response::new(200)
            .body("late")
            .after(Duration::from_secs(2)),
    );
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let url = world.url(HEALTH);
            tokio::spawn(async move { Caller::new().get(&url).await })
        })
        .collect();
    world.service.wait_for_requests(5).await;
    world.gateway.terminate();
    for call in calls {
        let answer = call.await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "late"));
    }
    let status = world.gateway.wait_for_exit(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_gateway_exits_at_once() {
    let world = World::start().await;
    // An idle connection is not in flight.
    let mut idle = Connection::open(world.gateway.address("public")).await;
    assert_eq!(idle.request(request("GET", HEALTH, &[])).await.status, 200);
    let _silent = Connection::open(world.gateway.address("public")).await;
    let started = Instant::now();
    world.gateway.terminate();
    let status = world.gateway.wait_for_exit(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0));
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert!(idle.is_closed_within(Duration::from_secs(1)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_connections_are_refused_while_it_drains() {
    let world = World::start().await;
    world.service.next(
        Response::new(200)
            .body("late")
            .after(Duration::from_secs(3)),
    );
    let url = world.url(HEALTH);
    let call = tokio::spawn(async move { Caller::new().get(&url).await });
    world.service.wait_for_requests(1).await;
    world.gateway.terminate();
    let address = world.gateway.address("public");
    eventually("a closed listener", || async {
        TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
    let answer = Caller::new()
        .try_get(&world.gateway.admin_url("/readyz"))
        .await;
    assert!(answer.is_err() || answer.unwrap().status == 503);
    assert_eq!(call.await.unwrap().text(), "late");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_turns_red_before_the_listener_closes() {
    let world = World::start_with(|yaml| yaml.section("shutdown: { grace: 2s, drain: 5s }")).await;
    world.gateway.terminate();
    eventually("red readiness", || async {
        let answer = Caller::new().get(&world.gateway.admin_url("/readyz")).await;
        (answer.status == 503).then_some(())
    })
    .await;
    let answer = Caller::new().get(&world.url(HEALTH)).await;
    assert_eq!(answer.status, 200, "still accepted for the grace period");
    let status = world.gateway.wait_for_exit(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_finish_in_time_is_cut_off_and_the_exit_code_says_so() {
    let world = World::start_with(|yaml| yaml.section("shutdown: { drain: 1s }")).await;
    world.service.next(Behaviour::Stall);
    // One that sends nothing must not keep the rest from being cut off.
    let _idle = Connection::open(world.gateway.address("public")).await;
    let mut connection = Connection::open(world.gateway.address("public")).await;
    connection.send(request("GET", HEALTH, &[])).await;
    world.service.wait_for_requests(1).await;
    let started = Instant::now();
    world.gateway.terminate();
    let status = world.gateway.wait_for_exit(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(4));
    let lines = world.gateway.access_log();
    assert_eq!(lines.len(), 1, "what is cut off has a line: {lines:?}");
    assert_eq!(lines[0]["url.path"], HEALTH);
    assert_eq!(lines[0]["network.protocol.version"], "1.1");
    assert_eq!(lines[0]["portcullis.code"], "shutting_down", "{lines:?}");
    assert!(
        started.elapsed() >= Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_under_way_delays_no_stop() {
    let world = World::start().await;
    let slow = Issuer::start().await;
    slow.answer_with(IssuerAnswer::Hang);
    let yaml = std::fs::read_to_string(world.gateway.directory().join("portcullis.yaml")).unwrap();
    let issuer = format!(
        "issuers:\n  - {{ name: slow, issuer: \"{0}\", audiences: [a], keys: {{ url: \"{0}/jwks\" }} }}",
        slow.issuer()
    );
    world
        .gateway
        .write("portcullis.yaml", &yaml.replace("issuers:", &issuer));
    world.gateway.hang_up();
    // The reload waits for the keys of the new issuer.
    eventually("a reload under way", || async {
        (slow.key_set_fetches() > 0).then_some(())
    })
    .await;
    let started = Instant::now();
    world.gateway.terminate();
    let status = world.gateway.wait_for_exit(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0));
    let took = started.elapsed();
    assert!(took < Duration::from_millis(1_500), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_streams_finish_and_the_connection_is_told_to_go_away() {
    let authority = Authority::new("edge");
    let edge = authority.issue_for("api.acme.example");
    let service = Service::start().await;
    let yaml = GatewayYaml::new()
        .tls_listener()
        .upstream("orders", service.address());
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", ORDERS_POLICY),
        ("edge.pem", &edge.certificate_pem),
        ("edge.key", &edge.private_key_pem),
    ])
    .await;
    let options = TlsOptions::new(&authority, "api.acme.example");
    let mut connection = Http2Connection::open_tls(gateway.address("public"), &options).await;
    service.next(
        Response::new(200)
            .body("late")
            .after(Duration::from_secs(2)),
    );
    let stopping = async {
        service.wait_for_requests(1).await;
        gateway.terminate();
    };
    let url = format!("https://api.acme.example{HEALTH}");
    let (response, ()) = tokio::join!(connection.get(&url, &[]), stopping);
    assert_eq!((response.status, response.text().as_str()), (200, "late"));
    let status = gateway.wait_for_exit(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_alive_ends_with_the_response_that_was_in_flight() {
    let world = World::start().await;
    world.service.next(
        Response::new(200)
            .body("late")
            .after(Duration::from_secs(2)),
    );
    let mut connection = Connection::open(world.gateway.address("public")).await;
    connection.send(request("GET", HEALTH, &[])).await;
    world.service.wait_for_requests(1).await;
    world.gateway.terminate();
    assert_eq!(connection.read_response().await.text(), "late");
    assert!(connection.is_closed_within(Duration::from_secs(2)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let world = World::start_with_gateway(
        |yaml| yaml,
        |builder| builder.environment("NOTIFY_SOCKET", path.to_str().unwrap()),
    )
    .await;
    let next = async || {
        let mut buffer = [0; 4096];
        let reading = socket.recv(&mut buffer);
        let length = tokio::time::timeout(Duration::from_secs(10), reading).await;
        String::from_utf8_lossy(&buffer[..length.expect("a notification").unwrap()]).into_owned()
    };
    let mut seen = next().await;
    while !seen.contains("READY=1") {
        seen = next().await;
    }
    world.gateway.terminate();
    while !seen.contains("STOPPING=1") {
        seen = next().await;
    }
    assert_eq!(
        world
            .gateway
            .wait_for_exit(Duration::from_secs(5))
            .await
            .code(),
        Some(0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_had_arrived_when_it_was_stopped_is_answered() {
    let world = World::start().await;
    world.service.next(
        Response::new(200)
            .body("late")
            .after(Duration::from_secs(1)),
    );
    let mut connection = Connection::open(world.gateway.address("public")).await;
    let ask = request("GET", HEALTH, &[]);
    connection.send(ask.repeat(2)).await;
    world.service.wait_for_requests(1).await;
    world.gateway.terminate();
    assert_eq!(connection.read_response().await.text(), "late");
    let second = connection.read_response().await;
    assert_eq!(second.status, 200);
    assert_eq!(second.header("connection"), Some("close"));
    let status = world.gateway.wait_for_exit(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(0));
}

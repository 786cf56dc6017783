//! What breaks around the gateway, or is taken away from it: an issuer that comes and goes, a process
//! that is killed or frozen, descriptors that run out, a service that reads nothing, a flood. Good
//! callers are served as long as anything is left to serve them with, what was withdrawn or has
//! expired stays refused, and the gateway lives on without spinning and without growing.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portcullis_e2e::{
    AUDIENCE, Behaviour, Caller, Connection, Gateway, GatewayYaml, Http2Connection, Issuer,
    IssuerAnswer, Load, ORDERS_POLICY, Response, Service, SigningKey, World, eventually, unix_now,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::steps::{bearer, request};

const ORDER: &str = "/orders/7";
const HEALTH: &str = "/orders/health";

const MIB: f64 = 1024.0 * 1024.0;

/// More than an idle gateway has open, on machines with up to a few dozen processors.
const OPEN_FILES: u32 = 400;

/// A gateway whose key sets are fetched every second, and which forgives no clock.
async fn strict_gateway(issuer: &Issuer, service: &Service) -> Gateway {
    let yaml = GatewayYaml::new()
        .issuer_flow(&format!(
            "name: acme, issuer: \"{}\", audiences: [\"{AUDIENCE}\"], keys: {{ url: \"{}\" }}, \
             algorithms: [RS256, ES256], refresh_interval: 1s, leeway: 0s",
            issuer.issuer(),
            issuer.key_set_url()
        ))
        .upstream("orders", service.address());
    Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", ORDERS_POLICY),
    ])
    .await
    .until_ready()
    .await
}

async fn strict_world() -> World {
    let issuer = Issuer::start().await;
    let service = Service::start().await;
    let gateway = strict_gateway(&issuer, &service).await;
    World {
        gateway,
        issuer,
        service,
    }
}

/// A token for about three seconds, and the second from which on it is refused.
fn short_lived(issuer: &Issuer, scope: &str) -> (String, i64) {
    let expiry = unix_now() + 3;
    let token = issuer.token().scope(scope).claim("exp", expiry.into());
    (token.sign(), expiry)
}

async fn status(gateway: &Gateway, token: &str) -> u16 {
    Caller::new()
        .get_with_token(&gateway.url(ORDER), token)
        .await
        .status
}

/// No more fetches than the refresh interval of a second, with its 10 % of chance, makes in this
/// time; one that was due and one that was under way come on top.
fn most_fetches(elapsed: Duration) -> u64 {
    2 + (elapsed.as_millis() / 900) as u64
}

fn signal(gateway: &Gateway, signal: Signal) {
    let id = Pid::from_raw(gateway.process_id().try_into().unwrap());
    kill(id, signal).unwrap();
}

/// The fields of `/proc/PID/stat` behind the name of the program: its state is the first.
fn process_fields(gateway: &Gateway) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", gateway.process_id())).unwrap();
    // The name is in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().map(str::to_owned).collect()
}

/// User and system time that a process has used; a tick is a hundredth of a second.
fn processor_time(gateway: &Gateway) -> Duration {
    let fields = process_fields(gateway);
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// Looks on for a second in which nobody asks for anything.
async fn assert_no_spinning(gateway: &Gateway) {
    let before = processor_time(gateway);
    sleep(Duration::from_secs(1)).await;
    let used = processor_time(gateway) - before;
    assert!(used < Duration::from_millis(500), "{used:?}");
}

async fn until_served(world: &World) {
    let url = world.url(HEALTH);
    eventually("an answer of the service", || async {
        let answer = Caller::new().try_get(&url).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_that_answers_every_other_time_costs_no_good_token() {
    let world = Arc::new(strict_world().await);
    let load = {
        let world = Arc::clone(&world);
        let caller = Caller::new();
        Load::start(1, move || {
            let (world, caller) = (Arc::clone(&world), caller.clone());
            async move {
                // Not remembered, so its signature is verified with the keys that are there.
                let token = world.token("orders:read");
                let answer = caller.try_get_with_token(&world.url(ORDER), &token).await;
                match answer.map_err(|error| format!("{error:?}"))?.status {
                    200 => Ok(()),
                    other => Err(format!("answered {other}")),
                }
            }
        })
    };
    let (started, before) = (Instant::now(), world.issuer.key_set_fetches());
    for round in 0..6 {
        let fails = round % 2 == 0;
        world.issuer.answer_with(if fails {
            IssuerAnswer::Status(503)
        } else {
            IssuerAnswer::KeySet
        });
        let issuer = eventually("the next refresh", || async {
            let issuer = world.gateway.status().await["issuers"][0].clone();
            (issuer["last_error"].is_null() != fails).then_some(issuer)
        })
        .await;
        assert_eq!(issuer["key_ids"], json!(["first"]), "{issuer}");
    }
    let fetches = world.issuer.key_set_fetches() - before;
    let most = most_fetches(started.elapsed());
    assert!((6..=most).contains(&fetches), "{fetches}, not {most}");
    load.finish().await.assert_flawless();
    let metrics = world.gateway.metrics().await;
    for result in ["failed", "succeeded"] {
        let labels = [("issuer", "acme"), ("result", result)];
        let refreshes = metrics.value("portcullis_key_set_refreshes_total", &labels);
        assert!(refreshes >= 3.0, "{refreshes} {result}");
    }
    world.gateway.assert_healthy();
}

/// The lines of an access log in a file that nobody writes to.
fn whole_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'), "its last line is torn: {text}");
    text.lines()
        .map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_gateway_leaves_whole_lines_and_serves_again_at_once() {
    let directory = tempfile::TempDir::new().unwrap();
    let log = directory.path().join("access.log");
    let section = format!("access_log: {{ file: \"{}\" }}", log.display());
    let world = Arc::new(World::start_with(|yaml| yaml.section(&section)).await);
    let token = world.token("orders:read");
    let load = {
        let (world, token) = (Arc::clone(&world), token.clone());
        let caller = Caller::new();
        Load::start(4, move || {
            let (world, caller, token) = (Arc::clone(&world), caller.clone(), token.clone());
            async move {
                // An error is the end of the process, which is what this is about.
                match caller.try_get_with_token(&world.url(ORDER), &token).await {
                    Ok(answer) if answer.status != 200 => Err(format!("{answer:?}")),
                    Ok(_) | Err(_) => Ok(()),
                }
            }
        })
    };
    eventually("load", || async { (load.calls() >= 200).then_some(()) }).await;
    signal(&world.gateway, Signal::SIGKILL);
    let exit = world.gateway.wait_for_exit(Duration::from_secs(5)).await;
    load.finish().await.assert_flawless();
    assert_eq!(exit.signal(), Some(Signal::SIGKILL as i32));
    assert!(!world.gateway.log().is_empty());
    let before = whole_lines(&log).len();
    assert!(before > 0);

    // On the same port, too: no connection of the process before is in its way.
    let address = world.gateway.address("public");
    let file = |name: &str| fs::read_to_string(world.gateway.directory().join(name)).unwrap();
    let any_port = "name: public, address: \"127.0.0.1:0\"";
    let yaml = file("portcullis.yaml");
    assert!(yaml.contains(any_port), "{yaml}");
    let same_port = format!("name: public, address: \"{address}\"");
    let started = Instant::now();
    let again = Gateway::start(&[
        ("portcullis.yaml", &yaml.replace(any_port, &same_port)),
        ("policy/orders.yaml", &file("policy/orders.yaml")),
    ])
    .await;
    assert_eq!(Caller::new().get(&again.url(HEALTH)).await.status, 200);
    let again = again.until_ready().await;
    assert_eq!(status(&again, &token).await, 200);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    again.assert_healthy();
    again.terminate();
    again.wait_for_exit(Duration::from_secs(10)).await;
    assert!(!again.log().is_empty());
    assert_eq!(whole_lines(&log).len(), before + 2);
}

/// Connections of callers leave some, but the requests on an HTTP/2 connection may all need another one.
#[tokio::test(flavor = "multi_thread")]
async fn shortage_of_descriptors_is_waited_out_without_spinning() {
    let world =
        World::start_with_gateway(|yaml| yaml, |builder| builder.with_open_files(160)).await;
    world.service.always(Behaviour::Stall);
    let address = world.gateway.address("public");
    let mut asking = JoinSet::new();
    for _ in 0..3 {
        let connection = Http2Connection::open(address).await;
        for _ in 0..60 {
            let (mut connection, url) = (connection.clone(), world.url(HEALTH));
            asking.spawn(async move { connection.request("GET", &url, &[], b"", &[]).await });
        }
    }
    eventually("a request for which there is no descriptor", || async {
        let is_short = |line: &Value| line["portcullis.code"] == "overloaded";
        let lines = world.gateway.access_log();
        lines.iter().any(is_short).then_some(())
    })
    .await;
    let late = Connection::open(address).await;
    world.gateway.wait_for_log("connection not accepted").await;
    assert_no_spinning(&world.gateway).await;
    world.gateway.assert_healthy();

    asking.shutdown().await;
    drop(late);
    world.service.always(Response::new(200));
    until_served(&world).await;
    let token = world.token("orders:read");
    assert_eq!(status(&world.gateway, &token).await, 200);
    let metrics = world.gateway.metrics().await;
    assert_eq!(metrics.value("portcullis_panics_total", &[]), 0.0);
    world.gateway.assert_healthy();
}

/// As many are accepted as leave descriptors for their services, and for the admin listener.
#[tokio::test(flavor = "multi_thread")]
async fn admin_listener_answers_while_every_connection_is_taken() {
    let world = World::start_with_gateway(
        // Silent connections have to stay for as long as this takes.
        |yaml| yaml.section("limits: { header_timeout: 60s }"),
        |builder| builder.with_open_files(OPEN_FILES),
    )
    .await;
    let metrics = world.gateway.metrics().await;
    let most = metrics.value("process_max_fds", &[]);
    assert_eq!(most, f64::from(OPEN_FILES));
    let address = world.gateway.address("public");
    let mut open = Vec::new();
    for _ in 0..OPEN_FILES {
        open.push(Connection::open(address).await);
    }
    eventually("all connections taken", || async {
        let metrics = world.gateway.metrics().await;
        let taken = metrics.value("portcullis_connections", &[("listener", "public")]);
        (taken == f64::from((OPEN_FILES - 128) / 2)).then_some(())
    })
    .await;
    // Whoever is connected gets an answer.
    let response = open[0].request(request("GET", ORDER, &[])).await;
    assert_eq!(response.status, 401, "{}", response.text());
    assert_no_spinning(&world.gateway).await;
    for path in ["/healthz", "/readyz", "/metrics", "/status"] {
        let answer = Caller::new().get(&world.gateway.admin_url(path)).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    drop(open);
    until_served(&world).await;
    world.gateway.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_process_goes_by_the_clock_as_soon_as_it_wakes() {
    let world = strict_world().await;
    let (short, expiry) = short_lived(&world.issuer, "orders:read");
    // It is remembered from here on.
    assert_eq!(status(&world.gateway, &short).await, 200);
    signal(&world.gateway, Signal::SIGSTOP);
    eventually("a stopped process", || async {
        (process_fields(&world.gateway)[0] == "T").then_some(())
    })
    .await;
    let fetches = world.issuer.key_set_fetches();
    // Sent while it is good, and read when it is not.
    let mut early = Connection::open(world.gateway.address("public")).await;
    early.send(request("GET", ORDER, &[&bearer(&short)])).await;
    eventually("expiry of the token", || async {
        (unix_now() > expiry).then_some(())
    })
    .await;
    signal(&world.gateway, Signal::SIGCONT);
    let woken = Instant::now();
    let response = early.read_response().await;
    assert_eq!(response.status, 401);
    assert!(response.text().contains("token_expired"), "{response:?}");
    Caller::new()
        .get_with_token(&world.url(ORDER), &short)
        .await
        .assert_refused(401, "token_expired");
    let good = world.token("orders:read");
    assert_eq!(status(&world.gateway, &good).await, 200);
    // Refreshes that were missed are not made up for.
    let fetches = world.issuer.key_set_fetches() - fetches;
    let most = most_fetches(woken.elapsed());
    assert!(fetches <= most, "{fetches}, not {most}");
    world.gateway.assert_healthy();
}

/// The refresh interval, and a second for what comes on top of it.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(2);

/// Presents tokens of a key that was withdrawn at `withdrawn`, a remembered one and new ones, until the
/// withdrawal has been in force for a while.
async fn assert_withdrawal_comes_into_force(
    gateway: &Gateway,
    issuer: &Issuer,
    key: &Arc<SigningKey>,
    remembered: &str,
    withdrawn: Instant,
) {
    let caller = Caller::new();
    let url = gateway.url(ORDER);
    while withdrawn.elapsed() < IN_FORCE_WITHIN + Duration::from_millis(1_200) {
        let fresh = issuer.token_signed_by(key).scope("orders:read").sign();
        for token in [remembered, fresh.as_str()] {
            let since = withdrawn.elapsed();
            let status = caller.get_with_token(&url, token).await.status;
            assert!(
                status != 200 || since < IN_FORCE_WITHIN,
                "accepted {since:?} after it was withdrawn"
            );
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status(gateway, remembered).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn withdrawn_key_is_refused_by_every_gateway_within_the_refresh_interval() {
    let issuer = Issuer::start_with(SigningKey::p256("first")).await;
    let service = Service::start().await;
    let gateways = [
        strict_gateway(&issuer, &service).await,
        strict_gateway(&issuer, &service).await,
    ];
    let token_of = |key: &Arc<SigningKey>| issuer.token_signed_by(key).scope("orders:read").sign();
    let mut old = Arc::clone(issuer.key());
    for name in ["second", "third"] {
        let new = issuer.publish(SigningKey::p256(name));
        let (old_token, new_token) = (token_of(&old), token_of(&new));
        for gateway in &gateways {
            eventually("both keys in use", || async {
                let answers = (
                    status(gateway, &old_token).await,
                    status(gateway, &new_token).await,
                );
                (answers == (200, 200)).then_some(())
            })
            .await;
        }
        issuer.withdraw(&old);
        let withdrawn = Instant::now();
        let watch = |gateway| {
            assert_withdrawal_comes_into_force(gateway, &issuer, &old, &old_token, withdrawn)
        };
        tokio::join!(watch(&gateways[0]), watch(&gateways[1]));
        for gateway in &gateways {
            assert_eq!(status(gateway, &new_token).await, 200);
            gateway.assert_healthy();
        }
        old = new;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_outlives_its_token_and_the_next_request_does_not() {
    let world = strict_world().await;
    let (token, _) = short_lived(&world.issuer, "orders:read orders:write");
    let authorization = bearer(&token);
    let mut connection = Connection::open(world.gateway.address("public")).await;
    let head = request("POST", "/orders", &[&authorization, "Content-Length: 8"]);
    connection.send(head + "half").await;
    // So it was admitted while its token was good.
    eventually("an upload that has begun", || async {
        (world.service.bytes_received() > 0).then_some(())
    })
    .await;
    let caller = Caller::new();
    let refused = eventually("expiry of the token", || async {
        let answer = caller.get_with_token(&world.url(ORDER), &token).await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    refused.assert_refused(401, "token_expired");

    let response = connection.request("rest").await;
    assert_eq!(response.status, 200, "{}", response.text());
    let received = world.service.last_request();
    assert_eq!(
        (received.method.as_str(), received.body.as_slice()),
        ("POST", &b"halfrest"[..])
    );
    // On the same connection: having been admitted once is worth nothing.
    let next = request("GET", ORDER, &[&authorization]);
    let next = connection.request(next).await;
    assert_eq!(next.status, 401);
    assert!(next.text().contains("token_expired"), "{next:?}");
    world.gateway.assert_healthy();
}

/// As long as one of RSA with 2048 bits, and worth a computation: it is less than any modulus.
fn made_up_signature() -> Vec<u8> {
    let mut signature = vec![0; 256];
    aws_lc_rs::rand::fill(&mut signature).unwrap();
    signature[0] = 1;
    signature
}

const MEASURED: usize = 200;

async fn median_latency(world: &World, caller: &Caller, token: &str) -> Duration {
    let url = world.url(ORDER);
    let mut latencies = Vec::new();
    for _ in 0..MEASURED {
        let started = Instant::now();
        let answer = caller.get_with_token(&url, token).await;
        latencies.push(started.elapsed());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    latencies.sort_unstable();
    latencies[MEASURED / 2]
}

#[tokio::test(flavor = "multi_thread")]
#[allow(
    clippy::print_stderr,
    reason = "a measurement, for whoever wants to read it"
)]
async fn flood_of_made_up_signatures_keeps_no_good_caller_from_being_served() {
    let world = Arc::new(World::start().await);
    let fetches = world.issuer.key_set_fetches();
    let token = world.token("orders:read");
    let caller = Caller::new();
    let alone = median_latency(&world, &caller, &token).await;
    let flood = {
        let world = Arc::clone(&world);
        let caller = Caller::new();
        Load::start(8, move || {
            let (world, caller) = (Arc::clone(&world), caller.clone());
            async move {
                let forged = world
                    .issuer
                    .token()
                    .scope("orders:read")
                    .with_signature(|_| made_up_signature());
                let answer = caller.try_get_with_token(&world.url(ORDER), &forged).await;
                match answer.map_err(|error| format!("{error:?}"))?.status {
                    // 429: of one address, not all of them are verified.
                    401 | 429 => Ok(()),
                    other => Err(format!("answered {other}")),
                }
            }
        })
    };
    eventually("a flood", || async { (flood.calls() >= 100).then_some(()) }).await;
    let beside = median_latency(&world, &caller, &token).await;
    let report = flood.finish().await;
    report.assert_flawless();
    eprintln!(
        "good caller alone {alone:?}, beside {} forgeries {beside:?}: {:.1} times that",
        report.calls,
        beside.as_secs_f64() / alone.as_secs_f64()
    );
    let most = alone * 10 + Duration::from_millis(50);
    assert!(beside < most, "{beside:?}, alone {alone:?}");
    assert_eq!(world.service.request_count(), 2 * MEASURED);
    assert_eq!(world.issuer.key_set_fetches(), fetches, "its key is known");
    let metrics = world.gateway.metrics().await;
    let remembered = metrics.value("portcullis_token_cache_entries", &[]);
    assert_eq!(remembered, 1.0, "nothing that is refused is remembered");
    world.gateway.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn address_that_guesses_is_not_verified_for_and_takes_nothing_from_others() {
    let world =
        World::start_with(|yaml| yaml.section("limits: { failed_verifications_per_second: 20 }"))
            .await;
    let address = world.gateway.address("public");
    let ask = async |local: &str, token: &str| {
        let mut connection = Connection::open_from(local, address).await;
        connection
            .request(request("GET", ORDER, &[&bearer(token)]))
            .await
    };
    let (neighbour, guesser) = ("127.0.0.2", "127.0.0.1");
    let known = world.token("orders:read");
    assert_eq!(ask(guesser, &known).await.status, 200);
    let forged = || world.issuer.token().with_signature(|_| made_up_signature());
    // In some second of a few, more than twenty.
    let refused = eventually("an answer of 429", || async {
        let answer = ask(guesser, &forged()).await;
        (answer.status == 429).then_some(answer)
    });
    let guessing = async {
        loop {
            ask(guesser, &forged()).await;
        }
    };
    let answer = tokio::select! {
        answer = refused => answer,
        () = guessing => unreachable!(),
    };
    assert!(
        answer.text().contains("token_attempts_exceeded"),
        "{answer:?}"
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("www-authenticate"), None);
    let judged = async |result: &str| {
        let metrics = world.gateway.metrics().await;
        let labels = [("issuer", "acme"), ("result", result)];
        metrics.value("portcullis_token_verifications_total", &labels)
    };
    let before = judged("refused").await;
    let started = Instant::now();
    for _ in 0..100 {
        assert!(matches!(ask(guesser, &forged()).await.status, 401 | 429));
        assert_eq!(ask(guesser, &known).await.status, 200, "it is remembered");
        assert_eq!(
            ask(neighbour, &world.token("orders:read")).await.status,
            200
        );
    }
    let seconds = started.elapsed().as_secs() + 2;
    let verified = judged("refused").await - before;
    assert!(
        verified <= 20.0 * seconds as f64,
        "{verified} in {seconds} s"
    );
    // Who stops is believed again.
    eventually("a good token that is taken", || async {
        let token = world.token("orders:read");
        (ask(guesser, &token).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_tokens_than_can_be_remembered_are_all_accepted() {
    let world = World::start_with(|yaml| yaml.section("token_cache: { entries: 100 }")).await;
    let caller = Caller::new();
    let url = world.url(ORDER);
    let remembered = async || {
        let metrics = world.gateway.metrics().await;
        metrics.value("portcullis_token_cache_entries", &[])
    };
    let tokens: Vec<_> = (0..500).map(|_| world.token("orders:read")).collect();
    for (n, token) in tokens.iter().enumerate() {
        let answer = caller.get_with_token(&url, token).await;
        assert_eq!(answer.status, 200, "{n}");
        if n % 25 == 24 {
            let entries = remembered().await;
            assert!(entries <= 100.0, "{entries} after {n}");
        }
    }
    assert!(remembered().await >= 50.0, "there is a cache");
    // Forgotten or not, it is as good as ever.
    assert_eq!(status(&world.gateway, &tokens[0]).await, 200);
    assert!(remembered().await <= 100.0);
    world.gateway.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn scrapers_that_do_not_read_hold_up_nobody() {
    let world = World::start().await;
    // Fewer than the admin listener has at one time.
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut scraper = Connection::open_narrow(world.gateway.admin_address()).await;
        scraper
            .send("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n")
            .await;
        assert!(scraper.read_exactly(1).await.is_some());
        slow.push(scraper);
    }
    let token = world.token("orders:read");
    let caller = Caller::new();
    let url = world.url(ORDER);
    for n in 0..100 {
        let answer = caller.get_with_token(&url, &token);
        let answer = timeout(Duration::from_secs(2), answer).await;
        assert_eq!(answer.expect("an answer in time").status, 200, "{n}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        let url = world.gateway.admin_url(path);
        let answer = timeout(Duration::from_secs(2), caller.get(&url)).await;
        assert_eq!(answer.expect("an answer in time").status, 200, "{path}");
    }
    drop(slow);
    world.gateway.assert_healthy();
}

const UPLOAD: usize = 8 << 20;

/// Sends more than anybody takes, and says what comes back meanwhile.
async fn upload(address: SocketAddr) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let length = format!("Content-Length: {UPLOAD}");
    let head = request("POST", "/public/x", &[&length]);
    let sending = tokio::spawn(async move {
        // It is broken off in the middle.
        let _ = writing.write_all(head.as_bytes()).await;
        let _ = writing.write_all(&vec![b'x'; UPLOAD]).await;
    });
    let mut answer = Vec::new();
    // A reset that comes after the answer is no part of it.
    let _ = timeout(Duration::from_secs(10), reading.read_to_end(&mut answer)).await;
    sending.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn service_that_reads_nothing_is_a_gateway_timeout_and_costs_no_memory() {
    let socket = TcpSocket::new_v4().unwrap();
    // What the kernel takes without being read must not be the whole upload.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(64).unwrap();
    let service = listener.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let yaml = GatewayYaml::new().upstream_flow(&format!(
        "name: orders, addresses: [\"{service}\"], timeouts: {{ response: 1s }}"
    ));
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", ORDERS_POLICY),
    ])
    .await;
    let resident = async || {
        let metrics = gateway.metrics().await;
        metrics.value("process_resident_memory_bytes", &[])
    };
    let held = gateway.holds().await;
    let before = resident().await;
    let started = Instant::now();
    let mut uploads = JoinSet::new();
    for _ in 0..8 {
        uploads.spawn(upload(gateway.address("public")));
    }
    let (mut answers, mut most) = (Vec::new(), before);
    while !uploads.is_empty() {
        most = most.max(resident().await);
        while let Some(answer) = uploads.try_join_next() {
            answers.push(answer.unwrap());
        }
        sleep(Duration::from_millis(20)).await;
    }
    // One timeout for the body that is not taken, and one for the answer that does not come.
    let took = started.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
    for answer in &answers {
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
        assert!(answer.contains("upstream_timeout"), "{answer}");
    }
    // All of them together are 64 MiB.
    let grown = (most - before) / MIB;
    assert!(grown < 24.0, "{grown} MiB");
    let failures = gateway.metrics().await.value(
        "portcullis_upstream_failures_total",
        &[("upstream", "orders"), ("reason", "response_timeout")],
    );
    assert_eq!(failures, 8.0);
    gateway.until_it_holds_no_more_than(held).await;
    gateway.assert_healthy();
    accepting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_answered_and_deadlines_hold_while_no_processor_is_free() {
    let world = World::start_with(|yaml| yaml.section("limits: { header_timeout: 1s }")).await;
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    let is_over = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..4 * processors)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let mut half = Connection::open(world.gateway.address("public")).await;
    half.send("GET /orders/health HTTP/1.1\r\n").await;
    let health = world.gateway.admin_url("/healthz");
    for _ in 0..20 {
        let answer = timeout(Duration::from_secs(1), Caller::new().get(&health)).await;
        assert_eq!(answer.expect("an answer within a second").status, 200);
    }
    let ended = timeout(Duration::from_secs(5), half.read_to_end()).await;
    ended.expect("half a head has its deadline");
    let token = world.token("orders:read");
    let answer = Caller::new()
        .get_with_token(&world.url(ORDER), &token)
        .await;
    assert_eq!(answer.status, 200);
    is_over.store(true, Ordering::Relaxed);
    for thread in busy {
        thread.join().unwrap();
    }
}

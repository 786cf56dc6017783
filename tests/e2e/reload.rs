//! Changing the configuration of a running gateway.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use portcullis_e2e::{
    Authority, Caller, Connection, Gateway, GatewayYaml, Issuer, Load, ORDERS_POLICY, Response,
    Service, TlsOptions, World, eventually,
};
use serde_json::Value;

use crate::steps::request;

/// A policy file of one public route.
fn public(owner: &str, path: &str) -> String {
    format!(
        "owner: {owner}\nroutes:\n\
         - {{ name: {owner}, match: {{ path: {path} }}, upstream: orders, public: true }}\n"
    )
}

async fn status(gateway: &Gateway, path: &str) -> u16 {
    Caller::new().get(&gateway.url(path)).await.status
}

async fn eventually_status(gateway: &Gateway, path: &str, wanted: u16) {
    eventually(&format!("{path} answering {wanted}"), || async {
        (status(gateway, path).await == wanted).then_some(())
    })
    .await;
}

struct Teams {
    gateway: Gateway,
    service: Service,
    yaml: GatewayYaml,
}

impl Teams {
    /// Two teams with one route each: `/alpha` and `/beta`.
    async fn start() -> Self {
        let service = Service::start().await;
        let yaml = GatewayYaml::new().upstream("orders", service.address());
        let gateway = Gateway::start(&[
            ("portcullis.yaml", &yaml.render()),
            ("policy/alpha.yaml", &public("alpha", "/alpha")),
            ("policy/beta.yaml", &public("beta", "/beta")),
        ])
        .await;
        Self {
            gateway,
            service,
            yaml,
        }
    }

    async fn policy_file_current(&self, owner: &str) -> f64 {
        let metrics = self.gateway.metrics().await;
        metrics.value("portcullis_policy_file_current", &[("owner", owner)])
    }

    async fn rejections(&self) -> f64 {
        let metrics = self.gateway.metrics().await;
        metrics.value("portcullis_config_reloads_total", &[("result", "rejected")])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hang_up_brings_the_new_configuration() {
    let teams = Teams::start().await;
    let gateway = &teams.gateway;
    assert_eq!(status(gateway, "/alpha").await, 200);
    gateway.write("policy/alpha.yaml", &public("alpha", "/omega"));
    gateway.reload().await;
    assert_eq!(status(gateway, "/omega").await, 200);
    assert_eq!(status(gateway, "/alpha").await, 404);
    assert_eq!(status(gateway, "/beta").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_change_a_file_is_noticed_without_a_signal() {
    let teams = Teams::start().await;
    let gateway = &teams.gateway;
    let directory = gateway.directory().join("policy");

    gateway.write("policy/alpha.yaml", &public("alpha", "/overwritten"));
    eventually_status(gateway, "/overwritten", 200).await;

    let draft = gateway.directory().join("draft.yaml");
    fs::write(&draft, public("alpha", "/renamed")).unwrap();
    fs::rename(&draft, directory.join("alpha.yaml")).unwrap();
    eventually_status(gateway, "/renamed", 200).await;
    // The watch has to survive the inode that it began with.
    gateway.write("policy/alpha.yaml", &public("alpha", "/again"));
    eventually_status(gateway, "/again", 200).await;

    gateway.write("policy/gamma.yaml", &public("gamma", "/gamma"));
    eventually_status(gateway, "/gamma", 200).await;

    fs::remove_file(directory.join("gamma.yaml")).unwrap();
    eventually_status(gateway, "/gamma", 404).await;
    assert_eq!(status(gateway, "/beta").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn relinked_config_map_is_noticed() {
    let service = Service::start().await;
    let yaml = GatewayYaml::new().upstream("orders", service.address());
    let builder = Gateway::builder().file("portcullis.yaml", &yaml.render());
    // As a kubelet lays it out: files are links through `..data`, which is swapped whole.
    let policy = builder.directory().join("policy");
    let version = |name: &str, path: &str| {
        let directory = policy.join(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("alpha.yaml"), public("alpha", path)).unwrap();
    };
    version("..2026_01", "/first");
    symlink("..2026_01", policy.join("..data")).unwrap();
    symlink("..data/alpha.yaml", policy.join("alpha.yaml")).unwrap();
    let gateway = builder.start().await;
    assert_eq!(status(&gateway, "/first").await, 200);
    for n in 2..5 {
        let name = format!("..2026_0{n}");
        let path = format!("/version-{n}");
        version(&name, &path);
        symlink(&name, policy.join("..data_tmp")).unwrap();
        fs::rename(policy.join("..data_tmp"), policy.join("..data")).unwrap();
        fs::remove_dir_all(policy.join(format!("..2026_0{}", n - 1))).unwrap();
        eventually_status(&gateway, &path, 200).await;
        assert_eq!(status(&gateway, "/first").await, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_gateway_file_changes_nothing_and_says_why() {
    let teams = Teams::start().await;
    let gateway = &teams.gateway;
    let good = teams.yaml.render();
    let generation = gateway.generation().await;
    for (bad, complaint) in [
        ("listeners: [".to_owned(), "portcullis.yaml"),
        (good.replace("upstreams:", "upstraems:"), "upstraems"),
        (
            good.replace("policy/*.yaml", "nothing/*.yaml"),
            "nothing/*.yaml",
        ),
        (String::new(), "portcullis.yaml"),
        (good.replace("name: orders", "name: renamed"), "orders"),
    ] {
        let before = teams.rejections().await;
        // Even a good change elsewhere waits for a good gateway file.
        gateway.write("policy/alpha.yaml", &public("alpha", "/sneaked-in"));
        gateway.write("portcullis.yaml", &bad);
        gateway.hang_up();
        eventually("a rejected configuration", || async {
            (teams.rejections().await > before).then_some(())
        })
        .await;
        gateway.wait_for_log(complaint).await;
        assert_eq!(status(gateway, "/alpha").await, 200, "{bad}");
        assert_eq!(status(gateway, "/beta").await, 200, "{bad}");
        assert_eq!(status(gateway, "/sneaked-in").await, 404, "{bad}");
        // Restore, so that the next case starts from what is serving.
        gateway.write("policy/alpha.yaml", &public("alpha", "/alpha"));
        gateway.write("portcullis.yaml", &good);
        gateway.hang_up();
        eventually_status(gateway, "/alpha", 200).await;
        eventually("an accepted configuration", || async {
            let last = gateway.status().await["config"]["last_reload"]["ok"].clone();
            (last == true).then_some(())
        })
        .await;
    }
    assert!(gateway.generation().await >= generation);
    gateway.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_policy_file_is_pinned_while_the_other_team_moves_on() {
    let teams = Teams::start().await;
    let gateway = &teams.gateway;
    gateway.write(
        "policy/alpha.yaml",
        "owner: alpha\nroutes:\n  - name: alpha\n    nonsense: 1\n",
    );
    gateway.write("policy/beta.yaml", &public("beta", "/beta-two"));
    gateway.hang_up();
    eventually_status(gateway, "/beta-two", 200).await;
    assert_eq!(status(gateway, "/beta").await, 404);
    assert_eq!(
        status(gateway, "/alpha").await,
        200,
        "its last good content serves on"
    );

    assert_eq!(teams.policy_file_current("alpha").await, 0.0);
    assert_eq!(teams.policy_file_current("beta").await, 1.0);
    let log = gateway.log_text();
    assert!(
        log.contains("alpha.yaml") && log.contains("nonsense"),
        "{log}"
    );
    let status_document = gateway.status().await.to_string();
    assert!(status_document.contains("alpha.yaml"), "{status_document}");
    assert!(status_document.contains("nonsense"), "{status_document}");

    gateway.write("policy/alpha.yaml", &public("alpha", "/alpha-two"));
    gateway.hang_up();
    eventually_status(gateway, "/alpha-two", 200).await;
    assert_eq!(status(gateway, "/alpha").await, 404);
    assert_eq!(teams.policy_file_current("alpha").await, 1.0);
}

/// A team that takes another team's route, or fails at what only the whole shows, is held back
/// itself; the other keeps what it had.
#[tokio::test(flavor = "multi_thread")]
async fn file_that_conflicts_with_another_teams_is_the_one_that_is_held_back() {
    let teams = Teams::start().await;
    let gateway = &teams.gateway;
    for bad in [
        public("alpha", "/beta"),
        public("alpha", "/alpha-two").replace("name: alpha,", "name: beta,"),
        public("alpha", "/alpha-two").replace("upstream: orders", "upstream: nowhere"),
        public("alpha", "/alpha-two").replace("public: true", "require: { scopes: [nobody] }"),
        String::new(),
    ] {
        gateway.write("policy/alpha.yaml", &bad);
        gateway.hang_up();
        eventually("a pinned file", || async {
            (teams.policy_file_current("alpha").await == 0.0).then_some(())
        })
        .await;
        assert_eq!(status(gateway, "/alpha").await, 200, "{bad}");
        assert_eq!(status(gateway, "/beta").await, 200, "{bad}");
        assert_eq!(status(gateway, "/alpha-two").await, 404, "{bad}");
    }
    assert!(teams.service.request_count() >= 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_requirement_holds_for_tokens_that_were_accepted_before() {
    let world = World::start().await;
    let token = world.token("orders:read");
    let answer = Caller::new()
        .get_with_token(&world.url("/orders/7"), &token)
        .await;
    assert_eq!(answer.status, 200);
    let stricter = ORDERS_POLICY.replacen(
        "require: { scopes: [\"orders:read\"] }",
        "require: { scopes: [\"orders:admin\"] }",
        1,
    );
    world.gateway.write("policy/orders.yaml", &stricter);
    world.gateway.reload().await;
    let answer = Caller::new()
        .get_with_token(&world.url("/orders/7"), &token)
        .await;
    answer.assert_refused(403, "scope_insufficient");
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_that_was_removed_is_believed_no_longer() {
    let world = World::start().await;
    let token = world.token("orders:read");
    let answer = Caller::new()
        .get_with_token(&world.url("/orders/7"), &token)
        .await;
    assert_eq!(answer.status, 200);
    let other = Issuer::start().await;
    let yaml = GatewayYaml::new()
        .issuer("acme", &other)
        .upstream("orders", world.service.address())
        .render();
    world.gateway.write("portcullis.yaml", &yaml);
    world.gateway.reload().await;
    let answer = Caller::new()
        .get_with_token(&world.url("/orders/7"), &token)
        .await;
    assert_eq!(answer.status, 401);
    let token = other.token().scope("orders:read").sign();
    eventually("the new issuer's tokens", || async {
        let answer = Caller::new()
            .get_with_token(&world.url("/orders/7"), &token)
            .await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn known_issuer_keeps_its_keys_over_a_reload_even_while_it_is_down() {
    let world = World::start().await;
    world.issuer.take_down().await;
    world.gateway.reload().await;
    let answer = Caller::new()
        .get_with_token(&world.url("/orders/7"), &world.token("orders:read"))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn request_in_flight_ends_in_the_generation_that_it_began_in() {
    let teams = Teams::start().await;
    teams.service.next(
        Response::new(200)
            .body("late")
            .after(Duration::from_secs(2)),
    );
    let url = teams.gateway.url("/alpha");
    let in_flight = tokio::spawn(async move { Caller::new().get(&url).await });
    teams.service.wait_for_requests(1).await;
    teams
        .gateway
        .write("policy/alpha.yaml", &public("alpha", "/omega"));
    teams.gateway.reload().await;
    assert_eq!(status(&teams.gateway, "/alpha").await, 404);
    let answer = in_flight.await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "late"));
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_that_moved_needs_a_restart_and_the_log_says_so() {
    let service = Service::start().await;
    let yaml = GatewayYaml::new().upstream("orders", service.address());
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/alpha.yaml", &public("alpha", "/alpha")),
    ])
    .await;
    let moved = yaml.render().replace(
        "\"127.0.0.1:0\" }\nupstreams",
        "\"127.0.0.2:0\" }\nupstreams",
    );
    assert_ne!(moved, yaml.render());
    gateway.write("portcullis.yaml", &moved);
    gateway.hang_up();
    gateway.wait_for_log("restart").await;
    assert_eq!(status(&gateway, "/alpha").await, 200);
}

/// While the configuration flips between two policies a thousand times, whoever both of them admit
/// is never refused, whoever both refuse is never admitted, and nobody is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn thousand_reloads_under_traffic_lose_no_request_and_admit_nobody_wrongly() {
    const RELOADS: u64 = 1_000;
    // All that is refused comes from one address, as fast as it can.
    let no_limit = "limits: { failed_verifications_per_second: 0 }";
    let world = World::start_with(|yaml| yaml.section(no_limit)).await;
    let world = Arc::new(world);
    let odd = ORDERS_POLICY
        .replacen("[\"orders:read\"]", "[\"orders:write\"]", 1)
        .replace(
            "  - name: orders-health\n    match: { path: /orders/health,",
            "  - name: orders-wellbeing\n    match: { path: /orders/health,",
        );
    assert_ne!(odd, ORDERS_POLICY);

    let good = {
        let world = Arc::clone(&world);
        let token = world.token("orders:read orders:write");
        let caller = Caller::new();
        Load::start(2, move || {
            let (world, caller, token) = (Arc::clone(&world), caller.clone(), token.clone());
            async move {
                for path in ["/orders/7", "/orders/health", "/account"] {
                    let answer = caller.try_get_with_token(&world.url(path), &token).await;
                    let status = answer.map_err(|error| format!("{path}: {error:?}"))?.status;
                    if status != 200 {
                        return Err(format!("{path} was answered {status}"));
                    }
                }
                Ok(())
            }
        })
    };
    let bad = {
        let world = Arc::clone(&world);
        let expired = portcullis_e2e::unix_now() - 600;
        let none = world.token("orders:none");
        let expired = world
            .issuer
            .token()
            .scope("orders:admin")
            .claim("exp", expired.into())
            .sign();
        let caller = Caller::new();
        Load::start(2, move || {
            let (world, caller) = (Arc::clone(&world), caller.clone());
            let tokens = [(none.clone(), 403), (expired.clone(), 401)];
            async move {
                for (token, wanted) in tokens {
                    for path in ["/orders/7", "/admin/x", "/reports"] {
                        let answer = caller.try_get_with_token(&world.url(path), &token).await;
                        let status = answer.map_err(|error| format!("{path}: {error:?}"))?.status;
                        if status != wanted {
                            return Err(format!("{path} was answered {status}, not {wanted}"));
                        }
                    }
                }
                Ok(())
            }
        })
    };
    let first = world.gateway.generation().await;
    for n in 0..RELOADS {
        let policy = if n % 2 == 0 { &odd } else { ORDERS_POLICY };
        let before = world.gateway.generation().await;
        world.gateway.write("policy/orders.yaml", policy);
        world.gateway.hang_up();
        world.gateway.wait_for_generation_after(before).await;
    }
    let last = world.gateway.generation().await;
    assert!(last - first >= RELOADS, "{first} to {last}");
    good.finish().await.assert_flawless();
    bad.finish().await.assert_flawless();
    world.gateway.assert_healthy();
    let admitted_wrongly = world.service.requests().iter().any(|received| {
        received
            .header("x-scopes")
            .is_some_and(|scopes| scopes.contains("none"))
    });
    assert!(!admitted_wrongly);
    let rejected = world
        .gateway
        .log()
        .iter()
        .filter(|line| line["level"] == "ERROR")
        .count();
    assert_eq!(rejected, 0, "{:?}", Value::from(world.gateway.log()));
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_that_demands_less_does_not_come_with_a_held_file() {
    let authority = Authority::new("edge");
    let edge = authority.issue_for("api.acme.example");
    let callers = Authority::new("callers");
    let service = Service::start().await;
    let yaml = |mode: &str| {
        GatewayYaml::new()
            .listener(&format!(
                "{{ name: public, address: \"127.0.0.1:0\", tls: {{ certificates: \
                 [{{ certificate: edge.pem, private_key: edge.key }}], client_certificates: {mode} }} }}"
            ))
            .upstream("orders", service.address())
            .render()
    };
    let policy = |access: &str| {
        format!(
            "owner: a\nscopes: {{ r: read }}\nroutes:\n- {{ name: internal, match: {{ path: /internal }}, upstream: orders, {access} }}\n"
        )
    };
    let required = yaml("{ mode: required, trust: callers.pem }");
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &required),
        ("policy/a.yaml", &policy("public: true")),
        ("edge.pem", &edge.certificate_pem),
        ("edge.key", &edge.private_key_pem),
        ("callers.pem", &callers.certificate_pem()),
    ])
    .await;
    let anonymous = async || {
        let options = TlsOptions::new(&authority, "api.acme.example");
        let address = gateway.address("public");
        let mut connection = Connection::open_tls(address, &options).await.ok()?;
        let bytes = request("GET", "/internal", &[]);
        connection.try_send(bytes).await.ok()?;
        let response = connection.read_response_or_close().await?;
        Some(response.status)
    };
    assert_eq!(anonymous().await, None);
    // The certificate is replaced by a token, of whose scope a letter is wrong.
    gateway.write("policy/a.yaml", &policy("require: { scopes: [rr] }"));
    gateway.write("portcullis.yaml", &yaml("{ mode: \"off\" }"));
    gateway.hang_up();
    gateway.wait_for_log("configuration rejected").await;
    assert_eq!(anonymous().await, None);
    assert_eq!(gateway.generation().await, 1);
    gateway.write("policy/a.yaml", &policy("require: { scopes: [r] }"));
    gateway.reload().await;
    assert_eq!(anonymous().await, Some(401));
}

//! A good configuration, from files to [`Config`].
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking, and its name is its documentation"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_config::{
    Catalog, ClientCertificates, Config, Diagnostics, KeySource, SubjectDisclosure, check_policy,
    load,
};
use tempfile::TempDir;

struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        let directory = Self(tempfile::tempdir().unwrap());
        directory.write("portcullis.yaml", SMALLEST);
        directory.write("policy/orders.yaml", ORDERS);
        directory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn write_secret(&self, name: &str, content: &str, mode: u32) {
        self.write(name, content);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn certificate(&self, name: &str, hosts: &[&str]) {
        let key = rcgen::KeyPair::generate().unwrap();
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let parameters = rcgen::CertificateParams::new(hosts).unwrap();
        self.write(
            &format!("tls/{name}.pem"),
            &parameters.self_signed(&key).unwrap().pem(),
        );
        self.write_secret(&format!("tls/{name}.key"), &key.serialize_pem(), 0o600);
    }

    fn load(&self) -> Result<Config, Diagnostics> {
        load(&self.path("portcullis.yaml"))
    }

    fn load_with(&self, more: &str) -> Result<Config, Diagnostics> {
        self.write("portcullis.yaml", &format!("{SMALLEST}{more}\n"));
        self.load()
    }
}

const SMALLEST: &str = r#"
listeners: [{ name: public, address: "127.0.0.1:0" }]
issuers: [{ name: acme, issuer: "https://login.acme.example/", audiences: [api], keys: { discovery: true } }]
upstreams: [{ name: orders, addresses: ["127.0.0.1:9000", "[::1]:9000", "localhost:9000"] }]
policy: { files: ["policy/*.yaml"] }
"#;

const ORDERS: &str = r#"
owner: orders-team
scopes: { "orders:read": Read orders }
routes:
  - name: orders-read
    match: { host: API.acme.example, path: "/orders/{id}", methods: [GET] }
    upstream: orders
    require: { scopes: ["orders:read"], issuers: [acme] }
"#;

#[test]
fn a_small_configuration_has_the_documented_defaults() {
    let config = Directory::new().load().unwrap();
    assert_eq!(config.realm, "portcullis");
    assert_eq!(config.token_cache_entries, 20_000);
    assert_eq!(
        (config.shutdown.grace, config.shutdown.drain),
        (Duration::ZERO, Duration::from_secs(30))
    );
    assert_eq!(config.limits.target_bytes, 8 * 1024);
    assert_eq!(
        (config.limits.header_bytes, config.limits.headers),
        (32 * 1024, 100)
    );
    assert_eq!(
        (config.limits.token_bytes, config.limits.connections),
        (16 * 1024, 10_000)
    );
    assert_eq!(
        (
            config.limits.http2_streams,
            config.limits.requests_per_connection
        ),
        (100, 10_000)
    );
    let seconds = [
        (config.limits.handshake_timeout, 10),
        (config.limits.header_timeout, 10),
        (config.limits.idle_timeout, 60),
        (config.limits.body_timeout, 30),
        (config.upstreams[0].connect_timeout, 5),
        (config.upstreams[0].tls_timeout, 5),
        (config.upstreams[0].response_timeout, 60),
        (config.upstreams[0].idle_timeout, 50),
        (config.issuers[0].policy.leeway, 30),
        (config.issuers[0].refresh_interval, 300),
        (config.issuers[0].max_stale, 24 * 3600),
    ];
    for (position, (found, expected)) in seconds.into_iter().enumerate() {
        assert_eq!(found, Duration::from_secs(expected), "{position}");
    }
    assert_eq!(
        (config.upstreams[0].retries, config.upstreams[0].http2),
        (1, false)
    );
    assert!(matches!(
        config.access_log.unwrap().subject,
        SubjectDisclosure::Pseudonym(None)
    ));
    assert!(
        config.admin.is_none() && config.trusted_proxies.is_empty() && config.warnings.is_empty()
    );
    let algorithms: Vec<_> = config.issuers[0]
        .policy
        .algorithms
        .iter()
        .map(|it| it.as_str())
        .collect();
    assert_eq!(algorithms, ["RS256", "ES256", "EdDSA"]);
}

#[test]
fn names_become_the_things_they_name() {
    let config = Directory::new().load().unwrap();
    let route = &config.routes[0];
    assert_eq!((route.upstream, route.file), (0, 0));
    assert_eq!(
        route.policy.host.as_ref().unwrap().as_str(),
        "api.acme.example"
    );
    assert_eq!(
        (&*route.policy.owner, config.policy_files[0].owner.as_str()),
        ("orders-team", "orders-team")
    );
    let hosts: Vec<_> = config.upstreams[0]
        .addresses
        .iter()
        .map(|it| it.host.as_str())
        .collect();
    assert_eq!(hosts, ["127.0.0.1", "::1", "localhost"]);
    let KeySource::Discovery {
        metadata_urls,
        allow_http: false,
    } = &config.issuers[0].keys
    else {
        unreachable!("{:?}", config.issuers[0].keys)
    };
    assert_eq!(
        metadata_urls[0],
        "https://login.acme.example/.well-known/openid-configuration"
    );
}

#[test]
fn certificates_and_keys_are_read_and_watched() {
    let directory = Directory::new();
    directory.certificate("edge", &["api.acme.example", "*.shop.example"]);
    directory.certificate("gateway", &["gateway"]);
    directory.write("keys.json", r#"{ "keys": [] }"#);
    directory.write("portcullis.yaml", &format!(
        "{}\n{}",
        r#"
listeners:
  - name: public
    address: 0.0.0.0:8443
    tls:
      certificates: [{ certificate: tls/edge.pem, private_key: tls/edge.key }]
      client_certificates: { mode: optional, trust: tls/gateway.pem }
      minimum_version: "1.3"
upstreams:
  - name: orders
    addresses: [orders.internal:8443]
    tls: { server_name: orders.internal, trust: tls/edge.pem, certificate: tls/gateway.pem, private_key: tls/gateway.key }
policy: { files: ["policy/*.yaml", policy/orders.yaml] }
"#,
        "issuers: [{ name: acme, issuer: \"https://login.acme.example\", audiences: [api], keys: { discovery: true } }]",
    ));
    let config = directory.load().unwrap();
    let tls = config.listeners[0].tls.as_ref().unwrap();
    assert!(tls.tls13_only);
    assert_eq!(
        tls.certificates[0].names,
        ["api.acme.example", "*.shop.example"]
    );
    assert!(
        matches!(&tls.certificates[0].client_certificates, ClientCertificates::Optional(trust) if trust.len() == 1)
    );
    let identity = config.upstreams[0]
        .tls
        .as_ref()
        .unwrap()
        .identity
        .as_ref()
        .unwrap();
    assert_eq!(identity.chain.len(), 1);
    assert!(!identity.private_key.expose().is_empty());
    let root = directory.0.path();
    let watched: Vec<_> = config
        .watched_files
        .iter()
        .map(|file| file.strip_prefix(root).unwrap().to_str().unwrap())
        .collect();
    let expected = [
        "policy/orders.yaml",
        "portcullis.yaml",
        "tls/edge.key",
        "tls/edge.pem",
        "tls/gateway.key",
        "tls/gateway.pem",
    ];
    assert_eq!(watched, expected);
    assert!(
        config
            .watched_patterns
            .iter()
            .all(|pattern| Path::new(pattern).is_absolute())
    );
    assert_eq!(config.policy_files.len(), 1, "two patterns match one file");
}

#[test]
fn a_secret_comes_from_a_file_and_is_never_printed() {
    const SECRET: &str = "correct horse battery staple";
    let directory = Directory::new();
    directory.write_secret("pseudonym.key", &format!("{SECRET}\n"), 0o640);
    let config = directory
        .load_with("access_log: { pseudonym_key: { file: pseudonym.key } }")
        .unwrap();
    assert!(!format!("{config:?}").contains("horse"));
    assert!(
        config
            .watched_files
            .contains(&directory.path("pseudonym.key"))
    );
    let Some(SubjectDisclosure::Pseudonym(Some(secret))) = config.access_log.map(|log| log.subject)
    else {
        unreachable!("there is a key")
    };
    assert_eq!(secret.expose(), SECRET.as_bytes());
}

#[test]
fn a_secret_that_cannot_be_used_is_refused_without_showing_it() {
    const SECRET: &str = "hunter2";
    let directory = Directory::new();
    directory.write_secret("world.key", "hunter2hunter2hunter2", 0o604);
    directory.write_secret("short.key", SECRET, 0o600);
    directory.write_secret("empty.key", "\n", 0o600);
    directory.write_secret("large.key", &SECRET.repeat(20_000), 0o600);
    for (source, code) in [
        ("{ file: world.key }", "world_readable_file"),
        ("{ file: short.key }", "out_of_range"),
        ("{ file: empty.key }", "secret_unavailable"),
        ("{ file: large.key }", "unreadable_file"),
        ("{ file: policy }", "unreadable_file"),
        ("{ file: /dev/zero }", "unreadable_file"),
        ("{ env: hunter2 }", "secret_unavailable"),
        ("{ env: HUNTER=2 }", "secret_unavailable"),
        ("{ env: A, file: b }", "secret_written"),
        ("{}", "secret_written"),
    ] {
        let error = directory
            .load_with(&format!("access_log: {{ pseudonym_key: {source} }}"))
            .unwrap_err();
        let codes: Vec<_> = error.iter().map(|it| it.code).collect();
        assert_eq!(codes, [code], "{source}");
        assert!(
            !format!("{error} {error:?}").contains(SECRET),
            "{source}: {error}"
        );
    }
}

#[test]
fn a_file_that_is_too_large_is_refused_before_it_is_parsed() {
    let directory = Directory::new();
    directory.write("policy/orders.yaml", &"#".repeat(10 * 1024 * 1024));
    let error = directory.load().unwrap_err();
    assert_eq!(
        error.iter().map(|it| it.code).collect::<Vec<_>>(),
        ["unreadable_file"]
    );
    directory.write("portcullis.yaml", &"#".repeat(10 * 1024 * 1024));
    assert!(directory.load().is_err());
}

#[test]
fn text_that_is_not_utf8_is_refused_with_its_line() {
    let directory = Directory::new();
    fs::write(
        directory.path("policy/orders.yaml"),
        b"owner: a\nroutes: \xff\n",
    )
    .unwrap();
    let error = directory.load().unwrap_err();
    assert_eq!(
        error
            .iter()
            .map(|it| (it.code, it.line))
            .collect::<Vec<_>>(),
        [("syntax", 2)]
    );
}

#[test]
fn a_directory_may_be_called_like_a_pattern() {
    let directory = Directory::new();
    for (name, content) in [
        ("[a]*/portcullis.yaml", SMALLEST),
        ("[a]*/policy/orders.yaml", ORDERS),
    ] {
        directory.write(name, content);
    }
    directory.write("a-other/policy/more.yaml", "not: a policy");
    assert!(load(&directory.path("[a]*/portcullis.yaml")).is_ok());
}

#[test]
fn a_refusal_names_what_to_watch_for_the_next_attempt() {
    let directory = Directory::new();
    let error = directory
        .load_with("access_log: { pseudonym_key: { file: not-there-yet.key } }")
        .unwrap_err();
    for file in ["portcullis.yaml", "policy/orders.yaml", "not-there-yet.key"] {
        assert!(
            error.watched_files().contains(&directory.path(file)),
            "{file}"
        );
    }
    assert_eq!(error.watched_patterns().len(), 1);
    directory.write("portcullis.yaml", "listeners: [");
    assert_eq!(
        directory.load().unwrap_err().watched_files(),
        [directory.path("portcullis.yaml")]
    );
}

#[test]
fn a_team_checks_its_own_file_with_a_catalog() {
    let directory = Directory::new();
    let catalog = Catalog::from_config(&directory.load().unwrap());
    directory.write("catalog.yaml", &catalog.to_yaml().unwrap());
    let catalog = {
        let loaded = Catalog::load(&directory.path("catalog.yaml")).unwrap();
        assert_eq!(loaded, catalog);
        loaded
    };
    let check = |text: &str| {
        directory.write("own.yaml", text);
        let diagnostics = check_policy(&directory.path("own.yaml"), &catalog);
        diagnostics.iter().map(|it| it.code).collect::<Vec<_>>()
    };
    assert_eq!(
        check(ORDERS),
        [""; 0],
        "what the catalog has of a team is no clash with the team"
    );
    let invoices = ORDERS.replace("orders-team", "invoices-team");
    assert_eq!(
        check(&invoices),
        ["scope_defined_twice", "duplicate_name", "overlapping_route"]
    );
    let own =
        |route: &str| format!("owner: invoices-team\nroutes: [{{ name: invoices, {route} }}]\n");
    let good =
        "match: { path: /invoices }, upstream: orders, require: { scopes: [\"orders:read\"] }";
    assert_eq!(
        check(&own(good)),
        [""; 0],
        "other teams' scopes may be used"
    );
    assert_eq!(
        check(&own(&good.replace("upstream: orders", "upstream: invoices"))),
        ["unknown_name"]
    );
    assert_eq!(
        check(&own(&good.replace("orders:read", "orders:write"))),
        ["unregistered_scope"]
    );
    assert_eq!(check("owner: ["), ["syntax"]);
}

#[test]
fn a_catalog_with_something_else_in_it_is_refused() {
    let directory = Directory::new();
    let good = Catalog::from_config(&directory.load().unwrap())
        .to_yaml()
        .unwrap();
    for (from, to) in [
        ("/orders/{id}", "orders"),
        ("- GET", "- get"),
        ("upstreams:", "upstream:"),
        ("orders:read", "orders read"),
    ] {
        assert!(good.contains(from), "{from} in {good}");
        directory.write("catalog.yaml", &good.replace(from, to));
        assert!(
            Catalog::load(&directory.path("catalog.yaml")).is_err(),
            "{from}"
        );
    }
}

#[test]
fn the_example_of_the_specification_loads() {
    let directory = Directory::new();
    for name in ["edge", "clients-ca", "internal-ca", "gateway"] {
        directory.certificate(name, &[name]);
    }
    directory.write("portcullis.yaml", r#"
listeners:
  - name: public
    address: 0.0.0.0:8443
    tls:
      certificates:
        - { certificate: tls/edge.pem, private_key: tls/edge.key }
      client_certificates: { mode: optional, trust: tls/clients-ca.pem }
admin: { address: 127.0.0.1:9901 }
issuers:
  - name: acme
    issuer: https://login.acme.example
    audiences: [https://api.acme.example]
    keys: { discovery: true }
    algorithms: [RS256, ES256]
upstreams:
  - name: orders
    addresses: [orders.internal:8443]
    tls: { server_name: orders.internal, trust: tls/internal-ca.pem, certificate: tls/gateway.pem, private_key: tls/gateway.key }
identity_headers:
  x-user-id: sub
  x-scopes: scope
  x-client-id: client_id
policy: { files: ["policy/*.yaml"] }
"#);
    directory.write(
        "policy/orders.yaml",
        r#"
owner: orders-team
scopes:
  "orders:read": Read a customer's orders
  "orders:write": Place and change orders
routes:
  - name: orders-read
    match: { host: api.acme.example, path: "/orders/{id}", methods: [GET] }
    upstream: orders
    require: { scopes: ["orders:read"] }
  - name: orders-health
    match: { path: /orders/health, methods: [GET] }
    upstream: orders
    public: true
"#,
    );
    let config = directory.load().unwrap();
    let warnings: Vec<_> = config.warnings.iter().map(|it| it.code).collect();
    assert_eq!(warnings, ["unused_scope", "shadowed_route"]);
}

use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::{any, prop, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};

use super::{Read, read};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::document::{GatewayDocument, PolicyDocument, RequiredScopes};

fn gateway(text: &str) -> (Option<Read<GatewayDocument>>, Vec<Diagnostic>) {
    read(Path::new("portcullis.yaml"), text.into())
}

fn policy(text: &str) -> (Option<Read<PolicyDocument>>, Vec<Diagnostic>) {
    read(Path::new("policy.yaml"), text.into())
}

fn codes(diagnostics: &[Diagnostic]) -> Vec<&'static str> {
    diagnostics
        .iter()
        .map(|diagnostic| diagnostic.code)
        .collect()
}

const GATEWAY: &str = "listeners: []\npolicy: { files: [] }\n";

/// Every setting at once, each with a value that its doc comment names.
const EVERYTHING: &str = r#"
listeners:
  - name: public
    address: "[::]:8443"
    tls:
      certificates:
        - { certificate: tls/edge.pem, private_key: tls/edge.key, client_certificates: { mode: off } }
      client_certificates: { mode: optional, trust: tls/clients-ca.pem }
      minimum_version: 1.2
    dangerously_plaintext: false
admin: { address: 127.0.0.1:9901, dangerously_plaintext: true }
issuers:
  - name: acme
    issuer: https://login.acme.example
    audiences: [https://api.acme.example]
    keys: { discovery: true }
    algorithms: [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA]
    token_profile: rfc9068
    scope_claim: scp
    leeway: 30s
    refresh_interval: 5m
    max_stale: 24h
    trust: tls/issuer-ca.pem
    dangerously_allow_http: false
upstreams:
  - name: orders
    addresses: [orders.internal:8443]
    tls: { server_name: 127.0.0.1, trust: a.pem, certificate: b.pem, private_key: b.key }
    protocol: http2
    timeouts: { connect: 250ms, tls: 5s, response: 60s, idle: 50s }
    retries: 1
    dangerously_plaintext: false
identity_headers: { x-user-id: sub, x-scopes: scope, x-client-id: client_id }
policy: { files: ["policy/*.yaml"] }
realm: portcullis
trusted_proxies: [10.0.0.0/8]
access_log: { enabled: true, file: access.log, subject: pseudonym, pseudonym_key: { env: PSEUDONYM_KEY } }
limits:
  connections: 10000
  handshake_timeout: 10s
  header_timeout: 10s
  idle_timeout: 60s
  body_timeout: 30s
  target_bytes: 8KiB
  headers: 100
  header_bytes: 32KiB
  token_bytes: 512B
  http2_streams: 100
  requests_per_connection: 10000
  connection_age: 1h
  failed_verifications_per_second: 500
  websocket_idle_timeout: 10m
  websocket_age: 24h
  connections_per_address: 1000
  body_bytes: 64MiB
  body_bytes_per_second: 256
overload:
  memory: 2GiB
  refuse_at_memory_percent: 85
  close_at_memory_percent: 95
  refuse_at_connections_percent: 95
token_cache: { entries: 20000 }
shutdown: { grace: 0s, drain: 30s }
"#;

#[test]
fn every_key_is_read_with_the_values_that_its_documentation_names() {
    let (read, diagnostics) = gateway(EVERYTHING);
    assert_eq!(diagnostics, []);
    let document = read.unwrap().document.unwrap();
    assert_eq!(
        document.upstreams[0]
            .timeouts
            .as_ref()
            .unwrap()
            .connect
            .unwrap()
            .0,
        Duration::from_millis(250)
    );
    assert_eq!(document.limits.unwrap().token_bytes.unwrap().0, 512);
    assert_eq!(
        document.identity_headers.unwrap().0.get("x-scopes"),
        Some(&"scope".to_owned())
    );
}

#[test]
fn the_example_of_everything_has_every_key_of_the_schema() {
    fn keys(root: &serde_json::Value, schema: &serde_json::Value, found: &mut Vec<String>) {
        let schema = crate::schema::follow(root, schema);
        for (key, property) in schema
            .get("properties")
            .and_then(serde_json::Value::as_object)
            .into_iter()
            .flatten()
        {
            found.push(key.clone());
            keys(root, property, found);
        }
        if let Some(items) = schema.get("items") {
            keys(root, items, found);
        }
    }
    let schema = crate::schema::gateway_schema();
    let mut found = Vec::new();
    keys(&schema, &schema, &mut found);
    // Alternatives of a key that is there.
    for key in found
        .iter()
        .filter(|key| !matches!(key.as_str(), "url" | "file" | "env"))
    {
        assert!(EVERYTHING.contains(&format!("{key}:")), "{key}");
    }
}

#[test]
fn every_choice_and_unit_is_read() {
    for (key, values) in [
        (
            "access_log: { subject: VALUE }",
            &["omitted", "pseudonym", "plain"][..],
        ),
        (
            "shutdown: { grace: VALUE }",
            &["250ms", "30s", "5m", "24h", "0s"],
        ),
        ("limits: { token_bytes: VALUE }", &["512B", "64KiB", "1MiB"]),
        (
            "upstreams: [{ name: a, addresses: [], protocol: VALUE }]",
            &["http1", "http2"],
        ),
    ] {
        for value in values {
            let (_, diagnostics) = gateway(&format!("{GATEWAY}{}\n", key.replace("VALUE", value)));
            assert_eq!(diagnostics, [], "{key} {value}");
        }
    }
}

#[test]
fn scopes_are_a_list_or_a_choice() {
    let route = |scopes: &str| {
        let (read, diagnostics) = policy(&format!(
            "owner: a\nroutes: [{{ name: a, match: {{ path: / }}, upstream: a, require: {{ scopes: {scopes} }} }}]\n"
        ));
        assert_eq!(diagnostics, [], "{scopes}");
        read.unwrap().document.unwrap().routes[0]
            .require
            .clone()
            .unwrap()
            .scopes
            .unwrap()
    };
    assert_eq!(
        route("[a, b]"),
        RequiredScopes::All(vec!["a".to_owned(), "b".to_owned()])
    );
    assert_eq!(
        route("{ any: [a, b] }"),
        RequiredScopes::Any(vec!["a".to_owned(), "b".to_owned()])
    );
}

#[test]
fn all_structural_problems_are_told_at_once_and_none_of_their_consequences() {
    let (read, diagnostics) = policy(
        "ownr: a\nowner: [a]\nroutes:\n  - { name: a }\n  - { name: 7, match: { path: / }, upstream: a, public: yes }\n  - { name: c, match: { path: /c }, upstream: a, public: true }\n",
    );
    let mut found: Vec<_> = diagnostics.iter().map(|it| (it.code, it.line)).collect();
    found.sort_unstable();
    let expected = [
        ("missing_key", 4),
        ("missing_key", 4),
        ("unknown_key", 1),
        ("wrong_type", 2),
        ("wrong_type", 5),
        ("wrong_type", 5),
    ];
    assert_eq!(found, expected);
    assert!(
        read.unwrap().document.is_none(),
        "without an owner there is no document"
    );
}

#[test]
fn what_is_right_is_read_beside_what_is_wrong() {
    let (read, diagnostics) = policy(
        "owner: a\nroutes:\n  - { name: a }\n  - { name: b, match: { path: /b }, upstream: a, public: true }\n",
    );
    assert_eq!(codes(&diagnostics), ["missing_key", "missing_key"]);
    let read = read.unwrap();
    let document = read.document.as_ref().unwrap();
    let places: Vec<_> = read
        .elements(&crate::node::node_path!["routes"], &document.routes)
        .collect();
    assert_eq!(places.len(), 1);
    assert_eq!(
        (places[0].0.to_string().as_str(), places[0].1.name.as_str()),
        ("routes[1]", "b")
    );
}

#[test]
fn a_file_full_of_problems_is_told_in_part() {
    let text: String = (0..150).map(|number| format!("key{number}: 1\n")).collect();
    let (_, diagnostics) = policy(&text);
    assert_eq!(
        codes(&diagnostics)
            .iter()
            .filter(|code| **code == "more_problems")
            .count(),
        1
    );
    assert_eq!(diagnostics.len(), 101);
}

#[test]
fn a_secret_that_was_written_down_is_never_told() {
    const SECRET: &str = "hunter2";
    let cases = [
        "access_log: { pseudonym_key: hunter2 }",
        "access_log: { pseudonym_key: [hunter2] }",
        "access_log: { pseudonym_key: { hunter2 } }",
        "access_log: { pseudonym_key: { hunter2: hunter2 } }",
        "access_log: { pseudonym_key: { value: hunter2 } }",
        "access_log: { pseudonym_key: { env: [hunter2] } }",
        "access_log: { pseudonym_key: { env: A, file: { hunter2: 1 } } }",
        "access_log:\n  pseudonym_key:\n    value: hunter2",
        "access_log: { pseudonym_key: hunter2, subject: nobody }",
        "access_log: { pseudonym_key: hunter2, pseudonym_key: hunter2 }",
        "client_secret: hunter2",
        "client_secret: |\n  hunter2\n  hunter2",
        "access_log: { client_secret: hunter2, enabled: perhaps }",
        "client_secret: \"hunter2",
        "client_secret: &a hunter2",
        "realm: x\nrealm: hunter2",
    ];
    for case in cases {
        let (_, diagnostics) = gateway(&format!("{GATEWAY}{case}\n"));
        assert!(!diagnostics.is_empty(), "{case}");
        let diagnostics = Diagnostics::from(diagnostics);
        for text in [
            diagnostics.to_string(),
            diagnostics.to_json().to_string(),
            format!("{diagnostics:?}"),
        ] {
            assert!(!text.contains(SECRET), "{case}\n{text}");
        }
    }
}

#[test]
fn what_would_cost_much_is_refused_soon() {
    let alias_bomb = |levels: u32| {
        let mut text = "a0: &a0 [x]\n".to_owned();
        for level in 1..levels {
            let before = level - 1;
            text.push_str(&format!(
                "a{level}: &a{level} [{}]\n",
                vec![format!("*a{before}"); 10].join(", ")
            ));
        }
        text
    };
    let cases = [
        ("brackets", "[".repeat(1024 * 1024)),
        ("braces", "{a: ".repeat(250_000)),
        ("dashes", "- ".repeat(500_000)),
        (
            "indentation",
            (0..1000)
                .map(|depth| format!("{}a:\n", " ".repeat(depth)))
                .collect(),
        ),
        ("aliases", alias_bomb(30)),
        ("a loop", "a: &a [*a]\n".to_owned()),
        (
            "keys",
            (0..100_000).map(|key| format!("k{key}: 1\n")).collect(),
        ),
        ("documents", "---\na: 1\n".repeat(100_000)),
        ("quotes", "\"".repeat(1024 * 1024)),
        ("question marks", "? ".repeat(500_000)),
        ("comments", "#\n".repeat(500_000)),
    ];
    for (name, text) in cases {
        let begin = Instant::now();
        let (_, diagnostics) = policy(&text);
        assert!(!diagnostics.is_empty(), "{name}");
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{name} took {:?}",
            begin.elapsed()
        );
    }
}

#[test]
fn what_yaml_reads_otherwise_than_people_is_told() {
    for (text, help) in [
        ("realm: 1.20", "put it in quotes: `\"1.20\"`"),
        ("realm: true", "put it in quotes: `\"true\"`"),
        ("realm: 0x10", "put it in quotes: `\"0x10\"`"),
        ("realm:", "give it one, or leave the key out"),
        ("trusted_proxies: 10.0.0.1", "write `[10.0.0.1]`"),
        (
            "identity_headers: { x-user-id: 1 }",
            "put it in quotes: `\"1\"`",
        ),
    ] {
        let (_, diagnostics) = gateway(&format!("{GATEWAY}{text}\n"));
        assert_eq!(diagnostics.len(), 1, "{text}: {diagnostics:?}");
        assert_eq!(diagnostics[0].help.as_deref(), Some(help), "{text}");
    }
}

/// Fragments of a policy file, so that most of the text is nearly right.
fn fragments() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        Just("owner: a\n".to_owned()),
        Just("scopes:\n  \"a:b\": text\n".to_owned()),
        Just("routes:\n".to_owned()),
        Just("  - name: a\n".to_owned()),
        Just("    match: { path: \"/{id}\", methods: [GET] }\n".to_owned()),
        Just("    require: { scopes: { any: [\"a:b\"] } }\n".to_owned()),
        Just("    upstream: orders\n".to_owned()),
        Just("    public: true\n".to_owned()),
        "[-{}\\[\\]:,&*!|>?\"'#%@ \n\t~<a-c0-9/.]{0,12}",
        any::<String>(),
    ];
    prop::collection::vec(fragment, 0..12).prop_map(|fragments| fragments.concat())
}

proptest! {
    #[test]
    fn no_text_panics_and_every_refusal_has_a_place(text in fragments()) {
        let source = crate::resolve::policies::PolicySource::parse(Path::new("p.yaml"), text.as_str().into());
        let surroundings = crate::resolve::policies::Surroundings::default();
        let (_, diagnostics) = crate::resolve::policies::policies(&surroundings, &[(0, &source)]);
        for diagnostic in &diagnostics {
            assert!(diagnostic.line >= 1 && diagnostic.column >= 1);
        }
        let _ = Diagnostics::from(diagnostics).to_string();
    }

    #[test]
    fn no_text_panics_as_a_gateway_document(text in fragments()) {
        let _ = gateway(&text);
    }
}

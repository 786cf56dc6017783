//! The command line.

use std::fs;

use portcullis_e2e::{
    CommandOutput, Gateway, GatewayYaml, Issuer, ORDERS_POLICY, SigningKey, portcullis,
};
use serde_json::Value;
use tempfile::TempDir;

/// A directory with these files, readable by their owner alone.
fn directory(files: &[(&str, &str)]) -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    for (path, content) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    directory
}

async fn run(files: &[(&str, &str)], arguments: &[&str], stdin: &str) -> CommandOutput {
    portcullis(directory(files).path(), arguments, stdin).await
}

/// A good configuration whose issuer has its keys in a file.
fn offline(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let yaml = GatewayYaml::new()
        .issuer_with_keys("acme", issuer.issuer(), "file: keys.json")
        .upstream("orders", "127.0.0.1:9".parse().unwrap());
    vec![
        ("portcullis.yaml", yaml.render()),
        ("policy/orders.yaml", ORDERS_POLICY.to_owned()),
        ("keys.json", String::from_utf8(issuer.key_set()).unwrap()),
    ]
}

/// To some services, `/files/a/` is of the second route.
const FILES_POLICY: &str = r#"
owner: files-team
routes:
  - name: one-file
    match: { path: "/files/{file}" }
    upstream: orders
    public: true
  - name: parts-of-files
    match: { path: "/files/{file}/{*part}" }
    upstream: orders
    require: { authenticated_only: true }
  - name: chat
    match: { path: "/chat" }
    upstream: orders
    public: true
    websocket: true
"#;

fn borrowed<'a>(files: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    files
        .iter()
        .map(|(path, content)| (*path, content.as_str()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_accepts_a_good_configuration() {
    let issuer = Issuer::start_down(SigningKey::p256("only")).await;
    let files = offline(&issuer);
    let output = run(
        &borrowed(&files),
        &["check", "--config", "portcullis.yaml"],
        "",
    )
    .await;
    assert_eq!(output.status, Some(0), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_shows_every_problem_at_once_with_its_place() {
    let gateway = r#"
listeners:
  - { name: public, address: "127.0.0.1:0" }
upstreams:
  - { name: orders, addresses: ["127.0.0.1:9"] }
policy: { files: ["policy/*.yaml"] }
realmm: x
"#;
    let policy = r#"
owner: orders-team
routes:
  - name: a
    match: { path: /a }
    upstream: order
    public: true
  - name: b
    match: { path: /b }
    upstream: orders
  - name: c
    match: { path: /c }
    upstream: orders
    require: { scopes: ["orders:reed"] }
"#;
    let files = [("portcullis.yaml", gateway), ("policy/orders.yaml", policy)];
    let output = run(&files, &["check", "--config", "portcullis.yaml"], "").await;
    assert_eq!(output.status, Some(1), "{output:?}");
    let text = format!("{}{}", output.stdout, output.stderr);
    for expected in ["portcullis.yaml:7:1", "realmm", "realm`"] {
        assert!(text.contains(expected), "no `{expected}` in\n{text}");
    }
    let gateway = gateway.replace("realmm: x\n", "");
    let files = [
        ("portcullis.yaml", gateway.as_str()),
        ("policy/orders.yaml", policy),
    ];
    let output = run(&files, &["check", "--config", "portcullis.yaml"], "").await;
    assert_eq!(output.status, Some(1), "{output:?}");
    let text = format!("{}{}", output.stdout, output.stderr);
    for expected in [
        "orders.yaml:6:15",
        "`order`",
        "did you mean `orders`",
        "orders.yaml:8",
        "`b`",
        "orders:reed",
    ] {
        assert!(text.contains(expected), "no `{expected}` in\n{text}");
    }

    let json = run(
        &files,
        &["check", "--config", "portcullis.yaml", "--format", "json"],
        "",
    )
    .await;
    assert_eq!(json.status, Some(1));
    let document: Value = serde_json::from_str(&json.stdout)
        .unwrap_or_else(|error| panic!("not JSON ({error}): {}", json.stdout));
    let text = document.to_string();
    for expected in ["orders.yaml", "\"line\":6", "\"column\":15", "order"] {
        assert!(text.contains(expected), "no `{expected}` in\n{document:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn team_checks_its_own_file_with_the_platforms_catalog() {
    let issuer = Issuer::start_down(SigningKey::p256("only")).await;
    let files = offline(&issuer);
    let catalog = run(
        &borrowed(&files),
        &["catalog", "--config", "portcullis.yaml"],
        "",
    )
    .await;
    assert_eq!(catalog.status, Some(0), "{catalog:?}");
    let arguments = ["check", "--catalog", "catalog", "orders.yaml"];
    let good = [
        ("catalog", catalog.stdout.as_str()),
        ("orders.yaml", ORDERS_POLICY),
    ];
    let output = run(&good, &arguments, "").await;
    assert_eq!(output.status, Some(0), "{output:?}");
    let misspelt = ORDERS_POLICY.replace("upstream: orders", "upstream: order");
    let bad = [
        ("catalog", catalog.stdout.as_str()),
        ("orders.yaml", misspelt.as_str()),
    ];
    let output = run(&bad, &arguments, "").await;
    assert_eq!(output.status, Some(1), "{output:?}");
    assert!(
        output.stderr.contains("did you mean `orders`"),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn run_refuses_what_check_refuses() {
    let refused = Gateway::builder()
        .file(
            "portcullis.yaml",
            "listeners: []\npolicy: { files: [nothing.yaml] }\n",
        )
        .try_start()
        .await
        .unwrap_err();
    assert_eq!(refused.status, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("portcullis.yaml"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_everybody_may_read_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let issuer = Issuer::start_down(SigningKey::p256("only")).await;
    let mut files = offline(&issuer);
    files[0]
        .1
        .push_str("access_log: { pseudonym_key: { file: pseudonym.key } }\n");
    files.push(("pseudonym.key", "canary-secret-0123456789abcdef".to_owned()));
    let directory = directory(&borrowed(&files));
    let arguments = ["check", "--config", "portcullis.yaml"];
    let output = portcullis(directory.path(), &arguments, "").await;
    assert_eq!(output.status, Some(0), "{output:?}");
    let key = directory.path().join("pseudonym.key");
    fs::set_permissions(key, fs::Permissions::from_mode(0o644)).unwrap();
    let output = portcullis(directory.path(), &arguments, "").await;
    assert_eq!(output.status, Some(1), "{output:?}");
    let text = format!("{}{}", output.stdout, output.stderr);
    assert!(text.contains("pseudonym.key"), "{text}");
    assert!(!text.contains("canary"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_prints_a_json_schema_for_each_kind_of_file() {
    for kind in ["gateway", "policy"] {
        let output = run(&[], &["schema", kind], "").await;
        assert_eq!(output.status, Some(0), "{output:?}");
        let schema: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(schema["additionalProperties"], false, "{kind}");
        assert!(schema["properties"].is_object(), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_what_would_happen_to_a_request() {
    let issuer = Issuer::start_with(SigningKey::p256("only")).await;
    let files = offline(&issuer);
    let token = issuer.token().scope("orders:read").sign();
    let mut with_token = files.clone();
    with_token.push(("token.txt", format!("{token}\n")));
    with_token.push(("policy/files.yaml", FILES_POLICY.to_owned()));
    let explain = |rest: &'static [&'static str], stdin: String| {
        let files = with_token.clone();
        async move {
            let mut arguments = vec!["explain", "--config", "portcullis.yaml"];
            arguments.extend(rest);
            run(&borrowed(&files), &arguments, &stdin).await
        }
    };
    let admitted = explain(
        &[
            "--token-file",
            "token.txt",
            "GET",
            "https://api.acme.example/orders/7",
        ],
        String::new(),
    )
    .await;
    assert_eq!(admitted.status, Some(0), "{admitted:?}");
    for expected in ["orders-read", "orders:read", "alice", "x-user-id"] {
        assert!(
            admitted.stdout.contains(expected),
            "no `{expected}` in\n{}",
            admitted.stdout
        );
    }
    assert!(!admitted.stdout.contains(&token));

    let from_stdin = explain(
        &[
            "--token-file",
            "-",
            "GET",
            "https://api.acme.example/orders/7",
        ],
        token.clone(),
    )
    .await;
    assert_eq!(from_stdin.stdout, admitted.stdout);

    let refused = explain(
        &[
            "--token-file",
            "-",
            "--format",
            "json",
            "GET",
            "https://api.acme.example/admin/x",
        ],
        token.clone(),
    )
    .await;
    let document: Value = serde_json::from_str(&refused.stdout)
        .unwrap_or_else(|error| panic!("not JSON ({error}): {refused:?}"));
    assert!(
        document.to_string().contains("scope_insufficient"),
        "{document:#}"
    );

    let anonymous = explain(&["GET", "https://api.acme.example/orders/7"], String::new()).await;
    assert!(
        anonymous.stdout.contains("credential_missing"),
        "{anonymous:?}"
    );
    let nowhere = explain(&["GET", "https://api.acme.example/nowhere"], String::new()).await;
    assert!(nowhere.stdout.contains("route_not_found"), "{nowhere:?}");
    let opened = explain(&["GET", "wss://api.acme.example/chat"], String::new()).await;
    assert_eq!(opened.status, Some(0), "{opened:?}");
    for not_here in [
        &["GET", "wss://api.acme.example/files/a"],
        &["GET", "WS://api.acme.example/files/a"],
    ] {
        let not_here = explain(not_here, String::new()).await;
        assert!(
            not_here.stdout.contains("403 websocket_not_allowed"),
            "{not_here:?}"
        );
    }
    let contested = explain(&["GET", "https://api.acme.example/files/a/"], String::new()).await;
    for expected in ["path_ambiguous", "one-file", "parts-of-files"] {
        assert!(contested.stdout.contains(expected), "{}", contested.stdout);
    }
    let contested = explain(
        &[
            "--format",
            "json",
            "GET",
            "https://api.acme.example/files/a/",
        ],
        String::new(),
    )
    .await;
    let document: Value = serde_json::from_str(&contested.stdout).unwrap();
    assert_eq!(document["contested"][0]["name"], "one-file");
    assert_eq!(document["contested"][1]["name"], "parts-of-files");
    assert_eq!(issuer.key_set_fetches(), 0, "offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_keeps_all_its_promises() {
    let output = run(&[], &["demo", "--once"], "").await;
    assert_eq!(output.status, Some(0), "{output:?}");
    for expected in ["401", "403", "200", "x-user-id"] {
        assert!(
            output.stdout.to_lowercase().contains(expected),
            "no `{expected}` in\n{}",
            output.stdout
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn help_and_version_are_printed_and_nonsense_is_refused() {
    let help = run(&[], &["--help"], "").await;
    assert_eq!(help.status, Some(0));
    for command in ["run", "check", "demo", "explain", "schema"] {
        assert!(
            help.stdout.contains(command),
            "no `{command}` in\n{}",
            help.stdout
        );
        let page = run(&[], &[command, "--help"], "").await;
        assert_eq!(page.status, Some(0), "{command}");
    }
    let version = run(&[], &["--version"], "").await;
    assert_eq!(
        version.stdout.trim(),
        concat!("portcullis ", env!("CARGO_PKG_VERSION"))
    );
    let nonsense = run(&[], &["nonsense"], "").await;
    assert_eq!(nonsense.status, Some(2));
    let missing = run(&[], &["check", "--config", "missing.yaml"], "").await;
    assert_ne!(missing.status, Some(0));
    assert!(missing.stderr.contains("missing.yaml") || missing.stdout.contains("missing.yaml"));
}

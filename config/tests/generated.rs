//! Committed files that are made from the types are what the types would make now.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking, and its name is its documentation"
)]

use std::path::{Path, PathBuf};

use portcullis_config::{configuration_markdown, gateway_schema, policy_schema};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares, or writes when `UPDATE_GENERATED` is set.
fn check(file: &str, expected: &str, command: &str) {
    let path = root().join(file);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, expected).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == expected,
        "{file} is out of date; run: {command}"
    );
}

fn pretty(schema: &serde_json::Value) -> String {
    format!("{}\n", serde_json::to_string_pretty(schema).unwrap())
}

#[test]
fn committed_gateway_schema_is_up_to_date() {
    let command = "portcullis schema gateway > config/schema/portcullis.schema.json";
    check(
        "config/schema/portcullis.schema.json",
        &pretty(&gateway_schema()),
        command,
    );
}

#[test]
fn committed_policy_schema_is_up_to_date() {
    let command = "portcullis schema policy > config/schema/policy.schema.json";
    check(
        "config/schema/policy.schema.json",
        &pretty(&policy_schema()),
        command,
    );
}

#[test]
fn configuration_reference_is_up_to_date() {
    let command = "UPDATE_GENERATED=1 cargo test -p portcullis-config --test generated";
    check("docs/configuration.md", &configuration_markdown(), command);
}

/// What a schema accepts is what serde accepts, on the values that operators get wrong most.
#[test]
fn schema_refuses_what_the_loader_refuses_by_shape() {
    let validator = jsonschema::validator_for(&policy_schema()).unwrap();
    let good = serde_json::json!({
        "owner": "orders-team",
        "scopes": { "orders:read": "Read" },
        "routes": [{
            "name": "orders-read",
            "match": { "path": "/orders/{id}", "methods": ["GET"] },
            "upstream": "orders",
            "require": { "scopes": { "any": ["orders:read"] } },
        }],
    });
    assert!(validator.is_valid(&good));
    let changes = [
        ("/routes/0/requires", serde_json::json!({})),
        ("/routes/0/require/scopes", serde_json::json!("orders:read")),
        ("/routes/0/require", serde_json::Value::Null),
        ("/routes/0/public", serde_json::json!("yes")),
        ("/owner", serde_json::json!(7)),
        ("/scopes/orders:read", serde_json::json!([])),
    ];
    for (pointer, value) in changes {
        let mut bad = good.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        bad.pointer_mut(parent).unwrap()[key] = value;
        assert!(!validator.is_valid(&bad), "{pointer}");
    }
}

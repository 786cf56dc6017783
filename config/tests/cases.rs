//! What an operator is told, as golden files.
//!
//! `cases/NAME.portcullis.yaml` takes the place of a good `portcullis.yaml`, `cases/NAME.policy.yaml`
//! of a good policy file, `cases/NAME.second.yaml` is another team's. Where there is a
//! `cases/NAME.next.*.yaml`, the first content is loaded and the next one reloaded.
//! `cases/NAME.snap` is what is printed; `UPDATE_SNAPSHOTS=1` writes it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking, and its name is its documentation"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use portcullis_config::diagnostic::codes;
use portcullis_config::{Diagnostics, load, reload};

const PORTCULLIS: &str = r#"
listeners:
  - { name: public, address: "127.0.0.1:8443" }
issuers:
  - name: acme
    issuer: https://login.acme.example
    audiences: [https://api.acme.example]
    keys: { discovery: true }
upstreams:
  - { name: orders, addresses: ["127.0.0.1:9000"] }
  - { name: invoices, addresses: ["127.0.0.1:9001"] }
policy: { files: ["policy/*.yaml"] }
"#;

const POLICY: &str = r#"
owner: orders-team
scopes:
  "orders:read": Read a customer's orders
routes:
  - name: orders-read
    match: { host: api.acme.example, path: "/orders/{id}", methods: [GET] }
    upstream: orders
    require: { scopes: ["orders:read"] }
"#;

/// Codes without a case, each with the test that has it instead.
const ELSEWHERE: &[(&str, &str)] = &[(
    "more_problems",
    "read::tests::a_file_full_of_problems_is_told_in_part",
)];

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

#[test]
fn every_case_prints_what_its_golden_file_says() {
    let update = std::env::var_os("UPDATE_SNAPSHOTS").is_some();
    let mut changed = Vec::new();
    for name in names() {
        let printed = run(&name);
        let snapshot = cases().join(format!("{name}.snap"));
        let expected = fs::read_to_string(&snapshot).unwrap_or_default();
        if update {
            fs::write(&snapshot, &printed).unwrap();
        } else if printed != expected {
            changed.push(format!(
                "--- {name}: expected\n{expected}\n--- {name}: printed\n{printed}"
            ));
        }
    }
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}

#[test]
fn every_code_has_a_case_of_its_name() {
    for (code, _) in codes::ALL {
        if ELSEWHERE.iter().any(|(elsewhere, _)| elsewhere == code) {
            continue;
        }
        let snapshot = fs::read_to_string(cases().join(format!("{code}.snap"))).unwrap_or_default();
        assert!(
            snapshot.contains(&format!("[{code}]:")),
            "no case prints `{code}`: add tests/cases/{code}.*.yaml"
        );
    }
}

fn names() -> BTreeSet<String> {
    let files = fs::read_dir(cases())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    files
        .filter(|file| file.ends_with(".yaml"))
        .map(|file| file.split('.').next().unwrap().to_owned())
        .collect()
}

fn run(name: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let main = root.join("portcullis.yaml");
    write_tls(root);
    let case = |part: &str| fs::read_to_string(cases().join(format!("{name}.{part}.yaml"))).ok();
    write(
        &main,
        &case("portcullis").unwrap_or_else(|| PORTCULLIS.to_owned()),
    );
    write(
        &root.join("policy/orders.yaml"),
        &case("policy").unwrap_or_else(|| POLICY.to_owned()),
    );
    if let Some(second) = case("second") {
        write(&root.join("policy/second.yaml"), &second);
    }

    let next = [("policy", "orders"), ("second", "second")]
        .map(|(part, file)| (case(&format!("next.{part}")), file));
    let outcome = if next.iter().any(|(content, _)| content.is_some()) {
        let previous = load(&main).unwrap();
        for (content, file) in next {
            if let Some(content) = content {
                write(&root.join(format!("policy/{file}.yaml")), &content);
            }
        }
        reload(&main, &previous)
    } else {
        load(&main)
    };
    let diagnostics = match outcome {
        Ok(config) => {
            let pinned = config
                .policy_files
                .into_iter()
                .filter_map(|file| file.pinned)
                .flatten();
            Diagnostics::from(
                config
                    .warnings
                    .into_iter()
                    .chain(pinned)
                    .collect::<Vec<_>>(),
            )
        }
        Err(diagnostics) => diagnostics,
    };
    let root = root.display().to_string();
    diagnostics
        .to_string()
        .replace(&format!("{root}/"), "")
        .replace(&root, "<directory>")
}

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// `edge.pem` with `edge.key`, `other.key`, `expired.pem` with `expired.key`, `garbage.pem`, and
/// `world.key`, which everybody may read.
fn write_tls(root: &Path) {
    let certificate = |name: &str, years: std::ops::Range<i32>| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters =
            rcgen::CertificateParams::new(vec!["api.acme.example".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        write(
            &root.join(format!("tls/{name}.pem")),
            &parameters.self_signed(&key).unwrap().pem(),
        );
        write_key(
            &root.join(format!("tls/{name}.key")),
            &key.serialize_pem(),
            0o600,
        );
    };
    certificate("edge", 2020..2120);
    certificate("other", 2020..2120);
    certificate("expired", 2020..2021);
    write(
        &root.join("tls/garbage.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    write_key(
        &root.join("tls/world.key"),
        &fs::read_to_string(root.join("tls/edge.key")).unwrap(),
        0o644,
    );
}

fn write_key(path: &Path, content: &str, mode: u32) {
    write(path, content);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

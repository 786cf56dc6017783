use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::OnceLock;

use portcullis_config::diagnostic::codes;
use portcullis_config::{Config, Diagnostic, load, reload};
use tempfile::TempDir;

const POLICY: &str = r#"
owner: orders-team
scopes: { "orders:read": Read orders }
routes:
  - name: orders
    match: { path: "/orders/{*rest}" }
    upstream: orders
    require: { scopes: ["orders:read"] }
"#;

/// Whatever a platform team writes is a configuration, or a list of problems, each with a place.
/// What is a configuration is the same one when it is read again, reloaded, and written as JSON.
pub fn gateway_file(bytes: &[u8]) {
    if !stays_in_its_directory(bytes) {
        return;
    }
    let directory = directory();
    let file = directory.path().join("portcullis.yaml");
    let read = |bytes: &[u8]| {
        fs::write(&file, bytes).expect("written");
        load(&file)
    };
    match (read(bytes), read(bytes)) {
        (Ok(config), Ok(again)) => {
            assert!(!config.warnings.iter().any(Diagnostic::is_error));
            check_places(&config.warnings, &file, bytes);
            let meaning = meaning_of(&config);
            assert_eq!(meaning_of(&again), meaning);
            let reloaded = reload(&file, &config).expect("nothing has changed");
            assert!(reloaded.policy_files.iter().all(|it| it.pinned.is_none()));
            assert_eq!(meaning_of(&reloaded), meaning);
            if let Some(json) = as_json(bytes) {
                let other = read(json.as_bytes()).expect("JSON is YAML");
                assert_eq!(meaning_of(&other), meaning, "{json}");
            }
        }
        (Err(problems), Err(again)) => {
            assert!(problems.has_errors());
            assert_eq!(problems, again);
            assert!(!problems.to_string().is_empty());
            check_places(&problems, &file, bytes);
        }
        _ => panic!("accepted once"),
    }
}

/// Whether no file of this machine is named: what is in it is no input.
fn stays_in_its_directory(bytes: &[u8]) -> bool {
    let is_root = |slash: usize| match bytes.split_at(slash).0 {
        [.., before, b':'] => !before.is_ascii_alphanumeric(),
        [.., before] => !before.is_ascii_alphanumeric() && !b"/.-_*?]".contains(before),
        [] => true,
    };
    let mut slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    !bytes.contains(&b'\\')
        && !bytes.windows(2).any(|two| two == b"..")
        && !slashes.any(|(at, _)| is_root(at))
}

/// What a configuration may name.
fn directory() -> TempDir {
    static CERTIFICATE: OnceLock<(String, String)> = OnceLock::new();
    let (certificate, key) = CERTIFICATE.get_or_init(|| {
        let names = vec!["api.acme.example".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    });
    let directory = tempfile::tempdir().expect("a directory");
    for subdirectory in ["policy", "tls"] {
        fs::create_dir(directory.path().join(subdirectory)).expect("created");
    }
    for (name, content) in [
        ("policy/orders.yaml", POLICY),
        ("tls/edge.pem", certificate.as_str()),
        ("tls/edge.key", key.as_str()),
        ("keys.json", crate::KEYS),
    ] {
        let path = directory.path().join(name);
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("permitted");
    }
    directory
}

/// Each problem is somewhere in a file that was read.
fn check_places<'a>(problems: impl IntoIterator<Item = &'a Diagnostic>, file: &Path, bytes: &[u8]) {
    let directory = file.parent().expect("a directory");
    let ends_line = |c: &char| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let lines = 1 + String::from_utf8_lossy(bytes)
        .chars()
        .filter(ends_line)
        .count();
    for problem in problems {
        assert!(problem.file.starts_with(directory), "{problem}");
        assert!(problem.line >= 1 && problem.column >= 1, "{problem}");
        if problem.file == file {
            assert!(problem.line <= lines, "{problem}");
        }
        assert!(!problem.message.is_empty() && !problem.message.contains('\n'));
        let mut known = codes::ALL.iter();
        assert!(known.any(|(code, _)| *code == problem.code), "{problem}");
    }
}

/// All that the file itself decides.
fn meaning_of(config: &Config) -> String {
    let meaning = (
        &config.listeners,
        &config.admin,
        &config.issuers,
        &config.upstreams,
        &config.identity_headers,
        &config.realm,
        &config.trusted_proxies,
        &config.access_log,
        &config.limits,
        &config.overload,
        &config.token_cache_entries,
        &config.shutdown,
    );
    format!("{meaning:?}")
}

/// The same document, where JSON can say it.
fn as_json(bytes: &[u8]) -> Option<String> {
    let document: serde_yaml::Value = serde_yaml::from_slice(bytes).ok()?;
    let json = serde_json::to_string(&document).ok()?;
    let again: serde_yaml::Value = serde_yaml::from_str(&json).ok()?;
    (again == document).then_some(json)
}

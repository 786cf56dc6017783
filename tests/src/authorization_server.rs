//! npm's `oidc-provider` in a process of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::Value;

use crate::process::Process;
use crate::{Caller, eventually};

/// A real authorization server: client credentials, JWT access tokens, key rotation.
#[derive(Debug)]
pub struct AuthorizationServer {
    _process: Process,
    issuer: String,
    control: String,
    resource: String,
}

impl AuthorizationServer {
    /// Starts it, with the npm modules installed if they are not yet.
    pub async fn start() -> Self {
        Self::run(&[]).await
    }

    /// Starts it with the issuer down; [`AuthorizationServer::bring_up`] makes it answer.
    pub async fn start_down() -> Self {
        Self::run(&["--stopped"]).await
    }

    async fn run(arguments: &[&str]) -> Self {
        let directory = install_modules();
        let mut command = Command::new("node");
        command
            .arg("server.mjs")
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::piped());
        let process = Process::start("authorization-server", command);
        let first_line = eventually("start of the authorization server", || async {
            process.stdout.all().into_iter().next()
        })
        .await;
        let ready: Value = serde_json::from_str(&first_line).unwrap();
        let text = |key: &str| ready[key].as_str().unwrap().to_owned();
        Self {
            issuer: text("issuer"),
            control: text("control"),
            resource: text("resource"),
            _process: process,
        }
    }

    /// The issuer identifier, which is also its address.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The audience of its access tokens.
    pub fn audience(&self) -> &str {
        &self.resource
    }

    /// An RS256 access token with this scope, by a client credentials request (RFC 6749 §4.4).
    pub async fn token(&self, scope: &str) -> String {
        self.token_signed_with("RS256", scope).await
    }

    /// An access token signed with `algorithm`: RS256, ES256 or EdDSA.
    pub async fn token_signed_with(&self, algorithm: &str, scope: &str) -> String {
        let client = format!("orders-client-{}", algorithm.to_lowercase());
        let form = [
            ("grant_type", "client_credentials"),
            ("scope", scope),
            ("resource", self.resource.as_str()),
        ];
        let credentials = STANDARD.encode(format!("{client}:secret-of-{client}"));
        let headers = [
            ("authorization", &*format!("Basic {credentials}")),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let url = format!("{}/token", self.issuer);
        let form = encode_form(&form);
        let answer = Caller::new()
            .send(Method::POST, &url, &headers, form.as_bytes())
            .await;
        let body = answer.json();
        body["access_token"]
            .as_str()
            .unwrap_or_else(|| panic!("no access token: {body}"))
            .to_owned()
    }

    /// Publishes new keys beside the old ones and signs with the new ones.
    pub async fn rotate_keys(&self) {
        self.control("rotate").await;
    }

    /// Withdraws all keys but the newest.
    pub async fn withdraw_old_keys(&self) {
        self.control("withdraw").await;
    }

    /// Closes the issuer's listener and its connections.
    pub async fn take_down(&self) {
        self.control("stop").await;
    }

    /// Opens the issuer's listener again, on the same port.
    pub async fn bring_up(&self) {
        self.control("start").await;
    }

    /// How often the key set was fetched.
    pub async fn key_set_fetches(&self) -> u64 {
        self.control("stats").await["jwks"].as_u64().unwrap()
    }

    /// How often a metadata document was fetched.
    pub async fn discovery_fetches(&self) -> u64 {
        self.control("stats").await["discovery"].as_u64().unwrap()
    }

    async fn control(&self, action: &str) -> Value {
        let answer = Caller::new()
            .get(&format!("{}/control/{action}", self.control))
            .await;
        assert_eq!(answer.status, 200, "{action}: {}", answer.text());
        answer.json()
    }
}

/// Installs the locked npm modules once, whichever test comes first.
fn install_modules() -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("authorization_server");
    let lock = File::create(directory.join(".install.lock")).unwrap();
    lock.lock().unwrap();
    let installed = directory.join("node_modules/.package-lock.json");
    let wanted = directory.join("package-lock.json");
    let is_current = match (modified(&installed), modified(&wanted)) {
        (Some(installed), Some(wanted)) => installed >= wanted,
        _ => false,
    };
    if !is_current {
        let output = Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund"])
            .current_dir(&directory)
            .output()
            .expect("npm is needed to install the authorization server");
        assert!(
            output.status.success(),
            "npm ci failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    directory
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// `application/x-www-form-urlencoded` with everything escaped that may need it.
fn encode_form(fields: &[(&str, &str)]) -> String {
    let escape = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => char::from(byte).into(),
                _ => format!("%{byte:02X}"),
            })
            .collect()
    };
    let pairs: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
        .collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::decode_part;

    #[tokio::test]
    async fn tokens_are_jwt_access_tokens_for_the_resource() {
        let server = AuthorizationServer::start().await;
        for algorithm in ["RS256", "ES256", "EdDSA"] {
            let token = server.token_signed_with(algorithm, "orders:read").await;
            let header = decode_part(&token, 0);
            assert_eq!(header["alg"], algorithm);
            assert_eq!(header["typ"], "at+jwt");
            let claims = decode_part(&token, 1);
            assert_eq!(claims["iss"], server.issuer());
            assert_eq!(claims["aud"], server.audience());
            assert_eq!(claims["scope"], "orders:read");
        }
    }

    #[tokio::test]
    async fn keys_rotate_and_the_issuer_goes_down_and_comes_back() {
        let server = AuthorizationServer::start_down().await;
        let key_ids = async || -> Vec<String> {
            let answer = Caller::new()
                .get(&format!("{}/jwks", server.issuer()))
                .await;
            let keys = answer.json()["keys"].as_array().unwrap().clone();
            keys.iter()
                .map(|key| key["kid"].as_str().unwrap().to_owned())
                .collect()
        };
        assert!(Caller::new().try_get(server.issuer()).await.is_err());
        server.bring_up().await;
        let first = key_ids().await;
        server.rotate_keys().await;
        let both = key_ids().await;
        assert!(first.iter().all(|id| both.contains(id)));
        assert_eq!(both.len(), 2 * first.len());
        server.withdraw_old_keys().await;
        let last = key_ids().await;
        assert!(first.iter().all(|id| !last.contains(id)));
        assert_eq!(server.key_set_fetches().await, 3);
    }
}

use super::Resolver;
use crate::config::{AccessLog, SubjectDisclosure};
use crate::diagnostic::codes;
use crate::document;
use crate::file::MAX_SECRET_BYTES;
use crate::node::{NodePath, node_path};
use crate::secret::Secret;

/// Below this, the subject of a pseudonym could be found by trying keys.
const MIN_PSEUDONYM_KEY_BYTES: usize = 16;

impl Resolver<'_> {
    pub(super) fn access_log(&mut self, written: &document::AccessLog) -> Option<AccessLog> {
        let key_path = node_path!["access_log", "pseudonym_key"];
        let key = written
            .pseudonym_key
            .as_ref()
            .and_then(|source| self.secret(&key_path, source));
        if let Some(key) = &key
            && key.expose().len() < MIN_PSEUDONYM_KEY_BYTES
        {
            let message = format!(
                "the secret of `{key_path}` is shorter than {MIN_PSEUDONYM_KEY_BYTES} bytes"
            );
            self.refuse(
                codes::OUT_OF_RANGE,
                &key_path,
                message,
                "make one with `openssl rand -hex 32`",
            );
        }
        if written.enabled == Some(false) {
            return None;
        }
        Some(AccessLog {
            file: written.file.as_ref().map(|file| self.resolve_path(file)),
            subject: match written.subject {
                Some(document::SubjectDisclosure::Omitted) => SubjectDisclosure::Omitted,
                Some(document::SubjectDisclosure::Plain) => SubjectDisclosure::Plain,
                Some(document::SubjectDisclosure::Pseudonym) | None => {
                    SubjectDisclosure::Pseudonym(key)
                }
            },
        })
    }

    /// Reads a secret. No message says anything about its content.
    fn secret(&mut self, path: &NodePath, source: &document::SecretSource) -> Option<Secret> {
        let secret = match (&source.env, &source.file) {
            (Some(name), None) => self.secret_from_env(path, name)?,
            (None, Some(file)) => {
                let bytes = self.read_secret_file(&path.join("file"), file, MAX_SECRET_BYTES)?;
                Secret::from_text(&bytes)
            }
            (None, None) | (Some(_), Some(_)) => {
                let message = format!("`{path}` has to say where the secret is");
                self.refuse(
                    codes::SECRET_WRITTEN,
                    path,
                    message,
                    "write either `{ env: NAME }` or `{ file: path }`",
                );
                return None;
            }
        };
        if secret.expose().is_empty() {
            self.refuse(
                codes::SECRET_UNAVAILABLE,
                path,
                format!("the secret of `{path}` is empty"),
                "set it",
            );
            return None;
        }
        Some(secret)
    }

    fn secret_from_env(&mut self, path: &NodePath, name: &str) -> Option<Secret> {
        let secret = Secret::from_env(name);
        if secret.is_none() {
            // What does not look like the name of a variable may be the secret itself.
            let looks_like_a_name = name
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
            let message = match looks_like_a_name {
                true => format!("the environment variable `{name}` is not set"),
                false => format!("the environment variable that `{path}` names is not set"),
            };
            let help = "set it where the gateway is started; its value is the secret, its name stands here";
            self.refuse(codes::SECRET_UNAVAILABLE, &path.join("env"), message, help);
        }
        secret
    }
}

//! Certificates, keys and trust anchors that the configuration names.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::Resolver;
use crate::certificate::{Chain, Pairing, pair, parse_private_key, parse_trust};
use crate::diagnostic::codes;
use crate::file::{MAX_PEM_BYTES, MAX_SECRET_BYTES};
use crate::node::NodePath;

/// A certificate and the key that belongs to it.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) chain: Chain,
    pub(super) private_key: PrivateKeyDer<'static>,
    pub(super) certified_key: Arc<CertifiedKey>,
}

impl Resolver<'_> {
    /// Reads a certificate and its key, both named in the mapping at `path`.
    pub(super) fn identity(
        &mut self,
        path: &NodePath,
        certificate: &Path,
        private_key: &Path,
    ) -> Option<Identity> {
        let (certificate_path, key_path) = (path.join("certificate"), path.join("private_key"));
        let pem = self.read_file(&certificate_path, certificate, MAX_PEM_BYTES);
        let chain =
            pem.and_then(|pem| self.parsed(&certificate_path, certificate, Chain::parse(&pem)));
        if let Some(chain) = &chain {
            self.warn_about_validity(&certificate_path, certificate, chain);
        }
        let pem = self.read_secret_file(&key_path, private_key, MAX_SECRET_BYTES);
        let private_key_der =
            pem.and_then(|pem| self.parsed(&key_path, private_key, parse_private_key(&pem)));
        let (chain, private_key_der) = (chain?, private_key_der?);
        match pair(&chain, &private_key_der) {
            Pairing::Matches(certified_key) => Some(Identity {
                chain,
                private_key: private_key_der,
                certified_key,
            }),
            Pairing::Mismatch => {
                let (key, certificate) = (private_key.display(), certificate.display());
                let message = format!(
                    "the private key `{key}` does not belong to the certificate `{certificate}`"
                );
                self.refuse(
                    codes::KEY_MISMATCH,
                    &key_path,
                    message,
                    "name the key that the certificate was issued for",
                );
                None
            }
            Pairing::UnsupportedKey => {
                let message = format!(
                    "`{}` holds a private key that cannot be used for TLS",
                    private_key.display()
                );
                let help =
                    "use RSA with 2048 bits or more, ECDSA on P-256, P-384 or P-521, or Ed25519";
                self.refuse(codes::INVALID_CERTIFICATE, &key_path, message, help);
                None
            }
        }
    }

    /// Reads the certificate authorities in the file that the value at `path` names.
    pub(super) fn trust(
        &mut self,
        path: &NodePath,
        file: &Path,
    ) -> Option<Arc<[CertificateDer<'static>]>> {
        let pem = self.read_file(path, file, MAX_PEM_BYTES)?;
        self.parsed(path, file, parse_trust(&pem))
    }

    fn parsed<T>(
        &mut self,
        path: &NodePath,
        file: &Path,
        result: Result<T, &'static str>,
    ) -> Option<T> {
        result
            .map_err(|problem| {
                let message = format!("`{}` {problem}", file.display());
                self.refuse(
                    codes::INVALID_CERTIFICATE,
                    path,
                    message,
                    "a PEM file is needed here",
                );
            })
            .ok()
    }

    /// Only warns: the day a certificate expires must not be the day that no other change is loaded.
    fn warn_about_validity(&mut self, path: &NodePath, file: &Path, chain: &Chain) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let message = match now {
            now if now > chain.not_after => {
                format!("the certificate `{}` has expired", file.display())
            }
            now if now < chain.not_before => {
                format!("the certificate `{}` is not valid yet", file.display())
            }
            _ => return,
        };
        let warning = self
            .source()
            .error(codes::CERTIFICATE_EXPIRED, path, message)
            .into_warning();
        self.report(warning.with_help("replace it; the file is watched"));
    }
}

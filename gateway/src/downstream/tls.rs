//! TLS towards callers: a certificate, and a rule about theirs, for each name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use portcullis_config as config;
use portcullis_config::ClientCertificates;
use rustls::server::{
    ClientHello, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

/// Sessions that can be resumed under one certificate.
const REMEMBERED_SESSIONS: usize = 4096;

/// The TLS of one listener in one generation.
pub struct ListenerTls {
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
    /// `*.acme.example` as `acme.example`.
    by_wildcard: HashMap<String, usize>,
}

/// A certificate with the rule about callers' certificates under its names. Each has a session
/// store of its own, so that a session of a lax name opens no strict one (CVE-2025-23419).
pub(crate) struct Entry {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client_certificates: ClientCertificates,
}

impl fmt::Debug for ListenerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerTls")
            .field("names", &self.by_name)
            .finish_non_exhaustive()
    }
}

impl ListenerTls {
    /// Prepares the certificates of a listener.
    ///
    /// # Errors
    /// When rustls cannot use what the configuration has found good.
    pub(crate) fn new(settings: &config::ListenerTls) -> Result<Self, rustls::Error> {
        let mut tls = Self {
            entries: Vec::new(),
            by_name: HashMap::new(),
            by_wildcard: HashMap::new(),
        };
        for certificate in &settings.certificates {
            let index = tls.entries.len();
            for name in &certificate.names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut tls.by_wildcard, parent),
                    None => (&mut tls.by_name, name.as_str()),
                };
                names.entry(name.to_owned()).or_insert(index);
            }
            tls.entries.push(Entry {
                server: server(certificate, settings.tls13_only)?,
                client_certificates: certificate.client_certificates.clone(),
            });
        }
        Ok(tls)
    }

    /// The certificate for `name` (RFC 6066 §3), or the first.
    pub(crate) fn entry(&self, name: Option<&str>) -> Option<&Entry> {
        let index = name.and_then(|name| self.index(name)).unwrap_or(0);
        self.entries.get(index)
    }

    /// The rule about callers' certificates under `name`.
    pub(crate) fn client_certificates(&self, name: &str) -> &ClientCertificates {
        self.entry(Some(name))
            .map_or(&ClientCertificates::Off, |entry| &entry.client_certificates)
    }

    fn index(&self, name: &str) -> Option<usize> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.by_name
            .get(&name)
            .or_else(|| {
                let (_, parent) = name.split_once('.')?;
                self.by_wildcard.get(parent)
            })
            .copied()
    }
}

fn server(
    certificate: &config::ServerCertificate,
    tls13_only: bool,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions: &[_] = if tls13_only {
        &[&TLS13]
    } else {
        &[&TLS13, &TLS12]
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)?;
    let verifier = |trust: &[_]| {
        let mut roots = RootCertStore::empty();
        for authority in trust {
            roots.add(rustls::pki_types::CertificateDer::clone(authority))?;
        }
        Ok::<_, rustls::Error>(WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&provider),
        ))
    };
    let unusable = |error| rustls::Error::General(format!("client certificates: {error}"));
    let builder = match &certificate.client_certificates {
        ClientCertificates::Off => builder.with_no_client_auth(),
        ClientCertificates::Optional(trust) => builder.with_client_cert_verifier(
            verifier(trust)?
                .allow_unauthenticated()
                .build()
                .map_err(unusable)?,
        ),
        ClientCertificates::Required(trust) => {
            builder.with_client_cert_verifier(verifier(trust)?.build().map_err(unusable)?)
        }
    };
    let mut server =
        builder.with_cert_resolver(Arc::new(Always(Arc::clone(&certificate.certified_key))));
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    server.session_storage = ServerSessionMemoryCache::new(REMEMBERED_SESSIONS);
    Ok(Arc::new(server))
}

/// The name has chosen already.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

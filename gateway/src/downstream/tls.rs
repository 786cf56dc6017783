//! TLS towards callers: a certificate, and a rule about theirs, for each name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use portcullis_config as config;
use portcullis_config::ClientCertificates;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
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
    /// What judges them; `None` where nobody is asked for one.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Entry {
    /// Whether one of its authorities vouches for a caller who has shown `chain`, and the key to it, in a
    /// handshake under another rule.
    pub(crate) fn vouches_for(&self, chain: &[CertificateDer<'_>]) -> bool {
        let (Some(verifier), Some((leaf, rest))) = (&self.verifier, chain.split_first()) else {
            return false;
        };
        verifier
            .verify_client_cert(leaf, rest, UnixTime::now())
            .is_ok()
    }
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
            let verifier = verifier(&certificate.client_certificates)?;
            tls.entries.push(Entry {
                server: server(certificate, verifier.as_ref(), settings.tls13_only)?,
                client_certificates: certificate.client_certificates.clone(),
                verifier,
            });
        }
        Ok(tls)
    }

    /// The certificate for `name` (RFC 6066 §3), or the first.
    pub(crate) fn entry(&self, name: Option<&str>) -> Option<&Entry> {
        let index = name.and_then(|name| self.index(name)).unwrap_or(0);
        self.entries.get(index)
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

fn verifier(
    rule: &ClientCertificates,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, rustls::Error> {
    let (trust, is_optional) = match rule {
        ClientCertificates::Off => return Ok(None),
        ClientCertificates::Optional(trust) => (trust, true),
        ClientCertificates::Required(trust) => (trust, false),
    };
    let mut roots = RootCertStore::empty();
    for authority in &**trust {
        roots.add(CertificateDer::clone(authority))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match is_optional {
        true => builder.allow_unauthenticated(),
        false => builder,
    };
    let unusable = |error| rustls::Error::General(format!("client certificates: {error}"));
    Ok(Some(builder.build().map_err(unusable)?))
}

fn server(
    certificate: &config::ServerCertificate,
    verifier: Option<&Arc<dyn ClientCertVerifier>>,
    tls13_only: bool,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions: &[_] = if tls13_only {
        &[&TLS13]
    } else {
        &[&TLS13, &TLS12]
    };
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
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

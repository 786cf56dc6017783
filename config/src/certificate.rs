//! Certificates and private keys: read, and checked as far as that is possible without a peer.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate with its intermediates.
#[derive(Debug)]
pub(crate) struct Chain {
    /// The leaf first.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    /// DNS names of the leaf, in lower case.
    pub(crate) names: Vec<String>,
    /// Start of the leaf's validity, seconds since 1970.
    pub(crate) not_before: i64,
    /// End of the leaf's validity, seconds since 1970.
    pub(crate) not_after: i64,
}

/// Why a file holds no chain or key.
pub(crate) type Problem = &'static str;

impl Chain {
    /// Reads the certificates of a PEM file.
    pub(crate) fn parse(pem: &[u8]) -> Result<Self, Problem> {
        let certificates = certificates(pem)?;
        let leaf = certificates.first().ok_or("holds no certificate")?;
        let (_, leaf) = X509Certificate::from_der(leaf)
            .map_err(|_| "holds something that is no X.509 certificate")?;
        let alternatives = leaf
            .subject_alternative_name()
            .map_err(|_| "has a subjectAltName that cannot be read")?;
        let names = alternatives
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            })
            .collect();
        let (not_before, not_after) = (
            leaf.validity().not_before.timestamp(),
            leaf.validity().not_after.timestamp(),
        );
        Ok(Self {
            names,
            not_before,
            not_after,
            certificates,
        })
    }
}

/// Reads a PEM file of certificate authorities; each of them could end a chain.
pub(crate) fn parse_trust(pem: &[u8]) -> Result<Arc<[CertificateDer<'static>]>, Problem> {
    let certificates = certificates(pem)?;
    if certificates.is_empty() {
        return Err("holds no certificate");
    }
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store
            .add(certificate.clone())
            .map_err(|_| "holds something that is no certificate authority's certificate")?;
    }
    Ok(certificates.into())
}

/// Reads the first private key of a PEM file.
pub(crate) fn parse_private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Problem> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| "holds no private key in PEM")
}

/// Whether a key belongs to a certificate.
#[derive(Debug)]
pub(crate) enum Pairing {
    Matches(Arc<CertifiedKey>),
    Mismatch,
    UnsupportedKey,
}

/// Puts a chain and its key together.
pub(crate) fn pair(chain: &Chain, key: &PrivateKeyDer<'static>) -> Pairing {
    let Ok(key) = any_supported_type(key) else {
        return Pairing::UnsupportedKey;
    };
    let certified = CertifiedKey::new(chain.certificates.clone(), key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
            Pairing::Matches(Arc::new(certified))
        }
        Err(_) => Pairing::Mismatch,
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| "is not PEM")
}

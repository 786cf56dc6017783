//! A certificate authority that lives as long as the demo. Its private key never leaves memory.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};

/// The certificate authority that the gateway and the services trust, and nobody else.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its private key.
pub(super) struct Identity {
    certificate: Certificate,
    key: KeyPair,
}

/// Why a certificate or a TLS configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    /// A key or a certificate could not be generated.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// A certificate was made that rustls refuses.
    #[error("cannot use a certificate for TLS")]
    Tls(#[from] rustls::Error),
    /// The service's requirement for client certificates was refused.
    #[error("cannot require client certificates")]
    ClientVerifier(#[from] VerifierBuilderError),
}

impl Authority {
    /// Makes a new authority with a key of its own.
    pub(super) fn generate() -> Result<Authority, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Portcullis demo CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Authority { issuer })
    }

    /// The authority's certificate, PEM.
    pub(super) fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate that authenticates a client, and cannot be used by a server.
    pub(super) fn issue_client(&self, name: &str) -> Result<Identity, PkiError> {
        self.issue(name, Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A certificate that authenticates the server `name`, also reached as `127.0.0.1`, and cannot be
    /// used by a client.
    pub(super) fn issue_server(&self, name: &str) -> Result<Identity, PkiError> {
        let names = vec![
            SanType::DnsName(name.try_into()?),
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ];
        self.issue(name, names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// TLS for a service: it shows `identity` and talks only to clients that this authority certified.
    pub(super) fn mutual_tls(&self, identity: &Identity) -> Result<Arc<ServerConfig>, PkiError> {
        let clients =
            WebPkiClientVerifier::builder_with_provider(self.roots()?, provider()).build()?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![identity.certificate.der().clone()],
                identity.private_key_der(),
            )?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// TLS for a caller that trusts this authority and has no certificate to show.
    pub(super) fn anonymous_tls(&self) -> Result<ClientConfig, PkiError> {
        Ok(ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?)
            .with_no_client_auth())
    }

    fn issue(
        &self,
        name: &str,
        subject_alt_names: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        params.subject_alt_names = subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate, key })
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, PkiError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        Ok(Arc::new(roots))
    }
}

impl Identity {
    /// The certificate, PEM.
    pub(super) fn certificate_pem(&self) -> String {
        self.certificate.pem()
    }

    /// The private key, PEM (PKCS #8).
    pub(super) fn private_key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    fn private_key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

/// Named outright, so that the demo works whatever the process has or has not installed as default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

//! A throw-away public key infrastructure.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new self-signed authority with a key of its own.
    pub fn new(common_name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    /// The authority's own certificate: what others trust.
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate for a new key.
    pub fn issue(&self, leaf: Leaf) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(leaf.names).unwrap();
        params.distinguished_name = named(&leaf.common_name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.serial_number = leaf.serial.map(SerialNumber::from);
        (params.not_before, params.not_after) = match leaf.validity {
            Validity::Current => (date_time_ymd(2020, 1, 1), date_time_ymd(2049, 1, 1)),
            Validity::Expired => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
            Validity::NotYet => (date_time_ymd(2048, 1, 1), date_time_ymd(2049, 1, 1)),
        };
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Certificate {
            certificate_pem: certificate.pem(),
            private_key_pem: key.serialize_pem(),
            der: certificate.der().to_vec(),
        }
    }

    /// Issues a server certificate for `name` (a DNS name or an IP address).
    pub fn issue_for(&self, name: &str) -> Certificate {
        self.issue(Leaf::new(name).with_name(name))
    }
}

/// What a certificate says.
#[derive(Debug, Clone)]
pub struct Leaf {
    common_name: String,
    names: Vec<String>,
    serial: Option<u64>,
    validity: Validity,
}

impl Leaf {
    /// A currently valid certificate without alternative names.
    pub fn new(common_name: &str) -> Self {
        Self {
            common_name: common_name.to_owned(),
            names: Vec::new(),
            serial: None,
            validity: Validity::Current,
        }
    }

    /// Adds a subject alternative name: a DNS name or an IP address.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    /// Chooses the serial number instead of a random one.
    #[must_use]
    pub fn with_serial(mut self, serial: u64) -> Self {
        self.serial = Some(serial);
        self
    }

    /// Chooses when it is valid.
    #[must_use]
    pub fn with_validity(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Now.
    Current,
    /// No longer.
    Expired,
    /// Not before 2048.
    NotYet,
}

/// A certificate and its private key.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PKCS #8 PEM.
    pub private_key_pem: String,
    /// The certificate, DER.
    pub der: Vec<u8>,
}

impl Certificate {
    /// Writes `<stem>.pem` and `<stem>.key` into `directory` and says where.
    pub fn write(&self, directory: &Path, stem: &str) -> (PathBuf, PathBuf) {
        let certificate = directory.join(format!("{stem}.pem"));
        let private_key = directory.join(format!("{stem}.key"));
        write_private(&certificate, self.certificate_pem.as_bytes());
        write_private(&private_key, self.private_key_pem.as_bytes());
        (certificate, private_key)
    }
}

/// Writes a file that only its owner may read, with the directories above it.
pub(crate) fn write_private(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    file.write_all(content).unwrap();
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

//! A throw-away public key infrastructure.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;

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
        let mut params = leaf.params();
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Certificate::new(&certificate, &key)
    }

    /// Issues a certificate for `name` (a DNS name) by OpenSSL's command line, which makes keys and
    /// signatures that nobody else makes any more: `key` is its `-newkey`, `digest` as `sha1`.
    pub fn issue_by_openssl(&self, name: &str, key: &str, digest: &str) -> Certificate {
        let directory = TempDir::with_prefix("portcullis-e2e-openssl-").unwrap();
        let path = directory.path();
        let extensions = format!(
            "basicConstraints = CA:FALSE\nkeyUsage = digitalSignature\n\
             extendedKeyUsage = serverAuth, clientAuth\nsubjectAltName = DNS:{name}\n"
        );
        let authority_key = self.issuer.key().serialize_pem();
        for (file, content) in [
            ("authority.pem", self.certificate_pem()),
            ("authority.key", authority_key),
            ("extensions", extensions),
        ] {
            write_private(&path.join(file), content.as_bytes());
        }
        let request = format!(
            "req -new -newkey {key} -nodes -subj /CN={name} -keyout leaf.key -out leaf.request"
        );
        let sign = format!(
            "x509 -req -in leaf.request -CA authority.pem -CAkey authority.key -set_serial 4711 \
             -days 30 -{digest} -extfile extensions -out leaf.pem"
        );
        for arguments in [request, sign] {
            let output = Command::new("openssl")
                .args(arguments.split_whitespace())
                .current_dir(path)
                .output()
                .expect("openssl");
            assert!(output.status.success(), "{arguments}: {output:?}");
        }
        let read = |file: &str| fs::read_to_string(path.join(file)).unwrap();
        let certificate_pem = read("leaf.pem");
        Certificate {
            der: CertificateDer::from_pem_slice(certificate_pem.as_bytes())
                .unwrap()
                .to_vec(),
            certificate_pem,
            private_key_pem: read("leaf.key"),
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
    purposes: Vec<ExtendedKeyUsagePurpose>,
}

impl Leaf {
    /// A currently valid certificate without alternative names.
    pub fn new(common_name: &str) -> Self {
        Self {
            common_name: common_name.to_owned(),
            names: Vec::new(),
            serial: None,
            validity: Validity::Current,
            purposes: vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
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

    /// Makes it one for servers only (RFC 5280 §4.2.1.12) instead of one for both sides.
    #[must_use]
    pub fn for_servers_only(mut self) -> Self {
        self.purposes = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self
    }

    /// Makes it one for clients only instead of one for both sides.
    #[must_use]
    pub fn for_clients_only(mut self) -> Self {
        self.purposes = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self
    }

    /// Signed by its own key: nobody vouches for it.
    pub fn self_signed(self) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let certificate = self.params().self_signed(&key).unwrap();
        Certificate::new(&certificate, &key)
    }

    fn params(self) -> CertificateParams {
        let mut params = CertificateParams::new(self.names).unwrap();
        params.distinguished_name = named(&self.common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = self.purposes;
        params.serial_number = self.serial.map(SerialNumber::from);
        (params.not_before, params.not_after) = match self.validity {
            Validity::Current => (date_time_ymd(2020, 1, 1), date_time_ymd(2049, 1, 1)),
            Validity::Expired => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
            Validity::NotYet => (date_time_ymd(2048, 1, 1), date_time_ymd(2049, 1, 1)),
            Validity::Until(second) => (
                date_time_ymd(2020, 1, 1),
                date_time_ymd(1970, 1, 1) + Duration::from_secs(second),
            ),
        };
        params
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
    /// Until this second since 1970.
    Until(u64),
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
    fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            certificate_pem: certificate.pem(),
            private_key_pem: key.serialize_pem(),
            der: certificate.der().to_vec(),
        }
    }

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

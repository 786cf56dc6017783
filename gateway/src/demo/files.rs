//! The files that the gateway of the demo runs on: YAML as a platform team and two service teams
//! would write it, and the certificates for mutual TLS.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::issuer::{AUDIENCE, Issuer};
use super::pki::{Authority, Identity};
use super::service::Service;

/// Where the files are. A temporary directory goes away with this.
pub(super) struct Files {
    directory: PathBuf,
    /// Kept for its `Drop`, which removes it.
    temporary: Option<TempDir>,
}

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    /// The directory to keep the files in holds something already.
    #[error("`{0}` is not empty: the demo overwrites nothing")]
    NotEmpty(PathBuf),
    /// A file or directory could not be made.
    #[error("cannot write `{path}`")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Files {
    /// Makes the directory: `keep`, which is left behind, or else a temporary one.
    pub(super) fn create(keep: Option<PathBuf>) -> Result<Files, FilesError> {
        let (directory, temporary) = match keep {
            Some(directory) => {
                make_directory(&directory)?;
                let mut entries = fs::read_dir(&directory).map_err(failed(&directory))?;
                if entries.next().is_some() {
                    return Err(FilesError::NotEmpty(directory));
                }
                (directory.canonicalize().map_err(failed(&directory))?, None)
            }
            None => {
                let temporary = tempfile::Builder::new()
                    .prefix("portcullis-demo-")
                    .permissions(fs::Permissions::from_mode(0o700))
                    .tempdir()
                    .map_err(failed(&std::env::temp_dir()))?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        Ok(Files {
            directory,
            temporary,
        })
    }

    /// Writes the policies, and the certificates: who certified the services, and what `gateway`
    /// shows them.
    pub(super) fn write(
        &self,
        authority: &Authority,
        gateway: &Identity,
    ) -> Result<(), FilesError> {
        make_directory(&self.directory.join("tls"))?;
        make_directory(&self.directory.join("policy"))?;
        self.write_file("tls/ca.pem", READABLE, &authority.certificate_pem())?;
        self.write_file("tls/gateway.pem", READABLE, &gateway.certificate_pem())?;
        self.write_file("tls/gateway.key", OWNER_ONLY, &gateway.private_key_pem())?;
        self.write_file("policy/orders.yaml", READABLE, ORDERS_POLICY)?;
        self.write_file("policy/profile.yaml", READABLE, PROFILE_POLICY)
    }

    /// Writes the gateway's own configuration file, in the place of an earlier one.
    pub(super) fn write_config(
        &self,
        listener: SocketAddr,
        issuer: &Issuer,
        services: &[Service],
    ) -> Result<(), FilesError> {
        let path = self.config();
        if path.exists() {
            fs::remove_file(&path).map_err(failed(&path))?;
        }
        let yaml = gateway_yaml(listener, issuer, services);
        self.write_file("portcullis.yaml", READABLE, &yaml)
    }

    /// Where they are.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether they are gone when this is.
    pub(super) fn are_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// The gateway's own configuration file.
    pub(super) fn config(&self) -> PathBuf {
        self.directory.join("portcullis.yaml")
    }

    /// The certificate that the services' certificates chain to.
    pub(super) fn trust(&self) -> PathBuf {
        self.directory.join("tls/ca.pem")
    }

    fn write_file(&self, name: &str, mode: u32, text: &str) -> Result<(), FilesError> {
        let path = self.directory.join(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(failed(&path))
    }
}

fn make_directory(path: &Path) -> Result<(), FilesError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> FilesError {
    let path = path.to_owned();
    |source| FilesError::Write { path, source }
}

/// The name that the certificate of a service bears.
pub(super) fn server_name(service: &str) -> String {
    format!("{service}.demo.internal")
}

fn gateway_yaml(listener: SocketAddr, issuer: &Issuer, services: &[Service]) -> String {
    let issuer = issuer.url();
    let mut upstreams = String::new();
    for service in services {
        let (name, address) = (service.name(), service.address());
        let server_name = server_name(name);
        upstreams += &format!(
            "  - name: {name}
    addresses: [\"{address}\"]
    tls:
      server_name: {server_name}
      trust: tls/ca.pem
      certificate: tls/gateway.pem
      private_key: tls/gateway.key
"
        );
    }
    format!(
        "# The platform team's file. The service teams' are in policy/.
listeners:
  - name: public
    address: \"{listener}\"
admin: {{ address: \"127.0.0.1:0\" }}
issuers:
  - name: demo
    issuer: {issuer}
    audiences: [{AUDIENCE}]
    keys: {{ discovery: true }}
    algorithms: [ES256]
upstreams:
{upstreams}policy: {{ files: [\"policy/*.yaml\"] }}
access_log: {{ file: access.log }}
shutdown: {{ grace: 0s, drain: 5s }}
"
    )
}

const ORDERS_POLICY: &str = "\
owner: orders-team
scopes:
  \"orders:read\": Read a customer's orders
  \"orders:write\": Place and change orders
routes:
  - name: orders-health
    match: { path: /orders/health, methods: [GET] }
    upstream: orders
    public: true
  - name: orders-read
    match: { path: \"/orders/{id}\", methods: [GET] }
    upstream: orders
    require: { scopes: [\"orders:read\"] }
  - name: orders-place
    match: { path: /orders, methods: [POST] }
    upstream: orders
    require: { scopes: [\"orders:write\"] }
";

const PROFILE_POLICY: &str = "\
owner: profile-team
scopes:
  \"profile:read\": Read one's own profile
routes:
  - name: profile-read
    match: { path: /profile, methods: [GET] }
    upstream: profile
    require: { scopes: [\"profile:read\"] }
";

const READABLE: u32 = 0o644;
const OWNER_ONLY: u32 = 0o600;

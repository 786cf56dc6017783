//! Debian's nginx as a service that demands client certificates.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use tempfile::TempDir;

use crate::pki::write_private;
use crate::process::Process;
use crate::{Authority, Certificate, eventually};

const TEMPLATE: &str = include_str!("../nginx/mutual_tls.conf.template");
const ATTEMPTS: usize = 5;

/// nginx with `ssl_verify_client on`, which answers with what it saw of the caller.
#[derive(Debug)]
pub struct Nginx {
    _process: Process,
    _directory: TempDir,
    address: SocketAddr,
}

impl Nginx {
    /// Starts with this server certificate; callers need one of `client_authority`.
    pub async fn start(certificate: &Certificate, client_authority: &Authority) -> Self {
        for _ in 0..ATTEMPTS {
            if let Some(nginx) = Self::try_start(certificate, client_authority).await {
                return nginx;
            }
        }
        panic!("nginx did not start on any of {ATTEMPTS} free ports");
    }

    /// nginx cannot bind port 0, so a free port is looked for first; somebody may take it meanwhile.
    async fn try_start(certificate: &Certificate, client_authority: &Authority) -> Option<Self> {
        let directory = TempDir::with_prefix("portcullis-e2e-nginx-").unwrap();
        let path = directory.path();
        certificate.write(path, "server");
        write_private(
            &path.join("clients.pem"),
            client_authority.certificate_pem().as_bytes(),
        );
        fs::create_dir(path.join("temp")).unwrap();
        let address = free_address();
        let config = TEMPLATE
            .replace("@DIRECTORY@", path.to_str().unwrap())
            .replace("@ADDRESS@", &address.to_string());
        write_private(&path.join("nginx.conf"), config.as_bytes());

        let mut command = Command::new("/usr/sbin/nginx");
        command
            .arg("-e")
            .arg("stderr")
            .arg("-p")
            .arg(path)
            .arg("-c")
            .arg("nginx.conf");
        let process = std::sync::Mutex::new(Process::start("nginx", command));
        let started = eventually("start of nginx", || async {
            if process.lock().unwrap().exited().is_some() {
                return Some(false);
            }
            TcpStream::connect(address).is_ok().then_some(true)
        })
        .await;
        started.then(|| Self {
            _process: process.into_inner().unwrap(),
            _directory: directory,
            address,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Connection, Leaf, TlsOptions};

    #[tokio::test]
    async fn nginx_answers_those_who_present_a_certificate_and_nobody_else() {
        let authority = Authority::new("internal");
        let nginx = Nginx::start(&authority.issue_for("orders.internal"), &authority).await;
        let anonymous = TlsOptions::new(&authority, "orders.internal");
        let known = anonymous
            .clone()
            .with_certificate(&authority.issue(Leaf::new("gateway")));
        let request = "GET /x HTTP/1.1\r\nHost: orders.internal\r\nX-User-ID: alice\r\n\r\n";

        let mut connection = Connection::open_tls(nginx.address(), &anonymous)
            .await
            .unwrap();
        assert_eq!(connection.request(request).await.status, 400);

        let mut connection = Connection::open_tls(nginx.address(), &known).await.unwrap();
        let response = connection.request(request).await;
        assert_eq!(response.status, 200);
        let text = response.text();
        assert!(
            text.contains("subject=CN=gateway\nverified=SUCCESS\n"),
            "{text}"
        );
        assert!(text.contains("target=/x\nuser=alice\n"), "{text}");
    }
}

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use super::Resolver;
use crate::config::{ClientCertificates, Listener, ListenerTls, ServerCertificate};
use crate::diagnostic::codes;
use crate::document::{self, ClientCertificateMode, TlsVersion};
use crate::node::{NodePath, node_path};

impl Resolver<'_> {
    pub(super) fn listeners(&mut self, written: &[document::Listener]) -> Vec<Listener> {
        let list = node_path!["listeners"];
        if written.is_empty() && !self.read.is_damaged(&list) {
            self.refuse(
                codes::INVALID_VALUE,
                &list,
                "there is no listener",
                "add one with `name:` and `address:`",
            );
        }
        let mut listeners = Vec::new();
        for (path, listener) in self.read.elements(&list, written) {
            let address = self.socket_address(&path.join("address"), &listener.address);
            if let Some(address) = address
                && listener.tls.is_none()
                && !listener.dangerously_plaintext
                && !address.ip().is_loopback()
                && !self.read.is_damaged(&path.join("tls"))
            {
                let message = format!(
                    "listener `{}` speaks plain HTTP on `{address}`, where access tokens can be read by others",
                    listener.name
                );
                let help = "add `tls:`, listen on 127.0.0.1, or say `dangerously_plaintext: true`";
                self.refuse(
                    codes::PLAINTEXT_NOT_LOOPBACK,
                    &path.join("address"),
                    message,
                    help,
                );
            }
            let tls = listener
                .tls
                .as_ref()
                .map(|tls| self.listener_tls(&path.join("tls"), tls));
            if let Some(address) = address {
                listeners.push(Listener {
                    name: listener.name.clone(),
                    address,
                    tls,
                });
            }
        }
        listeners
    }

    /// Where something binds: no two may use the same address.
    pub(super) fn socket_address(&mut self, path: &NodePath, written: &str) -> Option<SocketAddr> {
        let Ok(address) = written.parse::<SocketAddr>() else {
            let help = match written.parse::<std::net::IpAddr>() {
                Ok(_) => "add a port, such as `127.0.0.1:8443` or `[::1]:8443`",
                Err(_) => {
                    "an IP address and a port are needed, such as `0.0.0.0:8443` or `[::]:8443`"
                }
            };
            self.refuse(
                codes::INVALID_ADDRESS,
                path,
                format!("`{written}` cannot be listened on"),
                help,
            );
            return None;
        };
        if let Some((_, first)) = self
            .bound
            .iter()
            .find(|(bound, _)| *bound == address && address.port() != 0)
        {
            let message = format!("`{written}` is listened on twice");
            let help = format!("first at {}", self.source().place_name(first));
            self.refuse(codes::INVALID_ADDRESS, path, message, help);
        }
        self.bound.push((address, path.clone()));
        Some(address)
    }

    fn listener_tls(&mut self, path: &NodePath, tls: &document::ListenerTls) -> ListenerTls {
        let list = path.join("certificates");
        if tls.certificates.is_empty() && !self.read.is_damaged(&list) {
            let help = "add one with `certificate:` and `private_key:`";
            self.refuse(codes::INVALID_VALUE, &list, "there is no certificate", help);
        }
        let shared = tls.client_certificates.as_ref();
        let shared = shared
            .map(|written| self.client_certificates(&path.join("client_certificates"), written));
        let shared = shared.unwrap_or(ClientCertificates::Off);

        let mut certificates: Vec<ServerCertificate> = Vec::new();
        for (path, written) in self.read.elements(&list, &tls.certificates) {
            let own = written.client_certificates.as_ref();
            let own = own.map(|written| {
                self.client_certificates(&path.join("client_certificates"), written)
            });
            let Some(identity) = self.identity(&path, &written.certificate, &written.private_key)
            else {
                continue;
            };
            for name in &identity.chain.names {
                if certificates.iter().any(|other| other.names.contains(name)) {
                    let message = format!("`{name}` is in two certificates of this listener");
                    let help = "which one is shown, and who is asked for a certificate, has to be clear for each name";
                    self.refuse(
                        codes::DUPLICATE_NAME,
                        &path.join("certificate"),
                        message,
                        help,
                    );
                }
            }
            certificates.push(ServerCertificate {
                certified_key: identity.certified_key,
                names: identity.chain.names,
                client_certificates: own.unwrap_or_else(|| shared.clone()),
                not_after: identity.chain.not_after,
            });
        }
        ListenerTls {
            certificates,
            tls13_only: tls.minimum_version == Some(TlsVersion::Tls13),
        }
    }

    fn client_certificates(
        &mut self,
        path: &NodePath,
        written: &document::ClientCertificates,
    ) -> ClientCertificates {
        let trust = written
            .trust
            .as_ref()
            .map(|file| self.trust(&path.join("trust"), file));
        let with: fn(Arc<[CertificateDer<'static>]>) -> ClientCertificates = match written.mode {
            ClientCertificateMode::Off => return ClientCertificates::Off,
            ClientCertificateMode::Optional => ClientCertificates::Optional,
            ClientCertificateMode::Required => ClientCertificates::Required,
        };
        if trust.is_none() && !self.read.is_damaged(&path.join("trust")) {
            let message =
                format!("`{path}` asks callers for certificates and trusts nobody to issue them");
            self.refuse(
                codes::MISSING_KEY,
                path,
                message,
                "add `trust:`, or say `mode: off`",
            );
        }
        trust.flatten().map_or(ClientCertificates::Off, with)
    }
}

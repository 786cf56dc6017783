use std::sync::Arc;

use portcullis_policy::Host;
use rustls::pki_types::ServerName;

use super::{HOUR, MILLISECOND, Resolver, SECOND};
use crate::config::{Address, ClientIdentity, Upstream, UpstreamTls};
use crate::diagnostic::codes;
use crate::document::{self, UpstreamProtocol};
use crate::node::{NodePath, node_path};
use crate::secret::Secret;
use crate::url::is_loopback;

impl Resolver<'_> {
    pub(super) fn upstreams(&mut self, written: &[document::Upstream]) -> Vec<Upstream> {
        let elements = self.read.elements(&node_path!["upstreams"], written);
        elements
            .map(|(path, upstream)| self.upstream(&path, upstream))
            .collect()
    }

    fn upstream(&mut self, path: &NodePath, written: &document::Upstream) -> Upstream {
        let addresses = self.addresses(path, written);
        let tls = written
            .tls
            .as_ref()
            .and_then(|tls| self.upstream_tls(&path.join("tls"), tls));
        let timeouts = written.timeouts.clone().unwrap_or_default();
        let mut timeout = |key: &str, written, default: u32| {
            self.duration(
                &path.join("timeouts").join(key),
                written,
                default * SECOND,
                MILLISECOND..=HOUR,
            )
        };
        let connect_timeout = timeout("connect", timeouts.connect, 5);
        let tls_timeout = timeout("tls", timeouts.tls, 5);
        let response_timeout = timeout("response", timeouts.response, 60);
        let idle_timeout = timeout("idle", timeouts.idle, 50);
        Upstream {
            name: written.name.clone(),
            addresses,
            tls,
            http2: written.protocol == Some(UpstreamProtocol::Http2),
            connect_timeout,
            tls_timeout,
            response_timeout,
            idle_timeout,
            retries: self.number(&path.join("retries"), written.retries, 1, 0..=5),
        }
    }

    fn addresses(&mut self, path: &NodePath, written: &document::Upstream) -> Vec<Address> {
        let list = path.join("addresses");
        if written.addresses.is_empty() && !self.read.is_damaged(&list) {
            let message = format!("upstream `{}` has no address", written.name);
            self.refuse(
                codes::INVALID_VALUE,
                &list,
                message,
                "name at least one `host:port`",
            );
        }
        let is_plain = written.tls.is_none() && !self.read.is_damaged(&path.join("tls"));
        let mut addresses = Vec::new();
        for (path, text) in self.read.elements(&list, &written.addresses) {
            let Some(address) = parse_address(text) else {
                let help =
                    "a host and a port are needed, such as `orders.internal:8443` or `[::1]:8443`";
                self.refuse(
                    codes::INVALID_ADDRESS,
                    &path,
                    format!("`{text}` cannot be connected to"),
                    help,
                );
                continue;
            };
            if is_plain && !written.dangerously_plaintext && !is_loopback(&address.host) {
                let message = format!(
                    "upstream `{}` speaks plain HTTP to `{text}`, where anybody could write identity headers",
                    written.name
                );
                let help = "add `tls:`, connect to 127.0.0.1, or say `dangerously_plaintext: true`";
                self.refuse(codes::PLAINTEXT_NOT_LOOPBACK, &path, message, help);
            }
            addresses.push(address);
        }
        addresses
    }

    fn upstream_tls(
        &mut self,
        path: &NodePath,
        written: &document::UpstreamTls,
    ) -> Option<UpstreamTls> {
        if ServerName::try_from(written.server_name.as_str()).is_err() {
            let message = format!(
                "`{}` is no name that a certificate could bear",
                written.server_name
            );
            let help = "a host name or IP address is needed, without a port";
            self.refuse(
                codes::INVALID_HOST,
                &path.join("server_name"),
                message,
                help,
            );
        }
        let trust = self.trust(&path.join("trust"), &written.trust);
        let identity = match (&written.certificate, &written.private_key) {
            (Some(certificate), Some(private_key)) => self
                .identity(path, certificate, private_key)
                .map(|identity| {
                    Arc::new(ClientIdentity {
                        private_key: Secret::new(identity.private_key.secret_der()),
                        not_after: identity.chain.not_after,
                        chain: identity.chain.certificates,
                    })
                }),
            (None, None) => None,
            (certificate, _) => {
                let lacking = if certificate.is_some() {
                    "private_key"
                } else {
                    "certificate"
                };
                if !self.read.is_damaged(&path.join(lacking)) {
                    let message = format!("`{path}` lacks the key `{lacking}`");
                    let help = "a certificate and its private key come together";
                    self.refuse(codes::MISSING_KEY, path, message, help);
                }
                None
            }
        };
        Some(UpstreamTls {
            server_name: written.server_name.clone(),
            trust: trust?,
            identity,
        })
    }
}

fn parse_address(text: &str) -> Option<Address> {
    let (_, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    // The port is part of what is checked: `Host` would take an authority without one.
    let host = Host::from_authority(text).ok()?;
    Some(Address {
        host: host.as_str().trim_matches(['[', ']']).to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::parse_address;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("orders.internal:8443", "orders.internal", 8443),
            ("127.0.0.1:80", "127.0.0.1", 80),
            ("[::1]:80", "::1", 80),
            ("Orders:1", "orders", 1),
        ] {
            let address = parse_address(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(
                (address.host.as_str(), address.port),
                (host, port),
                "{text}"
            );
        }
        for text in [
            "orders",
            "orders:",
            ":80",
            "orders:0",
            "orders:65536",
            "::1:80",
            "[::1]",
            "a b:1",
            "http://a:1",
            "a:1:2",
        ] {
            assert!(parse_address(text).is_none(), "{text}");
        }
    }
}

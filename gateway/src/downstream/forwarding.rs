//! Where a request came from: `X-Forwarded-For`, `-Proto`, `-Host` (by convention) and `Forwarded`
//! (RFC 7239). A caller's own are believed only where it is one of the configured proxies.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use pingora_http::RequestHeader;
use portcullis_policy::Host;

use super::connection::Connection;
use super::request::{authority_text, single};

pub(crate) static FORWARDED: HeaderName = HeaderName::from_static("forwarded");
pub(crate) static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Hops that are taken over from a proxy; more were not made by proxies.
const MAX_HOPS: usize = 32;

/// Where a request came from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// Who sent it, as far as proxies of ours know.
    hops: Vec<IpAddr>,
    /// The socket's other end: the last hop.
    peer: IpAddr,
    /// The last hop that is not one of our proxies.
    client: IpAddr,
    /// `http` or `https`, as the caller spoke to the outermost proxy.
    proto: &'static str,
    /// The authority that the caller asked the outermost proxy for.
    host: Option<HeaderValue>,
}

impl Origin {
    /// What the socket says, and what a trusted proxy says.
    pub(crate) fn of(header: &RequestHeader, connection: &Connection, trusted: &[IpNet]) -> Self {
        let peer = connection.peer.ip();
        let is_trusted = |address: &IpAddr| trusted.iter().any(|proxies| proxies.contains(address));
        let mut origin = Self {
            hops: Vec::new(),
            peer,
            client: peer,
            proto: connection.scheme(),
            host: match header.headers.get(http::header::HOST) {
                Some(host) => Some(host.clone()),
                None => authority_text(header).and_then(|host| HeaderValue::from_bytes(host).ok()),
            },
        };
        if trusted.is_empty() || !is_trusted(&peer) {
            return origin;
        }
        let hops = named_hops(&header.headers);
        origin.client = hops
            .iter()
            .rev()
            .find(|hop| !is_trusted(hop))
            .or(hops.first())
            .copied()
            .unwrap_or(peer);
        origin.hops = hops;
        match single(&header.headers, &FORWARDED_PROTO).map(HeaderValue::as_bytes) {
            Some(b"http") => origin.proto = "http",
            Some(b"https") => origin.proto = "https",
            _ => {}
        }
        let host = single(&header.headers, &FORWARDED_HOST).filter(|host| {
            host.to_str()
                .is_ok_and(|host| Host::from_authority(host).is_ok())
        });
        if let Some(host) = host {
            origin.host = Some(host.clone());
        }
        origin
    }

    /// Who sent the request.
    pub(crate) const fn client(&self) -> IpAddr {
        self.client
    }

    /// Writes what a service gets to know, in both notations.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let mut addresses = String::with_capacity(40);
        let mut elements = String::with_capacity(80);
        for hop in self.hops.iter().chain([&self.peer]) {
            if !addresses.is_empty() {
                addresses.push_str(", ");
                elements.push_str(", ");
            }
            let start = addresses.len();
            // Writing to a `String` cannot fail.
            let _ = write!(addresses, "{hop}");
            // RFC 7239 §4: a colon or bracket is no token. Here and below, `push_str` and not `write!`:
            // formatting is slow, and this is done for every request.
            let (before, after) = match hop {
                IpAddr::V4(_) => ("for=", ""),
                IpAddr::V6(_) => ("for=\"[", "]\""),
            };
            elements.push_str(before);
            elements.push_str(addresses.get(start..).unwrap_or_default());
            elements.push_str(after);
        }
        elements.push_str(";proto=");
        elements.push_str(self.proto);
        if let Some(host) = self.host.as_ref().and_then(|host| host.to_str().ok()) {
            let quote = if host.contains([':', '[']) { "\"" } else { "" };
            for part in [";host=", quote, host, quote] {
                elements.push_str(part);
            }
        }
        // Addresses, and parts of header values, are header values.
        let written = [(&FORWARDED_FOR, addresses), (&FORWARDED, elements)];
        for (name, text) in written {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name.clone(), value);
            }
        }
        headers.insert(
            FORWARDED_PROTO.clone(),
            HeaderValue::from_static(self.proto),
        );
        if let Some(host) = &self.host {
            headers.insert(FORWARDED_HOST.clone(), host.clone());
        }
    }
}

/// The addresses that `X-Forwarded-For` names, from the right until one is none.
fn named_hops(headers: &HeaderMap) -> Vec<IpAddr> {
    let lines: Vec<&str> = headers
        .get_all(&FORWARDED_FOR)
        .iter()
        .map(|line| line.to_str().unwrap_or("unreadable"))
        .collect();
    let mut hops: Vec<IpAddr> = lines
        .iter()
        .rev()
        .flat_map(|line| line.rsplit(','))
        .map_while(|hop| address(hop.trim()))
        .map(|hop| hop.to_canonical())
        .take(MAX_HOPS)
        .collect();
    hops.reverse();
    hops
}

/// Some proxies say the port, too.
fn address(hop: &str) -> Option<IpAddr> {
    let with_port = || hop.parse().ok().map(|hop: SocketAddr| hop.ip());
    hop.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::downstream::inbound::Inbound;

    fn origin(peer: &str, fields: &[(&'static str, &str)]) -> Origin {
        let mut header = RequestHeader::build("GET", b"/", None).unwrap();
        header.insert_header("host", "inner.example:8443").unwrap();
        for (name, value) in fields {
            header.append_header(*name, *value).unwrap();
        }
        let connection = Connection {
            listener: Arc::from("public"),
            peer: format!("{peer}:1").parse().unwrap(),
            tls: None,
            is_surplus: false,
            load: Arc::default(),
            inbound: Inbound::default(),
        };
        Origin::of(&header, &connection, &["10.0.0.0/8".parse().unwrap()])
    }

    fn written(origin: &Origin) -> [String; 4] {
        let mut headers = HeaderMap::new();
        origin.write(&mut headers);
        [
            &FORWARDED_FOR,
            &FORWARDED_PROTO,
            &FORWARDED_HOST,
            &FORWARDED,
        ]
        .map(|name| headers[name].to_str().unwrap().to_owned())
    }

    const CLAIMS: [(&str, &str); 3] = [
        ("x-forwarded-for", "203.0.113.7, 10.0.0.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "api.example"),
    ];

    #[test]
    fn hop_with_a_port_is_its_address() {
        for (text, expected) in [
            ("203.0.113.7:40000", "203.0.113.7"),
            ("[2001:db8::1]:1000", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(address(text), expected.parse().ok(), "{text}");
        }
        for text in ["", "unknown", "203.0.113.7:x", "[2001:db8::1]"] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn a_strangers_claims_count_for_nothing() {
        let origin = origin("192.0.2.1", &CLAIMS);
        assert_eq!(origin.client().to_string(), "192.0.2.1");
        assert_eq!(
            written(&origin),
            [
                "192.0.2.1",
                "http",
                "inner.example:8443",
                "for=192.0.2.1;proto=http;host=\"inner.example:8443\""
            ]
        );
    }

    #[test]
    fn a_proxys_claims_are_extended_and_the_last_stranger_is_the_client() {
        let origin = origin("10.0.0.9", &CLAIMS);
        assert_eq!(origin.client().to_string(), "203.0.113.7");
        assert_eq!(
            written(&origin),
            [
                "203.0.113.7, 10.0.0.2, 10.0.0.9",
                "https",
                "api.example",
                "for=203.0.113.7, for=10.0.0.2, for=10.0.0.9;proto=https;host=api.example"
            ]
        );
    }

    #[test]
    fn what_a_client_slipped_in_before_its_proxy_is_not_the_client() {
        for (lines, client, hops) in [
            (
                &["1.1.1.1, 203.0.113.7"][..],
                "203.0.113.7",
                "1.1.1.1, 203.0.113.7, 10.0.0.9",
            ),
            (
                &["junk, 203.0.113.7"],
                "203.0.113.7",
                "203.0.113.7, 10.0.0.9",
            ),
            (&["203.0.113.7, junk"], "10.0.0.9", "10.0.0.9"),
            (
                &["1.1.1.1", "::ffff:203.0.113.7"],
                "203.0.113.7",
                "1.1.1.1, 203.0.113.7, 10.0.0.9",
            ),
            (&["10.1.1.1"], "10.1.1.1", "10.1.1.1, 10.0.0.9"),
            (&[""], "10.0.0.9", "10.0.0.9"),
        ] {
            let fields: Vec<_> = lines
                .iter()
                .map(|line| ("x-forwarded-for", *line))
                .collect();
            let origin = origin("10.0.0.9", &fields);
            assert_eq!(origin.client().to_string(), client, "{lines:?}");
            assert_eq!(written(&origin)[0], hops, "{lines:?}");
        }
    }

    #[test]
    fn a_proxys_junk_is_not_passed_on() {
        let fields = [("x-forwarded-proto", "gopher"), ("x-forwarded-host", "a b")];
        let [_, proto, host, _] = written(&origin("10.0.0.9", &fields));
        assert_eq!(
            (proto.as_str(), host.as_str()),
            ("http", "inner.example:8443")
        );
    }
}

//! The addresses of issuers and key sets.

use std::net::IpAddr;

use portcullis_policy::Host;

/// An `http` or `https` address, looked at closely enough to say whether it is safe to trust.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    pub(crate) is_https: bool,
    /// Host and port.
    pub(crate) authority: &'a str,
    /// Empty, or from its first slash.
    pub(crate) path: &'a str,
    pub(crate) has_query: bool,
    pub(crate) host: Host,
}

/// Why a text is no such address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InvalidUrl {
    Scheme,
    /// `user:password@`; the text must not be shown.
    UserInfo,
    Fragment,
    Characters,
    Authority,
}

impl<'a> Url<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidUrl::Scheme)?;
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(authority_end);
        // First of all, so that no other error shows the text.
        if authority.contains('@') {
            return Err(InvalidUrl::UserInfo);
        }
        let is_https = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(InvalidUrl::Scheme),
        };
        if rest.contains('#') {
            return Err(InvalidUrl::Fragment);
        }
        if !text.bytes().all(|byte| {
            byte.is_ascii_graphic()
                && !matches!(
                    byte,
                    b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
                )
        }) {
            return Err(InvalidUrl::Characters);
        }
        let host = Host::from_authority(authority).map_err(|_| InvalidUrl::Authority)?;
        let (path, query) = rest
            .split_once('?')
            .map_or((rest, None), |(path, query)| (path, Some(query)));
        Ok(Self {
            is_https,
            authority,
            path,
            has_query: query.is_some(),
            host,
        })
    }

    /// Whether nobody but this machine could listen in.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(self.host.as_str().trim_matches(['[', ']']))
    }

    /// The metadata documents of this issuer: OpenID Connect Discovery §4.1 puts the well-known part
    /// behind the path, RFC 8414 §3.1 before it; both drop a slash at the end of the issuer.
    pub(crate) fn metadata_urls(&self) -> Vec<String> {
        let scheme = if self.is_https { "https" } else { "http" };
        let (authority, path) = (
            self.authority,
            self.path.strip_suffix('/').unwrap_or(self.path),
        );
        vec![
            format!("{scheme}://{authority}{path}/.well-known/openid-configuration"),
            format!("{scheme}://{authority}/.well-known/oauth-authorization-server{path}"),
        ]
    }
}

/// Whether `host`, a name or an address without brackets, is this machine for certain.
pub(crate) fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidUrl, Url, is_loopback};

    #[test]
    fn only_plain_http_addresses_are_read() {
        let cases = [
            ("login.example", InvalidUrl::Scheme),
            ("ftp://login.example", InvalidUrl::Scheme),
            ("https://user:pass@login.example", InvalidUrl::UserInfo),
            ("ftp://user@login.example", InvalidUrl::UserInfo),
            ("https://login.example/#x", InvalidUrl::Fragment),
            ("https://login.example/a b", InvalidUrl::Characters),
            ("https://login.example/\u{e9}", InvalidUrl::Characters),
            ("https:///path", InvalidUrl::Authority),
            ("https://login.example:0", InvalidUrl::Authority),
            ("https://login.example:port", InvalidUrl::Authority),
        ];
        for (text, expected) in cases {
            assert_eq!(Url::parse(text), Err(expected), "{text}");
        }
        for text in [
            "https://login.example",
            "http://[::1]:8080/a?b=c",
            "https://login.example/tenant/v2.0/",
        ] {
            assert!(Url::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn metadata_is_looked_for_where_both_specifications_say() {
        let urls = Url::parse("https://login.example/tenant/")
            .unwrap()
            .metadata_urls();
        assert_eq!(
            urls,
            [
                "https://login.example/tenant/.well-known/openid-configuration",
                "https://login.example/.well-known/oauth-authorization-server/tenant",
            ]
        );
    }

    #[test]
    fn loopback_is_an_address_or_localhost() {
        for host in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "localhost",
            "LOCALHOST",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "0.0.0.0",
            "10.0.0.1",
            "::",
            "localhost.example",
            "127.0.0.1.example",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}

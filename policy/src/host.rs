use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The host of an authority: a DNS name in lower case without the final dot, an IPv4 address, or an
/// IPv6 address in brackets. Never a port, never user information.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Box<str>);

/// Text that is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a host name or IP address")]
pub struct InvalidHost;

/// DNS names end at 253 octets (RFC 1035 §2.3.4).
const MAX_HOST_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

impl Host {
    /// The host in its canonical spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses an authority as it stands in `Host` or `:authority`: host and optional port
    /// (RFC 9110 §7.2). The port is checked and dropped.
    ///
    /// # Errors
    /// When it has user information, an empty or unusable host, or a port that is none.
    pub fn from_authority(authority: &str) -> Result<Self, InvalidHost> {
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let end = rest.find(']').ok_or(InvalidHost)?;
                let (address, after) = rest.split_at(end);
                let after = after.strip_prefix(']').ok_or(InvalidHost)?;
                let port = match after {
                    "" => None,
                    after => Some(after.strip_prefix(':').ok_or(InvalidHost)?),
                };
                let address: Ipv6Addr = address.parse().map_err(|_| InvalidHost)?;
                (Self(format!("[{address}]").into()), port)
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host.parse()?, Some(port)),
                None => (authority.parse()?, None),
            },
        };
        match port {
            None => Ok(host),
            Some(port)
                if (1..=5).contains(&port.len())
                    && port.bytes().all(|byte| byte.is_ascii_digit())
                    && port.parse::<u16>().is_ok_and(|port| port != 0) =>
            {
                Ok(host)
            }
            Some(_) => Err(InvalidHost),
        }
    }
}

impl FromStr for Host {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(address) = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            let address: Ipv6Addr = address.parse().map_err(|_| InvalidHost)?;
            return Ok(Self(format!("[{address}]").into()));
        }
        // A fully qualified name with its root dot is the same host (CVE-2022-23632 was a proxy
        // that thought otherwise).
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() || name.len() > MAX_HOST_BYTES {
            return Err(InvalidHost);
        }
        let label_is_valid = |label: &str| {
            !label.is_empty()
                && label.len() <= MAX_LABEL_BYTES
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        if name.split('.').all(label_is_valid) {
            Ok(Self(name.to_ascii_lowercase().into()))
        } else {
            Err(InvalidHost)
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_of_one_host_have_one_spelling() {
        for authority in [
            "api.acme.example",
            "API.acme.example",
            "api.acme.example.",
            "api.acme.example:8443",
            "Api.Acme.Example.:1",
        ] {
            assert_eq!(
                Host::from_authority(authority).unwrap().as_str(),
                "api.acme.example",
                "{authority}"
            );
        }
        assert_eq!(
            Host::from_authority("[0:0::1]:443").unwrap().as_str(),
            "[::1]"
        );
        assert_eq!(
            Host::from_authority("127.0.0.1:80").unwrap().as_str(),
            "127.0.0.1"
        );
    }

    #[test]
    fn junk_is_no_authority() {
        for authority in [
            "", ".", "a..b", "a, b", "a b", "user@a", "a/b", "a:", "a:0", "a:99999", "a:+1",
            "a:1:2", "[::1", "[::1]x", "[::1]:", "[zz]", "-a", "a-", "ä", "a\\b", "a?b", "a#b",
            "a%2eb", ":80",
        ] {
            assert_eq!(
                Host::from_authority(authority),
                Err(InvalidHost),
                "{authority}"
            );
        }
    }
}

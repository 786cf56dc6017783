use http::HeaderName;

/// What services are told about the caller: header to claim.
#[derive(Debug, Clone)]
pub struct IdentityHeaders(Vec<(HeaderName, Box<str>)>);

/// A mapping that would not be safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentityHeaders {
    /// The name cannot be that of a header.
    #[error("`{0}` is not a header name")]
    NotAHeaderName(String),
    /// The gateway or the protocol gives this header its meaning.
    #[error("`{0}` has a meaning of its own and cannot carry identity")]
    Reserved(String),
    /// A service may fold the two into one.
    #[error("`{0}` and `{1}` are one header to services that fold `_` and `-`")]
    FoldTogether(String, String),
}

const RESERVED: [&str; 22] = [
    "accept",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authorization",
    "set-cookie",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-request-id",
];

impl IdentityHeaders {
    /// Header names, in any case, to claims.
    ///
    /// # Errors
    /// When a name is no header, has a meaning of its own, or folds to the same as another.
    pub fn new<'a>(
        mapping: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, InvalidIdentityHeaders> {
        let mut headers: Vec<(HeaderName, Box<str>)> = Vec::new();
        for (name, claim) in mapping {
            let header = HeaderName::try_from(name)
                .map_err(|_| InvalidIdentityHeaders::NotAHeaderName(name.into()))?;
            let folded = fold(header.as_str());
            if RESERVED.contains(&folded.as_str()) || folded.starts_with("x-forwarded-") {
                return Err(InvalidIdentityHeaders::Reserved(name.into()));
            }
            if let Some((other, _)) = headers
                .iter()
                .find(|(other, _)| fold(other.as_str()) == folded)
            {
                return Err(InvalidIdentityHeaders::FoldTogether(
                    other.to_string(),
                    name.into(),
                ));
            }
            headers.push((header, claim.into()));
        }
        Ok(Self(headers))
    }

    /// Header and claim, as configured.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &str)> {
        self.0.iter().map(|(header, claim)| (header, &**claim))
    }
}

impl Default for IdentityHeaders {
    fn default() -> Self {
        let header = HeaderName::from_static;
        Self(vec![
            (header("x-user-id"), "sub".into()),
            (header("x-scopes"), "scope".into()),
            (header("x-client-id"), "client_id".into()),
        ])
    }
}

/// The one spelling of all names that a service may take for the same: CGI and its heirs ignore
/// case, and some of them turn everything that is no letter or digit into `_`. Runs of such bytes
/// count as one, and at the end they count for nothing: somebody may trim them.
pub(crate) fn fold(name: &str) -> String {
    let mut buffer = vec![0; name.len()];
    let folded = fold_into(name, &mut buffer).unwrap_or_default();
    folded.iter().copied().map(char::from).collect()
}

/// [`fold`] into a buffer; `None` when it is shorter than the name.
pub(crate) fn fold_into<'b>(name: &str, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    if name.len() > buffer.len() {
        return None;
    }
    let mut length = 0;
    let mut last = b'-';
    for byte in name.bytes().map(fold_byte) {
        if (byte, last) != (b'-', b'-') {
            *buffer.get_mut(length)? = byte;
            length += 1;
        }
        last = byte;
    }
    let folded = buffer.get(..length)?;
    Some(folded.strip_suffix(b"-").unwrap_or(folded))
}

const fn fold_byte(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() {
        byte.to_ascii_lowercase()
    } else {
        b'-'
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_mappings_are_refused() {
        assert!(IdentityHeaders::new([("a b", "sub")]).is_err());
        assert!(IdentityHeaders::new([("Authorization", "sub")]).is_err());
        assert!(IdentityHeaders::new([("x_forwarded_for", "sub")]).is_err());
        assert!(IdentityHeaders::new([("x-user", "sub"), ("x_user", "email")]).is_err());
    }
}

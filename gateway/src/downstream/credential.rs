//! What a request presents: one access token in `Authorization`, and nothing beside it.

use http::header::AUTHORIZATION;
use pingora_http::RequestHeader;
use portcullis_policy::Denial;

/// Finds the access token of a request.
///
/// A token in the query is no credential at all (RFC 9700 §4.3.2), and neither is another scheme
/// than `Bearer`: both are answered like a request without a credential.
///
/// # Errors
/// [`Denial::CredentialMissing`] when there is none, [`Denial::CredentialRepeated`] when there are
/// two, [`Denial::CredentialMalformed`] or [`Denial::TokenMalformed`] when it cannot be one.
pub(crate) fn find<'s>(
    header: &'s RequestHeader,
    query: Option<&str>,
    longest_token: usize,
) -> Result<&'s str, Denial> {
    let mut fields = header.headers.get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else {
        return Err(Denial::CredentialMissing);
    };
    if fields.next().is_some() {
        return Err(Denial::CredentialRepeated);
    }
    let field = field.as_bytes();
    let scheme_end = field
        .iter()
        .position(|byte| *byte == b' ')
        .unwrap_or(field.len());
    let (scheme, rest) = field.split_at(scheme_end);
    // RFC 9110 §11.1: schemes are compared without regard to case.
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(if scheme.contains(&b'\t') {
            Denial::CredentialMalformed
        } else {
            Denial::CredentialMissing
        });
    }
    // RFC 6750 §3.1: more than one method for sending a token.
    if query.is_some_and(has_access_token) {
        return Err(Denial::CredentialRepeated);
    }
    // RFC 6750 §2.1: `1*SP`, and nothing else that somebody may take for a space.
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    let token = rest.get(spaces..).unwrap_or_default();
    let token = std::str::from_utf8(token).map_err(|_| Denial::CredentialMalformed)?;
    if !is_b64token(token) {
        return Err(Denial::CredentialMalformed);
    }
    if token.len() > longest_token {
        return Err(Denial::TokenMalformed);
    }
    Ok(token)
}

/// `b64token` of RFC 6750 §2.1.
fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    // Without a branch for each byte: this looks at the whole token on every request.
    let is_allowed = |byte: u8| TOKEN_BYTES.get(usize::from(byte)).copied().unwrap_or(false);
    !body.is_empty()
        && body
            .bytes()
            .fold(true, |good, byte| good & is_allowed(byte))
}

static TOKEN_BYTES: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let is_allowed =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
        #[expect(clippy::indexing_slicing, reason = "a byte has an entry")]
        {
            allowed[byte as usize] = is_allowed;
        }
        byte += 1;
    }
    allowed
};

/// Whether a query has a parameter that some service would take a token from.
fn has_access_token(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "access_token")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(fields: &[&str], query: Option<&str>) -> Result<String, Denial> {
        let mut header = RequestHeader::build("GET", b"/", None).unwrap();
        for field in fields {
            header.append_header("authorization", *field).unwrap();
        }
        find(&header, query, 16).map(str::to_owned)
    }

    #[test]
    fn one_bearer_token_is_found_whatever_the_case_of_its_scheme() {
        for field in [
            "Bearer abc.d-e_f~+/==",
            "bearer abc.d-e_f~+/==",
            "BEARER  abc.d-e_f~+/==",
        ] {
            assert_eq!(
                find_in(&[field], None).as_deref(),
                Ok("abc.d-e_f~+/=="),
                "{field}"
            );
        }
    }

    #[test]
    fn everything_else_is_refused_as_what_it_is() {
        use Denial::{CredentialMalformed, CredentialMissing, CredentialRepeated, TokenMalformed};
        for (name, fields, query, denial) in [
            ("nothing", &[][..], None, CredentialMissing),
            (
                "query alone",
                &[],
                Some("access_token=a"),
                CredentialMissing,
            ),
            ("basic", &["Basic YTpi"], None, CredentialMissing),
            ("dpop", &["DPoP abc"], None, CredentialMissing),
            ("two", &["Bearer a", "Bearer a"], None, CredentialRepeated),
            (
                "two schemes",
                &["Basic YTpi", "Bearer a"],
                None,
                CredentialRepeated,
            ),
            (
                "both places",
                &["Bearer a"],
                Some("x=1&access_token=b"),
                CredentialRepeated,
            ),
            (
                "escaped",
                &["Bearer a"],
                Some("access%5Ftoken=b"),
                CredentialRepeated,
            ),
            ("no token", &["Bearer"], None, CredentialMalformed),
            ("spaces", &["Bearer  "], None, CredentialMalformed),
            ("two words", &["Bearer a b"], None, CredentialMalformed),
            ("list", &["Bearer a, Bearer b"], None, CredentialMalformed),
            ("quotes", &["Bearer \"a\""], None, CredentialMalformed),
            ("padding alone", &["Bearer =="], None, CredentialMalformed),
            ("tab", &["Bearer\ta"], None, CredentialMalformed),
            (
                "too long",
                &["Bearer aaaaaaaaaaaaaaaaa"],
                None,
                TokenMalformed,
            ),
        ] {
            assert_eq!(find_in(fields, query), Err(denial), "{name}");
        }
    }
}

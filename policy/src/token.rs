use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::json::Members;
use crate::scope::is_scope_token;
use crate::{
    Algorithm, Denial, Issuer, IssuerId, IssuerSet, KeySet, ScopeClaim, TokenProfile, UnixTime,
};

/// An access token as it was presented: a compact JWS (RFC 7515 §3.1), nothing of it verified.
/// There is no `Debug`: the token is a secret.
#[expect(
    missing_debug_implementations,
    reason = "the token must not be printed"
)]
pub struct PresentedToken<'t> {
    jws: Jws<'t>,
    claims: Members,
}

impl<'t> PresentedToken<'t> {
    /// Takes a compact JWS apart. Its length was bounded by the caller.
    ///
    /// # Errors
    /// When it is malformed, has a refused header member, or an algorithm that is never accepted.
    pub fn parse(compact: &'t str) -> Result<Self, Denial> {
        let (jws, payload) = Jws::parse(compact)?;
        let claims = Members::parse(&payload).ok_or(Denial::TokenMalformed)?;
        Ok(Self { jws, claims })
    }

    /// Claims as somebody supposes them, in an access token of the right type.
    pub(crate) fn supposed(claims: &[u8]) -> Result<Self, Denial> {
        let claims = Members::parse(claims).ok_or(Denial::TokenMalformed)?;
        Ok(Self {
            jws: Jws {
                signing_input: &[],
                signature: Vec::new(),
                algorithm: Algorithm::RS256,
                key_id: None,
                kind: Some("at+jwt".into()),
            },
            claims,
        })
    }

    /// The configured issuer that the token names.
    ///
    /// # Errors
    /// When `iss` is no string, or names none.
    pub fn issuer<'i>(&self, issuers: &'i IssuerSet) -> Result<(IssuerId, &'i Issuer), Denial> {
        let iss = self
            .claims
            .get("iss")
            .and_then(Value::as_str)
            .ok_or(Denial::TokenClaimInvalid { claim: "iss" })?;
        issuers.find(iss).ok_or(Denial::IssuerUnknown)
    }

    /// The key that the token names.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.jws.key_id.as_deref()
    }

    /// The order of checks: algorithm, key and signature, type, then claims at `now`.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(
        self,
        issuer: (IssuerId, &Issuer),
        keys: &KeySet,
        now: UnixTime,
    ) -> Result<VerifiedToken, Denial> {
        self.check_algorithm(issuer.1)?;
        self.jws.verify(keys)?;
        self.check_content(issuer, now)
    }

    /// RFC 8725 §3.1: before any key is used.
    pub(crate) fn check_algorithm(&self, issuer: &Issuer) -> Result<(), Denial> {
        if issuer.algorithms.contains(&self.jws.algorithm) {
            Ok(())
        } else {
            Err(Denial::TokenAlgorithmRefused)
        }
    }

    /// All that is to be checked when the signature is known to be good, or is supposed to be.
    pub(crate) fn check_content(
        self,
        (id, issuer): (IssuerId, &Issuer),
        now: UnixTime,
    ) -> Result<VerifiedToken, Denial> {
        self.check_type(issuer.profile)?;
        let claims = self.claims;
        if claims.get("iss").and_then(Value::as_str) != Some(&*issuer.issuer) {
            return Err(Denial::TokenClaimInvalid { claim: "iss" });
        }
        check_audience(claims.get("aud"), &issuer.audiences)?;
        let leeway = issuer.leeway;
        let expires_at = time(&claims, "exp")?.ok_or(Denial::TokenClaimInvalid { claim: "exp" })?;
        let refused_from = expires_at.saturating_add(leeway);
        if now >= refused_from {
            return Err(Denial::TokenExpired);
        }
        let latest = now.saturating_add(leeway);
        if time(&claims, "nbf")?.is_some_and(|not_before| not_before > latest) {
            return Err(Denial::TokenNotYetValid);
        }
        if time(&claims, "iat")?
            .is_some_and(|issued_at| issued_at > latest || issued_at > expires_at)
        {
            return Err(Denial::TokenNotYetValid);
        }
        for name in ["sub", "client_id", "azp", "jti"] {
            if claims
                .get(name)
                .is_some_and(|value| value.as_str().is_none_or(str::is_empty))
            {
                return Err(Denial::TokenClaimInvalid { claim: name });
            }
        }
        if !claims.has("sub") {
            return Err(Denial::TokenClaimInvalid { claim: "sub" });
        }
        // RFC 7800 §3: it is good in the hands of whoever holds a key, and nobody has shown one.
        if claims.has("cnf") {
            return Err(Denial::TokenClaimInvalid { claim: "cnf" });
        }
        let scopes = scopes(&claims, issuer.scope_claim)?;
        Ok(VerifiedToken {
            issuer: id,
            claims,
            scopes,
            refused_from,
        })
    }

    /// RFC 9068 §4; RFC 8725 §3.11, §3.12: a token of another kind is no access token.
    fn check_type(&self, profile: TokenProfile) -> Result<(), Denial> {
        let is_of = |kind| self.jws.kind.as_deref().map(|typ| is_media_type(typ, kind));
        match profile {
            _ if is_of("at+jwt") == Some(true) => Ok(()),
            TokenProfile::Jwt if is_of("jwt") != Some(false) => {
                let has_mark = ["nonce", "at_hash", "c_hash", "events"]
                    .iter()
                    .any(|mark| self.claims.has(mark));
                let names_other_kind = ["typ", "token_use"].iter().any(|name| {
                    self.claims
                        .get(name)
                        .and_then(Value::as_str)
                        .is_some_and(|kind| {
                            ["id", "refresh", "offline", "logout"]
                                .iter()
                                .any(|other| kind.eq_ignore_ascii_case(other))
                        })
                });
                if has_mark || names_other_kind {
                    Err(Denial::TokenTypeRefused)
                } else {
                    Ok(())
                }
            }
            _ => Err(Denial::TokenTypeRefused),
        }
    }
}

/// Whether `typ` is the media type `application/KIND`, whose first part may be left out (RFC 7515
/// §4.1.9). Media types have no case.
fn is_media_type(typ: &str, kind: &str) -> bool {
    const PREFIX: &str = "application/";
    let short = match typ.split_at_checked(PREFIX.len()) {
        Some((prefix, short)) if prefix.eq_ignore_ascii_case(PREFIX) => short,
        _ => typ,
    };
    short.eq_ignore_ascii_case(kind)
}

/// A compact JWS (RFC 7515 §3.1) taken apart, whatever its payload is.
struct Jws<'t> {
    signing_input: &'t [u8],
    signature: Vec<u8>,
    algorithm: Algorithm,
    key_id: Option<Box<str>>,
    kind: Option<Box<str>>,
}

/// Header members that would let the token choose its key, its protection or its encoding
/// (RFC 8725 §3.10, RFC 7797, RFC 7516), and `cty`, which says that the payload is another token.
const REFUSED_HEADER_MEMBERS: [&str; 9] = [
    "crit", "b64", "zip", "enc", "jku", "jwk", "x5u", "x5c", "cty",
];

impl<'t> Jws<'t> {
    /// The JWS and its payload.
    fn parse(compact: &'t str) -> Result<(Self, Vec<u8>), Denial> {
        let mut parts = compact.splitn(4, '.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Denial::TokenMalformed);
        };
        let decode = |part: &str| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| Denial::TokenMalformed)
        };
        let header_json = decode(header)?;
        let members = Members::parse(&header_json).ok_or(Denial::TokenMalformed)?;
        if REFUSED_HEADER_MEMBERS
            .iter()
            .any(|refused| members.has(refused))
        {
            return Err(Denial::TokenHeaderRefused);
        }
        let algorithm = members
            .get("alg")
            .and_then(Value::as_str)
            .and_then(|name| name.parse().ok())
            .ok_or(Denial::TokenAlgorithmRefused)?;
        let text = |name| match members.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(Box::<str>::from(text.as_str()))),
            Some(_) => Err(Denial::TokenMalformed),
        };
        let signing_input = compact
            .get(..header.len() + 1 + payload.len())
            .ok_or(Denial::TokenMalformed)?;
        let jws = Self {
            signing_input: signing_input.as_bytes(),
            signature: decode(signature)?,
            algorithm,
            key_id: text("kid")?,
            kind: text("typ")?,
        };
        Ok((jws, decode(payload)?))
    }

    fn verify(&self, keys: &KeySet) -> Result<(), Denial> {
        keys.verify(
            self.key_id.as_deref(),
            self.algorithm,
            self.signing_input,
            &self.signature,
        )
    }
}

/// Checks `aud`, a string or a list of strings, against the accepted values (RFC 7519 §4.1.3).
fn check_audience(aud: Option<&Value>, accepted: &[Box<str>]) -> Result<(), Denial> {
    let is_accepted = |value: &str| accepted.iter().any(|audience| &**audience == value);
    let matches = match aud {
        Some(Value::String(value)) => is_accepted(value),
        Some(Value::Array(values)) => {
            if !values.iter().all(Value::is_string) {
                return Err(Denial::TokenClaimInvalid { claim: "aud" });
            }
            values.iter().filter_map(Value::as_str).any(is_accepted)
        }
        _ => return Err(Denial::TokenClaimInvalid { claim: "aud" }),
    };
    if matches {
        Ok(())
    } else {
        Err(Denial::TokenAudienceMismatch)
    }
}

/// Year 9999: what is later is no NumericDate that anybody means.
const LATEST_SECONDS: i64 = 253_402_300_799;

/// A NumericDate in whole seconds. A fraction, which RFC 7519 §2 allows, is cut off.
fn time(claims: &Members, claim: &'static str) -> Result<Option<UnixTime>, Denial> {
    let Some(value) = claims.get(claim) else {
        return Ok(None);
    };
    let seconds = match value {
        Value::Number(number) => number
            .as_i64()
            .or_else(|| whole_seconds(&number.to_string())),
        _ => None,
    };
    match seconds {
        Some(seconds) if (0..=LATEST_SECONDS).contains(&seconds) => {
            Ok(Some(UnixTime::from_seconds(seconds)))
        }
        _ => Err(Denial::TokenClaimInvalid { claim }),
    }
}

/// `1.5` is 1, but `1.5e300` is not: it would be a time in the past.
fn whole_seconds(number: &str) -> Option<i64> {
    let (whole, fraction) = number.split_once('.')?;
    let is_plain = fraction.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| whole.parse().ok()).flatten()
}

fn scopes(claims: &Members, claim: ScopeClaim) -> Result<Vec<Box<str>>, Denial> {
    let invalid = Denial::TokenClaimInvalid {
        claim: claim.as_str(),
    };
    let words: Vec<Box<str>> = match (claims.get(claim.as_str()), claim) {
        (None, _) => Vec::new(),
        (Some(Value::String(text)), _) => text
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(Into::into)
            .collect(),
        (Some(Value::Array(items)), ScopeClaim::Scp) => items
            .iter()
            .map(|item| item.as_str().map(Into::into))
            .collect::<Option<_>>()
            .ok_or_else(|| invalid.clone())?,
        (Some(_), _) => return Err(invalid),
    };
    if words.iter().all(|word| is_scope_token(word)) {
        Ok(words)
    } else {
        Err(invalid)
    }
}

/// An access token whose signature, type and claims were checked. Outside this crate,
/// [`PresentedToken::verify`] alone makes one; `what_if` makes others, which cannot leave it.
#[expect(
    missing_debug_implementations,
    reason = "claims are about people and must not be printed"
)]
pub struct VerifiedToken {
    issuer: IssuerId,
    claims: Members,
    scopes: Vec<Box<str>>,
    refused_from: UnixTime,
}

impl VerifiedToken {
    /// Who issued it.
    #[must_use]
    pub const fn issuer(&self) -> IssuerId {
        self.issuer
    }

    /// A claim.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }

    /// `sub`, which is never empty.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.claim("sub")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// `client_id`, or `azp` where there is none.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        self.claim("client_id")
            .or_else(|| self.claim("azp"))
            .and_then(Value::as_str)
    }

    /// The granted scopes, as written.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(|scope| &**scope)
    }

    /// From when on it is refused: `exp` and the issuer's leeway.
    #[must_use]
    pub const fn refused_from(&self) -> UnixTime {
        self.refused_from
    }
}

#[cfg(test)]
mod tests;

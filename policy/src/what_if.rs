use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::{
    Access, Denial, IdentityHeaders, IssuerId, IssuerSet, KeySet, PresentedToken, Principal, Route,
    ScopeRegistry, UnixTime, VerifiedToken, decide,
};

/// What a caller is supposed to present.
#[derive(Clone, Copy)]
#[expect(
    missing_debug_implementations,
    reason = "the token must not be printed"
)]
pub enum Evidence<'a> {
    /// Nothing.
    Nothing,
    /// A token. Without keys its signature is supposed to be good.
    Token(&'a str, Option<&'a KeySet>),
    /// The claims of a token whose signature and type are supposed to be good, as JSON.
    Claims(&'a [u8]),
}

/// Who a supposed caller would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupposedPrincipal {
    /// The issuer of the token.
    pub issuer: IssuerId,
    /// `sub`.
    pub subject: String,
    /// The OAuth client.
    pub client: Option<String>,
    /// Every granted scope, sorted.
    pub scopes: Vec<String>,
    /// The headers that a service would get.
    pub identity: Vec<(HeaderName, HeaderValue)>,
}

/// What would be decided, and about whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supposition {
    /// Who the caller would be; `None` where nobody is asked, or nobody could be told.
    pub principal: Option<SupposedPrincipal>,
    /// Whether the request would be admitted.
    pub verdict: Result<(), Denial>,
}

/// What would be decided about a request of `route`, by the rules that decide about real ones. The
/// answer is for people: no permit, principal or verified token comes out of a supposition.
#[must_use]
pub fn what_if(
    route: &Arc<Route>,
    evidence: Evidence<'_>,
    issuers: &IssuerSet,
    headers: &IdentityHeaders,
    registry: &ScopeRegistry,
    now: UnixTime,
) -> Supposition {
    let known = match (&route.access, evidence) {
        (Access::Public, _) | (Access::Protected(_), Evidence::Nothing) => Ok(None),
        (Access::Protected(_), evidence) => verify(evidence, issuers, now).and_then(|token| {
            let principal = Principal::new(&token, headers, registry)?;
            Ok(Some((token, Arc::new(principal))))
        }),
    };
    match known {
        Ok(known) => Supposition {
            verdict: decide(route, known.as_ref().map(|(_, principal)| principal), now).map(|_| ()),
            principal: known.map(|(token, principal)| SupposedPrincipal::of(&token, &principal)),
        },
        Err(denial) => Supposition {
            principal: None,
            verdict: Err(denial),
        },
    }
}

fn verify(
    evidence: Evidence<'_>,
    issuers: &IssuerSet,
    now: UnixTime,
) -> Result<VerifiedToken, Denial> {
    match evidence {
        Evidence::Nothing => Err(Denial::CredentialMissing),
        Evidence::Token(token, keys) => {
            let presented = PresentedToken::parse(token)?;
            let issuer = presented.issuer(issuers)?;
            match keys {
                Some(keys) => presented.verify(issuer, keys, now),
                None => {
                    presented.check_algorithm(issuer.1)?;
                    presented.check_content(issuer, now)
                }
            }
        }
        Evidence::Claims(claims) => {
            let presented = PresentedToken::supposed(claims)?;
            let issuer = presented.issuer(issuers)?;
            presented.check_content(issuer, now)
        }
    }
}

impl SupposedPrincipal {
    fn of(token: &VerifiedToken, principal: &Principal) -> Self {
        let mut scopes: Vec<String> = token.scopes().map(str::to_owned).collect();
        scopes.sort_unstable();
        scopes.dedup();
        Self {
            issuer: principal.issuer(),
            subject: principal.subject().to_owned(),
            client: principal.client().map(str::to_owned),
            scopes,
            identity: principal.identity().to_vec(),
        }
    }
}

use crate::{Denial, IssuerId, Principal, Scope, ScopeRegistry, ScopeSet};

/// What a route demands of a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Which scopes.
    pub scopes: RequiredScopes,
    /// From which issuers; `None` is any configured one.
    pub issuers: Option<Vec<IssuerId>>,
}

/// The scopes that a route demands. Made only from registered scopes, and never from none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredScopes(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    AuthenticatedOnly,
    All { set: ScopeSet, names: Box<str> },
    Any { set: ScopeSet, names: Box<str> },
}

/// Scopes that no requirement can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequiredScopes {
    /// There are none; that any token will do is said with [`RequiredScopes::authenticated_only`].
    #[error("no scope is named")]
    Empty,
    /// Nobody registered this one.
    #[error("scope `{0}` is not registered")]
    Unregistered(Scope),
}

impl RequiredScopes {
    /// Every one of `scopes`.
    ///
    /// # Errors
    /// When there are none, or one is not in `registry`.
    pub fn all(registry: &ScopeRegistry, scopes: &[Scope]) -> Result<Self, InvalidRequiredScopes> {
        let (set, names) = resolve(registry, scopes)?;
        Ok(Self(Kind::All { set, names }))
    }

    /// At least one of `scopes`.
    ///
    /// # Errors
    /// When there are none, or one is not in `registry`.
    pub fn any(registry: &ScopeRegistry, scopes: &[Scope]) -> Result<Self, InvalidRequiredScopes> {
        let (set, names) = resolve(registry, scopes)?;
        Ok(Self(Kind::Any { set, names }))
    }

    /// None in particular: any valid access token will do.
    #[must_use]
    pub const fn authenticated_only() -> Self {
        Self(Kind::AuthenticatedOnly)
    }

    /// The names, sorted and separated by spaces: the `scope` of a challenge (RFC 6750 §3).
    #[must_use]
    pub fn names(&self) -> &str {
        match &self.0 {
            Kind::AuthenticatedOnly => "",
            Kind::All { names, .. } | Kind::Any { names, .. } => names,
        }
    }

    /// Whether one of several is enough.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        matches!(self.0, Kind::Any { .. })
    }

    fn are_met_by(&self, granted: &ScopeSet) -> bool {
        match &self.0 {
            Kind::AuthenticatedOnly => true,
            Kind::All { set, .. } => granted.contains_all(set),
            Kind::Any { set, .. } => granted.intersects(set),
        }
    }
}

fn resolve(
    registry: &ScopeRegistry,
    scopes: &[Scope],
) -> Result<(ScopeSet, Box<str>), InvalidRequiredScopes> {
    let mut names: Vec<&str> = scopes.iter().map(Scope::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let ids = scopes
        .iter()
        .map(|scope| {
            registry
                .id(scope.as_str())
                .ok_or_else(|| InvalidRequiredScopes::Unregistered(scope.clone()))
        })
        .collect::<Result<ScopeSet, _>>()?;
    if ids.is_empty() {
        Err(InvalidRequiredScopes::Empty)
    } else {
        Ok((ids, names.join(" ").into()))
    }
}

impl Requirement {
    /// Whether `principal` meets it.
    ///
    /// # Errors
    /// What is missing first: the issuer, then the scopes.
    pub(crate) fn check(&self, principal: &Principal) -> Result<(), Denial> {
        if self
            .issuers
            .as_ref()
            .is_some_and(|accepted| !accepted.contains(&principal.issuer()))
        {
            return Err(Denial::IssuerNotAccepted);
        }
        if !self.scopes.are_met_by(principal.scopes()) {
            return Err(Denial::ScopeInsufficient {
                required: self.scopes.names().into(),
            });
        }
        Ok(())
    }
}

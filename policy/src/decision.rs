use std::sync::Arc;

use crate::{Access, Denial, Principal, Route, UnixTime};

/// The proof that a request may be forwarded. [`decide`] alone makes one.
#[derive(Debug, Clone)]
pub struct Permit {
    route: Arc<Route>,
    principal: Option<Arc<Principal>>,
}

impl Permit {
    /// The route that the request was judged for.
    #[must_use]
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Who was admitted; `None` on public routes, where nobody was asked.
    #[must_use]
    pub fn principal(&self) -> Option<&Principal> {
        self.principal.as_deref()
    }
}

/// Whether a request of `route` by `principal` is forwarded at `now`.
///
/// # Errors
/// The first demand of the route that is not met.
pub fn decide(
    route: &Arc<Route>,
    principal: Option<&Arc<Principal>>,
    now: UnixTime,
) -> Result<Permit, Denial> {
    match &route.access {
        Access::Public => Ok(Permit {
            route: Arc::clone(route),
            principal: None,
        }),
        Access::Protected(requirement) => {
            let principal = principal.ok_or(Denial::CredentialMissing)?;
            if principal.is_expired(now) {
                return Err(Denial::TokenExpired);
            }
            requirement.check(principal)?;
            Ok(Permit {
                route: Arc::clone(route),
                principal: Some(Arc::clone(principal)),
            })
        }
    }
}

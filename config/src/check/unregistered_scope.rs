//! A scope that a route needs has to be in the scope registry.

use crate::diagnostic::{Diagnostic, codes};
use crate::node::NodePath;
use crate::resolve::policies::ScopeDefinition;
use crate::source::Source;
use crate::suggest;

/// Reports that `scope`, which `route` requires at `path`, is not among `defined`.
pub(crate) fn unregistered_scope(
    source: &Source,
    path: &NodePath,
    route: &str,
    scope: &str,
    defined: &[ScopeDefinition<'_>],
) -> Diagnostic {
    let message = format!("route `{route}` requires scope `{scope}`, which no policy file defines");
    let error = source
        .error(codes::UNREGISTERED_SCOPE, path, message)
        .with_conflict(format!("scope {scope}"), None);
    let similar = suggest::closest(
        scope,
        defined.iter().map(|definition| definition.scope.as_str()),
    );
    let place = defined
        .iter()
        .find(|definition| Some(definition.scope.as_str()) == similar);
    error.with_help(
        match (
            similar,
            place.and_then(|definition| definition.place.as_ref()),
        ) {
            (Some(similar), Some(place)) => {
                format!("did you mean `{similar}`, defined at {place}?")
            }
            (Some(similar), None) => format!("did you mean `{similar}`?"),
            (None, _) => format!("define it: `scopes: {{ \"{scope}\": what it allows }}`"),
        },
    )
}

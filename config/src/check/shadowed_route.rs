//! An exact host is more specific than any path, which surprises when the path was meant to win.

use portcullis_policy::Route;

use crate::diagnostic::{Diagnostic, codes};
use crate::node::NodePath;
use crate::source::Source;

/// Warns that `route`, whose `match` is at `path`, takes requests of its host from `wider`.
pub(crate) fn shadowed_route(
    source: &Source,
    path: &NodePath,
    route: &Route,
    wider: &Route,
    wider_place: &str,
) -> Diagnostic {
    let host = route
        .host
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let message = format!(
        "on host `{host}`, route `{}` (`{}`) takes requests from route `{}` (`{}`) of `{}`, whose path is more specific",
        route.name, route.path, wider.name, wider.path, wider.owner,
    );
    let warning = source
        .error(codes::SHADOWED_ROUTE, path, message)
        .into_warning();
    warning.with_help(format!("an exact host wins over any path; if that is not meant, give the route at {wider_place} that host too"))
}

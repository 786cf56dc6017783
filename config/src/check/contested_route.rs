//! Not every service finds its routes as the gateway does.

use portcullis_policy::Route;

use crate::diagnostic::{Diagnostic, codes};
use crate::node::NodePath;
use crate::source::Source;

/// Warns that a service may serve requests of `route`, whose `match` is at `path`, as those of `other`, or
/// the other way round.
pub(crate) fn contested_route(
    source: &Source,
    path: &NodePath,
    route: &Route,
    other: &Route,
    other_place: &str,
) -> Diagnostic {
    let (reason, help) = match route.path.meeting(&other.path) {
        None => (
            "differ in nothing but case for some paths".to_owned(),
            format!(
                "a service that has no regard to case serves requests of either as those of the other: part their paths in more than case, or let both need the same (the other one is at {other_place})"
            ),
        ),
        Some(meeting) => (
            format!("cross at `{meeting}`"),
            format!(
                "at their first difference the more specific one wins here, but not in every service: part their paths, add a route for just `{meeting}`, or let both need the same (the other one is at {other_place})"
            ),
        ),
    };
    let message = format!(
        "routes `{}` (`{}`) and `{}` (`{}`) of one upstream need different things of their callers, and {reason}",
        other.name, other.path, route.name, route.path,
    );
    source
        .error(codes::CONTESTED_ROUTE, path, message)
        .into_warning()
        .with_help(help)
}

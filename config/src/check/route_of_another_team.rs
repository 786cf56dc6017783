//! No team takes requests from another team's route, unless that one says so.

use std::path::Path;

use portcullis_policy::Route;

use crate::diagnostic::{Diagnostic, codes};
use crate::node::NodePath;
use crate::source::Source;

/// Reports that `route`, whose `match` is at `path`, is more specific than `wider` of another team, for
/// the same path, or for one that differs from it in nothing but case.
pub(crate) fn route_of_another_team(
    source: &Source,
    path: &NodePath,
    route: &Route,
    wider: &Route,
    wider_file: Option<&Path>,
    wider_place: Option<String>,
) -> Diagnostic {
    let at = wider_place.map_or_else(
        || "the other one".to_owned(),
        |place| format!("the route at {place}"),
    );
    let (message, help) = if route.meets_in_another_case(wider) {
        (
            format!(
                "route `{}` of `{}` (`{}`) has paths that differ in nothing but case from those of route `{}` of `{}` (`{}`)",
                route.name, route.owner, route.path, wider.name, wider.owner, wider.path,
            ),
            format!(
                "some services have no regard to case, so a path has one owner in all its cases; if both agree, this route has to say `yields_to: [{}]`, and {at} `yields_to: [{}]`",
                wider.owner, route.owner
            ),
        )
    } else if route.shares_path_with(wider) {
        (
            format!(
                "route `{}` of `{}` shares the path `{}` with route `{}` of `{}`",
                route.name, route.owner, route.path, wider.name, wider.owner,
            ),
            format!(
                "a path has one owner, for all its methods; if both agree, this route has to say `yields_to: [{}]`, and {at} `yields_to: [{}]`",
                wider.owner, route.owner
            ),
        )
    } else {
        (
            format!(
                "route `{}` of `{}` (`{}`) takes requests from route `{}` of `{}` (`{}`)",
                route.name, route.owner, route.path, wider.name, wider.owner, wider.path,
            ),
            format!(
                "if `{}` agrees, {at} has to say `yields_to: [{}]`",
                wider.owner, route.owner
            ),
        )
    };
    let error = source
        .error(codes::ROUTE_OF_ANOTHER_TEAM, path, message)
        .with_help(help);
    let subject = format!("routes {} {}", wider.name, route.name);
    error.with_conflict(subject, wider_file)
}

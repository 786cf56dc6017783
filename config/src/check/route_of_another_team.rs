//! No team takes requests from another team's route, unless that one says so.

use std::path::Path;

use portcullis_policy::Route;

use crate::diagnostic::{Diagnostic, codes};
use crate::node::NodePath;
use crate::source::Source;

/// Reports that `route`, whose `match` is at `path`, is more specific than `wider` of another team.
pub(crate) fn route_of_another_team(
    source: &Source,
    path: &NodePath,
    route: &Route,
    wider: &Route,
    wider_file: Option<&Path>,
    wider_place: Option<String>,
) -> Diagnostic {
    let message = format!(
        "route `{}` of `{}` (`{}`) takes requests from route `{}` of `{}` (`{}`)",
        route.name, route.owner, route.path, wider.name, wider.owner, wider.path,
    );
    let at = wider_place.map_or_else(|| "it".to_owned(), |place| format!("the route at {place}"));
    let help = format!(
        "if `{}` agrees, {at} has to say `yields_to: [{}]`",
        wider.owner, route.owner
    );
    let error = source
        .error(codes::ROUTE_OF_ANOTHER_TEAM, path, message)
        .with_help(help);
    let subject = format!("routes {} {}", wider.name, route.name);
    error.with_conflict(subject, wider_file)
}

//! No request may match two routes with equal weight.

use std::path::Path;

use portcullis_policy::Route;

use crate::diagnostic::{Diagnostic, codes};
use crate::node::NodePath;
use crate::source::Source;

/// Reports that `second`, whose `match` is at `path`, matches what `first` matches.
pub(crate) fn overlapping_route(
    source: &Source,
    path: &NodePath,
    second: &Route,
    first: &Route,
    first_file: Option<&Path>,
    first_place: Option<String>,
) -> Diagnostic {
    let methods = second
        .methods
        .iter()
        .filter(|method| first.methods.contains(*method));
    let methods = methods
        .map(|method| method.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    let message = format!(
        "route `{}` of `{}` matches the same requests as route `{}` of `{}`: {methods} `{}` on {}",
        second.name,
        second.owner,
        first.name,
        first.owner,
        second.path,
        host_name(second),
    );
    let first_at = first_place
        .map(|place| format!("; first defined at {place}"))
        .unwrap_or_default();
    let help = format!("give one of them another path, host or method{first_at}");
    let error = source
        .error(codes::OVERLAPPING_ROUTE, path, message)
        .with_help(help);
    error.with_conflict(format!("routes {} {}", first.name, second.name), first_file)
}

fn host_name(route: &Route) -> String {
    route
        .host
        .as_ref()
        .map_or_else(|| "any host".to_owned(), |host| format!("host `{host}`"))
}

//! A route says who may call it, in exactly one way.

use crate::diagnostic::{Diagnostic, codes};
use crate::document::Route;
use crate::node::NodePath;
use crate::source::Source;

/// Checks what the route at `path` says about access. Where a part of that was left out, nothing is
/// said to be missing.
pub(crate) fn check_access(
    source: &Source,
    path: &NodePath,
    route: &Route,
    is_damaged: bool,
) -> Vec<Diagnostic> {
    let name = &route.name;
    let mut diagnostics = Vec::new();
    match (&route.require, route.public) {
        (None, false) if !is_damaged => {
            let message = format!("route `{name}` does not say who may call it");
            let help = "add `require: { scopes: [...] }`, or `public: true` when anybody may";
            diagnostics.push(
                source
                    .error(codes::ACCESS_MISSING, &path.join("name"), message)
                    .with_help(help),
            );
        }
        (Some(_), true) => {
            let message = format!("route `{name}` is public and requires something");
            let error =
                source.key_error(codes::ACCESS_CONTRADICTORY, &path.join("public"), message);
            diagnostics.push(error.with_help("remove `public: true` or `require`"));
        }
        (None, _) | (Some(_), false) => {}
    }
    let Some(require) = route.require.as_ref().filter(|_| !is_damaged) else {
        return diagnostics;
    };
    let path = path.join("require");
    match (&require.scopes, require.authenticated_only) {
        (None, false) => {
            let message = format!("route `{name}` requires nothing");
            let error = source.key_error(codes::ACCESS_MISSING, &path, message);
            diagnostics.push(error.with_help(
                "add `scopes: [...]`, or `authenticated_only: true` when any access token will do",
            ));
        }
        (Some(_), true) => {
            let message =
                format!("route `{name}` requires scopes and no more than an access token");
            let error = source.key_error(
                codes::ACCESS_CONTRADICTORY,
                &path.join("authenticated_only"),
                message,
            );
            diagnostics.push(error.with_help("remove `authenticated_only: true` or `scopes`"));
        }
        (Some(scopes), false) if scopes.names().is_empty() => {
            let message = format!("route `{name}` requires an empty list of scopes");
            let error = source.key_error(codes::EMPTY_SCOPES, &path.join("scopes"), message);
            diagnostics.push(error.with_help(
                "name a scope, or say `authenticated_only: true` when any access token will do",
            ));
        }
        (None, true) | (Some(_), false) => {}
    }
    if require.issuers.as_ref().is_some_and(Vec::is_empty) {
        let message = format!("route `{name}` accepts tokens of no issuer");
        let error = source.key_error(codes::INVALID_VALUE, &path.join("issuers"), message);
        diagnostics.push(error.with_help("name one, or leave the key out to accept all"));
    }
    diagnostics
}

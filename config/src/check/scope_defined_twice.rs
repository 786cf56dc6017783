//! A scope has one description and one owner.

use crate::diagnostic::{Diagnostic, codes};
use crate::node::NodePath;
use crate::resolve::policies::ScopeDefinition;
use crate::source::Source;

/// Reports that `scope`, defined at `path`, is `first`'s.
pub(crate) fn scope_defined_twice(
    source: &Source,
    path: &NodePath,
    scope: &str,
    first: &ScopeDefinition<'_>,
) -> Diagnostic {
    let message = format!("scope `{scope}` is already defined by `{}`", first.owner);
    let error = source.key_error(codes::SCOPE_DEFINED_TWICE, path, message);
    let error = error.with_conflict(format!("scope {scope}"), first.file);
    match &first.place {
        Some(place) => error.with_help(format!(
            "first defined at {place}; a scope is defined once and may be used in all files"
        )),
        None => error.with_help("use it without defining it again, or choose another name"),
    }
}

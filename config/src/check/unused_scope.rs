//! A scope that no route needs is a leftover, or a route that forgot it.

use crate::diagnostic::{Diagnostic, codes};
use crate::node::NodePath;
use crate::source::Source;

/// Warns about `scope`, defined at `path`.
pub(crate) fn unused_scope(source: &Source, path: &NodePath, scope: &str) -> Diagnostic {
    let warning = source.key_error(
        codes::UNUSED_SCOPE,
        path,
        format!("no route requires scope `{scope}`"),
    );
    warning.into_warning().with_help("remove it, or require it")
}

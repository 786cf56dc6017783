//! Names become metric labels, and each belongs to one thing.

use crate::diagnostic::{Diagnostic, codes};
use crate::node::NodePath;
use crate::source::Source;

const MAX_NAME_BYTES: usize = 64;

/// What metrics and the access log say where there is nothing to name.
const NOTHING: &str = "none";

/// Whether `name` may be the name of something.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Checks one name of a `kind` of thing.
pub(crate) fn check_name(
    source: &Source,
    kind: &str,
    path: &NodePath,
    name: &str,
) -> Option<Diagnostic> {
    if is_name(name) && name != NOTHING {
        return None;
    }
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    let error = source.error(
        codes::INVALID_NAME,
        path,
        format!("`{name}` cannot be the name of {article} {kind}"),
    );
    let help = if name == NOTHING {
        "metrics and the access log say `none` where there is nothing; choose another name"
    } else {
        "1 to 64 ASCII letters, digits, `.`, `_` and `-` are needed, a letter or digit first"
    };
    Some(error.with_help(help))
}

/// Checks the names of all things of a `kind` in one file.
pub(crate) fn check_names(
    source: &Source,
    kind: &str,
    names: &[(NodePath, &str)],
) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (position, (path, name)) in names.iter().enumerate() {
        diagnostics.extend(check_name(source, kind, path, name));
        if let Some((first, _)) = names.iter().take(position).find(|(_, other)| other == name) {
            let error = source.error(
                codes::DUPLICATE_NAME,
                path,
                format!("two {kind}s are called `{name}`"),
            );
            diagnostics.push(error.with_help(format!("first at {}", source.place_name(first))));
        }
    }
    diagnostics
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn a_name_is_short_ascii_and_begins_with_a_letter_or_digit() {
        for name in ["a", "7", "orders-read", "Orders.v2_x", &"a".repeat(64)] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            "-a",
            ".a",
            "_a",
            "a b",
            "a/b",
            "a{b}",
            "ordérs",
            "a\n",
            &"a".repeat(65),
        ] {
            assert!(!is_name(name), "{name}");
        }
    }
}

//! Tree → document type, with every problem at once.
//!
//! Serde stops at the first problem. Here what was wrong is left out and the rest is read again,
//! until nothing is wrong; what then lacks because it was left out is not reported a second time.

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::diagnostic::{Diagnostic, codes};
use crate::node::NodePath;
use crate::node::deserialize::{Context, NodeError, Problem, from_node};
use crate::schema;
use crate::source::Source;
use crate::suggest;

#[cfg(test)]
mod tests;

/// Most problems of one file that are told at once.
const MAX_PROBLEMS: usize = 100;

/// A file as written, as far as it could be read.
#[derive(Debug)]
pub(crate) struct Read<T> {
    pub(crate) source: Source,
    /// Without what is wrong; `None` when too much is.
    pub(crate) document: Option<T>,
    /// What is wrong and not in the document.
    pub(crate) left_out: Vec<NodePath>,
}

impl<T> Read<T> {
    /// Whether something at or below `path`, or all of it, was left out.
    pub(crate) fn is_damaged(&self, path: &NodePath) -> bool {
        self.left_out
            .iter()
            .any(|out| out.is_within(path) || path.is_within(out))
    }

    /// The elements of the list at `path` with where they are in the file: what was left out makes
    /// a list of the document shorter than the one that was written.
    pub(crate) fn elements<'a, E>(
        &self,
        path: &NodePath,
        elements: &'a [E],
    ) -> impl Iterator<Item = (NodePath, &'a E)> + use<'a, T, E> {
        let places: Vec<_> = (0_usize..)
            .map(|index| path.join(index))
            .filter(|place| !self.left_out.contains(place))
            .take(elements.len())
            .collect();
        places.into_iter().zip(elements)
    }
}

/// Reads `text` as a `T`. Diagnostics that are errors may come with a result: the other rules are
/// then checked on what is left.
pub(crate) fn read<T: DeserializeOwned + JsonSchema>(
    path: &Path,
    text: Arc<str>,
) -> (Option<Read<T>>, Vec<Diagnostic>) {
    let (source, mut diagnostics) = Source::parse(path, text);
    let Some(mut source) = source else {
        return (None, diagnostics);
    };

    let mut context = Context::default();
    let mut problems: Vec<NodeError> = Vec::new();
    let document = loop {
        let error = match from_node::<T>(&source.node, &context) {
            Ok(document) => break Some(document),
            Err(error) => error,
        };
        let at = error.path.clone().unwrap_or_default();
        let told = !is_consequence(&error, &at, &context);
        match error.problem {
            // Serde names the first; the schema knows the others.
            Problem::MissingKey(first) if told => {
                let mut missing = schema::missing_keys::<T>(&source.node, &at);
                if !missing.contains(&first) {
                    missing.push(first);
                }
                problems.extend(missing.into_iter().map(|key| NodeError {
                    problem: Problem::MissingKey(key),
                    path: Some(at.clone()),
                }));
            }
            _ if told => problems.push(error),
            _ => {}
        }
        if at.segments().is_empty() || !context.skip.insert(at) {
            break None;
        }
        if problems.len() >= MAX_PROBLEMS {
            let message = format!("more than {MAX_PROBLEMS} problems; the others are not shown");
            diagnostics.push(source.error(codes::MORE_PROBLEMS, &NodePath::default(), message));
            break None;
        }
    };

    for secret in context.secrets.borrow().iter() {
        source.hide(secret);
    }
    // An unknown key may be a secret that somebody wanted to write down.
    for problem in problems
        .iter()
        .filter(|error| matches!(error.problem, Problem::UnknownKey { .. }))
    {
        source.hide(&problem.path.clone().unwrap_or_default());
    }
    diagnostics.extend(problems.into_iter().map(|problem| tell(&source, problem)));
    let left_out = context.skip.into_iter().collect();
    (
        Some(Read {
            source,
            document,
            left_out,
        }),
        diagnostics,
    )
}

/// Whether a key is missing only because it was left out.
fn is_consequence(error: &NodeError, at: &NodePath, context: &Context) -> bool {
    matches!(&error.problem, Problem::MissingKey(key) if context.skip.contains(&at.join(key.as_str())))
}

fn tell(source: &Source, error: NodeError) -> Diagnostic {
    let path = error.path.unwrap_or_default();
    let here = describe(&path);
    match error.problem {
        Problem::UnknownKey { expected } => {
            let key = path.last_key().unwrap_or_default();
            let error = source.key_error(codes::UNKNOWN_KEY, &path, format!("unknown key `{key}`"));
            error.with_help(match suggest::closest(key, expected.iter().copied()) {
                Some(similar) => format!("did you mean `{similar}`?"),
                None => format!("known here: {}", suggest::list(expected.iter().copied())),
            })
        }
        Problem::UnknownWord { word, expected } => {
            let error = source.error(
                codes::INVALID_VALUE,
                &path,
                format!("{here} cannot be `{word}`"),
            );
            error.with_help(match suggest::closest(&word, expected.iter().copied()) {
                Some(similar) => format!("did you mean `{similar}`?"),
                None => format!("use one of {}", suggest::list(expected.iter().copied())),
            })
        }
        Problem::MissingKey(key) => {
            let message = match path.segments() {
                [] => format!("the key `{key}` is missing"),
                _ => format!("{here} lacks the key `{key}`"),
            };
            source
                .error(codes::MISSING_KEY, &path, message)
                .with_help(format!("add `{key}:`"))
        }
        Problem::NoValue => source
            .error(codes::WRONG_TYPE, &path, format!("{here} has no value"))
            .with_help("give it one, or leave the key out"),
        Problem::SecretWritten => source
            .error(
                codes::SECRET_WRITTEN,
                &path,
                format!("{here} has to say where the secret is"),
            )
            .with_help(
                "write `{ env: NAME }` or `{ file: path }`; secrets are never written in YAML",
            ),
        Problem::WrongType { found, expected } => {
            let error = source.error(
                codes::WRONG_TYPE,
                &path,
                format!("{here} is {found}, and has to be {expected}"),
            );
            match source.written(&path).filter(|_| found.contains('`')) {
                Some(written) if expected == "a string" => {
                    error.with_help(format!("put it in quotes: `\"{written}\"`"))
                }
                Some(written) if expected.starts_with("a list") => {
                    error.with_help(format!("write `[{written}]`"))
                }
                _ => error,
            }
        }
        Problem::Custom(message) => source.error(codes::INVALID_VALUE, &path, message),
    }
}

/// The path in the words of a message.
fn describe(path: &NodePath) -> String {
    match path.segments() {
        [] => "the document".to_owned(),
        _ => format!("`{path}`"),
    }
}

//! A YAML file: its text, the tree that was parsed from it, and the places of both.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Place, codes};
use crate::node::tree::Fault;
use crate::node::{Node, NodePath};
use crate::places::{Places, Refusal, RefusalKind};

/// A file that could be parsed.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    text: Arc<str>,
    pub(crate) node: Node,
    places: Places,
    /// Lines that are never shown, because they could hold a secret.
    hidden: BTreeSet<usize>,
    /// Whether a part of the text is not in the tree.
    pub(crate) is_partial: bool,
}

impl Source {
    /// Parses `text`. What is refused about it is in the second part of the result; without a
    /// source there is nothing more to find.
    pub(crate) fn parse(path: &Path, text: Arc<str>) -> (Option<Self>, Vec<Diagnostic>) {
        let (places, refusals) = Places::read(&text);
        if !refusals.is_empty() {
            return (
                None,
                refusals
                    .iter()
                    .map(|refusal| refused(path, refusal, &text))
                    .collect(),
            );
        }
        let (node, faults) = match Node::parse(&text) {
            Ok(parsed) => parsed,
            Err(error) => {
                let place = error.location().map_or(Place::START, |location| {
                    Place::at(location.line(), location.column())
                });
                let place = not_behind_text(place, &text);
                let message = format!("not YAML: {}", without_location(&error.to_string()));
                return (
                    None,
                    vec![Diagnostic::error(codes::SYNTAX, path, place, message)],
                );
            }
        };
        let source = Self {
            path: path.to_path_buf(),
            text,
            node,
            places,
            hidden: BTreeSet::new(),
            is_partial: !faults.is_empty(),
        };
        let diagnostics = faults
            .iter()
            .flat_map(|fault| source.faulty(fault))
            .collect();
        (Some(source), diagnostics)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// An error about the value at `path`.
    pub(crate) fn error(
        &self,
        code: &'static str,
        path: &NodePath,
        message: impl AsRef<str>,
    ) -> Diagnostic {
        self.error_at(code, self.places.of(path), message)
    }

    /// An error about the key at the end of `path`.
    pub(crate) fn key_error(
        &self,
        code: &'static str,
        path: &NodePath,
        message: impl AsRef<str>,
    ) -> Diagnostic {
        self.error_at(code, self.places.of_key(path), message)
    }

    fn error_at(&self, code: &'static str, place: Place, message: impl AsRef<str>) -> Diagnostic {
        let place = self.without_space(place);
        Diagnostic::error(code, &self.path, place, message).with_source_line(self.line(place))
    }

    /// Where the value at `path` is.
    pub(crate) fn place_of(&self, path: &NodePath) -> Place {
        self.places.of(path)
    }

    /// `file:line:column` of the value at `path`, for messages that name two places.
    pub(crate) fn place_name(&self, path: &NodePath) -> String {
        let place = self.places.of(path);
        format!("{}:{}:{}", self.path.display(), place.line, place.column)
    }

    /// The value at `path` as it is written, for scalars.
    pub(crate) fn written(&self, path: &NodePath) -> Option<&str> {
        let place = self.places.of(path);
        if place.line != place.end_line {
            return None;
        }
        let line = self.text.lines().nth(place.line.checked_sub(1)?)?;
        let offset = |column: usize| {
            line.char_indices()
                .nth(column - 1)
                .map_or(line.len(), |(offset, _)| offset)
        };
        line.get(offset(place.column)..offset(place.end_column))
            .map(str::trim_end)
    }

    /// A scalar of the index may end with the space behind it.
    fn without_space(&self, place: Place) -> Place {
        let Some(line) = self
            .text
            .lines()
            .nth(place.line.saturating_sub(1))
            .filter(|_| place.line == place.end_line)
        else {
            return place;
        };
        let marked = line
            .chars()
            .take(place.end_column.saturating_sub(1))
            .skip(place.column.saturating_sub(1));
        let marked = marked.collect::<String>();
        let width = marked.trim_end().chars().count().max(1);
        Place {
            end_column: place.column + width,
            ..place
        }
    }

    /// No message shows the lines of the value at `path` from now on.
    pub(crate) fn hide(&mut self, path: &NodePath) {
        self.hidden
            .extend(self.places.lines_of(path).take(self.text.lines().count()));
    }

    /// The line of `place`, unless it is hidden. Of a hidden line, a key at its start may be shown.
    fn line(&self, place: Place) -> Option<&str> {
        let line = self.text.lines().nth(place.line.checked_sub(1)?)?;
        if !self.hidden.contains(&place.line) {
            return Some(line);
        }
        let offset = |column: usize| {
            line.char_indices()
                .nth(column.saturating_sub(1))
                .map_or(line.len(), |(at, _)| at)
        };
        let shown = line.get(..offset(place.end_column))?;
        let before = line.get(..offset(place.column))?;
        let is_key = line.get(shown.len()..)?.trim_start().starts_with(':');
        (is_key && before.chars().all(|c| matches!(c, ' ' | '-' | '{' | '['))).then_some(shown)
    }

    fn faulty(&self, fault: &Fault) -> Vec<Diagnostic> {
        match fault {
            Fault::DuplicateKey(path) => {
                let key = path.last_key().unwrap_or_default();
                let first = self.places.of_key(path);
                let message = format!("the key `{key}` is there twice in one mapping");
                let help = format!(
                    "first at {}:{}:{}; remove one of them",
                    self.path.display(),
                    first.line,
                    first.column
                );
                let repetitions = match self.places.repetitions(path) {
                    [] => vec![first],
                    places => places.to_vec(),
                };
                // No line is shown: two values are there, and one of them was never looked at.
                repetitions
                    .into_iter()
                    .map(|place| {
                        Diagnostic::error(codes::DUPLICATE_KEY, &self.path, place, &message)
                            .with_help(&help)
                    })
                    .collect()
            }
            Fault::KeyNotString(path) => {
                let place = self.places.of(path);
                let message = "a key of this mapping is not a string";
                let error = Diagnostic::error(codes::UNSUPPORTED_YAML, &self.path, place, message);
                vec![error.with_help("put it in quotes")]
            }
        }
    }
}

fn refused(path: &Path, refusal: &Refusal, text: &str) -> Diagnostic {
    let place = not_behind_text(refusal.place, text);
    let error = |code, message: &str| Diagnostic::error(code, path, place, message);
    let unsupported = |message| error(codes::UNSUPPORTED_YAML, message);
    match &refusal.kind {
        // The line is not shown: where its strings end is the very thing that is not known.
        RefusalKind::Syntax(message) => error(codes::SYNTAX, &format!("not YAML: {message}")),
        RefusalKind::Anchor => unsupported("anchors (`&name`) are not supported")
            .with_help("write the value where it is used"),
        RefusalKind::Alias => unsupported("aliases (`*name`) are not supported")
            .with_help("write the value here again"),
        RefusalKind::Tag => {
            unsupported("tags (`!name`) are not supported").with_help("write the value without it")
        }
        RefusalKind::MergeKey => unsupported("merge keys (`<<`) are not supported")
            .with_help("write the keys here again"),
        RefusalKind::SecondDocument => unsupported("a second document begins here")
            .with_help("a file holds one document: remove the `---`, or make two files"),
        RefusalKind::TooDeep => unsupported("nested too deeply"),
    }
}

/// Both parsers see the end of a file on a line that the file need not have. What is missing there is told at the
/// last character that is written.
fn not_behind_text(place: Place, text: &str) -> Place {
    const BREAKS: [char; 2] = ['\n', '\r'];
    let text = text.replace("\r\n", "\n");
    let lines = text.strip_suffix(BREAKS).unwrap_or(&text).split(BREAKS);
    if place.line <= lines.count() {
        return place;
    }
    let lines = text.trim_end().split(BREAKS);
    let (count, last) = lines.fold((0, ""), |(count, _), line| (count + 1, line));
    Place::at(count, last.chars().count().max(1))
}

/// The parser's messages end with the place, which is printed in front.
fn without_location(message: &str) -> &str {
    message
        .find(" at line ")
        .and_then(|end| message.get(..end))
        .unwrap_or(message)
}

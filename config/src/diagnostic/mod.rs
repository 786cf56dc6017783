//! What an operator is told: all problems at once, each with its place and what helps.

pub mod codes;
mod render;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

/// One problem of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable word, one of [`codes::ALL`].
    pub code: &'static str,
    /// Whether the configuration can be used all the same.
    pub severity: Severity,
    /// The file that has the problem.
    pub file: PathBuf,
    /// Line of its first character, from one.
    pub line: usize,
    /// Column of its first character, in characters, from one.
    pub column: usize,
    /// Line of its end.
    pub end_line: usize,
    /// Column after its last character.
    pub end_column: usize,
    /// What is wrong, in one line, with the offending value in backticks.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The line of the file, unless it could hold a secret.
    pub(crate) source_line: Option<Box<str>>,
    /// What the files in question cannot have together.
    pub(crate) conflict: Option<Box<Conflict>>,
}

/// Whether a configuration can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, and somebody should look at it.
    Warning,
}

/// A stretch of a file. Lines and columns count from one, columns in characters; the end is the
/// column after the last character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line of the first character.
    pub line: usize,
    /// Column of the first character.
    pub column: usize,
    /// Line of the end.
    pub end_line: usize,
    /// Column of the end.
    pub end_column: usize,
}

/// Two files that cannot both have what they have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// What both want or one lacks: names of routes, or a scope.
    pub(crate) subject: String,
    /// The other file, where there is one.
    pub(crate) other: Option<PathBuf>,
}

impl Place {
    /// The first character of a file, for what has no better place.
    pub const START: Self = Self::at(1, 1);

    /// One character.
    #[must_use]
    pub const fn at(line: usize, column: usize) -> Self {
        Self {
            line,
            column,
            end_line: line,
            end_column: column + 1,
        }
    }
}

impl Severity {
    /// As it is printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl Diagnostic {
    pub(crate) fn error(
        code: &'static str,
        file: &Path,
        place: Place,
        message: impl AsRef<str>,
    ) -> Self {
        Self {
            code,
            severity: Severity::Error,
            file: file.to_path_buf(),
            line: place.line,
            column: place.column,
            end_line: place.end_line,
            end_column: place.end_column,
            message: render::escape(message.as_ref()),
            help: None,
            source_line: None,
            conflict: None,
        }
    }

    pub(crate) fn with_help(mut self, help: impl AsRef<str>) -> Self {
        self.help = Some(render::escape(help.as_ref()));
        self
    }

    pub(crate) fn with_source_line(mut self, line: Option<&str>) -> Self {
        self.source_line = line.map(Into::into);
        self
    }

    pub(crate) fn with_conflict(
        mut self,
        subject: impl Into<String>,
        other: Option<&Path>,
    ) -> Self {
        self.conflict = Some(Box::new(Conflict {
            subject: subject.into(),
            other: other.map(Path::to_path_buf),
        }));
        self
    }

    pub(crate) fn into_warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Whether the configuration cannot be used because of this.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// All problems of a configuration, in the order of files and places.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
    watched_files: Vec<PathBuf>,
    watched_patterns: Vec<String>,
}

impl Diagnostics {
    /// Each problem.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.items.iter()
    }

    /// Whether there is none, not even a warning.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether the configuration cannot be used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.items.iter().any(Diagnostic::is_error)
    }

    /// How many errors there are.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.items
            .iter()
            .filter(|diagnostic| diagnostic.is_error())
            .count()
    }

    /// Files that were looked at, also where nothing was found: a change of one of them is worth
    /// another attempt.
    #[must_use]
    pub fn watched_files(&self) -> &[PathBuf] {
        &self.watched_files
    }

    /// Absolute glob patterns whose set of matches is worth another attempt when it changes.
    #[must_use]
    pub fn watched_patterns(&self) -> &[String] {
        &self.watched_patterns
    }

    pub(crate) fn watching(mut self, files: Vec<PathBuf>, patterns: Vec<String>) -> Self {
        (self.watched_files, self.watched_patterns) = (files, patterns);
        self
    }

    /// How many warnings there are.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.items.len() - self.errors()
    }
}

impl From<Vec<Diagnostic>> for Diagnostics {
    fn from(mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by(|a, b| {
            (&a.file, a.line, a.column, a.severity).cmp(&(&b.file, b.line, b.column, b.severity))
        });
        diagnostics.dedup();
        Self {
            items: diagnostics,
            ..Self::default()
        }
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

/// Each problem with its line and a caret, then how many there are.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        render::human(self, f)
    }
}

impl std::error::Error for Diagnostics {}

/// `path:line:column: error[code]: message`, without more.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        render::headline(self, f)
    }
}

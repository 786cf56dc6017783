use std::fmt::{self, Write};

use serde_json::{Value, json};

use super::{Diagnostic, Diagnostics};

/// Version of the JSON form. It grows by keys; a new number means that one changed.
const FORMAT_VERSION: u32 = 1;
/// Longest line of a file that is shown.
const MAX_LINE: usize = 160;

impl Diagnostics {
    /// `{ format_version, ok, summary: { errors, warnings }, items: [...] }`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "format_version": FORMAT_VERSION,
            "ok": !self.has_errors(),
            "summary": { "errors": self.errors(), "warnings": self.warnings() },
            "items": self.iter().map(Diagnostic::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Diagnostic {
    /// One item of [`Diagnostics::to_json`].
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "code": self.code,
            "severity": self.severity.as_str(),
            "file": self.file.to_string_lossy(),
            "line": self.line,
            "column": self.column,
            "end_line": self.end_line,
            "end_column": self.end_column,
            "message": self.message,
            "help": self.help,
        })
    }
}

pub(super) fn human(diagnostics: &Diagnostics, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for diagnostic in diagnostics {
        headline(diagnostic, f)?;
        f.write_char('\n')?;
        snippet(diagnostic, f)?;
        if let Some(help) = &diagnostic.help {
            writeln!(f, "  help: {help}")?;
        }
        f.write_char('\n')?;
    }
    let (errors, warnings) = (diagnostics.errors(), diagnostics.warnings());
    writeln!(
        f,
        "{}, {}",
        count(errors, "error"),
        count(warnings, "warning")
    )
}

pub(super) fn headline(diagnostic: &Diagnostic, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "{}:{}:{}: {}[{}]: {}",
        escape(&diagnostic.file.to_string_lossy()),
        diagnostic.line,
        diagnostic.column,
        diagnostic.severity.as_str(),
        diagnostic.code,
        diagnostic.message
    )
}

/// The line of the problem, and no other: its neighbours may hold what nobody should see.
fn snippet(diagnostic: &Diagnostic, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(line) = diagnostic
        .source_line
        .as_deref()
        .filter(|line| line.chars().count() <= MAX_LINE)
    else {
        return Ok(());
    };
    let before: String = line
        .chars()
        .take(diagnostic.column.saturating_sub(1))
        .collect();
    let marked = match diagnostic.end_line == diagnostic.line {
        true => diagnostic.end_column.saturating_sub(diagnostic.column),
        false => line.chars().count().saturating_sub(before.chars().count()),
    };
    let number = diagnostic.line.to_string();
    let gutter = " ".repeat(number.len());
    writeln!(f, "  {number} | {}", escape(line))?;
    writeln!(
        f,
        "  {gutter} | {}{}",
        " ".repeat(escape(&before).chars().count()),
        "^".repeat(marked.max(1))
    )
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A terminal must not be told what to do by a configuration file, nor show it in another order.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || reorders {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

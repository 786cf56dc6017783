use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern, glob_with};

use super::Resolver;
use crate::diagnostic::codes;
use crate::document;
use crate::file::absolute;
use crate::node::{NodePath, node_path};

/// A ConfigMap keeps older versions of its files in directories that begin with a dot.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

impl Resolver<'_> {
    /// The policy files there are, each once, and the absolute patterns that find them.
    pub(super) fn policy_files(
        &mut self,
        written: &document::PolicyFiles,
    ) -> (Vec<PathBuf>, Vec<String>) {
        let list = node_path!["policy", "files"];
        if written.files.is_empty() && !self.read.is_damaged(&list) {
            let message =
                "no policy file is named, so that every request would be answered with 404";
            self.refuse(
                codes::INVALID_VALUE,
                &list,
                message,
                "name one, such as `policy/*.yaml`",
            );
        }
        let mut files = BTreeSet::new();
        let mut patterns = Vec::new();
        for (path, written) in self.read.elements(&list, &written.files) {
            let pattern = anchored(&self.base, written);
            match glob_with(&pattern, OPTIONS) {
                Ok(matches) => {
                    let matches = matches
                        .map(|entry| entry.unwrap_or_else(|error| error.path().to_path_buf()));
                    let found: BTreeSet<_> = matches
                        .filter(|path| !path.is_dir())
                        .map(|path| without_dots(&path))
                        .collect();
                    if found.is_empty() {
                        self.refuse_empty_pattern(&path, written);
                    }
                    files.extend(found);
                    patterns.push(anchored(&absolute(&self.base), written));
                }
                Err(error) => {
                    let message = format!("`{written}` is no pattern: {}", error.msg);
                    self.refuse(
                        codes::INVALID_VALUE,
                        &path,
                        message,
                        "use `*`, `?`, `[...]` and `**`",
                    );
                }
            }
        }
        (files.into_iter().collect(), patterns)
    }

    fn refuse_empty_pattern(&mut self, path: &NodePath, written: &str) {
        let help = format!(
            "relative patterns start at `{}`",
            absolute(&self.base).display()
        );
        self.refuse(
            codes::EMPTY_PATTERN,
            path,
            format!("`{written}` matches no file"),
            help,
        );
    }
}

/// The pattern below `base`, whose own name is no pattern.
fn anchored(base: &Path, written: &str) -> String {
    if Path::new(written).is_absolute() || base.as_os_str().is_empty() {
        return written.to_owned();
    }
    format!(
        "{}/{written}",
        Pattern::escape(&base.to_string_lossy()).trim_end_matches('/')
    )
}

/// Two patterns may write the same file as `a.yaml` and `./a.yaml`.
fn without_dots(path: &Path) -> PathBuf {
    path.components()
        .filter(|component| *component != Component::CurDir)
        .collect()
}

//! Document → [`Config`](crate::Config): names become the things they name, files are read.
//!
//! Every step goes on after a problem, so that all of them are found; what it returns then has
//! gaps, and is thrown away by [`crate::load`] because there are errors.

mod access_log;
mod issuers;
mod limits;
mod listeners;
mod platform;
pub(crate) mod policies;
mod policy_files;
mod tls;
mod upstreams;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use platform::{Platform, platform};

use crate::diagnostic::{Diagnostic, codes};
use crate::document::{ByteSize, GatewayDocument, HumanDuration};
use crate::file::{FileError, Files};
use crate::node::NodePath;
use crate::read::Read;
use crate::source::Source;

/// What the steps share: the file that is resolved, and what was found on the way.
#[derive(Debug)]
struct Resolver<'a> {
    read: &'a Read<GatewayDocument>,
    /// Relative paths start here.
    base: PathBuf,
    files: Files,
    diagnostics: Vec<Diagnostic>,
    /// Addresses that are listened on, and where that is said.
    bound: Vec<(SocketAddr, NodePath)>,
}

impl Resolver<'_> {
    fn source(&self) -> &Source {
        &self.read.source
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// An error about the value at `path`, with what helps.
    fn refuse(
        &mut self,
        code: &'static str,
        path: &NodePath,
        message: impl AsRef<str>,
        help: impl AsRef<str>,
    ) {
        let error = self.source().error(code, path, message).with_help(help);
        self.report(error);
    }

    /// A path as written, from the file that names it.
    fn resolve_path(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// Reads the file that the value at `path` names.
    fn read_file(&mut self, path: &NodePath, file: &Path, max: u64) -> Option<Vec<u8>> {
        let file = self.resolve_path(file);
        self.files
            .read(&file, max)
            .map_err(|error| self.report_file(path, &file, &error))
            .ok()
    }

    /// Reads the file with a secret that the value at `path` names.
    fn read_secret_file(
        &mut self,
        path: &NodePath,
        file: &Path,
        max: u64,
    ) -> Option<zeroize::Zeroizing<Vec<u8>>> {
        let file = self.resolve_path(file);
        self.files
            .read_secret(&file, max)
            .map_err(|error| self.report_file(path, &file, &error))
            .ok()
    }

    fn report_file(&mut self, path: &NodePath, file: &Path, error: &FileError) {
        let error = file_error(self.source(), path, file, error);
        self.report(error);
    }

    /// The duration as written, or its default; within what makes sense.
    fn duration(
        &mut self,
        path: &NodePath,
        written: Option<HumanDuration>,
        default: Duration,
        range: std::ops::RangeInclusive<Duration>,
    ) -> Duration {
        let Some(duration) = written else {
            return default;
        };
        let error = duration_out_of_range(self.source(), path, duration, &range);
        self.diagnostics.extend(error);
        duration.0
    }

    /// The number as written, or its default; within what makes sense.
    fn number(
        &mut self,
        path: &NodePath,
        written: Option<u32>,
        default: u32,
        range: std::ops::RangeInclusive<u32>,
    ) -> u32 {
        let number = written.unwrap_or(default);
        if !range.contains(&number) {
            let message = format!("`{path}` is `{number}`");
            let help = format!("it has to be from {} to {}", range.start(), range.end());
            self.refuse(codes::OUT_OF_RANGE, path, message, help);
        }
        number
    }
}

/// What is wrong with `duration` at `path`, if anything.
fn duration_out_of_range(
    source: &Source,
    path: &NodePath,
    duration: HumanDuration,
    range: &std::ops::RangeInclusive<Duration>,
) -> Option<Diagnostic> {
    if range.contains(&duration.0) {
        return None;
    }
    let (least, most) = (HumanDuration(*range.start()), HumanDuration(*range.end()));
    let error = source.error(
        codes::OUT_OF_RANGE,
        path,
        format!("`{path}` is `{duration}`"),
    );
    Some(error.with_help(format!("it has to be from `{least}` to `{most}`")))
}

/// What is wrong with `size` at `path`, if anything.
fn size_out_of_range(
    source: &Source,
    path: &NodePath,
    size: ByteSize,
    most: u64,
) -> Option<Diagnostic> {
    if (1..=most).contains(&size.0) {
        return None;
    }
    let error = source.error(codes::OUT_OF_RANGE, path, format!("`{path}` is `{size}`"));
    Some(error.with_help(format!("it has to be from `1B` to `{}`", ByteSize(most))))
}

/// What is wrong with `file`, which the value at `path` names.
fn file_error(source: &Source, path: &NodePath, file: &Path, error: &FileError) -> Diagnostic {
    let name = file.display();
    let unreadable = |message: String| source.error(codes::UNREADABLE_FILE, path, message);
    match error {
        FileError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
            unreadable(format!("there is no file `{name}`"))
                .with_help("relative paths start at the file that names them")
        }
        FileError::Io(error) => unreadable(format!("cannot read `{name}`: {}", error.kind())),
        FileError::NotRegular => unreadable(format!("`{name}` is not a file")),
        FileError::TooLarge(max) => unreadable(format!("`{name}` is larger than {max} bytes")),
        FileError::WorldReadable(mode) => {
            let message =
                format!("everybody may read `{name}`, which holds a secret (mode {mode:04o})");
            source
                .error(codes::WORLD_READABLE_FILE, path, message)
                .with_help(format!("chmod o-rwx {name}"))
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

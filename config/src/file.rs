//! Reading a file that a configuration names: bounded, and remembered so that it is watched.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Largest YAML file.
pub(crate) const MAX_DOCUMENT_BYTES: u64 = 1024 * 1024;
/// Largest file of certificates or keys. The system's bundle of authorities has 250 KiB.
pub(crate) const MAX_PEM_BYTES: u64 = 4 * 1024 * 1024;
/// Largest file with a secret.
pub(crate) const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Why a file cannot be used.
#[derive(Debug)]
pub(crate) enum FileError {
    /// The system says no.
    Io(io::Error),
    /// A directory, device, socket or pipe.
    NotRegular,
    /// Larger than this many bytes.
    TooLarge(u64),
    /// Everybody may read it, and it holds a secret.
    WorldReadable(u32),
}

/// The files that were read, so that a change of any of them is noticed.
#[derive(Debug, Default)]
pub(crate) struct Files {
    watched: BTreeSet<PathBuf>,
}

impl Files {
    /// Reads the file at `path`, of at most `max` bytes.
    pub(crate) fn read(&mut self, path: &Path, max: u64) -> Result<Vec<u8>, FileError> {
        self.watch(path);
        let mut bytes = Vec::new();
        open(path, max, false)?
            .read_to_end(&mut bytes)
            .map_err(FileError::Io)?;
        within(bytes, max)
    }

    /// Reads a file that nobody but the gateway's user and group may read.
    pub(crate) fn read_secret(
        &mut self,
        path: &Path,
        max: u64,
    ) -> Result<Zeroizing<Vec<u8>>, FileError> {
        self.watch(path);
        let mut file = open(path, max, true)?;
        // The size is known, so that no copy is left behind by a growing buffer.
        let mut bytes = Zeroizing::new(Vec::with_capacity(
            usize::try_from(max).unwrap_or_default() + 1,
        ));
        file.read_to_end(&mut bytes).map_err(FileError::Io)?;
        if bytes.len() as u64 > max {
            Err(FileError::TooLarge(max))
        } else {
            Ok(bytes)
        }
    }

    /// A change of this file makes a new generation.
    pub(crate) fn watch(&mut self, path: &Path) {
        self.watched.insert(absolute(path));
    }

    /// Every file that was read or should have been.
    pub(crate) fn watched(&self) -> Vec<PathBuf> {
        self.watched.iter().cloned().collect()
    }
}

/// The path from the root, links not followed: what a link leads to may change.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    // A file without a directory is in the working directory.
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

fn open(path: &Path, max: u64, is_secret: bool) -> Result<impl Read, FileError> {
    // Before opening: opening a pipe would wait for a writer.
    if !fs::metadata(path).map_err(FileError::Io)?.is_file() {
        return Err(FileError::NotRegular);
    }
    let file = File::open(path).map_err(FileError::Io)?;
    let metadata = file.metadata().map_err(FileError::Io)?;
    if is_secret && metadata.mode() & 0o004 != 0 {
        return Err(FileError::WorldReadable(metadata.mode() & 0o7777));
    }
    Ok(file.take(max + 1))
}

fn within(bytes: Vec<u8>, max: u64) -> Result<Vec<u8>, FileError> {
    if bytes.len() as u64 > max {
        Err(FileError::TooLarge(max))
    } else {
        Ok(bytes)
    }
}

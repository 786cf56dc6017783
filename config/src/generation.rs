//! One set of files → one [`Config`].

use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, PolicyFile};
use crate::diagnostic::{Diagnostic, Diagnostics, Place, codes};
use crate::document::GatewayDocument;
use crate::file::{FileError, Files, MAX_DOCUMENT_BYTES, absolute};
use crate::read::read;
use crate::resolve::policies::{Policies, PolicySource, Surroundings, policies};
use crate::resolve::{Platform, platform};

/// Loads `portcullis.yaml` at `path` and everything that it names.
///
/// # Errors
/// Every problem of every file, when at least one of them is an error. Without errors, warnings are
/// in [`Config::warnings`].
pub fn load(path: &Path) -> Result<Config, Diagnostics> {
    let Base {
        platform,
        surroundings,
        mut diagnostics,
    } = Base::load(path)?;
    let mut sources = Vec::new();
    for path in &platform.policy_paths {
        match read_text(path) {
            Ok(text) => sources.push((PolicySource::parse(path, Arc::clone(&text)), text)),
            Err(error) => diagnostics.push(*error),
        }
    }
    let numbered: Vec<_> = sources
        .iter()
        .map(|(source, _)| source)
        .enumerate()
        .collect();
    let (policies, found) = policies(&surroundings, &numbered);
    diagnostics.extend(found);
    let files = sources.iter().map(|(source, text)| PolicyFile {
        path: source.path.clone(),
        owner: source.owner().to_owned(),
        text: Arc::clone(text),
        pinned: None,
    });
    assemble(platform, policies, files.collect(), diagnostics)
}

/// What `portcullis.yaml` says, and what it lets policy files refer to.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) platform: Platform,
    pub(crate) surroundings: Surroundings,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Base {
    /// Loads `portcullis.yaml` without its policy files.
    ///
    /// # Errors
    /// When so much is wrong that nothing can be resolved.
    pub(crate) fn load(path: &Path) -> Result<Self, Diagnostics> {
        let refuse = |diagnostics: Vec<Diagnostic>| {
            Diagnostics::from(diagnostics).watching(vec![absolute(path)], Vec::new())
        };
        let text = read_text(path).map_err(|error| refuse(vec![*error]))?;
        let (read, mut diagnostics) = read::<GatewayDocument>(path, text);
        let Some(read) = read else {
            return Err(refuse(diagnostics));
        };
        let Some(document) = &read.document else {
            return Err(refuse(diagnostics));
        };
        let (platform, found) = platform(path, &read, document);
        diagnostics.extend(found);
        let surroundings = Surroundings {
            upstreams: platform.upstream_names.clone(),
            issuers: platform.issuer_names.clone(),
            http2_upstreams: platform
                .upstreams
                .iter()
                .filter(|upstream| upstream.http2)
                .map(|upstream| upstream.name.clone())
                .collect(),
            ..Surroundings::default()
        };
        Ok(Self {
            platform,
            surroundings,
            diagnostics,
        })
    }
}

/// Puts a generation together, unless something is wrong with it.
pub(crate) fn assemble(
    platform: Platform,
    policies: Policies,
    policy_files: Vec<PolicyFile>,
    diagnostics: Vec<Diagnostic>,
) -> Result<Config, Diagnostics> {
    let route_table = match policies.route_table {
        Some(route_table) if !diagnostics.iter().any(Diagnostic::is_error) => route_table,
        _ => return Err(platform.refuse(diagnostics)),
    };
    Ok(Config {
        path: platform.path,
        listeners: platform.listeners,
        admin: platform.admin,
        issuers: platform.issuers,
        upstreams: platform.upstreams,
        routes: policies.routes,
        route_table,
        scopes: policies.scopes,
        identity_headers: platform.identity_headers,
        realm: platform.realm,
        trusted_proxies: platform.trusted_proxies,
        access_log: platform.access_log,
        limits: platform.limits,
        overload: platform.overload,
        token_cache_entries: platform.token_cache_entries,
        shutdown: platform.shutdown,
        policy_files,
        watched_files: platform.files.watched(),
        watched_patterns: platform.patterns,
        warnings: Diagnostics::from(diagnostics).into_iter().collect(),
    })
}

/// Reads a YAML file.
pub(crate) fn read_text(path: &Path) -> Result<Arc<str>, Box<Diagnostic>> {
    let unreadable =
        |message: String| Diagnostic::error(codes::UNREADABLE_FILE, path, Place::START, message);
    let bytes = Files::default()
        .read(path, MAX_DOCUMENT_BYTES)
        .map_err(|error| match error {
            FileError::Io(error) => unreadable(format!("cannot read the file: {}", error.kind())),
            FileError::TooLarge(max) => unreadable(format!("the file is larger than {max} bytes")),
            FileError::NotRegular | FileError::WorldReadable(_) => {
                unreadable("this is not a file".to_owned())
            }
        })?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(error) => {
            let before = error
                .as_bytes()
                .iter()
                .take(error.utf8_error().valid_up_to());
            let line = before.filter(|byte| **byte == b'\n').count() + 1;
            let message = "not YAML: this line is not UTF-8";
            Err(Box::new(Diagnostic::error(
                codes::SYNTAX,
                path,
                Place::at(line, 1),
                message,
            )))
        }
    }
}

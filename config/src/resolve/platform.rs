use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use portcullis_policy::IdentityHeaders;

use super::Resolver;
use crate::check::Names;
use crate::check::names::check_names;
use crate::config::{AccessLog, Issuer, Limits, Listener, Overload, Shutdown, Upstream};
use crate::diagnostic::{Diagnostic, Diagnostics, codes};
use crate::document::{self, GatewayDocument};
use crate::file::Files;
use crate::node::node_path;
use crate::read::Read;

const DEFAULT_REALM: &str = "portcullis";
const DEFAULT_TOKEN_CACHE_ENTRIES: u32 = 20_000;
const MAX_TOKEN_CACHE_ENTRIES: u32 = 10_000_000;

/// Everything that `portcullis.yaml` decides.
#[derive(Debug)]
pub(crate) struct Platform {
    pub(crate) path: PathBuf,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) identity_headers: IdentityHeaders,
    pub(crate) realm: String,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) limits: Limits,
    pub(crate) overload: Overload,
    pub(crate) token_cache_entries: usize,
    pub(crate) shutdown: Shutdown,
    /// Names that routes may use.
    pub(crate) upstream_names: Names,
    /// Names that routes may use.
    pub(crate) issuer_names: Names,
    pub(crate) files: Files,
    /// The policy files there are.
    pub(crate) policy_paths: Vec<PathBuf>,
    /// Absolute patterns of the policy files.
    pub(crate) patterns: Vec<String>,
}

/// Resolves the platform's part.
pub(crate) fn platform(
    path: &Path,
    read: &Read<GatewayDocument>,
    document: &GatewayDocument,
) -> (Platform, Vec<Diagnostic>) {
    let base = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let mut resolver = Resolver {
        read,
        base,
        files: Files::default(),
        diagnostics: Vec::new(),
        bound: Vec::new(),
    };
    resolver.files.watch(path);
    let platform = resolver.platform(path, document);
    for path in &platform.policy_paths {
        resolver.files.watch(path);
    }
    (
        Platform {
            files: resolver.files,
            ..platform
        },
        resolver.diagnostics,
    )
}

impl Platform {
    /// An answer to an attempt that failed: what is wrong, and what to watch for the next one.
    pub(crate) fn refuse(&self, diagnostics: Vec<Diagnostic>) -> Diagnostics {
        Diagnostics::from(diagnostics).watching(self.files.watched(), self.patterns.clone())
    }
}

impl Resolver<'_> {
    fn platform(&mut self, path: &Path, document: &GatewayDocument) -> Platform {
        self.check_names("listener", "listeners", &document.listeners, |listener| {
            &listener.name
        });
        self.check_names("issuer", "issuers", &document.issuers, |issuer| {
            &issuer.name
        });
        self.check_names("upstream", "upstreams", &document.upstreams, |upstream| {
            &upstream.name
        });
        let listeners = self.listeners(&document.listeners);
        let admin = document.admin.as_ref().and_then(|admin| self.admin(admin));
        let (policy_paths, patterns) = self.policy_files(&document.policy);
        let entries = document
            .token_cache
            .as_ref()
            .and_then(|cache| cache.entries);
        let entries = self.number(
            &node_path!["token_cache", "entries"],
            entries,
            DEFAULT_TOKEN_CACHE_ENTRIES,
            0..=MAX_TOKEN_CACHE_ENTRIES,
        );
        Platform {
            path: path.to_path_buf(),
            listeners,
            admin,
            issuers: self.issuers(&document.issuers),
            upstreams: self.upstreams(&document.upstreams),
            identity_headers: self.identity_headers(document.identity_headers.as_ref()),
            realm: self.realm(document.realm.as_deref()),
            trusted_proxies: self.trusted_proxies(&document.trusted_proxies),
            access_log: self.access_log(&document.access_log.clone().unwrap_or_default()),
            limits: self.limits(&document.limits.clone().unwrap_or_default()),
            overload: self.overload(&document.overload.clone().unwrap_or_default()),
            token_cache_entries: entries as usize,
            shutdown: self.shutdown(&document.shutdown.clone().unwrap_or_default()),
            upstream_names: Names::of_list(self.read, "upstreams"),
            issuer_names: Names::of_list(self.read, "issuers"),
            files: Files::default(),
            policy_paths,
            patterns,
        }
    }

    fn check_names<T>(&mut self, kind: &str, list: &str, elements: &[T], name: fn(&T) -> &str) {
        let elements = self.read.elements(&node_path![list], elements);
        let names: Vec<_> = elements
            .map(|(path, element)| (path.join("name"), name(element)))
            .collect();
        let diagnostics = check_names(self.source(), kind, &names);
        self.diagnostics.extend(diagnostics);
    }

    fn admin(&mut self, written: &document::Admin) -> Option<SocketAddr> {
        let path = node_path!["admin", "address"];
        let address = self.socket_address(&path, &written.address)?;
        if !address.ip().is_loopback() && !written.dangerously_plaintext {
            let message = format!(
                "the admin listener asks for no credential, and `{address}` can be reached by others"
            );
            let help = "listen on 127.0.0.1, or say `dangerously_plaintext: true` and keep it behind a network policy";
            self.refuse(codes::PLAINTEXT_NOT_LOOPBACK, &path, message, help);
        }
        Some(address)
    }

    fn identity_headers(&mut self, written: Option<&document::IdentityHeaders>) -> IdentityHeaders {
        let Some(document::IdentityHeaders(entries)) = written else {
            return IdentityHeaders::default();
        };
        // One by one first, so that an error has the place of its header.
        for (header, claim) in entries.iter() {
            if let Err(problem) = IdentityHeaders::new([(header, claim.as_str())]) {
                self.refuse_identity_header(header, &problem.to_string());
            }
        }
        match IdentityHeaders::new(
            entries
                .iter()
                .map(|(header, claim)| (header, claim.as_str())),
        ) {
            Ok(headers) => headers,
            Err(problem) => {
                let is_reported = self
                    .diagnostics
                    .iter()
                    .any(|known| known.code == codes::INVALID_IDENTITY_HEADER);
                if !is_reported {
                    let path = node_path!["identity_headers"];
                    let help = "every service has to read the same value, whatever its framework makes of the name";
                    self.refuse(
                        codes::INVALID_IDENTITY_HEADER,
                        &path,
                        problem.to_string(),
                        help,
                    );
                }
                IdentityHeaders::default()
            }
        }
    }

    fn refuse_identity_header(&mut self, header: &str, problem: &str) {
        let path = node_path!["identity_headers", header];
        let error = self
            .source()
            .key_error(codes::INVALID_IDENTITY_HEADER, &path, problem);
        self.report(
            error.with_help(
                "choose a header that is for this and nothing else, such as `x-user-id`",
            ),
        );
    }

    fn realm(&mut self, written: Option<&str>) -> String {
        let realm = written.unwrap_or(DEFAULT_REALM);
        let is_quotable = |c: char| (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\');
        if realm.is_empty() || realm.len() > 128 || !realm.chars().all(is_quotable) {
            let help = "1 to 128 printable ASCII characters without `\"` and `\\` are needed";
            self.refuse(
                codes::INVALID_VALUE,
                &node_path!["realm"],
                format!("the realm cannot be `{realm}`"),
                help,
            );
        }
        realm.to_owned()
    }

    fn trusted_proxies(&mut self, written: &[String]) -> Vec<IpNet> {
        let mut proxies = Vec::new();
        for (path, text) in self.read.elements(&node_path!["trusted_proxies"], written) {
            let range = text
                .parse::<IpNet>()
                .ok()
                .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            match range {
                Some(range) => proxies.push(range.trunc()),
                None => {
                    let help =
                        "write an address such as `10.0.0.7` or a range such as `10.0.0.0/8`";
                    self.refuse(
                        codes::INVALID_ADDRESS,
                        &path,
                        format!("`{text}` is no address or range of addresses"),
                        help,
                    );
                }
            }
        }
        proxies
    }
}

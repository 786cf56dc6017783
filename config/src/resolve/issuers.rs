use std::sync::Arc;
use std::time::Duration;

use portcullis_policy::{self as policy, Algorithm, KeySet};

use super::{HOUR, Resolver, SECOND};
use crate::config::{Issuer, KeySource};
use crate::diagnostic::codes;
use crate::document::{self, ScopeClaim, TokenProfile};
use crate::node::{NodePath, node_path};
use crate::suggest;
use crate::url::{InvalidUrl, Url};

/// Largest key set, the same as for one that is fetched.
const MAX_KEY_SET_BYTES: u64 = 1024 * 1024;
const DEFAULT_ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

impl Resolver<'_> {
    pub(super) fn issuers(&mut self, written: &[document::Issuer]) -> Vec<Issuer> {
        let mut seen: Vec<(&str, NodePath)> = Vec::new();
        let mut issuers = Vec::new();
        for (path, issuer) in self.read.elements(&node_path!["issuers"], written) {
            let own = path.join("issuer");
            if let Some((_, first)) = seen.iter().find(|(text, _)| *text == issuer.issuer) {
                let message = format!(
                    "two issuers are `{}`; the `iss` of a token has to tell which one it is",
                    issuer.issuer
                );
                let help = format!("first at {}", self.source().place_name(first));
                self.refuse(codes::DUPLICATE_NAME, &own, message, help);
            }
            seen.push((&issuer.issuer, own));
            issuers.extend(self.issuer(&path, issuer));
        }
        issuers
    }

    fn issuer(&mut self, path: &NodePath, written: &document::Issuer) -> Option<Issuer> {
        let url = self.trusted_url(
            &path.join("issuer"),
            &written.issuer,
            written.dangerously_allow_http,
        );
        if let Some(url) = &url
            && url.has_query
        {
            let message = format!("`{}` has a query", written.issuer);
            self.refuse(
                codes::INVALID_URL,
                &path.join("issuer"),
                message,
                "an issuer has none (RFC 8414 §2)",
            );
        }
        let audiences = self.audiences(path, written);
        let algorithms = self.algorithms(path, written);
        let leeway = self.duration(
            &path.join("leeway"),
            written.leeway,
            30 * SECOND,
            Duration::ZERO..=300 * SECOND,
        );
        let refresh_interval = self.duration(
            &path.join("refresh_interval"),
            written.refresh_interval,
            300 * SECOND,
            SECOND..=24 * HOUR,
        );
        let max_stale = self.duration(
            &path.join("max_stale"),
            written.max_stale,
            24 * HOUR,
            Duration::ZERO..=30 * 24 * HOUR,
        );
        let trust = written
            .trust
            .as_ref()
            .and_then(|file| self.trust(&path.join("trust"), file));
        let keys = self.key_source(&path.join("keys"), written, url.as_ref());
        Some(Issuer {
            policy: policy::Issuer {
                name: written.name.as_str().into(),
                issuer: written.issuer.as_str().into(),
                audiences,
                algorithms,
                profile: match written.token_profile {
                    Some(TokenProfile::Jwt) => policy::TokenProfile::Jwt,
                    Some(TokenProfile::Rfc9068) | None => policy::TokenProfile::Rfc9068,
                },
                scope_claim: match written.scope_claim {
                    Some(ScopeClaim::Scp) => policy::ScopeClaim::Scp,
                    Some(ScopeClaim::Scope) | None => policy::ScopeClaim::Scope,
                },
                leeway,
            },
            keys: keys?,
            refresh_interval,
            max_stale,
            trust,
        })
    }

    fn audiences(&mut self, path: &NodePath, written: &document::Issuer) -> Vec<Box<str>> {
        let list = path.join("audiences");
        if written.audiences.is_empty() && !self.read.is_damaged(&list) {
            let message = format!("issuer `{}` accepts no audience", written.name);
            let help = "name the `aud` that its tokens for these services bear; without one, tokens for anybody else would do";
            self.refuse(codes::AUDIENCE_MISSING, &list, message, help);
        }
        for (path, audience) in self.read.elements(&list, &written.audiences) {
            if audience.is_empty() {
                self.refuse(
                    codes::AUDIENCE_MISSING,
                    &path,
                    "an audience is empty",
                    "name it, or remove it",
                );
            }
        }
        written
            .audiences
            .iter()
            .map(|audience| audience.as_str().into())
            .collect()
    }

    fn algorithms(&mut self, path: &NodePath, written: &document::Issuer) -> Vec<Algorithm> {
        let list = path.join("algorithms");
        let Some(names) = &written.algorithms else {
            return DEFAULT_ALGORITHMS.to_vec();
        };
        if names.is_empty() && !self.read.is_damaged(&list) {
            let message = format!("issuer `{}` accepts no signature algorithm", written.name);
            self.refuse(
                codes::ALGORITHM_UNSUPPORTED,
                &list,
                message,
                "name one, or leave the key out",
            );
        }
        let mut algorithms = Vec::new();
        for (path, name) in self.read.elements(&list, names) {
            match name.parse::<Algorithm>() {
                Ok(algorithm) if algorithms.contains(&algorithm) => {}
                Ok(algorithm) => algorithms.push(algorithm),
                Err(_) => self.refuse_algorithm(&path, name),
            }
        }
        algorithms
    }

    fn refuse_algorithm(&mut self, path: &NodePath, name: &str) {
        let help = match name.to_ascii_lowercase().as_str() {
            "none" => "a token without a signature could be made by anybody".to_owned(),
            "hs256" | "hs384" | "hs512" => {
                "whoever can verify an HMAC can also make one; let the issuer sign with RS256, ES256 or EdDSA".to_owned()
            }
            "es512" => "use ES256 or ES384".to_owned(),
            _ => match suggest::closest(name, Algorithm::ALL.map(Algorithm::as_str)) {
                Some(similar) => format!("did you mean `{similar}`?"),
                None => format!("use one of {}", suggest::list(Algorithm::ALL.map(Algorithm::as_str))),
            },
        };
        self.refuse(
            codes::ALGORITHM_UNSUPPORTED,
            path,
            format!("the algorithm `{name}` is not accepted"),
            help,
        );
    }

    fn key_source(
        &mut self,
        path: &NodePath,
        written: &document::Issuer,
        url: Option<&Url<'_>>,
    ) -> Option<KeySource> {
        let keys = &written.keys;
        match (keys.discovery.unwrap_or(false), &keys.url, &keys.file) {
            (true, None, None) => Some(KeySource::Discovery {
                metadata_urls: url?.metadata_urls(),
                allow_http: written.dangerously_allow_http,
            }),
            (false, Some(url), None) => {
                self.trusted_url(&path.join("url"), url, written.dangerously_allow_http)?;
                Some(KeySource::Url(url.clone()))
            }
            (false, None, Some(file)) => {
                let path = path.join("file");
                let bytes = self.read_file(&path, file, MAX_KEY_SET_BYTES)?;
                if let Err(problem) = KeySet::parse(&bytes) {
                    let message = format!("`{}` is no key set: {problem}", file.display());
                    let help = "a JSON Web Key Set with public keys is needed (RFC 7517 §5)";
                    self.refuse(codes::INVALID_KEY_SET, &path, message, help);
                }
                Some(KeySource::File(self.resolve_path(file), Arc::from(bytes)))
            }
            (false, None, None) if self.read.is_damaged(path) => None,
            (discovery, url, file) => {
                let given = usize::from(discovery)
                    + usize::from(url.is_some())
                    + usize::from(file.is_some());
                let message = match given {
                    0 => format!("issuer `{}` has no keys", written.name),
                    _ => format!("issuer `{}` has its keys from {given} places", written.name),
                };
                let help = "say exactly one of `discovery: true`, `url:` and `file:`";
                self.refuse(codes::KEY_SOURCE, path, message, help);
                None
            }
        }
    }

    /// An address that decides whose signatures are believed.
    fn trusted_url<'u>(
        &mut self,
        path: &NodePath,
        text: &'u str,
        allow_http: bool,
    ) -> Option<Url<'u>> {
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(InvalidUrl::UserInfo) => {
                // Neither the value nor its line is shown: a password is in it.
                let place = self.source().place_of(path);
                let message = format!("`{path}` carries a user name or password");
                let error = crate::Diagnostic::error(
                    codes::INSECURE_URL,
                    self.source().path(),
                    place,
                    message,
                );
                self.report(error.with_help("remove everything up to and including the `@`"));
                return None;
            }
            Err(problem) => {
                let help = match problem {
                    InvalidUrl::Scheme => "it has to begin with `https://`",
                    InvalidUrl::Fragment => "remove the `#` and what follows",
                    InvalidUrl::Characters => {
                        "it may hold visible ASCII characters only; others are percent-encoded"
                    }
                    InvalidUrl::Authority | InvalidUrl::UserInfo => {
                        "a host name, and a port if need be, follow the `//`"
                    }
                };
                self.refuse(
                    codes::INVALID_URL,
                    path,
                    format!("`{text}` is no address of an issuer or key set"),
                    help,
                );
                return None;
            }
        };
        if !url.is_https && !url.is_loopback() && !allow_http {
            let message = format!(
                "`{text}` is plain HTTP, where anybody on the way could put in keys of their own"
            );
            let help =
                "use `https://`; or say `dangerously_allow_http: true`, for a closed network";
            self.refuse(codes::INSECURE_URL, path, message, help);
        }
        Some(url)
    }
}

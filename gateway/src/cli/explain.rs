use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use http::{HeaderName, HeaderValue, Uri, header};
use pingora_http::RequestHeader;
use portcullis_config::{Config, KeySource};
use portcullis_policy::{
    Access, Denial, Evidence, IssuerSet, KeySet, PresentedToken, Requirement, Route,
    SupposedPrincipal, UnixTime, what_if,
};
use serde_json::{Value, json};

use super::{ConfigPath, ENVIRONMENT, FOUND_WANTING, GOOD};
use crate::admission::check_websocket;
use crate::downstream::request::Arrived;
use crate::downstream::response::Answer;
use crate::downstream::{credential, head};
use crate::refusal::Refusal;
use crate::websocket::handshake;

/// Say what would happen to a request, and why
///
/// Judges one request by the configuration, with the code that judges real ones, and without asking
/// anybody: it prints the route, what that requires, the verdict, the refusal that the caller would
/// get, or the headers that the service would.
///
/// A token comes from a file or from standard input, never from the command line, which others can
/// see. Its signature is checked where the keys are at hand: when the issuer's key set is a file, or
/// with `--keys`. Otherwise it is supposed to be good, and the answer says so.
///
/// Exit codes: 0 when the request would be admitted, 1 when it would be refused or the configuration is
/// bad, 3 when a file cannot be read.
#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    config: ConfigPath,
    /// Read the access token from this file; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "claims")]
    token_file: Option<PathBuf>,
    /// Suppose a token with the claims in this JSON file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    claims: Option<PathBuf>,
    /// Check the token's signature with the key set in this file
    #[arg(long, value_name = "FILE", requires = "token_file")]
    keys: Option<PathBuf>,
    /// Judge at this time, in seconds since 1970. Default: now
    #[arg(long, value_name = "SECONDS")]
    at: Option<i64>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Method of the request
    method: String,
    /// Its URL, such as `https://api.acme.example/orders/7`; `wss:` asks for a WebSocket
    url: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
}

impl Explain {
    pub(super) fn run(self) -> u8 {
        let Some(config) = self.config.load() else {
            return FOUND_WANTING;
        };
        match self.explain(&config) {
            Ok(explanation) => {
                match self.format {
                    Format::Human => print!("{}", explanation.to_text()),
                    Format::Json => println!("{:#}", explanation.to_json()),
                }
                if explanation.refusal.is_some() {
                    FOUND_WANTING
                } else {
                    GOOD
                }
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                ENVIRONMENT
            }
        }
    }

    fn explain(&self, config: &Config) -> anyhow::Result<Explanation> {
        let request = self.request()?;
        let token = self.token_file.as_deref().map(read_text).transpose()?;
        let token = token.as_deref().map(str::trim);
        let claims = self.claims.as_deref().map(read_text).transpose()?;
        let mut explanation = Explanation::of(format!("{} {}", self.method, self.url));
        let outcome = self.judge(config, &request, token, claims.as_deref(), &mut explanation);
        match outcome {
            Ok(()) => {}
            Err(Judged::Refused(denial)) => explanation.refuse(denial, &config.realm),
            Err(Judged::Unreadable(error)) => return Err(error),
        }
        Ok(explanation)
    }

    fn judge(
        &self,
        config: &Config,
        request: &RequestHeader,
        token: Option<&str>,
        claims: Option<&str>,
        explanation: &mut Explanation,
    ) -> Result<(), Judged> {
        head::check(&as_sent(request), &config.limits)?;
        let arrived = Arrived::read(request, &config.limits)?;
        let asked = arrived.as_policy();
        let contest = config.route_table.contest(&asked);
        explanation.contest =
            contest.map(|routes| routes.map(|route| ExplainedRoute::of(config, route)));
        let route = config.route_table.find(&asked)?;
        explanation.route = Some(ExplainedRoute::of(config, route));
        let issuers = IssuerSet::new(
            config
                .issuers
                .iter()
                .map(|issuer| issuer.policy.clone())
                .collect(),
        );
        let keys;
        let evidence = match (token, claims, &route.access) {
            (_, _, Access::Public) | (None, None, Access::Protected(_)) => Evidence::Nothing,
            (Some(token), _, Access::Protected(_)) => {
                let mut with_token = request.clone();
                let field = HeaderValue::try_from(format!("Bearer {token}"))
                    .map_err(|_| Denial::CredentialMalformed)?;
                // The name is a header name.
                let _ = with_token.insert_header(header::AUTHORIZATION, field);
                credential::find(&with_token, arrived.query(), config.limits.token_bytes)?;
                keys = self
                    .keys(config, &issuers, token)
                    .map_err(Judged::Unreadable)?;
                explanation.signature = Some(keys.is_some());
                Evidence::Token(token, keys.as_ref())
            }
            (None, Some(claims), Access::Protected(_)) => {
                explanation.signature = Some(false);
                Evidence::Claims(claims.as_bytes())
            }
        };
        let now = self.at.map_or_else(now, UnixTime::from_seconds);
        let supposition = what_if(
            route,
            evidence,
            &issuers,
            &config.identity_headers,
            &config.scopes,
            now,
        );
        explanation.principal = supposition.principal.map(|principal| {
            let issuer = issuers
                .get(principal.issuer)
                .map(|issuer| issuer.name.to_string());
            (issuer.unwrap_or_default(), principal)
        });
        supposition.verdict?;
        let settings = config.routes.get(route.id.index());
        check_websocket(request, settings.is_some_and(|it| it.websocket))?;
        Ok(())
    }

    /// The keys that the token is to be checked with, if there are any at hand.
    fn keys(
        &self,
        config: &Config,
        issuers: &IssuerSet,
        token: &str,
    ) -> anyhow::Result<Option<KeySet>> {
        if let Some(path) = &self.keys {
            let text = read_text(path)?;
            let keys = KeySet::parse(text.as_bytes())
                .with_context(|| format!("`{}` is no key set", path.display()))?;
            return Ok(Some(keys));
        }
        let issuer = PresentedToken::parse(token)
            .ok()
            .and_then(|presented| presented.issuer(issuers).ok().map(|(id, _)| id));
        let source = issuer
            .and_then(|id| config.issuers.get(id.index()))
            .map(|issuer| &issuer.keys);
        Ok(match source {
            Some(KeySource::File(_, document)) => KeySet::parse(document).ok(),
            Some(KeySource::Url(_) | KeySource::Discovery { .. }) | None => None,
        })
    }

    fn request(&self) -> anyhow::Result<RequestHeader> {
        let uri = self.url.parse::<Uri>();
        let scheme = uri.as_ref().ok().and_then(Uri::scheme_str);
        // In any case (RFC 3986 §3.1).
        let asks_for_websocket = scheme.is_some_and(|it| {
            ["ws", "wss"]
                .iter()
                .any(|name| name.eq_ignore_ascii_case(it))
        });
        let (target, authority) = match &uri {
            Ok(uri) if uri.scheme().is_some() => {
                let after_scheme = self.url.split_once("://").map_or("", |(_, rest)| rest);
                let start = after_scheme.find(['/', '?']).unwrap_or(after_scheme.len());
                let (authority, target) = after_scheme.split_at(start);
                (with_slash(target), authority.to_owned())
            }
            // Whatever cannot be a URI is for the checks to refuse; a path is for any host.
            _ if self.url.starts_with('/') => (self.url.clone(), "localhost".to_owned()),
            _ => bail!(
                "`{}` is no URL; write it like `https://api.acme.example/orders/7`",
                self.url
            ),
        };
        let mut request = RequestHeader::build(self.method.as_str(), target.as_bytes(), None)
            .with_context(|| format!("`{} {}` cannot be a request", self.method, self.url))?;
        request
            .insert_header(header::HOST, authority.as_str())
            .with_context(|| format!("`{authority}` cannot be a host"))?;
        if asks_for_websocket {
            for (name, value) in [
                (header::UPGRADE, handshake::WEBSOCKET),
                (header::CONNECTION, handshake::UPGRADE_OPTION),
                (header::SEC_WEBSOCKET_VERSION, handshake::VERSION),
                (header::SEC_WEBSOCKET_KEY, ANY_WEBSOCKET_KEY),
            ] {
                request.insert_header(name, value)?;
            }
        }
        Ok(request)
    }
}

/// A caller makes a new one each time; all are as good (RFC 6455 §4.1).
const ANY_WEBSOCKET_KEY: HeaderValue = HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA==");

/// Why there is no good verdict.
enum Judged {
    Refused(Denial),
    Unreadable(anyhow::Error),
}

impl From<Denial> for Judged {
    fn from(denial: Denial) -> Self {
        Self::Refused(denial)
    }
}

fn with_slash(target: &str) -> String {
    if target.starts_with('/') {
        target.to_owned()
    } else {
        format!("/{target}")
    }
}

/// The head as it would arrive.
fn as_sent(request: &RequestHeader) -> Vec<u8> {
    let mut head = request.method.as_str().as_bytes().to_vec();
    head.push(b' ');
    head.extend_from_slice(request.raw_path());
    head.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &request.headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn now() -> UnixTime {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixTime::from_seconds(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX))
}

/// Larger than any token or key set that would be accepted.
const MAX_INPUT_BYTES: u64 = 1024 * 1024;

fn read_text(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let name = path.display();
    if path == Path::new("-") {
        std::io::stdin()
            .take(MAX_INPUT_BYTES)
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .with_context(|| format!("cannot open `{name}`"))?
            .take(MAX_INPUT_BYTES)
            .read_to_string(&mut text)
    }
    .with_context(|| format!("cannot read `{name}`"))?;
    Ok(text)
}

/// What would happen to a request.
struct Explanation {
    request: String,
    route: Option<ExplainedRoute>,
    /// The route that an ambiguous path belongs to here, and one that a service could take it for.
    contest: Option<[ExplainedRoute; 2]>,
    /// Whether the signature was checked; `None` where no token was looked at.
    signature: Option<bool>,
    principal: Option<(String, SupposedPrincipal)>,
    refusal: Option<(Refusal, Answer)>,
}

struct ExplainedRoute {
    name: String,
    owner: String,
    file: String,
    matches: String,
    requires: String,
    upstream: String,
    forward_authorization: bool,
}

impl ExplainedRoute {
    fn of(config: &Config, route: &Arc<Route>) -> Self {
        let configured = config.routes.get(route.id.index());
        let upstream = configured.and_then(|it| config.upstreams.get(it.upstream));
        let file = configured.and_then(|it| config.policy_files.get(it.file));
        Self {
            name: route.name.to_string(),
            owner: route.owner.to_string(),
            file: file
                .map(|file| file.path.display().to_string())
                .unwrap_or_default(),
            matches: format!(
                "{} {}{}",
                route.methods,
                route
                    .host
                    .as_ref()
                    .map_or("(any host) ", |host| host.as_str()),
                route.path
            ),
            requires: match &route.access {
                Access::Public => "nothing: it is public".to_owned(),
                Access::Protected(requirement) => requires(config, requirement),
            },
            upstream: upstream
                .map(|upstream| upstream.name.clone())
                .unwrap_or_default(),
            forward_authorization: configured.is_some_and(|it| it.forward_authorization),
        }
    }

    fn title(&self) -> String {
        format!("{} ({}, {})", self.name, self.owner, self.file)
    }

    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "owner": self.owner,
            "file": self.file,
            "matches": self.matches,
            "requires": self.requires,
            "upstream": self.upstream,
        })
    }
}

fn requires(config: &Config, requirement: &Requirement) -> String {
    let scopes = requirement.scopes.names();
    let mut text = match (
        scopes.is_empty(),
        requirement.scopes.is_any(),
        scopes.contains(' '),
    ) {
        (true, ..) => "any valid access token".to_owned(),
        (false, true, _) => format!("one of the scopes {scopes}"),
        (false, false, true) => format!("all of the scopes {scopes}"),
        (false, false, false) => format!("the scope {scopes}"),
    };
    if let Some(accepted) = &requirement.issuers {
        let names: Vec<_> = accepted
            .iter()
            .filter_map(|id| config.issuers.get(id.index()))
            .map(|issuer| &*issuer.policy.name)
            .collect();
        let _ = write!(text, ", from {}", names.join(" or "));
    }
    text
}

const UNCHECKED: &str = "not checked: its keys are not at hand (see --keys)";

impl Explanation {
    const fn of(request: String) -> Self {
        Self {
            request,
            route: None,
            contest: None,
            signature: None,
            principal: None,
            refusal: None,
        }
    }

    fn refuse(&mut self, denial: Denial, realm: &str) {
        let refusal = Refusal::from(denial);
        // A request that was never made has no id.
        let answer = Answer::new(&refusal, realm, &HeaderValue::from_static("explain"));
        self.refusal = Some((refusal, answer));
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "{name:<12}{value}");
        };
        line("request", &self.request);
        match &self.route {
            None => line("route", "none"),
            Some(route) => {
                line("route", &route.title());
                line("matches", &route.matches);
                line("requires", &route.requires);
                line("upstream", &route.upstream);
            }
        }
        for route in self.contest.iter().flatten() {
            line("contested", &route.title());
            line("matches", &route.matches);
            line("requires", &route.requires);
        }
        if let Some((issuer, principal)) = &self.principal {
            let client = principal.client.as_deref().unwrap_or("unnamed");
            line(
                "token",
                &format!(
                    "subject {}, client {client}, issuer {issuer}",
                    principal.subject
                ),
            );
            line("scopes", &principal.scopes.join(" "));
        }
        match self.signature {
            None => {}
            Some(true) => line("signature", "checked"),
            Some(false) => line("signature", UNCHECKED),
        }
        match &self.refusal {
            None => {
                line("verdict", "admitted");
                for (name, value) in self.service_headers() {
                    line("service gets", &format!("{name}: {value}"));
                }
            }
            Some((refusal, answer)) => {
                line(
                    "verdict",
                    &format!("refused: {} {}", refusal.status(), refusal.code()),
                );
                for (name, value) in shown(&answer.headers) {
                    line("caller gets", &format!("{name}: {value}"));
                }
                line("", &String::from_utf8_lossy(&answer.body));
            }
        }
        text
    }

    /// What the gateway writes, apart from ids and addresses, which each request has its own of.
    fn service_headers(&self) -> Vec<(String, String)> {
        let mut headers: Vec<_> = self
            .principal
            .iter()
            .flat_map(|(_, principal)| &principal.identity)
            .map(|(name, value)| shown_header(name, value))
            .collect();
        if self
            .route
            .as_ref()
            .is_some_and(|route| route.forward_authorization)
        {
            headers.push((
                "authorization".to_owned(),
                "(as the caller sent it)".to_owned(),
            ));
        }
        headers
    }

    fn to_json(&self) -> Value {
        let verdict = match &self.refusal {
            None => json!({ "admitted": true }),
            Some((refusal, answer)) => json!({
                "admitted": false,
                "status": refusal.status(),
                "code": refusal.code(),
                "headers": shown(&answer.headers).collect::<Vec<_>>(),
                "body": serde_json::from_slice::<Value>(&answer.body).unwrap_or_default(),
            }),
        };
        json!({
            "format_version": 1,
            "ok": self.refusal.is_none(),
            "request": self.request,
            "route": self.route.as_ref().map(ExplainedRoute::to_json),
            "contested": self.contest.iter().flatten().map(ExplainedRoute::to_json).collect::<Vec<_>>(),
            "token": self.principal.as_ref().map(|(issuer, principal)| json!({
                "issuer": issuer,
                "subject": principal.subject,
                "client": principal.client,
                "scopes": principal.scopes,
            })),
            "signature_checked": self.signature,
            "verdict": verdict,
            "service_headers": if self.refusal.is_none() { self.service_headers() } else { Vec::new() },
        })
    }
}

/// Headers that depend on the refusal.
fn shown(headers: &[(HeaderName, HeaderValue)]) -> impl Iterator<Item = (String, String)> {
    headers
        .iter()
        .filter(|(name, _)| {
            matches!(
                *name,
                header::WWW_AUTHENTICATE | header::ALLOW | header::RETRY_AFTER
            )
        })
        .map(|(name, value)| shown_header(name, value))
}

fn shown_header(name: &HeaderName, value: &HeaderValue) -> (String, String) {
    (
        name.to_string(),
        String::from_utf8_lossy(value.as_bytes()).into_owned(),
    )
}

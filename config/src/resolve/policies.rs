//! Policy files → routes and scopes.

mod route_conflicts;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use portcullis_policy::{
    Access, Host, IssuerId, Method, MethodSet, PathPattern, RequiredScopes, Requirement, Route,
    RouteId, RouteTable, Scope, ScopeRegistry,
};

use crate::check::Names;
use crate::check::access::check_access;
use crate::check::names::check_name;
use crate::check::scope_defined_twice::scope_defined_twice;
use crate::check::unregistered_scope::unregistered_scope;
use crate::check::unused_scope::unused_scope;
use crate::check::websocket_impossible::websocket_impossible;
use crate::config;
use crate::diagnostic::{Diagnostic, codes};
use crate::document::{self, HumanDuration, PolicyDocument};
use crate::node::{NodePath, node_path};
use crate::read::{Read, read};
use crate::source::Source;
use crate::suggest;

use super::limits::TIB;
use super::{DAY, MILLISECOND, SECOND, duration_out_of_range, size_out_of_range};

/// What a misspelt key of a route may have been meant to be.
const ROUTE_KEYS: [&str; 9] = [
    "name",
    "match",
    "upstream",
    "require",
    "public",
    "forward_authorization",
    "websocket",
    "limits",
    "yields_to",
];

/// A policy file that was read and parsed.
#[derive(Debug)]
pub(crate) struct PolicySource {
    pub(crate) path: PathBuf,
    /// `None` when the text is not YAML, or is no policy at all.
    pub(crate) read: Option<Read<PolicyDocument>>,
    /// What is wrong with the file by itself.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// What policy files may refer to, and must not clash with.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) upstreams: Names,
    /// Upstreams that speak HTTP/2.
    pub(crate) http2_upstreams: HashSet<String>,
    pub(crate) issuers: Names,
    /// Scopes of files that are not there, each with its owner.
    pub(crate) scopes: Vec<(Scope, String)>,
    /// Routes of files that are not there, and to whom they yield; who may call them is not known.
    pub(crate) routes: Vec<(Route, Vec<String>)>,
}

/// Routes and scopes of all files.
#[derive(Debug)]
pub(crate) struct Policies {
    pub(crate) routes: Vec<config::Route>,
    /// `None` when routes overlap.
    pub(crate) route_table: Option<RouteTable>,
    pub(crate) scopes: ScopeRegistry,
}

/// Where a scope is defined.
#[derive(Debug)]
pub(crate) struct ScopeDefinition<'a> {
    pub(crate) scope: Scope,
    pub(crate) owner: &'a str,
    pub(crate) file: Option<&'a Path>,
    /// `file:line:column`.
    pub(crate) place: Option<String>,
}

impl PolicySource {
    /// Parses the text of a policy file.
    pub(crate) fn parse(path: &Path, text: Arc<str>) -> Self {
        let (read, diagnostics) = read::<PolicyDocument>(path, text);
        Self {
            path: path.to_path_buf(),
            read,
            diagnostics,
        }
    }

    /// The owner, as far as it can be read.
    pub(crate) fn owner(&self) -> &str {
        let owner = self
            .read
            .as_ref()
            .and_then(|read| read.source.node.get("owner"));
        owner.and_then(|owner| owner.as_str()).unwrap_or_default()
    }
}

/// Resolves all `files` together, each with the number that its routes bear.
pub(crate) fn policies(
    surroundings: &Surroundings,
    files: &[(usize, &PolicySource)],
) -> (Policies, Vec<Diagnostic>) {
    let mut resolver = PolicyResolver {
        surroundings,
        files,
        found: Vec::new(),
        by_name: HashMap::new(),
        diagnostics: files
            .iter()
            .flat_map(|(_, file)| &file.diagnostics)
            .cloned()
            .collect(),
    };
    let scopes = resolver.scopes();
    let registry = ScopeRegistry::new(scopes.iter().map(|definition| definition.scope.clone()));
    resolver.routes(&scopes, &registry);
    let route_table = resolver.route_table();
    resolver.check_borders();
    resolver.warn_about_contested_routes();
    resolver.warn_about_shadowed_routes();
    resolver.warn_about_unused_scopes();
    let routes = resolver
        .found
        .into_iter()
        .map(|found| found.route)
        .collect();
    (
        Policies {
            routes,
            route_table,
            scopes: registry,
        },
        resolver.diagnostics,
    )
}

struct PolicyResolver<'a> {
    surroundings: &'a Surroundings,
    files: &'a [(usize, &'a PolicySource)],
    /// In the order of their ids.
    found: Vec<Found<'a>>,
    /// Where each route is that has a name, with its owner.
    by_name: HashMap<&'a str, (&'a Source, NodePath, &'a str)>,
    diagnostics: Vec<Diagnostic>,
}

struct Found<'a> {
    route: config::Route,
    source: &'a Source,
    path: NodePath,
}

impl<'a> PolicyResolver<'a> {
    fn documents(
        &self,
    ) -> impl Iterator<Item = (usize, &'a Read<PolicyDocument>, &'a PolicyDocument)> + use<'a> {
        self.files.iter().filter_map(|(number, file)| {
            let read = file.read.as_ref()?;
            Some((*number, read, read.document.as_ref()?))
        })
    }

    fn scopes(&mut self) -> Vec<ScopeDefinition<'a>> {
        let foreign = self.surroundings.scopes.iter();
        let mut scopes: Vec<ScopeDefinition<'a>> = foreign
            .map(|(scope, owner)| ScopeDefinition {
                scope: scope.clone(),
                owner,
                file: None,
                place: None,
            })
            .collect();
        for (_, read, document) in self.documents() {
            let source = &read.source;
            self.diagnostics.extend(check_name(
                source,
                "owner",
                &node_path!["owner"],
                &document.owner,
            ));
            for (name, _) in document.scopes.0.iter() {
                let path = node_path!["scopes", name];
                match name.parse::<Scope>() {
                    Ok(scope) => match scopes.iter().find(|definition| definition.scope == scope) {
                        Some(first) => self
                            .diagnostics
                            .push(scope_defined_twice(source, &path, name, first)),
                        None => scopes.push(ScopeDefinition {
                            scope,
                            owner: &document.owner,
                            file: Some(source.path()),
                            place: Some(source.place_name(&path)),
                        }),
                    },
                    Err(problem) => {
                        let error = source.key_error(
                            codes::INVALID_SCOPE,
                            &path,
                            format!("`{name}` is no scope"),
                        );
                        self.diagnostics
                            .push(error.with_help(format!("{problem} (RFC 6749 §3.3)")));
                    }
                }
            }
            // A definition that was left out is one all the same: nobody else is wrong to use it.
            for out in &read.left_out {
                if let [
                    crate::node::Segment::Key(list),
                    crate::node::Segment::Key(name),
                ] = out.segments()
                    && list == "scopes"
                    && let Ok(scope) = name.parse()
                {
                    let (owner, file) = (document.owner.as_str(), Some(source.path()));
                    scopes.push(ScopeDefinition {
                        scope,
                        owner,
                        file,
                        place: Some(source.place_name(out)),
                    });
                }
            }
        }
        scopes
    }

    fn routes(&mut self, scopes: &[ScopeDefinition<'_>], registry: &ScopeRegistry) {
        for (file, read, document) in self.documents() {
            for (path, route) in read.elements(&node_path!["routes"], &document.routes) {
                self.check_route_name(&read.source, &document.owner, &path, route);
                let diagnostics =
                    check_access(&read.source, &path, route, access_is_damaged(read, &path));
                self.diagnostics.extend(diagnostics);
                self.route(file, read, document, path, route, scopes, registry);
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one route with all that surrounds it, called once"
    )]
    fn route(
        &mut self,
        file: usize,
        read: &'a Read<PolicyDocument>,
        document: &PolicyDocument,
        path: NodePath,
        route: &document::Route,
        scopes: &[ScopeDefinition<'_>],
        registry: &ScopeRegistry,
    ) {
        let access = self.access(read, &path, route, scopes, registry);
        let user = format!("route `{}`", route.name);
        let upstreams = &self.surroundings.upstreams;
        let unknown = upstreams.check_use(
            &read.source,
            &path.join("upstream"),
            &user,
            "upstream",
            &route.upstream,
        );
        self.diagnostics.extend(unknown);
        let limits = self.limits(&read.source, &path, route);
        let Some((host, pattern, methods)) = self.matching(read, &path, route) else {
            return;
        };
        let speaks_http2 = self.surroundings.http2_upstreams.contains(&route.upstream);
        let impossible = websocket_impossible(&read.source, &path, route, methods, speaks_http2);
        self.diagnostics.extend(impossible);
        let policy = Route {
            id: RouteId::from_index(self.found.len()),
            name: route.name.as_str().into(),
            owner: document.owner.as_str().into(),
            host,
            path: pattern,
            methods,
            access,
        };
        let route = config::Route {
            policy: Arc::new(policy),
            upstream: upstreams.position(&route.upstream).unwrap_or_default(),
            forward_authorization: route.forward_authorization,
            websocket: route.websocket,
            limits,
            yields_to: route.yields_to.clone().unwrap_or_default(),
            file,
        };
        self.found.push(Found {
            route,
            source: &read.source,
            path,
        });
    }

    fn check_route_name(
        &mut self,
        source: &'a Source,
        owner: &'a str,
        path: &NodePath,
        route: &'a document::Route,
    ) {
        let (path, name) = (path.join("name"), route.name.as_str());
        self.diagnostics
            .extend(check_name(source, "route", &path, name));
        let foreign = self
            .surroundings
            .routes
            .iter()
            .map(|(route, _)| route)
            .find(|route| &*route.name == name);
        let (first_owner, place, file) = match (self.by_name.get(name), foreign) {
            (Some((first, at, owner)), _) => (
                *owner,
                format!("first defined at {}", first.place_name(at)),
                Some(first.path()),
            ),
            (None, Some(foreign)) => (&*foreign.owner, "it is in the catalog".to_owned(), None),
            (None, None) => {
                self.by_name.insert(name, (source, path, owner));
                return;
            }
        };
        let message = match first_owner == owner {
            true => format!("two routes of `{owner}` are called `{name}`"),
            false => format!("route `{name}` of `{owner}` is already a route of `{first_owner}`"),
        };
        let error = source.error(codes::DUPLICATE_NAME, &path, message);
        let error = error.with_help(format!("{place}; choose another name"));
        self.diagnostics
            .push(error.with_conflict(format!("route {name}"), file));
    }

    /// The route's own limits.
    fn limits(
        &mut self,
        source: &Source,
        path: &NodePath,
        route: &document::Route,
    ) -> config::RouteLimits {
        let written = route.limits.unwrap_or_default();
        let path = path.join("limits");
        if let Some(size) = written.body_bytes {
            let error = size_out_of_range(source, &path.join("body_bytes"), size, TIB);
            self.diagnostics.extend(error);
        }
        let mut duration = |key: &str, written: Option<HumanDuration>, least: Duration| {
            let duration = written?;
            let error = duration_out_of_range(source, &path.join(key), duration, &(least..=DAY));
            self.diagnostics.extend(error);
            Some(duration.0)
        };
        config::RouteLimits {
            body_bytes: written.body_bytes.map(|size| size.0),
            body_timeout: duration("body_timeout", written.body_timeout, SECOND),
            response_timeout: duration("response_timeout", written.response_timeout, MILLISECOND),
            websocket_idle_timeout: duration(
                "websocket_idle_timeout",
                written.websocket_idle_timeout,
                SECOND,
            ),
        }
    }

    /// Which requests the route is for.
    fn matching(
        &mut self,
        read: &Read<PolicyDocument>,
        path: &NodePath,
        route: &document::Route,
    ) -> Option<(Option<Host>, PathPattern, MethodSet)> {
        let (source, path, written) = (&read.source, path.join("match"), &route.r#match);
        let host = match &written.host {
            None => Some(None),
            Some(text) => match text.parse::<Host>() {
                Ok(host) => Some(Some(host)),
                Err(problem) => {
                    let error = source.error(
                        codes::INVALID_HOST,
                        &path.join("host"),
                        format!("`{text}` is {problem}"),
                    );
                    let help = "an exact host name is needed, without scheme, port or `*`; leave the key out for any host";
                    self.diagnostics.push(error.with_help(help));
                    None
                }
            },
        };
        let pattern = written.path.parse::<PathPattern>().map_err(|problem| {
            let message = format!("`{}` is no path pattern", written.path);
            let error = source.error(codes::INVALID_PATH_PATTERN, &path.join("path"), message);
            self.diagnostics.push(error.with_help(problem.to_string()));
        });
        let methods = self.methods(read, &path.join("methods"), written.methods.as_deref());
        Some((host?, pattern.ok()?, methods))
    }

    fn methods(
        &mut self,
        read: &Read<PolicyDocument>,
        path: &NodePath,
        written: Option<&[String]>,
    ) -> MethodSet {
        let Some(names) = written else {
            return MethodSet::ALL;
        };
        let source = &read.source;
        if names.is_empty() && !read.is_damaged(path) {
            let error = source.key_error(codes::INVALID_METHOD, path, "the route is for no method");
            self.diagnostics
                .push(error.with_help("name one, or leave the key out for all of them"));
        }
        let mut methods = Vec::new();
        for (path, name) in read.elements(path, names) {
            match name.parse::<Method>() {
                Ok(method) => methods.push(method),
                Err(problem) => {
                    let similar = suggest::closest(name, Method::ALL.map(Method::as_str));
                    let help = similar.map_or_else(
                        || problem.to_string(),
                        |similar| format!("did you mean `{similar}`?"),
                    );
                    let message = format!("no route can be for the method `{name}`");
                    self.diagnostics.push(
                        source
                            .error(codes::INVALID_METHOD, &path, message)
                            .with_help(help),
                    );
                }
            }
        }
        methods.into_iter().collect()
    }

    /// Who may call. Of a route with errors nobody asks: its file is not used.
    fn access(
        &mut self,
        read: &Read<PolicyDocument>,
        path: &NodePath,
        route: &document::Route,
        defined: &[ScopeDefinition<'_>],
        registry: &ScopeRegistry,
    ) -> Access {
        let access_is_damaged = access_is_damaged(read, path);
        let path = path.join("require");
        let Some(require) = &route.require else {
            return match route.public && !access_is_damaged {
                true => Access::Public,
                false => Access::Protected(Requirement {
                    scopes: RequiredScopes::authenticated_only(),
                    issuers: None,
                }),
            };
        };
        let issuers = require
            .issuers
            .as_ref()
            .map(|names| self.issuers(read, &path.join("issuers"), route, names));
        let scopes = require.scopes.as_ref().and_then(|written| {
            let path = match written {
                document::RequiredScopes::All(_) => path.join("scopes"),
                document::RequiredScopes::Any(_) => path.join("scopes").join("any"),
            };
            let mut scopes = Vec::new();
            for (path, name) in read.elements(&path, written.names()) {
                match name.parse::<Scope>() {
                    Ok(scope) if registry.id(name).is_some() => scopes.push(scope),
                    Ok(_) => {
                        self.diagnostics.push(unregistered_scope(
                            &read.source,
                            &path,
                            &route.name,
                            name,
                            defined,
                        ));
                    }
                    Err(problem) => {
                        let error = read.source.error(
                            codes::INVALID_SCOPE,
                            &path,
                            format!("`{name}` is no scope"),
                        );
                        self.diagnostics
                            .push(error.with_help(format!("{problem} (RFC 6749 §3.3)")));
                    }
                }
            }
            match written {
                document::RequiredScopes::All(_) => RequiredScopes::all(registry, &scopes).ok(),
                document::RequiredScopes::Any(_) => RequiredScopes::any(registry, &scopes).ok(),
            }
        });
        Access::Protected(Requirement {
            scopes: scopes.unwrap_or(RequiredScopes::authenticated_only()),
            issuers,
        })
    }

    fn issuers(
        &mut self,
        read: &Read<PolicyDocument>,
        path: &NodePath,
        route: &document::Route,
        names: &[String],
    ) -> Vec<IssuerId> {
        let known = &self.surroundings.issuers;
        let user = format!("route `{}`", route.name);
        for (path, name) in read.elements(path, names) {
            self.diagnostics
                .extend(known.check_use(&read.source, &path, &user, "issuer", name));
        }
        names
            .iter()
            .filter_map(|name| known.position(name))
            .map(IssuerId::from_index)
            .collect()
    }

    /// Only when nothing is wrong otherwise: a route that was left out may be the one that needs it.
    fn warn_about_unused_scopes(&mut self) {
        if self.diagnostics.iter().any(Diagnostic::is_error) {
            return;
        }
        let documents: Vec<_> = self.documents().collect();
        let routes = documents
            .iter()
            .flat_map(|(_, _, document)| &document.routes);
        let required = routes.filter_map(|route| route.require.as_ref()?.scopes.as_ref());
        let required: HashSet<&str> = required
            .flat_map(|scopes| scopes.names())
            .map(String::as_str)
            .collect();
        for (_, read, document) in &documents {
            for (scope, _) in document
                .scopes
                .0
                .iter()
                .filter(|(scope, _)| !required.contains(scope))
            {
                self.diagnostics.push(unused_scope(
                    &read.source,
                    &node_path!["scopes", scope],
                    scope,
                ));
            }
        }
    }
}

/// Whether what the route at `path` says about access was left out, maybe because it was misspelt.
fn access_is_damaged(read: &Read<PolicyDocument>, path: &NodePath) -> bool {
    let means_access = |key: &str| {
        matches!(
            suggest::closest(key, ROUTE_KEYS),
            Some("require" | "public")
        )
    };
    read.is_damaged(&path.join("require"))
        || read.left_out.iter().any(|out| {
            out.parent().as_ref() == Some(path) && out.last_key().is_some_and(means_access)
        })
}

//! The names of a platform, so that a team can check its own policy file without the others'.

use std::path::Path;
use std::sync::Arc;

use portcullis_policy::{Access, Host, Method, MethodSet, PathPattern, Route, RouteId, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::Names;
use crate::config::Config;
use crate::diagnostic::{Diagnostic, Diagnostics, codes};
use crate::generation::read_text;
use crate::node::{NodePath, node_path};
use crate::read::{Read, read};
use crate::resolve::policies::{PolicySource, Surroundings, policies};

/// Names that policy files refer to and must not clash with. There is no secret in it, no address
/// and nothing about who may call what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// Names of upstreams.
    pub upstreams: Vec<String>,
    /// Those of them that speak HTTP/2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http2_upstreams: Vec<String>,
    /// Names of issuers.
    pub issuers: Vec<String>,
    /// The scope registry.
    pub scopes: Vec<CatalogScope>,
    /// The routes of all teams.
    pub routes: Vec<CatalogRoute>,
}

/// A scope and the team that defined it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogScope {
    /// The scope.
    pub scope: String,
    /// Owner of the file that defines it.
    pub owner: String,
}

/// Which requests a route is for, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogRoute {
    /// Unique name.
    pub name: String,
    /// Owner of the file that defines it.
    pub owner: String,
    /// Exact host. Left out: any host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Path pattern.
    pub path: String,
    /// Methods.
    pub methods: Vec<String>,
    /// Owners of more specific routes that may take requests of this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub yields_to: Vec<String>,
}

/// Checks one policy file against a catalog. What the catalog has of the file's own team is an
/// older version of it, and no clash.
#[must_use]
pub fn check_policy(file: &Path, catalog: &Catalog) -> Diagnostics {
    let source = match read_text(file) {
        Ok(text) => PolicySource::parse(file, text),
        Err(error) => return vec![*error].into(),
    };
    let (_, diagnostics) = policies(&catalog.surroundings(&source), &[(0, &source)]);
    diagnostics.into()
}

impl Catalog {
    /// The names of a configuration.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        let mut scopes = Vec::new();
        for file in &config.policy_files {
            let source = PolicySource::parse(&file.path, Arc::clone(&file.text));
            let document = source.read.as_ref().and_then(|read| read.document.as_ref());
            let names = document
                .into_iter()
                .flat_map(|document| document.scopes.0.iter());
            scopes.extend(names.map(|(scope, _)| CatalogScope {
                scope: scope.to_owned(),
                owner: file.owner.clone(),
            }));
        }
        let routes = config.routes.iter().map(|route| CatalogRoute {
            name: route.policy.name.to_string(),
            owner: route.policy.owner.to_string(),
            host: route.policy.host.as_ref().map(ToString::to_string),
            path: route.policy.path.to_string(),
            methods: route
                .policy
                .methods
                .iter()
                .map(|method| method.as_str().to_owned())
                .collect(),
            yields_to: route.yields_to.clone(),
        });
        Self {
            upstreams: config
                .upstreams
                .iter()
                .map(|upstream| upstream.name.clone())
                .collect(),
            http2_upstreams: config
                .upstreams
                .iter()
                .filter(|upstream| upstream.http2)
                .map(|upstream| upstream.name.clone())
                .collect(),
            issuers: config
                .issuers
                .iter()
                .map(|issuer| issuer.policy.name.to_string())
                .collect(),
            scopes,
            routes: routes.collect(),
        }
    }

    /// Reads a catalog that [`Catalog::to_yaml`] wrote.
    ///
    /// # Errors
    /// Every problem of the file.
    pub fn load(file: &Path) -> Result<Self, Diagnostics> {
        let text = read_text(file).map_err(|error| Diagnostics::from(vec![*error]))?;
        let (read, mut diagnostics) = read::<Self>(file, text);
        let Some(Read {
            source,
            document: Some(catalog),
            ..
        }) = read
        else {
            return Err(diagnostics.into());
        };
        let mut refuse = |path: &NodePath, text: &str| {
            diagnostics.push(source.error(
                codes::INVALID_VALUE,
                path,
                format!("`{text}` cannot be in a catalog"),
            ));
        };
        for (index, scope) in catalog.scopes.iter().enumerate() {
            if scope.scope.parse::<Scope>().is_err() {
                refuse(&node_path!["scopes", index, "scope"], &scope.scope);
            }
        }
        for (index, route) in catalog.routes.iter().enumerate() {
            if route.resolve().is_none() {
                refuse(&node_path!["routes", index], &route.name);
            }
        }
        if diagnostics.iter().any(Diagnostic::is_error) {
            Err(diagnostics.into())
        } else {
            Ok(catalog)
        }
    }

    /// The catalog as a file.
    ///
    /// # Errors
    /// None in practice: there is nothing in a catalog that YAML could not hold.
    pub fn to_yaml(&self) -> Result<String, serde_yaml::Error> {
        serde_yaml::to_string(self)
    }

    fn surroundings(&self, source: &PolicySource) -> Surroundings {
        let owner = source.owner();
        let document = source.read.as_ref().and_then(|read| read.document.as_ref());
        let defines =
            |scope: &str| document.is_some_and(|document| document.scopes.0.get(scope).is_some());
        let scopes = self
            .scopes
            .iter()
            .filter(|scope| scope.owner != owner || !defines(&scope.scope));
        let routes = self.routes.iter().filter(|route| route.owner != owner);
        Surroundings {
            upstreams: Names::known(self.upstreams.iter().cloned()),
            http2_upstreams: self.http2_upstreams.iter().cloned().collect(),
            issuers: Names::known(self.issuers.iter().cloned()),
            scopes: scopes
                .filter_map(|scope| Some((scope.scope.parse().ok()?, scope.owner.clone())))
                .collect(),
            routes: routes
                .filter_map(|route| Some((route.resolve()?, route.yields_to.clone())))
                .collect(),
        }
    }
}

impl CatalogRoute {
    fn resolve(&self) -> Option<Route> {
        let methods = self.methods.iter().map(|method| method.parse::<Method>());
        Some(Route {
            id: RouteId::from_index(0),
            name: self.name.as_str().into(),
            owner: self.owner.as_str().into(),
            host: self
                .host
                .as_ref()
                .map(|host| host.parse::<Host>())
                .transpose()
                .ok()?,
            path: self.path.parse::<PathPattern>().ok()?,
            methods: methods.collect::<Result<MethodSet, _>>().ok()?,
            // Nobody is let in by a catalog; only what the route matches is asked for.
            access: Access::Public,
        })
    }
}

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::{ByteSize, HumanDuration};
use crate::node::UniqueMap;

/// A policy file: one team's scopes and routes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// The team that owns this file; named in diagnostics, logs and metrics.
    pub owner: String,
    /// The scope registry: every scope that a route may name, with what it allows.
    #[serde(default)]
    pub scopes: ScopeDescriptions,
    /// The routes of this team.
    #[serde(default)]
    pub routes: Vec<Route>,
}

/// Scope to description. A scope is defined in one file and may be used in all.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ScopeDescriptions(pub UniqueMap<String>);

/// A route: which requests it is for, where they go, and what they need.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Name of this route in logs and metrics; unique among all files.
    pub name: String,
    /// Which requests this route is for.
    pub r#match: Match,
    /// Name of the upstream that the requests go to.
    pub upstream: String,
    /// What a caller's access token must bring. A route has this or `public: true`.
    pub require: Option<Requirement>,
    /// Anybody may call, with or without a token. Default: false.
    #[serde(default)]
    pub public: bool,
    /// Send the caller's `Authorization` header to the service. Default: false.
    #[serde(default)]
    pub forward_authorization: bool,
    /// Take WebSockets (RFC 6455), beside other requests. One is closed when the access token that
    /// opened it expires. The upstream has to speak `http1`. Default: false.
    #[serde(default)]
    pub websocket: bool,
    /// Limits of this route, in place of those for all.
    pub limits: Option<RouteLimits>,
    /// Other teams (`owner`) whose more specific routes may take requests of this one. Two routes of
    /// the same path, with other methods or in another case, both have to name the other's team. Default:
    /// none.
    pub yields_to: Option<Vec<String>>,
}

/// Limits of one route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteLimits {
    /// Largest request body, in place of `limits.body_bytes`.
    pub body_bytes: Option<ByteSize>,
    /// Longest silence within a request body, in place of `limits.body_timeout`: for uploads that pause. The
    /// service has to wait as long, so `response_timeout` may have to be larger, too. At most 24h.
    pub body_timeout: Option<HumanDuration>,
    /// For the response to begin, and the longest silence within it, in place of `timeouts.response`
    /// of the upstream: for event streams and long polls. At most 24h.
    pub response_timeout: Option<HumanDuration>,
    /// Longest silence in a WebSocket, in place of `limits.websocket_idle_timeout`. At most 24h.
    pub websocket_idle_timeout: Option<HumanDuration>,
}

/// Which requests a route is for. The most specific route wins: an exact host over any host, then,
/// segment by segment, a literal over `{name}` over `{*rest}`. Only then is the method looked at.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Exact host name, without a port. Default: any host.
    pub host: Option<String>,
    /// Path pattern: literal segments, `{name}` for exactly one segment, `{*rest}` at the end for
    /// what remains, which may be nothing.
    pub path: String,
    /// Methods: GET HEAD POST PUT PATCH DELETE OPTIONS. Default: all of them.
    pub methods: Option<Vec<String>>,
}

/// What a caller's access token must bring. Exactly one of `scopes` and `authenticated_only`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// All of these scopes, or `{ any: [...] }` for at least one of them.
    pub scopes: Option<RequiredScopes>,
    /// `true`: any valid access token will do, whatever its scopes. Default: false.
    #[serde(default)]
    pub authenticated_only: bool,
    /// Names of the issuers whose tokens are accepted here. Default: all.
    pub issuers: Option<Vec<String>>,
}

/// Scopes that a route needs: a list (all of them) or `{ any: [...] }` (at least one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequiredScopes {
    /// Every one of them.
    All(Vec<String>),
    /// At least one of them.
    Any(Vec<String>),
}

impl RequiredScopes {
    /// The scopes, however many of them are needed.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match self {
            Self::All(names) | Self::Any(names) => names,
        }
    }
}

/// The mapping form of [`RequiredScopes`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyOf {
    any: Vec<String>,
}

impl<'de> Deserialize<'de> for RequiredScopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrAny;

        impl<'de> Visitor<'de> for ListOrAny {
            type Value = RequiredScopes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a list of scopes (all are needed), or `{ any: [...] }` (one is enough)",
                )
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RequiredScopes, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(RequiredScopes::All)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RequiredScopes, A::Error> {
                AnyOf::deserialize(MapAccessDeserializer::new(map))
                    .map(|AnyOf { any }| RequiredScopes::Any(any))
            }
        }

        deserializer.deserialize_any(ListOrAny)
    }
}

impl JsonSchema for RequiredScopes {
    fn schema_name() -> Cow<'static, str> {
        "RequiredScopes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let scopes =
            json_schema!({ "type": "array", "items": { "type": "string" }, "minItems": 1 });
        json_schema!({
            "description": "Scopes that a route needs: a list (all of them) or `{ any: [...] }` (at least one).",
            "oneOf": [
                scopes,
                {
                    "type": "object",
                    "properties": { "any": scopes },
                    "required": ["any"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

//! Who may do what: every kind of request by every kind of caller, as one golden file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests fail by panicking"
)]

mod signing;

use std::fmt::Write as _;
use std::sync::Arc;

use portcullis_policy::*;
use serde_json::json;
use signing::{NOW, SigningKey, claims, issuer, key_set};

const REQUESTS: [(Method, &str); 10] = [
    (Method::Get, "/status"),
    (Method::Get, "/me"),
    (Method::Get, "/orders/17"),
    (Method::Post, "/orders/17"),
    (Method::Get, "/reports"),
    (Method::Get, "/partners"),
    (Method::Get, "/partners/17"),
    (Method::Get, "/orders/archive/17"),
    (Method::Delete, "/orders/17"),
    (Method::Get, "/nowhere"),
];

/// Name, and what `Authorization` carries.
fn callers(world: &World) -> Vec<(&'static str, Option<String>)> {
    let with_scope = |scope: &str| world.token("acme", scope, NOW + 300);
    vec![
        ("anonymous", None),
        ("junk", Some("junk".to_owned())),
        ("no scope", Some(with_scope(""))),
        (
            "look-alikes",
            Some(with_scope("orders:reads Orders:read orders * read,write")),
        ),
        ("orders:read", Some(with_scope("orders:read"))),
        ("orders:write", Some(with_scope("orders:write"))),
        ("every scope", Some(with_scope(EVERY_SCOPE))),
        (
            "partner, no scope",
            Some(world.token("partner", "", NOW + 300)),
        ),
        (
            "partner, every scope",
            Some(world.token("partner", EVERY_SCOPE, NOW + 300)),
        ),
        (
            "stranger, every scope",
            Some(world.token("stranger", EVERY_SCOPE, NOW + 300)),
        ),
        (
            "expired, every scope",
            Some(world.token("acme", EVERY_SCOPE, NOW - 30)),
        ),
    ]
}

const EVERY_SCOPE: &str = "orders:read orders:write reports:read";

#[test]
fn every_kind_of_request_by_every_kind_of_caller_is_decided_as_in_the_golden_file() {
    let world = World::new();
    let callers = callers(&world);
    let mut table = String::new();
    for (method, path) in REQUESTS {
        let route = world.find(method, path);
        let demand = match &route {
            Ok(route) => demand(&route.access),
            Err(_) => "no route".to_owned(),
        };
        writeln!(table, "{method} {path}: {demand}").unwrap();
        for (caller, token) in &callers {
            let decision = route
                .clone()
                .and_then(|route| world.decide(&route, token.as_deref()));
            let decision = match decision {
                Ok(permit) => match permit.principal() {
                    Some(principal) => format!("permit  {}", principal.subject()),
                    None => "permit  anybody".to_owned(),
                },
                Err(denial) => format!("{}     {}", denial.status(), denial.code()),
            };
            writeln!(table, "  {caller:<22}  {decision}").unwrap();
        }
        table.push('\n');
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(".");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("authority", table));
}

#[test]
fn a_principal_that_was_admitted_is_refused_once_its_token_has_expired() {
    let world = World::new();
    let token = world.token("acme", EVERY_SCOPE, NOW + 300);
    let principal = world.principal(&token).unwrap();
    for (method, path) in REQUESTS {
        let Ok(route) = world.find(method, path) else {
            continue;
        };
        let later = UnixTime::from_seconds(NOW + 330);
        let decision = decide(&route, Some(&principal), later);
        match route.access {
            Access::Public => assert!(decision.is_ok(), "{path}"),
            Access::Protected(_) => {
                assert_eq!(decision.err(), Some(Denial::TokenExpired), "{path}");
            }
        }
    }
}

struct World {
    key: SigningKey,
    keys: KeySet,
    issuers: IssuerSet,
    scopes: ScopeRegistry,
    routes: RouteTable,
}

impl World {
    fn new() -> Self {
        let key = SigningKey::generate(Algorithm::EdDSA);
        let issuers = IssuerSet::new(vec![issuer("acme"), issuer("partner")]);
        let (partner, _) = issuers.find("https://partner.example").unwrap();
        let every_scope: Vec<Scope> = EVERY_SCOPE
            .split(' ')
            .map(|scope| scope.parse().unwrap())
            .collect();
        let [read, write, _] = &every_scope[..] else {
            panic!("{every_scope:?}");
        };
        let scopes = ScopeRegistry::new(every_scope.clone());
        let all = |required: &[Scope]| RequiredScopes::all(&scopes, required).unwrap();
        let any = |required: &[Scope]| RequiredScopes::any(&scopes, required).unwrap();
        let anybody = RequiredScopes::authenticated_only;
        let protected = |scopes, issuers| Access::Protected(Requirement { scopes, issuers });
        let routes = [
            (Method::Get, "/status", Access::Public),
            (Method::Get, "/me", protected(anybody(), None)),
            (
                Method::Get,
                "/orders/{id}",
                protected(all(std::slice::from_ref(read)), None),
            ),
            (
                Method::Post,
                "/orders/{id}",
                protected(all(&[read.clone(), write.clone()]), None),
            ),
            (
                Method::Get,
                "/reports",
                protected(any(&every_scope[1..]), None),
            ),
            (
                Method::Get,
                "/partners",
                protected(anybody(), Some(vec![partner])),
            ),
            (
                Method::Get,
                "/partners/{*rest}",
                protected(all(&every_scope), Some(vec![partner])),
            ),
        ];
        let routes = routes
            .into_iter()
            .enumerate()
            .map(|(index, (method, path, access))| {
                Arc::new(Route {
                    id: RouteId::from_index(index),
                    name: format!("r{index}").into(),
                    owner: "team".into(),
                    host: None,
                    path: path.parse().unwrap(),
                    methods: [method].into_iter().collect(),
                    access,
                })
            });
        Self {
            routes: RouteTable::new(routes).unwrap(),
            keys: key_set(std::slice::from_ref(&key)),
            key,
            issuers,
            scopes,
        }
    }

    fn token(&self, issuer: &str, scope: &str, expires_at: i64) -> String {
        let mut claims = claims();
        claims["iss"] = json!(format!("https://{issuer}.example"));
        claims["sub"] = json!(format!("alice of {issuer}"));
        claims["scope"] = json!(scope);
        claims["iat"] = json!(NOW - 600);
        claims["exp"] = json!(expires_at);
        self.key.sign(&self.key.header(), &claims.to_string())
    }

    fn find(&self, method: Method, path: &str) -> Result<Arc<Route>, Denial> {
        let request = Request {
            method: Some(method),
            host: None,
            path: RequestPath::parse(path).unwrap(),
        };
        self.routes.find(&request).cloned()
    }

    /// As the gateway does it: the token of a public route is not looked at.
    fn decide(&self, route: &Arc<Route>, token: Option<&str>) -> Result<Permit, Denial> {
        let principal = match (&route.access, token) {
            (Access::Protected(_), Some(token)) => Some(self.principal(token)?),
            (Access::Protected(_), None) | (Access::Public, _) => None,
        };
        decide(route, principal.as_ref(), UnixTime::from_seconds(NOW))
    }

    fn principal(&self, token: &str) -> Result<Arc<Principal>, Denial> {
        let token = PresentedToken::parse(token)?;
        let issuer = token.issuer(&self.issuers)?;
        let verified = token.verify(issuer, &self.keys, UnixTime::from_seconds(NOW))?;
        Principal::new(&verified, &IdentityHeaders::default(), &self.scopes).map(Arc::new)
    }
}

fn demand(access: &Access) -> String {
    let Access::Protected(requirement) = access else {
        return "public".to_owned();
    };
    let scopes = match requirement.scopes.names() {
        "" => "any access token".to_owned(),
        names if requirement.scopes.is_any() => format!("any of {names}"),
        names => format!("all of {names}"),
    };
    match requirement.issuers {
        None => scopes,
        Some(_) => format!("{scopes}, from partner"),
    }
}

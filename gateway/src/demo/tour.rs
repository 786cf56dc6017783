//! The calls that show what the gateway does, in order, each with what is promised about it.
//!
//! [`CALLS`] is the only list: the `curl` lines that are printed ([`curl`]) and the calls that are
//! made ([`run`]) both come from it, so they cannot diverge.

pub(super) mod curl;
pub(super) mod run;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::issuer::{Client, DASHBOARD, Issuer, SHOP};
use super::service::Service;

/// One call of the tour.
pub(super) struct Call {
    /// What it shows.
    pub(super) title: &'static str,
    /// What is done.
    pub(super) action: Action,
    /// What has to come of it.
    pub(super) promise: Promise,
}

/// What is done in a call.
pub(super) enum Action {
    /// The client takes a token from the issuer; later calls show it.
    TakeToken(&'static Client),
    /// The issuer gets a new signing key.
    RotateKey,
    /// A request to the gateway.
    Request {
        method: &'static str,
        path: &'static str,
        token: Option<Token>,
        headers: &'static [(&'static str, &'static str)],
    },
    /// A request to a service itself, without a certificate.
    GoAround { service: &'static str, path: &'static str },
    /// A look at the gateway's metrics.
    ReadMetrics,
}

/// The token that a request shows.
pub(super) enum Token {
    /// The one that this client took last.
    Of(&'static Client),
    /// That one with a character appended.
    Altered(&'static Client),
}

/// What has to come of a call.
pub(super) enum Promise {
    /// The issuer or the admin listener answers 200, and this word is in the body.
    Answered { containing: &'static str },
    /// The gateway answers with this status and reaches no service.
    Refused { status: u16, challenge: Option<Challenge> },
    /// This service answers 200. It saw this client as the caller, or nobody.
    Forwarded { service: &'static str, caller: Option<&'static Client> },
    /// The service ends the TLS handshake, because it wants a certificate.
    HandshakeRefused,
}

/// What `WWW-Authenticate` has to say (RFC 6750 §3).
pub(super) struct Challenge {
    /// The `error`; `None` when there must not be one.
    pub(super) error: Option<&'static str>,
    /// The `scope` that the route needs.
    pub(super) scope: Option<&'static str>,
}

/// Where everything is.
pub(super) struct Places<'a> {
    /// The gateway's listener.
    pub(super) gateway: SocketAddr,
    /// The gateway's admin listener.
    pub(super) admin: SocketAddr,
    /// The issuer.
    pub(super) issuer: &'a Issuer,
    /// The services.
    pub(super) services: &'a [Service],
    /// The certificate that the services' certificates chain to.
    pub(super) trust: PathBuf,
}

/// The tour.
pub(super) static CALLS: [Call; 19] = [
    Call {
        title: "Take a token for `dashboard`, which may read orders and the profile",
        action: Action::TakeToken(&DASHBOARD),
        promise: Promise::Answered { containing: "access_token" },
    },
    Call {
        title: "Take a token for `shop`, which may read and place orders",
        action: Action::TakeToken(&SHOP),
        promise: Promise::Answered { containing: "access_token" },
    },
    Call {
        title: "A public route needs no token, and the service is told of no caller",
        action: get("/orders/health", None, &[]),
        promise: Promise::Forwarded { service: "orders", caller: None },
    },
    Call {
        title: "No token",
        action: get("/orders/42", None, &[]),
        promise: refused(401, Challenge { error: None, scope: None }),
    },
    Call {
        title: "A good token: the service learns who called, and never sees the token",
        action: get("/orders/42", Some(Token::Of(&DASHBOARD)), &[]),
        promise: Promise::Forwarded { service: "orders", caller: Some(&DASHBOARD) },
    },
    Call {
        title: "The same token on another team's route, to another service",
        action: get("/profile", Some(Token::Of(&DASHBOARD)), &[]),
        promise: Promise::Forwarded { service: "profile", caller: Some(&DASHBOARD) },
    },
    Call {
        title: "A missing scope: `dashboard` may not place orders",
        action: post("/orders", Some(Token::Of(&DASHBOARD))),
        promise: refused(
            403,
            Challenge { error: Some("insufficient_scope"), scope: Some("orders:write") },
        ),
    },
    Call {
        title: "`shop` may",
        action: post("/orders", Some(Token::Of(&SHOP))),
        promise: Promise::Forwarded { service: "orders", caller: Some(&SHOP) },
    },
    Call {
        title: "A token that was tampered with",
        action: get("/orders/42", Some(Token::Altered(&DASHBOARD)), &[]),
        promise: refused(401, Challenge { error: Some("invalid_token"), scope: None }),
    },
    Call {
        title: "Forged identity headers, also as a service might fold them: the trusted ones win",
        action: get("/orders/42", Some(Token::Of(&DASHBOARD)), FORGED),
        promise: Promise::Forwarded { service: "orders", caller: Some(&DASHBOARD) },
    },
    Call {
        title: "The same forgery on a public route: removed, and nothing put in its place",
        action: get("/orders/health", None, FORGED),
        promise: Promise::Forwarded { service: "orders", caller: None },
    },
    Call {
        title: "An attempt to have the trusted header dropped on the way (RFC 9110 §7.6.1)",
        action: get("/orders/42", Some(Token::Of(&DASHBOARD)), &[("Connection", "X-User-ID")]),
        promise: Promise::Forwarded { service: "orders", caller: Some(&DASHBOARD) },
    },
    Call {
        title: "A path that two parsers could read differently",
        action: get("/orders/42%2f..%2fhealth", None, &[]),
        promise: Promise::Refused { status: 400, challenge: None },
    },
    Call {
        title: "A path that no team has a route for",
        action: get("/invoices/7", Some(Token::Of(&DASHBOARD)), &[]),
        promise: Promise::Refused { status: 404, challenge: None },
    },
    Call {
        title: "The issuer rotates its key: new tokens are signed by the new one",
        action: Action::RotateKey,
        promise: Promise::Answered { containing: "signs_with" },
    },
    Call {
        title: "Take a new token for `shop`",
        action: Action::TakeToken(&SHOP),
        promise: Promise::Answered { containing: "access_token" },
    },
    Call {
        title: "The gateway fetches the key that it does not know yet, without a restart",
        action: get("/orders/42", Some(Token::Of(&SHOP)), &[]),
        promise: Promise::Forwarded { service: "orders", caller: Some(&SHOP) },
    },
    Call {
        title: "Going around the gateway: the service talks to nobody without a certificate",
        action: Action::GoAround { service: "orders", path: "/orders/42" },
        promise: Promise::HandshakeRefused,
    },
    Call {
        title: "What the gateway counted",
        action: Action::ReadMetrics,
        promise: Promise::Answered { containing: REQUESTS_METRIC },
    },
];

/// What a caller might send to be taken for somebody else.
const FORGED: &[(&str, &str)] =
    &[("X-User-ID", "admin"), ("X_User_ID", "admin"), ("x-scopes", "orders:write")];

/// One of the gateway's own metrics.
const REQUESTS_METRIC: &str = "portcullis_requests_total";

const fn get(
    path: &'static str,
    token: Option<Token>,
    headers: &'static [(&'static str, &'static str)],
) -> Action {
    Action::Request { method: "GET", path, token, headers }
}

const fn post(path: &'static str, token: Option<Token>) -> Action {
    Action::Request { method: "POST", path, token, headers: &[] }
}

const fn refused(status: u16, challenge: Challenge) -> Promise {
    Promise::Refused { status, challenge: Some(challenge) }
}

impl Promise {
    /// The promised status; a refused handshake has none.
    fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { .. } | Self::Forwarded { .. } => Some(200),
            Self::Refused { status, .. } => Some(*status),
            Self::HandshakeRefused => None,
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(status) = self.status() {
            write!(f, "{status}")?;
        }
        match self {
            Self::Answered { .. } => Ok(()),
            Self::Refused { challenge: None, .. } => write!(f, ", and no service is reached"),
            Self::Refused { challenge: Some(challenge), .. } => {
                write!(f, " with {challenge}, and no service is reached")
            }
            Self::Forwarded { service, caller: None } => {
                write!(f, ", and `{service}` is told of no caller")
            }
            Self::Forwarded { service, caller: Some(client) } => {
                write!(f, ", and `{service}` is told that `{}` calls", client.id)
            }
            Self::HandshakeRefused => f.write_str("the service ends the TLS handshake"),
        }
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.error, self.scope) {
            (None, _) => f.write_str("a challenge that names no error"),
            (Some(error), None) => write!(f, "error=\"{error}\""),
            (Some(error), Some(scope)) => write!(f, "error=\"{error}\", scope=\"{scope}\""),
        }
    }
}

/// The headers that tell a service about a caller.
fn identity_of(client: &Client) -> [(&'static str, &'static str); 3] {
    [("x-user-id", client.id), ("x-scopes", client.scopes), ("x-client-id", client.id)]
}

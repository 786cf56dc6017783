//! The calls that show what the gateway does, in order, each with what is promised about it.
//!
//! [`CALLS`] is the only list: the `curl` lines that are printed ([`curl`]) and the calls that are
//! made ([`run`]) both come from it, so they cannot diverge.

pub(super) mod caller;
mod curl;
mod promise;
mod run;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

pub(crate) use self::run::Report;
pub(super) use self::run::run;

use self::promise::{Challenge, Promise};
use super::issuer::{Client, DASHBOARD, Issuer, SHOP};
use super::service::Service;

/// One call of the tour.
struct Call {
    /// What it shows. One line.
    title: &'static str,
    /// What is done.
    action: Action,
    /// What has to come of it.
    promise: Promise,
}

/// What is done in a call.
enum Action {
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
    GoAround {
        service: &'static str,
        path: &'static str,
    },
}

/// The token that a request shows.
enum Token {
    /// The one that this client took last.
    Of(&'static Client),
    /// That one with the end of its signature replaced.
    Altered(&'static Client),
}

/// Where everything is.
pub(super) struct Places {
    /// The gateway's listener.
    pub(super) gateway: SocketAddr,
    /// The gateway's admin listener.
    pub(super) admin: SocketAddr,
    /// The issuer.
    pub(super) issuer: Issuer,
    /// The services.
    pub(super) services: Vec<Service>,
    /// The certificate that the services' certificates chain to.
    pub(super) trust: PathBuf,
}

/// The tour.
static CALLS: [Call; 16] = [
    Call {
        title: "The client dashboard takes an access token from the issuer",
        action: Action::TakeToken(&DASHBOARD),
        promise: Promise::Answered {
            with: "access_token",
        },
    },
    Call {
        title: "The client shop takes one, too",
        action: Action::TakeToken(&SHOP),
        promise: Promise::Answered {
            with: "access_token",
        },
    },
    Call {
        title: "No token: refused, and the service never hears of it",
        action: get("/orders/42", None, &[]),
        promise: refused(
            401,
            Challenge {
                error: None,
                scope: None,
            },
        ),
    },
    Call {
        title: "A good token: the service learns who calls, and never sees the token",
        action: get("/orders/42", Some(Token::Of(&DASHBOARD)), &[]),
        promise: Promise::Forwarded {
            service: "orders",
            caller: Some(&DASHBOARD),
        },
    },
    Call {
        title: "The same token for the route of another team, to another service",
        action: get("/profile", Some(Token::Of(&DASHBOARD)), &[]),
        promise: Promise::Forwarded {
            service: "profile",
            caller: Some(&DASHBOARD),
        },
    },
    Call {
        title: "A missing scope: dashboard may not place orders",
        action: post("/orders", Some(Token::Of(&DASHBOARD))),
        promise: refused(
            403,
            Challenge {
                error: Some("insufficient_scope"),
                scope: Some("orders:write"),
            },
        ),
    },
    Call {
        title: "shop may",
        action: post("/orders", Some(Token::Of(&SHOP))),
        promise: Promise::Forwarded {
            service: "orders",
            caller: Some(&SHOP),
        },
    },
    Call {
        title: "A token that was tampered with: the signature does not match",
        action: get("/orders/42", Some(Token::Altered(&DASHBOARD)), &[]),
        promise: refused(
            401,
            Challenge {
                error: Some("invalid_token"),
                scope: None,
            },
        ),
    },
    Call {
        title: "Forged identity headers, in two spellings: removed, the true ones arrive",
        action: get("/orders/42", Some(Token::Of(&DASHBOARD)), FORGED),
        promise: Promise::Forwarded {
            service: "orders",
            caller: Some(&DASHBOARD),
        },
    },
    Call {
        title: "A public route needs no token, and forged headers are removed there too",
        action: get("/orders/health", None, FORGED),
        promise: Promise::Forwarded {
            service: "orders",
            caller: None,
        },
    },
    Call {
        title: "A path that a service could read as /orders/health: refused, not guessed",
        action: get("/orders/42%2f..%2fhealth", None, &[]),
        promise: Promise::Refused {
            status: 400,
            challenge: None,
        },
    },
    Call {
        title: "A path that no team has a route for: denied is the default",
        action: get("/invoices/7", Some(Token::Of(&DASHBOARD)), &[]),
        promise: Promise::Refused {
            status: 404,
            challenge: None,
        },
    },
    Call {
        title: "The issuer rotates its key, and signs with a new one from now on",
        action: Action::RotateKey,
        promise: Promise::Answered { with: "signs_with" },
    },
    Call {
        title: "shop takes a token that the new key signs",
        action: Action::TakeToken(&SHOP),
        promise: Promise::Answered {
            with: "access_token",
        },
    },
    Call {
        title: "The gateway fetches the key that it does not know, without a restart",
        action: get("/orders/42", Some(Token::Of(&SHOP)), &[]),
        promise: Promise::Forwarded {
            service: "orders",
            caller: Some(&SHOP),
        },
    },
    Call {
        title: "Around the gateway: the service talks to nobody without a certificate",
        action: Action::GoAround {
            service: "orders",
            path: "/orders/42",
        },
        promise: Promise::HandshakeRefused,
    },
];

/// What stands in the place of the last four characters of an altered token.
const OTHER_END: &str = "AAAA";

/// What a caller might send to be taken for somebody else.
const FORGED: &[(&str, &str)] = &[
    ("X-User-ID", "admin"),
    ("X_User_ID", "admin"),
    ("X-Scopes", "orders:write"),
];

const fn get(
    path: &'static str,
    token: Option<Token>,
    headers: &'static [(&'static str, &'static str)],
) -> Action {
    Action::Request {
        method: "GET",
        path,
        token,
        headers,
    }
}

const fn post(path: &'static str, token: Option<Token>) -> Action {
    Action::Request {
        method: "POST",
        path,
        token,
        headers: &[],
    }
}

const fn refused(status: u16, challenge: Challenge) -> Promise {
    Promise::Refused {
        status,
        challenge: Some(challenge),
    }
}

/// Writes the calls for somebody who makes them: title, what has to come of it, `curl` line. All of it
/// together is a script for a shell.
///
/// # Errors
/// `out` cannot be written to.
pub(super) fn write(places: &Places, out: &mut (dyn Write + Send)) -> io::Result<()> {
    for (number, call) in (1..).zip(&CALLS) {
        writeln!(out, "# {number}. {}", call.title)?;
        writeln!(out, "#    {}", call.expectation())?;
        writeln!(out, "{}\n", curl::command(&call.action, places))?;
    }
    Ok(())
}

impl Call {
    /// What somebody at a shell gets to see.
    fn expectation(&self) -> String {
        let promise = &self.promise;
        match &self.action {
            Action::TakeToken(client) => {
                let variable = curl::variable(client);
                format!("Prints nothing. The token is in the variable {variable} now")
            }
            // Within that time, another key would be unknown still.
            Action::RotateKey => {
                format!("Expect {promise}. The gateway looks for new keys every 10 s at most")
            }
            Action::Request { .. } | Action::GoAround { .. } => format!("Expect {promise}"),
        }
    }
}

impl Action {
    /// What is sent, a line for each thing. Not the token itself.
    fn request(&self) -> Vec<String> {
        match self {
            Self::TakeToken(client) => vec![format!("POST /token to the issuer, as {}", client.id)],
            Self::RotateKey => vec!["POST /rotate to the issuer".to_owned()],
            Self::Request {
                method,
                path,
                token,
                headers,
            } => {
                let credential = token.as_ref().map(|token| match token {
                    Token::Of(client) => format!("<token of {}>", client.id),
                    Token::Altered(client) => format!("<token of {}, altered>", client.id),
                });
                let mut lines = vec![format!("{method} {path}")];
                lines.extend(credential.map(|token| format!("Authorization: Bearer {token}")));
                lines.extend(
                    headers
                        .iter()
                        .map(|(name, value)| format!("{name}: {value}")),
                );
                lines
            }
            Self::GoAround { service, .. } => {
                vec![format!(
                    "a TLS handshake with {service}, without a certificate"
                )]
            }
        }
    }
}

impl Places {
    fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name() == name)
    }

    /// How many requests have reached each service.
    fn requests(&self) -> Vec<u64> {
        self.services.iter().map(Service::requests).collect()
    }

    /// Names of the services that a request has reached since.
    fn reached_since(&self, before: &[u64]) -> Vec<&'static str> {
        let services = self.services.iter().zip(before);
        services
            .filter(|(service, before)| service.requests() > **before)
            .map(|(service, _)| service.name())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_fits_an_80_column_terminal() {
        for call in &CALLS {
            let title = call.title;
            assert!(title.chars().count() <= 75, "{title}");
        }
    }
}

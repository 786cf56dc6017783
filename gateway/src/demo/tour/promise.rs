//! What has to come of a call, and what of it did not.

use std::fmt;

use serde_json::Value;

use crate::demo::issuer::Client;
use crate::demo::service::Seen;

#[cfg(test)]
mod tests;

/// What has to come of a call.
pub(super) enum Promise {
    /// The issuer answers 200, with this member in its JSON.
    Answered { with: &'static str },
    /// The gateway answers with this status and reaches no service.
    Refused {
        status: u16,
        challenge: Option<Challenge>,
    },
    /// This service answers 200. It saw this client as the caller, or nobody.
    Forwarded {
        service: &'static str,
        caller: Option<&'static Client>,
    },
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

/// What came of a call.
pub(super) struct Observed {
    /// What the caller got.
    pub(super) answer: Answer,
    /// Names of the services that a request reached meanwhile.
    pub(super) reached: Vec<&'static str>,
}

/// What the caller got.
pub(super) enum Answer {
    /// A response.
    Response(Response),
    /// TLS ended with the alert `certificate_required`.
    HandshakeRefused,
    /// Neither: why.
    Failed(String),
}

/// A response, and the request that it answers.
pub(super) struct Response {
    /// Method and target of the request, such as `GET /orders/42`.
    pub(super) request: String,
    pub(super) status: u16,
    pub(super) media_type: String,
    /// Every `WWW-Authenticate`.
    pub(super) challenges: Vec<String>,
    pub(super) body: String,
}

impl Promise {
    /// What of the promise was not kept; nothing, when all is well.
    pub(super) fn complaints(&self, observed: &Observed) -> Vec<String> {
        let mut complaints = match (self, &observed.answer) {
            (Self::HandshakeRefused, Answer::HandshakeRefused) => Vec::new(),
            (Self::Answered { with }, Answer::Response(response)) => {
                issuer_complaints(response, with)
            }
            (Self::Refused { challenge, .. }, Answer::Response(response)) => {
                refusal_complaints(response, challenge.as_ref())
            }
            (Self::Forwarded { service, caller }, Answer::Response(response)) => {
                forwarding_complaints(response, service, *caller)
            }
            (Self::HandshakeRefused, Answer::Response(_))
            | (_, Answer::HandshakeRefused | Answer::Failed(_)) => {
                vec!["it ended in another way".to_owned()]
            }
        };
        if let (Some(promised), Answer::Response(response)) = (self.status(), &observed.answer)
            && promised != response.status
        {
            complaints.insert(
                0,
                format!("the status is {}, not {promised}", response.status),
            );
        }
        let may_be_reached = match self {
            Self::Forwarded { service, .. } => Some(*service),
            Self::Answered { .. } | Self::Refused { .. } | Self::HandshakeRefused => None,
        };
        for service in &observed.reached {
            if Some(*service) != may_be_reached {
                complaints.push(format!("a request reached `{service}`"));
            }
        }
        complaints
    }

    /// The promised status; a refused handshake has none.
    fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { .. } | Self::Forwarded { .. } => Some(200),
            Self::Refused { status, .. } => Some(*status),
            Self::HandshakeRefused => None,
        }
    }
}

fn issuer_complaints(response: &Response, member: &str) -> Vec<String> {
    let complaint = format!("the response has no `{member}`");
    let is_missing = text_member(&response.body, member).is_none();
    is_missing.then_some(complaint).into_iter().collect()
}

/// A refusal is a problem document (RFC 9457) with the promised challenge, and no other.
fn refusal_complaints(response: &Response, promised: Option<&Challenge>) -> Vec<String> {
    let mut complaints = Vec::new();
    if response.media_type != "application/problem+json" {
        complaints.push(format!(
            "the body is `{}`, no problem document",
            response.media_type
        ));
    }
    let is_kept = match (promised, response.challenges.as_slice()) {
        (None, []) => true,
        (Some(promised), [challenge]) => promised.is_made_by(challenge),
        _ => false,
    };
    if !is_kept {
        complaints.push(format!("the challenges are {:?}", response.challenges));
    }
    complaints
}

/// The service got the very request, the identity of the caller and nobody else's, and no token.
fn forwarding_complaints(
    response: &Response,
    service: &str,
    caller: Option<&Client>,
) -> Vec<String> {
    let Ok(seen) = serde_json::from_str::<Seen>(&response.body) else {
        return vec!["the body does not come from a service".to_owned()];
    };
    let mut complaints = Vec::new();
    if seen.service != service {
        complaints.push(format!("`{}` answered, not `{service}`", seen.service));
    }
    let request = format!("{} {}", seen.method, seen.path);
    if request != response.request {
        complaints.push(format!(
            "the service saw `{request}`, not `{}`",
            response.request
        ));
    }
    let mut told = fields_about_the_caller(&seen);
    told.sort_unstable();
    let mut promised: Vec<_> = caller.map(identity_of).into_iter().flatten().collect();
    promised.sort_unstable();
    if told != promised {
        complaints.push(format!("the service saw {told:?}, not {promised:?}"));
    }
    complaints
}

/// The header fields that tell a service about a caller.
fn identity_of(client: &Client) -> [String; 3] {
    [
        format!("x-user-id: {}", client.id),
        format!("x-scopes: {}", client.scopes),
        format!("x-client-id: {}", client.id),
    ]
}

/// Header and trailer fields that a service could take for word of who calls, the caller's token
/// among them. It may ignore case and fold what is no letter or digit, as CGI and its heirs do.
fn fields_about_the_caller(seen: &Seen) -> Vec<&str> {
    let fields = seen.headers.iter().chain(&seen.trailers);
    fields
        .map(String::as_str)
        .filter(|field| {
            let name = field.split(": ").next().unwrap_or_default();
            let folded = name.to_ascii_lowercase().replace(is_folded, "-");
            ABOUT_THE_CALLER.contains(&folded.as_str())
        })
        .collect()
}

fn is_folded(character: char) -> bool {
    !character.is_ascii_alphanumeric()
}

impl Challenge {
    fn is_made_by(&self, text: &str) -> bool {
        let names = |parameter: &str, value: Option<&str>| match value {
            Some(value) => text.contains(&format!("{parameter}=\"{value}\"")),
            None => !text.contains(&format!("{parameter}=")),
        };
        text.starts_with("Bearer ") && names("error", self.error) && names("scope", self.scope)
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { .. } => write!(f, "200"),
            Self::Refused { status, challenge } => {
                write!(f, "{status}")?;
                let error = challenge.as_ref().and_then(|challenge| challenge.error);
                let scope = challenge.as_ref().and_then(|challenge| challenge.scope);
                for part in error.into_iter().chain(scope) {
                    write!(f, " {part}")?;
                }
                write!(f, ", and no service is reached")
            }
            Self::Forwarded { service, caller } => {
                write!(f, "200 from {service}, which learns ")?;
                match caller {
                    None => write!(f, "of no caller"),
                    Some(client) => write!(f, "that {} calls", client.id),
                }
            }
            Self::HandshakeRefused => write!(f, "a TLS alert: certificate required"),
        }
    }
}

impl Observed {
    /// What the caller got, a line for each thing. Not the token.
    pub(super) fn got(&self) -> Vec<String> {
        let response = match &self.answer {
            Answer::HandshakeRefused => return vec!["TLS alert: certificate required".to_owned()],
            Answer::Failed(why) => return vec![format!("no answer: {why}")],
            Answer::Response(response) => response,
        };
        let Response { status, body, .. } = response;
        let first = if let Ok(seen) = serde_json::from_str::<Seen>(body) {
            format!("{status} from {}", seen.service)
        } else if let Some(code) = text_member(body, "code") {
            format!("{status} {code}")
        } else if let Some(scope) = text_member(body, "scope") {
            format!("{status}, a token for {scope}")
        } else if let Some(key_id) = text_member(body, "signs_with") {
            format!("{status}, key {key_id}")
        } else {
            status.to_string()
        };
        let mut lines = vec![first];
        for challenge in &response.challenges {
            let field = format!("WWW-Authenticate: {challenge}");
            // The realm is on a line of its own: all in one is too long for a terminal.
            match field.split_once("\", ") {
                Some((realm, rest)) => lines.extend([format!("{realm}\","), format!("  {rest}")]),
                None => lines.push(field),
            }
        }
        lines
    }

    /// What a service saw of the caller, a line for each thing; nothing, when none was reached.
    pub(super) fn seen(&self) -> Vec<String> {
        let Answer::Response(response) = &self.answer else {
            return Vec::new();
        };
        let Ok(seen) = serde_json::from_str::<Seen>(&response.body) else {
            return Vec::new();
        };
        let mut lines = vec![format!("{} {}", seen.method, seen.path)];
        let fields = fields_about_the_caller(&seen);
        if fields.is_empty() {
            lines.push("no header about the caller".to_owned());
        }
        lines.extend(fields.into_iter().map(ToOwned::to_owned));
        lines
    }
}

/// Text from a JSON object, such as the stable code of a problem.
fn text_member(body: &str, name: &str) -> Option<String> {
    let object: Value = serde_json::from_str(body).ok()?;
    Some(object.get(name)?.as_str()?.to_owned())
}

/// Names, folded, of fields that say who calls.
const ABOUT_THE_CALLER: [&str; 4] = ["x-user-id", "x-scopes", "x-client-id", "authorization"];

//! The tour, taken: each call is made, told, and compared with its promise.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{self, AlertDescription, ClientConfig};
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Action, CALLS, Call, Challenge, Places, Promise, Token, curl, identity_of};
use crate::demo::issuer::{Client, DASHBOARD};
use crate::demo::service::Seen;

/// How a tour went.
#[derive(Debug)]
pub struct Report {
    calls: usize,
    /// The numbers of the calls that broke a promise, counted from 1 as they are printed.
    broken: Vec<usize>,
}

impl Report {
    /// Whether every call went as promised.
    #[must_use]
    pub fn is_as_promised(&self) -> bool {
        self.broken.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_as_promised() {
            return write!(f, "all {} calls went as promised", self.calls);
        }
        let numbers: Vec<_> = self.broken.iter().map(ToString::to_string).collect();
        let (broken, calls) = (self.broken.len(), self.calls);
        write!(f, "{broken} of {calls} calls broke a promise: {}", numbers.join(", "))
    }
}

/// Makes every call of the tour and tells about each on `out`.
///
/// # Errors
/// `out` cannot be written to. What goes wrong with a call is in the report.
pub(in crate::demo) async fn run(
    places: &Places<'_>,
    caller: &Caller,
    out: &mut (dyn Write + Send),
) -> io::Result<Report> {
    let mut tokens = HashMap::new();
    let mut broken = Vec::new();
    for (number, call) in (1..).zip(&CALLS) {
        call.write(number, places, out)?;
        let before = places.requests();
        let answer = caller.perform(call, places, &mut tokens).await;
        let observed = Observed { answer, reached: places.reached_since(&before) };
        write!(out, "{observed}")?;
        let complaints = call.complaints(&observed);
        if complaints.is_empty() {
            writeln!(out, "     as promised\n")?;
        } else {
            broken.push(number);
            for complaint in complaints {
                writeln!(out, "     NOT AS PROMISED: {complaint}")?;
            }
            writeln!(out)?;
        }
    }
    Ok(Report { calls: CALLS.len(), broken })
}

impl Call {
    /// Title, `curl` line and promise, as a person reads them.
    pub(in crate::demo) fn write(
        &self,
        number: usize,
        places: &Places<'_>,
        out: &mut (dyn Write + Send),
    ) -> io::Result<()> {
        writeln!(out, "{number:>3}. {}", self.title)?;
        for line in curl::command(&self.action, places).lines() {
            writeln!(out, "       {line}")?;
        }
        writeln!(out, "     promised: {}", self.promise)
    }

    /// What of the promise was not kept; nothing, when all is well.
    pub(super) fn complaints(&self, observed: &Observed) -> Vec<String> {
        let mut complaints = Vec::new();
        match (&self.promise, &observed.answer) {
            (Promise::HandshakeRefused, Answer::HandshakeRefused) => {}
            (Promise::HandshakeRefused, Answer::Response(_)) => {
                complaints.push("the service talks to a caller without a certificate".to_owned());
            }
            (_, Answer::HandshakeRefused | Answer::Failed(_)) => {
                complaints.push(format!("expected {}", self.promise));
            }
            (promise, Answer::Response(response)) => {
                if promise.status() != Some(response.status.as_u16()) {
                    complaints.push(format!("the status is {}", response.status.as_u16()));
                }
                match promise {
                    Promise::Answered { containing } => {
                        if !response.body.contains(containing) {
                            complaints.push(format!("the body does not contain `{containing}`"));
                        }
                    }
                    Promise::Refused { challenge, .. } => {
                        complaints.extend(response.refusal_complaints(challenge.as_ref()));
                    }
                    Promise::Forwarded { service, caller } => {
                        complaints.extend(self.action.forwarding_complaints(response, service, *caller));
                    }
                    Promise::HandshakeRefused => {}
                }
            }
        }
        let expected: &[&str] = match &self.promise {
            Promise::Forwarded { service, .. } => &[service],
            Promise::Answered { .. } | Promise::Refused { .. } | Promise::HandshakeRefused => &[],
        };
        if observed.reached != expected {
            complaints.push(format!("services that were reached: {:?}", observed.reached));
        }
        complaints
    }
}

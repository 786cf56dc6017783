//! A call as a line for a shell: POSIX, no tool beside `curl`, `sed` and `grep`.

use super::{Action, Places, REQUESTS_METRIC, Token};
use crate::demo::issuer::Client;

/// The line, broken with backslashes where it would be too long to read.
pub(in crate::demo) fn command(action: &Action, places: &Places<'_>) -> String {
    match action {
        Action::TakeToken(client) => {
            let secret = places.issuer.secret_of(client).unwrap_or_default();
            format!(
                "{variable}=$(curl -s -u {id}:{secret} \\\n  -d grant_type=client_credentials \
                 {issuer}/token |\n  sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')",
                variable = variable(client),
                id = client.id,
                issuer = places.issuer.url(),
            )
        }
        Action::RotateKey => format!("curl -i -X POST {}/rotate", places.issuer.url()),
        Action::Request { method, path, token, headers } => {
            let mut line = String::from("curl -i ");
            if *method != "GET" {
                line += &format!("-X {method} ");
            }
            line += &format!("http://{}{path}", places.gateway);
            if let Some(token) = token {
                // Double quotes: the shell has to put the token in.
                line += &format!(" \\\n  -H \"Authorization: Bearer {}\"", reference(token));
            }
            for (name, value) in *headers {
                line += &format!(" \\\n  -H '{name}: {value}'");
            }
            line
        }
        Action::GoAround { service, path } => {
            let trust = places.trust.display();
            let url = places.url_of_service(service, path);
            format!("curl -sS --cacert '{trust}' \\\n  {url}")
        }
        Action::ReadMetrics => {
            format!("curl -s http://{}/metrics | grep '^{REQUESTS_METRIC}'", places.admin)
        }
    }
}

/// The shell variable that keeps a client's token.
fn variable(client: &Client) -> String {
    format!("{}_TOKEN", client.id.to_uppercase())
}

fn reference(token: &Token) -> String {
    match token {
        Token::Of(client) => format!("${}", variable(client)),
        Token::Altered(client) => format!("${{{}}}x", variable(client)),
    }
}

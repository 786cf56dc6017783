//! A call as a line for a shell: POSIX, no tool beside `curl` and `sed`.

use super::{Action, OTHER_END, Places, Token};
use crate::demo::issuer::Client;

/// The line, broken with backslashes where it would be too long to read.
pub(super) fn command(action: &Action, places: &Places) -> String {
    match action {
        Action::TakeToken(client) => format!(
            "{variable}=$(curl -s -u {id}:{secret} \\\n  -d grant_type=client_credentials \
             {issuer}/token |\n  sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')",
            variable = variable(client),
            id = client.id,
            secret = places.issuer.secret_of(client).unwrap_or_default(),
            issuer = places.issuer.url(),
        ),
        Action::RotateKey => format!("curl -i -X POST {}/rotate", places.issuer.url()),
        Action::Request {
            method,
            path,
            token,
            headers,
        } => {
            let mut line = String::from("curl -i ");
            if *method != "GET" {
                line += &format!("-X {method} ");
            }
            line += &format!("http://{}{path}", places.gateway);
            if let Some(token) = token {
                // Double quotes: the shell has to put the token in.
                let token = reference(token);
                line += &format!(" \\\n  -H \"Authorization: Bearer {token}\"");
            }
            for (name, value) in *headers {
                line += &format!(" \\\n  -H {}", quoted(&format!("{name}: {value}")));
            }
            line
        }
        Action::GoAround { service, path } => {
            let trust = quoted(&places.trust.display().to_string());
            let url = places
                .service(service)
                .map(|service| format!("https://{}{path}", service.address()));
            let url = url.unwrap_or_default();
            format!("curl -i --cacert {trust} \\\n  {url}")
        }
    }
}

/// The shell variable that keeps a client's token.
pub(super) fn variable(client: &Client) -> String {
    client.id.to_uppercase()
}

fn reference(token: &Token) -> String {
    match token {
        Token::Of(client) => format!("${}", variable(client)),
        Token::Altered(client) => format!("${{{}%????}}{OTHER_END}", variable(client)),
    }
}

/// As one word, which the shell leaves as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_in_a_path_do_not_end_the_word() {
        assert_eq!(quoted("/tmp/it's here/$x"), r"'/tmp/it'\''s here/$x'");
    }
}

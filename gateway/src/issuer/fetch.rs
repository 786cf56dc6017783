//! Reading a JSON document of an authorization server: bounded in bytes and time, no redirects, no
//! proxies from the environment, and only the certificate authorities that the configuration names.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use portcullis_config as config;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Url, header};

/// For a connection, the TLS handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For everything, from the look-up of the name to the last byte.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest document. A key set of a hundred RSA keys has less than half of that.
const MAX_BYTES: usize = 256 * 1024;
/// Longest text of a place.
const MAX_PLACE: usize = 200;

/// A URL as it is told: where it leads, without what may be a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(String);

impl Place {
    /// Of a URL, which the other side may have written.
    pub(crate) fn of(url: &str) -> Self {
        let Ok(mut url) = Url::parse(url) else {
            return Self("no URL".to_owned());
        };
        if url.cannot_be_a_base() {
            return Self(format!("{}:...", url.scheme()));
        }
        let has_query = url.query().is_some();
        // Errors are about URLs that cannot have these.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        url.set_query(has_query.then_some("..."));
        Self(url.as_str().chars().take(MAX_PLACE).collect())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a document could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server could not be asked, or broke off.
    #[error("{0}")]
    Transport(String),
    /// It answered, but not with the document.
    #[error("answered with status {0}")]
    Status(u16),
    /// It sends more than a document of this kind has.
    #[error("the answer is larger than {MAX_BYTES} bytes")]
    TooLarge,
}

/// A client for one issuer.
///
/// # Errors
/// When the certificate authorities cannot be used.
pub(crate) fn client(issuer: &config::Issuer) -> reqwest::Result<Client> {
    let mut builder = Client::builder()
        .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TOTAL_TIMEOUT)
        .pool_max_idle_per_host(1);
    if let Some(trust) = &issuer.trust {
        let authorities = trust
            .iter()
            .map(|authority| Certificate::from_der(authority))
            .collect::<reqwest::Result<Vec<_>>>()?;
        builder = builder.tls_certs_only(authorities);
    }
    builder.build()
}

/// Reads the document at `url`.
///
/// # Errors
/// When it cannot be had.
pub(crate) async fn document(client: &Client, url: &str) -> Result<Bytes, FetchError> {
    let mut response = client
        .get(url)
        .header(header::ACCEPT, "application/json, application/jwk-set+json")
        .send()
        .await
        .map_err(|error| transport(&error))?;
    if response.status().as_u16() != 200 {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| transport(&error))? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The whole chain of causes; reqwest's own words say only that something failed.
fn transport(error: &reqwest::Error) -> FetchError {
    if error.is_timeout() {
        return FetchError::Transport("no answer in time".to_owned());
    }
    let mut words = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        if !words.is_empty() {
            words.push_str(": ");
        }
        words.push_str(&error.to_string());
        cause = error.source();
    }
    FetchError::Transport(if words.is_empty() {
        "cannot be asked".to_owned()
    } else {
        words
    })
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn place_is_told_without_what_may_be_a_credential() {
        for (url, told) in [
            ("https://idp.example/keys", "https://idp.example/keys"),
            (
                "https://alice:secret@idp.example/keys?key=secret#secret",
                "https://idp.example/keys?...",
            ),
            (
                "http://127.0.0.1:8080/keys?",
                "http://127.0.0.1:8080/keys?...",
            ),
            ("secret", "no URL"),
            ("mailto:secret@idp.example", "mailto:..."),
        ] {
            assert_eq!(Place::of(url).to_string(), told);
        }
        let long = format!("https://idp.example/{}", "k".repeat(1000));
        assert_eq!(Place::of(&long).to_string().len(), 200);
    }
}

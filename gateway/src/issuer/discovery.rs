//! Where an issuer publishes its keys: its metadata (OpenID Connect Discovery 1.0 §4, RFC 8414 §3).

use reqwest::Client;
use serde::Deserialize;

use super::fetch::{self, FetchError, Place};

/// What is read of the metadata; the rest is not this gateway's business.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// Why no key set could be found.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// No metadata at any of the places.
    #[error("`{url}`: {error}")]
    Fetch {
        /// The place that was tried last.
        url: Place,
        /// What was wrong there.
        error: FetchError,
    },
    /// Not metadata.
    #[error("`{0}` is no metadata with `issuer` and `jwks_uri`")]
    Malformed(Place),
    /// Metadata of somebody else, who could bring keys of their own (RFC 8414 §3.3).
    #[error("`{url}` is the metadata of `{found}`")]
    OtherIssuer {
        /// Where it was found.
        url: Place,
        /// Whose it is, to the letter: that is what makes it another one.
        found: String,
    },
    /// Keys that anybody on the way could replace.
    #[error("`jwks_uri` is `{0}`, which is neither HTTPS nor on loopback")]
    Insecure(Place),
}

/// Finds the address of the key set of `issuer`, trying each of `metadata_urls`.
///
/// # Errors
/// What was wrong with the last of them, or with the metadata.
pub(crate) async fn key_set_url(
    client: &Client,
    issuer: &str,
    metadata_urls: &[String],
    allow_http: bool,
) -> Result<String, DiscoveryError> {
    let mut failure = DiscoveryError::Malformed(Place::of(issuer));
    for url in metadata_urls {
        let document = match fetch::document(client, url).await {
            Ok(document) => document,
            Err(error) => {
                failure = DiscoveryError::Fetch {
                    url: Place::of(url),
                    error,
                };
                continue;
            }
        };
        let Ok(metadata) = serde_json::from_slice::<Metadata>(&document) else {
            failure = DiscoveryError::Malformed(Place::of(url));
            continue;
        };
        if metadata.issuer != issuer {
            return Err(DiscoveryError::OtherIssuer {
                url: Place::of(url),
                found: shortened(&metadata.issuer),
            });
        }
        if !allow_http && !is_safe(&metadata.jwks_uri) {
            return Err(DiscoveryError::Insecure(Place::of(&metadata.jwks_uri)));
        }
        return Ok(metadata.jwks_uri);
    }
    Err(failure)
}

/// For a message: the other side wrote it.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// HTTPS, or a loopback address. `https://user@…` is neither.
fn is_safe(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else {
        return false;
    };
    let is_loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    };
    let has_user = !url.username().is_empty() || url.password().is_some();
    !has_user && (url.scheme() == "https" || (url.scheme() == "http" && is_loopback))
}

#[cfg(test)]
mod tests {
    use super::is_safe;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for url in [
            "https://login.acme.example/jwks",
            "http://127.0.0.1:8080/jwks",
            "http://[::1]/jwks",
            "http://localhost/jwks",
        ] {
            assert!(is_safe(url), "{url}");
        }
        for url in [
            "http://login.acme.example/jwks",
            "http://localhost.evil.example/jwks",
            "http://127.0.0.1.evil.example/",
            "https://user:password@login.acme.example/",
            "http://user@127.0.0.1/",
            "file:///etc/keys",
            "ftp://127.0.0.1/",
            "jwks",
            "",
        ] {
            assert!(!is_safe(url), "{url}");
        }
    }
}

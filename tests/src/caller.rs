//! A polite HTTP client.

use std::time::Duration;

use http::{HeaderMap, Method};
use reqwest::Client;
use serde_json::Value;

use crate::install_crypto_provider;

/// Sends well-formed requests: no redirects followed, no proxy, connections kept.
#[derive(Debug, Clone)]
pub struct Caller {
    client: Client,
}

impl Default for Caller {
    fn default() -> Self {
        Self::new()
    }
}

impl Caller {
    /// A caller with connections of its own.
    pub fn new() -> Self {
        install_crypto_provider();
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .tls_certs_only(Vec::new())
            .build()
            .unwrap();
        Self { client }
    }

    /// `GET` without anything.
    pub async fn get(&self, url: &str) -> Answer {
        self.try_get(url)
            .await
            .unwrap_or_else(|error| panic!("GET {url}: {error:?}"))
    }

    /// `GET` without anything; an error is a failed connection or a broken response.
    ///
    /// # Errors
    /// When no complete response came.
    pub async fn try_get(&self, url: &str) -> reqwest::Result<Answer> {
        Answer::read(self.client.get(url).send().await?).await
    }

    /// `GET` with an access token.
    pub async fn get_with_token(&self, url: &str, token: &str) -> Answer {
        self.send(
            Method::GET,
            url,
            &[("authorization", &format!("Bearer {token}"))],
            b"",
        )
        .await
    }

    /// `GET` with an access token; an error is a failed connection or a broken response.
    ///
    /// # Errors
    /// When no complete response came.
    pub async fn try_get_with_token(&self, url: &str, token: &str) -> reqwest::Result<Answer> {
        Answer::read(self.client.get(url).bearer_auth(token).send().await?).await
    }

    /// Any request.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request = self.client.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            request = request.body(body.to_vec());
        }
        let response = request
            .send()
            .await
            .unwrap_or_else(|error| panic!("request to {url}: {error:?}"));
        Answer::read(response)
            .await
            .unwrap_or_else(|error| panic!("answer of {url}: {error:?}"))
    }
}

/// A complete response.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    async fn read(response: reqwest::Response) -> reqwest::Result<Self> {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = response.bytes().await?.to_vec();
        Ok(Self {
            status,
            headers,
            body,
        })
    }

    /// The only value of a header, or `None`.
    ///
    /// # Panics
    /// When there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next().map(|value| value.to_str().unwrap());
        assert!(
            values.next().is_none(),
            "several {name}: {:?}",
            self.headers
        );
        first
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {:?}", self.text()))
    }

    /// Asserts that this is a refusal in the shape that every refusal has, and returns its problem
    /// details (RFC 9457).
    ///
    /// # Panics
    /// When it is not.
    pub fn assert_refused(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        for member in ["type", "title", "request_id"] {
            let value = problem[member].as_str().unwrap_or_default();
            assert!(!value.is_empty(), "`{member}` is missing: {problem}");
        }
        assert!(
            problem["type"].as_str().unwrap().ends_with(code),
            "{problem}"
        );
        assert_eq!(
            self.header("x-request-id"),
            problem["request_id"].as_str(),
            "the request id of the header and of the body differ"
        );
        problem
    }

    /// The value of `WWW-Authenticate`.
    pub fn challenge(&self) -> Option<&str> {
        self.header("www-authenticate")
    }
}

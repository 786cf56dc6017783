//! Makes the calls of the tour as somebody at a terminal would: over real sockets, with no
//! certificate, a new connection each time.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Client as HttpClient, Method, RequestBuilder, redirect, retry};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, AlertDescription, ClientConfig};

use super::promise::{Answer, Response};
use super::{Action, OTHER_END, Places, Token};
use crate::demo::issuer::Client;

/// Whoever makes the calls.
pub(in crate::demo) struct Caller {
    http: HttpClient,
    tls: Arc<ClientConfig>,
    /// Client to the token that it took last.
    tokens: HashMap<&'static str, String>,
}

impl Caller {
    /// A caller with no tokens yet. `tls` is for calls that go around the gateway.
    ///
    /// # Errors
    /// When the HTTP client refuses its settings.
    pub(in crate::demo) fn new(tls: ClientConfig) -> reqwest::Result<Caller> {
        let http = HttpClient::builder()
            .tls_backend_preconfigured(tls.clone())
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .pool_max_idle_per_host(0)
            .timeout(TIME_LIMIT)
            .build()?;
        Ok(Caller {
            http,
            tls: Arc::new(tls),
            tokens: HashMap::new(),
        })
    }

    /// Whether `url` answers 200.
    pub(in crate::demo) async fn finds(&self, url: &str) -> bool {
        matches!(self.http.get(url).send().await, Ok(response) if response.status() == 200)
    }

    /// Does it, and tells what came of it.
    pub(super) async fn perform(&mut self, action: &Action, places: &Places) -> Answer {
        match action {
            Action::TakeToken(client) => self.take_token(client, places).await,
            Action::RotateKey => {
                let url = format!("{}/rotate", places.issuer.url());
                send("POST /rotate", self.http.post(url)).await
            }
            Action::Request {
                method,
                path,
                token,
                headers,
            } => {
                let Ok(verb) = Method::from_bytes(method.as_bytes()) else {
                    return Answer::Failed(format!("`{method}` is no method"));
                };
                let url = format!("http://{}{path}", places.gateway);
                let mut request = self.http.request(verb, url);
                if let Some(token) = token {
                    request = request.header(AUTHORIZATION, self.credential(token));
                }
                for (name, value) in *headers {
                    request = request.header(*name, *value);
                }
                send(&format!("{method} {path}"), request).await
            }
            Action::GoAround { service, .. } => match places.service(service) {
                Some(service) => self.shake_hands(service.address()).await,
                None => Answer::Failed(format!("there is no service `{service}`")),
            },
        }
    }

    async fn take_token(&mut self, client: &'static Client, places: &Places) -> Answer {
        let secret = places.issuer.secret_of(client);
        let request = self
            .http
            .post(format!("{}/token", places.issuer.url()))
            .basic_auth(client.id, secret)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials");
        let answer = send("POST /token", request).await;
        if let Answer::Response(response) = &answer
            && let Ok(body) = serde_json::from_str::<Value>(&response.body)
            && let Some(token) = body.get("access_token").and_then(Value::as_str)
        {
            self.tokens.insert(client.id, token.to_owned());
        }
        answer
    }

    fn credential(&self, token: &Token) -> String {
        let taken = |client: &Client| self.tokens.get(client.id).map_or("", String::as_str);
        match token {
            Token::Of(client) => format!("Bearer {}", taken(client)),
            Token::Altered(client) => {
                let token = taken(client);
                let end = token.len().saturating_sub(OTHER_END.len());
                let beginning = token.get(..end).unwrap_or_default();
                format!("Bearer {beginning}{OTHER_END}")
            }
        }
    }

    /// Goes as far as the service lets a caller without a certificate. With TLS 1.3 the refusal comes
    /// after the client's side of the handshake is done, as the answer to whatever it reads first;
    /// nothing is sent, because a reset for unread bytes could overtake the alert.
    async fn shake_hands(&self, service: SocketAddr) -> Answer {
        let attempt = async {
            let stream = TcpStream::connect(service).await?;
            let name = ServerName::IpAddress(service.ip().into());
            let mut stream = TlsConnector::from(Arc::clone(&self.tls))
                .connect(name, stream)
                .await?;
            stream.read(&mut [0; 1]).await
        };
        match tokio::time::timeout(TIME_LIMIT, attempt).await {
            Ok(Err(error)) if is_certificate_required(&error) => Answer::HandshakeRefused,
            Ok(Err(error)) => Answer::Failed(with_causes(&error)),
            Ok(Ok(_)) => Answer::Failed("the handshake succeeded".to_owned()),
            Err(_) => Answer::Failed("the service neither answered nor refused".to_owned()),
        }
    }
}

async fn send(summary: &str, request: RequestBuilder) -> Answer {
    match receive(summary, request).await {
        Ok(response) => Answer::Response(response),
        Err(error) => Answer::Failed(with_causes(&error)),
    }
}

async fn receive(summary: &str, request: RequestBuilder) -> reqwest::Result<Response> {
    let response = request.send().await?;
    Ok(Response {
        request: summary.to_owned(),
        status: response.status().as_u16(),
        media_type: texts(response.headers(), CONTENT_TYPE.as_str()).join(", "),
        challenges: texts(response.headers(), WWW_AUTHENTICATE.as_str()),
        body: response.text().await?,
    })
}

fn texts(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect()
}

fn is_certificate_required(error: &io::Error) -> bool {
    let alert = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(
        alert,
        Some(rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
        ))
    )
}

/// An error and what caused it, on one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

const TIME_LIMIT: Duration = Duration::from_secs(15);

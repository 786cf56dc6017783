//! A development authorization server: metadata, a key set, access tokens for two clients.
//!
//! It does the client credentials grant (RFC 6749 §4.4) and nothing else, keeps everything in memory
//! and makes its keys and client secrets anew at every start, so that nothing it signed outlives it.

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::{SystemTime, SystemTimeError, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};

use super::loopback::{Bound, Loopback};

/// The `aud` of every token: the API that the gateway stands in front of.
pub(super) const AUDIENCE: &str = "https://api.demo.example";

/// A client that may read orders and the profile.
pub(super) static DASHBOARD: Client = Client {
    id: "dashboard",
    scopes: "orders:read profile:read",
};

/// A client that may read and place orders.
pub(super) static SHOP: Client = Client {
    id: "shop",
    scopes: "orders:read orders:write",
};

/// The clients that this issuer knows.
pub(super) static CLIENTS: [&Client; 2] = [&DASHBOARD, &SHOP];

/// An OAuth client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// `client_id`, and the subject of its tokens: no resource owner is involved (RFC 9068 §2.2).
    pub(super) id: &'static str,
    /// What it may ask for and gets when it asks for nothing: sorted, separated by spaces.
    pub(super) scopes: &'static str,
}

/// The running issuer.
pub(super) struct Issuer {
    authorization_server: Arc<AuthorizationServer>,
    _server: Loopback,
}

/// Why the issuer could not start or sign.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssuerError {
    /// No port could be had.
    #[error("cannot listen on loopback")]
    Bind(#[from] io::Error),
    /// A signing key could not be generated.
    #[error("cannot make a signing key")]
    Key(#[from] rcgen::Error),
    /// A token could not be signed, or a public key not be written as JWK.
    #[error("cannot sign")]
    Sign(#[from] jsonwebtoken::errors::Error),
    /// The system has no randomness to give.
    #[error("no randomness to be had")]
    Randomness,
    /// The clock stands before 1970.
    #[error("the clock stands before 1970")]
    Clock(#[from] SystemTimeError),
}

impl From<Unspecified> for IssuerError {
    fn from(_: Unspecified) -> Self {
        IssuerError::Randomness
    }
}

impl Issuer {
    /// Starts it on a free loopback port, with one signing key.
    pub(super) async fn start() -> Result<Issuer, IssuerError> {
        let bound = Bound::bind().await?;
        let url = format!("http://{}", bound.address());
        let authorization_server = Arc::new(AuthorizationServer::new(url)?);
        let shared = Arc::clone(&authorization_server);
        let server = bound.serve(None, move |request| {
            let shared = Arc::clone(&shared);
            async move { shared.respond(request).await }
        });
        Ok(Issuer {
            authorization_server,
            _server: server,
        })
    }

    /// The issuer identifier (`iss`), which its addresses start with.
    pub(super) fn url(&self) -> &str {
        &self.authorization_server.url
    }

    /// The secret that `client` authenticates with; `None` for a client it does not know.
    pub(super) fn secret_of(&self, client: &Client) -> Option<&str> {
        self.authorization_server
            .registration(client.id)
            .map(|known| known.secret.as_str())
    }
}

struct AuthorizationServer {
    url: String,
    /// Newest first: the first one signs, the others still verify.
    keys: ArcSwap<Vec<Arc<SigningKey>>>,
    registrations: Vec<Registration>,
}

struct Registration {
    client: &'static Client,
    secret: String,
}

struct SigningKey {
    id: String,
    private: EncodingKey,
    public: Jwk,
}

impl AuthorizationServer {
    fn new(url: String) -> Result<Self, IssuerError> {
        let registrations = CLIENTS
            .iter()
            .map(|client| {
                Ok(Registration {
                    client,
                    secret: random_text()?,
                })
            })
            .collect::<Result<_, IssuerError>>()?;
        let keys = ArcSwap::from_pointee(vec![Arc::new(SigningKey::generate()?)]);
        Ok(AuthorizationServer {
            url,
            keys,
            registrations,
        })
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let allowed = match head.uri.path() {
            // OpenID Connect Discovery §4 and RFC 8414 §3: two places, one document.
            "/.well-known/openid-configuration"
            | "/.well-known/oauth-authorization-server"
            | "/jwks" => Method::GET,
            "/token" | "/rotate" => Method::POST,
            _ => return respond(StatusCode::NOT_FOUND, &json!({ "error": "not_found" }), []),
        };
        if head.method != allowed {
            let error = json!({ "error": "method_not_allowed" });
            let allow = HeaderValue::from_str(allowed.as_str())
                .ok()
                .map(|value| (ALLOW, value));
            return respond(StatusCode::METHOD_NOT_ALLOWED, &error, allow);
        }
        match head.uri.path() {
            "/jwks" => self.key_set(),
            "/rotate" => self.rotate(),
            "/token" => match Limited::new(body, MAX_FORM_BYTES).collect().await {
                Ok(body) => self.token(&head.headers, &body.to_bytes()),
                Err(_) => TokenError::InvalidRequest("the body is too long or broke off").respond(),
            },
            _ => respond(StatusCode::OK, &self.metadata(), []),
        }
    }

    /// OpenID Connect Discovery §3 and RFC 8414 §2. There is no authorization endpoint: `none` fills
    /// a member that both require and neither lets be empty.
    fn metadata(&self) -> Value {
        let url = &self.url;
        json!({
            "issuer": url,
            "token_endpoint": format!("{url}/token"),
            "jwks_uri": format!("{url}/jwks"),
            "scopes_supported": ["orders:read", "orders:write", "profile:read"],
            "response_types_supported": ["none"],
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    fn key_set(&self) -> Response<Full<Bytes>> {
        let keys = self
            .keys
            .load()
            .iter()
            .map(|key| key.public.clone())
            .collect();
        let media_type = HeaderValue::from_static("application/jwk-set+json");
        respond(
            StatusCode::OK,
            &json!(JwkSet { keys }),
            [(CONTENT_TYPE, media_type)],
        )
    }

    /// A new key signs from here on. The old ones stay in the set, as long as there is room, so that
    /// tokens that are out remain good.
    fn rotate(&self) -> Response<Full<Bytes>> {
        let Ok(key) = SigningKey::generate().map(Arc::new) else {
            return server_error();
        };
        self.keys.rcu(|keys| {
            let older = keys.iter().take(MAX_KEYS - 1);
            std::iter::once(&key)
                .chain(older)
                .cloned()
                .collect::<Vec<_>>()
        });
        let ids: Vec<_> = self.keys.load().iter().map(|key| key.id.clone()).collect();
        respond(
            StatusCode::OK,
            &json!({ "signs_with": key.id, "key_ids": ids }),
            [],
        )
    }

    /// The token endpoint (RFC 6749 §3.2).
    fn token(&self, headers: &HeaderMap, body: &[u8]) -> Response<Full<Bytes>> {
        let granted = Form::parse(headers, body).and_then(|form| {
            let client = self.authenticate(headers, &form)?;
            match form.find("grant_type") {
                Some("client_credentials") => {}
                Some(_) => return Err(TokenError::UnsupportedGrantType),
                None => return Err(TokenError::InvalidRequest("`grant_type` is missing")),
            }
            Ok((client, grant_scope(client, form.find("scope"))?))
        });
        let (client, scope) = match granted {
            Ok(granted) => granted,
            Err(error) => return error.respond(),
        };
        match self.sign(client, &scope) {
            // RFC 6749 §5.1
            Ok(access_token) => respond(
                StatusCode::OK,
                &json!({
                    "access_token": access_token,
                    "token_type": "Bearer",
                    "expires_in": TOKEN_LIFETIME_SECONDS,
                    "scope": scope,
                }),
                [],
            ),
            Err(_) => server_error(),
        }
    }

    /// RFC 6749 §2.3.1: HTTP Basic or the body, and not both.
    fn authenticate(
        &self,
        headers: &HeaderMap,
        form: &Form,
    ) -> Result<&'static Client, TokenError> {
        let mut authorization = headers.get_all(AUTHORIZATION).iter();
        let in_body = form.find("client_id").zip(form.find("client_secret"));
        let (id, secret) = match (authorization.next(), authorization.next(), in_body) {
            (Some(header), None, None) => {
                basic_credentials(header).ok_or(TokenError::InvalidClient)?
            }
            (None, None, Some((id, secret))) => (id.to_owned(), secret.to_owned()),
            (None, None, None) => return Err(TokenError::InvalidClient),
            _ => {
                return Err(TokenError::InvalidRequest(
                    "the client authenticates more than once",
                ));
            }
        };
        self.registration(&id)
            .filter(|known| {
                verify_slices_are_equal(known.secret.as_bytes(), secret.as_bytes()).is_ok()
            })
            .map(|known| known.client)
            .ok_or(TokenError::InvalidClient)
    }

    fn registration(&self, client_id: &str) -> Option<&Registration> {
        self.registrations
            .iter()
            .find(|known| known.client.id == client_id)
    }

    /// An access token as RFC 9068 §2 has it.
    fn sign(&self, client: &Client, scope: &str) -> Result<String, IssuerError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let keys = self.keys.load();
        let key = keys.first().ok_or(Unspecified)?;
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(key.id.clone());
        let claims = json!({
            "iss": self.url,
            "sub": client.id,
            "aud": AUDIENCE,
            "client_id": client.id,
            "scope": scope,
            "iat": now,
            "exp": now + TOKEN_LIFETIME_SECONDS,
            "jti": random_text()?,
        });
        Ok(jsonwebtoken::encode(&header, &claims, &key.private)?)
    }
}

impl SigningKey {
    fn generate() -> Result<SigningKey, IssuerError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let private = EncodingKey::from_ec_der(pair.serialized_der());
        let mut public = Jwk::from_encoding_key(&private, Algorithm::ES256)?;
        let id = public.thumbprint(ThumbprintHash::SHA256)?;
        public.common.key_id = Some(id.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(SigningKey {
            id,
            private,
            public,
        })
    }
}

/// The parameters of a token request.
struct Form(Vec<(String, String)>);

impl Form {
    fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Form, TokenError> {
        let media_type = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let essence = media_type
            .and_then(|value| value.split(';').next())
            .unwrap_or_default();
        if !essence
            .trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        {
            return Err(TokenError::InvalidRequest("the body is not a form"));
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(body).into_owned() {
            // RFC 6749 §3.2: without a value is as if left out, and none may come twice.
            if value.is_empty() {
                continue;
            }
            if parameters.iter().any(|(earlier, _)| *earlier == name) {
                return Err(TokenError::InvalidRequest("a parameter is repeated"));
            }
            parameters.push((name, value));
        }
        Ok(Form(parameters))
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The error responses of RFC 6749 §5.2 that this grant can meet.
enum TokenError {
    InvalidRequest(&'static str),
    InvalidClient,
    UnsupportedGrantType,
    InvalidScope,
}

impl TokenError {
    fn respond(&self) -> Response<Full<Bytes>> {
        let (status, error, description) = match self {
            Self::InvalidRequest(why) => (StatusCode::BAD_REQUEST, "invalid_request", *why),
            Self::InvalidClient => (
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                "unknown client or wrong secret",
            ),
            Self::UnsupportedGrantType => (
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "only client_credentials is supported",
            ),
            Self::InvalidScope => (
                StatusCode::BAD_REQUEST,
                "invalid_scope",
                "this client may not have this scope",
            ),
        };
        let challenge = (status == StatusCode::UNAUTHORIZED).then_some((
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"demo issuer\""),
        ));
        respond(
            status,
            &json!({ "error": error, "error_description": description }),
            challenge,
        )
    }
}

/// What was asked for when the client may have all of it; everything it may have when it asks for
/// nothing (RFC 6749 §3.3).
fn grant_scope(client: &Client, asked: Option<&str>) -> Result<String, TokenError> {
    let Some(asked) = asked else {
        return Ok(client.scopes.to_owned());
    };
    let mut granted: Vec<&str> = asked.split(' ').collect();
    if granted
        .iter()
        .any(|scope| !client.scopes.split(' ').any(|may| may == *scope))
    {
        return Err(TokenError::InvalidScope);
    }
    granted.sort_unstable();
    granted.dedup();
    Ok(granted.join(" "))
}

/// `Basic` (RFC 7617). Both halves are form-encoded before they are joined (RFC 6749 §2.3.1), which
/// leaves every identifier and secret of this issuer as it is.
fn basic_credentials(header: &HeaderValue) -> Option<(String, String)> {
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let joined = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = joined.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

fn server_error() -> Response<Full<Bytes>> {
    respond(
        StatusCode::INTERNAL_SERVER_ERROR,
        &json!({ "error": "server_error" }),
        [],
    )
}

/// JSON, never stored: RFC 6749 §5.1 asks that for tokens, and a key set that changes on demand must
/// not be remembered either.
fn respond(
    status: StatusCode,
    body: &Value,
    headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{body}\n")));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, value) in headers {
        fields.insert(name, value);
    }
    response
}

/// 128 bits that nobody can guess, in characters that neither a form nor a shell escapes.
fn random_text() -> Result<String, IssuerError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

const TOKEN_LIFETIME_SECONDS: u64 = 3600;
const MAX_FORM_BYTES: usize = 16 * 1024;
const MAX_KEYS: usize = 8;

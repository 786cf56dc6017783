//! An issuer that does as it is told: for tokens and answers that no honest server would give.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::{SigningKey, Token, eventually};

/// A metadata document and a key set over plain HTTP on loopback.
#[derive(Debug)]
pub struct Issuer {
    address: SocketAddr,
    key: Arc<SigningKey>,
    state: Arc<State>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// What the issuer answers to a request for its key set.
#[derive(Debug, Clone)]
pub enum IssuerAnswer {
    /// Its own key set.
    KeySet,
    /// This body, as a key set.
    Body(Vec<u8>),
    /// Its own key set, and spaces behind it up to this many bytes, made as they are sent.
    Padded(usize),
    /// This status and no body.
    Status(u16),
    /// A redirect to this address.
    Redirect(String),
    /// Nothing, ever.
    Hang,
    /// One byte of the key set each second.
    Trickle,
    /// The key set, after a while.
    Delayed(Duration),
}

#[derive(Debug)]
struct State {
    issuer: String,
    keys: Mutex<Vec<Arc<SigningKey>>>,
    answer: Mutex<IssuerAnswer>,
    metadata: Mutex<Option<Vec<u8>>>,
    key_set_fetches: AtomicU64,
    metadata_fetches: AtomicU64,
    padding_sent: Arc<AtomicU64>,
}

impl Issuer {
    /// Starts with one RSA key.
    pub async fn start() -> Self {
        Self::start_with(SigningKey::rsa("first")).await
    }

    /// Starts with this key.
    pub async fn start_with(key: SigningKey) -> Self {
        let issuer = Self::start_down(key).await;
        issuer.bring_up().await;
        issuer
    }

    /// Has an address, and nobody there answers.
    pub async fn start_down(key: SigningKey) -> Self {
        let address = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let key = Arc::new(key);
        let state = State {
            issuer: format!("http://{address}"),
            keys: Mutex::new(vec![Arc::clone(&key)]),
            answer: Mutex::new(IssuerAnswer::KeySet),
            metadata: Mutex::new(None),
            key_set_fetches: AtomicU64::new(0),
            metadata_fetches: AtomicU64::new(0),
            padding_sent: Arc::default(),
        };
        Self {
            address,
            key,
            state: Arc::new(state),
            accepting: Mutex::new(None),
        }
    }

    /// Answers from now on.
    pub async fn bring_up(&self) {
        let listener = eventually("binding the issuer's address again", || async {
            TcpListener::bind(self.address).await.ok()
        })
        .await;
        let task = tokio::spawn(accept(listener, Arc::clone(&self.state)));
        *self.accepting.lock().unwrap() = Some(task);
    }

    /// Closes the listener and every connection.
    pub async fn take_down(&self) {
        let task = self.accepting.lock().unwrap().take();
        if let Some(task) = task {
            task.abort();
            // An error is the cancellation that was asked for.
            let _ = task.await;
        }
    }

    /// Its identifier, which is also its address.
    pub fn issuer(&self) -> &str {
        &self.state.issuer
    }

    /// Where its key set is.
    pub fn key_set_url(&self) -> String {
        format!("{}/jwks", self.issuer())
    }

    /// The key that it started with.
    pub fn key(&self) -> &Arc<SigningKey> {
        &self.key
    }

    /// A good token, signed with the first key, without scopes.
    pub fn token(&self) -> Token {
        Token::new(self.issuer(), Arc::clone(&self.key))
    }

    /// A good token, signed with `key`.
    pub fn token_signed_by(&self, key: &Arc<SigningKey>) -> Token {
        Token::new(self.issuer(), Arc::clone(key))
    }

    /// Publishes another key.
    pub fn publish(&self, key: SigningKey) -> Arc<SigningKey> {
        let key = Arc::new(key);
        self.state.keys.lock().unwrap().push(Arc::clone(&key));
        key
    }

    /// Withdraws a key.
    pub fn withdraw(&self, key: &SigningKey) {
        self.state
            .keys
            .lock()
            .unwrap()
            .retain(|known| known.key_id() != key.key_id());
    }

    /// Changes how the key set is answered.
    pub fn answer_with(&self, answer: IssuerAnswer) {
        *self.state.answer.lock().unwrap() = answer;
    }

    /// Changes the metadata document.
    pub fn answer_metadata_with(&self, body: &[u8]) {
        *self.state.metadata.lock().unwrap() = Some(body.to_vec());
    }

    /// The key set as it is published.
    pub fn key_set(&self) -> Vec<u8> {
        self.state.key_set()
    }

    /// How often the key set was asked for.
    pub fn key_set_fetches(&self) -> u64 {
        self.state.key_set_fetches.load(Ordering::SeqCst)
    }

    /// How often a metadata document was asked for.
    pub fn metadata_fetches(&self) -> u64 {
        self.state.metadata_fetches.load(Ordering::SeqCst)
    }

    /// How many bytes of padding were sent, in all answers.
    pub fn padding_sent(&self) -> u64 {
        self.state.padding_sent.load(Ordering::SeqCst)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        if let Some(task) = self.accepting.lock().unwrap().take() {
            task.abort();
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&state)));
            // An error is a gateway that went away.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

type Body = BoxBody<Bytes, Infallible>;

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Body>, Infallible> {
    let response = match request.uri().path() {
        "/jwks" => {
            state.key_set_fetches.fetch_add(1, Ordering::SeqCst);
            let answer = state.answer.lock().unwrap().clone();
            state.answer_key_set(answer).await
        }
        "/.well-known/openid-configuration" | "/.well-known/oauth-authorization-server" => {
            state.metadata_fetches.fetch_add(1, Ordering::SeqCst);
            with_body(state.metadata())
        }
        _ => with_status(404),
    };
    Ok(response)
}

impl State {
    fn key_set(&self) -> Vec<u8> {
        let keys: Vec<_> = self
            .keys
            .lock()
            .unwrap()
            .iter()
            .map(|key| key.public_jwk())
            .collect();
        serde_json::to_vec(&json!({ "keys": keys })).unwrap()
    }

    fn metadata(&self) -> Vec<u8> {
        let chosen = self.metadata.lock().unwrap().clone();
        chosen.unwrap_or_else(|| {
            let document =
                json!({ "issuer": self.issuer, "jwks_uri": format!("{}/jwks", self.issuer) });
            serde_json::to_vec(&document).unwrap()
        })
    }

    async fn answer_key_set(&self, answer: IssuerAnswer) -> Response<Body> {
        match answer {
            IssuerAnswer::KeySet => with_body(self.key_set()),
            IssuerAnswer::Body(body) => with_body(body),
            IssuerAnswer::Padded(length) => {
                let sent = Arc::clone(&self.padding_sent);
                Response::new(padded(self.key_set(), length, sent).boxed())
            }
            IssuerAnswer::Status(status) => with_status(status),
            IssuerAnswer::Redirect(location) => {
                let mut response = with_status(302);
                response
                    .headers_mut()
                    .insert("location", location.parse().unwrap());
                response
            }
            IssuerAnswer::Hang => std::future::pending().await,
            IssuerAnswer::Trickle => {
                let bytes = self.key_set();
                Response::new(trickle(bytes).boxed())
            }
            IssuerAnswer::Delayed(delay) => {
                tokio::time::sleep(delay).await;
                with_body(self.key_set())
            }
        }
    }
}

fn with_body(body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed());
    response
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    response
}

fn with_status(status: u16) -> Response<Body> {
    let mut response = Response::new(Full::default().boxed());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn trickle(bytes: Vec<u8>) -> impl hyper::body::Body<Data = Bytes, Error = Infallible> {
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        for byte in bytes {
            if sender.send_data(Bytes::from(vec![byte])).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    body
}

/// As fast as it is taken: JSON may have white space behind it.
fn padded(
    bytes: Vec<u8>,
    length: usize,
    sent: Arc<AtomicU64>,
) -> impl hyper::body::Body<Data = Bytes, Error = Infallible> {
    static SPACES: [u8; 64 * 1024] = [b' '; 64 * 1024];
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes, Infallible>::new(1);
    let mut missing = length - bytes.len();
    tokio::spawn(async move {
        let mut next = Bytes::from(bytes);
        while sender.send_data(next).await.is_ok() && missing > 0 {
            next = Bytes::from_static(&SPACES[..missing.min(SPACES.len())]);
            missing -= next.len();
            sent.fetch_add(next.len() as u64, Ordering::SeqCst);
        }
    });
    body
}

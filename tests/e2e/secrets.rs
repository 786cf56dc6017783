//! No token, cookie, secret or query is told to anybody whom it is not meant for. Every place that
//! may hold one gets a secret of its own, and all that the gateway writes is searched for each.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use http::Method;
use portcullis_e2e::{
    Authority, Behaviour, Caller, Connection, Gateway, GatewayBuilder, GatewayYaml,
    Http2Connection, Http2Response, Issuer, IssuerAnswer, Leaf, ORDERS_POLICY, RawResponse,
    Response, Service, SigningKey, TlsOptions, Token, WebSocket, WebSocketService, World,
    eventually, http2_frames, portcullis,
};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::steps::request;

const HOST: &str = "api.acme.example";

/// What every secret that a test makes up begins with.
const MARK: &str = "Canary";

/// Statuses of an answer; 0 is none.
type Wanted = &'static [u16];

/// A secret, and where it was put.
#[derive(Debug)]
struct Canary {
    place: String,
    secret: Vec<u8>,
}

/// Something that the gateway wrote, in lower case.
#[derive(Debug)]
struct Told {
    place: String,
    text: String,
}

impl Told {
    fn new(place: &str, text: &str) -> Self {
        Self {
            place: place.to_owned(),
            text: text.to_ascii_lowercase(),
        }
    }

    /// The first line with one of `forms`.
    fn line_with(&self, forms: &[String]) -> Option<&str> {
        self.text
            .lines()
            .find(|line| forms.iter().any(|form| line.contains(form)))
    }
}

/// How `secret` may be written, in lower case: that is enough to know it by, in base64 too.
fn forms(secret: &[u8]) -> Vec<String> {
    let each = |form: fn(u8) -> String, between: &str| -> String {
        let bytes: Vec<String> = secret.iter().copied().map(form).collect();
        bytes.join(between)
    };
    let mut forms = vec![
        String::from_utf8_lossy(secret).into_owned(),
        each(|byte| byte.escape_ascii().to_string(), ""),
        each(|byte| format!("{byte:02x}"), ""),
        each(|byte| format!("{byte:02x}"), ":"),
        each(|byte| format!("%{byte:02x}"), ""),
        each(percent_encoded, ""),
        // As `Debug` shows bytes.
        each(|byte| byte.to_string(), ", "),
    ];
    // Base64 of something longer, in which it begins at any of the three places: without the
    // letters that depend on what is around it.
    for (before, letters) in [(0, 0), (1, 2), (2, 3)] {
        let bytes = [&[0_u8; 2][..before], secret].concat();
        let end = bytes.len() * 8 / 6;
        for alphabet in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            forms.push(alphabet.encode(&bytes)[letters..end].to_owned());
        }
    }
    for form in &mut forms {
        form.make_ascii_lowercase();
    }
    forms.sort_unstable();
    forms.dedup();
    forms
}

fn percent_encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02x}")
    }
}

/// The secrets of a test, and what came out.
#[derive(Debug, Default)]
struct Trial {
    canaries: Vec<Canary>,
    told: Vec<Told>,
    request_ids: Vec<String>,
    /// What is under way, for the names of places.
    during: &'static str,
}

impl Trial {
    /// A new secret for this place: letters and digits that fit wherever a value does.
    fn plant(&mut self, place: &str) -> String {
        let name: String = place
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(16)
            .collect();
        // Of one width, so that none is the beginning of another.
        let text = format!("{MARK}{:04}{name}", self.canaries.len());
        self.add(place, text.as_bytes());
        text
    }

    fn add(&mut self, place: &str, secret: &[u8]) {
        self.canaries.push(Canary {
            place: format!("{place} {}", self.during).trim_end().to_owned(),
            secret: secret.to_vec(),
        });
    }

    /// `token`, signed, with a secret among its claims; its signature is another one.
    fn sign(&mut self, place: &str, token: Token) -> String {
        let claim = self.plant(&format!("claims of {place}"));
        let token = token.claim("note", json!(claim)).sign();
        let signature = token.rsplit('.').next().unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        self.add(&format!("signature of {place}"), &signature[..24]);
        self.add(
            &format!("end of the signature of {place}"),
            &signature[signature.len() - 24..],
        );
        token
    }

    fn add_private_key(&mut self, place: &str, pem: &str) {
        let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(text).unwrap();
        // PKCS #8 of P-256 has the scalar as an octet string of 32 bytes.
        let at = der.windows(2).position(|pair| pair == [4, 32]).unwrap() + 2;
        // In PEM a line ends after its first twelve.
        self.add(place, &der[at..at + 12]);
        self.add(&format!("{place}, its second line"), &der[at + 12..at + 32]);
    }

    /// Keeps an answer of the gateway's own, and returns its status: 0 when there is none.
    fn hear(&mut self, place: &str, got: Option<Got>) -> u16 {
        let Some(got) = got else {
            return 0;
        };
        self.request_ids.extend(got.request_id);
        let told = Told::new(&format!("the answer to {place} {}", self.during), &got.text);
        // Everything else is the service's.
        if told.text.contains("application/problem+json") {
            self.told.push(told);
        }
        got.status
    }

    fn hear_text(&mut self, place: &str, text: &str) {
        self.told.push(Told::new(place, text));
    }

    /// Keeps the logs, and what the admin listener says, also to those who tell it a secret.
    async fn hear_gateway(&mut self, gateway: &Gateway) {
        self.during = "to the admin listener";
        let query = self.plant("query");
        let cookie = format!("session={}", self.plant("cookie"));
        let authorization = format!("Bearer {}", self.plant("authorization"));
        let headers = [("cookie", &*cookie), ("authorization", &*authorization)];
        let caller = Caller::new();
        for path in ["/metrics", "/healthz", "/readyz", "/status", "/nowhere"] {
            let url = gateway.admin_url(&format!("{path}?key={query}"));
            for method in [Method::GET, Method::POST] {
                let answer = caller.send(method, &url, &headers, b"").await;
                let text = format!("{:?}\n{}", answer.headers, answer.text());
                self.hear_text(path, &text);
            }
        }
        let malformed = format!("GET /metrics?key={query} HTTP/9\r\nCookie {cookie}\r\n\r\n");
        let body = self.plant("body");
        let length = format!("Content-Length: {}", body.len());
        for bytes in [malformed, request("POST", "/status", &[&length]) + &body] {
            let mut connection = Connection::open(gateway.admin_address()).await;
            let _ = connection.try_send(bytes).await;
            if let Some(answer) = connection.read_response_or_close().await {
                self.hear_text("the admin listener", &Got::from(answer).text);
            }
        }

        let ids = &self.request_ids;
        eventually("a line for each answer", || async {
            let log = gateway.access_log_text();
            ids.iter().all(|id| log.contains(id.as_str())).then_some(())
        })
        .await;
        self.hear_text("the access log", &gateway.access_log_text());
        self.hear_text("the log", &gateway.log_text());
        gateway.assert_healthy();
    }

    /// Fails with each secret that was told, and where. `marker` is told by design: if it is not
    /// found in `place`, nothing would be.
    fn assert_untold(&self, marker: &str, place: &str) {
        let marked = forms(marker.as_bytes());
        let is_found = |told: &Told| told.place == place && told.line_with(&marked).is_some();
        assert!(self.told.iter().any(is_found), "no `{marker}` in {place}");

        let mark = forms(MARK.as_bytes());
        let has_mark = |told: &&Told| told.line_with(&mark).is_some();
        let suspects: Vec<&Told> = self.told.iter().filter(has_mark).collect();
        let all: Vec<&Told> = self.told.iter().collect();
        let mut leaks = Vec::new();
        for canary in &self.canaries {
            let forms = forms(&canary.secret);
            // Where the beginning of all of them is not, none of them is.
            let is_marked = canary.secret.starts_with(MARK.as_bytes());
            for told in if is_marked { &suspects } else { &all } {
                if let Some(line) = told.line_with(&forms) {
                    leaks.push(format!("{}, in {}: {line}", canary.place, told.place));
                }
            }
        }
        // One that was cut is none of those.
        for told in &suspects {
            let line = told.line_with(&mark).unwrap_or_default();
            leaks.push(format!("some of one, in {}: {line}", told.place));
        }
        assert!(leaks.is_empty(), "{leaks:#?}");
    }
}

/// An answer, head and body.
#[derive(Debug)]
struct Got {
    status: u16,
    request_id: Option<String>,
    text: String,
}

impl From<RawResponse> for Got {
    fn from(answer: RawResponse) -> Self {
        Self {
            status: answer.status,
            request_id: answer.header("x-request-id").map(str::to_owned),
            text: String::from_utf8_lossy(&answer.head).into_owned() + &answer.text(),
        }
    }
}

impl From<Http2Response> for Got {
    fn from(answer: Http2Response) -> Self {
        Self {
            status: answer.status,
            request_id: answer.header("x-request-id").map(str::to_owned),
            text: format!(
                "{:?}\n{:?}\n{}",
                answer.headers,
                answer.trailers,
                answer.text()
            ),
        }
    }
}

/// How a caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Plain,
    Tls,
    Http2,
}

impl Lane {
    const ALL: [Self; 3] = [Self::Plain, Self::Tls, Self::Http2];

    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "over HTTP/1",
            Self::Tls => "over HTTP/1 and TLS",
            Self::Http2 => "over HTTP/2",
        }
    }
}

/// A well-formed request with a secret in it.
#[derive(Debug, Clone)]
struct Ask {
    place: &'static str,
    method: &'static str,
    target: String,
    fields: Vec<(&'static str, String)>,
    body: String,
    wanted: Wanted,
}

impl Ask {
    fn new(place: &'static str, method: &'static str, target: &str, wanted: Wanted) -> Self {
        Self {
            place,
            method,
            target: target.to_owned(),
            fields: Vec::new(),
            body: String::new(),
            wanted,
        }
    }

    fn get(place: &'static str, target: &str, wanted: Wanted) -> Self {
        Self::new(place, "GET", target, wanted)
    }

    fn field(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }

    fn bearer(self, token: &str) -> Self {
        self.field("authorization", &format!("Bearer {token}"))
    }

    fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    /// Asks for a WebSocket.
    fn upgrade(self) -> Self {
        self.field("connection", "Upgrade")
            .field("upgrade", "websocket")
    }

    fn http1(&self) -> String {
        let mut lines: Vec<String> = self
            .fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        if !self.body.is_empty() {
            lines.push(format!("content-length: {}", self.body.len()));
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        request(self.method, &self.target, &lines) + &self.body
    }
}

/// A talkative gateway with a plain listener, `public`, and one with TLS, `secure`.
#[derive(Debug)]
struct House {
    world: World,
    options: TlsOptions,
    trial: Trial,
}

impl House {
    async fn start(
        mut trial: Trial,
        change: impl FnOnce(GatewayYaml) -> GatewayYaml,
        prepare: impl FnOnce(GatewayBuilder) -> GatewayBuilder,
    ) -> Self {
        let authority = Authority::new("Edge");
        let edge = authority.issue_for(HOST);
        trial.add_private_key("a listener's private key", &edge.private_key_pem);
        let pseudonym_key = trial.plant("pseudonym key");
        let world = World::start_with_gateway(
            |yaml| {
                let yaml = yaml
                    .listener("{ name: public, address: \"127.0.0.1:0\" }")
                    .listener(
                        "{ name: secure, address: \"127.0.0.1:0\", tls: { certificates: \
                         [{ certificate: edge.pem, private_key: edge.key }] } }",
                    )
                    .section("access_log: { pseudonym_key: { file: pseudonym.key } }");
                change(yaml)
            },
            |builder| {
                edge.write(builder.directory(), "edge");
                prepare(
                    builder
                        .file("pseudonym.key", &pseudonym_key)
                        .environment("PORTCULLIS_LOG", "trace"),
                )
            },
        )
        .await;
        Self {
            world,
            options: TlsOptions::new(&authority, HOST),
            trial,
        }
    }

    fn secure(&self) -> SocketAddr {
        self.world.gateway.address("secure")
    }

    /// A connection for bytes.
    async fn connect(&self, lane: Lane) -> Connection {
        let options = match lane {
            Lane::Plain => return Connection::open(self.world.gateway.address("public")).await,
            Lane::Tls => self.options.clone(),
            Lane::Http2 => self.options.clone().with_protocols(&["h2"]),
        };
        Connection::open_tls(self.secure(), &options).await.unwrap()
    }

    /// The answer to these bytes, over HTTP/1.
    async fn exchange(&self, lane: Lane, bytes: &str) -> Option<Got> {
        let mut connection = self.connect(lane).await;
        // An error is a gateway that has heard enough.
        let _ = connection.try_send(bytes).await;
        connection.read_response_or_close().await.map(Got::from)
    }

    async fn ask_over_http2(&self, ask: &Ask) -> Option<Got> {
        let mut connection = Http2Connection::open_tls(self.secure(), &self.options).await;
        let uri = format!("https://{HOST}{}", ask.target);
        let fields: Vec<(&str, &str)> = ask
            .fields
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = connection
            .request(ask.method, &uri, &fields, ask.body.as_bytes(), &[])
            .await;
        answer.ok().map(Got::from)
    }

    async fn ask(&mut self, lane: Lane, ask: &Ask) {
        let got = match lane {
            Lane::Plain | Lane::Tls => self.exchange(lane, &ask.http1()).await,
            Lane::Http2 => self.ask_over_http2(ask).await,
        };
        let status = self.trial.hear(ask.place, got);
        assert!(
            ask.wanted.contains(&status),
            "{} {}: {status}",
            ask.place,
            lane.name()
        );
    }

    /// Searches everything.
    async fn assert_untold(mut self, marker: &str, place: &str) {
        self.trial.hear_gateway(&self.world.gateway).await;
        self.trial.assert_untold(marker, place);
    }
}

/// Fields that carry secrets beside `Authorization`, or an identity.
fn carried(trial: &mut Trial) -> Vec<(&'static str, String)> {
    let mut fields: Vec<(&'static str, String)> = [
        "x-api-key",
        "api-key",
        "x-auth-token",
        "x-access-token",
        "x-csrf-token",
        "x-forwarded-access-token",
        "dpop",
        "baggage",
        "x-user-id",
        "x_user_id",
        "x-scopes",
        "x-client-id",
    ]
    .into_iter()
    .map(|name| (name, trial.plant(name)))
    .collect();
    let session = trial.plant("cookie");
    fields.push(("cookie", format!("theme=dark; session={session}")));
    let code = trial.plant("referer");
    fields.push(("referer", format!("https://app.example/?code={code}")));
    let password = trial.plant("proxy-authorization");
    let credentials = STANDARD.encode(format!("proxy:{password}"));
    fields.push(("proxy-authorization", format!("Basic {credentials}")));
    fields
}

/// A token in each state, and what is no token.
fn credentials(trial: &mut Trial, issuer: &Issuer) -> Vec<Ask> {
    let order = format!("/orders/7?q={}", trial.plant("query"));
    let subject = trial.plant("subject");
    let good = issuer
        .token()
        .scope("orders:read orders:write")
        .claim("sub", json!(subject));
    let good = trial.sign("a good token", good);
    let expired = issuer.token().claim("exp", json!(1_000_000_000));
    let expired = trial.sign("an expired token", expired);
    let stranger = trial.plant("issuer that is unknown");
    let stranger = issuer
        .token()
        .claim("iss", json!(format!("https://{stranger}.example")));
    let stranger = trial.sign("a stranger's token", stranger);
    let key_id = trial.plant("key id that is unknown");
    let unknown_key = issuer.token().header("kid", json!(key_id));
    let unknown_key = trial.sign("a token of an unknown key", unknown_key);
    let forged = trial.plant("claims of a forged token");
    let signature = trial.plant("signature of a forged token");
    let forged = issuer
        .token()
        .claim("note", json!(forged))
        .with_signature(|_| signature.repeat(8).into_bytes());
    let malformed = trial.plant("malformed token");
    let no_token = trial.plant("what is no token");
    let long = trial.plant("token that is too long").repeat(700);
    let second = trial.plant("second credential");
    let password = trial.plant("password");
    let basic = format!("Basic {}", STANDARD.encode(format!("user:{password}")));
    let scheme = format!("DPoP {}", trial.plant("other scheme"));
    let in_query = trial.plant("token in the query");
    let in_query = format!("/orders/7?access_token={in_query}");
    let body = trial.plant("body");
    vec![
        Ask::get("a good token", &order, &[200]).bearer(&good),
        Ask::get("a token that is passed on", "/delegated/7", &[200]).bearer(&good),
        Ask::new("a body", "POST", "/orders", &[200])
            .bearer(&good)
            .body(&body),
        Ask::get(
            "a token without the scope",
            &format!("/admin{order}"),
            &[403],
        )
        .bearer(&good),
        Ask::get("an expired token", &order, &[401]).bearer(&expired),
        Ask::get("a stranger's token", &order, &[401]).bearer(&stranger),
        Ask::get("a token of an unknown key", &order, &[401]).bearer(&unknown_key),
        Ask::get("a forged token", &order, &[401]).bearer(&forged),
        Ask::get("a token with something behind it", &order, &[401])
            .bearer(&format!("{good}{second}")),
        Ask::get("a malformed token", &order, &[401]).bearer(&format!("{malformed}.{malformed}")),
        Ask::get("no token", &order, &[400]).bearer(&format!("\"{no_token}\"")),
        Ask::get("a long token", &order, &[401]).bearer(&long),
        Ask::get("two credentials", &order, &[400])
            .bearer(&good)
            .bearer(&second),
        Ask::get("a password", &order, &[401]).field("authorization", &basic),
        Ask::get("another scheme", &order, &[401]).field("authorization", &scheme),
        Ask::get("a token in the query", &in_query, &[401]),
        Ask::get("a token in the query too", &in_query, &[400]).bearer(&good),
        Ask::get("nothing", &order, &[401]),
    ]
}

/// Requests that are refused, or need no token, whatever they carry.
fn elsewhere(trial: &mut Trial) -> Vec<Ask> {
    let query = trial.plant("query elsewhere");
    let token = trial.plant("escaped query");
    let body = trial.plant("body elsewhere");
    let health = "/orders/health";
    let one_of_many = trial.plant("one of many fields");
    let mut many = Ask::get("too many fields", health, &[431, 0]);
    for _ in 0..110 {
        many = many.field("x-token", &one_of_many);
    }
    let long = trial.plant("long query").repeat(600);
    let large = trial.plant("large cookie").repeat(2_000);
    let large_body = trial.plant("large body").repeat(200);
    vec![
        Ask::get("a public route", &format!("{health}?q={query}"), &[200]),
        Ask::get("no route", &format!("/nowhere?q={query}"), &[404]),
        Ask::new(
            "another method",
            "DELETE",
            &format!("/orders?q={query}"),
            &[405, 0],
        )
        .body(&body),
        Ask::get("a path", &format!("/orders/..%2fadmin?q={query}"), &[400]),
        Ask::get(
            "an escaped query",
            &format!("/public/%3faccess_token={token}"),
            &[400, 404],
        ),
        Ask::get(
            "an escaped fragment",
            &format!("/public/%23access_token={token}"),
            &[400, 404],
        ),
        Ask::get("a long query", &format!("{health}?q={long}"), &[414, 0]),
        Ask::get("a large cookie", health, &[431, 0]).field("cookie", &large),
        many,
        Ask::new("a large body", "POST", "/public/x", &[413, 0]).body(&large_body),
    ]
}

/// Heads that are none; `SECRET` stands for one.
const MALFORMED: [&str; 21] = [
    "Authorization:Bearer SECRET\r\nHost: api.acme.example\r\n\r\n",
    "Cookie: sid=SECRET; x=y\r\nHost: api.acme.example\r\n\r\n",
    "user=bob&password= SECRET HTTP/1.1\r\nHost: api.acme.example\r\n\r\n",
    "SECRET / HTTP/1.1\r\nHost: api.acme.example\r\n\r\n",
    "GET u:SECRET@api.acme.example/x HTTP/1.1\r\nHost: api.acme.example\r\n\r\n",
    "GET http://u:SECRET@api.acme.example/x HTTP/1.1\r\nHost: api.acme.example\r\n\r\n",
    "GET http://u:SECRET@api.acme.example/x HTTP/1.1\r\nHost: u:SECRET@api.acme.example\r\n\r\n",
    "CONNECT u:SECRET@api.acme.example:443 HTTP/1.1\r\nHost: api.acme.example\r\n\r\n",
    "GET /orders/health HTTP/1.1\r\nHost: u:SECRET@api.acme.example\r\n\r\n",
    "GET /orders/health?q=SECRET HTTP/1.1\r\n\r\n",
    "GET /orders/health?q=SECRET HTTP/3.0\r\nHost: api.acme.example\r\n\r\n",
    "GET /orders/health#SECRET HTTP/1.1\r\nHost: api.acme.example\r\n\r\n",
    "GET /orders/health?q= SECRET HTTP/1.1\r\nHost: api.acme.example\r\n\r\n",
    "GET /orders/health HTTP/1.1\r\nHost: api.acme.example\r\nCookie : sid=SECRET\r\n\r\n",
    "GET /orders/health HTTP/1.1\r\nHost: api.acme.example\r\nCookie: a\r\n sid=SECRET\r\n\r\n",
    "GET /orders/health HTTP/1.1\r\nHost: api.acme.example\r\nAuthorization Bearer SECRET\r\n\r\n",
    "GET /orders/health HTTP/1.1\r\nHost: api.acme.example\r\nCookie: \0sid=SECRET\r\n\r\n",
    "GET /orders/health HTTP/1.1\nHost: api.acme.example\r\nCookie: sid=SECRET\r\n\r\n",
    "GET /orders/health HTTP/1.1\r\nHost: api.acme.example\r\nExpect: SECRET\r\n\r\n",
    "POST /public/x HTTP/1.1\r\nHost: api.acme.example\r\nContent-Length: 3\r\n\
     Transfer-Encoding: chunked\r\n\r\nSECRET",
    "POST /public/x HTTP/1.1\r\nHost: api.acme.example\r\nTransfer-Encoding: chunked\r\n\r\n\
     zz;SECRET\r\nSECRET\r\n0\r\n\r\n",
];

/// Fields of HTTP/2 that no library sends; `SECRET` stands for one.
const MALFORMED_HTTP2: [(&str, &str); 6] = [
    (":authority", "u:SECRET@api.acme.example"),
    (":path", "SECRET"),
    (":path", "http://u:SECRET@api.acme.example/"),
    (":token", "SECRET"),
    ("Cookie", "sid=SECRET"),
    ("connection", "SECRET"),
];

impl House {
    async fn send_malformed(&mut self, lane: Lane) {
        for template in MALFORMED {
            let secret = self.trial.plant(template);
            let got = self
                .exchange(lane, &template.replace("SECRET", &secret))
                .await;
            let status = self.trial.hear(template, got);
            let is_refused = matches!(status, 0 | 400..=599);
            assert!(is_refused, "{template:?} {}: {status}", lane.name());
        }
    }

    async fn send_malformed_http2(&mut self) {
        for (name, template) in MALFORMED_HTTP2 {
            let secret = self.trial.plant(&format!("{name}: {template}"));
            let value = template.replace("SECRET", &secret);
            let mut fields = vec![
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/orders/health"),
                (":authority", HOST),
            ];
            fields.retain(|(known, _)| *known != name);
            fields.push((name, value.as_str()));
            // Pseudo-fields come first.
            fields.sort_by_key(|(name, _)| !name.starts_with(':'));
            let bytes = [
                http2_frames::PREFACE.to_vec(),
                http2_frames::settings(3, 100),
                http2_frames::headers(1, http2_frames::END_STREAM, &fields),
                // The head of a frame that is far too large, so that the connection ends.
                self.trial.plant("frame").into_bytes(),
            ]
            .concat();
            let mut connection = self.connect(Lane::Http2).await;
            let _ = connection.try_send(bytes).await;
            let answer = connection.read_to_end().await;
            self.trial
                .hear_text(name, &String::from_utf8_lossy(&answer));
        }
    }

    /// What is not TLS, where TLS is spoken.
    async fn send_without_tls(&mut self) {
        let secret = self.trial.plant("head without TLS");
        let cookie = format!("Cookie: sid={secret}");
        let mut connection = Connection::open(self.secure()).await;
        let _ = connection
            .try_send(request("GET", &format!("/?q={secret}"), &[&cookie]))
            .await;
        let answer = connection.read_to_end().await;
        self.trial
            .hear_text("a head without TLS", &String::from_utf8_lossy(&answer));
    }
}

#[test]
fn search_finds_a_secret_in_each_encoding_and_nothing_else() {
    let secret = "Canary0000Tz+/9=";
    let bytes = secret.as_bytes();
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    let written = [
        secret.to_owned(),
        secret.to_uppercase(),
        STANDARD.encode(secret),
        STANDARD.encode(format!("a{secret}b")),
        STANDARD.encode(format!("ab{secret}")),
        STANDARD.encode(format!("user:{secret}:")),
        URL_SAFE_NO_PAD.encode(format!("{{\"a\":\"{secret}\"}}")),
        hex.concat(),
        hex.join(":"),
        format!("%{}", hex.join("%")),
        "Canary0000Tz%2B%2F9%3D".to_owned(),
        format!("{bytes:?}"),
    ];
    let forms = forms(bytes);
    for written in written {
        let told = Told::new("a log", &format!("first\n{{\"a\":\"x{written}y\"}}\nlast"));
        // Base64 is of something longer already.
        let alone = Told::new("a log", &written);
        assert!(
            told.line_with(&forms).is_some() && alone.line_with(&forms).is_some(),
            "{written}"
        );
    }
    for other in ["Canary0001Tz+/9=", "Canary0000", "", "a log"] {
        let told = Told::new("a log", &STANDARD.encode(other));
        assert_eq!(told.line_with(&forms), None, "{other}");
        assert_eq!(Told::new("a log", other).line_with(&forms), None, "{other}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_written_at_any_log_level() {
    let mut house = House::start(
        Trial::default(),
        |yaml| yaml.section("limits: { body_bytes: 1KiB }"),
        |builder| builder,
    )
    .await;
    for lane in Lane::ALL {
        house.trial.during = lane.name();
        let carried = carried(&mut house.trial);
        let mut asks = credentials(&mut house.trial, &house.world.issuer);
        asks.extend(elsewhere(&mut house.trial));
        for mut ask in asks {
            ask.fields.extend(carried.clone());
            house.ask(lane, &ask).await;
        }
        if lane == Lane::Http2 {
            house.send_malformed_http2().await;
        } else {
            house.send_malformed(lane).await;
        }
    }
    house.trial.during = "without TLS";
    house.send_without_tls().await;
    house.world.gateway.reload().await;
    house.assert_untold("orders-read", "the access log").await;
}

const CHAT_POLICY: &str = r#"
owner: chat-team
routes:
  - name: chat
    match: { path: "/chat/{*room}" }
    upstream: chat
    require: { authenticated_only: true }
    websocket: true
"#;

/// A secret in each kind of frame, and beside the handshake.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(trial: &mut Trial, stream: S, token: &str) {
    let url = format!("ws://{HOST}/chat/1?ticket={}", trial.plant("ticket"));
    let authorization = format!("Bearer {token}");
    let cookie = format!("session={}", trial.plant("cookie"));
    let protocol = trial.plant("protocol");
    let fields = [
        ("authorization", &*authorization),
        ("cookie", &*cookie),
        ("sec-websocket-protocol", &*protocol),
    ];
    let mut socket = WebSocket::open_on(stream, &url, &fields).await.unwrap();
    let id = socket.head["x-request-id"].to_str().unwrap().to_owned();
    trial.request_ids.push(id);
    socket.expect_echo(&trial.plant("text frame")).await;
    let binary = Message::binary(trial.plant("binary frame").into_bytes());
    socket.say(binary.clone()).await;
    assert_eq!(socket.hear().await.unwrap(), binary);
    socket
        .say(Message::Ping(trial.plant("ping").into_bytes().into()))
        .await;
    let close = CloseFrame {
        code: CloseCode::Normal,
        reason: trial.plant("reason for closing").into(),
    };
    socket.say(Message::Close(Some(close))).await;
    while socket.hear().await.is_ok() {}
}

/// Handshakes that are refused.
fn handshakes(trial: &mut Trial, good: &str) -> Vec<Ask> {
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    let target = format!("/chat/1?ticket={}", trial.plant("ticket"));
    let cookie = format!("session={}", trial.plant("cookie"));
    let protocol = trial.plant("protocol");
    let token = trial.plant("token");
    let key = trial.plant("key of a handshake");
    let version = trial.plant("version");
    let ask = |place: &'static str, target: &str, wanted: Wanted, key: &str, version: &str| {
        Ask::get(place, target, wanted)
            .upgrade()
            .field("sec-websocket-key", key)
            .field("sec-websocket-version", version)
            .field("sec-websocket-protocol", &protocol)
            .field("cookie", &cookie)
    };
    vec![
        ask("no token", &target, &[401], KEY, "13"),
        ask("a bad token", &target, &[401], KEY, "13").bearer(&token),
        ask("a bad key", &target, &[400], &key, "13").bearer(good),
        ask("a bad version", &target, &[400, 426], KEY, &version).bearer(good),
        ask("an old version", &target, &[426], KEY, "8").bearer(good),
        ask("no WebSocket", "/account?q=1", &[403], KEY, "13").bearer(good),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_websocket_is_written_at_any_log_level() {
    let service = WebSocketService::start();
    let mut house = House::start(
        Trial::default(),
        |yaml| yaml.upstream("chat", service.address()),
        |builder| builder.file("policy/chat.yaml", CHAT_POLICY),
    )
    .await;
    for lane in [Lane::Plain, Lane::Tls] {
        house.trial.during = lane.name();
        let token = house.world.issuer.token();
        let token = house.trial.sign("a good token", token);
        for ask in handshakes(&mut house.trial, &token) {
            house.ask(lane, &ask).await;
        }
        if lane == Lane::Tls {
            let stream = house.options.connect(house.secure()).await.unwrap();
            converse(&mut house.trial, stream, &token).await;
        } else {
            let address = house.world.gateway.address("public");
            let stream = TcpStream::connect(address).await.unwrap();
            converse(&mut house.trial, stream, &token).await;
        }
    }
    assert_eq!(service.handshakes().len(), 2);
    house.assert_untold("chat-team", "the access log").await;
}

/// What a service may do, with a secret in each answer.
fn services(trial: &mut Trial) -> Vec<(&'static str, Behaviour, Wanted)> {
    const BROKEN: Wanted = &[502];
    const CUT_OFF: Wanted = &[0, 200];
    const ANY: Wanted = &[0, 200, 502, 504];
    const ANSWERED: Wanted = &[500];
    let mut say =
        |place: &'static str, text: &str| text.replace("SECRET", &trial.plant(place)).into_bytes();
    let garbage = say("garbage", "SECRET is no answer\r\n\r\n");
    let status = say("status line", "HTTP/1.1 SECRET OK\r\n\r\n");
    let cut = say(
        "head cut off",
        "HTTP/1.1 200 OK\r\nSet-Cookie: sid=SECRET\r\nX-",
    );
    let line = say(
        "line that is none",
        "HTTP/1.1 200 OK\r\nSet-Cookie: sid=SECRET\r\nSECRET\r\nContent-Length: 0\r\n\r\n",
    );
    let lengths = say(
        "two lengths",
        "HTTP/1.1 200 OK\r\nSet-Cookie: sid=SECRET\r\nContent-Length: 1\r\n\
         Content-Length: 2\r\n\r\nSECRET",
    );
    let half = say(
        "half a body",
        "HTTP/1.1 200 OK\r\nSet-Cookie: sid=SECRET\r\nContent-Length: 900\r\n\r\nSECRET",
    );
    let chunks = say(
        "chunks",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nSECRET\r\nSECRET\r\n",
    );
    let upgrade = say(
        "upgrade",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: SECRET\r\nConnection: Upgrade\r\n\r\nSECRET",
    );
    let cookie = format!("sid={}; HttpOnly", trial.plant("Set-Cookie"));
    let location = format!("https://app.example/?code={}", trial.plant("Location"));
    let answer = Response::new(500)
        .header("set-cookie", &cookie)
        .header("location", &location)
        .header("www-authenticate", &trial.plant("WWW-Authenticate"))
        .body(trial.plant("body of an answer"));
    let large = trial.plant("large Set-Cookie").repeat(4_000);
    let large = Response::new(200).header("set-cookie", &large);
    vec![
        ("nothing", Behaviour::WriteAndReset(Vec::new()), BROKEN),
        ("garbage", Behaviour::WriteAndClose(garbage), BROKEN),
        ("a status line", Behaviour::WriteAndClose(status), BROKEN),
        ("a head cut off", Behaviour::WriteAndReset(cut), BROKEN),
        ("a line that is none", Behaviour::WriteAndClose(line), ANY),
        ("two lengths", Behaviour::WriteAndClose(lengths), ANY),
        ("half a body", Behaviour::WriteAndReset(half), CUT_OFF),
        ("chunks", Behaviour::WriteAndClose(chunks), ANY),
        ("an upgrade", Behaviour::WriteAndClose(upgrade), ANY),
        ("a large head", large.into(), ANY),
        ("an answer", answer.into(), ANSWERED),
    ]
}

const SEALED_POLICY: &str = r#"
owner: sealed-team
routes:
  - { name: sealed, match: { path: /sealed }, upstream: sealed, public: true }
  - { name: strange, match: { path: /strange }, upstream: strange, public: true }
  - { name: garbled, match: { path: /garbled }, upstream: garbled, public: true }
"#;

/// Where everybody who connects is told `text`, and nothing else.
async fn saying(text: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // An error is a gateway that has left.
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_service_says_is_written_at_any_log_level() {
    const NAME: &str = "orders.internal";
    let mut trial = Trial::default();
    let (authority, stranger) = (Authority::new("internal"), Authority::new("stranger"));
    let own = authority.issue(Leaf::new("portcullis"));
    trial.add_private_key(
        "the gateway's private key for services",
        &own.private_key_pem,
    );
    let sealed = Service::builder()
        .tls(&authority.issue_for(NAME))
        .demand_client_certificate(&authority)
        .start()
        .await;
    let strange = Service::builder()
        .tls(&stranger.issue_for(NAME))
        .start()
        .await;
    let garbled = saying(trial.plant("what is no handshake").repeat(8)).await;
    let mut house = House::start(
        trial,
        |mut yaml| {
            for (name, address) in [
                ("sealed", sealed.address()),
                ("strange", strange.address()),
                ("garbled", garbled),
            ] {
                yaml = yaml.upstream_flow(&format!(
                    "name: {name}, addresses: [\"{address}\"], tls: {{ server_name: {NAME}, \
                     trust: trust.pem, certificate: own.pem, private_key: own.key }}"
                ));
            }
            yaml
        },
        |builder| {
            own.write(builder.directory(), "own");
            builder
                .file("trust.pem", &authority.certificate_pem())
                .file("policy/sealed.yaml", SEALED_POLICY)
        },
    )
    .await;
    for lane in Lane::ALL {
        house.trial.during = lane.name();
        let token = house.world.issuer.token().scope("orders:read");
        let token = house.trial.sign("a good token", token);
        let query = house.trial.plant("query");
        for (place, behaviour, wanted) in services(&mut house.trial) {
            house.world.service.always(behaviour);
            let ask = Ask::get(place, &format!("/orders/7?q={query}"), wanted);
            house.ask(lane, &ask.bearer(&token)).await;
        }
        let behind_tls = [
            Ask::get("TLS", &format!("/sealed?q={query}"), &[200]),
            Ask::get("a stranger", &format!("/strange?q={query}"), &[502]),
            Ask::get("no TLS", &format!("/garbled?q={query}"), &[502]),
        ];
        for ask in behind_tls {
            house.ask(lane, &ask.bearer(&token)).await;
        }
    }
    assert!(sealed.last_request().client_certificate.is_some());
    house.world.service.take_down().await;
    let query = house.trial.plant("query for nobody");
    let ask = Ask::get("nobody", &format!("/public/x?q={query}"), &[502]);
    house.ask(Lane::Plain, &ask).await;
    house
        .assert_untold("TLS with a service failed", "the log")
        .await;
}

/// Waits until the answer that is given now has been read.
async fn until_fetched(issuer: &Issuer) {
    let before = issuer.key_set_fetches();
    eventually("two fetches of the key set", || async {
        (issuer.key_set_fetches() >= before + 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_key_set_is_written_at_any_log_level() {
    let issuer = Issuer::start().await;
    let mut house = House::start(
        Trial::default(),
        |yaml| {
            yaml.issuer_flow(&format!(
                "name: eager, issuer: \"{}\", audiences: [a], keys: {{ url: \"{}\" }}, \
                 refresh_interval: 1s",
                issuer.issuer(),
                issuer.key_set_url()
            ))
        },
        |builder| builder,
    )
    .await;
    let trial = &mut house.trial;
    let symmetric = URL_SAFE_NO_PAD.encode(trial.plant("symmetric key"));
    let symmetric = json!({ "kty": "oct", "kid": "shared", "alg": "HS256", "k": symmetric });
    let mut private = issuer.key().public_jwk();
    for member in ["d", "p", "q"] {
        private[member] = json!(URL_SAFE_NO_PAD.encode(trial.plant(member)));
    }
    let garbage = trial.plant("garbage").into_bytes();
    let cut = json!({ "keys": [&symmetric] }).to_string().into_bytes();
    let cut = cut[..cut.len() - 4].to_vec();
    let location = format!("http://127.0.0.1:9/?key={}", trial.plant("redirect"));
    let body = |keys: &serde_json::Value| IssuerAnswer::Body(keys.to_string().into_bytes());
    for answer in [
        IssuerAnswer::Body(garbage),
        IssuerAnswer::Body(cut),
        IssuerAnswer::Redirect(location),
        body(&json!({ "keys": trial.plant("keys") })),
        body(&json!({ "keys": [&symmetric] })),
    ] {
        issuer.answer_with(answer);
        until_fetched(&issuer).await;
        let status = house.world.gateway.status().await.to_string();
        house.trial.hear_text("the status in between", &status);
    }
    house
        .world
        .gateway
        .wait_for_log("has no key that a signature can be verified with")
        .await;
    let good = issuer.key().public_jwk();
    issuer.answer_with(body(&json!({ "keys": [good, private, symmetric] })));
    until_fetched(&issuer).await;
    let log = house.world.gateway.log();
    let skipped = log.iter().any(|line| line["skipped"] == 2);
    assert!(skipped, "no two keys were skipped: {log:#?}");
    house
        .assert_untold("key set not refreshed", "the log")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn address_of_a_key_set_is_told_without_its_password_and_query() {
    let mut trial = Trial::default();
    let (metadata, queried, configured) = (
        Issuer::start().await,
        Issuer::start().await,
        Issuer::start().await,
    );
    let authority = metadata.issuer().strip_prefix("http://").unwrap();
    let password = trial.plant("password in the metadata");
    let address = format!("http://user:{password}@{authority}/jwks");
    let document = json!({ "issuer": metadata.issuer(), "jwks_uri": address });
    metadata.answer_metadata_with(document.to_string().as_bytes());
    let query = trial.plant("query in the metadata");
    let address = format!("{}?key={query}", queried.key_set_url());
    let document = json!({ "issuer": queried.issuer(), "jwks_uri": address });
    queried.answer_metadata_with(document.to_string().as_bytes());
    queried.answer_with(IssuerAnswer::Status(503));
    configured.answer_with(IssuerAnswer::Status(503));
    let query = trial.plant("query in the configuration");
    let keys = format!("url: \"{}?key={query}\"", configured.key_set_url());
    let service = Service::start().await;
    let yaml = GatewayYaml::new()
        .issuer_with_keys("metadata", metadata.issuer(), "discovery: true")
        .issuer_with_keys("queried", queried.issuer(), "discovery: true")
        .issuer_with_keys("configured", configured.issuer(), &keys)
        .upstream("orders", service.address());
    let gateway = Gateway::builder()
        .file("portcullis.yaml", &yaml.render())
        .file("policy/orders.yaml", ORDERS_POLICY)
        .environment("PORTCULLIS_LOG", "trace")
        .start()
        .await;
    eventually("a complaint about each issuer", || async {
        let status = gateway.status().await;
        let issuers = status["issuers"].as_array().unwrap();
        let all_failed = issuers
            .iter()
            .all(|issuer| issuer["last_error"].is_string());
        all_failed.then_some(())
    })
    .await;
    trial.hear_gateway(&gateway).await;
    trial.assert_untold("key set not refreshed", "the log");
}

/// A file of the configuration with a secret where it is not expected.
struct Broken {
    place: &'static str,
    path: &'static str,
    content: String,
}

/// `good` is `portcullis.yaml`, `issuer` in it the address of a key set.
fn broken_files(trial: &mut Trial, good: &str, key_set_url: &str) -> Vec<Broken> {
    let mut files = Vec::new();
    let instead = |old: &str, new: &str| {
        assert!(good.contains(old), "no `{old}` in {good}");
        good.replace(old, new)
    };
    let pseudonym = "{ file: pseudonym.key }";
    for (place, old, new) in [
        ("key that is written down", pseudonym, "SECRET"),
        ("value of a key", pseudonym, "{ value: SECRET }"),
        ("list of keys", pseudonym, "{ env: [SECRET] }"),
        (
            "value that comes twice",
            pseudonym,
            "{ value: SECRET, value: SECRET }",
        ),
        (
            "client secret",
            "upstreams:",
            "client_secret: SECRET\nupstreams:",
        ),
        (
            "open quote",
            "upstreams:",
            "client_secret: \"SECRET\nupstreams:",
        ),
        (
            "password of a URL",
            key_set_url,
            "http://u:SECRET@127.0.0.1/jwks",
        ),
    ] {
        let content = instead(old, new).replace("SECRET", &trial.plant(place));
        files.push(Broken {
            place,
            path: "portcullis.yaml",
            content,
        });
    }
    let other = Authority::new("other").issue_for(HOST).private_key_pem;
    trial.add_private_key("a key of another certificate", &other);
    let short = "Canary-short";
    trial.add("a pseudonym key that is short", short.as_bytes());
    let secret = trial.plant("PEM that is none");
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n");
    let symmetric = trial.plant("symmetric key in a file");
    let symmetric = json!({ "keys": [{ "kty": "oct", "kid": "a", "k": symmetric }] });
    for (place, path, content) in [
        ("a key of another certificate", "edge.key", other),
        ("PEM that is none", "edge.key", pem),
        ("no PEM", "own.key", trial.plant("no PEM")),
        ("a short key", "pseudonym.key", short.to_owned()),
        ("a symmetric key", "keys.json", symmetric.to_string()),
        ("no JSON", "keys.json", trial.plant("no JSON")),
    ] {
        files.push(Broken {
            place,
            path,
            content,
        });
    }
    files
}

impl House {
    /// What the command line says about the configuration.
    async fn run(&mut self, place: &str, arguments: &[&str], stdin: &str) -> Option<i32> {
        let directory = self.world.gateway.directory();
        let output = portcullis(directory, arguments, stdin).await;
        let place = format!("`portcullis {}`, {place}", arguments.join(" "));
        self.trial
            .hear_text(&place, &format!("{}\n{}", output.stdout, output.stderr));
        output.status
    }

    /// Puts a broken file in place, and the one before back.
    async fn reload_broken(&mut self, broken: &Broken) {
        let path = self.world.gateway.directory().join(broken.path);
        let good = std::fs::read_to_string(path).unwrap();
        let gateway = &self.world.gateway;
        let before = rejections(gateway).await;
        gateway.write(broken.path, &broken.content);
        gateway.hang_up();
        eventually(&format!("a rejection of {}", broken.place), || async {
            (rejections(gateway).await > before).then_some(())
        })
        .await;
        let status = gateway.status().await.to_string();
        let place = format!("the status with {}", broken.place);
        self.trial.hear_text(&place, &status);
        for format in ["human", "json"] {
            let check = ["check", "--config", "portcullis.yaml", "--format", format];
            let code = self.run(broken.place, &check, "").await;
            assert_eq!(code, Some(1), "{}", broken.place);
        }
        let gateway = &self.world.gateway;
        gateway.write(broken.path, &good);
        gateway.hang_up();
        eventually("an accepted configuration", || async {
            let last = gateway.status().await["config"]["last_reload"]["ok"].clone();
            (last == true).then_some(())
        })
        .await;
    }
}

async fn rejections(gateway: &Gateway) -> f64 {
    let metrics = gateway.metrics().await;
    metrics.value("portcullis_config_reloads_total", &[("result", "rejected")])
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_the_configuration_is_written_at_any_log_level() {
    let mut trial = Trial::default();
    let authority = Authority::new("internal");
    let own = authority.issue(Leaf::new("portcullis"));
    trial.add_private_key(
        "the gateway's private key for services",
        &own.private_key_pem,
    );
    let key = SigningKey::p256("filed").public_jwk();
    let symmetric = URL_SAFE_NO_PAD.encode(trial.plant("symmetric key beside a good one"));
    let symmetric = json!({ "kty": "oct", "kid": "shared", "k": symmetric });
    let keys = json!({ "keys": [key, symmetric] }).to_string();
    let mut house = House::start(
        trial,
        |yaml| {
            yaml.issuer_with_keys("filed", "https://filed.example", "file: keys.json")
                .upstream_flow(&format!(
                    "name: sealed, addresses: [\"127.0.0.1:9\"], tls: {{ server_name: {HOST}, \
                     trust: trust.pem, certificate: own.pem, private_key: own.key }}"
                ))
        },
        |builder| {
            own.write(builder.directory(), "own");
            builder
                .file("trust.pem", &authority.certificate_pem())
                .file("keys.json", &keys)
        },
    )
    .await;
    let good = house.world.gateway.directory().join("portcullis.yaml");
    let good = std::fs::read_to_string(good).unwrap();
    let key_set_url = house.world.issuer.key_set_url();
    for broken in broken_files(&mut house.trial, &good, &key_set_url) {
        house.reload_broken(&broken).await;
    }

    let secret = house.trial.plant("value in a policy file");
    let policy = format!("client_secret: {secret}\n{ORDERS_POLICY}");
    house.world.gateway.write("policy/orders.yaml", &policy);
    house.world.gateway.hang_up();
    house
        .world
        .gateway
        .wait_for_log("policy file held at its last good content")
        .await;
    let check = ["check", "--config", "portcullis.yaml"];
    let code = house.run("a value in a policy file", &check, "").await;
    assert_eq!(code, Some(1));
    house
        .world
        .gateway
        .write("policy/orders.yaml", ORDERS_POLICY);
    assert_eq!(house.run("as it was", &check, "").await, Some(0));
    let token = house.world.issuer.token().scope("orders:read");
    let token = house.trial.sign("the token that is explained", token);
    for format in ["human", "json"] {
        let explain = [
            &["explain", "--config", "portcullis.yaml", "--format", format][..],
            &[
                "--token-file",
                "-",
                "GET",
                "https://api.acme.example/orders/7",
            ],
        ]
        .concat();
        assert_eq!(house.run("a token", &explain, &token).await, Some(0));
    }
    house
        .assert_untold("configuration rejected", "the log")
        .await;
}

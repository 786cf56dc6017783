//! The gateway that is attacked, and what placeholders stand for in it.

use std::sync::Arc;

use portcullis_e2e::{
    Authority, Caller, Connection, Gateway, GatewayYaml, Issuer, ORDERS_POLICY, Received, Service,
    SigningKey, TlsOptions, unix_now,
};
use serde_json::{Value, json};

use super::catalogue::{Case, Expect};
use super::token;

pub(super) const HOST: &str = "api.acme.example";

pub(super) struct AttackWorld {
    pub(super) gateway: Gateway,
    pub(super) issuer: Issuer,
    pub(super) service: Service,
    pub(super) keys: Keys,
    /// Its key has the id of the first issuer's.
    _other: Issuer,
    authority: Authority,
}

pub(super) struct Keys {
    pub(super) p256: Arc<SigningKey>,
    pub(super) p384: Arc<SigningKey>,
    pub(super) edwards: Arc<SigningKey>,
    pub(super) stranger: Arc<SigningKey>,
    pub(super) stranger_p256: Arc<SigningKey>,
}

impl AttackWorld {
    pub(super) async fn start() -> Self {
        let issuer = Issuer::start().await;
        let keys = Keys {
            p256: issuer.publish(SigningKey::p256("p256")),
            p384: issuer.publish(SigningKey::p384("p384")),
            edwards: issuer.publish(SigningKey::ed25519("edwards")),
            stranger: Arc::new(SigningKey::rsa("first")),
            stranger_p256: Arc::new(SigningKey::p256("p256")),
        };
        let other = Issuer::start().await;
        let service = Service::start().await;
        let authority = Authority::new("edge");
        let edge = authority.issue_for(HOST);
        let yaml = GatewayYaml::new()
            .tls_listener()
            .listener("{ name: plain, address: \"127.0.0.1:0\" }")
            .issuer("acme", &issuer)
            .issuer("other", &other)
            .upstream("orders", service.address())
            .section(
                "limits: { header_bytes: 16KiB, headers: 60, token_bytes: 8KiB, target_bytes: 4KiB, \
                 failed_verifications_per_second: 0 }",
            );
        let gateway = Gateway::builder()
            .file("portcullis.yaml", &yaml.render())
            .file("policy/orders.yaml", ORDERS_POLICY)
            .file("edge.pem", &edge.certificate_pem)
            .file("edge.key", &edge.private_key_pem)
            .start()
            .await
            .until_ready()
            .await;
        Self {
            gateway,
            issuer,
            service,
            keys,
            _other: other,
            authority,
        }
    }

    /// A connection that speaks no protocol yet.
    pub(super) async fn connect(&self, is_tls: bool, protocol: &str) -> Connection {
        if !is_tls {
            return Connection::open(self.gateway.address("plain")).await;
        }
        let options = TlsOptions::new(&self.authority, HOST).with_protocols(&[protocol]);
        Connection::open_tls(self.gateway.address("public"), &options)
            .await
            .unwrap()
    }

    /// A good request on a fresh connection is served.
    pub(super) async fn check_alive(&self) -> Result<(), String> {
        self.gateway.assert_healthy();
        let url = format!("http://{}/orders/7", self.gateway.address("plain"));
        let token = self.issuer.token().scope("orders:read").sign();
        let answer = Caller::new().get_with_token(&url, &token).await;
        match answer.status {
            200 => Ok(()),
            status => Err(format!("a good request got {status}: {}", answer.text())),
        }
    }

    /// Fills in what `text` has between `{{` and `}}`.
    pub(super) fn fill(&self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, behind) = after
                .split_once("}}")
                .unwrap_or_else(|| panic!("no end of a placeholder: {text:.200}"));
            filled.push_str(before);
            match self.placeholder(inside.trim()) {
                Value::String(text) => filled.push_str(&text),
                number => filled.push_str(&number.to_string()),
            }
            rest = behind;
        }
        filled + rest
    }

    /// The same for a JSON value; a whole string becomes a number where it stands for one.
    pub(super) fn fill_value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                let inside = text
                    .strip_prefix("{{")
                    .and_then(|text| text.strip_suffix("}}"))
                    .filter(|inside| !inside.contains("{{"));
                match inside {
                    Some(inside) => self.placeholder(inside.trim()),
                    None => Value::String(self.fill(text)),
                }
            }
            Value::Array(items) => items.iter().map(|item| self.fill_value(item)).collect(),
            Value::Object(members) => members
                .iter()
                .map(|(key, member)| (self.fill(key), self.fill_value(member)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            other => other.clone(),
        }
    }

    fn placeholder(&self, inside: &str) -> Value {
        if let Some((text, times)) = repetition(inside) {
            return json!(text.repeat(times));
        }
        let (word, rest) = inside.split_once(' ').unwrap_or((inside, ""));
        let scope = if rest.is_empty() { "orders:read" } else { rest };
        let good = self.issuer.token().scope(scope);
        match word {
            "host" => json!(HOST),
            "issuer" => json!(self.issuer.issuer()),
            "token" => json!(good.sign()),
            "stranger" => json!(good.signed_by(&self.keys.stranger).sign()),
            "expired" => {
                let expired = good.claim("exp", json!(unix_now() - 3600));
                json!(expired.claim("iat", json!(unix_now() - 7200)).sign())
            }
            _ => {
                let offset = inside
                    .strip_prefix("now")
                    .unwrap_or_else(|| panic!("no such placeholder: {inside:.100}"));
                let offset: i64 = match offset.replace(' ', "").as_str() {
                    "" => 0,
                    text => text.parse().unwrap(),
                };
                json!(unix_now() + offset)
            }
        }
    }

    /// The token of a case, if it has one.
    pub(super) fn token(&self, case: &Case) -> Option<String> {
        let spec = case.token.as_ref()?;
        Some(token::make(self, spec))
    }

    /// What is wrong with what the service got since it had `before` requests.
    pub(super) fn check_forwarded(&self, expect: &Expect, before: usize) -> Result<(), String> {
        let Some(expected) = &expect.forwarded else {
            let received = self.service.requests();
            return match received.get(before) {
                None => Ok(()),
                Some(request) => Err(format!("the service got {:.300}", head_of(request))),
            };
        };
        let received = self.service.requests();
        let Some(request) = received.get(before) else {
            return Err("the service got nothing".to_owned());
        };
        let expected_path = expected.path.as_ref().map(|path| self.fill(path));
        if expected_path.is_some_and(|path| path != request.target) {
            return Err(format!("the service got the target {}", request.target));
        }
        if let Some(body) = &expected.body
            && super::http1::bytes(&self.fill(body)) != request.body
        {
            return Err(format!("the service got the body {:?}", request.body));
        }
        for (name, value) in &expected.headers {
            let got: Value = request.headers(name).into();
            let wanted = match self.fill_value(value) {
                Value::Null => json!([]),
                Value::Array(values) => json!(values),
                one => json!([one]),
            };
            if got != wanted {
                return Err(format!("the service got {name}: {got}, not {wanted}"));
            }
        }
        Ok(())
    }
}

fn head_of(request: &Received) -> String {
    format!("{} {} {:?}", request.method, request.target, request.fields)
}

/// `"text" * 10`. Escapes are YAML's, and gone already.
fn repetition(inside: &str) -> Option<(String, usize)> {
    let (text, times) = inside.rsplit_once('*')?;
    let text = text.trim_end().strip_prefix('"')?.strip_suffix('"')?;
    Some((text.to_owned(), times.trim().parse().ok()?))
}

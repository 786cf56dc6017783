//! The configuration that most tests start from.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::{Gateway, GatewayBuilder, Issuer, Service};

/// The audience of every good token.
pub const AUDIENCE: &str = "https://api.acme.example";

/// A policy file with a route of each kind.
pub const ORDERS_POLICY: &str = r#"
owner: orders-team
scopes:
  "orders:read": Read a customer's orders
  "orders:write": Place and change orders
  "orders:admin": Do anything to orders
routes:
  - name: orders-read
    match: { path: "/orders/{id}", methods: [GET, HEAD] }
    upstream: orders
    require: { scopes: ["orders:read"] }
  - name: orders-write
    match: { path: /orders, methods: [POST] }
    upstream: orders
    require: { scopes: ["orders:read", "orders:write"] }
  - name: orders-reports
    match: { path: /reports, methods: [GET] }
    upstream: orders
    require: { scopes: { any: ["orders:read", "orders:admin"] } }
  - name: orders-account
    match: { path: /account }
    upstream: orders
    require: { authenticated_only: true }
  - name: orders-admin
    match: { path: "/admin/{*rest}" }
    upstream: orders
    require: { scopes: ["orders:admin"] }
  - name: orders-delegated
    match: { path: "/delegated/{id}", methods: [GET] }
    upstream: orders
    require: { scopes: ["orders:read"] }
    forward_authorization: true
  - name: orders-health
    match: { path: /orders/health, methods: [GET] }
    upstream: orders
    public: true
  - name: orders-public
    match: { path: "/public/{*rest}" }
    upstream: orders
    public: true
"#;

/// `portcullis.yaml`, section by section.
#[derive(Debug, Clone, Default)]
pub struct GatewayYaml {
    listeners: Vec<String>,
    issuers: Vec<String>,
    upstreams: Vec<String>,
    sections: Vec<String>,
}

impl GatewayYaml {
    /// A plain listener `public` and an admin listener, both on free ports, and policy files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a listener, as a flow mapping. The first one replaces the plain listener `public`.
    #[must_use]
    pub fn listener(mut self, flow: &str) -> Self {
        self.listeners.push(flow.to_owned());
        self
    }

    /// Adds the listener `public` on a free port, with TLS by the files `edge.pem` and `edge.key`.
    #[must_use]
    pub fn tls_listener(self) -> Self {
        self.listener(
            "{ name: public, address: \"127.0.0.1:0\", tls: { certificates: \
             [{ certificate: edge.pem, private_key: edge.key }] } }",
        )
    }

    /// Adds an issuer whose key set is fetched from its address.
    #[must_use]
    pub fn issuer(self, name: &str, issuer: &Issuer) -> Self {
        let keys = format!("url: \"{}\"", issuer.key_set_url());
        self.issuer_with_keys(name, issuer.issuer(), &keys)
    }

    /// Adds an issuer, with `keys` as the content of a flow mapping.
    #[must_use]
    pub fn issuer_with_keys(self, name: &str, issuer: &str, keys: &str) -> Self {
        self.issuer_flow(&format!(
            "name: {name}, issuer: \"{issuer}\", audiences: [\"{AUDIENCE}\"], \
             keys: {{ {keys} }}, algorithms: [RS256, PS256, ES256, ES384, EdDSA]"
        ))
    }

    /// Adds an issuer, as the content of a flow mapping.
    #[must_use]
    pub fn issuer_flow(mut self, flow: &str) -> Self {
        self.issuers.push(format!("{{ {flow} }}"));
        self
    }

    /// Adds a plain upstream.
    #[must_use]
    pub fn upstream(self, name: &str, address: SocketAddr) -> Self {
        self.upstream_flow(&format!("name: {name}, addresses: [\"{address}\"]"))
    }

    /// Adds an upstream, as the content of a flow mapping.
    #[must_use]
    pub fn upstream_flow(mut self, flow: &str) -> Self {
        self.upstreams.push(format!("{{ {flow} }}"));
        self
    }

    /// Adds any other top-level section.
    #[must_use]
    pub fn section(mut self, yaml: &str) -> Self {
        self.sections.push(yaml.to_owned());
        self
    }

    /// The document.
    pub fn render(&self) -> String {
        let mut yaml = String::new();
        let plain = ["{ name: public, address: \"127.0.0.1:0\" }".to_owned()];
        let listeners = if self.listeners.is_empty() {
            &plain[..]
        } else {
            &self.listeners
        };
        for (key, items) in [
            ("listeners", listeners),
            ("issuers", &self.issuers),
            ("upstreams", &self.upstreams),
        ] {
            if !items.is_empty() {
                writeln!(yaml, "{key}:").unwrap();
            }
            for item in items {
                writeln!(yaml, "  - {item}").unwrap();
            }
        }
        yaml.push_str("admin: { address: \"127.0.0.1:0\" }\n");
        yaml.push_str("policy: { files: [\"policy/*.yaml\"] }\n");
        for section in &self.sections {
            writeln!(yaml, "{section}").unwrap();
        }
        yaml
    }
}

/// A gateway between an issuer and a service, with [`ORDERS_POLICY`].
#[derive(Debug)]
pub struct World {
    /// The gateway. Its upstream `orders` is the service, its issuer `acme` the issuer.
    pub gateway: Gateway,
    /// The issuer.
    pub issuer: Issuer,
    /// The service.
    pub service: Service,
}

impl World {
    /// With nothing special about it.
    pub async fn start() -> Self {
        Self::start_with(|yaml| yaml).await
    }

    /// With changes to `portcullis.yaml`.
    pub async fn start_with(change: impl FnOnce(GatewayYaml) -> GatewayYaml) -> Self {
        Self::start_with_gateway(change, |builder| builder).await
    }

    /// With changes to `portcullis.yaml` and to how the gateway starts.
    pub async fn start_with_gateway(
        change: impl FnOnce(GatewayYaml) -> GatewayYaml,
        prepare: impl FnOnce(GatewayBuilder) -> GatewayBuilder,
    ) -> Self {
        let issuer = Issuer::start().await;
        let service = Service::start().await;
        let yaml = change(
            GatewayYaml::new()
                .issuer("acme", &issuer)
                .upstream("orders", service.address()),
        );
        let builder = Gateway::builder()
            .file("portcullis.yaml", &yaml.render())
            .file("policy/orders.yaml", ORDERS_POLICY);
        let gateway = prepare(builder).start().await.until_ready().await;
        Self {
            gateway,
            issuer,
            service,
        }
    }

    /// A good token with this scope.
    pub fn token(&self, scope: &str) -> String {
        self.issuer.token().scope(scope).sign()
    }

    /// `http://…` on the listener `public`.
    pub fn url(&self, target: &str) -> String {
        self.gateway.url(target)
    }
}

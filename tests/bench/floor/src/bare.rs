//! A bare Pingora proxy: drops the caller's `X-User-ID` and forwards. One worker thread, no timeouts,
//! no logs, no checks. TLS on both sides is rustls on aws-lc-rs, as in the gateway.
//!
//! ```text
//! bare LISTEN SERVICE [--tls CERTIFICATE KEY] [--mutual-tls TRUST CERTIFICATE KEY NAME]
//!                     [--verify RS256 ES256 EDDSA]
//! ```
//!
//! `--tls` is towards callers and offers HTTP/2, `--mutual-tls` is towards the service. With `--verify` the
//! signature of each token is verified with one of these keys, and nothing else is looked at: no claim, no
//! time, no scope. What cannot be verified is answered with 401. Files are PEM.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    VerificationAlgorithm,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};

const USAGE: &str = "bare LISTEN SERVICE [--tls CERTIFICATE KEY] \
    [--mutual-tls TRUST CERTIFICATE KEY NAME] [--verify RS256 ES256 EDDSA]";
/// As many idle connections to the service as the gateway keeps for each thread.
const IDLE_CONNECTIONS: usize = 256;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match serve(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(words: &[&str]) -> Result<(), Box<dyn Error>> {
    // Pingora would install ring otherwise. An error says that somebody was here before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = Options::parse(words).ok_or(USAGE)?;
    let mut server = Server::new_with_opt_and_conf(
        None,
        ServerConf {
            threads: 1,
            work_stealing: false,
            upstream_keepalive_pool_size: IDLE_CONNECTIONS,
            // The service's authority is named; the system's are not read, as in the gateway.
            ca_file: Some("/dev/null".to_owned()),
            grace_period_seconds: Some(0),
            graceful_shutdown_timeout_seconds: Some(0),
            ..ServerConf::default()
        },
    );
    server.bootstrap();
    let proxy = Bare {
        peer: options.peer()?,
        keys: options.verify.map(Keys::read).transpose()?,
    };
    let mut service = http_proxy_service(&server.configuration, proxy);
    match options.tls {
        None => service.add_tcp(options.listen),
        Some([certificate, key]) => {
            let mut tls = TlsSettings::intermediate(certificate, key)?;
            tls.enable_h2();
            service.add_tls_with_settings(options.listen, None, tls);
        }
    }
    server.add_service(service);
    server.run_forever()
}

struct Options<'a> {
    listen: &'a str,
    service: &'a str,
    tls: Option<[&'a str; 2]>,
    mutual_tls: Option<[&'a str; 4]>,
    verify: Option<[&'a str; 3]>,
}

impl<'a> Options<'a> {
    fn parse(words: &[&'a str]) -> Option<Self> {
        let (&[listen, service], mut rest) = words.split_first_chunk::<2>()?;
        let mut options = Self {
            listen,
            service,
            tls: None,
            mutual_tls: None,
            verify: None,
        };
        while let Some((&option, values)) = rest.split_first() {
            match option {
                "--tls" => {
                    let (tls, behind) = values.split_first_chunk::<2>()?;
                    options.tls = Some(*tls);
                    rest = behind;
                }
                "--mutual-tls" => {
                    let (mutual_tls, behind) = values.split_first_chunk::<4>()?;
                    options.mutual_tls = Some(*mutual_tls);
                    rest = behind;
                }
                "--verify" => {
                    let (verify, behind) = values.split_first_chunk::<3>()?;
                    options.verify = Some(*verify);
                    rest = behind;
                }
                _ => return None,
            }
        }
        Some(options)
    }

    fn peer(&self) -> Result<HttpPeer, Box<dyn Error>> {
        let Some([trust, certificate, key, name]) = self.mutual_tls else {
            return Ok(HttpPeer::new(self.service, false, String::new()));
        };
        let mut peer = HttpPeer::new(self.service, true, name.to_owned());
        let trust: Vec<WrappedX509> = certificates(trust)?
            .into_iter()
            .map(|authority| WrappedX509::new(authority, parse_x509))
            .collect();
        peer.options.ca = Some(trust.into());
        let key = PrivateKeyDer::from_pem_file(key)?.secret_der().to_vec();
        peer.client_cert_key = Some(Arc::new(CertKey::new(certificates(certificate)?, key)));
        Ok(peer)
    }
}

fn certificates(file: &str) -> Result<Vec<Vec<u8>>, rustls_pki_types::pem::Error> {
    CertificateDer::pem_file_iter(file)?
        .map(|certificate| Ok(certificate?.to_vec()))
        .collect()
}

/// One key of the issuer for each algorithm, parsed once.
struct Keys {
    rs256: ParsedPublicKey,
    es256: ParsedPublicKey,
    eddsa: ParsedPublicKey,
}

impl Keys {
    fn read([rs256, es256, eddsa]: [&str; 3]) -> Result<Self, Box<dyn Error>> {
        let key = |algorithm: &'static dyn VerificationAlgorithm, file| {
            let der = SubjectPublicKeyInfoDer::from_pem_file(file)?;
            Ok::<_, Box<dyn Error>>(ParsedPublicKey::new(algorithm, &der)?)
        };
        Ok(Self {
            rs256: key(&RSA_PKCS1_2048_8192_SHA256, rs256)?,
            es256: key(&ECDSA_P256_SHA256_FIXED, es256)?,
            eddsa: key(&ED25519, eddsa)?,
        })
    }

    /// Whether the signature is right; `None` when this is no token of one of the three algorithms.
    fn verify(&self, request: &RequestHeader) -> Option<bool> {
        let authorization = request.headers.get("authorization")?.to_str().ok()?;
        let token = authorization.strip_prefix("Bearer ")?;
        let (message, signature) = token.rsplit_once('.')?;
        let header = BASE64_URL_SAFE_NO_PAD
            .decode(message.split('.').next()?)
            .ok()?;
        let names = |algorithm: &[u8]| header.windows(algorithm.len()).any(|it| it == algorithm);
        let key = if names(b"\"RS256\"") {
            &self.rs256
        } else if names(b"\"ES256\"") {
            &self.es256
        } else if names(b"\"EdDSA\"") {
            &self.eddsa
        } else {
            return None;
        };
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        Some(key.verify_sig(message.as_bytes(), &signature).is_ok())
    }
}

struct Bare {
    peer: HttpPeer,
    keys: Option<Keys>,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(
        &self,
        session: &mut Session,
        _: &mut (),
    ) -> pingora_core::Result<bool> {
        let Some(keys) = &self.keys else {
            return Ok(false);
        };
        if keys.verify(session.req_header()) == Some(true) {
            return Ok(false);
        }
        // `respond_error` would end the connection, which gateways keep open.
        let mut answer = ResponseHeader::build(401, Some(1))?;
        answer.insert_header("content-length", "0")?;
        session
            .write_response_header(Box::new(answer), true)
            .await?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _: &mut Session,
        _: &mut (),
    ) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        _: &mut (),
    ) -> pingora_core::Result<()> {
        request.remove_header("x-user-id");
        Ok(())
    }
}

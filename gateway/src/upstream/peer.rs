//! An upstream in one generation: the template of its connections, and whose turn it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use portcullis_config as config;

use super::endpoints::Endpoints;
use crate::telemetry::metrics::UpstreamMetrics;

/// Streams that share one HTTP/2 connection to a service.
const MAX_HTTP2_STREAMS: usize = 100;

/// Bytes that a service may send ahead on one stream of HTTP/2, ...
const HTTP2_STREAM_WINDOW: u32 = 128 * 1024;
/// ... and on all of a connection: a caller that takes nothing has no part of any other's.
const HTTP2_CONNECTION_WINDOW: u32 = 100 * HTTP2_STREAM_WINDOW;

/// A service.
pub(crate) struct Upstream {
    pub(crate) name: Box<str>,
    pub(crate) retries: u32,
    pub(crate) response_timeout: Duration,
    pub(crate) http2: bool,
    pub(crate) metrics: UpstreamMetrics,
    pub(crate) endpoints: Arc<Endpoints>,
    turn: AtomicUsize,
    /// The second, since the epoch, in which a failure was last told.
    told: AtomicU64,
    /// Everything but the address.
    template: HttpPeer,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

impl Upstream {
    pub(crate) fn new(
        upstream: &config::Upstream,
        endpoints: Arc<Endpoints>,
        metrics: UpstreamMetrics,
    ) -> Self {
        Self {
            name: upstream.name.as_str().into(),
            retries: upstream.retries,
            response_timeout: upstream.response_timeout,
            http2: upstream.http2,
            metrics,
            endpoints,
            turn: AtomicUsize::new(0),
            told: AtomicU64::new(0),
            template: template(upstream),
        }
    }

    /// Whether a failure may be told in the log now: one a second, however many there are.
    pub(crate) fn may_tell(&self) -> bool {
        let second = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        self.told.swap(second, Ordering::Relaxed) != second
    }

    /// A peer for the next attempt; `None` when no address is known.
    pub(crate) fn next_peer(&self) -> Option<(SocketAddr, Box<HttpPeer>)> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let address = self.endpoints.address(turn)?;
        let mut peer = Box::new(self.template.clone());
        peer._address = address.into();
        Some((address, peer))
    }
}

fn template(upstream: &config::Upstream) -> HttpPeer {
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let server_name = upstream.tls.as_ref().map(|tls| tls.server_name.clone());
    let mut peer = HttpPeer::new(
        nowhere,
        upstream.tls.is_some(),
        server_name.unwrap_or_default(),
    );
    let options = &mut peer.options;
    options.connection_timeout = Some(upstream.connect_timeout);
    options.total_connection_timeout = Some(upstream.connect_timeout + upstream.tls_timeout);
    options.read_timeout = Some(upstream.response_timeout);
    options.write_timeout = Some(upstream.response_timeout);
    options.idle_timeout = Some(upstream.idle_timeout);
    options.max_h2_streams = MAX_HTTP2_STREAMS;
    options.h2_stream_window_size = Some(HTTP2_STREAM_WINDOW);
    options.h2_connection_window_size = Some(HTTP2_CONNECTION_WINDOW);
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    if upstream.http2 {
        options.set_http_version(2, 2);
    }
    if let Some(tls) = &upstream.tls {
        let trust: Vec<WrappedX509> = tls
            .trust
            .iter()
            .map(|authority| WrappedX509::new(authority.to_vec(), parse_x509))
            .collect();
        options.ca = Some(trust.into());
        peer.client_cert_key = tls.identity.as_ref().map(|identity| {
            let chain = identity
                .chain
                .iter()
                .map(|certificate| certificate.to_vec())
                .collect();
            Arc::new(CertKey::new(chain, identity.private_key.expose().to_vec()))
        });
    }
    peer.group_key = identity(upstream);
    peer
}

/// What two connections have to have in common to be interchangeable. Pingora's own pool key has the
/// serial number of the client certificate and nothing of the trust: two identities with one serial
/// number, or two trusts, would share connections.
fn identity(upstream: &config::Upstream) -> u64 {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut field = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    field(upstream.name.as_bytes());
    field(&[u8::from(upstream.http2)]);
    if let Some(tls) = &upstream.tls {
        field(tls.server_name.as_bytes());
        for authority in tls.trust.iter() {
            field(authority);
        }
        if let Some(identity) = &tls.identity {
            field(b"identity");
            for certificate in &identity.chain {
                field(certificate);
            }
            field(identity.private_key.expose());
        }
    }
    hash.finish()
        .as_ref()
        .first_chunk()
        .map_or(0, |first| u64::from_be_bytes(*first))
}

//! The composition root: a checked configuration in, a running gateway out.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::apps::{HttpServerOptions, ServerApp as _};
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use portcullis_config::Config;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};

use crate::admin::Admin;
use crate::clock;
use crate::downstream::connections::{Connections, Cut};
use crate::downstream::listener::Listener;
use crate::gateway::{BoundListener, Gateway};
use crate::overload;
use crate::process;
use crate::proxy::{MAX_ATTEMPTS, Proxy};
use crate::reload;
use crate::snapshot::{self, BuildError, Snapshot};
use crate::telemetry::Metrics;
use crate::workers::Workers;

/// Connections that wait to be accepted; the kernel has a limit of its own.
const BACKLOG: u32 = 4096;
/// Idle connections to services that are kept, for each worker thread.
const IDLE_CONNECTIONS_PER_THREAD: usize = 256;
/// How long the start waits for names of upstreams.
const FIRST_LOOKUPS: Duration = Duration::from_secs(2);
/// How long connections without a request in flight may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks at what is in flight.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// A running gateway. Dropping it closes the listeners and cuts off what is in flight.
pub struct Server {
    gateway: Arc<Gateway>,
    workers: Option<Arc<Workers>>,
    admin: Option<Admin>,
    accepting: JoinSet<()>,
    connections: Arc<Connections>,
    is_stopping: watch::Sender<bool>,
    reloads: mpsc::Sender<reload::Request>,
    /// Reloads, and looks at memory and at the clock.
    background: [AbortHandle; 3],
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("gateway", &self.gateway)
            .finish_non_exhaustive()
    }
}

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket.
    #[error("cannot listen on {address}: {error}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The threads that serve.
    #[error("cannot start the worker threads: {0}")]
    Threads(#[source] io::Error),
    /// Something that the configuration names.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// How draining ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Everything that was in flight has finished.
    Finished,
    /// Some of it was cut off at the deadline.
    CutOff,
}

impl Server {
    /// Binds the listeners and serves on worker threads, `threads` of them. What is not about a
    /// request runs on the runtime that this is called on.
    ///
    /// # Errors
    /// When a socket cannot be bound, a thread cannot be started, or a file that was good a moment
    /// ago cannot be used.
    pub async fn start(
        config: Config,
        metrics: &Metrics,
        threads: NonZeroUsize,
    ) -> Result<Self, StartError> {
        // Both directions use aws-lc-rs; Pingora would install ring otherwise. An error says that
        // somebody was here before.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        process::raise_descriptor_limit();
        let mut sockets = Vec::new();
        let mut listeners = Vec::new();
        for listener in &config.listeners {
            let refused = |error| StartError::Bind {
                address: listener.address,
                error,
            };
            let socket = bind(listener.address).map_err(refused)?;
            listeners.push(BoundListener {
                name: listener.name.as_str().into(),
                configured: listener.address,
                address: socket.local_addr().map_err(refused)?,
                tls: listener.tls.is_some(),
            });
            sockets.push(socket);
        }
        let admin_socket = match config.admin {
            Some(address) => Some(
                std::net::TcpListener::bind(address)
                    .map_err(|error| StartError::Bind { address, error })?,
            ),
            None => None,
        };
        let connections = Arc::new(Connections::new(process::possible_connections(&config)));
        let seen = reload::look_at(&config);
        let log = snapshot::access_log(&config, None, metrics)?;
        let snapshot = Snapshot::build(config, None, metrics, log)?;
        snapshot.announce();
        reload::report_config(snapshot.config());
        let gateway = Arc::new(Gateway::new(snapshot, listeners));
        let admin = match admin_socket {
            Some(socket) => {
                let source = Arc::clone(&gateway);
                let address = socket
                    .local_addr()
                    .unwrap_or_else(|_| SocketAddr::from(([0; 4], 0)));
                Some(
                    Admin::start(socket, source)
                        .map_err(|error| StartError::Bind { address, error })?,
                )
            }
            None => None,
        };
        gateway.snapshot().resolve(FIRST_LOOKUPS).await;

        let proxies = (0..threads.get()).map(|_| proxy(&gateway)).collect();
        let workers = Arc::new(Workers::start(proxies).map_err(StartError::Threads)?);
        let (is_stopping, shutdown) = watch::channel(false);
        let mut accepting = JoinSet::new();
        for (socket, bound) in sockets.into_iter().zip(gateway.listeners()) {
            let listener = Listener {
                name: Arc::clone(&bound.name),
                gateway: Arc::clone(&gateway),
                is_tls: bound.tls,
                metrics: metrics.listener(&bound.name),
                connections: Arc::clone(&connections),
                shutdown: shutdown.clone(),
            };
            accepting.spawn(listener.accept(socket, Arc::clone(&workers)));
        }
        let (reloads, requests) = mpsc::channel(16);
        let reloader = tokio::spawn(reload::run(
            Arc::clone(&gateway),
            Arc::clone(&connections),
            seen,
            requests,
        ));
        let overload = tokio::spawn(overload::watch(
            Arc::clone(&gateway),
            Arc::clone(&connections),
        ));
        let clock = tokio::spawn(clock::watch(Arc::clone(&gateway)));
        gateway.serve();
        Ok(Self {
            gateway,
            workers: Some(workers),
            admin,
            accepting,
            connections,
            is_stopping,
            reloads,
            background: [reloader, overload, clock].map(|task| task.abort_handle()),
        })
    }

    /// Names and bound addresses of the listeners.
    pub fn listeners(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.gateway
            .listeners()
            .iter()
            .map(|listener| (&*listener.name, listener.address))
    }

    /// Where the admin listener is bound.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// Loads the configuration anew, whether or not a file has changed, and opens the log file anew.
    /// The future ends when that is done; what came of it is in the log, the metrics and `/status`.
    pub fn reload(&self) -> impl Future<Output = ()> + Send + 'static {
        let (gateway, reloads) = (Arc::clone(&self.gateway), self.reloads.clone());
        async move {
            if let Some(log) = gateway.snapshot().access_log() {
                log.reopen();
            }
            let (request, done) = oneshot::channel();
            if reloads.send(request).await.is_ok() {
                let _ = done.await;
            }
        }
    }

    fn stop_background(&self) {
        for task in &self.background {
            task.abort();
        }
    }

    /// Drains: readiness turns red, new connections are accepted for the grace period, then what is
    /// in flight has until the deadline to finish. Returns as soon as nothing is.
    pub async fn shutdown(mut self) -> Drained {
        let settings = self.gateway.snapshot().config().shutdown.clone();
        self.gateway.drain();
        self.stop_background();
        sleep(settings.grace).await;
        self.accepting.shutdown().await;
        self.is_stopping.send_replace(true);
        for proxy in self.workers.iter().flat_map(|workers| workers.proxies()) {
            proxy.cleanup().await;
        }
        let deadline = Instant::now() + settings.drain;
        let metrics = self.gateway.metrics();
        while metrics.requests_in_flight() > 0 && Instant::now() < deadline {
            sleep(DRAIN_LOOK).await;
        }
        // Connections without a request are told to close, and need not agree. Until they have, a
        // request may still be on its way in.
        let closed = deadline.min(Instant::now() + CLOSE_TIMEOUT);
        while self.connections.count() > 0 && Instant::now() < closed {
            sleep(DRAIN_LOOK).await;
        }
        while metrics.requests_in_flight() > 0 && Instant::now() < deadline {
            sleep(DRAIN_LOOK).await;
        }
        let outcome = match metrics.requests_in_flight() {
            0 => Drained::Finished,
            _ => Drained::CutOff,
        };
        self.connections.cut_off_all(Cut::Shutdown);
        // What is left is cut off now, so that its lines are in the log before that is flushed.
        let workers = self.workers.take();
        let _ = tokio::task::spawn_blocking(|| drop(workers)).await;
        if let Some(log) = self.gateway.snapshot().access_log() {
            let log = log.clone();
            let flushing = tokio::task::spawn_blocking(move || log.flush(CLOSE_TIMEOUT));
            let _ = flushing.await;
        }
        outcome
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_background();
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A restart must not wait for connections of the process before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Pingora's proxy for one worker.
fn proxy(gateway: &Arc<Gateway>) -> HttpProxy<Proxy> {
    let settings = Arc::new(ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: IDLE_CONNECTIONS_PER_THREAD,
        max_retries: MAX_ATTEMPTS,
        // Every upstream names whom it trusts. The system's authorities are never read, so that
        // none of them can vouch for a service by accident.
        ca_file: Some("/dev/null".to_owned()),
        ..ServerConf::default()
    });
    let options = ConnectorOptions::from_server_conf(&settings);
    let connector = TransportConnector::new(Some(options));
    let mut proxy = http_proxy(&settings, Proxy::new(Arc::clone(gateway), connector));
    // Refused all the same, but with a problem and a line in the access log.
    let mut options = HttpServerOptions::default();
    options.allow_connect_method_proxying = true;
    proxy.server_options = Some(options);
    proxy
}

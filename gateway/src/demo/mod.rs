//! `portcullis demo`: the gateway between callers and services, all of them on loopback.
//!
//! An [`issuer`], two [`service`]s behind mutual TLS ([`pki`]), the YAML of a platform team and of two
//! service teams ([`files`]), and in front of the services the gateway itself: [`Server`], the code that
//! `portcullis run` runs, on those files. [`tour`] is what there is to try.
//!
//! Nothing here protects anybody: the issuer prints its clients' secrets and rotates its key for
//! whoever asks. All of it is reachable from `cli/demo.rs` alone, never from `run`, listens on
//! loopback only, and its keys and secrets are random at each start.

mod files;
mod introduction;
mod issuer;
mod loopback;
mod pki;
mod service;
#[cfg(test)]
mod tests;
mod tour;

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use portcullis_config::Diagnostics;

pub(crate) use self::tour::Report;

use self::files::{Files, FilesError, server_name};
use self::introduction::RouteRow;
use self::issuer::{Issuer, IssuerError};
use self::pki::{Authority, PkiError};
use self::service::Service;
use self::tour::Places;
use self::tour::caller::Caller;
use crate::server::{self, Server};
use crate::telemetry::Metrics;

/// A running demo.
pub(crate) struct Demo {
    server: Server,
    places: Places,
    routes: Vec<RouteRow>,
    caller: Caller,
    files: Files,
    /// The port that was asked for, where another program has it.
    taken_port: Option<u16>,
}

/// Why the demo could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// No certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// No issuer.
    #[error("the issuer cannot start")]
    Issuer(#[from] IssuerError),
    /// A service has no port to listen on.
    #[error("a service cannot listen on loopback")]
    Service(#[source] io::Error),
    /// The files could not be written.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Nothing to make calls with.
    #[error("cannot make an HTTP client")]
    Caller(#[from] reqwest::Error),
    /// The files that the demo wrote are no configuration.
    #[error("the gateway refuses its configuration\n{0}")]
    Config(Diagnostics),
    /// The gateway refused to start.
    #[error("the gateway cannot start")]
    Gateway(#[from] server::StartError),
    /// The gateway started without a socket that its configuration names.
    #[error("the gateway does not listen where its configuration says")]
    NotListening,
    /// The gateway did not become ready.
    #[error("the gateway was not ready after {} seconds", READY_WITHIN.as_secs())]
    NotReady,
}

impl Demo {
    /// Starts everything on the current runtime, and waits until the gateway has the issuer's keys.
    ///
    /// The gateway listens on `port`, or on a free one where another program has that. The files go
    /// to `keep`, which has to be empty or absent, or else to a temporary directory.
    ///
    /// # Errors
    /// When a part cannot start; what was started by then has stopped again.
    pub(crate) async fn start(
        port: u16,
        keep: Option<PathBuf>,
        metrics: &Metrics,
    ) -> Result<Demo, StartError> {
        // Before anything of TLS is made. An error says that somebody was here before.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let files = Files::create(keep)?;
        let authority = Authority::generate()?;
        let issuer = Issuer::start().await?;
        let mut services = Vec::new();
        for name in SERVICES {
            let identity = authority.issue_server(&server_name(name))?;
            let tls = authority.mutual_tls(&identity)?;
            services.push(
                Service::start(name, tls)
                    .await
                    .map_err(StartError::Service)?,
            );
        }
        files.write(
            &authority,
            &authority.issue_client("portcullis-demo-gateway")?,
        )?;
        let start = async |port| {
            files.write_config((Ipv4Addr::LOCALHOST, port).into(), &issuer, &services)?;
            let config = portcullis_config::load(&files.config()).map_err(StartError::Config)?;
            let routes = RouteRow::all(&config);
            Ok((
                Server::start(config, metrics, NonZeroUsize::MIN).await?,
                routes,
            ))
        };
        let (server, routes, taken_port) = match start(port).await {
            Ok((server, routes)) => (server, routes, None),
            Err(StartError::Gateway(error)) if is_taken(&error, port) => {
                let (server, routes) = start(0).await?;
                (server, routes, Some(port))
            }
            Err(error) => return Err(error),
        };
        let bound = server.listeners().next().map(|(_, address)| address);
        let (Some(gateway), Some(admin)) = (bound, server.admin()) else {
            return Err(StartError::NotListening);
        };
        let demo = Demo {
            server,
            places: Places {
                gateway,
                admin,
                issuer,
                services,
                trust: files.trust(),
            },
            routes,
            caller: Caller::new(authority.anonymous_tls()?)?,
            files,
            taken_port,
        };
        demo.becomes_ready().await?;
        Ok(demo)
    }

    /// Tells what runs where, what the routes need, and what to try.
    ///
    /// # Errors
    /// `out` cannot be written to.
    pub(crate) fn introduce(&self, out: &mut (dyn Write + Send)) -> io::Result<()> {
        introduction::write(self, out)?;
        writeln!(out, "Paste these into another terminal, in this order:\n")?;
        tour::write(&self.places, out)?;
        let fate = if self.files.are_temporary() {
            "removes"
        } else {
            "leaves"
        };
        writeln!(out, "Ctrl-C stops everything and {fate} the files.")
    }

    /// Makes the calls itself, tells about each, and compares it with what is promised.
    ///
    /// # Errors
    /// `out` cannot be written to.
    pub(crate) async fn take_tour(&mut self, out: &mut (dyn Write + Send)) -> io::Result<Report> {
        introduction::write(self, out)?;
        tour::run(&self.places, &mut self.caller, out).await
    }

    /// Drains the gateway, then stops the rest and removes what is temporary.
    pub(crate) async fn shutdown(self) {
        self.server.shutdown().await;
    }

    async fn becomes_ready(&self) -> Result<(), StartError> {
        let url = format!("http://{}/readyz", self.places.admin);
        let deadline = Instant::now() + READY_WITHIN;
        while !self.caller.finds(&url).await {
            if Instant::now() >= deadline {
                return Err(StartError::NotReady);
            }
            tokio::time::sleep(READY_PAUSE).await;
        }
        Ok(())
    }
}

/// Whether the gateway cannot start because another program has `port`.
fn is_taken(error: &server::StartError, port: u16) -> bool {
    match error {
        server::StartError::Bind { address, error } => {
            address.port() == port && port != 0 && error.kind() == io::ErrorKind::AddrInUse
        }
        server::StartError::Threads(_) | server::StartError::Build(_) => false,
    }
}

/// The services, as routes and upstreams name them.
const SERVICES: [&str; 2] = ["orders", "profile"];
const READY_WITHIN: Duration = Duration::from_secs(10);
const READY_PAUSE: Duration = Duration::from_millis(50);

//! What `portcullis demo` says first: what runs where, and what each route needs.

use std::io::{self, Write};

use portcullis_config::Config;
use portcullis_policy::Access;

use super::Demo;
use super::issuer::CLIENTS;
use super::tour::Places;

/// A route as the gateway reads it, not as somebody meant to write it.
pub(super) struct RouteRow {
    methods: String,
    path: String,
    needs: String,
    service: String,
}

impl RouteRow {
    /// The routes of `config`.
    pub(super) fn all(config: &Config) -> Vec<RouteRow> {
        let rows = config.routes.iter().map(|route| {
            let upstream = config.upstreams.get(route.upstream);
            RouteRow {
                methods: route.policy.methods.to_string(),
                path: route.policy.path.to_string(),
                needs: match &route.policy.access {
                    Access::Public => "nothing".to_owned(),
                    Access::Protected(requirement) => requirement.scopes.names().to_owned(),
                },
                service: upstream.map_or_else(String::new, |upstream| upstream.name.clone()),
            }
        });
        rows.collect()
    }
}

/// Writes the introduction.
///
/// # Errors
/// `out` cannot be written to.
pub(super) fn write(demo: &Demo, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let Places {
        gateway,
        admin,
        issuer,
        services,
        ..
    } = &demo.places;
    writeln!(
        out,
        "Portcullis demo: all of this runs in one process, on loopback only.\n"
    )?;
    if let Some(port) = demo.taken_port {
        let taken = gateway.port();
        writeln!(
            out,
            "Port {port} is taken; the gateway listens on {taken} instead.\n"
        )?;
    }
    writeln!(
        out,
        "  gateway     http://{gateway}  verifies tokens, decides, forwards"
    )?;
    writeln!(out, "  issuer      {}  makes access tokens", issuer.url())?;
    for service in services {
        let (name, address) = (service.name(), service.address());
        writeln!(
            out,
            "  {name:<11} https://{address}  a service, mutual TLS with the gateway"
        )?;
    }
    writeln!(
        out,
        "  admin       http://{admin}/metrics, /status, /readyz"
    )?;
    let directory = demo.files.directory().display();
    let fate = if demo.files.are_temporary() {
        ", removed at the end"
    } else {
        ""
    };
    writeln!(out, "  files       {directory}{fate}")?;
    writeln!(
        out,
        "              portcullis.yaml, policy/*.yaml, tls/*, access.log\n"
    )?;
    writeln!(
        out,
        "  {:<7} {:<17} {:<14} SERVICE",
        "METHOD", "PATH", "NEEDS"
    )?;
    for row in &demo.routes {
        let RouteRow {
            methods,
            path,
            needs,
            service,
        } = row;
        writeln!(out, "  {methods:<7} {path:<17} {needs:<14} {service}")?;
    }
    writeln!(out, "\n  {:<25} MAY ASK FOR", "CLIENT")?;
    for client in CLIENTS {
        writeln!(out, "  {:<25} {}", client.id, client.scopes)?;
    }
    writeln!(out)
}

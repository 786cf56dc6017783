//! The command line: one file for each command.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "commands speak to a terminal"
)]

mod catalog;
mod check;
mod demo;
mod explain;
mod run;
mod schema;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use portcullis_config::Config;

use crate::process;

/// An API gateway that enforces OAuth 2.0 access tokens at the edge.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
// The help of each command is the documentation of its type; one here would hide it.
enum Command {
    Run(run::Run),
    Check(check::Check),
    Explain(explain::Explain),
    Demo(demo::Demo),
    Catalog(catalog::Catalog),
    Schema(schema::Schema),
}

/// Where `portcullis.yaml` is.
#[derive(Debug, clap::Args)]
struct ConfigPath {
    /// The configuration file.
    #[arg(
        short,
        long,
        env = "PORTCULLIS_CONFIG",
        default_value = "portcullis.yaml"
    )]
    config: PathBuf,
}

impl ConfigPath {
    /// The configuration there; when it is wrong, everything that is wrong with it is printed.
    fn load(&self) -> Option<Config> {
        portcullis_config::load(&self.config)
            .inspect_err(|diagnostics| eprintln!("{diagnostics}"))
            .ok()
    }
}

/// Exit codes: what was looked at is good, was found wanting, or could not be looked at.
const GOOD: u8 = 0;
const FOUND_WANTING: u8 = 1;
const ENVIRONMENT: u8 = 3;
/// A deadline passed.
const TIMED_OUT: u8 = 4;

impl Cli {
    /// Runs the command.
    #[must_use]
    pub fn run(self) -> ExitCode {
        if let Err(error) = process::hide_memory() {
            eprintln!("warning: memory may be written to core files: {error}");
        }
        ExitCode::from(match self.command {
            Command::Run(run) => run.run(),
            Command::Check(check) => check.run(),
            Command::Explain(explain) => explain.run(),
            Command::Catalog(catalog) => catalog.run(),
            Command::Demo(demo) => demo.run(),
            Command::Schema(schema) => schema.run(),
        })
    }
}

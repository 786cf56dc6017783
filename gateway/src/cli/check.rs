use std::path::PathBuf;

use clap::{Args, ValueEnum};
use portcullis_config::{Catalog, Diagnostics};

use super::{ConfigPath, FOUND_WANTING, GOOD};

/// Check the configuration: print every problem at once, with its place
///
/// Loads `portcullis.yaml` and everything that it names, exactly as `run` would, and does nothing else.
/// A team that has only its own policy file checks that against a catalog of names.
///
/// Exit codes: 0 when there is no error (warnings may be printed), 1 when there is one.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigPath,
    /// Check these policy files alone, against a catalog exported by `portcullis catalog`.
    #[arg(long, value_name = "FILE", requires = "policy_files")]
    catalog: Option<PathBuf>,
    /// Policy files, with `--catalog`.
    #[arg(requires = "catalog")]
    policy_files: Vec<PathBuf>,
    /// How diagnostics are printed: for people on standard error, or as JSON on standard output.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
}

impl Check {
    pub(super) fn run(self) -> u8 {
        let diagnostics = self.diagnose();
        match self.format {
            Format::Human if diagnostics.is_empty() => {}
            Format::Human => eprintln!("{diagnostics}"),
            Format::Json => println!("{:#}", diagnostics.to_json()),
        }
        if diagnostics.has_errors() {
            FOUND_WANTING
        } else {
            GOOD
        }
    }

    fn diagnose(&self) -> Diagnostics {
        match &self.catalog {
            None => match portcullis_config::load(&self.config.config) {
                Ok(config) => Diagnostics::from(config.warnings),
                Err(diagnostics) => diagnostics,
            },
            Some(catalog) => match Catalog::load(catalog) {
                Err(diagnostics) => diagnostics,
                Ok(catalog) => {
                    let found = self
                        .policy_files
                        .iter()
                        .flat_map(|file| portcullis_config::check_policy(file, &catalog))
                        .collect::<Vec<_>>();
                    Diagnostics::from(found)
                }
            },
        }
    }
}

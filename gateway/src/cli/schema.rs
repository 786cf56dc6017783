use clap::{Args, ValueEnum};

use super::GOOD;

/// Print a JSON Schema, for editors that complete and check YAML
#[derive(Debug, Args)]
pub(super) struct Schema {
    /// Of which kind of file.
    #[arg(value_enum)]
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// `portcullis.yaml`.
    Gateway,
    /// A policy file.
    Policy,
}

impl Schema {
    pub(super) fn run(self) -> u8 {
        let schema = match self.kind {
            Kind::Gateway => portcullis_config::gateway_schema(),
            Kind::Policy => portcullis_config::policy_schema(),
        };
        println!("{schema:#}");
        GOOD
    }
}

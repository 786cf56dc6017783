use clap::Args;

use super::{ConfigPath, ENVIRONMENT, FOUND_WANTING, GOOD};

/// Print the names that policy files may use, for `check --catalog`
///
/// The platform team exports them (upstreams, issuers, scopes and routes of all teams); a service team
/// then checks its own policy file without the platform's.
#[derive(Debug, Args)]
pub(super) struct Catalog {
    #[command(flatten)]
    config: ConfigPath,
}

impl Catalog {
    pub(super) fn run(self) -> u8 {
        let Some(config) = self.config.load() else {
            return FOUND_WANTING;
        };
        match portcullis_config::Catalog::from_config(&config).to_yaml() {
            Ok(yaml) => {
                print!("{yaml}");
                GOOD
            }
            Err(error) => {
                eprintln!("the catalog cannot be written: {error}");
                ENVIRONMENT
            }
        }
    }
}

use clap::Args;

use super::{ConfigPath, ENVIRONMENT, FOUND_WANTING, GOOD};

/// `portcullis catalog`: the names that policy files may use.
#[derive(Debug, Args)]
pub(super) struct Catalog {
    #[command(flatten)]
    config: ConfigPath,
}

impl Catalog {
    pub(super) fn run(self) -> u8 {
        match portcullis_config::load(&self.config.config) {
            Err(diagnostics) => {
                eprintln!("{diagnostics}");
                FOUND_WANTING
            }
            Ok(config) => match portcullis_config::Catalog::from_config(&config).to_yaml() {
                Ok(yaml) => {
                    print!("{yaml}");
                    GOOD
                }
                Err(error) => {
                    eprintln!("the catalog cannot be written: {error}");
                    ENVIRONMENT
                }
            },
        }
    }
}

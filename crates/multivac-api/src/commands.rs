//! The operator's commands. Each prints what it found or did to the standard output, and ends.

use std::path::PathBuf;

use multivac_core::adapters::{BackendError, Backends};
use multivac_core::commands::{self, dead, with_output};
use multivac_core::queue::QueueError;
use multivac_core::runtime::config::ConfigError;
use multivac_core::runtime::health::HealthError;

use crate::cli::Command;
use crate::config::Config;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The settings do not fit together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no data directory, and a command makes none.
    #[error("{} does not exist: --data-dir or MULTIVAC_DATA_DIR names the directory that the server uses", .0.display())]
    NoData(PathBuf),
    /// The queue or the store cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The server whose health was asked for is not well, or does not reply.
    #[error(transparent)]
    Health(#[from] HealthError),
    /// The command was not carried out, or not all of it.
    #[error(transparent)]
    Failed(#[from] commands::CommandError),
}

impl From<QueueError> for CommandError {
    fn from(error: QueueError) -> Self {
        Self::Backend(error.into())
    }
}

/// Carries out a command.
///
/// # Errors
/// See [`CommandError`].
pub async fn run(command: Command, config: &Config) -> Result<(), CommandError> {
    match command {
        Command::Health(args) => Ok(args.ask(&config.listen)?),
        Command::Dead(command) => {
            let backends = backends(config).await?;
            Ok(with_output(async |out| dead::run(out, command, &backends).await).await?)
        }
    }
}

async fn backends(config: &Config) -> Result<Backends, CommandError> {
    let settings = config.backends.queue_settings();
    let backends = match config.backends.server_urls()? {
        Some(urls) => Backends::servers(urls, &config.backends, settings).await?,
        None => {
            let file = config.data_dir.join("multivac.db");
            if !file.exists() {
                return Err(CommandError::NoData(file));
            }
            Backends::embedded(&config.data_dir, settings)?
        }
    };
    backends.queue.prepare().await?;
    Ok(backends)
}

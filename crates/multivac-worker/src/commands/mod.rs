//! The operator's commands. Each but `health` connects to the queue and the store that the settings name, prints what it
//! found or did to the standard output, and ends; workers need not be stopped for it.

mod status;

use std::io::Write;

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
    /// No server is named.
    #[error("REDIS_URL and MONGO_URL are needed: these commands are for the full system")]
    NoServers,
    /// The queue or the store cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The worker whose health was asked for is not well, or does not reply.
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
        Command::Health(args) => Ok(args.ask(&config.health_listen)?),
        Command::Status(output) => {
            with_backends(config, async |out, backends, warnings| status::status(out, output, backends, warnings).await)
                .await
        }
        Command::Dead(command) => {
            with_backends(config, async |out, backends, _| dead::run(out, command, backends).await).await
        }
    }
}

async fn with_backends(
    config: &Config,
    command: impl AsyncFnOnce(&mut dyn Write, &Backends, &[String]) -> Result<(), commands::CommandError>,
) -> Result<(), CommandError> {
    let urls = config.backends.server_urls()?.ok_or(CommandError::NoServers)?;
    let backends = Backends::servers(urls, &config.backends, config.backends.queue_settings()).await?;
    let warnings = backends.queue.prepare().await?;
    Ok(with_output(async |out| command(out, &backends, &warnings).await).await?)
}

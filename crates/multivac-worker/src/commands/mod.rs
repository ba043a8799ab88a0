//! The operator's commands. But for `health`, each looks at the queue and the store that the settings name, says what it found or did on
//! the standard output, and ends; workers need not be stopped for it.

mod dead;
mod status;

use std::io::{self, Write};

use clap::{Args, Subcommand};
use multivac_core::adapters::{BackendError, Backends};
use multivac_core::datum::DatumId;
use multivac_core::queue::QueueError;
use multivac_core::runtime::config::ConfigError;
use multivac_core::runtime::health::{HealthArgs, HealthError};
use multivac_core::store::StoreError;

use crate::config::Config;

/// What to do in place of working.
#[derive(Subcommand, Clone)]
pub enum Command {
    /// Show the ledger, and what waits.
    Status(Output),
    /// Look after the dead letters: data whose attempts were used up.
    #[command(subcommand)]
    Dead(dead::Dead),
    /// Ask the worker that listens at --health-listen whether it is ready: exit code 0 if so, else 1 and what is missing.
    ///
    /// For a container's health check: the image holds nothing else that could ask.
    Health(HealthArgs),
}

/// How a command speaks.
#[derive(Args, Clone, Copy)]
pub struct Output {
    /// JSON, one object a line, for scripts.
    #[arg(long)]
    json: bool,
}

/// Why a command did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The settings do not fit together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Neither server is named.
    #[error("REDIS_URL and MONGO_URL are needed: these commands are for the full system")]
    NoServers,
    /// The queue or the store cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The worker that was asked.
    #[error(transparent)]
    Health(#[from] HealthError),
    /// Some ids name no dead letter.
    #[error("no dead letter has the id {}", list(.0))]
    NoSuch(Vec<DatumId>),
    /// What was to be said could not be.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl From<QueueError> for CommandError {
    fn from(error: QueueError) -> Self {
        Self::Backend(error.into())
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        Self::Backend(error.into())
    }
}

fn list(ids: &[DatumId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Does one.
///
/// # Errors
/// See [`CommandError`].
pub async fn run(command: Command, config: &Config) -> Result<(), CommandError> {
    match command {
        Command::Health(asking) => Ok(asking.ask(&config.health_listen)?),
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
    act: impl AsyncFnOnce(&mut dyn Write, &Backends, &[String]) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let urls = config.backends.server_urls()?.ok_or(CommandError::NoServers)?;
    let backends = Backends::servers(urls, &config.backends, config.backends.queue_settings()).await?;
    let warnings = backends.queue.prepare().await?;
    let mut out = io::stdout().lock();
    let done = act(&mut out, &backends, &warnings).await;
    match done.and_then(|()| Ok(out.flush()?)) {
        // Whoever reads has seen enough.
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

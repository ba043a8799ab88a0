//! The operator's commands. Each but `health` connects to the queue and the store that the settings name, prints what it
//! found or did to the standard output, and ends; workers need not be stopped for it.

mod dead;
mod status;

use std::io::{self, Write};

use multivac_core::adapters::{BackendError, Backends};
use multivac_core::datum::DatumId;
use multivac_core::queue::QueueError;
use multivac_core::runtime::config::ConfigError;
use multivac_core::runtime::health::HealthError;
use multivac_core::store::StoreError;
use serde::Serialize;

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
    /// Some ids name no dead letter.
    #[error("no dead letter has the id {}", list(.0))]
    NoSuch(Vec<DatumId>),
    /// The output cannot be written.
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
    command: impl AsyncFnOnce(&mut dyn Write, &Backends, &[String]) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let urls = config.backends.server_urls()?.ok_or(CommandError::NoServers)?;
    let backends = Backends::servers(urls, &config.backends, config.backends.queue_settings()).await?;
    let warnings = backends.queue.prepare().await?;
    let mut out = io::stdout().lock();
    let done = command(&mut out, &backends, &warnings).await;
    match done.and_then(|()| Ok(out.flush()?)) {
        // The reader has seen enough, as `head` has.
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Writes one line of JSON.
fn write_json(out: &mut dyn Write, reply: &impl Serialize) -> Result<(), CommandError> {
    serde_json::to_writer(&mut *out, reply).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

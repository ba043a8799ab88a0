//! MultiVAC's worker: thin. It wires the consumer of [`multivac_core`] and runs it until it is stopped.

pub mod cli;
pub mod commands;
pub mod config;

mod ops;

use std::io;

use multivac_core::adapters::{BackendError, Backends, Prepared};
use multivac_core::consumer::Consumer;
use multivac_core::observe::{self, LogFormat};
use multivac_core::process::process;
use multivac_core::runtime::config::ConfigError;
use multivac_core::runtime::shutdown;
use multivac_core::runtime::supervise::TaskEnded;
use tracing::info;

use config::Config;

/// Why the worker cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings do not fit together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Neither server is named.
    #[error("REDIS_URL and MONGO_URL are needed; without them multivac-api learns in its own process")]
    NoServers,
    /// The queue or the store cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The port.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where it was to listen.
        address: String,
        /// Why it cannot.
        source: io::Error,
    },
    /// A task that the worker cannot go on without.
    #[error(transparent)]
    TaskEnded(#[from] TaskEnded),
    /// Signals.
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] io::Error),
    /// Logs and traces.
    #[error("cannot start logging or tracing: {0}")]
    Telemetry(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Runs the worker until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start: see [`StartError`].
pub async fn run(config: Config) -> Result<(), StartError> {
    let format = LogFormat::or_default(config.log.log_format);
    let _telemetry = observe::start("multivac-worker", format).map_err(StartError::Telemetry)?;
    let stop = shutdown::on_signal().map_err(StartError::Signals)?;
    let urls = config.backends.server_urls()?.ok_or(StartError::NoServers)?;
    let backends = Backends::servers(urls, &config.backends, config.backends.queue_settings()).await?;
    let ops = ops::serve(&config.health_listen, backends.queue.clone(), backends.warnings.clone(), stop.clone())
        .map_err(|source| StartError::Listen { address: config.health_listen.clone(), source })?;
    let handle = ops.handle();
    let serving = tokio::spawn(ops);
    if backends.prepare(&stop).await? == Prepared::Ready {
        tokio::spawn(backends.clone().keep_checked(stop.clone()));
        info!(concurrency = config.concurrency(), "learning");
        let consumer = Consumer {
            queue: backends.queue,
            store: backends.store,
            lease: *config.backends.lease,
            concurrency: config.concurrency(),
            process,
            process_timeout: *config.backends.process_timeout,
        };
        consumer.run(stop).await?;
    }
    handle.stop(false).await;
    let _ = serving.await;
    info!("stopped");
    Ok(())
}

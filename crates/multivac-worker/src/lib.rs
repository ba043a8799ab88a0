//! MultiVAC's worker: thin. It wires the consumer of [`multivac_core`] and runs it until it is stopped.
//!
//! What runs where: the main thread is one actix runtime, which runs the consumer and the check of the backends' set-up.
//! Data are processed on threads of their own, one for each batch under way, and one more thread serves health, readiness
//! and metrics.

pub mod cli;
pub mod commands;
pub mod config;

mod ops;

use std::io;
use std::time::Duration;

use actix_web::dev::Server;
use futures_util::FutureExt;
use multivac_core::adapters::{BackendError, Backends, Prepared};
use multivac_core::consumer::Consumer;
use multivac_core::observe::metrics::{self, Part};
use multivac_core::observe::{self, LogFormat};
use multivac_core::process::process;
use multivac_core::runtime::config::ConfigError;
use multivac_core::runtime::files::{self, TooFewFiles};
use multivac_core::runtime::shutdown;
use multivac_core::runtime::supervise::{Supervisor, TaskEnded};
use multivac_core::watch::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use config::Config;

/// How long the consumer may take to finish or release what it has: less than the 30 seconds after which orchestrators
/// kill. Its calls end before that, but there may be many, each to a server that does not reply.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Why the worker cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The settings do not fit together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system allows too few open files.
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    /// No server is named.
    #[error("REDIS_URL and MONGO_URL are needed; without them multivac-api learns in its own process")]
    NoServers,
    /// The queue or the store cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The port cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where it was to listen.
        address: String,
        /// Why it cannot.
        source: io::Error,
    },
    /// A task that the process needs ended by itself.
    #[error(transparent)]
    Task(#[from] TaskEnded),
    /// Signals cannot be listened for.
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] io::Error),
    /// Logging or tracing cannot start.
    #[error("cannot start logging or tracing: {0}")]
    Telemetry(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Runs the worker until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or cannot go on: see [`WorkerError`].
pub async fn run(config: Config) -> Result<(), WorkerError> {
    let format = LogFormat::or_default(config.log.log_format);
    let _telemetry =
        observe::start("multivac-worker", format, config.log.gcp_project.as_deref()).map_err(WorkerError::Telemetry)?;
    let stop = shutdown::on_signal().map_err(WorkerError::Signals)?;
    let urls = config.backends.server_urls()?.ok_or(WorkerError::NoServers)?;
    files::require(config.open_files())?;
    let backends = Backends::servers(urls, &config.backends, config.backends.queue_settings()).await?;
    metrics::show(Part::Consumer);
    let (listen, allowed) = (&config.health_listen, config.allowed_hosts.as_ref());
    let ops = ops::serve(listen, allowed, &backends, stop.clone())
        .map_err(|source| WorkerError::Listen { address: config.health_listen.clone(), source })?;
    let consumer = Consumer {
        queue: backends.queue.clone(),
        store: backends.store.clone(),
        lease: *config.backends.lease,
        concurrency: config.concurrency(),
        max_bytes_under_way: config.backends.max_bytes_under_way(),
        process,
        process_timeout: *config.backends.process_timeout,
    };
    run_until_stopped(backends, consumer, config.backends.expect_backups, ops, stop).await
}

/// Learns until it is stopped, or a task that it needs ends by itself; then finishes the jobs that it has.
async fn run_until_stopped(
    backends: Backends,
    consumer: Consumer,
    expect_backups: bool,
    ops: Server,
    stop: CancellationToken,
) -> Result<(), WorkerError> {
    let supervisor = Supervisor::new(stop.child_token());
    let handle = ops.handle();
    let serving = supervisor.spawn("the server of health and metrics", async {
        if let Err(error) = ops.await {
            error!(%error, "the server of health and metrics failed");
        }
    });
    let mut consuming = None;
    let mut failure = tokio::select! {
        () = stop.cancelled() => None,
        failure = learn(backends, consumer, expect_backups, &supervisor, &mut consuming) => Some(failure),
    };
    if let Some(error) = &failure {
        error!(%error, "stopping");
    }
    supervisor.stop().cancel();
    if let Some(consuming) = consuming
        && tokio::time::timeout(STOP_TIMEOUT, consuming).await.is_err()
    {
        warn!(
            "the jobs under way could not be finished or released in time; they come again when their leases run out"
        );
    }
    handle.stop(false).await;
    let _ = serving.await;
    failure = failure.or_else(|| supervisor.failed().now_or_never().map(WorkerError::from));
    info!("stopped");
    failure.map_or(Ok(()), Err)
}

/// Waits for the backends, then learns. Returns why it cannot go on.
async fn learn(
    backends: Backends,
    consumer: Consumer,
    expect_backups: bool,
    supervisor: &Supervisor,
    consuming: &mut Option<JoinHandle<()>>,
) -> WorkerError {
    let stop = supervisor.stop();
    // Before anything else: a server that is not there yet is to be seen.
    supervisor.spawn("the watch of the backends", watch(backends.clone(), None, expect_backups, stop.clone()));
    let prepared = tokio::select! {
        prepared = backends.prepare(stop) => prepared,
        ended = supervisor.failed() => return ended.into(),
    };
    match prepared {
        Ok(Prepared::Ready) => {}
        Ok(Prepared::Stopped) => return std::future::pending().await,
        Err(error) => return error.into(),
    }
    supervisor.spawn("the check of the backends' set-up", backends.keep_checked(stop.clone()));
    info!(concurrency = consumer.concurrency, version = metrics::version(), "learning");
    let (reporting, stopped) = (supervisor.clone(), stop.clone());
    *consuming = Some(supervisor.spawn("the consumer", async move {
        if let Err(ended) = consumer.run(stopped).await {
            reporting.report(ended);
        }
    }));
    supervisor.failed().await.into()
}

#[cfg(test)]
#[path = "lib_tests.rs"]
mod tests;

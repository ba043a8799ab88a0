//! The whole wiring: settings to a server that runs until it is stopped.
//!
//! What runs where: the main thread is one actix runtime, which batches what is accepted, follows the store, reconciles,
//! checks the backends' set-up and, when embedded, runs the consumer. As many threads as cores serve HTTP, and as many
//! answer questions (`answering.rs`). Commits of the index run on a blocking thread of the main runtime;
//! the embedded file has threads of its own. Nothing blocks a thread that serves HTTP.

use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::web;
use futures_util::FutureExt;
use futures_util::future::join_all;
use multivac_core::accept::Acceptor;
use multivac_core::adapters::{Backends, Prepared};
use multivac_core::answer::{StandingAnswer, WatchedAnswers};
use multivac_core::consumer::Consumer;
use multivac_core::datum::DatumId;
use multivac_core::index::follow::Follower;
use multivac_core::index::{Index, OpenError};
use multivac_core::observe::LogFormat;
use multivac_core::observe::metrics::{self, Part};
use multivac_core::process::process;
use multivac_core::runtime::hosts::KnownHosts;
use multivac_core::runtime::supervise::{Supervisor, TaskEnded};
use multivac_core::status::Registry;
use multivac_core::watch::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::answering::AnswerThreads;
use crate::config::{Config, max_connections};
use crate::error::AppError;
use crate::sse::Streams;
use crate::state::{Backups, State};
use crate::system::LastSeen;
use crate::watching::Watching;
use crate::{routes, server};

/// How long requests may take to finish once the server is to stop: with the longest delay before it and what comes after,
/// less than the 30 seconds after which orchestrators kill.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(21);

/// How long the background tasks may take to finish, such as the consumer with the batch that it has.
const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(4);

/// What is reported when [`Backends::broken`] is cancelled.
const FILE_BROKEN: TaskEnded = TaskEnded { task: "the writer of the embedded file", how: "ended by itself" };

/// A server that listens, and does not run yet.
pub struct Application {
    state: web::Data<State>,
    backends: Backends,
    consumer: Option<Consumer>,
    data_dir: Option<PathBuf>,
    server: Server,
    listener: TcpListener,
    drain_delay: Duration,
    expect_backups: bool,
    address: SocketAddr,
    background: Supervisor,
}

impl Application {
    /// Wires everything, and listens. Redis and MongoDB need not be there yet.
    ///
    /// # Errors
    /// See [`AppError`].
    pub async fn build(config: Config) -> Result<Self, AppError> {
        let urls = config.backends.server_urls()?;
        let calibration = config.calibration()?;
        let settings = config.queue_settings()?;
        let limits = (settings.max_queued, settings.max_queued_bytes);
        let max_connections = max_connections()?;
        // The port before the data directory: a server that cannot run leaves no directory behind.
        let cannot_listen = |source| AppError::Listen { address: config.listen.clone(), source };
        let listener = TcpListener::bind(&config.listen).map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let (backends, data_dir) = match urls {
            Some(urls) => (Backends::servers(urls, &config.backends, settings).await?, None),
            None => {
                let backends = Backends::embedded(&config.data_dir, settings)?;
                (backends, Some(config.data_dir))
            }
        };
        let consumer = data_dir.is_some().then(|| Consumer {
            queue: backends.queue.clone(),
            store: Arc::clone(&backends.store),
            lease: *config.backends.lease,
            concurrency: 2,
            max_bytes_under_way: config.backends.max_bytes_under_way(),
            process,
            process_timeout: *config.backends.process_timeout,
        });
        metrics::show(Part::Api);
        if consumer.is_some() {
            metrics::show(Part::Consumer);
        }
        metrics::QUEUE_LIMIT.set(limits.0 as f64);
        metrics::QUEUE_LIMIT_BYTES.set(limits.1 as f64);
        routes::expect_requests();
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let index = Arc::new(open_index(config.index_dir).await?);
        let replica = DatumId::generate().to_string();
        let follower = Follower::new(Arc::clone(&backends.store), Arc::clone(&index), replica);
        // Its tasks may end only after the server has: requests need them until then.
        let background = Supervisor::new(CancellationToken::new());
        let standing = Arc::new(StandingAnswer::new(config.question, calibration.clone(), Arc::clone(&index)));
        let registry =
            Registry { queue: Arc::clone(&backends.queue), store: Arc::clone(&backends.store), index, follower };
        let answering = Arc::new(AnswerThreads::start(cores).map_err(AppError::Threads)?);
        let watched = WatchedAnswers::new(Arc::clone(&standing), config.max_watched);
        let stop = CancellationToken::new();
        let state = web::Data::new(State {
            acceptor: Acceptor::new(backends.queue.clone(), &background),
            watching: Arc::new(Watching::new(watched, registry.clone(), Arc::clone(&answering))),
            registry,
            // So that a quarter of the connections is left for those who ask and feed.
            streams: Streams::new(max_connections / 4 * 3, stop.clone()),
            standing,
            answering,
            max_datum_size: usize::try_from(config.max_datum_size.0).unwrap_or(usize::MAX),
            calibration: Arc::new(calibration),
            warnings: backends.warnings.clone(),
            backups: Backups::new(backends.clone(), config.allow_backup_over_http),
            damage: backends.damage.clone(),
            stop,
            connections: Arc::default(),
            system: LastSeen::new(limits, data_dir.is_some()),
        });
        let hosts = KnownHosts::new(&config.listen, address, config.allowed_hosts.as_ref());
        let accepting = listener.try_clone().map_err(cannot_listen)?;
        let settings = server::Settings {
            threads: cores,
            max_connections: (max_connections / cores).max(1),
            shutdown_timeout: SHUTDOWN_TIMEOUT.saturating_sub(config.drain_delay),
        };
        let server = server::start(state.clone(), hosts, accepting, settings).map_err(cannot_listen)?;
        let (drain_delay, expect_backups) = (config.drain_delay, config.backends.expect_backups);
        Ok(Self {
            state,
            backends,
            consumer,
            data_dir,
            server,
            listener,
            drain_delay,
            expect_backups,
            address,
            background,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Prints where it listens, where its data are, and what to try next; for a machine, a log line.
    pub fn greet(&self, format: LogFormat) {
        let address = self.address;
        let data = self.data_dir.as_ref().map(|dir| dir.canonicalize().unwrap_or_else(|_| dir.clone()));
        if format != LogFormat::Text && !io::stdout().is_terminal() {
            let data = data.map_or_else(|| "Redis and MongoDB".to_owned(), |dir| dir.display().to_string());
            info!(%address, data, version = metrics::version(), "listening");
            return;
        }
        let data = data.map_or_else(
            || "data:      in Redis and MongoDB; multivac-worker learns them".to_owned(),
            |dir| format!("data:      {}", dir.display()),
        );
        let text = format!(
            "MultiVAC listens on http://{address}\n{data}\n\
             feed it:   curl http://{address}/multivac/data --data-urlencode data='Entropy can be reversed by gathering all of the starlight.'\n\
             ask it:    curl http://{address}/multivac\n\
             ask more:  curl -G http://{address}/multivac --data-urlencode question='What can be gathered?'\n"
        );
        // An error means that nobody reads it.
        let _ = io::stdout().write_all(text.as_bytes());
    }

    /// Serves until it is stopped, or a task that it needs ends by itself; then finishes the requests that it has.
    ///
    /// # Errors
    /// When the backends turn out to be unusable, or a task ended by itself.
    pub async fn run_until_stopped(self, stop: CancellationToken) -> Result<(), AppError> {
        let Self { state, backends, consumer, server, listener, drain_delay, expect_backups, background, .. } = self;
        let http = Supervisor::new(state.stop.clone());
        let handle = server.handle();
        let reporting = http.clone();
        let serving = http.spawn("the HTTP server", async move {
            if let Err(error) = server.await {
                error!(%error, "the HTTP server failed");
                reporting.report(TaskEnded { task: "the HTTP server", how: "failed" });
            }
        });
        let mut tasks = Vec::new();
        let broken = backends.broken.clone();
        let mut failure: Option<AppError> = tokio::select! {
            () = stop.cancelled() => None,
            ended = http.failed() => Some(ended.into()),
            ended = background.failed() => Some(ended.into()),
            () = broken.cancelled() => Some(FILE_BROKEN.into()),
            failure = run_background(&state, backends, consumer, expect_backups, &background, &mut tasks) => Some(failure),
        };
        if let Some(error) = &failure {
            error!(%error, "stopping");
        }
        // From here on the replica is not ready; requests are served until the drain is done.
        state.stop.cancel();
        if !serving.is_finished() {
            let delay = if failure.is_some() { Duration::ZERO } else { drain_delay };
            state.connections.drain(listener, delay).await;
        }
        handle.stop(true).await;
        let _ = serving.await;
        background.stop().cancel();
        if tokio::time::timeout(BACKGROUND_TIMEOUT, join_all(tasks)).await.is_err() {
            warn!("the background tasks did not finish in time; what an embedded consumer had leased comes again");
        }
        // What failed while it was being stopped counts as well.
        let damage = state.damage.summary();
        failure = failure
            .or_else(|| background.failed().now_or_never().map(AppError::from))
            .or_else(|| http.failed().now_or_never().map(AppError::from))
            .or_else(|| broken.is_cancelled().then(|| FILE_BROKEN.into()))
            .or_else(|| damage.map(AppError::Damaged));
        info!("stopped");
        failure.map_or(Ok(()), Err)
    }
}

/// Removing what a killed process has left takes a while, and this thread has timers to serve.
async fn open_index(kept_in: Option<PathBuf>) -> Result<Index, OpenError> {
    let open = move || match kept_in {
        Some(path) => Index::kept_in(&path),
        None => Ok(Index::new()?),
    };
    tokio::task::spawn_blocking(open).await.expect("opening an index does not panic")
}

/// Waits for the backends, then starts what goes on beside the requests. Returns only if the backends cannot be used.
async fn run_background(
    state: &State,
    backends: Backends,
    consumer: Option<Consumer>,
    expect_backups: bool,
    supervisor: &Supervisor,
    tasks: &mut Vec<JoinHandle<()>>,
) -> AppError {
    let stop = supervisor.stop();
    // Before anything else: a server that is not there yet is to be seen.
    let watching = watch(backends.clone(), Some(state.registry.clone()), expect_backups, stop.clone());
    tasks.push(supervisor.spawn("the watch of the backends", watching));
    match backends.prepare(stop).await {
        Ok(Prepared::Ready) => {}
        Ok(Prepared::Stopped) => return std::future::pending().await,
        Err(error) => return error.into(),
    }
    tasks.push(supervisor.spawn("the check of the backends' set-up", backends.keep_checked(stop.clone())));
    let reconciling = state.registry.clone().keep_reconciled(stop.clone());
    tasks.push(supervisor.spawn("the reconciliation of the ledger", reconciling));
    let (follower, stopped) = (Arc::clone(&state.registry.follower), stop.clone());
    tasks.push(supervisor.spawn("the follower of the store", async move { follower.run(stopped).await }));
    let watching = Arc::clone(&state.watching).keep(stop.clone());
    tasks.push(supervisor.spawn("the watch of answers", watching));
    if let Some(consumer) = consumer {
        let (reporting, stopped) = (supervisor.clone(), stop.clone());
        tasks.push(supervisor.spawn("the consumer", async move {
            if let Err(ended) = consumer.run(stopped).await {
                reporting.report(ended);
            }
        }));
    }
    std::future::pending().await
}

#[cfg(test)]
#[path = "app_tests.rs"]
mod tests;

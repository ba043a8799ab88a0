//! The whole wiring: settings to a server that runs until it is stopped.

use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, dev::Server, web};
use multivac_core::accept::Acceptor;
use multivac_core::adapters::{BackendError, Backends, Prepared};
use multivac_core::answer::StandingAnswer;
use multivac_core::consumer::Consumer;
use multivac_core::datum::DatumId;
use multivac_core::index::follow::Follower;
use multivac_core::index::{Index, IndexError};
use multivac_core::observe::LogFormat;
use multivac_core::process::process;
use multivac_core::runtime::config::ConfigError;
use multivac_core::runtime::supervise::Supervisor;
use multivac_core::status::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::Config;
use crate::state::State;
use crate::{middleware, routes};

/// How long requests under way may take once the server is to stop: with the longest delay before it and what comes after,
/// less than the 30 seconds after which orchestrators kill.
const UNDER_WAY: Duration = Duration::from_secs(21);

/// How long the consumer may take for the batch that it has.
const LAST_BATCH: Duration = Duration::from_secs(4);

/// How long an idle connection is kept: longer than nginx keeps those to its upstreams (60 s), so that it is nginx who
/// closes them, and never loses a request to one that was closed at that moment.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How long a request's head may take from the connection on.
const HEAD: Duration = Duration::from_secs(10);

/// Open files that are none of connections: the index's, the database's, those to Redis and MongoDB.
const OTHER_FILES: u64 = 512;

/// Why the server cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings do not fit together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The queue or the store cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The index's directory.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The port.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where it was to listen.
        address: String,
        /// Why it cannot.
        source: io::Error,
    },
    /// The server itself.
    #[error("the server failed: {0}")]
    Server(#[source] io::Error),
    /// Signals.
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] io::Error),
    /// Logs and traces.
    #[error("cannot start logging or tracing: {0}")]
    Telemetry(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A server that listens, and has yet to run.
pub struct Application {
    state: web::Data<State>,
    backends: Backends,
    consumer: Option<Consumer>,
    data_dir: Option<PathBuf>,
    server: Server,
    listener: TcpListener,
    drain_delay: Duration,
    address: SocketAddr,
    halt: CancellationToken,
}

impl Application {
    /// Wires everything, and listens. Redis and MongoDB need not be there yet.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn build(config: Config) -> Result<Self, StartError> {
        let urls = config.backends.server_urls()?;
        let min_confidence = config.threshold()?;
        let settings = config.queue_settings()?;
        // The port before the data directory: what cannot run shall not leave a directory behind.
        let cannot = |source| StartError::Listen { address: config.listen.clone(), source };
        let listener = TcpListener::bind(&config.listen).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
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
            process,
            process_timeout: *config.backends.process_timeout,
        });
        let index = Arc::new(Index::new()?);
        let replica = DatumId::generate().to_string();
        let follower = Follower::new(Arc::clone(&backends.store), Arc::clone(&index), replica);
        let halt = CancellationToken::new();
        let supervisor = Supervisor::new(halt.clone());
        let state = web::Data::new(State {
            acceptor: Acceptor::new(backends.queue.clone(), &supervisor),
            registry: Registry {
                queue: Arc::clone(&backends.queue),
                store: Arc::clone(&backends.store),
                index: Arc::clone(&index),
                follower,
            },
            standing: StandingAnswer::new(config.question, min_confidence, index),
            max_datum_size: usize::try_from(config.max_datum_size.0).unwrap_or(usize::MAX),
            min_confidence,
            warnings: backends.warnings.clone(),
            stop: CancellationToken::new(),
            connections: Arc::default(),
        });
        let (shared, connections) = (state.clone(), Arc::clone(&state.connections));
        let listening = listener.try_clone().map_err(cannot)?;
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .wrap(from_fn(middleware::observe))
                .configure(routes::configure)
                .default_service(web::to(routes::not_found))
        })
        .workers(workers)
        // Questions are what blocks. One after the other, each is answered in its own time; all at once, each would take
        // as long as all of them.
        .worker_max_blocking_threads(1)
        .max_connections(connections_at_most() / workers)
        .on_connect(move |_, connection| connections.count(connection))
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(HEAD)
        .shutdown_timeout(UNDER_WAY.saturating_sub(config.drain_delay).as_secs())
        .disable_signals()
        .listen(listening)
        .map_err(cannot)?
        .run();
        let drain_delay = config.drain_delay;
        Ok(Self { state, backends, consumer, data_dir, server, listener, drain_delay, address, halt })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says where it listens, where its data are, and what to try next.
    pub fn greet(&self, format: LogFormat) {
        let address = self.address;
        let data = self.data_dir.as_ref().map(|dir| dir.canonicalize().unwrap_or_else(|_| dir.clone()));
        if format != LogFormat::Text && !io::stdout().is_terminal() {
            let data = data.map_or_else(|| "Redis and MongoDB".to_owned(), |dir| dir.display().to_string());
            info!(%address, data, "listening");
            return;
        }
        let data = data.map_or_else(
            || "data:      in Redis and MongoDB; multivac-worker learns them".to_owned(),
            |dir| format!("data:      {}", dir.display()),
        );
        let text = format!(
            "MultiVAC listens on http://{address}\n{data}\n\
             feed it:   curl http://{address}/multivac/data -d data='Entropy can be reversed by gathering all of the starlight.'\n\
             ask it:    curl http://{address}/multivac\n\
             ask more:  curl -G http://{address}/multivac --data-urlencode question='What can be gathered?'\n"
        );
        // Where nobody reads it, it need not be said.
        let _ = io::stdout().write_all(text.as_bytes());
    }

    /// Serves until it is stopped, then finishes what is under way.
    ///
    /// # Errors
    /// When the backends turn out to be unusable, or the server fails.
    pub async fn run_until_stopped(self, stop: CancellationToken) -> Result<(), StartError> {
        let Self { state, backends, consumer, server, listener, drain_delay, halt, .. } = self;
        let background = tokio::spawn(background(state.clone(), backends, consumer, halt.clone()));
        let background = flatten(background);
        tokio::pin!(background);
        let handle = server.handle();
        let serving = tokio::spawn(server);
        let mut failed = None;
        tokio::select! {
            () = stop.cancelled() => {}
            ended = &mut background => failed = ended.err(),
        }
        // Not ready from here on; what is under way goes on.
        state.stop.cancel();
        if failed.is_none() {
            state.connections.drain(listener, drain_delay).await;
        }
        handle.stop(true).await;
        if let Ok(Err(error)) = serving.await {
            failed = failed.or(Some(StartError::Server(error)));
        }
        halt.cancel();
        if failed.is_none() {
            failed = background.await.err();
        }
        info!("stopped");
        failed.map_or(Ok(()), Err)
    }
}

/// As many connections as the system lets this process have, whose limit is raised as far as it may be. Who comes beyond
/// waits to be taken, where too many open files would fail whatever needs one.
fn connections_at_most() -> usize {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit of open files cannot be raised");
        1_024
    });
    usize::try_from(files.saturating_sub(OTHER_FILES).clamp(64, 50_000)).expect("50,000 fits")
}

async fn flatten(task: JoinHandle<Result<(), StartError>>) -> Result<(), StartError> {
    task.await.unwrap_or_else(|error| Err(StartError::Server(io::Error::other(error))))
}

/// What goes on beside the requests: waits for the backends, follows the store, and when embedded learns.
async fn background(
    state: web::Data<State>,
    backends: Backends,
    consumer: Option<Consumer>,
    halt: CancellationToken,
) -> Result<(), StartError> {
    match backends.prepare(&halt).await? {
        Prepared::Ready => {}
        Prepared::Stopped => return Ok(()),
    }
    tokio::spawn(backends.keep_checked(halt.clone()));
    let reconciling = tokio::spawn(state.registry.clone().keep_reconciled(halt.clone()));
    let consuming = consumer.map(|consumer| tokio::spawn(consumer.run(halt.clone())));
    state.registry.follower.run(halt).await;
    reconciling.abort();
    if let Some(consuming) = consuming {
        // Its own leases are given back within a second; a batch under way is finished.
        let _ = tokio::time::timeout(LAST_BATCH, consuming).await;
    }
    Ok(())
}

//! Settings to (queue, store): Redis and MongoDB, or embedded; never half of each.

pub mod embedded;
pub mod findings;
pub mod mongo;
pub mod redis;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::observe::{metrics, spans};
use crate::process::passages;
use crate::queue::{QueueAdmin, QueueError, QueueSettings};
use crate::runtime::config::{BackendArgs, ServerUrls};
use crate::runtime::retry::Retry;
use crate::store::{Store, StoreError};
use embedded::{Damage, Embedded, OpenError};
use mongo::MongoStore;
use redis::{RedisQueue, RedisSettings};

/// The waits before a server that is not there yet is tried again; jitter comes on top.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(500));

/// How often the queue's set-up is checked again.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// A queue and the store that belongs to it.
#[derive(Clone)]
pub struct Backends {
    /// The queue.
    pub queue: Arc<dyn QueueAdmin>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// What the last check of their set-up found.
    pub warnings: Warnings,
    /// Cancelled when a backend inside this process is broken for good, which only a new start mends: the process has to
    /// end then. Never for servers, which come back.
    pub broken: CancellationToken,
    /// What of the embedded file cannot be read; never anything for servers.
    pub damage: Damage,
}

/// Settings of the queue's server under which an accepted datum could be lost, as the last check found them. Cheap to
/// clone.
#[derive(Clone, Default)]
pub struct Warnings(Arc<ArcSwapOption<Vec<String>>>);

impl Warnings {
    /// `None` before the first check.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Vec<String>>> {
        self.0.load_full()
    }

    /// Keeps what a check found, and logs what is new.
    fn set(&self, warnings: Vec<String>) {
        let before = self.get().unwrap_or_default();
        for warning in warnings.iter().filter(|warning| !before.contains(warning)) {
            warn!("{warning}");
        }
        metrics::QUEUE_WARNINGS.set(warnings.len() as f64);
        self.0.store(Some(Arc::new(warnings)));
    }
}

/// Why the backends cannot be used, now or later.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data directory.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// How [`Backends::prepare`] came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prepared {
    /// Both can be used; [`Backends::warnings`] says under which of their settings data could be lost.
    Ready,
    /// It was stopped before that.
    Stopped,
}

impl Backends {
    /// Redis and MongoDB. They need not be there yet.
    ///
    /// # Errors
    /// When a URL cannot be read.
    pub async fn servers(urls: ServerUrls, args: &BackendArgs, settings: QueueSettings) -> Result<Self, BackendError> {
        spans::name_servers(&args.namespace);
        let queue = RedisQueue::new(RedisSettings::new(&urls, args), settings)?;
        let store = MongoStore::new(&urls.mongo, passages).await?;
        let (queue, store) = (Arc::new(queue), Arc::new(store));
        let (broken, damage) = (CancellationToken::new(), Damage::default());
        Ok(Self { queue, store, warnings: Warnings::default(), broken, damage })
    }

    /// One file in a directory.
    ///
    /// # Errors
    /// When the directory or the file in it cannot be used.
    pub fn embedded(directory: &Path, settings: QueueSettings) -> Result<Self, BackendError> {
        let embedded = Embedded::open(directory, settings)?;
        let (queue, store, broken) = (embedded.queue(), embedded.store(), embedded.broken());
        Ok(Self { queue, store, warnings: Warnings::default(), broken, damage: embedded.damage() })
    }

    /// Waits until both can be used, and says so while they cannot.
    ///
    /// # Errors
    /// When waiting will not help.
    pub async fn prepare(&self, stop: &CancellationToken) -> Result<Prepared, BackendError> {
        let (shortest, longest) = RETRY_DELAYS;
        let mut retry = Retry::new(shortest, longest);
        loop {
            // The store first: the ledger is reconciled with it once the queue is there.
            let try_both = async {
                self.store.prepare().await?;
                Ok::<_, BackendError>(self.queue.prepare().await?)
            };
            let tried = tokio::select! {
                () = stop.cancelled() => return Ok(Prepared::Stopped),
                tried = try_both => tried,
            };
            match tried {
                Ok(warnings) => {
                    self.warnings.set(warnings);
                    if retry.succeeded() {
                        info!("the queue and the store are there");
                    }
                    return Ok(Prepared::Ready);
                }
                Err(error) if error.is_transient() => {
                    if retry.failed() {
                        warn!(%error, "waiting for the queue and the store");
                    }
                }
                Err(error) => return Err(error),
            }
            if !retry.wait(stop).await {
                return Ok(Prepared::Stopped);
            }
        }
    }

    /// Checks the queue's set-up at intervals, until it is stopped: someone may have changed it, or mended it.
    pub async fn keep_checked(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
            }
            let checked = tokio::select! {
                () = stop.cancelled() => return,
                checked = self.queue.prepare() => checked,
            };
            match checked {
                Ok(warnings) => self.warnings.set(warnings),
                // A queue that is out of reach keeps its set-up; whoever uses the queue reports that it is.
                Err(error) if error.is_transient() => {}
                // What would have kept us from starting, such as an append-only file that was switched off.
                Err(error) => self.warnings.set(vec![error.to_string()]),
            }
        }
    }
}

impl BackendError {
    /// Whether the same may succeed later by itself.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Queue(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
            Self::Open(_) => false,
        }
    }
}

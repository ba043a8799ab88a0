//! Settings to (queue, store): Redis and MongoDB, or embedded; never half of each.

pub mod embedded;
pub mod mongo;
pub mod redis;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::observe::metrics;
use crate::process::passages;
use crate::queue::{QueueAdmin, QueueError, QueueSettings};
use crate::runtime::config::{BackendArgs, ServerUrls};
use crate::store::{Store, StoreError};
use embedded::{Embedded, OpenError};
use mongo::MongoStore;
use redis::{RedisQueue, RedisSettings};

/// How often a server that is not there yet is tried.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// How often the queue's set-up is looked at again.
const CHECK_AGAIN: Duration = Duration::from_secs(30);

/// A queue and the store that belongs to it.
#[derive(Clone)]
pub struct Backends {
    /// The queue.
    pub queue: Arc<dyn QueueAdmin>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// What the last look at their set-up said.
    pub warnings: Warnings,
}

/// Settings of the queue's server under which an accepted datum could be lost, as they were last seen. Cheap to clone.
#[derive(Clone, Default)]
pub struct Warnings(Arc<ArcSwapOption<Vec<String>>>);

impl Warnings {
    /// `None` before they were looked at.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Vec<String>>> {
        self.0.load_full()
    }

    /// Tells the metrics how many there are; for whoever is about to show them.
    pub fn measure(&self) {
        metrics::QUEUE_WARNINGS.set(self.get().map_or(0, |warnings| warnings.len()) as f64);
    }

    /// Tells the log where something is new.
    fn set(&self, warnings: Vec<String>) {
        let before = self.get().unwrap_or_default();
        for warning in warnings.iter().filter(|warning| !before.contains(warning)) {
            warn!("{warning}");
        }
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
    /// It was stopped before.
    Stopped,
}

impl Backends {
    /// Redis and MongoDB. They need not be there yet.
    ///
    /// # Errors
    /// When a URL cannot be read.
    pub async fn servers(urls: ServerUrls, args: &BackendArgs, settings: QueueSettings) -> Result<Self, BackendError> {
        let redis = RedisSettings {
            urls: urls.redis,
            ca: urls.redis_ca,
            namespace: args.namespace.clone(),
            partitions: args.partitions,
        };
        let queue = RedisQueue::new(redis, settings)?;
        let store = MongoStore::new(&urls.mongo, passages).await?;
        Ok(Self { queue: Arc::new(queue), store: Arc::new(store), warnings: Warnings::default() })
    }

    /// One file in a directory.
    ///
    /// # Errors
    /// When the directory or the file in it cannot be used.
    pub fn embedded(directory: &Path, settings: QueueSettings) -> Result<Self, BackendError> {
        let embedded = Embedded::open(directory, settings)?;
        Ok(Self { queue: embedded.queue(), store: embedded.store(), warnings: Warnings::default() })
    }

    /// Waits until both can be used, and says so while they cannot.
    ///
    /// # Errors
    /// When waiting will not help.
    pub async fn prepare(&self, stop: &CancellationToken) -> Result<Prepared, BackendError> {
        let mut waiting = false;
        loop {
            // The store first: the ledger is reconciled with it once the queue is there.
            let tried = match self.store.prepare().await {
                Ok(()) => self.queue.prepare().await.map_err(BackendError::from),
                Err(error) => Err(error.into()),
            };
            match tried {
                Ok(warnings) => {
                    self.warnings.set(warnings);
                    if waiting {
                        info!("the queue and the store are there");
                    }
                    return Ok(Prepared::Ready);
                }
                Err(error) if error.is_transient() => {
                    if !std::mem::replace(&mut waiting, true) {
                        warn!(%error, "waiting for the queue and the store");
                    }
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(Prepared::Stopped),
                () = tokio::time::sleep(TRY_AGAIN) => {}
            }
        }
    }
}

impl Backends {
    /// Looks at the queue's set-up now and then, until it is stopped: someone may have changed it, or mended it.
    pub async fn keep_checked(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CHECK_AGAIN) => {}
            }
            match self.queue.prepare().await {
                Ok(warnings) => self.warnings.set(warnings),
                // Out of reach, it is as it was; everybody else notices.
                Err(error) if error.is_transient() => {}
                // What would have kept us from starting, such as an append-only file that was switched off.
                Err(error) => self.warnings.set(vec![error.to_string()]),
            }
        }
    }
}

impl BackendError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Queue(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
            Self::Open(_) => false,
        }
    }
}

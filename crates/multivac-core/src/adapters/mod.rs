//! Settings to (queue, store): Redis and MongoDB, or embedded; never half of each.

pub mod embedded;
pub mod mongo;
pub mod redis;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::process::passages;
use crate::queue::{Queue, QueueError, QueueSettings};
use crate::runtime::config::{BackendArgs, ServerUrls};
use crate::store::{Store, StoreError};
use embedded::{Embedded, OpenError};
use mongo::MongoStore;
use redis::{RedisQueue, RedisSettings};

/// How often a server that is not there yet is tried.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// A queue and the store that belongs to it.
#[derive(Clone)]
pub struct Backends {
    /// The queue.
    pub queue: Arc<dyn Queue>,
    /// The store.
    pub store: Arc<dyn Store>,
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
    /// Both can be used; the warnings say under which of their settings data could be lost.
    Ready(Vec<String>),
    /// It was stopped before.
    Stopped,
}

impl Backends {
    /// Redis and MongoDB. They need not be there yet.
    ///
    /// # Errors
    /// When a URL cannot be read.
    pub async fn servers(urls: ServerUrls, args: &BackendArgs, settings: QueueSettings) -> Result<Self, BackendError> {
        let redis = RedisSettings { urls: urls.redis, namespace: args.namespace.clone(), partitions: args.partitions };
        let queue = RedisQueue::new(redis, settings)?;
        let store = MongoStore::new(&urls.mongo, passages).await?;
        Ok(Self { queue: Arc::new(queue), store: Arc::new(store) })
    }

    /// One file in a directory.
    ///
    /// # Errors
    /// When the directory or the file in it cannot be used.
    pub fn embedded(directory: &Path, settings: QueueSettings) -> Result<Self, BackendError> {
        let embedded = Embedded::open(directory, settings)?;
        Ok(Self { queue: embedded.queue(), store: embedded.store() })
    }

    /// Waits until both can be used, and says so while they cannot.
    ///
    /// # Errors
    /// When waiting will not help.
    pub async fn prepare(&self, stop: &CancellationToken) -> Result<Prepared, BackendError> {
        let mut waiting = false;
        loop {
            // The store first: the ledger is settled with it once the queue is there.
            let tried = match self.store.prepare().await {
                Ok(()) => self.queue.prepare().await.map_err(BackendError::from),
                Err(error) => Err(error.into()),
            };
            match tried {
                Ok(warnings) => {
                    for warning in &warnings {
                        warn!("{warning}");
                    }
                    if waiting {
                        info!("the queue and the store are there");
                    }
                    return Ok(Prepared::Ready(warnings));
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

impl BackendError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Queue(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
            Self::Open(_) => false,
        }
    }
}

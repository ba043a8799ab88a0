//! Keeps an [`Index`] in step with the store: load all, then follow the changes; start over when the place is lost.
//!
//! The position is taken before the scan, so a change during the scan comes twice rather than never, and applying twice
//! changes nothing. A replica announces itself before it looks whether it has caught up, so a retraction either waits
//! for it or was seen by it before it called itself ready.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Index, IndexError};
use crate::store::{Change, ChangeBatch, Position, Store, StoreError};

/// Changes taken from the store, or applied, in one step.
const BATCH: usize = 5_000;

/// Under a steady feed, this long from one commit to the next, or as long as leaves the index an eighth of the time: a
/// commit has its price however little it holds, and questions pay it. The first datum after a rest does not wait.
const PACE: Duration = Duration::from_millis(100);
const LONGEST_PACE: Duration = Duration::from_millis(500);

/// How often a replica says that it is alive; well below the 5 seconds after which it counts as gone.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How far the index has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether everything that was in the store at the start is in the index.
    pub caught_up: bool,
    /// Whether the store can be followed at present. Where not, answers rest on what was learned before.
    pub following: bool,
    /// Where it is not: whether the index cannot be written, rather than the store be reached.
    pub unwritable: bool,
    /// The index reflects all changes up to here.
    pub position: Position,
}

/// Follows the store into the index until it is stopped.
pub struct Follower {
    store: Arc<dyn Store>,
    index: Arc<Index>,
    replica: String,
    progress: watch::Sender<Progress>,
    errors: AtomicU64,
}

/// Why following was interrupted.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("stopped")]
    Stopped,
}

impl Follower {
    /// A follower under the name of a replica, which is to be new at each start.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, index: Arc<Index>, replica: String) -> Arc<Self> {
        Arc::new(Self { store, index, replica, progress: watch::Sender::default(), errors: AtomicU64::new(0) })
    }

    /// How far the index has come, now and later.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// How often following was interrupted since the start.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Runs until it is stopped; whatever fails is tried again.
    pub async fn run(&self, stop: CancellationToken) {
        let mut from = None;
        let mut silent = false;
        loop {
            let Err(interrupted) = self.load_and_follow(&mut from, &mut silent, &stop).await;
            self.progress.send_modify(|p| {
                p.following = false;
                p.unwritable = matches!(interrupted, Interrupted::Index(_));
            });
            match interrupted {
                Interrupted::Stopped => break,
                Interrupted::Store(StoreError::PositionLost) => {
                    warn!("the store has forgotten the changes since the index's position; loading all again");
                    from = None;
                }
                Interrupted::Index(error) => {
                    if !std::mem::replace(&mut silent, true) {
                        error!(%error, "the index cannot be written (is its disk, the temporary directory's, full?); answers rest on what was learned before");
                    }
                }
                Interrupted::Store(error) => {
                    // Once for each interruption, not once for each try.
                    if !std::mem::replace(&mut silent, true) {
                        warn!(%error, "the store cannot be followed; answers rest on what was learned before");
                    }
                }
            }
            self.errors.fetch_add(1, Ordering::Relaxed);
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        }
        if let Err(error) = self.store.announce(&self.replica, None).await {
            info!(%error, "could not say goodbye; the other replicas will notice within seconds");
        }
    }

    async fn load_and_follow(
        &self,
        from: &mut Option<Position>,
        silent: &mut bool,
        stop: &CancellationToken,
    ) -> Result<std::convert::Infallible, Interrupted> {
        let position = match *from {
            Some(position) => position,
            None => self.load(stop).await?,
        };
        *from = Some(position);
        let mut changes = self.store.follow(position).await?;
        self.announce(position).await?;
        // Where it has to come to be caught up. Under a steady load the store never has nothing new to tell.
        let goal = self.store.position().await?;
        // A task of its own takes changes from the store while the index commits the ones before.
        let (sender, mut batches) = mpsc::channel::<Result<ChangeBatch, StoreError>>(8);
        let puller = tokio::spawn(async move {
            loop {
                let batch = changes.next(BATCH).await;
                let failed = batch.is_err();
                if sender.send(batch).await.is_err() || failed {
                    break;
                }
            }
        });
        let _puller = AbortOnDrop(puller);
        let mut announced = Instant::now();
        let mut due = Instant::now();
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => return Err(Interrupted::Stopped),
                batch = batches.recv() => batch,
            };
            let mut changes = Vec::new();
            let mut position = *from;
            let mut quiet = false;
            let mut failed = None;
            let mut next = first;
            while let Some(batch) = next {
                match batch {
                    Ok(batch) => {
                        quiet |= batch.changes.is_empty();
                        position = position.max(Some(batch.position));
                        changes.extend(batch.changes);
                    }
                    Err(error) => failed = Some(error),
                }
                // A retraction waits for the commit, and so it does not wait for more.
                let urgent = || failed.is_some() || changes.iter().any(|change| matches!(change, Change::Removed(_)));
                next = if changes.len() >= 4 * BATCH {
                    None
                } else if changes.is_empty() || due <= Instant::now() || urgent() {
                    batches.try_recv().ok()
                } else {
                    tokio::time::timeout_at(due.into(), batches.recv()).await.unwrap_or(None)
                };
            }
            let removed = changes.iter().any(|change| matches!(change, Change::Removed(_)));
            if !changes.is_empty() {
                let begun = Instant::now();
                self.apply(changes).await?;
                due = begun + (8 * begun.elapsed()).clamp(PACE, LONGEST_PACE);
            }
            *from = position;
            let position = position.unwrap_or_default();
            self.progress.send_modify(|p| {
                p.position = position;
                p.caught_up |= quiet || position >= goal;
                p.following = true;
                p.unwritable = false;
            });
            if std::mem::take(silent) {
                info!("the index follows the store again");
            }
            // A retraction waits for this.
            if removed || announced.elapsed() >= HEARTBEAT {
                self.announce(position).await?;
                announced = Instant::now();
            }
            if let Some(error) = failed {
                return Err(error.into());
            }
        }
    }

    /// Loads all live data, and removes what is not live any more.
    async fn load(&self, stop: &CancellationToken) -> Result<Position, Interrupted> {
        let position = self.store.position().await?;
        let started = Instant::now();
        let mut live = HashSet::new();
        let mut scan = self.store.scan();
        let mut changes = Vec::new();
        while let Some(batch) = scan.next().await {
            if stop.is_cancelled() {
                return Err(Interrupted::Stopped);
            }
            for datum in batch? {
                live.insert(datum.id);
                changes.push(Change::Put(Box::new(datum)));
            }
            // Few large commits while nobody waits for them.
            if changes.len() >= 4 * BATCH {
                self.apply(std::mem::take(&mut changes)).await?;
            }
        }
        changes.extend(self.index.strangers(&live).into_iter().map(Change::Removed));
        self.apply(changes).await?;
        info!(data = live.len(), duration_ms = started.elapsed().as_millis() as u64, "loaded the store into the index");
        Ok(position)
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<(), IndexError> {
        if changes.is_empty() {
            return Ok(());
        }
        let index = Arc::clone(&self.index);
        tokio::task::spawn_blocking(move || index.apply(&changes)).await.unwrap_or_else(|panicked| {
            Err(IndexError(tantivy::TantivyError::SystemError(format!("applying changes: {panicked}"))))
        })
    }

    async fn announce(&self, position: Position) -> Result<(), StoreError> {
        self.store.announce(&self.replica, Some(position)).await
    }
}

/// Ends a task with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

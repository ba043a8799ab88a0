//! Keeps an [`Index`] in step with the store: loads all, then follows the changes, and loads again when its position is
//! lost.
//!
//! The position is taken before the scan, so a change during the scan is applied twice rather than never, and applying a
//! change twice changes nothing. A replica announces itself before it looks whether it has caught up, so a retraction
//! either waits for this replica or was seen by it before it called itself ready.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Index, IndexError, Lost};
use crate::runtime::retry::Retry;
use crate::store::{Change, ChangeBatch, Changes, Position, Store, StoreError};

/// Changes taken from the store in one step.
const PULL_BATCH: usize = 5_000;

/// Changes applied in one commit at most; while loading, at least. The fewer commits the better while nobody waits.
const COMMIT_BATCH: usize = 4 * PULL_BATCH;

/// Batches of changes that wait for the index, so that the store is read while the index commits.
const WAITING_BATCHES: usize = 8;

/// Under a steady feed, the time from one commit to the next: a commit has its price however little it holds, and questions
/// pay it. The index gets an eighth of the time at most, within these bounds. The first datum after a pause does not wait.
const SHORTEST_COMMIT_INTERVAL: Duration = Duration::from_millis(100);
const LONGEST_COMMIT_INTERVAL: Duration = Duration::from_millis(500);

/// How often a replica announces that it is alive; well below [`REPLICA_ALIVE`](crate::store::REPLICA_ALIVE).
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);

/// The waits after an interruption.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(500));

/// How far the index has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether everything that was in the store at the start is in the index.
    pub caught_up: bool,
    /// Whether the store can be followed at present. Where not, answers rest on what was learned before.
    pub following: bool,
    /// Whether the index cannot be written at present, which is another reason not to follow.
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
    interruptions: AtomicU64,
}

/// Why following was interrupted.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("files of the index were removed")]
    IndexLost,
    #[error("the task that reads the store's changes panicked")]
    PullerPanicked,
    #[error("stopped")]
    Stopped,
}

impl From<Lost> for Interrupted {
    fn from(Lost: Lost) -> Self {
        Self::IndexLost
    }
}

impl Follower {
    /// A follower under the name of a replica, which is to be new at each start.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, index: Arc<Index>, replica: String) -> Arc<Self> {
        Arc::new(Self { store, index, replica, progress: watch::Sender::default(), interruptions: AtomicU64::new(0) })
    }

    /// How far the index has come, now and later.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// How often following was interrupted since the start.
    #[must_use]
    pub fn interruptions(&self) -> u64 {
        self.interruptions.load(Ordering::Relaxed)
    }

    /// Runs until it is stopped. Whatever interrupts it, it begins again, and counts that.
    pub async fn run(&self, stop: CancellationToken) {
        let (shortest, longest) = RETRY_DELAYS;
        let mut retry = Retry::new(shortest, longest);
        let mut position = None;
        loop {
            // The store may take long to reply, and stopping does not wait for that.
            let interrupted = tokio::select! {
                Err(interrupted) = self.follow(&mut position, &mut retry, &stop) => interrupted,
                () = stop.cancelled() => Interrupted::Stopped,
            };
            self.progress.send_modify(|progress| {
                progress.following = false;
                progress.unwritable = matches!(interrupted, Interrupted::Index(_) | Interrupted::IndexLost);
            });
            if matches!(interrupted, Interrupted::Stopped) {
                break;
            }
            self.begin_anew_if_lost(&interrupted, &mut position).await;
            self.note(interrupted, &mut position, &mut retry);
            if !retry.wait(&stop).await {
                break;
            }
        }
        if let Err(error) = self.store.announce(&self.replica, None).await {
            info!(%error, "this replica could not be signed off; the others notice within seconds");
        }
    }

    /// After an index was lost, has the next round fill another, in a new directory. Until that is full the old one, whose
    /// segments are still mapped, stays as it is.
    async fn begin_anew_if_lost(&self, interrupted: &Interrupted, position: &mut Option<Position>) {
        let index = Arc::clone(&self.index);
        let begun = match interrupted {
            // Why a commit failed does not show in its error.
            Interrupted::Index(_) | Interrupted::IndexLost => {
                tokio::task::spawn_blocking(move || index.is_lost().then(|| index.begin_anew())).await
            }
            _ => return,
        };
        match begun {
            Ok(Some(Ok(()))) => {
                warn!("files of the index were removed from its temporary directory; loading all into a new one");
                *position = None;
            }
            Ok(Some(Err(error))) => error!(%error, "a new directory for the index cannot be made"),
            Ok(None) | Err(_) => {}
        }
    }

    /// Counts an interruption, and logs the first of several in a row.
    fn note(&self, interrupted: Interrupted, position: &mut Option<Position>, retry: &mut Retry) {
        self.interruptions.fetch_add(1, Ordering::Relaxed);
        if let Interrupted::Store(StoreError::PositionLost) = interrupted {
            warn!("the store has forgotten the changes since the index's position; loading all again");
            *position = None;
            return;
        }
        let first = retry.failed();
        match interrupted {
            Interrupted::Index(error) if first => {
                error!(%error, "the index cannot be written (is the disk of its directory full?); answers rest on what was learned before");
            }
            Interrupted::PullerPanicked => {
                error!("the task that reads the store's changes panicked; it is started again");
            }
            Interrupted::Store(error) if first => {
                warn!(%error, "the store cannot be followed; answers rest on what was learned before");
            }
            _ => {}
        }
    }

    /// Loads where that is needed, then follows until something interrupts it. `position` is kept up to date.
    async fn follow(
        &self,
        position: &mut Option<Position>,
        retry: &mut Retry,
        stop: &CancellationToken,
    ) -> Result<Infallible, Interrupted> {
        let from = match *position {
            Some(from) => from,
            None => self.load(stop).await?,
        };
        *position = Some(from);
        let mut session = Session::begin(self, from).await?;
        loop {
            let collected = session.collect(stop).await?;
            let came_to = session.apply(collected, position).await?;
            self.progress.send_modify(|progress| {
                progress.position = came_to.position;
                progress.caught_up |= came_to.caught_up;
                progress.following = true;
                progress.unwritable = false;
            });
            if retry.succeeded() {
                info!("the index follows the store again");
            }
            self.index.check()?;
            session.announce_if_due(&came_to).await?;
            if let Some(error) = came_to.error {
                return Err(error.into());
            }
        }
    }

    /// Loads all live data, and removes from the index what is not live any more.
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
            if changes.len() >= COMMIT_BATCH {
                self.apply(std::mem::take(&mut changes)).await?;
            }
        }
        changes.extend(self.index.present_but_not_in(&live).into_iter().map(Change::Removed));
        self.apply(changes).await?;
        self.index.finish()?;
        info!(data = live.len(), duration_ms = started.elapsed().as_millis() as u64, "loaded the store into the index");
        Ok(position)
    }

    /// Applies changes on a blocking thread: a commit takes processor time and waits for the disk.
    async fn apply(&self, changes: Vec<Change>) -> Result<(), IndexError> {
        if changes.is_empty() {
            return Ok(());
        }
        let index = Arc::clone(&self.index);
        tokio::task::spawn_blocking(move || index.apply(&changes)).await.unwrap_or_else(|panicked| {
            Err(IndexError(tantivy::TantivyError::SystemError(format!("applying changes: {panicked}"))))
        })
    }
}

/// Following without an interruption.
struct Session<'a> {
    follower: &'a Follower,
    /// Where the store was at the beginning: an index that has come so far has caught up. (Under a steady feed the store
    /// always has something new, so that alone would never say so.)
    goal: Position,
    puller: Puller,
    /// When the next commit is due.
    commit_due: Instant,
    announced: Instant,
}

/// Changes that are applied in one commit.
#[derive(Default)]
struct Collected {
    changes: Vec<Change>,
    position: Option<Position>,
    /// Whether the store had nothing new at some point.
    reached_the_end: bool,
    /// What ended the reading, after the changes.
    error: Option<StoreError>,
}

/// Where the index stands after a commit.
struct CameTo {
    position: Position,
    caught_up: bool,
    removed_data: bool,
    error: Option<StoreError>,
}

impl<'a> Session<'a> {
    async fn begin(follower: &'a Follower, from: Position) -> Result<Self, StoreError> {
        let changes = follower.store.follow(from).await?;
        follower.store.announce(&follower.replica, Some(from)).await?;
        let goal = follower.store.position().await?;
        let now = Instant::now();
        Ok(Self { follower, goal, puller: Puller::start(changes), commit_due: now, announced: now })
    }

    /// Takes what the store has, waiting for the first change, and for more until the next commit is due.
    async fn collect(&mut self, stop: &CancellationToken) -> Result<Collected, Interrupted> {
        let mut collected = Collected::default();
        let mut next = tokio::select! {
            () = stop.cancelled() => return Err(Interrupted::Stopped),
            batch = self.puller.next() => Some(batch?),
        };
        while let Some(batch) = next {
            collected.add(batch);
            next = if collected.changes.len() >= COMMIT_BATCH {
                None
            } else if collected.changes.is_empty() || collected.is_urgent() || self.commit_due <= Instant::now() {
                self.puller.ready()
            } else {
                match tokio::time::timeout_at(self.commit_due.into(), self.puller.next()).await {
                    Ok(batch) => Some(batch?),
                    Err(_) => None,
                }
            };
        }
        Ok(collected)
    }

    /// Applies what was collected, and then moves the position on.
    async fn apply(&mut self, collected: Collected, position: &mut Option<Position>) -> Result<CameTo, IndexError> {
        let removed_data = collected.removes_data();
        if !collected.changes.is_empty() {
            let began = Instant::now();
            self.follower.apply(collected.changes).await?;
            self.commit_due = began + (8 * began.elapsed()).clamp(SHORTEST_COMMIT_INTERVAL, LONGEST_COMMIT_INTERVAL);
        }
        *position = (*position).max(collected.position);
        let position = position.unwrap_or_default();
        let caught_up = collected.reached_the_end || position >= self.goal;
        Ok(CameTo { position, caught_up, removed_data, error: collected.error })
    }

    /// Announces the position at intervals, and at once after a removal, since a retraction waits for that.
    async fn announce_if_due(&mut self, came_to: &CameTo) -> Result<(), StoreError> {
        if came_to.removed_data || self.announced.elapsed() >= ANNOUNCE_INTERVAL {
            self.follower.store.announce(&self.follower.replica, Some(came_to.position)).await?;
            self.announced = Instant::now();
        }
        Ok(())
    }
}

impl Collected {
    fn add(&mut self, batch: Result<ChangeBatch, StoreError>) {
        match batch {
            Ok(batch) => {
                self.reached_the_end |= batch.changes.is_empty();
                self.position = self.position.max(Some(batch.position));
                self.changes.extend(batch.changes);
            }
            Err(error) => self.error = Some(error),
        }
    }

    fn removes_data(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::Removed(_)))
    }

    /// Whether the commit cannot wait for more: a retraction waits for it, or no more comes.
    fn is_urgent(&self) -> bool {
        self.error.is_some() || self.removes_data()
    }
}

/// A task that takes changes from the store while the index commits those before.
struct Puller {
    batches: mpsc::Receiver<Result<ChangeBatch, StoreError>>,
    task: JoinHandle<()>,
}

impl Puller {
    fn start(mut changes: Box<dyn Changes>) -> Self {
        let (sender, batches) = mpsc::channel(WAITING_BATCHES);
        let task = tokio::spawn(async move {
            loop {
                let batch = changes.next(PULL_BATCH).await;
                let failed = batch.is_err();
                if sender.send(batch).await.is_err() || failed {
                    break;
                }
            }
        });
        Self { batches, task }
    }

    /// The next batch. The task ends by itself only after an error, which ends the session; so where there is no next
    /// batch it has panicked.
    async fn next(&mut self) -> Result<Result<ChangeBatch, StoreError>, Interrupted> {
        self.batches.recv().await.ok_or(Interrupted::PullerPanicked)
    }

    /// The next batch, if it is there already.
    fn ready(&mut self) -> Option<Result<ChangeBatch, StoreError>> {
        self.batches.try_recv().ok()
    }
}

impl Drop for Puller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;

//! Keeps an [`Index`] in step with the store: loads all, then follows the changes, and loads again when its position is
//! lost.
//!
//! The position is taken before the scan, so a change during the scan is applied twice rather than never, and applying a
//! change twice changes nothing. The replica is announced before that, so a retraction either waits for this replica or
//! lies before the scan; and where an index is loaded again, what was removed leaves it before anything is added. So a
//! replica that answers while it loads shows nothing that is retracted: see [`fence`](super::fence).

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::announcer::Announcer;
use super::fence::Fence;
use super::puller::{PULL_BATCH, Puller, PullerPanicked};
use super::removals::Removals;
use super::{Index, IndexError, Lost};
use crate::datum::{DatumId, Timestamp};
use crate::observe::spans::Answerable;
use crate::observe::{metrics, trace};
use crate::runtime::retry::Retry;
use crate::store::{Change, ChangeBatch, Position, Store, StoreError};

/// Changes applied at once at most; while loading, at least. The fewer commits the better while nobody waits.
pub(super) const APPLY_BATCH: usize = 4 * PULL_BATCH;

/// The same in bytes of text, about: what waits in memory, and what a tombstone may have to wait for. (Some 1 to 2 s of one
/// core, measured 2026-11-27.)
pub(super) const APPLY_BYTES: usize = 16 << 20;

/// Under a steady feed, applying takes half of the time at most, since questions and learning need the same processors; but
/// no change waits for longer than this. What comes after a pause does not wait.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

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
    /// Whether an index that was kept is read and checked at present.
    pub checking: bool,
    /// How far loading has come, while the index is loaded.
    pub loading: Option<Loaded>,
}

/// How far loading has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The data that are loaded.
    pub data: u64,
    /// About how many there are.
    pub of: u64,
}

/// Follows the store into the index until it is stopped.
pub struct Follower {
    pub(super) store: Arc<dyn Store>,
    pub(super) index: Arc<Index>,
    pub(super) replica: String,
    pub(super) fence: Arc<Fence>,
    removals: Mutex<Removals>,
    pub(super) progress: watch::Sender<Progress>,
    interruptions: AtomicU64,
    /// When the index had caught up for the first time.
    caught_up_at: OnceLock<Timestamp>,
}

/// Why following was interrupted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Interrupted {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("files of the index were removed")]
    IndexLost,
    #[error("the index is ahead of the store")]
    IndexAhead,
    #[error(transparent)]
    Puller(#[from] PullerPanicked),
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
        let fence = Arc::new(Fence::new(store.is_shared()));
        let (removals, progress, interruptions) = (Mutex::default(), watch::Sender::default(), AtomicU64::new(0));
        let caught_up_at = OnceLock::new();
        Arc::new(Self { store, index, replica, fence, removals, progress, interruptions, caught_up_at })
    }

    /// This replica's name.
    #[must_use]
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// Whether this replica may answer.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// The position at which a datum was removed, or one behind it, as far as this replica's index has come: if it was
    /// removed at all. `None` if this is not among the last removals.
    #[must_use]
    pub fn removed_at(&self, id: DatumId) -> Option<Position> {
        self.removals().position_of(id)
    }

    /// A position that is behind all removals for which [`Self::removed_at`] has none.
    #[must_use]
    pub fn other_removals_at(&self) -> Position {
        self.removals().position_of_others()
    }

    fn removals(&self) -> std::sync::MutexGuard<'_, Removals> {
        self.removals.lock().unwrap_or_else(PoisonError::into_inner)
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
        // Before this replica is announced: from then on each retraction waits for it, though nothing of this is visible.
        tokio::select! {
            () = stop.cancelled() => return,
            // What could not be done is tried again.
            _ = self.open_found(&stop) => {}
        }
        let (store, fence) = (Arc::clone(&self.store), Arc::clone(&self.fence));
        let announcer = Announcer { store, fence, replica: self.replica.clone() };
        // A task of its own: the following waits for the index, and for the store in other calls.
        let announcing = tokio::spawn(announcer.run(stop.clone()));
        self.keep_following(&stop).await;
        // It catches its panics.
        let _ = announcing.await;
    }

    async fn keep_following(&self, stop: &CancellationToken) {
        let (shortest, longest) = RETRY_DELAYS;
        let mut retry = Retry::new(shortest, longest);
        let mut position = None;
        loop {
            // The store may take long to reply, and stopping does not wait for that.
            let interrupted = tokio::select! {
                Err(interrupted) = self.follow(&mut position, &mut retry, stop) => interrupted,
                () = stop.cancelled() => Interrupted::Stopped,
            };
            self.progress.send_modify(|progress| {
                progress.following = false;
                progress.unwritable =
                    matches!(interrupted, Interrupted::Index(_) | Interrupted::IndexLost | Interrupted::IndexAhead);
            });
            if matches!(interrupted, Interrupted::Stopped) {
                break;
            }
            self.begin_anew_if_lost(&interrupted, &mut position).await;
            self.note(interrupted, &mut position, &mut retry);
            if !retry.wait(stop).await {
                break;
            }
        }
    }

    /// After an index was lost, has the next round fill another, in a new directory. Until that is full the old one, whose
    /// segments are still mapped, stays as it is.
    async fn begin_anew_if_lost(&self, interrupted: &Interrupted, position: &mut Option<Position>) {
        let index = Arc::clone(&self.index);
        let is_of_no_use = !self.progress.borrow().caught_up;
        let begun = match interrupted {
            // An index that was kept, and has answered nobody yet: to load it anew is quicker than to correct it.
            Interrupted::Store(StoreError::PositionLost) if is_of_no_use => {
                let begun = tokio::task::spawn_blocking(move || index.begin_anew()).await;
                if let Ok(Err(error)) = begun {
                    error!(%error, "a new directory for the index cannot be made");
                }
                return;
            }
            // Under another name: of this one the store would go on refusing to note anything.
            Interrupted::IndexAhead => tokio::task::spawn_blocking(move || Some(index.begin_anew())).await,
            // Why a commit failed does not show in its error.
            Interrupted::Index(_) | Interrupted::IndexLost => {
                tokio::task::spawn_blocking(move || index.is_lost().then(|| index.begin_anew())).await
            }
            _ => return,
        };
        match begun {
            Ok(Some(Ok(()))) => {
                match interrupted {
                    Interrupted::IndexAhead => warn!(
                        "the store is in an older state than the index, such as that of a backup; loading all again"
                    ),
                    _ => warn!("files of the index were removed from its directory; loading all into a new one"),
                }
                *position = None;
            }
            Ok(Some(Err(error))) => error!(%error, "a new directory for the index cannot be made"),
            Ok(None) | Err(_) => {}
        }
    }

    /// Counts an interruption, and logs the first of several in a row.
    fn note(&self, interrupted: Interrupted, position: &mut Option<Position>, retry: &mut Retry) {
        self.interruptions.fetch_add(1, Ordering::Relaxed);
        metrics::FOLLOW_ERRORS.inc();
        if matches!(interrupted, Interrupted::Store(_)) {
            metrics::STORE_ERRORS.inc();
        }
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
            Interrupted::Puller(PullerPanicked) => {
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
        // Until another could be begun.
        self.check_not_ahead()?;
        let from = match *position {
            Some(from) => from,
            None => match self.adopt_kept(stop).await? {
                Some(from) => from,
                None => self.load(stop).await?,
            },
        };
        *position = Some(from);
        // Where the disk is full, say, memory would fill up as well: no more comes into it before a move has succeeded.
        if self.index.has_failed_to_move() {
            self.start_move().await.unwrap_or_else(panicked)?;
        }
        let mut session = Session::begin(self, from).await?;
        loop {
            let collected = session.collect(stop).await?;
            let came_to = session.apply(collected, position).await?;
            session.move_if_due().await?;
            if came_to.caught_up {
                self.caught_up_at.get_or_init(Timestamp::now);
            }
            self.progress.send_modify(|progress| {
                progress.position = came_to.position;
                progress.caught_up |= came_to.caught_up;
                progress.following = true;
                progress.unwritable = false;
            });
            if retry.succeeded() {
                info!("the index follows the store again");
            }
            self.fence.pass(came_to.position, came_to.removed_data);
            self.index.check()?;
            self.check_not_ahead()?;
            if let Some(error) = came_to.error {
                return Err(error.into());
            }
        }
    }

    fn check_not_ahead(&self) -> Result<(), Interrupted> {
        if self.index.is_ahead() { Err(Interrupted::IndexAhead) } else { Ok(()) }
    }

    /// Notes that nothing is visible that was removed up to a position.
    pub(super) fn begin_at(&self, position: Position) {
        self.removals().begin_at(position);
        self.fence.pass(position, true);
    }

    /// The data among changes that were accepted after the index had caught up and are not in it yet: when, and in which trace if
    /// that is sampled. Loading old data says nothing about how long new ones take.
    fn fresh(&self, changes: &[Change]) -> Vec<(Timestamp, Option<String>)> {
        let Some(&since) = self.caught_up_at.get() else { return Vec::new() };
        let puts = changes.iter().filter_map(|change| match change {
            Change::Put(datum) => Some(datum),
            Change::Removed(_) => None,
        });
        puts.filter(|datum| datum.received_at >= since && !self.index.contains(datum.id))
            .map(|datum| (datum.received_at, trace::sampled_id(datum.trace.as_deref())))
            .collect()
    }

    /// Has what is in memory moved into a segment, on a blocking thread.
    fn start_move(&self) -> JoinHandle<Result<(), IndexError>> {
        let index = Arc::clone(&self.index);
        tokio::task::spawn_blocking(move || index.move_fresh())
    }

    pub(super) async fn remove_all_but(&self, live: &HashSet<DatumId>) -> Result<(), IndexError> {
        self.apply(self.index.present_but_not_in(live).into_iter().map(Change::Removed).collect(), None).await
    }

    /// Applies changes on a blocking thread: it takes processor time, and a commit waits for the disk.
    pub(super) async fn apply(&self, changes: Vec<Change>, up_to: Option<Position>) -> Result<(), IndexError> {
        if changes.is_empty() {
            return Ok(());
        }
        let (index, fresh) = (Arc::clone(&self.index), self.fresh(&changes));
        tokio::task::spawn_blocking(move || index.apply_up_to(&changes, up_to)).await.unwrap_or_else(panicked)?;
        let now = Timestamp::now();
        for (received_at, trace_id) in fresh {
            metrics::ANSWERABLE_SECONDS.observe_of(now.since(received_at).as_secs_f64(), trace_id);
        }
        Ok(())
    }
}

/// Following without an interruption.
struct Session<'a> {
    follower: &'a Follower,
    /// Where the store was at the beginning: an index that has come so far has caught up. (Under a steady feed the store
    /// always has something new, so that alone would never say so.)
    goal: Position,
    puller: Puller,
    /// When what has come is to be applied.
    due: Instant,
    /// What moves what is in memory into a segment.
    moving: Option<JoinHandle<Result<(), IndexError>>>,
}

/// Changes that are applied at once.
#[derive(Default)]
struct Collected {
    changes: Vec<Change>,
    /// Of text, in the changes.
    bytes: usize,
    position: Option<Position>,
    /// Whether the store had nothing new at some point.
    reached_the_end: bool,
    /// What ended the reading, after the changes.
    error: Option<StoreError>,
}

/// Where the index stands after that.
struct CameTo {
    position: Position,
    caught_up: bool,
    removed_data: bool,
    error: Option<StoreError>,
}

impl<'a> Session<'a> {
    async fn begin(follower: &'a Follower, from: Position) -> Result<Self, StoreError> {
        let changes = follower.store.follow(from).await?;
        let goal = follower.store.position().await?;
        Ok(Self { follower, goal, puller: Puller::start(changes), due: Instant::now(), moving: None })
    }

    /// Takes what the store has, waiting for the first change, and for more until they are to be applied.
    async fn collect(&mut self, stop: &CancellationToken) -> Result<Collected, Interrupted> {
        let mut collected = Collected::default();
        let mut next = tokio::select! {
            () = stop.cancelled() => return Err(Interrupted::Stopped),
            batch = self.puller.next() => Some(batch?),
        };
        while let Some(batch) = next {
            collected.add(batch);
            next = if collected.changes.len() >= APPLY_BATCH || collected.bytes >= APPLY_BYTES {
                None
            } else if collected.changes.is_empty() || collected.is_urgent() || self.due <= Instant::now() {
                self.puller.ready()
            } else {
                match tokio::time::timeout_at(self.due.into(), self.puller.next()).await {
                    Ok(batch) => Some(batch?),
                    Err(_) => None,
                }
            };
        }
        Ok(collected)
    }

    /// Applies what was collected, and then moves the position on.
    async fn apply(&mut self, collected: Collected, position: &mut Option<Position>) -> Result<CameTo, IndexError> {
        let removed: Vec<DatumId> = collected.removed().collect();
        if !collected.changes.is_empty() {
            let began = Instant::now();
            let answerable = Answerable::among(&collected.changes);
            let up_to = (*position).max(collected.position);
            self.follower.apply(collected.changes, up_to).await?;
            answerable.end(&self.follower.replica);
            self.due = Instant::now() + began.elapsed().min(LONGEST_PAUSE);
        } else if collected.position > *position {
            self.follower.index.apply_up_to(&[], collected.position)?;
        }
        *position = (*position).max(collected.position);
        let position = position.unwrap_or_default();
        let removed_data = !removed.is_empty();
        self.follower.removals().note(removed.into_iter(), position);
        let caught_up = collected.reached_the_end || position >= self.goal;
        Ok(CameTo { position, caught_up, removed_data, error: collected.error })
    }

    /// Has what is in memory moved into a segment where that is due, and waits for it where there is too much already.
    async fn move_if_due(&mut self) -> Result<(), IndexError> {
        if let Some(moving) = self.moving.as_mut()
            && (moving.is_finished() || self.follower.index.is_crowded())
        {
            let moved = moving.await;
            self.moving = None;
            moved.unwrap_or_else(panicked)?;
        }
        if self.moving.is_none() {
            if self.follower.index.move_is_due() {
                self.moving = Some(self.follower.start_move());
            } else if self.follower.index.stamp_is_due() {
                let index = Arc::clone(&self.follower.index);
                self.moving = Some(tokio::task::spawn_blocking(move || index.stamp()));
            }
        }
        Ok(())
    }
}

/// What a panic said may quote what was fed; the log has the place.
pub(super) fn panicked<T>(_: JoinError) -> Result<T, IndexError> {
    Err(IndexError(tantivy::TantivyError::SystemError("changing the index panicked".to_owned())))
}

impl Collected {
    fn add(&mut self, batch: Result<ChangeBatch, StoreError>) {
        match batch {
            Ok(batch) => {
                self.reached_the_end |= batch.changes.is_empty();
                self.position = self.position.max(Some(batch.position));
                self.bytes += batch.changes.iter().map(Change::text_bytes).sum::<usize>();
                self.changes.extend(batch.changes);
            }
            Err(error) => self.error = Some(error),
        }
    }

    fn removed(&self) -> impl Iterator<Item = DatumId> {
        self.changes.iter().filter_map(|change| match change {
            Change::Removed(id) => Some(*id),
            Change::Put(_) => None,
        })
    }

    /// Whether they cannot wait for more: a retraction waits for it, or no more comes.
    fn is_urgent(&self) -> bool {
        self.error.is_some() || self.removed().next().is_some()
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;

//! Where a datum stands, and taking it back.
//!
//! The queue is asked before the store: a job leaves the queue only after its datum is in the store, so a datum that moves
//! from one to the other meanwhile is not missed.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::datum::{DatumId, Timestamp};
use crate::index::Index;
use crate::index::follow::Follower;
use crate::observe::metrics;
use crate::observe::spans::{self, Call};
use crate::queue::{JobState, Ledger, QueueAdmin, QueueError};
use crate::runtime::retry::Retry;
use crate::store::{Retraction, Store, StoreEntry, StoreError};

/// How long to wait before the store is asked again which replicas have not passed a tombstone yet: at first, and after
/// that has doubled. Asking costs the store as much as a write.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const LONGEST_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How long this replica may take to pass a tombstone before it counts as one that has not.
const PASS_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the ledger is compared with the store.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(2);

/// How long it waits at most, about, after counting in the store has failed: a count that takes too long is not begun again
/// and again.
const LONGEST_RECONCILE_INTERVAL: Duration = Duration::from_secs(60);

/// Where a datum stands, in the contract's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DatumState {
    /// Accepted, and no answer rests on it yet.
    Queued,
    /// Learned: answers may rest on it.
    Processed,
    /// In the dead letters; or it was learned, and what is stored of it cannot be read any more.
    Failed,
    /// Taken back.
    Retracted,
}

/// What is known of a datum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatumStatus {
    /// Where it stands.
    pub state: DatumState,
    /// When it was accepted, where that is known.
    pub received_at: Option<Timestamp>,
    /// When it was processed, once it was.
    pub processed_at: Option<Timestamp>,
    /// How many passages were made of it.
    pub passages: usize,
    /// Once it is retracted: how many replicas may still answer with it.
    pub visible_to: Option<usize>,
}

/// A backend that could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a retraction came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retracted {
    /// No answer of any replica rests on the datum any more.
    Everywhere,
    /// It is taken back for good, but these replicas have not announced in time that they have applied that.
    PendingOn(Vec<String>),
}

/// Tells where single data and all of them stand, and takes data back.
#[derive(Clone)]
pub struct Registry {
    /// The queue.
    pub queue: Arc<dyn QueueAdmin>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// This replica's index.
    pub index: Arc<Index>,
    /// What keeps that index in step with the store.
    pub follower: Arc<Follower>,
}

/// What was found when the ledger was compared with the store before.
struct Comparison {
    /// The ledger, and how many data the index held.
    pair: Option<(Ledger, u64)>,
    /// Those with which the store was counted last.
    counted: Option<(Ledger, u64)>,
    /// How many retractions the ledger knew; `None` before the store was counted once, since they are compared then.
    retracted: Option<u64>,
    /// After counting has failed.
    retry: Retry,
}

impl Comparison {
    fn none() -> Self {
        let retry = Retry::new(RECONCILE_INTERVAL, LONGEST_RECONCILE_INTERVAL);
        Self { pair: None, counted: None, retracted: None, retry }
    }
}

impl Registry {
    /// Where a datum stands; `None` when it was never accepted.
    ///
    /// Processed means that this replica answers with it: one that is stored and not indexed yet is still on its way.
    ///
    /// # Errors
    /// When the queue or the store is out of reach.
    pub async fn status(&self, id: DatumId) -> Result<Option<DatumStatus>, StatusError> {
        let job = Call::JOB_STATE.of(None, self.queue.job_state(id)).await?;
        let entry = Call::FIND.of(None, self.store.get(id)).await?;
        let created_at = id.created_at();
        Ok(match (entry, job) {
            (Some(StoreEntry::Tombstone { received_at, .. }), _) => Some(DatumStatus {
                state: DatumState::Retracted,
                received_at: received_at.or(created_at),
                processed_at: None,
                passages: 0,
                visible_to: Some(self.visible_to(id).await?),
            }),
            (Some(StoreEntry::Live(datum)), _) => {
                let visible = self.index.contains(id);
                Some(DatumStatus {
                    state: if visible { DatumState::Processed } else { DatumState::Queued },
                    received_at: Some(datum.received_at),
                    processed_at: visible.then_some(datum.processed_at),
                    passages: datum.passages.len(),
                    visible_to: None,
                })
            }
            (Some(StoreEntry::Unreadable { .. }), _) => Some(DatumStatus {
                state: DatumState::Failed,
                received_at: created_at,
                processed_at: None,
                passages: 0,
                visible_to: None,
            }),
            (None, Some(job_state)) => Some(DatumStatus {
                state: if job_state == JobState::Dead { DatumState::Failed } else { DatumState::Queued },
                received_at: created_at,
                processed_at: None,
                passages: 0,
                visible_to: None,
            }),
            (None, None) => None,
        })
    }

    /// How many replicas may still answer with a retracted datum. Its tombstone does not say where it lies among the changes;
    /// this replica knows that of those that it has passed.
    async fn visible_to(&self, id: DatumId) -> Result<usize, StoreError> {
        let position = match self.follower.removed_at(id) {
            Some(position) => position,
            None => {
                let now = self.store.position().await?;
                let mut progress = self.follower.progress();
                match timeout(PASS_TIMEOUT, progress.wait_for(|progress| progress.position >= now)).await {
                    Ok(_) => self.follower.removed_at(id).unwrap_or_else(|| self.follower.other_removals_at()),
                    Err(_) => now,
                }
            }
        };
        Ok(self.store.replicas_behind(position).await?.len())
    }

    /// Takes a datum back, and waits up to `retract_timeout` until every replica that may answer has applied that; `None` when it
    /// was never accepted.
    ///
    /// # Errors
    /// When the queue or the store is out of reach; it may be retracted all the same, and can be retracted again.
    pub async fn retract(&self, id: DatumId, retract_timeout: Duration) -> Result<Option<Retracted>, StatusError> {
        if Call::JOB_STATE.of(None, self.queue.job_state(id)).await?.is_none()
            && Call::FIND.of(None, self.store.get(id)).await?.is_none()
        {
            return Ok(None);
        }
        self.retract_known(id, retract_timeout).await.map(Some)
    }

    /// Drops a dead letter: takes its datum back, as [`retract`](Self::retract) does; `None` when there is no dead letter with
    /// this id.
    ///
    /// # Errors
    /// As for [`retract`](Self::retract).
    pub async fn drop_dead(&self, id: DatumId, retract_timeout: Duration) -> Result<Option<Retracted>, StatusError> {
        if Call::JOB_STATE.of(None, self.queue.job_state(id)).await? != Some(JobState::Dead) {
            return Ok(None);
        }
        self.retract_known(id, retract_timeout).await.map(Some)
    }

    /// The tombstone first, so that the store refuses a job that comes back later.
    async fn retract_known(&self, id: DatumId, retract_timeout: Duration) -> Result<Retracted, StatusError> {
        let before = Call::REPLACE.of(None, self.store.retract(id)).await?;
        Call::RETRACT_JOB.of(None, self.queue.retract(id, before == Retraction::WasLive)).await?;
        spans::within(spans::inside("wait for replicas"), self.until_passed(id, retract_timeout)).await
    }

    /// Waits until every replica that may answer has applied a retraction.
    async fn until_passed(&self, id: DatumId, retract_timeout: Duration) -> Result<Retracted, StatusError> {
        // Every change up to the tombstone is at this position or before it.
        let position = self.store.position().await?;
        let deadline = Instant::now() + retract_timeout;
        let mut progress = self.follower.progress();
        let own = progress.wait_for(|p| p.position >= position || !self.index.contains(id));
        // Where this replica itself is late, the loop below finds that.
        let _ = timeout_at(deadline, own).await;
        let mut interval = POLL_INTERVAL;
        loop {
            let mut behind = self.store.replicas_behind(position).await?;
            if self.index.contains(id) {
                behind.push("this one".to_owned());
            }
            if behind.is_empty() {
                return Ok(Retracted::Everywhere);
            }
            if Instant::now() >= deadline {
                return Ok(Retracted::PendingOn(behind));
            }
            sleep(interval).await;
            interval = (2 * interval).min(LONGEST_POLL_INTERVAL);
        }
    }

    /// The ledger as this replica's answers show it: `learned` counts what its index holds, and what is stored but not in
    /// its index yet counts as `processing`. What is stored and cannot be read counts as `dead`.
    ///
    /// # Errors
    /// When the queue is out of reach.
    pub async fn ledger(&self) -> Result<Ledger, QueueError> {
        Ok(self.as_shown(self.queue.ledger().await?))
    }

    /// The queue's ledger as this replica's answers show it.
    pub(crate) fn as_shown(&self, mut ledger: Ledger) -> Ledger {
        let not_indexed = ledger.learned.saturating_sub(self.index.snapshot().learned);
        let unreadable = self.store.unreadable().min(not_indexed);
        ledger.learned -= not_indexed;
        ledger.processing += not_indexed - unreadable;
        ledger.dead += unreadable;
        ledger
    }

    /// Brings the ledger in line with the store where that holds what the queue never saw, such as the original
    /// application's documents. That can be told from work in progress only while nothing is unfinished.
    async fn reconcile(&self, last: &mut Comparison) -> Result<(), StatusError> {
        let seen = self.queue.ledger().await?;
        if !seen.is_quiet() {
            return Ok(());
        }
        let pair = (seen, self.index.snapshot().learned);
        // The index knows the number of live data. It does not know that of tombstones, but the ledger's grows, unless the
        // queue came back without it.
        let learned_differ = pair.0.learned != pair.1 + self.store.unreadable();
        let lacks_retractions = last.retracted.is_none_or(|retracted| seen.retracted < retracted);
        if !learned_differ && !lacks_retractions {
            last.retracted = Some(seen.retracted);
            return Ok(());
        }
        // Counting in the store is dear. So it is done for a difference that lasts, since the index may be a moment
        // behind, and once for each.
        if last.counted == Some(pair) || (last.pair.replace(pair) != Some(pair) && learned_differ) {
            return Ok(());
        }
        let counts = self.store.counts().await?;
        last.retry.succeeded();
        last.counted = Some(pair);
        if (counts.learned, counts.retracted) == (seen.learned, seen.retracted) {
            last.retracted = Some(seen.retracted);
            return Ok(());
        }
        if self.queue.reconcile(&seen, counts.learned, counts.retracted).await? {
            last.retracted = Some(counts.retracted);
            tracing::info!(
                learned = counts.learned,
                retracted = counts.retracted,
                "reconciled the ledger with the store"
            );
        }
        Ok(())
    }

    /// Reconciles at intervals, once the index has caught up, until it is stopped.
    pub async fn keep_reconciled(self, stop: CancellationToken) {
        let mut progress = self.follower.progress();
        tokio::select! {
            () = stop.cancelled() => return,
            _ = progress.wait_for(|progress| progress.caught_up) => {}
        }
        let mut last = Comparison::none();
        loop {
            let reconciled = tokio::select! {
                () = stop.cancelled() => return,
                reconciled = self.reconcile(&mut last) => reconciled,
            };
            if let Err(error) = &reconciled {
                match error {
                    StatusError::Queue(_) => metrics::QUEUE_ERRORS.inc(),
                    StatusError::Store(_) => metrics::STORE_ERRORS.inc(),
                };
                tracing::debug!(%error, "the ledger cannot be reconciled at present");
            }
            if let Err(StatusError::Store(_)) = reconciled {
                last.retry.failed();
                if !last.retry.wait(&stop).await {
                    return;
                }
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(RECONCILE_INTERVAL) => {}
            }
        }
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;

//! Where a datum stands, and taking it back.
//!
//! The queue is asked before the store: a job leaves the queue only after its datum is in the store, so none is missed
//! in between.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep, timeout_at};

use crate::datum::{DatumId, Timestamp};
use crate::index::Index;
use crate::index::follow::Follower;
use crate::queue::{JobState, Ledger, QueueAdmin, QueueError};
use crate::store::{Record, Retraction, Store, StoreError};

/// How often other replicas are asked whether they have passed a tombstone.
const LOOK: Duration = Duration::from_millis(10);

/// How often it is looked whether the ledger has to be reconciled.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(2);

/// Where a datum stands, in the contract's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DatumState {
    /// Accepted, and not to be answered with yet.
    Queued,
    /// Learned: answers may rest on it.
    Processed,
    /// In the dead letters.
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
}

/// Where the queue or the store could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The queue could not.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a retraction came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retracted {
    /// No reply of any live replica rests on the datum any more.
    Everywhere,
    /// It is taken back for good, but these replicas have not said in time that they have seen it.
    NotYetBy(Vec<String>),
}

/// Answers for single data and for all of them together.
#[derive(Clone)]
pub struct Registry {
    /// The queue.
    pub queue: Arc<dyn QueueAdmin>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// This replica's index.
    pub index: Arc<Index>,
    /// What keeps it.
    pub follower: Arc<Follower>,
}

impl Registry {
    /// Where a datum stands; `None` when it was never accepted.
    ///
    /// Processed means that this replica answers with it: one that is stored and not indexed yet is still on its way.
    ///
    /// # Errors
    /// When the queue or the store is out of reach.
    pub async fn status(&self, id: DatumId) -> Result<Option<DatumStatus>, StatusError> {
        let job = self.queue.job_state(id).await?;
        let record = self.store.get(id).await?;
        let created_at = id.created_at();
        Ok(match (record, job) {
            (Some(Record::Tombstone { received_at, .. }), _) => Some(DatumStatus {
                state: DatumState::Retracted,
                received_at: received_at.or(created_at),
                processed_at: None,
                passages: 0,
            }),
            (Some(Record::Live(datum)), _) => {
                let visible = self.index.contains(id);
                Some(DatumStatus {
                    state: if visible { DatumState::Processed } else { DatumState::Queued },
                    received_at: Some(datum.received_at),
                    processed_at: visible.then_some(datum.processed_at),
                    passages: datum.passages.len(),
                })
            }
            (None, Some(job_state)) => Some(DatumStatus {
                state: if job_state == JobState::Dead { DatumState::Failed } else { DatumState::Queued },
                received_at: created_at,
                processed_at: None,
                passages: 0,
            }),
            (None, None) => None,
        })
    }

    /// Takes a datum back, and waits up to `patience` until every live replica has seen it; `None` when it was never
    /// accepted.
    ///
    /// # Errors
    /// When the queue or the store is out of reach; it may be retracted all the same, and can be retracted again.
    pub async fn retract(&self, id: DatumId, patience: Duration) -> Result<Option<Retracted>, StatusError> {
        if self.queue.job_state(id).await?.is_none() && self.store.get(id).await?.is_none() {
            return Ok(None);
        }
        let before = self.store.retract(id).await?;
        self.queue.retract(id, before == Retraction::WasLive).await?;
        // Every change up to the tombstone is at this position or before it.
        let position = self.store.position().await?;
        let deadline = Instant::now() + patience;
        let mut progress = self.follower.progress();
        let own = progress.wait_for(|p| p.position >= position || !self.index.contains(id));
        // Where this replica is late itself, the loop below says so.
        let _ = timeout_at(deadline, own).await;
        loop {
            let mut behind = self.store.replicas_behind(position).await?;
            if self.index.contains(id) {
                behind.push("this one".to_owned());
            }
            if behind.is_empty() {
                return Ok(Some(Retracted::Everywhere));
            }
            if Instant::now() >= deadline {
                return Ok(Some(Retracted::NotYetBy(behind)));
            }
            sleep(LOOK).await;
        }
    }

    /// The ledger as this replica can vouch for it: learned is what its answers can rest on, and what is stored but not
    /// in its index yet is still being processed.
    ///
    /// # Errors
    /// When the queue is out of reach.
    pub async fn ledger(&self) -> Result<Ledger, QueueError> {
        let mut ledger = self.queue.ledger().await?;
        let unseen = ledger.learned.saturating_sub(self.index.snapshot().learned);
        ledger.learned -= unseen;
        ledger.processing += unseen;
        Ok(ledger)
    }

    /// Brings the ledger in line with the store where that holds what the queue never saw, such as the original
    /// application's documents. Only while nothing is under way can that be told from work in progress.
    ///
    /// # Errors
    /// When the queue or the store is out of reach.
    pub async fn reconcile(&self) -> Result<(), StatusError> {
        let seen = self.queue.ledger().await?;
        // The index knows the store's live data; counting in the store is for when they differ.
        if !seen.is_quiet() || seen.learned == self.index.snapshot().learned {
            return Ok(());
        }
        let counts = self.store.counts().await?;
        if (counts.learned, counts.retracted) == (seen.learned, seen.retracted) {
            return Ok(());
        }
        if self.queue.reconcile(&seen, counts.learned, counts.retracted).await? {
            tracing::info!(
                learned = counts.learned,
                retracted = counts.retracted,
                "reconciled the ledger with the store"
            );
        }
        Ok(())
    }

    /// Reconciles now and then, for as long as the task is kept.
    pub async fn keep_reconciled(self) {
        let mut progress = self.follower.progress();
        loop {
            if progress.wait_for(|p| p.caught_up).await.is_err() {
                return;
            }
            if let Err(error) = self.reconcile().await {
                tracing::debug!(%error, "the ledger could not be reconciled");
            }
            sleep(RECONCILE_INTERVAL).await;
        }
    }
}

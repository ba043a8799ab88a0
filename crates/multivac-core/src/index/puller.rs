//! Reads the store's changes ahead of the index.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::store::{ChangeBatch, Changes, StoreError};

/// Changes taken from the store in one step.
pub(super) const PULL_BATCH: usize = 5_000;

/// Batches of changes that wait for the index, so that the store is read while the index commits.
const WAITING_BATCHES: usize = 8;

/// The task that reads the changes is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the task that reads the store's changes panicked")]
pub(super) struct PullerPanicked;

/// A task that takes changes from the store while the index commits those before.
pub(super) struct Puller {
    batches: mpsc::Receiver<Result<ChangeBatch, StoreError>>,
    task: JoinHandle<()>,
}

impl Puller {
    /// Starts reading.
    pub(super) fn start(mut changes: Box<dyn Changes>) -> Self {
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
    pub(super) async fn next(&mut self) -> Result<Result<ChangeBatch, StoreError>, PullerPanicked> {
        self.batches.recv().await.ok_or(PullerPanicked)
    }

    /// The next batch, if it is there already.
    pub(super) fn ready(&mut self) -> Option<Result<ChangeBatch, StoreError>> {
        self.batches.try_recv().ok()
    }
}

impl Drop for Puller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

//! The port: [`Queue`] and [`QueueAdmin`] as steps of the writer and as reads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::columns::to_column;
use super::damage::Table;
use super::database::Database;
use super::lease::Undelivered;
use super::writer::{WriteContext, WriterHandle};
use super::{accept, dead_letters, lease, ledger, rows};
use crate::datum::DatumId;
use crate::observe::metrics;
use crate::queue::{
    Acceptance, DeadLetter, DeadLetterPlace, DeadLetterSummary, Durability, Failure, JobState, Lease, Ledger, Outcome,
    Partition, Queue, QueueAdmin, QueueConsumer, QueueError, QueueSettings, Submission,
};

pub(super) struct EmbeddedQueue {
    database: Arc<Database>,
    settings: QueueSettings,
    leasing: Leasing,
}

/// Whether somebody waits for jobs, and when somebody last did: a consumer of this queue is a part of this process.
#[derive(Default)]
struct Leasing {
    waiting: AtomicUsize,
    ended_at: Mutex<Option<Instant>>,
}

impl Leasing {
    fn begin(&self) -> LeaseCall<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        LeaseCall(self)
    }

    /// `None` before the first.
    fn idle(&self) -> Option<Duration> {
        let ended_at = *self.ended_at.lock().unwrap_or_else(PoisonError::into_inner);
        if self.waiting.load(Ordering::Relaxed) > 0 { Some(Duration::ZERO) } else { ended_at.map(|at| at.elapsed()) }
    }
}

/// A call that is under way; it ends when this is dropped.
struct LeaseCall<'a>(&'a Leasing);

impl Drop for LeaseCall<'_> {
    fn drop(&mut self) {
        *self.0.ended_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl EmbeddedQueue {
    pub(super) fn new(database: Arc<Database>, settings: QueueSettings) -> Self {
        Self { database, settings, leasing: Leasing::default() }
    }

    pub(super) fn writer(&self) -> &WriterHandle {
        self.database.writer.handle()
    }
}

#[async_trait]
impl Queue for EmbeddedQueue {
    async fn accept(&self, submissions: &[Submission]) -> Result<Vec<Acceptance>, QueueError> {
        let size_bytes = submissions.iter().map(|submission| submission.job.datum.as_str().len()).sum();
        let submissions = submissions.to_vec();
        let settings = self.settings.clone();
        Ok(self.writer().write(size_bytes, move |context| accept::accept(context, &submissions, &settings)).await?)
    }

    fn durability(&self) -> Durability {
        // `synchronous=FULL`: every commit waits for the disk.
        Durability::Fsync
    }

    async fn lease(&self, max: usize, wait: Duration) -> Result<Vec<Lease>, QueueError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let _call = self.leasing.begin();
        let mut jobs_changed = self.writer().watch_jobs();
        loop {
            // Marked as seen before the step runs: a job that comes after the step then ends the wait at once.
            jobs_changed.borrow_and_update();
            let (writer, settings, damage) =
                (self.writer().clone(), self.settings.clone(), self.database.damage.clone());
            let step = move |context: &WriteContext<'_>| {
                let (leases, due_in) = lease::lease(context, max, &settings, &damage)?;
                Ok((Undelivered { leases, writer }, due_in))
            };
            let (undelivered, due_in) = self.writer().write(0, step).await.inspect_err(|error| {
                if let Some(error) = error.damaged_page() {
                    self.database.damage.note_page(Table::Job, error);
                }
            })?;
            let leases = undelivered.deliver();
            let left = wait.saturating_sub(started.elapsed());
            if !leases.is_empty() || left.is_zero() {
                return Ok(leases);
            }
            let until_due = due_in.map_or(left, |due_in| due_in.min(left));
            // Whether a job came or the time is over, the next step finds out.
            let _ = tokio::time::timeout(until_due, jobs_changed.changed()).await;
        }
    }

    async fn extend(&self, leases: &[Lease]) -> Result<(), QueueError> {
        let leases = leases.to_vec();
        let lease_ms = to_column(self.settings.lease.as_millis());
        Ok(self.writer().write(0, move |context| lease::extend(context, &leases, lease_ms)).await?)
    }

    async fn complete(&self, finished: &[(Lease, Outcome)]) -> Result<(), QueueError> {
        let finished: Vec<_> = finished.iter().map(|(lease, outcome)| (lease.job.id, *outcome)).collect();
        Ok(self.writer().write(0, move |context| lease::complete(context.connection, &finished)).await?)
    }

    async fn fail(&self, lease: &Lease, error: &str, retry_after: Duration) -> Result<Failure, QueueError> {
        let (lease, error) = (lease.clone(), error.to_owned());
        let retry_ms = to_column(retry_after.min(self.settings.lease).as_millis());
        let max_attempts = self.settings.max_attempts;
        let step = move |context: &WriteContext<'_>| lease::fail(context, &lease, &error, retry_ms, max_attempts);
        Ok(self.writer().write(0, step).await?)
    }

    async fn release(&self, leases: &[Lease]) -> Result<(), QueueError> {
        let leases = leases.to_vec();
        Ok(self.writer().write(0, move |context| lease::release(context, &leases)).await?)
    }

    async fn job_state(&self, id: DatumId) -> Result<Option<JobState>, QueueError> {
        Ok(self.database.readers.read(move |connection| rows::job_state(connection, id)).await?)
    }

    async fn retract(&self, id: DatumId, was_learned: bool) -> Result<(), QueueError> {
        Ok(self.writer().write(0, move |context| ledger::retract(context.connection, id, was_learned)).await?)
    }

    async fn ledger(&self) -> Result<Ledger, QueueError> {
        Ok(self.database.readers.read(ledger::ledger).await?)
    }

    async fn partitions(&self) -> Result<Vec<Partition>, QueueError> {
        Ok(vec![self.database.readers.read(ledger::partition).await?])
    }
}

#[async_trait]
impl QueueAdmin for EmbeddedQueue {
    async fn prepare(&self) -> Result<Vec<String>, QueueError> {
        if self.settings.durability == Durability::Replicated {
            return Err(QueueError::Misconfigured(
                "durability replicated needs REDIS_URL and MONGO_URL: the embedded queue has no replica".to_owned(),
            ));
        }
        // Opening has prepared everything else; what is left to check is whether the file can be read.
        self.ledger().await.map(|_| Vec::new())
    }

    async fn consumers(&self) -> Result<Vec<QueueConsumer>, QueueError> {
        let consumer =
            |idle| QueueConsumer { name: "embedded".to_owned(), version: Some(metrics::version().to_owned()), idle };
        Ok(self.leasing.idle().map(consumer).into_iter().collect())
    }

    async fn reconcile(&self, seen: &Ledger, learned: u64, retracted: u64) -> Result<bool, QueueError> {
        let seen = *seen;
        Ok(self
            .writer()
            .write(0, move |context| ledger::reconcile(context.connection, seen, learned, retracted))
            .await?)
    }

    async fn dead_letters(
        &self,
        after: Option<DeadLetterPlace>,
        max: usize,
    ) -> Result<Vec<DeadLetterSummary>, QueueError> {
        let after = after.and_then(|DeadLetterPlace(id)| id.parse().ok());
        Ok(self.database.readers.read(move |connection| dead_letters::dead_letters(connection, after, max)).await?)
    }

    async fn dead_letter_place(&self, id: DatumId) -> Result<Option<DeadLetterPlace>, QueueError> {
        Ok(Some(dead_letters::place(id)))
    }

    async fn dead_letter(&self, id: DatumId) -> Result<Option<DeadLetter>, QueueError> {
        Ok(self.database.readers.read(move |connection| dead_letters::dead_letter(connection, id)).await?)
    }

    async fn retry_dead(&self, id: DatumId) -> Result<bool, QueueError> {
        Ok(self.writer().write(0, move |context| dead_letters::retry_dead(context, id)).await?)
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

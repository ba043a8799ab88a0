//! Link 3, the consumer loop: lease, process, put, complete. Run by the worker, and by the api when it is embedded.
//!
//! - Data are stored before they are completed, so a crash repeats work and loses none.
//! - A store that is out of reach fails no attempt: the loop keeps its leases, leases no more, and tries again. Only a
//!   datum that cannot be processed, or that the store refuses for itself, fails. A datum that the store cannot take now,
//!   for whatever reason, holds up its loop, but no other datum of its batch.
//! - The text under way is bounded, over all loops: one leases only what there is room for. What a batch needs beside its
//!   text is bounded too, since it is processed and stored a part at a time.
//! - A datum that makes processing panic, or takes longer than the limit, fails its attempt and holds up no other.
//! - A loop that is stopped finishes its batch, or releases it.
//!
//! The loops are tasks of the runtime that runs them, which both programs give one thread: they mostly wait for servers.
//! Processing takes processor time and has threads of its own, one for each batch under way.

mod processing;
mod room;

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::datum::{DatumId, Timestamp};
use crate::observe::metrics::{self, Held};
use crate::observe::spans::{self, Call};
use crate::observe::trace;
use crate::queue::{Failure, Job, LEASE_MAX_BYTES, Lease, Outcome, Queue, QueueError};
use crate::runtime::retry::Retry;
use crate::runtime::supervise::TaskEnded;
use crate::store::{Put, Store, StoreEntry, StoredDatum};
use processing::{Processed, ProcessingThread};
use room::{keep_room_for, kib, parts};

/// Jobs leased at once, at most.
const BATCH_SIZE: usize = 1_000;

/// How long one call waits for jobs; stopping may take as long.
const LEASE_WAIT: Duration = Duration::from_secs(1);

/// Under a steady feed, the time from one batch to the next: a batch has its price however small it is. The first datum
/// after a pause does not wait, and no backlog does.
const BATCH_INTERVAL: Duration = Duration::from_millis(20);

/// The waits before a backend that is out of reach is tried again; jitter comes on top.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// The longest error kept with a dead letter, in bytes.
const MAX_ERROR_BYTES: usize = 1_024;

/// Makes what the store keeps out of what the queue held.
pub type Process = fn(&Job, Timestamp) -> StoredDatum;

/// Learns what a queue holds.
#[derive(Clone)]
pub struct Consumer {
    /// Where jobs come from.
    pub queue: Arc<dyn Queue>,
    /// Where data go.
    pub store: Arc<dyn Store>,
    /// The queue's lease time; leases are extended at a third of it.
    pub lease: Duration,
    /// Consumer loops, so batches under way at once.
    pub concurrency: usize,
    /// The text of all batches under way, in bytes. At least [`LEASE_MAX_BYTES`] is taken.
    pub max_bytes_under_way: usize,
    /// What is done with each job: [`process`](crate::process::process). Tests put one in its place that fails.
    pub process: Process,
    /// How long processing one datum may take before its attempt has failed.
    pub process_timeout: Duration,
}

/// Why an attempt failed.
///
/// The log gets `reason` alone: `error`, which the dead letter keeps, can quote the text that was fed, as panics do.
struct AttemptFailure {
    reason: &'static str,
    error: String,
}

fn retry() -> Retry {
    let (shortest, longest) = RETRY_DELAYS;
    Retry::new(shortest, longest)
}

/// Counts a failed call of the queue.
fn count(error: QueueError) -> QueueError {
    metrics::QUEUE_ERRORS.inc();
    error
}

impl Consumer {
    /// Runs until it is stopped, and then until what it has leased is finished or released.
    ///
    /// # Errors
    /// [`TaskEnded`] when one of its loops panics. The others are stopped first; the leases of the one that panicked pass
    /// to other consumers when they run out.
    pub async fn run(self, stop: CancellationToken) -> Result<(), TaskEnded> {
        let stop = stop.child_token();
        let mut loops = JoinSet::new();
        let _counted = Held::new(&metrics::LOOPS, self.concurrency.max(1));
        let room = Arc::new(Semaphore::new(kib(self.max_bytes_under_way.max(LEASE_MAX_BYTES)) as usize));
        for _ in 0..self.concurrency.max(1) {
            loops.spawn(self.clone().run_loop(Arc::clone(&room), stop.clone()));
        }
        let mut result = Ok(());
        while let Some(ended) = loops.join_next().await {
            // The panic hook has logged where and why.
            if ended.is_err() {
                result = Err(TaskEnded { task: "a consumer loop", how: "panicked" });
                stop.cancel();
            }
        }
        result
    }

    async fn run_loop(self, room: Arc<Semaphore>, stop: CancellationToken) {
        let mut retry = retry();
        while !stop.is_cancelled() {
            // Room for all that one call may bring, since how much it is shows only then.
            let mut held = tokio::select! {
                () = stop.cancelled() => break,
                held = Arc::clone(&room).acquire_many_owned(kib(LEASE_MAX_BYTES)) => held.expect("it is never closed"),
            };
            // Not cancelled by `stop`: jobs that were leased and not received would wait until their leases run out.
            match self.queue.lease(BATCH_SIZE, LEASE_WAIT).await.map_err(count) {
                Ok(leases) => {
                    if retry.succeeded() {
                        info!("the queue is back");
                    }
                    if leases.is_empty() {
                        continue;
                    }
                    keep_room_for(&mut held, &leases);
                    // Jobs that come again may come in small batches.
                    let is_backlog = leases.len() == BATCH_SIZE || leases.iter().any(|lease| lease.attempt > 1);
                    let next = Instant::now() + BATCH_INTERVAL;
                    metrics::BATCH_DATA.observe(leases.len() as f64);
                    let busy = (Held::new(&metrics::LOOPS_BUSY, 1), Held::new(&metrics::LEASES, leases.len()));
                    spans::within(spans::batch(&leases), self.learn(leases, &stop)).await;
                    drop(busy);
                    if !is_backlog {
                        tokio::select! {
                            () = sleep_until(next) => {}
                            () = stop.cancelled() => {}
                        }
                    }
                }
                Err(error) => {
                    if retry.failed() {
                        warn!(%error, "no jobs can be leased; trying again");
                    } else {
                        debug!(%error, "no jobs can be leased yet");
                    }
                    retry.wait(&stop).await;
                }
            }
        }
    }

    /// Does all that is due with one batch, and keeps its leases alive meanwhile.
    async fn learn(&self, leases: Vec<Lease>, stop: &CancellationToken) {
        let extending = self.extending(&leases);
        tokio::pin!(extending);
        tokio::select! {
            () = self.store_and_complete(leases.clone(), stop) => {}
            () = &mut extending => {}
        }
    }

    /// Keeps leases alive for as long as the batch takes; never ends by itself.
    async fn extending(&self, leases: &[Lease]) {
        let period = self.lease / 3;
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = Call::EXTEND.of(Some(leases.len()), self.queue.extend(leases)).await.map_err(count) {
                warn!(%error, jobs = leases.len(), "leases could not be extended; others may take the jobs over");
            }
        }
    }

    async fn store_and_complete(&self, leases: Vec<Lease>, stop: &CancellationToken) {
        let (exhausted, leases): (Vec<Lease>, Vec<Lease>) = leases.into_iter().partition(|lease| lease.exhausted);
        self.resolve_exhausted(exhausted, stop).await;
        for part in parts(&leases) {
            if stop.is_cancelled() {
                self.release(part).await;
            } else {
                self.learn_part(part, stop).await;
            }
        }
    }

    async fn learn_part(&self, leases: &[Lease], stop: &CancellationToken) {
        let processed = match self.process_all(leases).await {
            Ok(processed) => processed,
            Err(error) => {
                // The system has no thread to spare, which fails no attempt.
                warn!(%error, jobs = leases.len(), "data cannot be processed now; they are released");
                self.release(leases).await;
                retry().wait(stop).await;
                return;
            }
        };
        let mut good: Vec<Lease> = Vec::with_capacity(leases.len());
        let mut data: Vec<StoredDatum> = Vec::with_capacity(leases.len());
        for (lease, processed) in leases.iter().zip(processed) {
            match processed {
                Ok(datum) => {
                    good.push(lease.clone());
                    data.push(datum);
                }
                Err(failure) => self.fail(lease, failure).await,
            }
        }
        self.put(good, data, stop).await;
    }

    /// Puts data until the store has them or refuses them, and then completes their jobs; releases those that are left when
    /// it is stopped.
    async fn put(&self, mut leases: Vec<Lease>, mut data: Vec<StoredDatum>, stop: &CancellationToken) {
        let mut tries = StoreTries::new();
        while !data.is_empty() {
            let began = SystemTime::now();
            match Call::INSERT.of(Some(data.len()), self.store.put(&data)).await {
                Ok(puts) => {
                    spans::stored(&data, &puts, began);
                    let (mut finished, mut waiting) = (Vec::with_capacity(leases.len()), Vec::new());
                    let mut reason = None;
                    for ((lease, datum), put) in leases.into_iter().zip(data).zip(puts) {
                        match put {
                            Put::Stored => finished.push((lease, Outcome::Learned)),
                            Put::Retracted => finished.push((lease, Outcome::Retracted)),
                            Put::Refused(error) => {
                                self.fail(&lease, AttemptFailure { reason: "refused by the store", error }).await;
                            }
                            Put::Unavailable(error) => {
                                reason = Some(error);
                                waiting.push((lease, datum));
                            }
                        }
                    }
                    self.complete(&finished, stop).await;
                    (leases, data) = waiting.into_iter().unzip();
                    match reason {
                        Some(error) => tries.failed(&error, data.len()),
                        None => tries.succeeded(),
                    }
                }
                Err(error) => tries.failed(&error, data.len()),
            }
            if !data.is_empty() && !tries.wait(stop).await {
                return self.release(&leases).await;
            }
        }
    }

    /// Processes jobs in their order, and says what came of each.
    ///
    /// A thread cannot be stopped from outside. So one that takes too long is left to itself, and ends when it is done
    /// with its datum, if ever; the rest of the jobs go to another.
    async fn process_all(&self, leases: &[Lease]) -> io::Result<Vec<Processed>> {
        let jobs: Arc<[Job]> = leases.iter().map(|lease| lease.job.clone()).collect();
        let mut results = Vec::with_capacity(jobs.len());
        while results.len() < jobs.len() {
            let mut thread = ProcessingThread::start(self.process, Arc::clone(&jobs), results.len())?;
            let (processed, is_late) = thread.results(self.process_timeout).await;
            results.extend(processed);
            if results.len() < jobs.len() {
                results.push(Err(if is_late {
                    let error = format!("processing took longer than {:?}", self.process_timeout);
                    AttemptFailure { reason: "took too long", error }
                } else {
                    // A thread ends early only if its panic could not be caught, and then on this datum.
                    AttemptFailure { reason: "panicked", error: "processing ended".to_owned() }
                }));
            }
        }
        Ok(results)
    }

    async fn release(&self, leases: &[Lease]) {
        if let Err(error) = Call::RELEASE.of(Some(leases.len()), self.queue.release(leases)).await.map_err(count) {
            warn!(%error, jobs = leases.len(), "leases could not be released; they pass to others when they run out");
        }
    }

    /// Ends jobs whose attempts are exhausted. The worker that had the last attempt may have stored the datum, and died
    /// before it completed the job: then the store has it, and the job is completed.
    async fn resolve_exhausted(&self, exhausted: Vec<Lease>, stop: &CancellationToken) {
        let mut finished = Vec::new();
        for lease in exhausted {
            let Some(found) = self.look_up(lease.job.id, stop).await else {
                // Stopped: the job comes again.
                break;
            };
            match found {
                Some(StoreEntry::Live(_) | StoreEntry::Unreadable { .. }) => finished.push((lease, Outcome::Learned)),
                Some(StoreEntry::Tombstone { .. }) => finished.push((lease, Outcome::Retracted)),
                None => {
                    let attempt = lease.attempt;
                    let error =
                        format!("the lease of attempt {attempt}, its last, ran out: its worker died or took too long");
                    self.fail(&lease, AttemptFailure { reason: "not finished", error }).await;
                }
            }
        }
        self.complete(&finished, stop).await;
    }

    /// What the store holds of an id; `None` when it was stopped before the store replied.
    async fn look_up(&self, id: DatumId, stop: &CancellationToken) -> Option<Option<StoreEntry>> {
        let mut tries = StoreTries::new();
        loop {
            match Call::FIND.of(None, self.store.get(id)).await {
                Ok(entry) => {
                    tries.succeeded();
                    return Some(entry);
                }
                Err(error) => tries.failed(&error, 1),
            }
            if !tries.wait(stop).await {
                return None;
            }
        }
    }

    /// Completes jobs until the queue has confirmed it. Where it never does, it leases the jobs again, and storing them
    /// again changes nothing.
    async fn complete(&self, finished: &[(Lease, Outcome)], stop: &CancellationToken) {
        if finished.is_empty() {
            return;
        }
        let mut retry = retry();
        let complete = || Call::COMPLETE.of(Some(finished.len()), self.queue.complete(finished));
        while let Err(error) = complete().await.map_err(count) {
            if retry.failed() {
                warn!(%error, jobs = finished.len(), "finished jobs cannot be completed; trying again");
            } else {
                debug!(%error, jobs = finished.len(), "finished jobs cannot be completed yet");
            }
            // Stopped in between: one more call, since the queue may be back, and else the jobs are processed once more.
            if !retry.wait(stop).await {
                if let Err(error) = complete().await.map_err(count) {
                    warn!(%error, jobs = finished.len(), "finished jobs are not completed; they come again");
                    return;
                }
                break;
            }
        }
        let now = Timestamp::now();
        for (lease, outcome) in finished {
            match outcome {
                Outcome::Learned => {
                    metrics::LEARNED.inc();
                    let seconds = now.since(lease.job.received_at).as_secs_f64();
                    metrics::LEARN_SECONDS.observe_of(seconds, trace::sampled_id(lease.job.trace.as_deref()));
                }
                Outcome::Retracted => {
                    metrics::LEARNED_RETRACTED.inc();
                }
            }
        }
    }

    async fn fail(&self, lease: &Lease, AttemptFailure { reason, mut error }: AttemptFailure) {
        metrics::FAILED.inc();
        error.truncate(error.floor_char_boundary(MAX_ERROR_BYTES));
        let retry_after = retry_delay(lease.attempt).min(self.lease);
        match Call::FAIL.of(None, self.queue.fail(lease, &error, retry_after)).await.map_err(count) {
            Ok(Failure::Retried) => {
                warn!(datum.id = %lease.job.id, attempt = lease.attempt, reason, "an attempt failed; it is tried again");
            }
            Ok(Failure::Dead) => {
                metrics::DEAD.inc();
                warn!(datum.id = %lease.job.id, attempt = lease.attempt, reason, "the last attempt failed; it lies in the dead letters");
            }
            Err(error) => {
                warn!(datum.id = %lease.job.id, reason, %error, "a failed attempt could not be noted; its lease will run out");
            }
        }
    }
}

/// Tries of a call of the store, which is repeated until it succeeds. While it has failed, readiness says so.
struct StoreTries {
    retry: Retry,
    waiting: Option<Held<'static>>,
}

impl StoreTries {
    fn new() -> Self {
        Self { retry: retry(), waiting: None }
    }

    fn failed(&mut self, error: &dyn Display, jobs: usize) {
        metrics::STORE_ERRORS.inc();
        self.set_waiting(true);
        if self.retry.failed() {
            warn!(%error, jobs, "the store cannot be used; waiting with its data");
        } else {
            debug!(%error, jobs, "the store cannot be used yet");
        }
    }

    fn succeeded(&mut self) {
        self.set_waiting(false);
        if self.retry.succeeded() {
            info!("the store is back");
        }
    }

    async fn wait(&mut self, stop: &CancellationToken) -> bool {
        self.retry.wait(stop).await
    }

    fn set_waiting(&mut self, waiting: bool) {
        self.waiting = waiting.then(|| self.waiting.take().unwrap_or_else(|| Held::new(&metrics::STORE_WAITING, 1)));
    }
}

/// Between 100 and 200 ms after the first attempt, doubled with each: enough for a passing fault, short beside the
/// lease. The spread keeps data that failed together from coming again together.
fn retry_delay(attempt: u32) -> Duration {
    let longest = 200 << attempt.saturating_sub(1).min(8);
    Duration::from_millis(fastrand::u64(longest / 2..=longest))
}

#[cfg(test)]
mod tests;

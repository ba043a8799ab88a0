//! Link 3, the loop: lease, process, put, complete. Run by the worker, and by the api when it is embedded.
//!
//! - Stored before completed: a crash repeats work and loses none.
//! - A store that is out of reach is nobody's failed attempt: the loop keeps its leases, leases no more, and tries
//!   again. Only a datum that cannot be processed, or that the store refuses for itself, fails.
//! - A datum that makes processing panic, or takes longer than the limit, fails its attempt and holds up no other.
//! - When it is stopped it finishes what it has, or gives it back.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::datum::{DatumId, Timestamp};
use crate::observe::QUIET_THREAD;
use crate::observe::metrics;
use crate::queue::{Failure, Job, Lease, Outcome, Queue};
use crate::store::{Put, Record, Store, StoreError, StoredDatum};

/// Jobs leased at once, at most.
const BATCH: usize = 1_000;

/// How long one look for jobs lasts; also how long stopping may wait for it.
const WAIT: Duration = Duration::from_secs(1);

/// Under a steady feed, this long from one batch to the next: a batch has its price however small it is. What comes after
/// a rest does not wait, and no backlog does.
const PACE: Duration = Duration::from_millis(20);

/// The longest wait before a backend out of reach is tried again.
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

/// The longest error kept with a dead letter, in bytes.
const LONGEST_ERROR: usize = 1_024;

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
    /// Batches under way at once.
    pub concurrency: usize,
    /// What is done with each job: [`process`](crate::process::process), but for tests of data that it cannot do.
    pub process: Process,
    /// How long processing one datum may take before its attempt has failed.
    pub process_timeout: Duration,
}

/// Why an attempt failed: a word for the log, and what the dead letter keeps.
///
/// They are two, since what a panic says can quote the text that was fed, and no log shall hold that.
struct Fault {
    reason: &'static str,
    error: String,
}

impl Consumer {
    /// Runs until it is stopped, and then until what it has leased is finished or given back.
    pub async fn run(self, stop: CancellationToken) {
        let lanes = (0..self.concurrency.max(1)).map(|_| tokio::spawn(self.clone().lane(stop.clone())));
        let lanes: Vec<_> = lanes.collect();
        for ended in join_all(lanes).await {
            if let Err(error) = ended {
                warn!(%error, "a lane of the consumer ended early; its leases pass to others");
            }
        }
    }

    async fn lane(self, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        while !stop.is_cancelled() {
            // Not cancelled by stop: a lease that nobody hears of would wait until it runs out.
            match self.queue.lease(BATCH, WAIT).await {
                Ok(leases) => {
                    if backoff.reset() {
                        info!("the queue is back");
                    }
                    if leases.is_empty() {
                        continue;
                    }
                    // What comes again may come in small parts.
                    let is_backlog = leases.len() == BATCH || leases.iter().any(|lease| lease.attempt > 1);
                    let next = Instant::now() + PACE;
                    self.learn(leases, &stop).await;
                    if !is_backlog {
                        tokio::select! {
                            () = sleep_until(next) => {}
                            () = stop.cancelled() => {}
                        }
                    }
                }
                Err(error) => {
                    metrics::QUEUE_ERRORS.inc();
                    if backoff.is_new() {
                        warn!(%error, "no jobs can be leased; trying again");
                    }
                    backoff.wait(&stop).await;
                }
            }
        }
    }

    /// Sees one batch through.
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
            if let Err(error) = self.queue.extend(leases).await {
                warn!(%error, jobs = leases.len(), "leases could not be extended; others may take the jobs over");
            }
        }
    }

    async fn store_and_complete(&self, leases: Vec<Lease>, stop: &CancellationToken) {
        let (exhausted, leases): (Vec<Lease>, Vec<Lease>) = leases.into_iter().partition(|lease| lease.exhausted);
        self.look_after(exhausted, stop).await;
        let processed = match self.process_all(&leases).await {
            Ok(processed) => processed,
            Err(error) => {
                // No datum's fault: the system has no thread to spare.
                warn!(%error, jobs = leases.len(), "data cannot be processed now; giving them back");
                self.release(&leases).await;
                return Backoff::default().wait(stop).await;
            }
        };
        let mut good: Vec<Lease> = Vec::with_capacity(leases.len());
        let mut data: Vec<StoredDatum> = Vec::with_capacity(leases.len());
        for (lease, processed) in leases.into_iter().zip(processed) {
            match processed {
                Ok(datum) => {
                    good.push(lease);
                    data.push(datum);
                }
                Err(fault) => self.fail(&lease, fault).await,
            }
        }
        let Some(puts) = self.put(&data, stop).await else {
            return self.release(&good).await;
        };
        let mut finished = Vec::with_capacity(good.len());
        for (lease, put) in good.into_iter().zip(puts) {
            match put {
                Put::Stored => finished.push((lease, Outcome::Learned)),
                Put::Retracted => finished.push((lease, Outcome::Retracted)),
                Put::Refused(error) => self.fail(&lease, Fault { reason: "refused by the store", error }).await,
            }
        }
        self.complete(&finished, stop).await;
    }

    /// Processes jobs in their order, and says what came of each.
    ///
    /// A thread cannot be stopped from outside. So one that takes too long is left to itself, and ends when it is done
    /// with its datum, if ever; the rest of the jobs go to another.
    async fn process_all(&self, leases: &[Lease]) -> io::Result<Vec<Result<StoredDatum, Fault>>> {
        let jobs: Arc<[Job]> = leases.iter().map(|lease| lease.job.clone()).collect();
        let mut results = Vec::with_capacity(jobs.len());
        while results.len() < jobs.len() {
            let mut arriving = process_on_a_thread(self.process, Arc::clone(&jobs), results.len())?;
            while results.len() < jobs.len() {
                match timeout(self.process_timeout, arriving.recv()).await {
                    Ok(Some(result)) => results.push(result),
                    // A thread ends early only if its panic could not be caught, and then on this datum.
                    Ok(None) => {
                        results.push(Err(Fault { reason: "panicked", error: "processing ended".to_owned() }));
                        break;
                    }
                    Err(_) => {
                        let error = format!("processing took longer than {:?}", self.process_timeout);
                        results.push(Err(Fault { reason: "took too long", error }));
                        break;
                    }
                }
            }
        }
        Ok(results)
    }

    async fn release(&self, leases: &[Lease]) {
        if let Err(error) = self.queue.release(leases).await {
            warn!(%error, jobs = leases.len(), "leases could not be given back; they pass to others when they run out");
        }
    }

    /// Sees to jobs whose attempts are used up. Whoever had the last may have stored the datum, and died before he said so.
    async fn look_after(&self, exhausted: Vec<Lease>, stop: &CancellationToken) {
        let mut finished = Vec::new();
        for lease in exhausted {
            let found = self.look_up(lease.job.id, stop).await;
            match found {
                // Stopped: it comes again.
                None => break,
                Some(Some(Record::Live(_))) => finished.push((lease, Outcome::Learned)),
                Some(Some(Record::Tombstone { .. })) => finished.push((lease, Outcome::Retracted)),
                Some(None) => {
                    let attempt = lease.attempt;
                    let error =
                        format!("the lease of attempt {attempt}, its last, ran out: its worker died or took too long");
                    self.fail(&lease, Fault { reason: "not finished", error }).await;
                }
            }
        }
        self.complete(&finished, stop).await;
    }

    /// Puts until the store has them; `None` when it was stopped before.
    async fn put(&self, data: &[StoredDatum], stop: &CancellationToken) -> Option<Vec<Put>> {
        if data.is_empty() {
            return Some(Vec::new());
        }
        let mut backoff = Backoff::default();
        loop {
            match self.store.put(data).await {
                Ok(puts) => {
                    if backoff.reset() {
                        info!("the store is back");
                    }
                    return Some(puts);
                }
                Err(error) if !self.outlasts(&error, data.len(), &mut backoff, stop).await => return None,
                Err(_) => {}
            }
        }
    }

    /// What the store holds of an id; `None` when it was stopped before the store said.
    async fn look_up(&self, id: DatumId, stop: &CancellationToken) -> Option<Option<Record>> {
        let mut backoff = Backoff::default();
        loop {
            match self.store.get(id).await {
                Ok(record) => return Some(record),
                Err(error) if !self.outlasts(&error, 1, &mut backoff, stop).await => return None,
                Err(_) => {}
            }
        }
    }

    /// Waits before the store is tried again; false when it was stopped.
    async fn outlasts(&self, error: &StoreError, jobs: usize, backoff: &mut Backoff, stop: &CancellationToken) -> bool {
        metrics::STORE_ERRORS.inc();
        if backoff.is_new() {
            warn!(%error, jobs, "the store cannot be asked; waiting with its data");
        }
        if stop.is_cancelled() {
            return false;
        }
        backoff.wait(stop).await;
        true
    }

    /// Completes until the queue knows; a queue that never hears it leases the jobs again, and storing them again
    /// changes nothing.
    async fn complete(&self, finished: &[(Lease, Outcome)], stop: &CancellationToken) {
        if finished.is_empty() {
            return;
        }
        let mut backoff = Backoff::default();
        while let Err(error) = self.queue.complete(finished).await {
            metrics::QUEUE_ERRORS.inc();
            if backoff.is_new() {
                warn!(%error, jobs = finished.len(), "finished jobs cannot be completed; trying again");
            }
            if stop.is_cancelled() {
                return;
            }
            backoff.wait(stop).await;
        }
        let now = Timestamp::now();
        metrics::LEARNED.inc_by(finished.len() as u64);
        for (lease, _) in finished {
            metrics::LEARN_SECONDS.observe(now.since(lease.job.received_at).as_secs_f64());
        }
    }

    async fn fail(&self, lease: &Lease, Fault { reason, mut error }: Fault) {
        metrics::FAILED.inc();
        error.truncate(error.floor_char_boundary(LONGEST_ERROR));
        let retry_after = retry_delay(lease.attempt).min(self.lease);
        match self.queue.fail(lease, &error, retry_after).await {
            Ok(Failure::Retried) => {
                warn!(datum.id = %lease.job.id, attempt = lease.attempt, reason, "an attempt failed; it is tried again");
            }
            Ok(Failure::Dead) => {
                metrics::DEAD.inc();
                warn!(datum.id = %lease.job.id, attempt = lease.attempt, reason, "the last attempt failed; it lies in the dead letters");
            }
            Err(unheard) => {
                warn!(datum.id = %lease.job.id, reason, %unheard, "a failed attempt could not be noted; its lease will run out");
            }
        }
    }
}

/// Processes the jobs from the given one on, and sends each result as soon as it is there. The thread ends when nobody
/// receives any more.
///
/// Not one of the runtime's own blocking threads, which a runtime waits for when it ends.
fn process_on_a_thread(
    process: Process,
    jobs: Arc<[Job]>,
    from: usize,
) -> io::Result<mpsc::UnboundedReceiver<Result<StoredDatum, Fault>>> {
    let (results, arriving) = mpsc::unbounded_channel();
    std::thread::Builder::new().name(QUIET_THREAD.to_owned()).spawn(move || {
        for job in &jobs[from..] {
            if results.send(process_one(process, job)).is_err() {
                break;
            }
        }
    })?;
    Ok(arriving)
}

/// A panic is the datum's failed attempt, not the worker's end.
fn process_one(process: Process, job: &Job) -> Result<StoredDatum, Fault> {
    catch_unwind(AssertUnwindSafe(|| process(job, Timestamp::now()))).map_err(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Fault { reason: "panicked", error: format!("processing panicked: {}", message.unwrap_or("without a message")) }
    })
}

/// Between 100 and 200 ms after the first attempt, doubled with each: enough for a passing fault, short beside the
/// lease. The spread keeps data that failed together from coming again together.
fn retry_delay(attempt: u32) -> Duration {
    let longest = 200 << attempt.saturating_sub(1).min(8);
    Duration::from_millis(fastrand::u64(longest / 2..=longest))
}

/// Doubling waits, with the news of being in one told once.
#[derive(Default)]
struct Backoff {
    tries: u32,
}

impl Backoff {
    /// Whether this is the first failure in a row.
    fn is_new(&self) -> bool {
        self.tries == 0
    }

    /// Back to the start; whether there had been failures.
    fn reset(&mut self) -> bool {
        std::mem::take(&mut self.tries) > 0
    }

    async fn wait(&mut self, stop: &CancellationToken) {
        let longest = Duration::from_millis(50 << self.tries.min(6)).min(LONGEST_BACKOFF);
        self.tries += 1;
        // Not all workers at the same moment, when a backend has just come back.
        let wait = longest.mul_f64(0.5 + fastrand::f64() / 2.0);
        tokio::select! {
            () = sleep(wait) => {}
            () = stop.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_are_spread_over_the_upper_half() {
        for (attempt, shortest, longest) in [(1, 100, 200), (2, 200, 400), (5, 1_600, 3_200), (1_000, 25_600, 51_200)] {
            let waits: Vec<Duration> = (0..200).map(|_| retry_delay(attempt)).collect();
            let range = Duration::from_millis(shortest)..=Duration::from_millis(longest);
            assert!(waits.iter().all(|wait| range.contains(wait)), "{attempt}: {waits:?}");
            assert!(waits.iter().any(|wait| *wait != waits[0]), "all alike");
        }
    }
}

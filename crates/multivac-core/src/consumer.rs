//! Link 3, the loop: lease, process, put, complete. Run by the worker, and by the api when it is embedded.
//!
//! - Stored before completed: a crash repeats work and loses none.
//! - A store that is out of reach is nobody's failed attempt: the loop keeps its leases, leases no more, and tries
//!   again. Only a datum that cannot be processed, or that the store refuses for itself, fails.
//! - When it is stopped it finishes what it has, or gives it back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval_at, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::datum::Timestamp;
use crate::process::process;
use crate::queue::{Failure, Lease, Outcome, Queue};
use crate::runtime::metrics;
use crate::store::{Put, Store, StoredDatum};

/// Jobs leased at once, at most.
const BATCH: usize = 1_000;

/// How long one look for jobs lasts; also how long stopping may wait for it.
const WAIT: Duration = Duration::from_secs(1);

/// The longest wait before a backend out of reach is tried again.
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

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
                    if !leases.is_empty() {
                        self.learn(leases, &stop).await;
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
        let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.queue.extend(leases).await {
                warn!(%error, jobs = leases.len(), "leases could not be extended; others may take the jobs over");
            }
        }
    }

    async fn store_and_complete(&self, leases: Vec<Lease>, stop: &CancellationToken) {
        let jobs = leases.clone();
        let processed = tokio::task::spawn_blocking(move || jobs.iter().map(process_one).collect::<Vec<_>>()).await;
        let processed = processed.unwrap_or_else(|error| leases.iter().map(|_| Err(error.to_string())).collect());
        let mut good: Vec<Lease> = Vec::with_capacity(leases.len());
        let mut data: Vec<StoredDatum> = Vec::with_capacity(leases.len());
        for (lease, processed) in leases.into_iter().zip(processed) {
            match processed {
                Ok(datum) => {
                    good.push(lease);
                    data.push(datum);
                }
                Err(error) => self.fail(&lease, &error).await,
            }
        }
        let Some(puts) = self.put(&data, stop).await else {
            if let Err(error) = self.queue.give_back(&good).await {
                warn!(%error, jobs = good.len(), "leases could not be given back; they pass to others when they run out");
            }
            return;
        };
        let mut finished = Vec::with_capacity(good.len());
        for (lease, put) in good.into_iter().zip(puts) {
            match put {
                Put::Stored => finished.push((lease, Outcome::Learned)),
                Put::Retracted => finished.push((lease, Outcome::Retracted)),
                Put::Refused(error) => self.fail(&lease, &error).await,
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
                Err(error) => {
                    metrics::STORE_ERRORS.inc();
                    if backoff.is_new() {
                        warn!(%error, jobs = data.len(), "data cannot be stored; waiting with them");
                    }
                    if stop.is_cancelled() {
                        return None;
                    }
                    backoff.wait(stop).await;
                }
            }
        }
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

    async fn fail(&self, lease: &Lease, error: &str) {
        metrics::FAILED.inc();
        // 100 ms, doubled with each attempt: enough for a passing fault, short beside the lease.
        let retry_after = Duration::from_millis(100 << lease.attempt.min(8)).min(self.lease);
        match self.queue.fail(lease, error, retry_after).await {
            Ok(Failure::Retried) => {
                warn!(datum.id = %lease.job.id, attempt = lease.attempt, error, "an attempt failed; it is tried again");
            }
            Ok(Failure::Dead) => {
                metrics::DEAD.inc();
                warn!(datum.id = %lease.job.id, attempt = lease.attempt, error, "the last attempt failed; it lies in the dead letters");
            }
            Err(unheard) => {
                warn!(datum.id = %lease.job.id, error, %unheard, "a failed attempt could not be noted; its lease will run out");
            }
        }
    }
}

/// A panic is the datum's failed attempt, not the worker's end.
fn process_one(lease: &Lease) -> Result<StoredDatum, String> {
    catch_unwind(AssertUnwindSafe(|| process(&lease.job, Timestamp::now()))).map_err(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        format!("processing panicked: {}", message.unwrap_or("without a message"))
    })
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
        let wait = Duration::from_millis(50 << self.tries.min(6)).min(LONGEST_BACKOFF);
        self.tries += 1;
        tokio::select! {
            () = sleep(wait) => {}
            () = stop.cancelled() => {}
        }
    }
}

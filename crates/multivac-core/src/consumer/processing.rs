//! Processing on a thread of its own, whose results are waited for, each datum no longer than it may take.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::{AttemptFailure, Process};
use crate::datum::Timestamp;
use crate::observe::spans::Processing;
use crate::queue::Job;
use crate::runtime::supervise::panic_message;
use crate::store::StoredDatum;

/// What came of a job.
pub(super) type Processed = Result<StoredDatum, AttemptFailure>;

/// A thread that processes jobs. It wakes whoever waits for it once, when it ends: to be woken for each datum would cost more than
/// the datum.
pub(super) struct ProcessingThread {
    progress: Arc<Mutex<Progress>>,
    ended: oneshot::Receiver<()>,
}

struct Progress {
    results: Vec<Processed>,
    /// When the present datum was begun.
    began: Instant,
    /// Nobody waits for it any more.
    is_abandoned: bool,
}

impl ProcessingThread {
    /// Starts with the job at the index `from`.
    ///
    /// Not one of the runtime's own blocking threads, which a runtime waits for when it ends.
    pub(super) fn start(process: Process, jobs: Arc<[Job]>, from: usize) -> io::Result<Self> {
        let results = Vec::with_capacity(jobs.len() - from);
        let progress = Arc::new(Mutex::new(Progress { results, began: Instant::now(), is_abandoned: false }));
        let (ending, ended) = oneshot::channel();
        let (batch, shared) = (Context::current(), Arc::clone(&progress));
        std::thread::Builder::new().name("multivac-process".to_owned()).spawn(move || {
            let _in_batch = batch.attach();
            for job in &jobs[from..] {
                let result = process_one(process, job);
                let mut progress = lock(&shared);
                if progress.is_abandoned {
                    return;
                }
                progress.results.push(result);
                progress.began = Instant::now();
            }
            // An error means that nobody waits.
            let _ = ending.send(());
        })?;
        Ok(Self { progress, ended })
    }

    /// Waits until it ends, or has been at one datum for longer than `limit`; whether that is so, and the results until then.
    pub(super) async fn results(&mut self, limit: Duration) -> (Vec<Processed>, bool) {
        let mut deadline = lock(&self.progress).began + limit;
        loop {
            let has_ended = tokio::select! {
                _ = &mut self.ended => true,
                () = sleep_until(deadline) => false,
            };
            let mut progress = lock(&self.progress);
            deadline = progress.began + limit;
            if has_ended || deadline <= Instant::now() {
                return (std::mem::take(&mut progress.results), !has_ended);
            }
        }
    }
}

impl Drop for ProcessingThread {
    /// Nobody waits for it any more: it ends with the datum that it is at.
    fn drop(&mut self) {
        lock(&self.progress).is_abandoned = true;
    }
}

/// Nothing in it can be left half-done.
fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A panic fails the datum's attempt, and does not end the worker.
fn process_one(process: Process, job: &Job) -> Processed {
    let span = Processing::begin(job);
    let result = catch_unwind(AssertUnwindSafe(|| process(job, Timestamp::now()))).map_err(|panic| {
        let message = panic_message(&*panic).unwrap_or("without a message");
        AttemptFailure { reason: "panicked", error: format!("processing panicked: {message}") }
    });
    span.end(result.as_ref().err().map(|failure| failure.reason));
    result
}

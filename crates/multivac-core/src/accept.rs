//! Link 1: text in, an id out, once the queue holds the datum durably.
//!
//! Single data that come at the same time share one step of the queue: what arrives while a step runs is in the next one.
//! There is no timer, so on a quiet system a datum waits for no other.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::FutureExt;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::backpressure::Backpressure;
use crate::datum::{Datum, DatumId, Timestamp};
use crate::observe::{metrics, spans, trace};
use crate::queue::{Acceptance, IdempotencyKey, Job, Queue, QueueError, ReachedDurability, Submission};
use crate::runtime::supervise::Supervisor;

/// Single data in one step of the queue, at most.
const STEP_SIZE: usize = 512;

/// Steps under way at once: enough to hide a round trip, few enough that batches form.
const CONCURRENT_STEPS: usize = 2;

/// Single data that wait at most. Others wait outside, in their requests, so memory stays bounded.
const WAITING_DATA: usize = 4_096;

/// How long a step whose outcome is unknown is repeated, so that the client can be told what became of its datum; well
/// within [`REPLAY_WINDOW`](crate::queue::REPLAY_WINDOW). Other steps wait behind it, so no longer than a queue takes to
/// restart.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait before a step whose outcome is unknown is repeated.
const REPEAT_AFTER: Duration = Duration::from_millis(50);

/// Why a datum was not accepted. Nothing is on the queue then, but for [`OutcomeUnknown`](AcceptError::OutcomeUnknown) and
/// for what could not be rolled back.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AcceptError {
    /// The queue holds as much as it may.
    #[error("the queue is full; nothing was accepted")]
    Full {
        /// When there is likely to be room.
        retry_after: Duration,
    },
    /// The key was used for another text.
    #[error("this Idempotency-Key was sent with another text before; nothing was accepted")]
    KeyOfOtherText,
    /// It did not become as durable as was asked.
    #[error("the datum did not become as durable as was asked in time; {}", if *rolled_back {
        "nothing was accepted".to_owned()
    } else {
        format!("it may have been accepted{}: send it again with the same Idempotency-Key", named(*id))
    })]
    NotDurable {
        /// Whether it was taken off the queue again, for good.
        rolled_back: bool,
        /// As in [`OutcomeUnknown`](Self::OutcomeUnknown).
        id: Option<DatumId>,
    },
    /// The queue is out of reach.
    #[error("the queue is out of reach; nothing was accepted")]
    Unavailable(#[source] Arc<QueueError>),
    /// The queue was asked, and whether it accepted the datum is unknown.
    #[error("the queue gave no answer; the datum may be accepted{}: send it again with the same Idempotency-Key", named(*id))]
    OutcomeUnknown {
        /// Its id if it was, where no Idempotency-Key of the client's may stand for another one.
        id: Option<DatumId>,
        /// The queue's error.
        #[source]
        cause: Arc<QueueError>,
    },
}

impl AcceptError {
    /// After how long the same may be accepted; `None` where it never will.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full { retry_after } => Some(*retry_after),
            Self::KeyOfOtherText => None,
            Self::NotDurable { .. } | Self::Unavailable(_) | Self::OutcomeUnknown { .. } => {
                Some(Duration::from_secs(1))
            }
        }
    }

    /// Its name in the metrics.
    fn reason(&self) -> &'static str {
        match self {
            Self::Full { .. } => "full",
            Self::KeyOfOtherText => "key_of_other_text",
            Self::NotDurable { .. } => "not_durable",
            Self::Unavailable(_) => "unavailable",
            Self::OutcomeUnknown { .. } => "outcome_unknown",
        }
    }
}

fn named(id: Option<DatumId>) -> String {
    id.map_or_else(String::new, |id| format!(", as {id}"))
}

/// What an accepted text got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its id.
    pub id: DatumId,
    /// How durably it is held, at least.
    pub durability: ReachedDurability,
    /// Whether its key was known, so that nothing was added.
    pub was_known: bool,
}

/// A text that a client wants accepted, with what came with it.
#[derive(Debug, Clone)]
pub struct AcceptRequest {
    /// The text.
    pub datum: Datum,
    /// Where the client gave one.
    pub key: Option<IdempotencyKey>,
}

impl AcceptRequest {
    fn into_submission(self, trace: Option<String>) -> Submission {
        let id = DatumId::generate();
        let received_at = id.created_at().unwrap_or_else(Timestamp::now);
        Submission { job: Job { id, datum: self.datum, received_at, trace }, idempotency_key: self.key }
    }
}

impl Submission {
    /// The id that the datum has if it is accepted; a key that was seen before may stand for another one.
    fn known_id(&self) -> Option<DatumId> {
        self.idempotency_key.is_none().then_some(self.job.id)
    }
}

impl IdempotencyKey {
    /// The key that a client gave, with the line's number where it gave it for many lines at once. It belongs to `user`, where
    /// one is known: what the same key means for anybody else has nothing to do with it.
    #[must_use]
    pub fn new(user: Option<&[u8]>, key: &str, line: Option<u64>) -> Self {
        let mut sha = Sha256::new();
        sha.update(key);
        if let Some(line) = line {
            sha.update([0]);
            sha.update(line.to_be_bytes());
        }
        let mut of_anyone = [0; 16];
        of_anyone.copy_from_slice(&sha.finalize()[..16]);
        let Some(user) = user else { return Self::anyones(of_anyone) };
        let mut sha = Sha256::new();
        sha.update(of_anyone);
        sha.update(user);
        let mut of_user = of_anyone;
        of_user[..8].copy_from_slice(&sha.finalize()[..8]);
        Self { of_user, of_anyone }
    }
}

type Reply = oneshot::Sender<Result<Receipt, AcceptError>>;

/// A datum that waits for a step, in the context of its request.
type Waiting = (Submission, Context, Reply);

/// Accepts data for one queue. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor {
    queue: Arc<dyn Queue>,
    backpressure: Arc<Backpressure>,
    waiting: mpsc::Sender<Waiting>,
}

impl Acceptor {
    /// An acceptor. The tasks that form batches for it and watch the queue are `supervisor`'s.
    #[must_use]
    pub fn new(queue: Arc<dyn Queue>, supervisor: &Supervisor) -> Self {
        let (waiting, requests) = mpsc::channel(WAITING_DATA);
        let backpressure = Backpressure::watch(&queue, supervisor);
        let batching = batch(Arc::clone(&queue), Arc::clone(&backpressure), requests);
        supervisor.spawn("the task that accepts data", batching);
        Self { queue, backpressure, waiting }
    }

    /// Accepts one. Its job belongs to the current trace.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub async fn accept(&self, request: AcceptRequest) -> Result<Receipt, AcceptError> {
        let context = spans::send(1);
        let submission = request.into_submission(trace::to_field(&context));
        spans::within(context.clone(), self.accept_in_a_step(submission, context)).await
    }

    async fn accept_in_a_step(&self, submission: Submission, context: Context) -> Result<Receipt, AcceptError> {
        let (reply, result) = oneshot::channel();
        let ended = || {
            let message = "the task that accepts data has ended".to_owned();
            Arc::new(QueueError::Unavailable { message, source: None })
        };
        let id = submission.known_id();
        let sent = self.waiting.send((submission, context, reply)).await;
        sent.map_err(|_| AcceptError::Unavailable(ended()))?;
        // A step that ends without a reply has panicked, and the queue may have been asked by then.
        result.await.map_err(|_| AcceptError::OutcomeUnknown { id, cause: ended() })?
    }

    /// Accepts many in one step, and says what became of each, in their order. Their jobs belong to the current trace.
    pub async fn accept_many(&self, requests: Vec<AcceptRequest>) -> Vec<Result<Receipt, AcceptError>> {
        let context = spans::send(requests.len());
        let trace = trace::to_field(&context);
        let submissions = requests.into_iter().map(|request| request.into_submission(trace.clone()));
        let submissions: Vec<Submission> = submissions.collect();
        spans::within(context, accept_step(&*self.queue, &self.backpressure, &submissions)).await
    }
}

/// Forms batches of single data, until every [`Acceptor`] is gone.
async fn batch(queue: Arc<dyn Queue>, backpressure: Arc<Backpressure>, mut requests: mpsc::Receiver<Waiting>) {
    let steps = Arc::new(Semaphore::new(CONCURRENT_STEPS));
    let mut taken = Vec::with_capacity(STEP_SIZE);
    loop {
        // The permit first: what arrives until there is one joins the batch.
        let Ok(permit) = Arc::clone(&steps).acquire_owned().await else { return };
        if requests.recv_many(&mut taken, STEP_SIZE).await == 0 {
            return;
        }
        let (mut submissions, mut replies) = (Vec::with_capacity(taken.len()), Vec::with_capacity(taken.len()));
        // What is logged of the step is logged once, in the trace of the first.
        let mut first = None;
        for (submission, context, reply) in taken.drain(..) {
            submissions.push(submission);
            replies.push(reply);
            first.get_or_insert(context);
        }
        let (queue, backpressure) = (Arc::clone(&queue), Arc::clone(&backpressure));
        let step = async move {
            let _permit = permit;
            let results = accept_step(&*queue, &backpressure, &submissions).await;
            for (reply, result) in replies.into_iter().zip(results) {
                // A client that has disconnected gets no reply; its datum is accepted all the same.
                let _ = reply.send(result);
            }
        };
        tokio::spawn(step.with_context(first.unwrap_or_default()));
    }
}

async fn accept_step(
    queue: &dyn Queue,
    backpressure: &Backpressure,
    submissions: &[Submission],
) -> Vec<Result<Receipt, AcceptError>> {
    let results = try_step(queue, backpressure, submissions).await;
    for result in &results {
        match result {
            Ok(receipt) if receipt.was_known => metrics::ACCEPTED_AGAIN.inc(),
            Ok(_) => metrics::ACCEPTED.inc(),
            Err(error) => metrics::ACCEPT_FAILURES.of(error.reason()).inc(),
        };
    }
    results
}

async fn try_step(
    queue: &dyn Queue,
    backpressure: &Backpressure,
    submissions: &[Submission],
) -> Vec<Result<Receipt, AcceptError>> {
    let unknown = |submission: &Submission, cause: &Arc<QueueError>| {
        Err(AcceptError::OutcomeUnknown { id: submission.known_id(), cause: Arc::clone(cause) })
    };
    let (acceptances, before) = match accept_until_known(queue, submissions).await {
        Ok(known) => known,
        Err(AcceptError::OutcomeUnknown { cause, .. }) => {
            return submissions.iter().map(|submission| unknown(submission, &cause)).collect();
        }
        Err(error) => return submissions.iter().map(|_| Err(error.clone())).collect(),
    };
    let refused = || submissions.iter().zip(&acceptances).filter(|(_, acceptance)| **acceptance == Acceptance::Full);
    let retry_after = match refused().count() as u64 {
        0 => Duration::ZERO,
        jobs => {
            metrics::REFUSED.inc_by(jobs);
            let bytes = refused().map(|(submission, _)| submission.job.datum.as_str().len() as u64).sum();
            backpressure.refuse(Instant::now(), jobs, bytes)
        }
    };
    let durability = ReachedDurability::Queue(queue.durability());
    let results = submissions.iter().zip(&acceptances).map(|(submission, acceptance)| match *acceptance {
        Acceptance::Accepted => Ok(Receipt { id: submission.job.id, durability, was_known: false }),
        // Its own id: the step was repeated, and it was the first call that accepted it.
        Acceptance::AcceptedBefore(id) => Ok(Receipt { id, durability, was_known: id != submission.job.id }),
        Acceptance::Stored => {
            Ok(Receipt { id: submission.job.id, durability: ReachedDurability::Stored, was_known: false })
        }
        Acceptance::KeyOfOtherText => Err(AcceptError::KeyOfOtherText),
        Acceptance::Full => match &before {
            // The call before may still be under way, and find room.
            Some(cause) => unknown(submission, cause),
            None => Err(AcceptError::Full { retry_after }),
        },
        Acceptance::NotDurable { rolled_back } => {
            Err(AcceptError::NotDurable { rolled_back, id: submission.known_id() })
        }
    });
    results.collect()
}

/// One step of the queue, repeated until its outcome is known: a client that is not told of an accepted datum would feed it
/// again. With it comes the error of the call before, if that gave no answer. Each failed call is counted and logged once; of a
/// step's calls, the first one loudly.
async fn accept_until_known(
    queue: &dyn Queue,
    submissions: &[Submission],
) -> Result<(Vec<Acceptance>, Option<Arc<QueueError>>), AcceptError> {
    let deadline = Instant::now() + OUTCOME_TIMEOUT;
    let mut unknown: Option<Arc<QueueError>> = None;
    loop {
        let error = match queue.accept(submissions).await {
            Ok(acceptances) => return Ok((acceptances, unknown)),
            Err(error) => error,
        };
        metrics::QUEUE_ERRORS.inc();
        if unknown.is_some() {
            debug!(%error, jobs = submissions.len(), "the queue gave no answer again");
        } else {
            warn!(%error, jobs = submissions.len(), "data cannot be accepted");
        }
        let error = Arc::new(error);
        if unknown.is_none() && !matches!(*error, QueueError::OutcomeUnknown { .. }) {
            return Err(AcceptError::Unavailable(error));
        }
        if Instant::now() >= deadline {
            return Err(AcceptError::OutcomeUnknown { id: None, cause: error });
        }
        unknown = Some(error);
        sleep(REPEAT_AFTER).await;
    }
}

#[cfg(test)]
#[path = "accept_tests.rs"]
mod tests;

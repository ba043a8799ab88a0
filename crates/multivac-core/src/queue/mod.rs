//! Link 2, the port: a [`Queue`] holds every accepted datum until the store has it.
//!
//! Promises that every adapter keeps, and the contract tests check:
//!
//! - **Durable**: when [`accept`](Queue::accept) returns, the job survives a crash of every process of ours.
//! - **At least once**: a job is leased again until it is completed, retracted from the dead letters, or dead.
//!   Whoever processes it is idempotent by id.
//! - **Counted once**: every change of where a job stands and the [`Ledger`] change in one atomic step, so that
//!   the ledger balances in every snapshot, whatever was killed in between.

mod dead_letters;

use std::time::Duration;

use async_trait::async_trait;

use crate::datum::{Datum, DatumId, Timestamp};
pub use dead_letters::{DeadLetter, DeadLetterPlace, DeadLetterSummary};

/// The work that an accepted datum makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The datum's id.
    pub id: DatumId,
    /// Its text, byte for byte.
    pub datum: Datum,
    /// When it was accepted.
    pub received_at: Timestamp,
    /// The trace that it belongs to: the W3C `traceparent` of its being sent, and after a space the `tracestate`, where there is one.
    pub trace: Option<String>,
}

/// A job on its way into the queue.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The job.
    pub job: Job,
    /// Where the client gave one: the same key again, of the same user and with the same text, is the same datum.
    pub idempotency_key: Option<IdempotencyKey>,
}

/// What an `Idempotency-Key` is kept as: digests, so that its length is bounded.
///
/// An adapter keeps the text's [digest](Datum::digest) with [`of_user`](Self::of_user). Up to 0.1.0 a key belonged to nobody
/// and was kept under [`of_anyone`](Self::of_anyone), without a digest; what is found there in that form answers as it did.
/// The last eight bytes of both are the same, so that they fall into the same partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// Of the key and its user; where no user is known, of the key alone.
    pub of_user: [u8; 16],
    /// Of the key alone.
    pub of_anyone: [u8; 16],
}

impl IdempotencyKey {
    /// A key that belongs to no user.
    #[must_use]
    pub const fn anyones(digest: [u8; 16]) -> Self {
        Self { of_user: digest, of_anyone: digest }
    }
}

/// How long an [`IdempotencyKey`] is remembered at least.
pub const IDEMPOTENCY_KEY_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a call whose outcome is unknown may be repeated: an adapter recognises it for this long at least.
pub const REPLAY_WINDOW: Duration = Duration::from_secs(30);

/// The text that one call of [`Queue::lease`] brings, in bytes, and the rest of the few jobs that cross it.
pub const LEASE_MAX_BYTES: usize = 8 << 20;

/// What became of one [`Submission`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// It is on the queue, durably.
    Accepted,
    /// Its idempotency key was seen before, with this id; nothing was added.
    AcceptedBefore(DatumId),
    /// Its idempotency key stands for another text; nothing was added.
    KeyOfOtherText,
    /// The queue holds as much as it may; nothing was added.
    Full,
    /// It did not become as durable as was asked in time, and a worker has stored it by now: it is accepted.
    Stored,
    /// It did not become as durable as was asked in time.
    NotDurable {
        /// Whether it was taken off the queue again, and that is as durable as the job itself can be. If not, a worker has
        /// it, or another call accepted it before, or some disk or replica may have it that lacks the rollback: it may be
        /// learned.
        rolled_back: bool,
    },
}

impl Acceptance {
    /// Whether the job may be learned, for all that is known.
    pub(crate) fn may_be_there(&self) -> bool {
        !matches!(
            self,
            Self::Full | Self::AcceptedBefore(_) | Self::KeyOfOtherText | Self::NotDurable { rolled_back: true }
        )
    }
}

/// What must have happened to a job before it counts as accepted: what an operator can ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Whatever the server does by itself before it replies.
    #[default]
    Server,
    /// It is on the server's disk (fsync).
    Fsync,
    /// It is on the disk of the server, and on that of a replica.
    Replicated,
}

impl Durability {
    /// All of them, the weakest first.
    pub const ALL: [Self; 3] = [Self::Server, Self::Fsync, Self::Replicated];

    /// Its name in the settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Fsync => "fsync",
            Self::Replicated => "replicated",
        }
    }
}

/// How durably an accepted job is held, at least: what a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReachedDurability {
    /// At the level that was asked for, or better.
    Queue(Durability),
    /// It is in the store already.
    Stored,
}

impl ReachedDurability {
    /// Its name, as in the reply's `Durability` header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue(durability) => durability.as_str(),
            Self::Stored => "stored",
        }
    }
}

/// A job lent to one consumer for a time.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The job.
    pub job: Job,
    /// Which attempt at it this is, from 1.
    pub attempt: u32,
    /// Whether there is no attempt left: the last was neither completed nor failed. Its worker may have stored the datum
    /// and died before completing the job. So the store is asked; what it lacks is failed, and not tried again.
    pub exhausted: bool,
    /// The adapter's name for the lease.
    pub token: LeaseToken,
}

impl Lease {
    /// How many attempts were used up before it.
    pub(crate) fn used(&self) -> u32 {
        self.attempt.saturating_sub(u32::from(!self.exhausted))
    }
}

/// An adapter's own name for a lease; it has no meaning to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseToken {
    /// The partition that the job lies in.
    pub partition: u16,
    /// The entry in it.
    pub entry: String,
}

/// How a job came out when it is completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The store holds the datum.
    Learned,
    /// The store holds a tombstone: it was retracted before it was learned.
    Retracted,
}

/// What [`Queue::fail`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The job comes again after the given time.
    Retried,
    /// Its attempts are used up: it lies in the dead letters.
    Dead,
}

/// Where an unfinished job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Nobody has leased it.
    Queued,
    /// Leased, or waiting for its next attempt.
    Processing,
    /// In the dead letters.
    Dead,
}

/// The ledger: `accepted = queued + processing + learned + retracted + dead`, in every snapshot.
///
/// `accepted` is counted by itself, when jobs are accepted; it is not the sum of the others. So a lost job shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Data ever accepted.
    pub accepted: u64,
    /// Jobs that nobody has leased.
    pub queued: u64,
    /// Jobs that are leased, or wait for their next attempt.
    pub processing: u64,
    /// Data that the store holds.
    pub learned: u64,
    /// Data that were taken back.
    pub retracted: u64,
    /// Dead letters.
    pub dead: u64,
}

impl Ledger {
    /// Whether every accepted datum is accounted for.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.accepted == self.queued + self.processing + self.learned + self.retracted + self.dead
    }

    /// Whether nothing is unfinished.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.queued == 0 && self.processing == 0
    }
}

/// What one partition of the queue holds, and what has left it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Partition {
    /// Jobs that nobody has leased.
    pub queued: u64,
    /// Jobs that are leased, or wait for their next attempt.
    pub processing: u64,
    /// Dead letters.
    pub dead: u64,
    /// The text of what is queued or processing.
    pub size_bytes: u64,
    /// When the first of those was accepted; a job that was released, or retried, may be older.
    pub oldest: Option<Timestamp>,
    /// Jobs that have left the queue, completed or dead. Two readings show how fast it drains; the number itself has no
    /// meaning.
    pub drained: u64,
    /// Their text.
    pub drained_bytes: u64,
}

/// The memory of a queue's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerMemory {
    /// What it uses, in bytes.
    pub used_bytes: u64,
    /// What it may use, in bytes; `None` without a limit.
    pub max_bytes: Option<u64>,
}

/// A process that takes jobs off the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConsumer {
    /// Its name, new at each start.
    pub name: String,
    /// The version of its program, where that is known.
    pub version: Option<String>,
    /// How long ago it last asked for jobs, or renewed a lease.
    pub idle: Duration,
}

/// Why a call of the queue failed.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The queue is out of reach, or could not do it now: the same call may succeed later.
    #[error("the queue is out of reach: {message}")]
    Unavailable {
        /// What was tried, and what came of it.
        message: String,
        /// The library's error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The queue was asked and gave no answer, so it may have done it all the same. The same call may succeed later, and
    /// changes nothing then if it was done already.
    #[error("the queue gave no answer: {message}")]
    OutcomeUnknown {
        /// What was tried, and what came of it.
        message: String,
        /// The library's error.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The queue answers, but cannot be used as it is set up: someone has to change that.
    #[error("{0}")]
    Misconfigured(String),
}

impl QueueError {
    /// The same error of a call that may have done something before it failed.
    #[must_use]
    pub(crate) fn into_unknown(self) -> Self {
        match self {
            Self::Unavailable { message, source } | Self::OutcomeUnknown { message, source } => {
                Self::OutcomeUnknown { message, source }
            }
            Self::Misconfigured(message) => Self::OutcomeUnknown { message, source: None },
        }
    }

    /// Whether the same call may succeed later by itself.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::OutcomeUnknown { .. } => true,
            Self::Misconfigured(_) => false,
        }
    }
}

/// How many jobs may be leased together with one that has `attempts_left`; `usize::MAX` where there is no limit.
///
/// A job that ends its worker every time takes the others of its batch with it. With fewer and fewer companions, few
/// others lose an attempt by it and none its last: it fails its own last attempt alone.
#[must_use]
pub fn batch_limit(attempts_left: u32) -> usize {
    let index = (attempts_left as usize).wrapping_sub(1);
    BATCH_LIMITS.get(index).copied().unwrap_or(usize::MAX)
}

/// The [`batch_limit`] of a job with one attempt left, with two, and so on.
pub(crate) const BATCH_LIMITS: [usize; 3] = [1, 10, 100];

/// Limits and times that every adapter observes.
#[derive(Debug, Clone)]
pub struct QueueSettings {
    /// How long a leased job stays hidden from other consumers.
    pub lease: Duration,
    /// Attempts before a job is dead.
    pub max_attempts: u32,
    /// Unfinished jobs held at most. Each partition takes its equal share, and no more.
    pub max_queued: u64,
    /// The text of unfinished jobs held at most, in bytes; shared out likewise.
    pub max_queued_bytes: u64,
    /// What must have happened to a job before it counts as accepted.
    pub durability: Durability,
}

/// The one place where the defaults stand: the command line and its help take them from here.
impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            max_attempts: 5,
            max_queued: 1_000_000,
            max_queued_bytes: 1 << 30,
            durability: Durability::Server,
        }
    }
}

/// What the api and its consumers need: accepted jobs are held until they are completed. See the [module](self) for what
/// it promises.
///
/// All methods may be called at once from any number of tasks and processes.
///
/// # Errors
/// Every method: [`QueueError::Unavailable`] when the backend did not do it, [`QueueError::OutcomeUnknown`] when it did
/// not reply and may have done it all the same. Every method is safe to repeat with the same arguments within
/// [`REPLAY_WINDOW`].
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Puts jobs on the queue, durably, and says what became of each, in their order.
    ///
    /// The caller has given each job a new id. Idempotency keys are compared within the batch as well. What did not
    /// become as durable as [`QueueSettings::durability`] asks is rolled back where nobody has leased it yet, and then it
    /// was never accepted. A call that is executed when nobody waits for it any more accepts nothing.
    async fn accept(&self, submissions: &[Submission]) -> Result<Vec<Acceptance>, QueueError>;

    /// How durable an accepted job is at least. Asks no server.
    fn durability(&self) -> Durability;

    /// Leases up to `max` jobs (and no more than some [`LEASE_MAX_BYTES`] of text, but one at least) and hides them from other
    /// consumers for [`QueueSettings::lease`].
    ///
    /// Waits up to `wait` for the first; none may come. A job whose lease runs out before it is completed comes again
    /// with its attempt counted, and as [`exhausted`](Lease::exhausted) when that was its last. The fewer attempts it has
    /// left, the fewer others come with it ([`batch_limit`]). Whoever processes a job is idempotent by its id.
    ///
    /// The caller completes, fails or releases each lease, or extends it before it runs out.
    async fn lease(&self, max: usize, wait: Duration) -> Result<Vec<Lease>, QueueError>;

    /// Starts the time of these leases anew. One that has passed to another consumer is left alone.
    async fn extend(&self, leases: &[Lease]) -> Result<(), QueueError>;

    /// Takes finished jobs off the queue, and enters each into the ledger once, however often it is completed.
    ///
    /// The caller has stored each before. A job that was [retracted](Queue::retract) meanwhile counts as retracted,
    /// whatever the caller says. A dead letter of the same id is removed: its datum is in the store after all.
    async fn complete(&self, finished: &[(Lease, Outcome)]) -> Result<(), QueueError>;

    /// Ends an attempt that failed: the job comes again after `retry_after` (at most the lease time), or moves to the
    /// dead letters, with `error`, when this attempt was its last.
    ///
    /// The caller passes an error that may be shown to operators.
    async fn fail(&self, lease: &Lease, error: &str, retry_after: Duration) -> Result<Failure, QueueError>;

    /// Returns leased jobs untouched: others may lease them at once, and the attempt does not count.
    ///
    /// The caller has stored none of them.
    async fn release(&self, leases: &[Lease]) -> Result<(), QueueError>;

    /// Where an unfinished job stands; `None` when it was completed, or was never accepted.
    async fn job_state(&self, id: DatumId) -> Result<Option<JobState>, QueueError>;

    /// Enters a retraction into the ledger, once for each id.
    ///
    /// The caller has put the tombstone into the store, and says by `was_learned` whether a learned datum lay in its
    /// place. An unfinished job stays and will count as retracted when it is completed; a dead letter is dropped.
    async fn retract(&self, id: DatumId, was_learned: bool) -> Result<(), QueueError>;

    /// The ledger, in one consistent snapshot.
    async fn ledger(&self) -> Result<Ledger, QueueError>;

    /// What each partition holds, and what has left it.
    async fn partitions(&self) -> Result<Vec<Partition>, QueueError>;
}

/// What operators need beside it: set-up, repair, dead letters. Errors as for [`Queue`].
#[async_trait]
pub trait QueueAdmin: Queue {
    /// Connects, makes what is missing, and checks the backend's set-up. Called at start until it succeeds, and again
    /// now and then, since someone may change that set-up.
    ///
    /// Returns warnings: settings of the backend under which an accepted datum could be lost.
    ///
    /// # Errors
    /// [`QueueError::Misconfigured`]: waiting will not help (wrong password, too old a server).
    async fn prepare(&self) -> Result<Vec<String>, QueueError>;

    /// How much memory the queue's server uses, and how much it may; of several, of the one with the least room. `None` where
    /// the queue has no server of its own, or that does not tell.
    async fn server_memory(&self) -> Result<Option<ServerMemory>, QueueError> {
        Ok(None)
    }

    /// Who takes jobs off the queue: those that have done so of late, or hold some.
    async fn consumers(&self) -> Result<Vec<QueueConsumer>, QueueError>;

    /// Brings the ledger in line with a store that holds what the queue never saw (the original application's
    /// documents, or a queue that came back empty): sets `learned` and `retracted` to what the store counted, and
    /// `accepted` by as much more. Nothing happens, and `false` comes back, unless the ledger still equals `seen`.
    ///
    /// The caller has read `seen` before it counted the store, and found nothing unfinished in it.
    async fn reconcile(&self, seen: &Ledger, learned: u64, retracted: u64) -> Result<bool, QueueError>;

    /// Up to `max` dead letters, oldest first, those after a place in that order. A letter that is retried and dies again
    /// may stand at its old place or at the end.
    async fn dead_letters(
        &self,
        after: Option<DeadLetterPlace>,
        max: usize,
    ) -> Result<Vec<DeadLetterSummary>, QueueError>;

    /// Where a dead letter stands, or stood; `None` if that cannot be told (any more).
    async fn dead_letter_place(&self, id: DatumId) -> Result<Option<DeadLetterPlace>, QueueError>;

    /// One dead letter; `None` if there is none with this id.
    async fn dead_letter(&self, id: DatumId) -> Result<Option<DeadLetter>, QueueError>;

    /// Puts a dead letter back on the queue with all its attempts before it; `false` if there is none with this id.
    async fn retry_dead(&self, id: DatumId) -> Result<bool, QueueError>;
}

#[cfg(test)]
pub(crate) mod fake;

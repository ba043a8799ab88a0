//! What operators are told: dead letters, and what the system is made of.

use multivac_core::backup::Header;
use multivac_core::backup::restore::Restored;
use multivac_core::datum::DatumId;
use multivac_core::store::SeenReplica;
use multivac_core::{queue, system};
use serde::Serialize;
use utoipa::ToSchema;

use super::Problem;

/// A page of the dead letters.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeadLetters<'a> {
    /// Oldest first.
    pub(crate) dead: Vec<DeadLetter<'a>>,
    /// Where the next page begins, as its `after`; null at the end.
    #[schema(required, value_type = Option<String>)]
    pub(crate) next: Option<DatumId>,
}

/// A datum that could not be learned.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeadLetter<'a> {
    #[schema(value_type = String)]
    id: DatumId,
    /// How many attempts were made.
    attempts: u32,
    /// The error of the last attempt; in a list, the first 1,000 characters of it.
    error: &'a str,
    /// When it was accepted.
    #[schema(format = DateTime)]
    received_at: String,
    /// When its last attempt failed.
    #[schema(format = DateTime)]
    died_at: String,
    /// How long its text is, in bytes.
    size_bytes: u64,
}

impl<'a> From<&'a queue::DeadLetterSummary> for DeadLetter<'a> {
    fn from(letter: &'a queue::DeadLetterSummary) -> Self {
        Self {
            id: letter.id,
            attempts: letter.attempts,
            error: &letter.error,
            received_at: letter.received_at.to_string(),
            died_at: letter.died_at.to_string(),
            size_bytes: letter.size_bytes,
        }
    }
}

/// A dead letter with its text.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeadLetterWithText<'a> {
    #[serde(flatten)]
    #[schema(inline)]
    letter: DeadLetter<'a>,
    /// The text, as it was fed.
    data: &'a str,
}

impl<'a> From<&'a queue::DeadLetter> for DeadLetterWithText<'a> {
    fn from(letter: &'a queue::DeadLetter) -> Self {
        let data = letter.job.datum.as_str();
        let of_letter = DeadLetter {
            id: letter.job.id,
            attempts: letter.attempts,
            error: &letter.error,
            received_at: letter.job.received_at.to_string(),
            died_at: letter.died_at.to_string(),
            size_bytes: data.len() as u64,
        };
        Self { letter: of_letter, data }
    }
}

/// Dead letters were put back on the queue.
#[derive(Serialize, ToSchema)]
pub(crate) struct Retried {
    /// How many.
    pub(crate) retried: u64,
    /// How many there was no time for: ask again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) left: Option<u64>,
}

/// A problem with retrying all dead letters (RFC 9457), with how many were retried before it.
#[derive(Serialize, ToSchema)]
pub(crate) struct RetriedProblem<'a> {
    #[serde(flatten)]
    #[schema(inline)]
    problem: Problem<'a>,
    /// From the server itself: how many are on the queue again.
    #[schema(nullable = false)]
    retried: Option<u64>,
}

/// Replicas, workers and the queue.
#[derive(Serialize, ToSchema)]
pub(crate) struct System<'a> {
    /// The version of the replica that replies.
    version: &'static str,
    /// The replicas of the api that announced themselves in the last minute, and have not stopped.
    replicas: Vec<Replica<'a>>,
    /// Those who take jobs off the queue.
    workers: Vec<Worker<'a>>,
    queue: QueueFill,
    /// How many questions the replica that replies has answered since it started, or found its data insufficient for.
    questions: u64,
    /// Whether queue, store and worker are in the process of the one replica.
    embedded: bool,
}

/// A replica of the api.
#[derive(Serialize, ToSchema)]
pub(crate) struct Replica<'a> {
    /// Its name, new at each start.
    id: &'a str,
    /// Null where it does not say.
    #[schema(required)]
    version: Option<&'a str>,
    /// Whether it may answer questions: it has said in the last 5 s that it knows what was retracted.
    answering: bool,
}

/// Somebody who takes jobs off the queue.
#[derive(Serialize, ToSchema)]
pub(crate) struct Worker<'a> {
    /// New at each start.
    name: &'a str,
    /// Null where it does not say.
    #[schema(required)]
    version: Option<&'a str>,
    /// How long ago it last asked for jobs, or renewed a lease.
    idle_seconds: u64,
}

/// How full the queue is.
#[derive(Serialize, ToSchema)]
pub(crate) struct QueueFill {
    /// Jobs that are queued or processing.
    unfinished: u64,
    /// How long ago the oldest of them was accepted; null where there is none.
    #[schema(required)]
    oldest_seconds: Option<u64>,
    /// How many there may be.
    limit: u64,
    /// Their text.
    bytes: u64,
    /// How much there may be of it.
    limit_bytes: u64,
}

impl<'a> System<'a> {
    pub(crate) fn new(
        system: &'a system::System,
        questions: u64,
        (limit, limit_bytes): (u64, u64),
        embedded: bool,
    ) -> Self {
        let replica = |replica: &'a SeenReplica| Replica {
            id: &replica.name,
            version: replica.version.as_deref(),
            answering: replica.is_alive,
        };
        let worker = |worker: &'a queue::QueueConsumer| Worker {
            name: &worker.name,
            version: worker.version.as_deref(),
            idle_seconds: worker.idle.as_secs(),
        };
        let queue = QueueFill {
            unfinished: system.queue.unfinished,
            oldest_seconds: system.queue.oldest.map(|oldest| oldest.as_secs()),
            limit,
            bytes: system.queue.size_bytes,
            limit_bytes,
        };
        Self {
            version: system.version,
            replicas: system.replicas.iter().map(replica).collect(),
            workers: system.workers.iter().map(worker).collect(),
            queue,
            questions,
            embedded,
        }
    }
}

/// What an import has done.
#[derive(Serialize, ToSchema)]
pub(crate) struct Imported {
    /// When the backup was begun.
    #[schema(format = DateTime)]
    exported_at: String,
    /// Of the lines of the backup, as its trailer has it.
    sha256: String,
    /// Data of the backup.
    data: u64,
    /// Tombstones of the backup.
    tombstones: u64,
    /// Data of the backup that were retracted here, and stay so.
    stay_retracted: u64,
    /// Data of the store that tombstones of the backup took back.
    taken_back: u64,
    /// What the store holds now; null if it did not count in time.
    #[schema(required)]
    learned: Option<u64>,
    /// Its tombstones.
    #[schema(required)]
    retracted: Option<u64>,
    /// Whether the ledger agrees with the store; if not, it will once the queue is empty.
    ledger_agrees: bool,
}

impl Imported {
    pub(crate) fn new(header: &Header, restored: &Restored) -> Self {
        Self {
            exported_at: header.exported_at.clone(),
            sha256: restored.trailer.sha256.clone(),
            data: restored.trailer.data,
            tombstones: restored.trailer.tombstones,
            stay_retracted: restored.stay_retracted,
            taken_back: restored.taken_back,
            learned: restored.counts.map(|counts| counts.learned),
            retracted: restored.counts.map(|counts| counts.retracted),
            ledger_agrees: restored.reconciled,
        }
    }
}

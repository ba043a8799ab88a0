//! `impl Queue`: jobs, their attempts, the dead letters and the ledger.
//!
//! A job is *queued* while nobody has tried it, so while it has no row in `attempt`. A lease is a token in that row:
//! a holder whose job has passed to another has the wrong token, and what it then says about its attempt does
//! nothing. Only [`complete`](Queue::complete) asks for no token: whoever has stored the datum has finished its job.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use uuid::Uuid;

use super::writer::{Write, WriterHandle};
use super::{IdColumn, Shared, read_batch, to_column};
use crate::datum::{Datum, DatumId, Timestamp};
use crate::queue::{
    Acceptance, DeadLetter, Durability, Failure, IDEMPOTENCY_KEY_LIFETIME, IdempotencyKey, Job, JobState, Lease,
    LeaseToken, Ledger, Outcome, Partition, Queue, QueueAdmin, QueueError, QueueSettings, Submission, batch_limit,
};

pub(super) struct EmbeddedQueue {
    shared: Arc<Shared>,
    settings: QueueSettings,
}

impl EmbeddedQueue {
    pub(super) fn new(shared: Arc<Shared>, settings: QueueSettings) -> Self {
        Self { shared, settings }
    }

    pub(super) fn writer(&self) -> &WriterHandle {
        self.shared.writer.handle()
    }
}

#[async_trait]
impl Queue for EmbeddedQueue {
    async fn accept(&self, submissions: &[Submission]) -> Result<Vec<Acceptance>, QueueError> {
        let size_bytes = submissions.iter().map(|submission| submission.job.datum.as_str().len()).sum();
        let submissions = submissions.to_vec();
        let settings = self.settings.clone();
        Ok(self.writer().write(size_bytes, move |write| accept(write, &submissions, &settings)).await?)
    }

    fn durability(&self) -> Durability {
        // Every commit is: `synchronous=FULL`.
        Durability::Fsync
    }

    async fn lease(&self, max: usize, wait: Duration) -> Result<Vec<Lease>, QueueError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let mut jobs_changed = self.writer().watch_jobs();
        loop {
            // Before looking: what comes between looking and waiting ends the waiting.
            jobs_changed.borrow_and_update();
            let (writer, settings) = (self.writer().clone(), self.settings.clone());
            let take = move |write: &Write<'_>| {
                let (leases, due_in) = lease(write, max, &settings)?;
                Ok((Undelivered { leases, writer }, due_in))
            };
            let (undelivered, due_in) = self.writer().write(0, take).await?;
            let leases = undelivered.deliver();
            let left = wait.saturating_sub(started.elapsed());
            if !leases.is_empty() || left.is_zero() {
                return Ok(leases);
            }
            let until_due = due_in.map_or(left, |due_in| due_in.min(left));
            // Either way there may be one now.
            let _ = tokio::time::timeout(until_due, jobs_changed.changed()).await;
        }
    }

    async fn extend(&self, leases: &[Lease]) -> Result<(), QueueError> {
        let leases = leases.to_vec();
        let lease_ms = to_column(self.settings.lease.as_millis());
        Ok(self.writer().write(0, move |write| extend(write, &leases, lease_ms)).await?)
    }

    async fn complete(&self, finished: &[(Lease, Outcome)]) -> Result<(), QueueError> {
        let finished: Vec<_> = finished.iter().map(|(lease, outcome)| (lease.job.id, *outcome)).collect();
        Ok(self.writer().write(0, move |write| complete(write.connection, &finished)).await?)
    }

    async fn fail(&self, lease: &Lease, error: &str, retry_after: Duration) -> Result<Failure, QueueError> {
        let (lease, error) = (lease.clone(), error.to_owned());
        let retry_ms = to_column(retry_after.min(self.settings.lease).as_millis());
        let max_attempts = self.settings.max_attempts;
        let step = move |write: &Write<'_>| fail(write, &lease, &error, retry_ms, max_attempts);
        Ok(self.writer().write(0, step).await?)
    }

    async fn release(&self, leases: &[Lease]) -> Result<(), QueueError> {
        let leases = leases.to_vec();
        Ok(self.writer().write(0, move |write| release(write, &leases)).await?)
    }

    async fn job_state(&self, id: DatumId) -> Result<Option<JobState>, QueueError> {
        Ok(self.shared.readers.read(move |connection| find(connection, id)).await?)
    }

    async fn retract(&self, id: DatumId, was_learned: bool) -> Result<(), QueueError> {
        Ok(self.writer().write(0, move |write| retract(write.connection, id, was_learned)).await?)
    }

    async fn ledger(&self) -> Result<Ledger, QueueError> {
        Ok(self.shared.readers.read(ledger).await?)
    }

    async fn partitions(&self) -> Result<Vec<Partition>, QueueError> {
        Ok(vec![self.shared.readers.read(partition).await?])
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
        // Opening has prepared everything else; whether it can be read is left to see.
        self.ledger().await.map(|_| Vec::new())
    }

    async fn reconcile(&self, seen: &Ledger, learned: u64, retracted: u64) -> Result<bool, QueueError> {
        let seen = *seen;
        Ok(self.writer().write(0, move |write| reconcile(write.connection, seen, learned, retracted)).await?)
    }

    async fn dead_letters(&self, after: Option<DatumId>, max: usize) -> Result<Vec<DeadLetter>, QueueError> {
        Ok(self.shared.readers.read(move |connection| dead_letters(connection, after, max)).await?)
    }

    async fn dead_letter(&self, id: DatumId) -> Result<Option<DeadLetter>, QueueError> {
        Ok(self.shared.readers.read(move |connection| dead_letter(connection, id)).await?)
    }

    async fn retry_dead(&self, id: DatumId) -> Result<bool, QueueError> {
        Ok(self.writer().write(0, move |write| retry_dead(write, id)).await?)
    }
}

/// Leases on their way to whoever asked. When nobody takes them, since the asking was dropped meanwhile, they are given
/// back, so that no attempt is counted that was not made.
struct Undelivered {
    leases: Vec<Lease>,
    writer: WriterHandle,
}

impl Undelivered {
    fn deliver(mut self) -> Vec<Lease> {
        std::mem::take(&mut self.leases)
    }
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        if !self.leases.is_empty() {
            let leases = std::mem::take(&mut self.leases);
            self.writer.post(move |write| release(write, &leases));
        }
    }
}

/// Voids the leases of the process that had the file before: their jobs may be leased at once.
pub(super) fn void_leases(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE attempt SET token = NULL, due_ms = 0 WHERE due_ms >= 0", []).map(|_| ())
}

fn accept(
    write: &Write<'_>,
    submissions: &[Submission],
    settings: &QueueSettings,
) -> rusqlite::Result<Vec<Acceptance>> {
    let connection = write.connection;
    let mut remember_key = connection.prepare_cached(
        "INSERT INTO idempotency (key, id, expires_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (key) DO UPDATE SET id = excluded.id, expires_at = excluded.expires_at",
    )?;
    let mut add =
        connection.prepare_cached("INSERT INTO job (id, received_at, trace, text) VALUES (?1, ?2, ?3, ?4)")?;
    let now_ms = Timestamp::now().as_millis();
    let held = partition(connection)?;
    let room = settings.max_queued.saturating_sub(held.queued + held.processing);
    let mut room_bytes = settings.max_queued_bytes.saturating_sub(held.size_bytes);
    let (mut added, mut keys) = (0, 0);
    let mut answers = Vec::with_capacity(submissions.len());
    for Submission { job, idempotency_key } in submissions {
        if let Some(key) = idempotency_key
            && let Some(first) = first_with(connection, key, now_ms)?
        {
            answers.push(Acceptance::AcceptedBefore(first));
            continue;
        }
        // An id that is here already is the same call again.
        if find(connection, job.id)?.is_none() {
            let size_bytes = job.datum.as_str().len() as u64;
            if added == room || size_bytes > room_bytes {
                answers.push(Acceptance::Full);
                continue;
            }
            room_bytes -= size_bytes;
            let received_at = job.received_at.as_millis();
            add.execute(params![IdColumn(job.id), received_at, job.trace, job.datum.as_str()])?;
            added += 1;
        }
        if let Some(IdempotencyKey(key)) = idempotency_key {
            let expires_at = now_ms.saturating_add(to_column(IDEMPOTENCY_KEY_LIFETIME.as_millis()));
            remember_key.execute(params![key, IdColumn(job.id), expires_at])?;
            keys += 1;
        }
        answers.push(Acceptance::Accepted);
    }
    if keys > 0 {
        forget_expired_keys(connection, now_ms, keys)?;
    }
    if added > 0 {
        Moves { accepted: to_column(added), queued: to_column(added), ..Moves::default() }.enter(connection)?;
        write.jobs_changed();
    }
    Ok(answers)
}

fn first_with(
    connection: &Connection,
    IdempotencyKey(key): &IdempotencyKey,
    now_ms: i64,
) -> rusqlite::Result<Option<DatumId>> {
    connection
        .prepare_cached("SELECT id FROM idempotency WHERE key = ?1 AND expires_at > ?2")?
        .query_row(params![key, now_ms], |row| row.get(0))
        .optional()
        .map(|id| id.map(|IdColumn(id)| id))
}

/// Two go for each that comes, so that forgetting keeps up and no step has many to forget.
fn forget_expired_keys(connection: &Connection, now_ms: i64, come: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM idempotency WHERE key IN
             (SELECT key FROM idempotency WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
        )?
        .execute(params![now_ms, 2 * come])
        .map(|_| ())
}

/// Leases up to `max` jobs: first those that come again, since they are older, then new ones in their order. Also says
/// how long it is until the next lease or delay runs out.
fn lease(write: &Write<'_>, max: usize, settings: &QueueSettings) -> rusqlite::Result<(Vec<Lease>, Option<Duration>)> {
    let connection = write.connection;
    let now_ms = write.now_ms();
    let max_attempts = settings.max_attempts;

    let mut size_bytes = 0;
    let text_bytes = |job: &Job| job.datum.as_str().len();
    let due = read_batch(
        connection
            .prepare_cached(
                "SELECT job.id, received_at, trace, text, attempts, due_ms < 0 FROM attempt JOIN job USING (id)
                 WHERE due_ms <= ?1 ORDER BY due_ms LIMIT ?2",
            )?
            .query(params![now_ms, to_column(max)])?,
        &mut size_bytes,
        |row| Ok((read_job(row)?, row.get::<_, u32>(4)?, row.get::<_, bool>(5)?)),
        |(job, _, _)| text_bytes(job),
    )?;
    let (mut again, mut released, mut max) = (Vec::with_capacity(due.len()), 0, max);
    for (job, used, was_released) in due {
        let most = batch_limit(max_attempts.saturating_sub(used));
        if again.len() < max.min(most) {
            max = max.min(most);
            released += i64::from(was_released);
            again.push((job, used >= max_attempts));
        }
    }
    let new = read_batch(
        connection
            .prepare_cached(
                "SELECT id, received_at, trace, text FROM job
                 WHERE NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.id = job.id) ORDER BY seq LIMIT ?1",
            )?
            .query([to_column(max - again.len())])?,
        &mut size_bytes,
        read_job,
        text_bytes,
    )?;

    // A job that is exhausted is not tried.
    let mut count_attempt = connection.prepare_cached(
        "INSERT INTO attempt (id, attempts, token, due_ms) VALUES (?1, 1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET attempts = attempts + ?4, token = excluded.token, due_ms = excluded.due_ms
         RETURNING attempts",
    )?;
    let token = Uuid::now_v7().to_string();
    let due_ms = now_ms.saturating_add(to_column(settings.lease.as_millis()));
    let begun = to_column(new.len()) + released;
    let mut leases = Vec::with_capacity(again.len() + new.len());
    for (job, exhausted) in again.into_iter().chain(new.into_iter().map(|job| (job, false))) {
        let attempt = count_attempt
            .query_row(params![IdColumn(job.id), token, due_ms, i64::from(!exhausted)], |row| row.get(0))?;
        leases.push(Lease { job, attempt, exhausted, token: LeaseToken { partition: 0, entry: token.clone() } });
    }
    if begun > 0 {
        Moves { queued: -begun, processing: begun, ..Moves::default() }.enter(connection)?;
    }
    let next: Option<i64> =
        connection.prepare_cached("SELECT MIN(due_ms) FROM attempt")?.query_row([], |row| row.get(0))?;
    let due_in = next.map(|next| Duration::from_millis(u64::try_from(next - now_ms).unwrap_or(0)));
    Ok((leases, due_in))
}

/// Moves a job that was tried to the dead letters. One that was retracted meanwhile leaves nothing behind.
fn dead_letter_job(connection: &Connection, id: DatumId, error: &str) -> rusqlite::Result<()> {
    let moves = if is_retracted(connection, id)? {
        Moves { processing: -1, retracted: 1, ..Moves::default() }
    } else {
        connection
            .prepare_cached(
                "INSERT INTO dead (id, attempts, error, died_at, received_at, trace, text)
                 SELECT id, attempts, ?2, ?3, received_at, trace, text FROM job JOIN attempt USING (id) WHERE id = ?1",
            )?
            .execute(params![IdColumn(id), error, Timestamp::now().as_millis()])?;
        Moves { processing: -1, dead: 1, ..Moves::default() }
    };
    delete_attempt(connection, id)?;
    delete_job(connection, id)?;
    moves.enter(connection)
}

fn extend(write: &Write<'_>, leases: &[Lease], lease_ms: i64) -> rusqlite::Result<()> {
    let due_ms = write.now_ms().saturating_add(lease_ms);
    let mut set = write.connection.prepare_cached("UPDATE attempt SET due_ms = ?3 WHERE id = ?1 AND token = ?2")?;
    for lease in leases {
        set.execute(params![IdColumn(lease.job.id), lease.token.entry, due_ms])?;
    }
    Ok(())
}

fn complete(connection: &Connection, finished: &[(DatumId, Outcome)]) -> rusqlite::Result<()> {
    let mut moves = Moves::default();
    for &(id, outcome) in finished {
        let processing = find(connection, id)? == Some(JobState::Processing);
        delete_attempt(connection, id)?;
        if !delete_job(connection, id)? {
            if delete_dead(connection, id)? {
                let retracted = i64::from(outcome == Outcome::Retracted);
                Moves { dead: -1, retracted, learned: 1 - retracted, ..Moves::default() }.enter(connection)?;
            }
            continue;
        }
        *(if processing { &mut moves.processing } else { &mut moves.queued }) -= 1;
        // The mark is for whoever enters the same retraction later.
        if outcome == Outcome::Retracted {
            mark_retracted(connection, id)?;
        }
        *(if is_retracted(connection, id)? { &mut moves.retracted } else { &mut moves.learned }) += 1;
    }
    moves.enter(connection)
}

fn fail(write: &Write<'_>, lease: &Lease, error: &str, retry_ms: i64, max_attempts: u32) -> rusqlite::Result<Failure> {
    let connection = write.connection;
    let id = lease.job.id;
    let due_ms = write.now_ms().saturating_add(retry_ms);
    let attempts: Option<u32> = connection
        .prepare_cached("UPDATE attempt SET token = NULL, due_ms = ?3 WHERE id = ?1 AND token = ?2 RETURNING attempts")?
        .query_row(params![IdColumn(id), lease.token.entry, due_ms], |row| row.get(0))
        .optional()?;
    match attempts {
        Some(attempts) if attempts >= max_attempts => {
            dead_letter_job(connection, id, error)?;
            Ok(Failure::Dead)
        }
        Some(_) => {
            write.jobs_changed();
            Ok(Failure::Retried)
        }
        // The lease is over, perhaps by this very call, made before.
        None if find(connection, id)? == Some(JobState::Dead) => Ok(Failure::Dead),
        None => Ok(Failure::Retried),
    }
}

fn release(write: &Write<'_>, leases: &[Lease]) -> rusqlite::Result<()> {
    let connection = write.connection;
    let mut forget = connection.prepare_cached("DELETE FROM attempt WHERE id = ?1 AND token = ?2 AND attempts = 1")?;
    let mut uncount = connection
        .prepare_cached("UPDATE attempt SET attempts = ?3, token = NULL, due_ms = -1 WHERE id = ?1 AND token = ?2")?;
    let mut released = 0;
    for lease in leases {
        let (id, token) = (IdColumn(lease.job.id), &lease.token.entry);
        let first = !lease.exhausted && forget.execute(params![id, token])? > 0;
        if first || uncount.execute(params![id, token, lease.used()])? > 0 {
            released += 1;
        }
    }
    write.jobs_changed();
    Moves { queued: released, processing: -released, ..Moves::default() }.enter(connection)
}

fn find(connection: &Connection, id: DatumId) -> rusqlite::Result<Option<JobState>> {
    connection
        .prepare_cached(
            "SELECT 'processing' FROM attempt WHERE id = ?1 AND due_ms >= 0
             UNION ALL SELECT 'queued' FROM job
                WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM attempt WHERE id = ?1 AND due_ms >= 0)
             UNION ALL SELECT 'dead' FROM dead WHERE id = ?1",
        )?
        .query_row([IdColumn(id)], |row| {
            Ok(match row.get_ref(0)?.as_str()? {
                "processing" => JobState::Processing,
                "queued" => JobState::Queued,
                _ => JobState::Dead,
            })
        })
        .optional()
}

fn retract(connection: &Connection, id: DatumId, was_learned: bool) -> rusqlite::Result<()> {
    match find(connection, id)? {
        Some(JobState::Queued | JobState::Processing) => mark_retracted(connection, id),
        Some(JobState::Dead) => {
            delete_dead(connection, id)?;
            mark_retracted(connection, id)?;
            Moves { dead: -1, retracted: 1, ..Moves::default() }.enter(connection)
        }
        // A store that was filled past this queue may know more data than the ledger, until it is reconciled.
        None if was_learned && !is_retracted(connection, id)? && ledger(connection)?.learned > 0 => {
            mark_retracted(connection, id)?;
            Moves { learned: -1, retracted: 1, ..Moves::default() }.enter(connection)
        }
        None => Ok(()),
    }
}

fn ledger(connection: &Connection) -> rusqlite::Result<Ledger> {
    connection.prepare_cached("SELECT accepted, queued, processing, learned, retracted, dead FROM ledger")?.query_row(
        [],
        |row| {
            let count = |column| row.get(column).map(|count: i64| u64::try_from(count).unwrap_or(0));
            Ok(Ledger {
                accepted: count(0)?,
                queued: count(1)?,
                processing: count(2)?,
                learned: count(3)?,
                retracted: count(4)?,
                dead: count(5)?,
            })
        },
    )
}

/// In one statement, so in one snapshot.
fn partition(connection: &Connection) -> rusqlite::Result<Partition> {
    connection
        .prepare_cached(
            "SELECT queued, processing, dead, bytes, drained, drained_bytes,
             (SELECT received_at FROM job ORDER BY seq LIMIT 1) FROM ledger, held",
        )?
        .query_row([], |row| {
            let count = |column| row.get(column).map(|count: i64| u64::try_from(count).unwrap_or(0));
            Ok(Partition {
                queued: count(0)?,
                processing: count(1)?,
                dead: count(2)?,
                size_bytes: count(3)?,
                drained: count(4)?,
                drained_bytes: count(5)?,
                oldest: row.get::<_, Option<i64>>(6)?.map(Timestamp::from_millis),
            })
        })
}

fn reconcile(connection: &Connection, seen: Ledger, learned: u64, retracted: u64) -> rusqlite::Result<bool> {
    // Fewer than were counted before would hide a loss.
    if ledger(connection)? != seen || learned + retracted < seen.learned + seen.retracted {
        return Ok(false);
    }
    connection
        .prepare_cached(
            "UPDATE ledger SET accepted = accepted + (?1 - learned) + (?2 - retracted), learned = ?1, retracted = ?2",
        )?
        .execute([to_column(learned), to_column(retracted)])?;
    Ok(true)
}

/// In the order of their ids, which is that of accepting: so `after` means something after its letter has gone.
fn dead_letters(connection: &Connection, after: Option<DatumId>, max: usize) -> rusqlite::Result<Vec<DeadLetter>> {
    connection
        .prepare_cached(
            "SELECT id, received_at, trace, text, attempts, error, died_at FROM dead
             WHERE ?1 IS NULL OR id > ?1 ORDER BY id LIMIT ?2",
        )?
        .query_map(params![after.map(IdColumn), to_column(max)], read_dead_letter)?
        .collect()
}

fn dead_letter(connection: &Connection, id: DatumId) -> rusqlite::Result<Option<DeadLetter>> {
    connection
        .prepare_cached("SELECT id, received_at, trace, text, attempts, error, died_at FROM dead WHERE id = ?1")?
        .query_row([IdColumn(id)], read_dead_letter)
        .optional()
}

fn retry_dead(write: &Write<'_>, id: DatumId) -> rusqlite::Result<bool> {
    let connection = write.connection;
    let back = connection
        .prepare_cached(
            "INSERT INTO job (id, received_at, trace, text)
             SELECT id, received_at, trace, text FROM dead WHERE id = ?1",
        )?
        .execute([IdColumn(id)])?;
    if back == 0 {
        return Ok(false);
    }
    delete_dead(connection, id)?;
    Moves { dead: -1, queued: 1, ..Moves::default() }.enter(connection)?;
    write.jobs_changed();
    Ok(true)
}

/// How a step changes the ledger.
#[derive(Default)]
struct Moves {
    accepted: i64,
    queued: i64,
    processing: i64,
    learned: i64,
    retracted: i64,
    dead: i64,
}

impl Moves {
    fn enter(self, connection: &Connection) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "UPDATE ledger SET accepted = accepted + :accepted, queued = queued + :queued,
                 processing = processing + :processing, learned = learned + :learned,
                 retracted = retracted + :retracted, dead = dead + :dead",
            )?
            .execute(named_params! {
                ":accepted": self.accepted, ":queued": self.queued, ":processing": self.processing,
                ":learned": self.learned, ":retracted": self.retracted, ":dead": self.dead,
            })
            .map(|_| ())
    }
}

/// From the columns id, received_at, trace, text.
fn read_job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let IdColumn(id) = row.get(0)?;
    Ok(Job {
        id,
        received_at: Timestamp::from_millis(row.get(1)?),
        trace: row.get(2)?,
        datum: Datum::accepted_before(row.get_ref(3)?.as_str()?),
    })
}

/// From the columns of [`read_job`], then attempts, error, died_at.
fn read_dead_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        job: read_job(row)?,
        attempts: row.get(4)?,
        error: row.get(5)?,
        died_at: Timestamp::from_millis(row.get(6)?),
    })
}

fn delete_attempt(connection: &Connection, id: DatumId) -> rusqlite::Result<bool> {
    Ok(connection.prepare_cached("DELETE FROM attempt WHERE id = ?1")?.execute([IdColumn(id)])? > 0)
}

fn delete_job(connection: &Connection, id: DatumId) -> rusqlite::Result<bool> {
    Ok(connection.prepare_cached("DELETE FROM job WHERE id = ?1")?.execute([IdColumn(id)])? > 0)
}

fn delete_dead(connection: &Connection, id: DatumId) -> rusqlite::Result<bool> {
    Ok(connection.prepare_cached("DELETE FROM dead WHERE id = ?1")?.execute([IdColumn(id)])? > 0)
}

fn is_retracted(connection: &Connection, id: DatumId) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM retraction WHERE id = ?1")?.exists([IdColumn(id)])
}

fn mark_retracted(connection: &Connection, id: DatumId) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO retraction (id) VALUES (?1) ON CONFLICT DO NOTHING")?
        .execute([IdColumn(id)])
        .map(|_| ())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::Embedded;
    use super::*;

    const LEASE: Duration = Duration::from_millis(60);

    fn queue(max_attempts: u32, max_queued: u64) -> (tempfile::TempDir, Embedded, Arc<dyn QueueAdmin>) {
        let dir = tempfile::tempdir().unwrap();
        let embedded = Embedded::open(
            dir.path(),
            QueueSettings { lease: LEASE, max_attempts, max_queued, ..QueueSettings::default() },
        )
        .unwrap();
        let queue = embedded.queue();
        (dir, embedded, queue)
    }

    fn submission(text: &str) -> Submission {
        let datum = Datum::accepted_before(text);
        let job = Job { id: DatumId::generate(), datum, received_at: Timestamp::now(), trace: None };
        Submission { job, idempotency_key: None }
    }

    /// The ledger as the rows themselves have it; `accepted` and the counts of what is gone are taken on trust.
    fn counted(path: &std::path::Path) -> (u64, u64, u64) {
        let connection = Connection::open(path).unwrap();
        let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u32>(0)).map(u64::from).unwrap();
        let processing = count("SELECT COUNT(*) FROM attempt WHERE due_ms >= 0");
        (count("SELECT COUNT(*) FROM job") - processing, processing, count("SELECT COUNT(*) FROM dead"))
    }

    #[tokio::test]
    async fn a_job_whose_lease_runs_out_comes_again_without_polling_and_dies_in_the_end() {
        let (_dir, _embedded, queue) = queue(2, 9);
        let job = submission("poison");
        queue.accept(std::slice::from_ref(&job)).await.unwrap();
        for attempt in 1..=2 {
            let leases = queue.lease(9, Duration::from_secs(5)).await.unwrap();
            assert_eq!(leases.iter().map(|lease| lease.attempt).collect::<Vec<_>>(), [attempt]);
        }
        let exhausted = queue.lease(9, Duration::from_secs(5)).await.unwrap();
        assert_eq!(exhausted.iter().map(|lease| (lease.attempt, lease.exhausted)).collect::<Vec<_>>(), [(2, true)]);
        assert_eq!(queue.fail(&exhausted[0], "nobody has it", Duration::ZERO).await.unwrap(), Failure::Dead);
        assert_eq!(queue.job_state(job.job.id).await.unwrap(), Some(JobState::Dead));
        let letters = queue.dead_letters(None, 9).await.unwrap();
        assert_eq!((letters.len(), &letters[0].job, letters[0].attempts), (1, &job.job, 2));
        assert_eq!(letters[0].error, "nobody has it");
        assert!(queue.retry_dead(job.job.id).await.unwrap());
        assert_eq!(queue.lease(9, Duration::ZERO).await.unwrap()[0].attempt, 1);
    }

    #[tokio::test]
    async fn a_stale_holder_changes_nothing_but_may_complete_once() {
        let (_dir, _embedded, queue) = queue(5, 9);
        queue.accept(&[submission("slow")]).await.unwrap();
        let stale = queue.lease(1, Duration::ZERO).await.unwrap();
        let fresh = queue.lease(1, 4 * LEASE).await.unwrap();
        queue.release(&stale).await.unwrap();
        assert_eq!(queue.fail(&stale[0], "late", Duration::ZERO).await.unwrap(), Failure::Retried);
        assert!(queue.lease(1, Duration::ZERO).await.unwrap().is_empty(), "it is still leased");
        for lease in [&stale[0], &fresh[0], &stale[0]] {
            queue.complete(&[(lease.clone(), Outcome::Learned)]).await.unwrap();
        }
        assert_eq!(queue.ledger().await.unwrap(), Ledger { accepted: 1, learned: 1, ..Ledger::default() });
    }

    #[tokio::test]
    async fn whoever_stops_waiting_for_a_lease_takes_no_job_along() {
        let dir = tempfile::tempdir().unwrap();
        // With leases that do not run out while this test does.
        let queue = Embedded::open(dir.path(), QueueSettings::default()).unwrap().queue();
        for n in 0..200 {
            queue.accept(&[submission("x")]).await.unwrap();
            let lease = queue.lease(1, Duration::from_secs(1));
            if let Ok(leases) = tokio::time::timeout(Duration::from_micros(10 * n), lease).await {
                queue.complete(&[(leases.unwrap().remove(0), Outcome::Learned)]).await.unwrap();
            }
        }
        while !queue.ledger().await.unwrap().is_quiet() {
            let left = queue.lease(1000, Duration::from_secs(1)).await.unwrap();
            assert!(!left.is_empty(), "one was taken along");
            assert!(left.iter().all(|lease| lease.attempt == 1), "no attempt was counted that was not made");
            let finished: Vec<_> = left.into_iter().map(|lease| (lease, Outcome::Learned)).collect();
            queue.complete(&finished).await.unwrap();
        }
        assert_eq!(queue.ledger().await.unwrap(), Ledger { accepted: 200, learned: 200, ..Ledger::default() });
    }

    #[tokio::test]
    async fn an_undelivered_lease_is_released() {
        let (_dir, embedded, queue) = queue(5, 9);
        queue.accept(&[submission("x")]).await.unwrap();
        let leases = queue.lease(1, Duration::ZERO).await.unwrap();
        let writer = embedded.queue.writer().clone();
        drop(Undelivered { leases, writer });
        assert_eq!(queue.lease(1, Duration::ZERO).await.unwrap()[0].attempt, 1);
    }

    #[tokio::test]
    async fn one_lease_is_bounded_in_text_and_goes_on_with_the_next() {
        let (_dir, _embedded, queue) = queue(5, 9);
        let jobs =
            [submission(&"x".repeat(9 << 20)), submission(&"x".repeat(5 << 20)), submission(&"x".repeat(4 << 20))];
        queue.accept(&jobs).await.unwrap();
        for job in &jobs {
            let leases = queue.lease(9, Duration::ZERO).await.unwrap();
            assert_eq!(leases.iter().map(|lease| lease.job.id).collect::<Vec<_>>(), [job.job.id]);
            queue.complete(&[(leases[0].clone(), Outcome::Learned)]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn keys_are_forgotten_after_their_time_and_not_before() {
        let (_dir, embedded, queue) = queue(5, 99);
        let keyed = |key| Submission { idempotency_key: Some(IdempotencyKey([key; 16])), ..submission("x") };
        let (first, other) = (keyed(1), keyed(1));
        let answers = queue.accept(&[first.clone(), other]).await.unwrap();
        assert_eq!(answers, [Acceptance::Accepted, Acceptance::AcceptedBefore(first.job.id)]);
        let expire = |write: &Write<'_>| write.connection.execute("UPDATE idempotency SET expires_at = 1", []);
        embedded.queue.writer().write(0, expire).await.unwrap();
        assert_eq!(queue.accept(&[keyed(2)]).await.unwrap(), [Acceptance::Accepted]);
        let connection = Connection::open(embedded.path()).unwrap();
        let left: u32 = connection.query_row("SELECT COUNT(*) FROM idempotency", [], |row| row.get(0)).unwrap();
        assert_eq!(left, 1);
        assert_eq!(queue.accept(&[keyed(1)]).await.unwrap(), [Acceptance::Accepted]);
    }

    #[tokio::test]
    async fn what_is_over_the_limit_is_refused_and_what_is_known_is_not() {
        let (_dir, _embedded, queue) = queue(5, 2);
        let batch = [submission("a"), submission("b"), submission("c")];
        let answers = [Acceptance::Accepted, Acceptance::Accepted, Acceptance::Full];
        assert_eq!(queue.accept(&batch).await.unwrap(), answers);
        assert_eq!(queue.accept(&batch).await.unwrap(), answers);
        assert_eq!(queue.ledger().await.unwrap(), Ledger { accepted: 2, queued: 2, ..Ledger::default() });
    }

    #[tokio::test]
    async fn a_retraction_is_entered_once_whatever_comes_between() {
        let (_dir, _embedded, queue) = queue(1, 9);
        let retracted = |n| Ledger { accepted: n, retracted: n, ..Ledger::default() };
        // While it is processed.
        queue.accept(&[submission("a")]).await.unwrap();
        let lease = queue.lease(1, Duration::ZERO).await.unwrap().remove(0);
        queue.retract(lease.job.id, true).await.unwrap();
        queue.complete(&[(lease.clone(), Outcome::Learned)]).await.unwrap();
        queue.retract(lease.job.id, true).await.unwrap();
        assert_eq!(queue.ledger().await.unwrap(), retracted(1));
        // After it was learned.
        queue.accept(&[submission("b")]).await.unwrap();
        let lease = queue.lease(1, Duration::ZERO).await.unwrap().remove(0);
        queue.complete(&[(lease.clone(), Outcome::Learned)]).await.unwrap();
        queue.retract(lease.job.id, false).await.unwrap();
        queue.retract(lease.job.id, true).await.unwrap();
        queue.retract(lease.job.id, true).await.unwrap();
        assert_eq!(queue.ledger().await.unwrap(), retracted(2));
        // When it fails for good after it was retracted, and when it was dead before.
        for early in [true, false] {
            queue.accept(&[submission("c")]).await.unwrap();
            let lease = queue.lease(1, Duration::ZERO).await.unwrap().remove(0);
            if early {
                queue.retract(lease.job.id, false).await.unwrap();
            }
            assert_eq!(queue.fail(&lease, "no", Duration::ZERO).await.unwrap(), Failure::Dead);
            queue.retract(lease.job.id, false).await.unwrap();
            assert_eq!(queue.job_state(lease.job.id).await.unwrap(), None);
        }
        assert_eq!(queue.ledger().await.unwrap(), retracted(4));
    }

    #[derive(Debug, Clone)]
    enum Move {
        Accept(usize),
        Lease(usize),
        Complete(usize, bool),
        Fail(usize),
        Release(usize),
        Retract(usize, bool),
        RetryDead(usize),
        Reconcile(u64, u64),
        Reopen,
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let some = 0..1000_usize;
        let one = prop_oneof![
            4 => (1..4_usize).prop_map(Move::Accept),
            4 => (1..4_usize).prop_map(Move::Lease),
            3 => (some.clone(), any::<bool>()).prop_map(|(n, learned)| Move::Complete(n, learned)),
            3 => some.clone().prop_map(Move::Fail),
            2 => some.clone().prop_map(Move::Release),
            2 => (some.clone(), any::<bool>()).prop_map(|(n, learned)| Move::Retract(n, learned)),
            2 => some.prop_map(Move::RetryDead),
            1 => (0..5_u64, 0..5_u64).prop_map(|(learned, retracted)| Move::Reconcile(learned, retracted)),
            1 => Just(Move::Reopen),
        ];
        proptest::collection::vec(one, 1..60)
    }

    async fn walk(moves: Vec<Move>) {
        let (dir, mut embedded, mut queue) = queue(2, 20);
        let (mut ids, mut leases) = (Vec::new(), Vec::new());
        for step in moves {
            let lease = |n: usize| leases.get(n % leases.len().max(1)).cloned();
            let id = |n: usize| ids.get(n % ids.len().max(1)).copied();
            match step {
                Move::Accept(n) => {
                    let new: Vec<_> = (0..n).map(|_| submission("x")).collect();
                    queue.accept(&new).await.unwrap();
                    ids.extend(new.iter().map(|submission| submission.job.id));
                }
                Move::Lease(n) => leases.extend(queue.lease(n, Duration::ZERO).await.unwrap()),
                Move::Complete(n, learned) => {
                    let outcome = if learned { Outcome::Learned } else { Outcome::Retracted };
                    let finished: Vec<_> = lease(n).into_iter().map(|lease| (lease, outcome)).collect();
                    queue.complete(&finished).await.unwrap();
                }
                Move::Fail(n) => {
                    if let Some(lease) = lease(n) {
                        queue.fail(&lease, "no", Duration::ZERO).await.unwrap();
                    }
                }
                Move::Release(n) => queue.release(lease(n).as_slice()).await.unwrap(),
                Move::Retract(n, learned) => {
                    if let Some(id) = id(n) {
                        queue.retract(id, learned).await.unwrap();
                    }
                }
                Move::RetryDead(n) => {
                    if let Some(id) = id(n) {
                        queue.retry_dead(id).await.unwrap();
                    }
                }
                Move::Reconcile(learned, retracted) => {
                    let seen = queue.ledger().await.unwrap();
                    let reconciled = queue.reconcile(&seen, learned, retracted).await.unwrap();
                    assert_eq!(reconciled, learned + retracted >= seen.learned + seen.retracted);
                }
                Move::Reopen => {
                    drop((embedded, queue));
                    let settings =
                        QueueSettings { lease: LEASE, max_attempts: 2, max_queued: 20, ..QueueSettings::default() };
                    embedded = Embedded::open(dir.path(), settings).unwrap();
                    queue = embedded.queue();
                }
            }
            let ledger = queue.ledger().await.unwrap();
            assert!(ledger.balances(), "{ledger:?}");
            assert_eq!((ledger.queued, ledger.processing, ledger.dead), counted(embedded.path()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn the_ledger_is_what_the_tables_hold_after_any_walk(moves in moves()) {
            tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(walk(moves));
        }
    }
}

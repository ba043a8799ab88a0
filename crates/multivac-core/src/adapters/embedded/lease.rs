//! Leases: given, extended, and ended.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::columns::{IdColumn, read_batch, to_column};
use super::dead_letters::dead_letter_job;
use super::ledger::Moves;
use super::rows::{delete_attempt, delete_dead, delete_job, find, is_retracted, mark_retracted, read_job};
use super::writer::{Write, WriterHandle};
use crate::datum::DatumId;
use crate::queue::{Failure, Job, JobState, Lease, LeaseToken, Outcome, QueueSettings, batch_limit};

/// Voids the leases of the process that had the file before: their jobs may be leased at once.
pub(super) fn void_leases(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE attempt SET token = NULL, due_ms = 0 WHERE due_ms >= 0", []).map(|_| ())
}
/// Leases up to `max` jobs: first those that come again, since they are older, then new ones in their order. Also says
/// how long it is until the next lease or delay runs out.
pub(super) fn lease(
    write: &Write<'_>,
    max: usize,
    settings: &QueueSettings,
) -> rusqlite::Result<(Vec<Lease>, Option<Duration>)> {
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

pub(super) fn extend(write: &Write<'_>, leases: &[Lease], lease_ms: i64) -> rusqlite::Result<()> {
    let due_ms = write.now_ms().saturating_add(lease_ms);
    let mut set = write.connection.prepare_cached("UPDATE attempt SET due_ms = ?3 WHERE id = ?1 AND token = ?2")?;
    for lease in leases {
        set.execute(params![IdColumn(lease.job.id), lease.token.entry, due_ms])?;
    }
    Ok(())
}

pub(super) fn complete(connection: &Connection, finished: &[(DatumId, Outcome)]) -> rusqlite::Result<()> {
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

pub(super) fn fail(
    write: &Write<'_>,
    lease: &Lease,
    error: &str,
    retry_ms: i64,
    max_attempts: u32,
) -> rusqlite::Result<Failure> {
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

pub(super) fn release(write: &Write<'_>, leases: &[Lease]) -> rusqlite::Result<()> {
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
/// Leases on their way to whoever asked. When nobody takes them, since the asking was dropped meanwhile, they are given
/// back, so that no attempt is counted that was not made.
pub(super) struct Undelivered {
    pub(super) leases: Vec<Lease>,
    pub(super) writer: WriterHandle,
}

impl Undelivered {
    pub(super) fn deliver(mut self) -> Vec<Lease> {
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

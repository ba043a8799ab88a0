//! Leases: how a job is leased, and how a lease is extended, ended by its holder, or voided.
//!
//! A lease is a token in the job's row of `attempt`. A holder whose job has passed to another has the wrong token, so
//! what it says about its attempt changes nothing. Only [`complete`] asks for no token: a consumer that has stored
//! the datum has finished its job.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::columns::{IdColumn, read_batch, to_column};
use super::damage::{Damage, Table, is_damaged_row};
use super::dead_letters::{dead_letter_job, dead_letter_unread};
use super::ledger::LedgerChange;
use super::rows::{delete_attempt, delete_dead, delete_job, is_retracted, job_state, mark_retracted, read_job};
use super::writer::{WriteContext, WriterHandle};
use crate::datum::DatumId;
use crate::observe::metrics;
use crate::queue::{Failure, Job, JobState, Lease, LeaseToken, Outcome, QueueSettings, batch_limit};

/// Voids the leases of the process that had the file before: their jobs may be leased at once, and their attempts stay
/// counted. A released job (due_ms -1) has no lease.
pub(super) fn void_leases(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE attempt SET token = NULL, due_ms = 0 WHERE due_ms >= 0", []).map(|_| ())
}

/// Leases up to `max` jobs: first those that were tried before, since they are older, then new ones in the order of
/// accepting. Also returns how long it is until the next lease or retry delay runs out. A job that cannot be read becomes a
/// dead letter.
pub(super) fn lease(
    context: &WriteContext<'_>,
    max: usize,
    settings: &QueueSettings,
    damage: &Damage,
) -> rusqlite::Result<(Vec<Lease>, Option<Duration>)> {
    let connection = context.connection;
    let now_ms = context.now_ms();
    let max_attempts = settings.max_attempts;

    let mut size_bytes = 0;
    let mut unreadable = Vec::new();
    let due = read_batch(
        connection
            .prepare_cached(
                "SELECT job.id, received_at, trace, text, job.seq, attempts, due_ms < 0, token IS NOT NULL FROM attempt JOIN job USING (id)
                 WHERE due_ms <= ?1 ORDER BY due_ms LIMIT ?2",
            )?
            .query(params![now_ms, to_column(max)])?,
        &mut size_bytes,
        |row| Ok((try_read_job(row)?, row.get::<_, u32>(5)?, row.get::<_, bool>(6)?, row.get::<_, bool>(7)?)),
        |(job, ..)| text_bytes(job),
    )?;
    let (mut tried, mut released, mut max) = (Vec::with_capacity(due.len()), 0, max);
    for (job, used, was_released, ran_out) in due {
        let job = match job {
            Ok(job) => job,
            Err(job) => {
                unreadable.push(job);
                continue;
            }
        };
        let batch_limit = batch_limit(max_attempts.saturating_sub(used));
        if tried.len() < max.min(batch_limit) {
            max = max.min(batch_limit);
            released += i64::from(was_released);
            metrics::LEASES_EXPIRED.inc_by(u64::from(ran_out));
            tried.push((job, used >= max_attempts));
        }
    }
    let mut new = Vec::new();
    for job in read_new(connection, max - tried.len(), &mut size_bytes)? {
        match job {
            Ok(job) => new.push(job),
            Err(job) => unreadable.push(job),
        }
    }
    for UnreadableJob { seq, id, error } in unreadable {
        damage.note(Table::Job, seq, id, &error);
        if let Some(id) = id {
            dead_letter_unread(connection, id, &format!("it cannot be read: {error}"))?;
            // Others may wait behind it.
            context.jobs_changed();
        }
    }

    // An exhausted job is leased so that its holder can ask the store for it; no attempt is made, and none is counted.
    let mut count_attempt = connection.prepare_cached(
        "INSERT INTO attempt (id, attempts, token, due_ms) VALUES (?1, 1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET attempts = attempts + ?4, token = excluded.token, due_ms = excluded.due_ms
         RETURNING attempts",
    )?;
    let token = Uuid::now_v7().to_string();
    let due_ms = now_ms.saturating_add(to_column(settings.lease.as_millis()));
    let no_longer_queued = to_column(new.len()) + released;
    let mut leases = Vec::with_capacity(tried.len() + new.len());
    for (job, exhausted) in tried.into_iter().chain(new.into_iter().map(|job| (job, false))) {
        let attempt = count_attempt
            .query_row(params![IdColumn(job.id), token, due_ms, i64::from(!exhausted)], |row| row.get(0))?;
        leases.push(Lease { job, attempt, exhausted, token: LeaseToken { partition: 0, entry: token.clone() } });
    }
    if no_longer_queued > 0 {
        LedgerChange { queued: -no_longer_queued, processing: no_longer_queued, ..LedgerChange::default() }
            .apply(connection)?;
    }
    let next_due_ms: Option<i64> =
        connection.prepare_cached("SELECT MIN(due_ms) FROM attempt")?.query_row([], |row| row.get(0))?;
    let due_in = next_due_ms.map(|next_due_ms| Duration::from_millis(u64::try_from(next_due_ms - now_ms).unwrap_or(0)));
    Ok((leases, due_in))
}

/// A job whose row cannot be read.
struct UnreadableJob {
    seq: i64,
    id: Option<DatumId>,
    error: rusqlite::Error,
}

fn text_bytes(job: &Result<Job, UnreadableJob>) -> usize {
    job.as_ref().map_or(0, |job| job.datum.as_str().len())
}

/// Up to `max` jobs that were never tried, in the order of accepting.
fn read_new(
    connection: &Connection,
    max: usize,
    size_bytes: &mut usize,
) -> rusqlite::Result<Vec<Result<Job, UnreadableJob>>> {
    let mut select = connection.prepare_cached(
        "SELECT id, received_at, trace, text, seq FROM job
         WHERE NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.id = job.id) ORDER BY seq LIMIT ?1",
    )?;
    read_batch(select.query([to_column(max)])?, size_bytes, try_read_job, text_bytes)
}

/// From the columns of [`read_job`], then seq.
fn try_read_job(row: &Row<'_>) -> rusqlite::Result<Result<Job, UnreadableJob>> {
    match read_job(row) {
        Err(error) if is_damaged_row(&error) => {
            let id = row.get(0).ok().map(|IdColumn(id)| id);
            Ok(Err(UnreadableJob { seq: row.get(4)?, id, error }))
        }
        job => job.map(Ok),
    }
}

/// Starts the time of these leases anew.
pub(super) fn extend(context: &WriteContext<'_>, leases: &[Lease], lease_ms: i64) -> rusqlite::Result<()> {
    let due_ms = context.now_ms().saturating_add(lease_ms);
    let mut set_due =
        context.connection.prepare_cached("UPDATE attempt SET due_ms = ?3 WHERE id = ?1 AND token = ?2")?;
    for lease in leases {
        set_due.execute(params![IdColumn(lease.job.id), lease.token.entry, due_ms])?;
    }
    Ok(())
}

/// Takes finished jobs off the queue, and enters each into the ledger once, however often it is completed.
pub(super) fn complete(connection: &Connection, finished: &[(DatumId, Outcome)]) -> rusqlite::Result<()> {
    let mut change = LedgerChange::default();
    for &(id, outcome) in finished {
        let processing = job_state(connection, id)? == Some(JobState::Processing);
        delete_attempt(connection, id)?;
        if !delete_job(connection, id)? {
            if delete_dead(connection, id)? {
                let retracted = i64::from(outcome == Outcome::Retracted);
                LedgerChange { dead: -1, retracted, learned: 1 - retracted, ..LedgerChange::default() }
                    .apply(connection)?;
            }
            continue;
        }
        *(if processing { &mut change.processing } else { &mut change.queued }) -= 1;
        // The retraction itself may be entered later: the mark keeps it from being counted twice.
        if outcome == Outcome::Retracted {
            mark_retracted(connection, id)?;
        }
        *(if is_retracted(connection, id)? { &mut change.retracted } else { &mut change.learned }) += 1;
    }
    change.apply(connection)
}

/// Ends an attempt that failed: the job waits for its next attempt, or becomes a dead letter.
pub(super) fn fail(
    context: &WriteContext<'_>,
    lease: &Lease,
    error: &str,
    retry_ms: i64,
    max_attempts: u32,
) -> rusqlite::Result<Failure> {
    let connection = context.connection;
    let id = lease.job.id;
    let due_ms = context.now_ms().saturating_add(retry_ms);
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
            context.jobs_changed();
            Ok(Failure::Retried)
        }
        // The lease is over. It may have been ended by this same call, when its reply did not arrive and it was repeated.
        None if job_state(connection, id)? == Some(JobState::Dead) => Ok(Failure::Dead),
        None => Ok(Failure::Retried),
    }
}

/// Returns jobs untouched: the attempt does not count.
pub(super) fn release(context: &WriteContext<'_>, leases: &[Lease]) -> rusqlite::Result<()> {
    let connection = context.connection;
    let mut delete_first =
        connection.prepare_cached("DELETE FROM attempt WHERE id = ?1 AND token = ?2 AND attempts = 1")?;
    let mut uncount = connection
        .prepare_cached("UPDATE attempt SET attempts = ?3, token = NULL, due_ms = -1 WHERE id = ?1 AND token = ?2")?;
    let mut released = 0;
    for lease in leases {
        let (id, token) = (IdColumn(lease.job.id), &lease.token.entry);
        let was_first = !lease.exhausted && delete_first.execute(params![id, token])? > 0;
        if was_first || uncount.execute(params![id, token, lease.used()])? > 0 {
            released += 1;
        }
    }
    context.jobs_changed();
    LedgerChange { queued: released, processing: -released, ..LedgerChange::default() }.apply(connection)
}

/// Leases on their way to a caller. If the caller's future was dropped meanwhile, they are released, so that no attempt
/// is counted that was not made.
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
            self.writer.post(move |context| release(context, &leases));
        }
    }
}

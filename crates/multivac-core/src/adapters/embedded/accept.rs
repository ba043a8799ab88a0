//! Accepting jobs: within the limits, and once for each idempotency key.

use rusqlite::{Connection, OptionalExtension, params};

use super::columns::{IdColumn, to_column};
use super::ledger::{Moves, partition};
use super::rows::find;
use super::writer::Write;
use crate::datum::{DatumId, Timestamp};
use crate::queue::{Acceptance, IDEMPOTENCY_KEY_LIFETIME, IdempotencyKey, QueueSettings, Submission};

pub(super) fn accept(
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

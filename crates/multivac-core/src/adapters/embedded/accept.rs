//! Accepting jobs: within the limits, and once for each idempotency key.

use rusqlite::{Connection, OptionalExtension, params};

use super::columns::{IdColumn, to_column};
use super::ledger::{LedgerChange, unfinished};
use super::rows::job_state;
use super::writer::WriteContext;
use crate::datum::{DatumId, Timestamp};
use crate::queue::{Acceptance, IDEMPOTENCY_KEY_LIFETIME, IdempotencyKey, QueueSettings, Submission};

/// Adds jobs, and says what became of each, in their order. One transaction, so the batch is compared with itself too:
/// the second of two equal idempotency keys finds the first.
pub(super) fn accept(
    context: &WriteContext<'_>,
    submissions: &[Submission],
    settings: &QueueSettings,
) -> rusqlite::Result<Vec<Acceptance>> {
    let connection = context.connection;
    let mut remember_key = connection.prepare_cached(
        "INSERT INTO idempotency (key, id, expires_at, digest) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (key) DO UPDATE SET id = excluded.id, expires_at = excluded.expires_at, digest = excluded.digest",
    )?;
    let mut add =
        connection.prepare_cached("INSERT INTO job (id, received_at, trace, text) VALUES (?1, ?2, ?3, ?4)")?;
    let now_ms = Timestamp::now().as_millis();
    let unfinished = unfinished(connection)?;
    let free_jobs = settings.max_queued.saturating_sub(unfinished.queued + unfinished.processing);
    let mut free_bytes = settings.max_queued_bytes.saturating_sub(unfinished.size_bytes);
    let (mut added, mut keys_added) = (0, 0);
    let mut answers = Vec::with_capacity(submissions.len());
    for Submission { job, idempotency_key } in submissions {
        let keyed = idempotency_key.map(|key| (key, job.datum.digest()));
        if let Some((key, digest)) = keyed
            && let Some((first, first_digest)) = accepted_with(connection, key, now_ms)?
        {
            let is_same = first_digest.is_none_or(|first_digest| first_digest == digest);
            answers.push(if is_same { Acceptance::AcceptedBefore(first) } else { Acceptance::KeyOfOtherText });
            continue;
        }
        // The caller gives each job a new id, so one that is known is the same call, repeated.
        if job_state(connection, job.id)?.is_none() {
            let size_bytes = job.datum.as_str().len() as u64;
            if added == free_jobs || size_bytes > free_bytes {
                answers.push(Acceptance::Full);
                continue;
            }
            free_bytes -= size_bytes;
            let received_at = job.received_at.as_millis();
            add.execute(params![IdColumn(job.id), received_at, job.trace, job.datum.as_str()])?;
            added += 1;
        }
        if let Some((key, digest)) = keyed {
            let expires_at = now_ms.saturating_add(to_column(IDEMPOTENCY_KEY_LIFETIME.as_millis()));
            remember_key.execute(params![key.of_user, IdColumn(job.id), expires_at, digest])?;
            keys_added += 1;
        }
        answers.push(Acceptance::Accepted);
    }
    if keys_added > 0 {
        forget_expired_keys(connection, now_ms, keys_added)?;
    }
    if added > 0 {
        LedgerChange { accepted: to_column(added), queued: to_column(added), ..LedgerChange::default() }
            .apply(connection)?;
        context.jobs_changed();
    }
    Ok(answers)
}

/// The id that was accepted first with this key, and the digest of its text, which older releases did not keep; unless the
/// key's time is over. What lies under the key alone with a digest belongs to somebody else.
fn accepted_with(
    connection: &Connection,
    key: IdempotencyKey,
    now_ms: i64,
) -> rusqlite::Result<Option<(DatumId, Option<[u8; 16]>)>> {
    connection
        .prepare_cached(
            "SELECT id, digest FROM idempotency
             WHERE (key = ?1 OR (key = ?2 AND digest IS NULL)) AND expires_at > ?3 ORDER BY key != ?1 LIMIT 1",
        )?
        .query_row(params![key.of_user, key.of_anyone, now_ms], |row| {
            let IdColumn(id) = row.get(0)?;
            Ok((id, row.get(1)?))
        })
        .optional()
}

/// Deletes at most two expired keys for each key that was added: so deleting keeps up with adding, and no step has to
/// delete many.
fn forget_expired_keys(connection: &Connection, now_ms: i64, added: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM idempotency WHERE key IN
             (SELECT key FROM idempotency WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
        )?
        .execute(params![now_ms, 2 * added])
        .map(|_| ())
}

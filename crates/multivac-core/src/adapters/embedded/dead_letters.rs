//! Dead letters: how a job becomes one, how they are listed, and how one is put back on the queue.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::columns::{IdColumn, to_column};
use super::ledger::LedgerChange;
use super::rows::{delete_attempt, delete_dead, delete_job, is_retracted, job_state};
use super::writer::WriteContext;
use crate::datum::{Datum, DatumId, Timestamp};
use crate::queue::{DeadLetter, DeadLetterPlace, DeadLetterSummary, Job, JobState};

/// Moves a job that was tried to the dead letters. One that was retracted meanwhile leaves no dead letter.
pub(super) fn dead_letter_job(connection: &Connection, id: DatumId, error: &str) -> rusqlite::Result<()> {
    let change = if is_retracted(connection, id)? {
        LedgerChange { processing: -1, retracted: 1, ..LedgerChange::default() }
    } else {
        connection
            .prepare_cached(
                "INSERT INTO dead (id, attempts, error, died_at, received_at, trace, text)
                 SELECT id, attempts, ?2, ?3, received_at, trace, text FROM job JOIN attempt USING (id) WHERE id = ?1",
            )?
            .execute(params![IdColumn(id), error, Timestamp::now().as_millis()])?;
        LedgerChange { processing: -1, dead: 1, ..LedgerChange::default() }
    };
    delete_attempt(connection, id)?;
    delete_job(connection, id)?;
    change.apply(connection)
}

/// Moves a job whose row cannot be read to the dead letters, whether it was tried or not, as it is.
pub(super) fn dead_letter_unread(connection: &Connection, id: DatumId, error: &str) -> rusqlite::Result<()> {
    if job_state(connection, id)? == Some(JobState::Queued) {
        // So that all are moved in one way; a released one has its row already.
        connection
            .prepare_cached(
                "INSERT INTO attempt (id, attempts, due_ms) VALUES (?1, 1, 0)
                 ON CONFLICT (id) DO UPDATE SET due_ms = 0",
            )?
            .execute([IdColumn(id)])?;
        LedgerChange { queued: -1, processing: 1, ..LedgerChange::default() }.apply(connection)?;
    }
    dead_letter_job(connection, id, error)
}

/// Lists in the order of the ids, which is that of accepting: so a place means something even when its letter is gone. The
/// texts are not read: their lengths stand in the file before them.
pub(super) fn dead_letters(
    connection: &Connection,
    after: Option<DatumId>,
    max: usize,
) -> rusqlite::Result<Vec<DeadLetterSummary>> {
    connection
        .prepare_cached(
            "SELECT id, received_at, NULL, '', attempts, error, died_at, octet_length(text) FROM dead
             WHERE ?1 IS NULL OR id > ?1 ORDER BY id LIMIT ?2",
        )?
        .query_map(params![after.map(IdColumn), to_column(max)], |row| {
            let letter = read_dead_letter(row)?;
            let place = place(letter.job.id);
            Ok(DeadLetterSummary {
                size_bytes: row.get::<_, i64>(7)?.unsigned_abs(),
                ..DeadLetterSummary::new(letter, place)
            })
        })?
        .collect()
}

pub(super) fn place(id: DatumId) -> DeadLetterPlace {
    DeadLetterPlace(id.to_string())
}

/// One dead letter.
pub(super) fn dead_letter(connection: &Connection, id: DatumId) -> rusqlite::Result<Option<DeadLetter>> {
    connection
        .prepare_cached("SELECT id, received_at, trace, text, attempts, error, died_at FROM dead WHERE id = ?1")?
        .query_row([IdColumn(id)], read_dead_letter)
        .optional()
}

/// Makes a dead letter a job that was never tried; `false` if there is none with this id.
pub(super) fn retry_dead(context: &WriteContext<'_>, id: DatumId) -> rusqlite::Result<bool> {
    let connection = context.connection;
    let added = connection
        .prepare_cached(
            "INSERT INTO job (id, received_at, trace, text)
             SELECT id, received_at, trace, text FROM dead WHERE id = ?1",
        )?
        .execute([IdColumn(id)])?;
    if added == 0 {
        return Ok(false);
    }
    delete_dead(connection, id)?;
    LedgerChange { dead: -1, queued: 1, ..LedgerChange::default() }.apply(connection)?;
    context.jobs_changed();
    Ok(true)
}

/// From the columns id, received_at, trace, text, attempts, error, died_at. What is no UTF-8 in a text is replaced, since it may
/// be why the job died.
fn read_dead_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let IdColumn(id) = row.get(0)?;
    let text = |column| Ok::<_, rusqlite::Error>(String::from_utf8_lossy(row.get_ref(column)?.as_bytes()?));
    Ok(DeadLetter {
        job: Job {
            id,
            received_at: Timestamp::from_millis(row.get(1)?),
            trace: row.get(2).unwrap_or_default(),
            datum: Datum::accepted_before(&text(3)?),
        },
        attempts: row.get(4)?,
        error: text(5)?.into_owned(),
        died_at: Timestamp::from_millis(row.get(6)?),
    })
}

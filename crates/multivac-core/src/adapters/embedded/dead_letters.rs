//! Dead letters: how a job becomes one, how they are listed, and how one is put back on the queue.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::columns::{IdColumn, to_column};
use super::ledger::LedgerChange;
use super::rows::{delete_attempt, delete_dead, delete_job, is_retracted, read_job};
use super::writer::WriteContext;
use crate::datum::{DatumId, Timestamp};
use crate::queue::DeadLetter;

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

/// Lists in the order of the ids, which is that of accepting: so `after` means something even when its letter is gone.
pub(super) fn dead_letters(
    connection: &Connection,
    after: Option<DatumId>,
    max: usize,
) -> rusqlite::Result<Vec<DeadLetter>> {
    connection
        .prepare_cached(
            "SELECT id, received_at, trace, text, attempts, error, died_at FROM dead
             WHERE ?1 IS NULL OR id > ?1 ORDER BY id LIMIT ?2",
        )?
        .query_map(params![after.map(IdColumn), to_column(max)], read_dead_letter)?
        .collect()
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

/// From the columns of [`read_job`], then attempts, error, died_at.
fn read_dead_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        job: read_job(row)?,
        attempts: row.get(4)?,
        error: row.get(5)?,
        died_at: Timestamp::from_millis(row.get(6)?),
    })
}

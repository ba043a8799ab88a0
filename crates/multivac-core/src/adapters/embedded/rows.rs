//! Statements on single rows that several steps share.
//!
//! A job is *queued* while it has no row in `attempt`, or one that says it was released (due_ms -1).

use rusqlite::{Connection, OptionalExtension, Row};

use super::columns::IdColumn;
use crate::datum::{Datum, DatumId, Timestamp};
use crate::queue::{Job, JobState};

pub(super) fn job_state(connection: &Connection, id: DatumId) -> rusqlite::Result<Option<JobState>> {
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
/// From the columns id, received_at, trace, text.
pub(super) fn read_job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let IdColumn(id) = row.get(0)?;
    Ok(Job {
        id,
        received_at: Timestamp::from_millis(row.get(1)?),
        trace: row.get(2)?,
        datum: Datum::accepted_before(row.get_ref(3)?.as_str()?),
    })
}

pub(super) fn delete_attempt(connection: &Connection, id: DatumId) -> rusqlite::Result<bool> {
    Ok(connection.prepare_cached("DELETE FROM attempt WHERE id = ?1")?.execute([IdColumn(id)])? > 0)
}

pub(super) fn delete_job(connection: &Connection, id: DatumId) -> rusqlite::Result<bool> {
    Ok(connection.prepare_cached("DELETE FROM job WHERE id = ?1")?.execute([IdColumn(id)])? > 0)
}

pub(super) fn delete_dead(connection: &Connection, id: DatumId) -> rusqlite::Result<bool> {
    Ok(connection.prepare_cached("DELETE FROM dead WHERE id = ?1")?.execute([IdColumn(id)])? > 0)
}

pub(super) fn is_retracted(connection: &Connection, id: DatumId) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM retraction WHERE id = ?1")?.exists([IdColumn(id)])
}

pub(super) fn mark_retracted(connection: &Connection, id: DatumId) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO retraction (id) VALUES (?1) ON CONFLICT DO NOTHING")?
        .execute([IdColumn(id)])
        .map(|_| ())
}

//! The ledger: how it is read, changed, reconciled with the store, and how retractions are entered into it.
//!
//! It is one row, which every step changes in the transaction that moves the jobs: counting a million rows takes too
//! long. The table's CHECK fails a step after which it would not balance.

use rusqlite::{Connection, named_params};

use super::columns::to_column;
use super::damage::is_damaged_row;
use super::rows::{delete_dead, is_retracted, job_state, mark_retracted};
use crate::datum::{DatumId, Timestamp};
use crate::queue::{JobState, Ledger, Partition};

/// By how much a step changes each of the ledger's counts.
#[derive(Default)]
pub(super) struct LedgerChange {
    pub(super) accepted: i64,
    pub(super) queued: i64,
    pub(super) processing: i64,
    pub(super) learned: i64,
    pub(super) retracted: i64,
    pub(super) dead: i64,
}

impl LedgerChange {
    /// Adds itself to the ledger.
    pub(super) fn apply(self, connection: &Connection) -> rusqlite::Result<()> {
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

pub(super) fn ledger(connection: &Connection) -> rusqlite::Result<Ledger> {
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

/// In one statement, so in one snapshot. Where the oldest job lies on a damaged page, its age is not known.
pub(super) fn partition(connection: &Connection) -> rusqlite::Result<Partition> {
    match read_partition(connection, "(SELECT received_at FROM job ORDER BY seq LIMIT 1)") {
        Err(error) if is_damaged_row(&error) => unfinished(connection),
        partition => partition,
    }
}

/// The same without the age of the oldest job. For writes: one that comes upon a damaged page is undone with its whole group.
pub(super) fn unfinished(connection: &Connection) -> rusqlite::Result<Partition> {
    read_partition(connection, "NULL")
}

fn read_partition(connection: &Connection, oldest: &str) -> rusqlite::Result<Partition> {
    connection
        .prepare_cached(&format!(
            "SELECT queued, processing, dead, bytes, drained, drained_bytes, {oldest} FROM ledger, held"
        ))?
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

pub(super) fn reconcile(connection: &Connection, seen: Ledger, learned: u64, retracted: u64) -> rusqlite::Result<bool> {
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

pub(super) fn retract(connection: &Connection, id: DatumId, was_learned: bool) -> rusqlite::Result<()> {
    match job_state(connection, id)? {
        Some(JobState::Queued | JobState::Processing) => mark_retracted(connection, id),
        Some(JobState::Dead) => {
            delete_dead(connection, id)?;
            mark_retracted(connection, id)?;
            LedgerChange { dead: -1, retracted: 1, ..LedgerChange::default() }.apply(connection)
        }
        // A store that was filled past this queue may know more data than the ledger, until it is reconciled.
        None if was_learned && !is_retracted(connection, id)? && ledger(connection)?.learned > 0 => {
            mark_retracted(connection, id)?;
            LedgerChange { learned: -1, retracted: 1, ..LedgerChange::default() }.apply(connection)
        }
        None => Ok(()),
    }
}

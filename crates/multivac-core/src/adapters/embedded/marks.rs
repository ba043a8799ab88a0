//! How far indexes have come that are kept over restarts: [`Store::mark_index`](crate::store::Store::mark_index).
//!
//! In the file itself, so that an older copy of it is known by its older marks. The table is made when it is needed first, and
//! is part of no version: a release that does not know it need not, and can go on using the file.

use rusqlite::{Connection, OptionalExtension, params};

use super::columns::to_column;
use crate::store::Position;

/// One process uses the file, and mostly one index; a mark is left behind by each that was begun anew.
const MAX_MARKS: u32 = 16;

pub(super) fn mark(connection: &Connection, name: &str, position: Position) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS index_mark (
             seq      INTEGER PRIMARY KEY AUTOINCREMENT,
             name     TEXT    NOT NULL UNIQUE,
             position INTEGER NOT NULL
         ) STRICT",
    )?;
    // A new row rather than an update, so that the oldest can be told.
    connection
        .prepare_cached("INSERT OR REPLACE INTO index_mark (name, position) VALUES (?1, ?2)")?
        .execute(params![name, to_column(position.0)])?;
    connection
        .prepare_cached(
            "DELETE FROM index_mark WHERE seq NOT IN (SELECT seq FROM index_mark ORDER BY seq DESC LIMIT ?1)",
        )?
        .execute([MAX_MARKS])?;
    Ok(())
}

pub(super) fn marked(connection: &Connection, name: &str) -> rusqlite::Result<Option<Position>> {
    let is_there = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'index_mark'";
    if !connection.prepare_cached(is_there)?.exists([])? {
        return Ok(None);
    }
    let position = "SELECT position FROM index_mark WHERE name = ?1";
    let found: Option<i64> = connection.prepare_cached(position)?.query_row([name], |row| row.get(0)).optional()?;
    Ok(found.and_then(|position| u64::try_from(position).ok()).map(Position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_marks_are_forgotten() {
        let connection = Connection::open_in_memory().expect("a database");
        let marked = |name: u64| marked(&connection, &name.to_string()).expect("it can be read");
        assert_eq!(marked(0), None, "there is no table yet");
        for name in 0..=u64::from(MAX_MARKS) {
            mark(&connection, &name.to_string(), Position(name)).expect("marked");
            // It is in use, so it is none of the oldest.
            mark(&connection, "0", Position(100 + name)).expect("marked");
        }
        assert_eq!(marked(0), Some(Position(100 + u64::from(MAX_MARKS))));
        assert_eq!((marked(1), marked(2)), (None, Some(Position(2))));
    }
}

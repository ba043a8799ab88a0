//! Rows of the file that cannot be read, as a failing disk leaves them: which they are, and why.
//!
//! They are passed over, so that one of them does not keep the others from being learned and searched. None is dropped: it
//! stays in the file and in the ledger, and the operator is told of it by the log, `/readyz` and the exit status.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::ErrorCode;

use crate::datum::DatumId;

/// The tables that hold text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    /// Unfinished jobs.
    Job,
    /// Learned data.
    Datum,
}

/// The rows that were found so far. Cheap to clone.
#[derive(Clone, Default)]
pub struct Damage(Arc<Mutex<BTreeMap<(Table, i64), Unreadable>>>);

/// What is known of a row that cannot be read.
struct Unreadable {
    id: Option<DatumId>,
    error: String,
}

impl Damage {
    /// Enters a row; the first time it is logged.
    pub(super) fn note(&self, table: Table, rowid: i64, id: Option<DatumId>, error: &rusqlite::Error) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.contains_key(&(table, rowid)) {
            return;
        }
        let row = Unreadable { id, error: error.to_string() };
        tracing::error!("{}; restore multivac.db from a backup", Row(table, rowid, &row));
        rows.insert((table, rowid), row);
    }

    /// Enters a page of a table, when it is not known which rows are on it.
    pub(super) fn note_page(&self, table: Table, error: &rusqlite::Error) {
        self.note(table, PAGE, None, error);
    }

    /// A datum was retracted, and a tombstone lies in the place of its row.
    pub(super) fn forget(&self, id: DatumId) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.retain(|(table, _), row| *table != Table::Datum || row.id != Some(id));
    }

    /// How many of them are learned data.
    pub(super) fn data(&self) -> u64 {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.keys().filter(|(table, _)| *table == Table::Datum).count() as u64
    }

    /// How many there are, and the first of them; `None` when there is none.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named: Vec<String> =
            rows.iter().take(NAMED).map(|((table, rowid), row)| Row(*table, *rowid, row).to_string()).collect();
        let more = if rows.len() > NAMED { "; …" } else { "" };
        let count = match rows.len() {
            0 => return None,
            1 => "1 row".to_owned(),
            n => format!("{n} rows"),
        };
        Some(format!("{count} of multivac.db cannot be read: {}{more}", named.join("; ")))
    }
}

/// How many rows a summary names.
const NAMED: usize = 5;

/// In the place of a row's number, which begin at 1: a whole page.
const PAGE: i64 = 0;

struct Row<'a>(Table, i64, &'a Unreadable);

impl fmt::Display for Row<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(table, rowid, Unreadable { id, error }) = self;
        let table = match table {
            Table::Job => "job",
            Table::Datum => "datum",
        };
        if *rowid == PAGE {
            return write!(out, "a page of the table {table}: {error}");
        }
        let id = id.map_or_else(|| "an id that cannot be read either".to_owned(), |id| format!("datum {id}"));
        write!(out, "row {rowid} of the table {table} ({id}): {error}")
    }
}

/// Whether it is the row that cannot be read: its pages are damaged, or a value in it is not what was written. (An error of
/// SQLite's library without a code of the database's is a value that could not be read.)
pub(super) fn is_damaged_row(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt) | None)
        && !matches!(error, rusqlite::Error::QueryReturnedNoRows)
}

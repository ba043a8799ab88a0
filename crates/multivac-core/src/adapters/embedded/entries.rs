//! Rows of the store's table.

use rusqlite::Row;
use rusqlite::types::Type;

use super::columns::IdColumn;
use crate::datum::Timestamp;
use crate::store::{StoreEntry, StoredDatum};

/// What [`read_entry`] reads.
pub(super) const COLUMNS: &str = "seq, id, received_at, processed_at, retracted_at, trace, passages, text";

/// From [`COLUMNS`].
pub(super) fn read_entry(row: &Row<'_>) -> rusqlite::Result<StoreEntry> {
    let IdColumn(id) = row.get(1)?;
    if let Some(retracted_at) = row.get(4)? {
        let received_at = row.get::<_, Option<i64>>(2)?.map(Timestamp::from_millis);
        return Ok(StoreEntry::Tombstone { id, received_at, retracted_at: Timestamp::from_millis(retracted_at) });
    }
    let not_json = |error: serde_json::Error| rusqlite::Error::FromSqlConversionFailure(6, Type::Text, error.into());
    Ok(StoreEntry::Live(StoredDatum {
        id,
        received_at: Timestamp::from_millis(row.get(2)?),
        processed_at: Timestamp::from_millis(row.get(3)?),
        trace: row.get(5)?,
        passages: serde_json::from_str(row.get_ref(6)?.as_str()?).map_err(not_json)?,
        text: row.get(7)?,
    }))
}

/// About how much text a row holds: the datum's, and its passages, which repeat it.
pub(super) fn text_bytes(datum: &StoredDatum) -> usize {
    datum.text.len() + datum.passages.iter().map(String::len).sum::<usize>()
}

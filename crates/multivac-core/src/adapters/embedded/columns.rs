//! How ids and counts are kept in the tables, and how many rows are read at once.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Row, Rows};
use uuid::Uuid;

use super::damage::is_damaged_row;
use crate::datum::DatumId;

/// How much text one read returns at most, unless a single datum is larger.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// An id as the tables keep it: the 16 bytes of a UUID, or the 12 of an ObjectId.
pub(super) struct IdColumn(pub(super) DatumId);

impl ToSql for IdColumn {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let bytes: &[u8] = match &self.0 {
            DatumId::Uuid(uuid) => uuid.as_bytes(),
            DatumId::Original(bytes) => bytes,
        };
        Ok(bytes.into())
    }
}

impl FromSql for IdColumn {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        let id = match bytes.len() {
            12 => bytes.try_into().ok().map(DatumId::Original),
            _ => Uuid::from_slice(bytes).ok().map(DatumId::Uuid),
        };
        id.map(Self).ok_or(FromSqlError::InvalidType)
    }
}

/// A count or a limit as SQLite takes it.
pub(super) fn to_column(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// Reads rows until their text comes to [`BATCH_BYTES`], and one row at least. `size_bytes` is the text that the same
/// batch holds already; what is read is added to it. A batch ends before a page that is damaged, which is an error for the
/// one that begins there.
pub(super) fn read_batch<T>(
    mut rows: Rows<'_>,
    size_bytes: &mut usize,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    text_bytes: impl Fn(&T) -> usize,
) -> rusqlite::Result<Vec<T>> {
    let mut batch = Vec::new();
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => break,
            Err(error) if is_damaged_row(&error) && !batch.is_empty() => break,
            Err(error) => return Err(error),
        };
        let item = read(row)?;
        let item_bytes = text_bytes(&item);
        if *size_bytes > 0 && *size_bytes + item_bytes > BATCH_BYTES {
            break;
        }
        *size_bytes += item_bytes;
        batch.push(item);
    }
    Ok(batch)
}

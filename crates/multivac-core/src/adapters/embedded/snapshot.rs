//! All that the file holds as of one moment, for a backup; and when the last backup was made.
//!
//! A read transaction is that moment: the log keeps what it needs for as long as it lasts, and grows meanwhile by what is
//! written. It needs no lock on the directory, so a backup can be made beside the process that uses it. The time of the last
//! backup is in a file of its own, `multivac.backups.json`: a second process would have to write into the database, and a
//! table would need a new version of it, which the release before could not read any more.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use futures_util::{StreamExt, stream};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::mpsc::{self, Sender};

use super::columns::IdColumn;
use super::damage::is_damaged_row;
use super::entries::{COLUMNS, read_entry, text_bytes};
use super::error::DatabaseError;
use super::{file, ledger};
use crate::datum::{DatumId, Timestamp};
use crate::queue::Ledger;
use crate::runtime::for_owner;
use crate::store::{BackupKind, SnapshotEntries, StoreEntry, StoreError};

/// Batches that wait for whoever takes them.
const WAITING_BATCHES: usize = 2;

/// How many entries a batch has at most, and about how many bytes of text.
const BATCH_ENTRIES: usize = 1_000;
const BATCH_BYTES: usize = 4 << 20;

/// A data directory, read beside the process that uses it, if any does.
pub struct Beside {
    path: PathBuf,
}

impl Beside {
    /// For a directory in which there are data.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { path: directory.join("multivac.db") }
    }

    /// As [`Store::snapshot`](crate::store::Store::snapshot).
    #[must_use]
    pub fn snapshot(&self) -> SnapshotEntries<'static> {
        entries(self.path.clone())
    }

    /// The ledger.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn ledger(&self) -> Result<Ledger, StoreError> {
        let path = self.path.clone();
        blocking(move || Ok(ledger::ledger(&open(&path)?).map_err(DatabaseError::from)?)).await
    }

    /// As [`Store::record_backup`](crate::store::Store::record_backup).
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub async fn record_backup(&self, kind: BackupKind, completed_at: Timestamp) -> Result<(), StoreError> {
        record(self.path.clone(), kind, completed_at).await
    }
}

/// The entries of a file, in the order of their ids, read by a thread of their own.
pub(super) fn entries(path: PathBuf) -> SnapshotEntries<'static> {
    let (sender, batches) = mpsc::channel(WAITING_BATCHES);
    let failed = sender.clone();
    let thread = std::thread::Builder::new().name("multivac-snapshot".to_owned());
    let started = thread.spawn(move || {
        if let Err(error) = read(&path, &sender) {
            // Nobody waits any more, or it is told.
            let _ = sender.blocking_send(Err(error));
        }
    });
    if let Err(error) = started {
        let message = "no thread can be started".to_owned();
        let _ = failed.try_send(Err(StoreError::Unavailable { message, source: Some(error.into()) }));
    }
    drop(failed);
    stream::unfold(batches, |mut batches| async { batches.recv().await.map(|batch| (batch, batches)) }).boxed()
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let open = || {
        let connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        let refused = file::version(&connection, path)?;
        Ok::<_, rusqlite::Error>((connection, refused))
    };
    let (connection, refused) = open().map_err(DatabaseError::from)?;
    refused.map_err(|refused| StoreError::Misconfigured(refused.to_string()))?;
    Ok(connection)
}

fn read(path: &Path, sender: &Sender<Result<Vec<StoreEntry>, StoreError>>) -> Result<(), StoreError> {
    let connection = open(path)?;
    read_all(&connection, |batch| sender.blocking_send(Ok(batch)).is_ok())
        .map_err(|error| DatabaseError::from(error).into())
}

/// Hands over all entries; stops when `take` wants no more.
fn read_all(connection: &Connection, mut take: impl FnMut(Vec<StoreEntry>) -> bool) -> rusqlite::Result<()> {
    // Its first statement makes the snapshot.
    let _transaction = connection.unchecked_transaction()?;
    let mut select = connection.prepare(&format!("SELECT {COLUMNS} FROM datum WHERE id = ?1"))?;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    // By the index on the ids, and each row by itself: a damaged page of the table is in the way of its own rows alone.
    let by_id = "SELECT id FROM datum INDEXED BY sqlite_autoindex_datum_1 WHERE length(id) = ?1 ORDER BY id";
    for length in [16, 12] {
        let mut ids = connection.prepare(by_id)?;
        let mut rows = ids.query([length])?;
        while let Some(row) = rows.next()? {
            let IdColumn(id) = row.get(0)?;
            let entry = entry(&mut select, id)?;
            bytes += if let StoreEntry::Live(datum) = &entry { text_bytes(datum) } else { 0 };
            batch.push(entry);
            if batch.len() >= BATCH_ENTRIES || bytes >= BATCH_BYTES {
                bytes = 0;
                if !take(std::mem::take(&mut batch)) {
                    return Ok(());
                }
            }
        }
    }
    take(batch);
    Ok(())
}

fn entry(select: &mut rusqlite::Statement<'_>, id: DatumId) -> rusqlite::Result<StoreEntry> {
    match select.query_row([IdColumn(id)], read_entry) {
        Err(error) if is_damaged_row(&error) => Ok(StoreEntry::Unreadable { id }),
        entry => entry,
    }
}

/// Milliseconds since 1970 by the names of the kinds.
type Times = BTreeMap<String, i64>;

fn times_of(path: &Path) -> PathBuf {
    path.with_extension("backups.json")
}

fn read_times(path: &Path) -> io::Result<Times> {
    match fs::read(times_of(path)) {
        // What cannot be read as such is no time of a backup.
        Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Times::new()),
        Err(error) => Err(error),
    }
}

pub(super) async fn record(path: PathBuf, kind: BackupKind, completed_at: Timestamp) -> Result<(), StoreError> {
    blocking(move || {
        let write = || {
            let mut times = read_times(&path)?;
            times.insert(kind.as_str().to_owned(), completed_at.as_millis());
            let draft = path.with_extension("backups.json-new");
            let mut file = for_owner::file().write(true).create(true).truncate(true).open(&draft)?;
            file.write_all(&serde_json::to_vec(&times)?)?;
            file.sync_all()?;
            fs::rename(&draft, times_of(&path))?;
            path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
        };
        write().map_err(|error: io::Error| unavailable("the data directory cannot be written", error))
    })
    .await
}

pub(super) async fn last(path: PathBuf, kind: BackupKind) -> Result<Option<Timestamp>, StoreError> {
    blocking(move || {
        let times = read_times(&path).map_err(|error| unavailable("the data directory cannot be read", error))?;
        Ok(times.get(kind.as_str()).copied().map(Timestamp::from_millis))
    })
    .await
}

fn unavailable(message: &str, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable { message: message.to_owned(), source: Some(Box::new(source)) }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|ended| unavailable("the call ended early", ended))?
}

//! The port: [`Store`], learned data and tombstones in the order of their last changes.
//!
//! One thread writes, and numbers its writes, so a follower reads the table from the last number that it has seen, and
//! is woken by the writer after each commit that changed the table. The table itself is the log of changes, so no position
//! is ever lost.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::watch;

use super::columns::{IdColumn, read_batch, to_column};
use super::damage::{Damage, Table, is_damaged_row};
use super::database::Database;
use super::entries::{COLUMNS, read_entry, text_bytes};
use super::error::DatabaseError;
use super::writer::{WriteContext, WriterHandle};
use super::{marks, snapshot};
use crate::datum::{DatumId, Timestamp};
use crate::observe::metrics;
use crate::runtime::files::disk_of;
use crate::store::{
    BackupKind, Change, ChangeBatch, Changes, Disk, Position, Put, REPLICA_ALIVE, REPLICA_SILENT, Retraction, Scan,
    SeenReplica, SnapshotEntries, Store, StoreCounts, StoreEntry, StoreError, StoredDatum, Tombstone,
};

/// How long a follower waits for a change before it returns an empty batch.
const FOLLOW_WAIT: Duration = Duration::from_secs(1);

/// How many data one batch of a scan holds at most.
const SCAN_ROWS: usize = 500;

pub(super) struct EmbeddedStore {
    database: Arc<Database>,
    path: PathBuf,
    /// In memory: a replica of this store is a part of this process.
    replicas: Mutex<HashMap<String, (Position, Instant)>>,
}

impl EmbeddedStore {
    /// The store in a file.
    pub(super) fn new(database: Arc<Database>, path: PathBuf) -> Self {
        Self { database, path, replicas: Mutex::default() }
    }

    fn writer(&self) -> &WriterHandle {
        self.database.writer.handle()
    }

    async fn read<T, F>(&self, work: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.database.readers.read(work).await
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn prepare(&self) -> Result<(), StoreError> {
        // Opening has prepared everything else; what is left to check is whether the file can be read.
        self.position().await.map(|_| ())
    }

    async fn put(&self, data: &[StoredDatum]) -> Result<Vec<Put>, StoreError> {
        let data = data.to_vec();
        let size_bytes = data.iter().map(text_bytes).sum();
        Ok(self
            .writer()
            .write(size_bytes, move |context| data.iter().map(|datum| put(context, datum)).collect())
            .await?)
    }

    async fn get(&self, id: DatumId) -> Result<Option<StoreEntry>, StoreError> {
        let damage = self.database.damage.clone();
        Ok(self.read(move |connection| get(connection, id, &damage)).await?)
    }

    async fn retract(&self, id: DatumId) -> Result<Retraction, StoreError> {
        let retracted = self.writer().write(0, move |context| retract(context, id)).await?;
        self.database.damage.forget(id);
        Ok(retracted)
    }

    async fn position(&self) -> Result<Position, StoreError> {
        Ok(self.read(position).await?)
    }

    fn scan(&self) -> Scan<'_> {
        // One short read for each batch: a read that stays open while the index works on a batch would keep the log from
        // being written back.
        stream::try_unfold(Position(0), move |after| async move {
            let damage = self.database.damage.clone();
            let batch = self.read(move |connection| scan(connection, after, &damage)).await?;
            let last = batch.last().map(|(position, _)| *position);
            let data = batch.into_iter().filter_map(|(_, entry)| live(entry?)).collect();
            Ok(last.map(|last| (data, last)))
        })
        .boxed()
    }

    fn snapshot(&self) -> SnapshotEntries<'_> {
        snapshot::entries(self.path.clone())
    }

    async fn put_tombstones(&self, tombstones: &[Tombstone]) -> Result<Vec<Retraction>, StoreError> {
        let tombstones = tombstones.to_vec();
        let put = move |context: &WriteContext<'_>| tombstones.iter().map(|one| put_tombstone(context, one)).collect();
        Ok(self.writer().write(0, put).await?)
    }

    async fn record_backup(&self, kind: BackupKind, completed_at: Timestamp) -> Result<(), StoreError> {
        snapshot::record(self.path.clone(), kind, completed_at).await
    }

    async fn last_backup(&self, kind: BackupKind) -> Result<Option<Timestamp>, StoreError> {
        snapshot::last(self.path.clone(), kind).await
    }

    async fn mark_index(&self, name: &str, position: Position) -> Result<(), StoreError> {
        // They are found by a scan, and whoever goes on with a kept index makes none.
        if self.database.damage.data() > 0 {
            let message = "some rows cannot be read, so the index is made again at the next start".to_owned();
            return Err(StoreError::Unavailable { message, source: None });
        }
        let name = name.to_owned();
        Ok(self.writer().write(0, move |context| marks::mark(context.connection, &name, position)).await?)
    }

    async fn marked_index(&self, name: &str) -> Result<Option<Position>, StoreError> {
        let name = name.to_owned();
        Ok(self.read(move |connection| marks::marked(connection, &name)).await?)
    }

    async fn follow(&self, from: Position) -> Result<Box<dyn Changes>, StoreError> {
        let data_changed = self.writer().watch_data();
        Ok(Box::new(Follower {
            database: Arc::clone(&self.database),
            data_changed,
            position: from,
            wait: Duration::ZERO,
        }))
    }

    /// A datum that was retracted has two numbers.
    async fn estimate(&self) -> Result<u64, StoreError> {
        self.position().await.map(|Position(last)| last)
    }

    async fn counts(&self) -> Result<StoreCounts, StoreError> {
        Ok(self.read(counts).await?)
    }

    fn unreadable(&self) -> u64 {
        self.database.damage.data()
    }

    /// One process holds the file.
    fn is_shared(&self) -> bool {
        false
    }

    async fn disk(&self) -> Result<Option<Disk>, StoreError> {
        let path = self.path.clone();
        Ok(tokio::task::spawn_blocking(move || disk_of(&path).ok()).await.unwrap_or(None))
    }

    async fn announce(&self, replica: &str, position: Option<Position>) -> Result<(), StoreError> {
        let mut replicas = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        match position {
            Some(position) => replicas.insert(replica.to_owned(), (position, Instant::now())),
            None => replicas.remove(replica),
        };
        Ok(())
    }

    async fn replicas_behind(&self, position: Position) -> Result<Vec<String>, StoreError> {
        let mut replicas = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        replicas.retain(|_, (_, announced)| announced.elapsed() <= REPLICA_SILENT);
        Ok(replicas
            .iter()
            .filter(|(_, (reached, _))| *reached < position)
            .map(|(replica, _)| replica.clone())
            .collect())
    }

    async fn replicas(&self) -> Result<Vec<SeenReplica>, StoreError> {
        let replicas = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = |(name, (_, announced)): (&String, &(Position, Instant))| SeenReplica {
            name: name.clone(),
            version: Some(metrics::version().to_owned()),
            is_alive: announced.elapsed() <= REPLICA_ALIVE,
        };
        let mut seen: Vec<SeenReplica> = replicas.iter().map(seen).collect();
        seen.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(seen)
    }
}

/// A follower, and the position that it has reached.
struct Follower {
    database: Arc<Database>,
    data_changed: watch::Receiver<()>,
    position: Position,
    /// How long it waits for a change. Not at all at first: whoever begins to follow wants to know soon that nothing is new.
    wait: Duration,
}

#[async_trait]
impl Changes for Follower {
    async fn next(&mut self, max: usize) -> Result<ChangeBatch, StoreError> {
        let (started, wait) = (Instant::now(), std::mem::replace(&mut self.wait, FOLLOW_WAIT));
        loop {
            // Marked as seen before the read: a change that is committed after the read then ends the wait at once.
            self.data_changed.borrow_and_update();
            let from = self.position;
            let damage = self.database.damage.clone();
            let batch = self.database.readers.read(move |connection| changes(connection, from, max, &damage)).await?;
            let left = wait.saturating_sub(started.elapsed());
            // Where all that is new cannot be read, there is no change, and the position moves on all the same.
            if !batch.changes.is_empty() || batch.position > from || left.is_zero() {
                self.position = batch.position;
                return Ok(batch);
            }
            // Whether a change came or the time is over, the next read finds out.
            let _ = tokio::time::timeout(left, self.data_changed.changed()).await;
        }
    }
}

fn put(context: &WriteContext<'_>, datum: &StoredDatum) -> rusqlite::Result<Put> {
    let passages = serde_json::to_string(&datum.passages)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let added = context
        .connection
        .prepare_cached(
            // 0.1.0 stored a digest that nothing read. It fails on a row without one, so after a rollback to it the rows
            // written here must have an empty one.
            "INSERT INTO datum (id, received_at, processed_at, digest, trace, passages, text)
             VALUES (?1, ?2, ?3, '', ?4, ?5, ?6) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            IdColumn(datum.id),
            datum.received_at.as_millis(),
            datum.processed_at.as_millis(),
            datum.trace,
            passages,
            datum.text,
        ])?;
    if added > 0 {
        context.data_changed();
        return Ok(Put::Stored);
    }
    let retracted = context
        .connection
        .prepare_cached("SELECT 1 FROM datum WHERE id = ?1 AND retracted_at IS NOT NULL")?
        .exists([IdColumn(datum.id)])?;
    Ok(if retracted { Put::Retracted } else { Put::Stored })
}

fn get(connection: &Connection, id: DatumId, damage: &Damage) -> rusqlite::Result<Option<StoreEntry>> {
    let entry = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM datum WHERE id = ?1"))?
        .query_row([IdColumn(id)], read_entry)
        .optional();
    match entry {
        Err(error) if is_damaged_row(&error) => {
            let by_id = format!("SELECT seq FROM datum {BY_ID} WHERE id = ?1");
            let seq = connection.prepare_cached(&by_id)?.query_row([IdColumn(id)], |row| row.get(0))?;
            damage.note(Table::Datum, seq, Some(id), &error);
            Ok(Some(StoreEntry::Unreadable { id }))
        }
        entry => entry,
    }
}

fn retract(context: &WriteContext<'_>, id: DatumId) -> rusqlite::Result<Retraction> {
    put_tombstone(context, &Tombstone { id, received_at: None, retracted_at: Timestamp::now() })
}

fn put_tombstone(context: &WriteContext<'_>, tombstone: &Tombstone) -> rusqlite::Result<Retraction> {
    let (connection, id) = (context.connection, tombstone.id);
    let found: Option<(Option<i64>, bool)> = connection
        .prepare_cached("SELECT received_at, retracted_at IS NOT NULL FROM datum WHERE id = ?1")?
        .query_row([IdColumn(id)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (received_at, retraction) = match found {
        Some((_, true)) => return Ok(Retraction::WasRetracted),
        Some((received_at, false)) => (received_at, Retraction::WasLive),
        None => (None, Retraction::WasAbsent),
    };
    let received_at = tombstone.received_at.map(Timestamp::as_millis).or(received_at);
    // A new row rather than an update: it gets the next number, so followers read it.
    connection.prepare_cached("DELETE FROM datum WHERE id = ?1")?.execute([IdColumn(id)])?;
    connection
        .prepare_cached("INSERT INTO datum (id, received_at, retracted_at) VALUES (?1, ?2, ?3)")?
        .execute(params![IdColumn(id), received_at, tombstone.retracted_at.as_millis()])?;
    context.data_changed();
    Ok(retraction)
}

fn position(connection: &Connection) -> rusqlite::Result<Position> {
    connection.prepare_cached("SELECT IFNULL(MAX(seq), 0) FROM datum")?.query_row([], read_position)
}

fn scan(connection: &Connection, after: Position, damage: &Damage) -> rusqlite::Result<Vec<PositionedEntry>> {
    read_entries(connection, "AND retracted_at IS NULL", after, SCAN_ROWS, damage)
}

fn changes(connection: &Connection, from: Position, max: usize, damage: &Damage) -> rusqlite::Result<ChangeBatch> {
    let entries = read_entries(connection, "", from, max, damage)?;
    let position = entries.last().map_or(from, |(position, _)| *position);
    let changes = entries.into_iter().filter_map(|(_, entry)| match entry? {
        StoreEntry::Live(datum) => Some(Change::Put(Box::new(datum))),
        StoreEntry::Tombstone { id, .. } => Some(Change::Removed(id)),
        StoreEntry::Unreadable { .. } => None,
    });
    Ok(ChangeBatch { changes: changes.collect(), position })
}

fn counts(connection: &Connection) -> rusqlite::Result<StoreCounts> {
    // One statement, so one snapshot; the two counts run over the small indexes.
    connection
        .prepare_cached(
            "SELECT (SELECT COUNT(*) FROM datum), (SELECT COUNT(*) FROM datum WHERE retracted_at IS NOT NULL)",
        )?
        .query_row([], |row| {
            let (all, retracted): (i64, i64) = (row.get(0)?, row.get(1)?);
            let count = |count| u64::try_from(count).unwrap_or(0);
            Ok(StoreCounts { learned: count(all - retracted), retracted: count(retracted) })
        })
}

/// A row of the table by its number; `None` where it cannot be read.
type PositionedEntry = (Position, Option<StoreEntry>);

/// Has SQLite read ids and numbers from the index on the ids, where no damaged page of the table is in the way.
const BY_ID: &str = "INDEXED BY sqlite_autoindex_datum_1";

/// Reads rows in their order. Those that cannot be read are noted.
fn read_entries(
    connection: &Connection,
    condition: &str,
    after: Position,
    max: usize,
    damage: &Damage,
) -> rusqlite::Result<Vec<PositionedEntry>> {
    let mut select = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM datum WHERE seq > ?1 {condition} ORDER BY seq LIMIT ?2"))?;
    let read = |row: &Row<'_>| {
        let entry = read_entry(row).map(Some).or_else(|error| note(row.get(0)?, row.get(1).ok(), error, damage));
        Ok((read_position(row)?, entry?))
    };
    let entries =
        read_batch(select.query([to_column(after.0), to_column(max)])?, &mut 0, read, |(_, entry)| match entry {
            Some(StoreEntry::Live(datum)) => text_bytes(datum),
            Some(StoreEntry::Tombstone { .. } | StoreEntry::Unreadable { .. }) | None => 0,
        });
    match entries {
        Err(error) if is_damaged_row(&error) => read_one_by_one(connection, condition, after, damage),
        entries => entries,
    }
}

/// How many rows are read one by one at once.
const SALVAGED_ROWS: usize = 100;

/// The same where a page of the table is damaged: each row by itself.
fn read_one_by_one(
    connection: &Connection,
    condition: &str,
    after: Position,
    damage: &Damage,
) -> rusqlite::Result<Vec<PositionedEntry>> {
    let mut list = connection
        .prepare_cached(&format!("SELECT seq, id FROM datum {BY_ID} WHERE +seq > ?1 ORDER BY +seq LIMIT ?2"))?;
    let rows: Vec<(i64, Option<IdColumn>)> = list
        .query_map([to_column(after.0), to_column(SALVAGED_ROWS)], |row| Ok((row.get(0)?, row.get(1).ok())))?
        .collect::<Result<_, _>>()?;
    let mut select = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM datum WHERE seq = ?1 {condition}"))?;
    let mut entries = Vec::with_capacity(rows.len());
    for (seq, id) in rows {
        let entry = match select.query_row([seq], read_entry).optional() {
            // Left out by the condition.
            Ok(None) => None,
            Ok(entry) => entry,
            Err(error) => note(seq, id, error, damage)?,
        };
        entries.push((Position(u64::try_from(seq).unwrap_or(0)), entry));
    }
    Ok(entries)
}

/// Notes that a row cannot be read. Fails with any other error.
fn note(
    seq: i64,
    id: Option<IdColumn>,
    error: rusqlite::Error,
    damage: &Damage,
) -> rusqlite::Result<Option<StoreEntry>> {
    if !is_damaged_row(&error) {
        return Err(error);
    }
    damage.note(Table::Datum, seq, id.map(|IdColumn(id)| id), &error);
    Ok(None)
}

/// From the first column.
fn read_position(row: &Row<'_>) -> rusqlite::Result<Position> {
    Ok(Position(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0)))
}

fn live(entry: StoreEntry) -> Option<StoredDatum> {
    match entry {
        StoreEntry::Live(datum) => Some(datum),
        StoreEntry::Tombstone { .. } | StoreEntry::Unreadable { .. } => None,
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
pub(super) mod tests;

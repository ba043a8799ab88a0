//! Connections that only read.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::error::DatabaseError;

/// Reads that run at once; more wait. Each is short, and there is one file.
const READERS: usize = 4;

/// Connections that read, beside the writer: in the write-ahead log neither waits for the other.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::default(), permits: Arc::new(Semaphore::new(READERS)) }
    }

    /// Runs `work` on a blocking thread with a connection of its own. Each statement sees one snapshot.
    pub(super) async fn read<T, F>(self: &Arc<Self>, work: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| DatabaseError::Stopped)?;
        let this = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let connection = this.take()?;
            let found = work(&connection)?;
            this.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(found)
        });
        reading.await.map_err(|_| DatabaseError::Stopped)?
    }

    fn take(&self) -> rusqlite::Result<Connection> {
        if let Some(connection) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(connection);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        Ok(connection)
    }
}

//! The embedded queue and store: one SQLite file for one process, with nothing to install.
//!
//! A data directory holds `multivac.db` (with SQLite's `-wal` and `-shm` beside it while it is open) and
//! `multivac.lock`, which a process keeps locked for as long as it uses the directory, its own number in it; and
//! `multivac.backups.json` once there was a backup (`snapshot.rs`). The tables are explained in `migrations/`.
//!
//! How the ports' promises are kept:
//!
//! - **Durable**: write-ahead log with `synchronous=FULL`, so a commit has reached the disk when it returns, and a
//!   power cut loses nothing that was answered. `writer.rs` shares each commit among all steps that wait.
//! - **At least once, counted once**: a job, its attempts and the ledger change in one transaction. Leases belong to
//!   the process: at the next start all of them are void, and the attempts stay counted.
//! - **Followed without a gap**: there is one writer, so the numbers that changes get become visible in their order.
//! - **Retracted text is erased**: with `secure_delete`, SQLite overwrites the text of retracted and of completed data in
//!   the file (learning is some 10 % slower for it, measured 2026-11-23). The log still holds it until it is written
//!   over; backups and copies that the disk keeps are out of reach.
//! - **A file that is removed** under the process takes nothing more: SQLite would write on into it, and what it took would be
//!   gone with the process. So each commit checks first whether the file is still under its name.
//! - **A full disk** loses nothing: a commit that finds no room writes nothing, its callers get an error, the log says so
//!   once, and the next commit that finds room succeeds.
//!
//! SQLite blocks, so it never runs on an async thread. The open directory has its own threads, whichever runtimes call:
//!
//! - `multivac-writer` (`writer.rs`) runs every write, each with the others that wait at the time.
//! - `multivac-reader-0` and so on (`readers.rs`) run every read, each with a read-only connection of its own.
//!
//! A read that panics is an error for its caller alone. A write that panics ends the writer, since it means that the code
//! cannot be relied on: its transaction is rolled back, and [`Embedded::broken`] says so.
//!
//! Opening an older file migrates it to the present version (`file.rs`). A file that is newer, damaged, or not MultiVAC's
//! is refused and left as it is, and a new one gets its name only once it is complete: data that cannot be read are never
//! taken for an empty start. Where single rows cannot be read, the others are used all the same (`damage.rs`).
//!
//! The text is for its owner alone: the directory is made with mode 0700, the files with 0600, whatever the umask, and what an
//! earlier version made with more is restricted at the start.

mod accept;
mod columns;
mod damage;
mod database;
mod dead_letters;
mod entries;
mod error;
mod examine;
mod file;
mod lease;
mod ledger;
mod marks;
mod queue;
mod readers;
mod rows;
mod snapshot;
mod store;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::queue::{QueueAdmin, QueueSettings};
use crate::store::Store;

pub use damage::Damage;
use database::Database;
pub use examine::examine;
pub use file::OpenError;
use queue::EmbeddedQueue;
pub use snapshot::Beside;
use store::EmbeddedStore;

/// A data directory that this process has opened, and holds until the last handle to its queue and store is dropped.
pub struct Embedded {
    path: PathBuf,
    queue: Arc<EmbeddedQueue>,
    store: Arc<EmbeddedStore>,
    broken: CancellationToken,
    damage: Damage,
}

impl Embedded {
    /// Opens a data directory, or creates it. Blocks for as long as that takes, so it is called at start.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(dir: &Path, settings: QueueSettings) -> Result<Self, OpenError> {
        let (path, database) = Database::open(dir)?;
        let (broken, damage) = (database.writer.broken().clone(), database.damage.clone());
        let database = Arc::new(database);
        let queue = Arc::new(EmbeddedQueue::new(Arc::clone(&database), settings));
        let store = Arc::new(EmbeddedStore::new(database, path.clone()));
        Ok(Self { path, queue, store, broken, damage })
    }

    /// The queue in it.
    #[must_use]
    pub fn queue(&self) -> Arc<dyn QueueAdmin> {
        self.queue.clone()
    }

    /// The store in it.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// Cancelled when nothing can be written any more, since a write has panicked. Every call that writes fails from then
    /// on, and the process has to be ended, so that it is started again.
    #[must_use]
    pub fn broken(&self) -> CancellationToken {
        self.broken.clone()
    }

    /// The rows of the file that cannot be read, as far as they were come upon.
    #[must_use]
    pub fn damage(&self) -> Damage {
        self.damage.clone()
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod tests;

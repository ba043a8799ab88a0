//! Backups: all data and tombstones of a store as one file, and the way back into any store.
//!
//! The file is gzip (RFC 1952: every system can unpack it, its check sums find what a disk or a network damages, and it is in
//! the tree of dependencies already) of lines of JSON: a [`Header`], a line for each datum and tombstone in the order of the
//! ids, and a [`Trailer`] with their numbers and the SHA-256 of these lines. docs/backup-format.md is its description.
//!
//! [`mod@write`] makes it out of a [snapshot](crate::store::Store::snapshot), [`read`] takes it apart and refuses what is not
//! whole, [`restore`] brings it into a store, [`drill`] tries all of that.

pub mod drill;
mod lines;
pub mod read;
pub mod restore;
pub mod write;

use std::io;

use serde::{Deserialize, Serialize};

use crate::adapters::BackendError;
use crate::datum::DatumId;
use crate::index::IndexError;
use crate::queue::QueueError;
use crate::store::StoreError;

/// What the format is called in the header.
pub const FORMAT: &str = "multivac-backup";

/// The version of the format that is written. One that is higher cannot be read; all lower ones can.
pub const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// When it was begun, RFC 3339.
    pub exported_at: String,
    /// Which release wrote it.
    pub by: String,
}

/// The last line: what is in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trailer {
    /// Lines of data.
    pub data: u64,
    /// Lines of tombstones.
    pub tombstones: u64,
    /// Data that could not be read, and are not in the file.
    pub unreadable: u64,
    /// Of the lines between header and trailer with their line feeds, in hexadecimal. So it is the same wherever and whenever
    /// the same data are exported.
    pub sha256: String,
}

/// Why a backup cannot be written, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file, or what holds it, does not read or write.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("it is no backup of MultiVAC's: {0}")]
    NotABackup(String),
    /// A newer release wrote it.
    #[error("it is of version {0} of the format, and this release knows versions up to {VERSION}: use a newer one")]
    Newer(u32),
    /// It is not whole.
    #[error("it is damaged or cut off: {0}")]
    Damaged(String),
    /// The queue or the store.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The queue or the store did not reply for long.
    #[error(
        "{source}; it was tried for {minutes} min. Run the same command again: what is imported stays, and the rest follows"
    )]
    Away {
        /// For how long.
        minutes: u64,
        /// The last error.
        source: BackendError,
    },
    /// The store does not take some data.
    #[error("{count} data were not taken by the store, the first of them {id}: {why}; all others are there")]
    Refused {
        /// How many.
        count: u64,
        /// The first.
        id: DatumId,
        /// What the store said of it.
        why: String,
    },
    /// The index of a drill.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// What was restored is not what was in the file.
    #[error("the backup does not serve: {0}")]
    Unfit(String),
    /// A task ended early.
    #[error("a task ended early: {0}")]
    Task(String),
}

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> Self {
        Self::Backend(error.into())
    }
}

impl From<QueueError> for BackupError {
    fn from(error: QueueError) -> Self {
        Self::Backend(error.into())
    }
}

/// Where a datum stands in the order of the file.
fn place(id: DatumId) -> (bool, DatumId) {
    (matches!(id, DatumId::Original(_)), id)
}

/// What is told of work that is under way: how many entries are done.
pub type Told<'a> = &'a (dyn Fn(u64) + Send + Sync);

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;

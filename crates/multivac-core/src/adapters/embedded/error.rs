//! What can go wrong in the database, and which of the ports' errors that becomes.

use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::queue::QueueError;
use crate::store::StoreError;

/// Why a step or a read failed. Cloned, since a group that fails has one error for all of its steps.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum DatabaseError {
    /// SQLite did not do it.
    #[error(transparent)]
    Sqlite(Arc<rusqlite::Error>),
    /// The writer panicked before the step was committed, or had ended before the step was sent.
    #[error("the writer has ended after a panic")]
    WriterEnded,
    /// The writer panicked when the step may have been committed.
    #[error("the writer has ended after a panic, perhaps after the commit")]
    OutcomeUnknown,
    /// The file is not under its name any more. SQLite would write on into it, and all of that would be gone with the process.
    #[error("the file of the database was removed")]
    FileRemoved,
    /// The read panicked.
    #[error("the read panicked")]
    ReadPanicked,
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

impl DatabaseError {
    fn sqlite_code(&self) -> Option<ErrorCode> {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code(),
            Self::WriterEnded | Self::OutcomeUnknown | Self::FileRemoved | Self::ReadPanicked => None,
        }
    }

    /// Whether the disk is full or failing.
    pub(super) fn is_disk_failure(&self) -> bool {
        matches!(self.sqlite_code(), Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure))
    }

    /// Whether the file does not hold what MultiVAC wrote; then waiting does not help. An error of SQLite's library
    /// without a code of the database's is a value that could not be read.
    fn is_damage(&self) -> bool {
        match self {
            Self::Sqlite(_) => {
                matches!(self.sqlite_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) | None)
            }
            Self::WriterEnded | Self::OutcomeUnknown | Self::FileRemoved | Self::ReadPanicked => false,
        }
    }

    /// SQLite's error, where it came upon a damaged page.
    pub(super) fn damaged_page(&self) -> Option<&rusqlite::Error> {
        match self {
            Self::Sqlite(error) if self.sqlite_code() == Some(ErrorCode::DatabaseCorrupt) => Some(error),
            _ => None,
        }
    }

    /// What is wrong and what to do, for operators.
    pub(super) fn message(&self) -> &'static str {
        match self {
            Self::WriterEnded => {
                "the embedded database's writer has ended after a panic; nothing was written, and the process has to be \
                 restarted"
            }
            Self::OutcomeUnknown => {
                "the embedded database's writer has ended after a panic; whether this was written is not known, and the \
                 process has to be restarted"
            }
            Self::FileRemoved => {
                "multivac.db was removed from the data directory; nothing was written. Stop the process, and restore a backup"
            }
            Self::ReadPanicked => "a read of the embedded database panicked; the log says where",
            Self::Sqlite(_) => match self.sqlite_code() {
                Some(ErrorCode::DiskFull) => "the disk of the data directory is full; nothing was written",
                Some(ErrorCode::SystemIoFailure) => "the disk of the data directory does not read or write",
                Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                    "the files in the data directory cannot be opened or written"
                }
                Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                    "multivac.db in the data directory is damaged; stop, and restore it from a backup"
                }
                Some(_) => "the embedded database did not do it; nothing was written",
                None => "multivac.db in the data directory holds what MultiVAC did not write; restore it from a backup",
            },
        }
    }
}

impl From<DatabaseError> for QueueError {
    fn from(error: DatabaseError) -> Self {
        let message = error.message().to_owned();
        match error {
            DatabaseError::OutcomeUnknown => Self::OutcomeUnknown { message, source: Some(Box::new(error)) },
            error if error.is_damage() => Self::Misconfigured(message),
            error => Self::Unavailable { message, source: Some(Box::new(error)) },
        }
    }
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        let message = error.message().to_owned();
        if error.is_damage() {
            return Self::Misconfigured(message);
        }
        Self::Unavailable { message, source: Some(Box::new(error)) }
    }
}

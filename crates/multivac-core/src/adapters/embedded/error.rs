//! What can go wrong in the database, and which of the ports' errors that becomes.

use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::queue::QueueError;
use crate::store::StoreError;

/// Why a step or a read failed. Cloned, since a group that fails has one error for all of its steps.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum DatabaseError {
    #[error(transparent)]
    Sqlite(Arc<rusqlite::Error>),
    #[error("its thread has ended")]
    Stopped,
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

impl DatabaseError {
    /// Whether the disk is full or failing.
    pub(super) fn is_disk_failure(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure))
    }

    /// What is wrong, for people; `Err` when waiting will not help.
    pub(super) fn explain(&self) -> Result<&'static str, &'static str> {
        let error = match self {
            Self::Stopped => return Ok("the embedded database has stopped; start the process again"),
            Self::Sqlite(error) => error,
        };
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Ok("the disk of the data directory is full; nothing was written"),
            Some(ErrorCode::SystemIoFailure) => Ok("the disk of the data directory does not read or write"),
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Ok("the files in the data directory cannot be opened or written")
            }
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Err("multivac.db in the data directory is damaged; stop, and restore it from a backup")
            }
            Some(_) => Ok("the embedded database did not do it; nothing was written"),
            None => {
                Err("multivac.db in the data directory holds what MultiVAC did not write; restore it from a backup")
            }
        }
    }
}

impl From<DatabaseError> for QueueError {
    fn from(error: DatabaseError) -> Self {
        match error.explain() {
            Ok(message) => Self::Unavailable { message: message.into(), source: Some(Box::new(error)) },
            Err(message) => Self::Misconfigured(message.into()),
        }
    }
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        match error.explain() {
            Ok(message) => Self::Unavailable { message: message.into(), source: Some(Box::new(error)) },
            Err(message) => Self::Misconfigured(message.into()),
        }
    }
}

//! What ends the process.

use std::io;

use multivac_core::adapters::BackendError;
use multivac_core::index::OpenError;
use multivac_core::runtime::config::ConfigError;
use multivac_core::runtime::files::TooFewFiles;
use multivac_core::runtime::supervise::TaskEnded;

/// Why the server cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The settings do not fit together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system allows too few open files.
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    /// The queue or the store cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The index cannot be had.
    #[error(transparent)]
    Index(#[from] OpenError),
    /// The system has no threads to give.
    #[error("cannot start the threads that answer questions: {0}")]
    Threads(#[source] std::io::Error),
    /// The port cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where it was to listen.
        address: String,
        /// Why it cannot.
        source: io::Error,
    },
    /// It has run, and stopped when it was told to; but rows of the embedded file cannot be read.
    #[error("{0}; restore it from a backup, or retract what is in them")]
    Damaged(String),
    /// A task that the process needs ended by itself.
    #[error(transparent)]
    Task(#[from] TaskEnded),
    /// Signals cannot be listened for.
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] io::Error),
    /// Logging or tracing cannot start.
    #[error("cannot start logging or tracing: {0}")]
    Telemetry(#[source] Box<dyn std::error::Error + Send + Sync>),
}

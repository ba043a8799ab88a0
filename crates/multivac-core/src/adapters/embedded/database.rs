//! What queue and store share: the readers, the writer, and the lock on the directory.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::damage::Damage;
use super::file::{self, OpenError};
use super::lease;
use super::readers::Readers;
use super::writer::Writer;

/// One data directory, open. The fields are dropped in their order: first the readers end, then the writer finishes and
/// closes the file (the last connection to close writes the log back into it), and only then is the directory unlocked.
pub(super) struct Database {
    pub(super) readers: Readers,
    pub(super) writer: Writer,
    pub(super) damage: Damage,
    _lock: File,
}

impl Database {
    /// Locks the directory and opens the file in it, whose path it returns.
    pub(super) fn open(dir: &Path) -> Result<(PathBuf, Self), OpenError> {
        let lock = file::lock(dir)?;
        let path = dir.join("multivac.db");
        file::restrict(dir);
        let connection = file::open_database(&path)?;
        lease::void_leases(&connection).map_err(|error| file::open_error(&path, error))?;
        let failed = |error: io::Error| OpenError::Failed { path: path.clone(), source: error.into() };
        let readers = Readers::start(&path).map_err(failed)?;
        let writer = Writer::start(connection).map_err(failed)?;
        Ok((path, Self { readers, writer, damage: Damage::default(), _lock: lock }))
    }
}

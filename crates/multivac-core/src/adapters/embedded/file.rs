//! The files of a data directory: how they are locked, created, opened, and migrated to the present version.
//!
//! Everything here runs once, at start, on the thread that opens the directory.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tracing::{info, warn};

use crate::runtime::files::lock_holder;
use crate::runtime::for_owner;

/// One entry for each version of the file, in order. An entry that was part of a release never changes.
const MIGRATIONS: [&str; 3] = [
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_held.sql"),
    include_str!("migrations/0003_idempotency_digest.sql"),
];

/// Marks the file as MultiVAC's, in SQLite's header: "MVac".
const APPLICATION_ID: i32 = 0x4d56_6163;

/// Why a data directory cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is not there and cannot be made, or its files cannot be written.
    #[error("the data directory cannot be used: {path} cannot be made or written; check its owner and permissions")]
    NotWritable {
        /// What could not be written.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process uses it.
    #[error("the data directory {dir} is in use by {holder}; stop that one, or give this one another directory")]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Which process, where the lock file names it: "process 17".
        holder: String,
    },
    /// The disk is full.
    #[error("the disk of {path} is full: it cannot be opened until there is room; nothing in it is lost")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// A newer MultiVAC wrote it.
    #[error(
        "{path} was written by a newer MultiVAC (version {found} of the file; this one knows {known}); run that one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// The newest version known here.
        known: usize,
    },
    /// It is not what MultiVAC wrote.
    #[error(
        "{path} is damaged or was not written by MultiVAC: {detail}; restore it from a backup, \
         or move it away to start with an empty one"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The system or SQLite failed: no memory, no threads, a failing disk.
    #[error("{path} could not be opened: {source}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the system or SQLite said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Creates the directory if it is missing, and locks it. The system ends the lock with the process, however that ends.
pub(super) fn lock(dir: &Path) -> Result<File, OpenError> {
    let not_writable =
        |path: &Path, error: io::Error| OpenError::NotWritable { path: path.into(), source: error.into() };
    if !dir.is_dir() {
        for_owner::directory().create(dir).map_err(|error| not_writable(dir, error))?;
        sync_directory(dir.parent()).map_err(|error| not_writable(dir, error))?;
    }
    let path = dir.join("multivac.lock");
    let file = for_owner::file().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = file.map_err(|error| not_writable(&path, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { dir: dir.into(), holder: lock_holder(file) }),
        Err(TryLockError::Error(error)) => return Err(not_writable(&path, error)),
    }
    // The number is for the message that a second process gives. Only the lock counts, so a disk that is too full for
    // the number is no error.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Takes the directory and the files in it from all but their owner, where an earlier version or somebody's hand gave them
/// away. A directory that holds other things too is not MultiVAC's alone and stays as it is. SQLite gives the files beside the
/// database the mode that the database has.
pub(super) fn restrict(dir: &Path) {
    let entries: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let is_ours =
        |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("multivac."));
    let ours: Vec<&PathBuf> = entries.iter().filter(is_ours).collect();
    let whole = (ours.len() == entries.len()).then_some(dir);
    for path in ours.into_iter().map(PathBuf::as_path).chain(whole) {
        match for_owner::restrict(path) {
            Ok(false) => {}
            Ok(true) => info!(path = %path.display(), "others could read or write this; now its owner alone can"),
            Err(error) => warn!(path = %path.display(), %error, "others may read or write this"),
        }
    }
}

/// Which file lies under a path: another one, or none, if it was removed meanwhile.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    let there = fs::metadata(path).ok()?;
    #[cfg(unix)]
    return Some((std::os::unix::fs::MetadataExt::dev(&there), std::os::unix::fs::MetadataExt::ino(&there)));
    #[cfg(not(unix))]
    Some((0, there.is_file().into()))
}

/// Makes new names in a directory survive a power cut. Where a directory cannot be opened (Windows), the system itself
/// sees to that.
fn sync_directory(dir: Option<&Path>) -> io::Result<()> {
    match dir.map(File::open) {
        Some(Ok(dir)) => dir.sync_all(),
        _ => Ok(()),
    }
}

pub(super) fn open_database(path: &Path) -> Result<Connection, OpenError> {
    if !path.exists() {
        create(path)?;
    }
    let failed = |error| open_error(path, error);
    let connection = connect(path).map_err(failed)?;
    let (found, _) = version(&connection, path).map_err(failed)??;
    use_write_ahead_log(&connection).map_err(failed)?;
    migrate(&connection, found).map_err(failed)?;
    Ok(connection)
}

/// The version of an open file, and the newest one that is known here.
pub(super) fn version(connection: &Connection, path: &Path) -> rusqlite::Result<Result<(usize, usize), OpenError>> {
    let application_id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application_id != APPLICATION_ID {
        let detail = "its header lacks MultiVAC's mark".into();
        return Ok(Err(OpenError::Damaged { path: path.into(), detail }));
    }
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let (found, known) = (found as usize, MIGRATIONS.len());
    Ok(if found > known { Err(OpenError::Newer { path: path.into(), found, known }) } else { Ok((found, known)) })
}

/// Creates a new database under another name and renames it when it is complete. So an empty or incomplete file under
/// the final name is damage, and never taken for a first start.
fn create(path: &Path) -> Result<(), OpenError> {
    let log = path.with_extension("db-wal");
    if log.exists() {
        let detail = format!("it is missing, and the log {} that belongs to it is there", log.display());
        return Err(OpenError::Damaged { path: path.into(), detail });
    }
    let not_writable = |error: io::Error| OpenError::NotWritable { path: path.into(), source: error.into() };
    let draft = path.with_extension("db-new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(not_writable(error)),
        _ => for_owner::file().write(true).create_new(true).open(&draft).map_err(not_writable)?,
    };
    let fill = || {
        let connection = connect(&draft)?;
        migrate(&connection, 0)?;
        connection.close().map_err(|(_, error)| error)
    };
    fill().map_err(|error| open_error(path, error))?;
    fs::rename(&draft, path).and_then(|()| sync_directory(path.parent())).map_err(not_writable)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "foreign_keys", true)?;
    // The file may come from somebody else: functions that its schema names are not to run with this process's rights.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // What a savepoint needs to be undone is a few pages, and should not fail when the temporary directory is full.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

fn use_write_ahead_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A burst of writes makes the log long; without a limit it would keep that size.
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)
}

/// Brings a file from version `from` to the present one, in one transaction.
fn migrate(connection: &Connection, from: usize) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    for (version, sql) in (1..).zip(MIGRATIONS).skip(from) {
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    transaction.commit()
}

pub(super) fn open_error(path: &Path, error: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::Damaged { path, detail: error.to_string() }
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            OpenError::NotWritable { path, source: error.into() }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            let dir = path.parent().unwrap_or(&path).to_owned();
            OpenError::InUse { dir, holder: "another process, which does not heed multivac.lock".to_owned() }
        }
        Some(ErrorCode::DiskFull) => OpenError::Full { path },
        _ => OpenError::Failed { path, source: error.into() },
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;

//! The embedded queue and store: one SQLite file for one process, with nothing to install.
//!
//! A data directory holds `multivac.db` (with SQLite's `-wal` and `-shm` beside it while it is open) and
//! `multivac.lock`, which a process keeps locked for as long as it uses the directory, its own number in it. The
//! tables are explained in `migrations/`.
//!
//! How the ports' promises are kept:
//!
//! - **Durable**: write-ahead log with `synchronous=FULL`, so a commit has reached the disk when it returns, and a
//!   power cut takes nothing that was answered. `writer.rs` shares each commit among all who wait.
//! - **At least once, counted once**: a job, its attempts and the ledger change in one transaction. Leases belong to
//!   the process: at the next start all of them are void, and the attempts stay counted.
//! - **Followed without a gap**: there is one writer, so the numbers that changes get become visible in their order.
//! - **Retracted text goes**: with `secure_delete`, SQLite overwrites the text of retracted and of completed data in
//!   the file (learning is some 10 % slower for it, measured 2026-11-23). The log still has it until it is written
//!   over, and backups and the disk's own copies are beyond reach.
//!
//! - **A full disk** takes nothing away: a commit that finds no room writes nothing, whoever waited for it is told, the log
//!   says so once, and the next one that finds room goes through.
//!
//! SQLite blocks, so it never runs on an async thread: writes have a thread of their own, reads use Tokio's
//! blocking threads and a few connections that the writer does not hold up.
//!
//! Opening an older file brings it up to date, step by step (`MIGRATIONS`). A file that is newer, damaged, or somebody
//! else's is refused and left as it is; a new one gets its name only once it is whole. So there is never an empty
//! start where data were.

mod queue;
mod store;
mod writer;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Rows};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::datum::DatumId;
use crate::queue::{QueueAdmin, QueueError, QueueSettings};
use crate::store::{Store, StoreError};

use queue::EmbeddedQueue;
use store::EmbeddedStore;
use writer::Writer;

/// One entry for each version of the file, in order; an entry, once released, never changes.
const MIGRATIONS: [&str; 2] = [include_str!("migrations/0001_initial.sql"), include_str!("migrations/0002_held.sql")];

/// Says in the file's header whose it is: "MVac".
const APPLICATION_ID: i32 = 0x4d56_6163;

/// Reads that run at once; more wait. Each is short, and there is one file.
const READERS: usize = 4;

/// Text that is read at once, unless one datum alone is larger.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// A data directory that this process has opened, and holds until the last handle to its queue and store is dropped.
pub struct Embedded {
    path: PathBuf,
    queue: Arc<EmbeddedQueue>,
    store: Arc<EmbeddedStore>,
}

/// Why a data directory cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is not there and cannot be made, or its files cannot be written.
    #[error("the data directory cannot be used: {path} cannot be made or written; check its owner and permissions")]
    NotWritable {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process has it.
    #[error("the data directory {dir} is in use by {holder}; stop that one, or give this one another directory")]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Which process, where it has said so: "process 17".
        holder: String,
    },
    /// There is no room to open it in.
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
    /// It cannot be read as what MultiVAC wrote.
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
    /// The system or SQLite did not do it: no memory, a failing disk.
    #[error("{path} could not be opened: {source}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Embedded {
    /// Opens a data directory, or makes it. Blocks for as long as that takes, so it is called at start.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(dir: &Path, settings: QueueSettings) -> Result<Self, OpenError> {
        let lock = lock(dir)?;
        let path = dir.join("multivac.db");
        let connection = open_database(&path)?;
        let failed = |error: io::Error| OpenError::Failed { path: path.clone(), source: error.into() };
        let shared = Arc::new(Shared {
            readers: Arc::new(Readers::new(path.clone())),
            writer: Writer::start(connection).map_err(failed)?,
            _lock: lock,
        });
        let queue = Arc::new(EmbeddedQueue::new(Arc::clone(&shared), settings));
        let store = Arc::new(EmbeddedStore::new(shared));
        Ok(Self { path, queue, store })
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

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What queue and store have in common. The order of the fields is the order in which they are dropped: the readers
/// close, the writer finishes and closes, and only then is the directory free.
struct Shared {
    readers: Arc<Readers>,
    writer: Writer,
    _lock: File,
}

/// Makes the directory and locks it. The lock goes with the process, however it ends.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let not_writable =
        |path: &Path, error: io::Error| OpenError::NotWritable { path: path.into(), source: error.into() };
    if !dir.is_dir() {
        fs::create_dir_all(dir).map_err(|error| not_writable(dir, error))?;
        sync_directory(dir.parent()).map_err(|error| not_writable(dir, error))?;
    }
    let path = dir.join("multivac.lock");
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = file.map_err(|error| not_writable(&path, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { dir: dir.into(), holder: holder(file) }),
        Err(TryLockError::Error(error)) => return Err(not_writable(&path, error)),
    }
    // For whoever comes second. The lock is what counts, so a disk too full for a number keeps nobody out.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Who says in the lock file that it is theirs. Only whoever finds it locked asks, so the number is not one of the past.
fn holder(mut file: File) -> String {
    let mut said = String::new();
    let read = file.read_to_string(&mut said).is_ok();
    match said.trim().parse::<u32>() {
        Ok(process) if read => format!("process {process}"),
        _ => "another process".to_owned(),
    }
}

/// Makes new names in a directory survive a power cut. Where directories cannot be opened (Windows), the system does.
fn sync_directory(dir: Option<&Path>) -> io::Result<()> {
    match dir.map(File::open) {
        Some(Ok(dir)) => dir.sync_all(),
        _ => Ok(()),
    }
}

fn open_database(path: &Path) -> Result<Connection, OpenError> {
    if !path.exists() {
        create(path)?;
    }
    let refused = |error| open_error(path, error);
    let connection = connect(path).map_err(refused)?;
    let application_id: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(refused)?;
    if application_id != APPLICATION_ID {
        return Err(OpenError::Damaged { path: path.into(), detail: "its header lacks MultiVAC's mark".into() });
    }
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(refused)?;
    let found = found as usize;
    if found > MIGRATIONS.len() {
        return Err(OpenError::Newer { path: path.into(), found, known: MIGRATIONS.len() });
    }
    use_write_ahead_log(&connection).map_err(refused)?;
    migrate(&connection, found).map_err(refused)?;
    queue::void_leases(&connection).map_err(refused)?;
    Ok(connection)
}

/// Makes a new database under another name and gives it its own when it is whole: a file by that name that is empty
/// or half made is damage, not a first start.
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
        _ => File::create_new(&draft).map_err(not_writable)?,
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
    // A file may come from elsewhere: nothing that its schema names is run with our rights.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // What undoes a single step: a few pages, and no business of a full temporary directory.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

fn use_write_ahead_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // What a burst has made of the log is given back to the disk.
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)
}

/// Brings a file from version `from` to the present one, all or nothing.
fn migrate(connection: &Connection, from: usize) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    for (version, sql) in (1..).zip(MIGRATIONS).skip(from) {
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    transaction.commit()
}

fn open_error(path: &Path, error: rusqlite::Error) -> OpenError {
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

/// Connections that read, beside the writer: in the write-ahead log neither waits for the other.
struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::default(), permits: Arc::new(Semaphore::new(READERS)) }
    }

    /// Runs `work` on a blocking thread with a connection of its own. Each statement sees one snapshot.
    async fn read<T, F>(self: &Arc<Self>, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Fault::Stopped)?;
        let this = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let connection = this.take()?;
            let found = work(&connection)?;
            this.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(found)
        });
        reading.await.map_err(|_| Fault::Stopped)?
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

/// Why the database did not do something. Cloned to everyone whose step was in a group that failed.
#[derive(Debug, Clone, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Sqlite(Arc<rusqlite::Error>),
    #[error("its thread has ended")]
    Stopped,
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

impl Fault {
    /// Whether the disk is full or failing.
    fn is_of_the_disk(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure))
    }

    /// What is wrong, for people; `Err` when waiting will not help.
    fn explain(&self) -> Result<&'static str, &'static str> {
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

impl From<Fault> for QueueError {
    fn from(fault: Fault) -> Self {
        match fault.explain() {
            Ok(message) => Self::Unavailable { message: message.into(), source: Some(Box::new(fault)) },
            Err(message) => Self::Misconfigured(message.into()),
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault.explain() {
            Ok(message) => Self::Unavailable { message: message.into(), source: Some(Box::new(fault)) },
            Err(message) => Self::Misconfigured(message.into()),
        }
    }
}

/// An id as the tables have it.
struct IdColumn(DatumId);

impl ToSql for IdColumn {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let bytes: &[u8] = match &self.0 {
            DatumId::Uuid(uuid) => uuid.as_bytes(),
            DatumId::Original(bytes) => bytes,
        };
        Ok(bytes.into())
    }
}

impl FromSql for IdColumn {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        let id = match bytes.len() {
            12 => bytes.try_into().ok().map(DatumId::Original),
            _ => Uuid::from_slice(bytes).ok().map(DatumId::Uuid),
        };
        id.map(Self).ok_or(FromSqlError::InvalidType)
    }
}

/// A count or a limit as SQLite takes it.
fn to_column(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// Reads rows until their text comes to [`BATCH_BYTES`], and one at least. `size_bytes` counts on from what was read
/// before.
fn read_batch<T>(
    mut rows: Rows<'_>,
    size_bytes: &mut usize,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    text_bytes: impl Fn(&T) -> usize,
) -> rusqlite::Result<Vec<T>> {
    let mut batch = Vec::new();
    while let Some(row) = rows.next()? {
        let item = read(row)?;
        let more = text_bytes(&item);
        if *size_bytes > 0 && *size_bytes + more > BATCH_BYTES {
            break;
        }
        *size_bytes += more;
        batch.push(item);
    }
    Ok(batch)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::datum::{Datum, Timestamp};
    use crate::queue::{Acceptance, Job, Submission};

    fn open(dir: &Path) -> Result<Embedded, OpenError> {
        Embedded::open(dir, QueueSettings::default())
    }

    fn refusal(dir: &Path) -> String {
        open(dir).err().unwrap().to_string()
    }

    /// What another process would see.
    fn look(path: &Path) -> Connection {
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
    }

    fn submission(text: &str) -> Submission {
        let datum = Datum::accepted_before(text);
        let job =
            Job { id: DatumId::generate(), datum, received_at: Timestamp::now(), trace: Some("00-a-b-01".into()) };
        Submission { job, idempotency_key: None }
    }

    #[tokio::test]
    async fn opening_again_keeps_everything_and_frees_leases() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (submission("one"), submission("two"));
        let embedded = open(dir.path()).unwrap();
        let queue = embedded.queue();
        queue.accept(&[one.clone(), two.clone()]).await.unwrap();
        let leased = queue.lease(1, Duration::ZERO).await.unwrap();
        assert_eq!((leased.len(), leased[0].attempt), (1, 1));
        drop((embedded, queue));

        let queue = open(dir.path()).unwrap().queue();
        // A holder out of the time before has nothing to say.
        queue.release(&leased).await.unwrap();
        let again = queue.lease(9, Duration::ZERO).await.unwrap();
        let got: Vec<_> = again.iter().map(|lease| (lease.job.clone(), lease.attempt)).collect();
        assert_eq!(got, [(one.job, 2), (two.job, 1)]);
    }

    #[tokio::test]
    async fn an_accepted_job_is_in_the_file_before_the_answer() {
        let dir = tempfile::tempdir().unwrap();
        let embedded = open(dir.path()).unwrap();
        let other = look(embedded.path());
        for n in 1..=20 {
            let answer = embedded.queue().accept(&[submission("durable")]).await.unwrap();
            assert_eq!(answer, [Acceptance::Accepted]);
            let seen: i64 = other.query_row("SELECT COUNT(*) FROM job", [], |row| row.get(0)).unwrap();
            assert_eq!(seen, n);
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_said_and_work_goes_on_when_there_is_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let embedded = open(dir.path()).unwrap();
        let queue = embedded.queue();
        let limit = async |pages: i64| {
            let set = move |write: &writer::Write<'_>| write.connection.pragma_update(None, "max_page_count", pages);
            embedded.queue.writer().write(0, set).await.unwrap();
        };
        limit(1).await;
        let big = submission(&"x".repeat(1 << 20));
        let error = queue.accept(std::slice::from_ref(&big)).await.unwrap_err();
        assert!(error.is_transient());
        assert!(error.to_string().contains("the disk of the data directory is full; nothing was written"), "{error}");
        assert_eq!(queue.ledger().await.unwrap().accepted, 0);
        limit(1 << 30).await;
        assert_eq!(queue.accept(&[big]).await.unwrap(), [Acceptance::Accepted]);
    }

    #[test]
    fn every_commit_waits_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let connection = open_database(&dir.path().join("multivac.db")).unwrap();
        let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!((synchronous, journal.as_str()), (2, "wal"));
    }

    #[test]
    fn a_directory_serves_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path()).unwrap();
        let holder = format!("in use by process {};", std::process::id());
        assert!(refusal(dir.path()).contains(&holder), "{}", refusal(dir.path()));
        drop(first);
        open(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_is_made() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(&dir.path().join("a/b")).unwrap().path().is_file());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(refusal(&dir.path().join("file/data")).contains("cannot be made or written"));
    }

    #[cfg(unix)]
    #[test]
    fn a_read_only_directory_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
        if File::create(dir.path().join("root-may")).is_ok() {
            eprintln!("skipped: permissions do not bind this user");
            return;
        }
        assert!(refusal(dir.path()).contains("cannot be made or written"));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("multivac.lock")).unwrap();
        assert!(refusal(dir.path()).contains("multivac.lock cannot be made or written"));
    }

    #[test]
    fn a_newer_file_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = open(dir.path()).unwrap().path().to_owned();
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
        assert!(refusal(dir.path()).contains("newer MultiVAC (version 9 of the file; this one knows 2)"));
        let left: i64 = look(&path).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(left, 9);
    }

    #[test]
    fn what_multivac_did_not_write_is_refused_and_left_as_it_is() {
        for content in [&b"Once upon a time there was no database here. ".repeat(40)[..], b""] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("multivac.db");
            fs::write(&path, content).unwrap();
            let refusal = refusal(dir.path());
            assert!(refusal.contains("damaged or was not written by MultiVAC"), "{refusal}");
            assert!(refusal.contains("restore it from a backup"), "{refusal}");
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_log_without_its_file_is_no_first_start() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("multivac.db-wal"), "log").unwrap();
        assert!(refusal(dir.path()).contains("it is missing"));
    }

    #[test]
    fn a_first_start_that_was_interrupted_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("multivac.db-new"), "half").unwrap();
        open(dir.path()).unwrap();
    }

    #[tokio::test]
    async fn retracted_and_completed_text_leaves_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let embedded = open(dir.path()).unwrap();
        let (queue, store) = (embedded.queue(), embedded.store());
        let secret = "a text that somebody wants back ".repeat(1000);
        queue.accept(&[submission(&secret)]).await.unwrap();
        let leases = queue.lease(1, Duration::ZERO).await.unwrap();
        let datum = store::tests::datum(leases[0].job.id, &secret);
        store.put(&[datum]).await.unwrap();
        queue.complete(&[(leases[0].clone(), crate::queue::Outcome::Learned)]).await.unwrap();
        store.retract(leases[0].job.id).await.unwrap();
        let path = embedded.path().to_owned();
        drop((embedded, queue, store));
        assert!(!String::from_utf8_lossy(&fs::read(path).unwrap()).contains("somebody wants back"));
        assert!(!dir.path().join("multivac.db-wal").exists(), "closing writes the log back and removes it");
    }
}

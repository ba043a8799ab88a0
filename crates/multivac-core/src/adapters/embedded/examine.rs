//! What `doctor` finds out about a data directory. It opens the file to read it alone, so it may run beside the process that
//! uses the directory, and changes nothing there.

use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{file, ledger};
use crate::adapters::findings::{self, Finding, QUEUE_CHECKS};
use crate::runtime::files::disk_of;

/// All of them, in their order.
const CHECKS: [&str; 4] = ["embedded.directory", "embedded.disk", "embedded.file", "embedded.leftovers"];

/// Examines a data directory.
pub async fn examine(directory: PathBuf) -> Vec<Finding> {
    let path = directory.join("multivac.db");
    let mut found = vec![of_directory(&directory)];
    if !path.exists() {
        let why = "there are no data yet";
        let others = CHECKS[1..].iter().chain(&QUEUE_CHECKS);
        // The log alone is what is left of a file that somebody has removed.
        let lost = path.with_extension("db-wal").exists().then(|| {
            let advice = "restore multivac.db from a backup, or move the log away to start with an empty one";
            Finding::error(CHECKS[2], "multivac.db is missing, and the log that belongs to it is there", advice)
        });
        found.extend(others.map(|check| match &lost {
            Some(lost) if *check == CHECKS[2] => lost.clone(),
            _ => Finding::skipped(check, why),
        }));
        return found;
    }
    found.push(findings::disk(CHECKS[1], disk_of(&directory), &directory.display().to_string()));
    // A large file takes long to read; what is in the ledger does not.
    let (of, read) = (path.clone(), path.clone());
    let integrity = findings::in_time(CHECKS[2], async { joined(CHECKS[2], move || integrity(&of)).await });
    let held = tokio::task::spawn_blocking(move || held(&read));
    let (integrity, held) = tokio::join!(integrity, tokio::time::timeout(findings::LIMIT, held));
    found.push(match integrity.found.starts_with("out of reach") {
        true => Finding::skipped(CHECKS[2], "too large to be read in time: PRAGMA quick_check in sqlite3 looks longer"),
        false => integrity,
    });
    found.push(leftovers(&directory));
    match held {
        Ok(Ok(Ok(held))) => found.extend(held),
        // Why is another check's.
        _ => found.extend(QUEUE_CHECKS.map(|check| Finding::skipped(check, "the file cannot be read"))),
    }
    found
}

async fn joined(check: &'static str, work: impl FnOnce() -> Finding + Send + 'static) -> Finding {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Finding::failed(check, &error))
}

fn of_directory(directory: &Path) -> Finding {
    let (check, shown) = (CHECKS[0], directory.display());
    if !directory.is_dir() {
        return Finding::ok(check, format!("{shown} does not exist; it is made at the first start"));
    }
    let owner = "make the user that runs MultiVAC its owner (chown), or give --data-dir another one";
    if !is_writable(directory) {
        return Finding::error(check, format!("{shown} cannot be written"), owner);
    }
    let holder = holder(directory).map_or(String::new(), |holder| format!(", in use by {holder}"));
    match others_may_read(directory) {
        Some(mode) => {
            let advice =
                format!("chmod 700 {shown}; the next start does it too, where the directory holds nothing else");
            Finding::warning(check, format!("others may read {shown} (mode {mode:03o}){holder}"), advice)
        }
        None => Finding::ok(check, format!("{shown}{holder}")),
    }
}

#[cfg(target_os = "linux")]
fn is_writable(directory: &Path) -> bool {
    use rustix::fs::Access;
    rustix::fs::access(directory, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn is_writable(directory: &Path) -> bool {
    fs::metadata(directory).is_ok_and(|there| !there.permissions().readonly())
}

#[cfg(unix)]
fn others_may_read(path: &Path) -> Option<u32> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).ok()?.permissions());
    (mode & 0o077 != 0).then_some(mode & 0o777)
}

#[cfg(not(unix))]
fn others_may_read(_: &Path) -> Option<u32> {
    None
}

/// Which process uses the directory. The lock is taken for the moment of the question alone.
fn holder(directory: &Path) -> Option<String> {
    let mut lock = File::open(directory.join("multivac.lock")).ok()?;
    let Err(TryLockError::WouldBlock) = lock.try_lock_shared() else { return None };
    let mut process = String::new();
    let _ = lock.read_to_string(&mut process);
    Some(format!("process {}", process.trim()))
}

/// Opens the file to be read. While nobody uses it, as one that does not change: then SQLite makes no files beside it, for
/// which there may be no room. That would be wrong with a log, in which changes may be that are not in the file yet.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let has_log = fs::metadata(path.with_extension("db-wal")).is_ok_and(|log| log.len() > 0);
    let is_used = path.parent().is_none_or(|directory| holder(directory).is_some());
    let unchanging = if has_log || is_used { "" } else { "?immutable=1" };
    let name = path.display().to_string().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(format!("file:{name}{unchanging}"), flags)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// Whether the file is one of ours that this version knows, and whole.
fn integrity(path: &Path) -> Finding {
    let check = CHECKS[2];
    let advice = "restore multivac.db from a backup; docs/operations.md says what can be read of a damaged one";
    let read = || {
        let connection = open(path)?;
        let (version, known) = match file::version(&connection, path)? {
            Ok(versions) => versions,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut statement = connection.prepare("PRAGMA quick_check(5)")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        Ok(Ok((version, known, rows)))
    };
    let was_free = path.parent().is_some_and(|directory| holder(directory).is_none());
    let found = match read() {
        Err(error) => Finding::error(check, file::open_error(path, error).to_string(), advice),
        Ok(Err(refused)) => Finding::error(check, refused.to_string(), "see what it says"),
        Ok(Ok((version, known, rows))) if rows == ["ok"] => {
            let size = bytesize::ByteSize(fs::metadata(path).map_or(0, |file| file.len()));
            let older = if version < known { ", which the next start migrates" } else { "" };
            return Finding::ok(check, format!("whole, {size}, version {version} of {known}{older}"));
        }
        Ok(Ok((.., rows))) => Finding::error(check, format!("damaged: {}", rows.join("; ").replace('\n', " ")), advice),
    };
    // What was taken for damage may be a change.
    match path.parent().and_then(holder) {
        Some(holder) if was_free => Finding::skipped(check, format!("{holder} began to use it meanwhile: look again")),
        _ => found,
    }
}

fn held(path: &Path) -> rusqlite::Result<Vec<Finding>> {
    let connection = open(path)?;
    Ok(findings::queue(&ledger::ledger(&connection)?, &[ledger::partition(&connection)?]))
}

/// What no start will use again.
fn leftovers(directory: &Path) -> Finding {
    let check = CHECKS[3];
    let draft = directory.join("multivac.db-new");
    match draft.exists() {
        true => {
            Finding::warning(check, format!("{}, of a first start that was interrupted", draft.display()), "remove it")
        }
        false => Finding::ok(check, "none"),
    }
}

#![allow(clippy::unwrap_used)]

use super::super::Embedded;
use super::*;
use crate::queue::QueueSettings;

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
    assert!(refusal(dir.path()).contains("newer MultiVAC (version 9 of the file; this one knows 3)"));
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

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The names in a directory, and their modes.
#[cfg(unix)]
fn modes(dir: &Path) -> Vec<(String, u32)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut modes: Vec<_> =
        entries.map(|entry| (entry.file_name().into_string().unwrap(), mode(&entry.path()))).collect();
    modes.sort();
    modes
}

#[cfg(unix)]
#[test]
fn what_is_made_is_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let _open = open(&data).unwrap();
    let files = ["multivac.db", "multivac.db-shm", "multivac.db-wal", "multivac.lock"];
    assert_eq!(mode(&data), 0o700);
    assert_eq!(modes(&data), files.map(|name| (name.to_owned(), 0o600)));
}

#[cfg(unix)]
#[test]
fn what_others_could_read_is_restricted_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    drop(open(&data).unwrap());
    let old_copy = data.join("multivac.db-copy");
    fs::write(&old_copy, "a copy").unwrap();
    for name in ["", "multivac.db", "multivac.lock", "multivac.db-copy"] {
        set_mode(&data.join(name), if name.is_empty() { 0o755 } else { 0o644 });
    }
    let _open = open(&data).unwrap();
    assert_eq!(mode(&data), 0o700);
    assert!(modes(&data).iter().all(|(_, mode)| *mode == 0o600), "{:?}", modes(&data));
}

#[cfg(unix)]
#[test]
fn a_directory_that_holds_other_things_too_keeps_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    set_mode(dir.path(), 0o1777);
    fs::write(dir.path().join("another's"), "").unwrap();
    let _open = open(dir.path()).unwrap();
    assert_eq!(mode(dir.path()), 0o1777);
    for (name, mode) in modes(dir.path()) {
        assert!(mode == 0o600 || name == "another's", "{name} {mode:o}");
    }
}

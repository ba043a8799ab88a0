#![allow(clippy::unwrap_used)]

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

/// A directory beside those of the index, as a process that was killed leaves it.
fn left_over(name: &str) -> tempfile::TempDir {
    let directory = tempfile::Builder::new().prefix(&format!("{PREFIX}{name}-")).tempdir().unwrap();
    File::create_new(directory.path().join(MARK)).unwrap();
    fs::write(directory.path().join("segment"), "text").unwrap();
    directory
}

#[test]
fn it_is_for_its_owner_alone_and_gone_afterwards() {
    let directory = IndexDirectory::create().unwrap();
    let path = directory.path().to_owned();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    drop(directory);
    assert!(!path.exists());
}

#[test]
fn what_a_killed_process_left_is_removed_and_nothing_else() {
    let one = IndexDirectory::create().unwrap();
    let other = IndexDirectory::create().unwrap();
    let killed = left_over("killed");
    let new = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    File::create_new(elsewhere.path().join(MARK)).unwrap();
    let link = one.path().parent().unwrap().join(format!("{PREFIX}link-{}", std::process::id()));
    symlink(elsewhere.path(), &link).unwrap();

    one.remove_left_over();
    let link_is_left = fs::symlink_metadata(&link).is_ok();
    fs::remove_file(&link).unwrap();
    assert!(!killed.path().exists(), "nobody uses it");
    assert!(other.path().join(MARK).exists(), "it is in use");
    assert!(new.path().exists(), "nobody has locked it yet");
    assert!(link_is_left && elsewhere.path().join(MARK).exists(), "a link is not followed");
}

#[test]
fn a_directory_of_another_user_is_left_alone() {
    let own = IndexDirectory::create().unwrap();
    let theirs = left_over("theirs");
    if std::os::unix::fs::chown(theirs.path(), Some(65532), Some(65532)).is_err() {
        eprintln!("skipped: only root can give a directory away");
        return;
    }
    fs::set_permissions(theirs.path(), fs::Permissions::from_mode(0o755)).unwrap();
    own.remove_left_over();
    assert!(theirs.path().exists());
}

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn a_directory_that_is_missing_is_made_for_its_owner_alone_and_kept() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a/directory");
    let directory = KeptDirectory::open(&path).unwrap();
    assert_eq!(directory.manifest(), Err(WhyNot::None));
    let manifest = directory.begin().unwrap();
    assert_eq!((mode(&path), mode(&path.join(MANIFEST)), mode(&path.join(LOCK))), (0o700, 0o600, 0o600));
    assert_eq!(mode(&directory.path_of(&manifest.name)), 0o700);
    drop(directory);
    let again = KeptDirectory::open(&path).unwrap();
    assert_eq!(again.manifest(), Ok(manifest));
}

#[test]
fn a_directory_is_used_by_one_process_alone() {
    let place = tempfile::tempdir().unwrap();
    let first = KeptDirectory::open(place.path()).unwrap();
    let refused = KeptDirectory::open(place.path()).err().unwrap();
    assert!(
        matches!(&refused, DirectoryError::InUse { holder, .. } if *holder == format!("process {}", std::process::id()))
    );
    drop(first);
    assert!(KeptDirectory::open(place.path()).is_ok());
}

#[test]
fn a_directory_stays_its_process_s_without_its_lock_file() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("index");
    // As a volume may be given.
    let directory = place.path().join("elsewhere");
    fs::create_dir(&directory).unwrap();
    std::os::unix::fs::symlink(&directory, &path).unwrap();
    let first = KeptDirectory::open(&path).unwrap();
    let manifest = first.begin().unwrap();
    fs::remove_file(directory.join(LOCK)).unwrap();
    for path in [&path, &directory] {
        let refused = KeptDirectory::open(path).err().unwrap();
        assert!(matches!(&refused, DirectoryError::InUse { holder, .. } if holder == "another process"), "{refused}");
    }
    assert!(!directory.join(LOCK).exists(), "nothing is made where another is");
    assert!(first.is_held(), "so nothing is loaded anew");
    assert_eq!(first.manifest(), Ok(manifest));
    drop(first);
    assert!(KeptDirectory::open(&path).is_ok());
}

#[test]
fn what_the_system_says_is_not_damage() {
    let of_number = |number| TantivyError::from(io::Error::from_raw_os_error(number));
    // EIO, EAGAIN, ENOMEM, EACCES, ENFILE, EMFILE, ENOLCK (POSIX has the names, Linux the numbers).
    for number in [5, 11, 12, 13, 23, 24, 37] {
        assert!(matches!(WhyNot::of(&of_number(number)), WhyNot::Unreadable(_)), "{number}");
    }
    let path = PathBuf::from("segment");
    let error = || io::Error::from_raw_os_error(24);
    for error in [
        OpenReadError::wrap_io_error(error(), path.clone()).into(),
        OpenDirectoryError::wrap_io_error(error(), path.clone()).into(),
        LockError::wrap_io_error(error()).into(),
    ] {
        assert!(matches!(WhyNot::of(&error), WhyNot::Unreadable(_)), "{error}");
    }
    // ENOENT, ENOTDIR, EISDIR.
    for number in [2, 20, 21] {
        assert!(matches!(WhyNot::of(&of_number(number)), WhyNot::Damaged(_)), "{number}");
    }
    let of_contents: [TantivyError; 3] = [
        OpenReadError::FileDoesNotExist(path.clone()).into(),
        OpenReadError::wrap_io_error(io::ErrorKind::UnexpectedEof.into(), path).into(),
        io::Error::new(io::ErrorKind::InvalidData, "no such footer").into(),
    ];
    for error in of_contents {
        assert!(matches!(WhyNot::of(&error), WhyNot::Damaged(_)), "{error}");
    }
}

#[test]
fn what_is_another_s_is_refused_and_left_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("thesis.txt"), "years of work").unwrap();
    let refused = KeptDirectory::open(place.path()).err().unwrap();
    assert!(refused.to_string().contains("holds thesis.txt, which is not MultiVAC's"), "{refused}");
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["thesis.txt"]);

    let file = place.path().join("thesis.txt");
    assert!(matches!(KeptDirectory::open(&file), Err(DirectoryError::NotWritable { .. })));
    let volume = tempfile::tempdir().unwrap();
    fs::create_dir(volume.path().join("lost+found")).unwrap();
    assert!(KeptDirectory::open(volume.path()).is_ok(), "as a new volume has it");
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o500)).unwrap();
    if File::create(place.path().join("file")).is_ok() {
        eprintln!("skipped: root may write anywhere");
        return;
    }
    assert!(matches!(KeptDirectory::open(place.path()), Err(DirectoryError::NotWritable { .. })));
}

#[test]
fn an_index_that_is_begun_takes_the_place_of_the_one_before() {
    let place = tempfile::tempdir().unwrap();
    let directory = KeptDirectory::open(place.path()).unwrap();
    let one = directory.begin().unwrap();
    fs::write(directory.path_of(&one.name).join("segment"), "text").unwrap();
    let two = directory.begin().unwrap();
    assert_ne!((&one.name, one.key), (&two.name, two.key));
    assert!(!directory.path_of(&one.name).exists() && directory.path_of(&two.name).exists());
    assert_eq!(directory.manifest(), Ok(two));
    fs::remove_dir_all(place.path()).unwrap();
    assert_eq!(directory.manifest(), Err(WhyNot::None));
    let three = directory.begin().unwrap();
    assert_eq!(directory.manifest(), Ok(three), "also where somebody has removed it all");
    assert!(matches!(KeptDirectory::open(place.path()), Err(DirectoryError::InUse { .. })), "it is locked again");
}

#[test]
fn a_directory_that_was_removed_and_is_another_s_now_is_left_to_it() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("index");
    let first = KeptDirectory::open(&path).unwrap();
    let of_first = first.begin().unwrap();
    fs::remove_dir_all(&path).unwrap();
    let second = KeptDirectory::open(&path).unwrap();
    let manifest = second.begin().unwrap();
    assert!(!first.is_held() && second.is_held());
    assert_eq!(first.manifest(), Err(WhyNot::NotHeld));
    assert!(matches!(first.begin(), Err(DirectoryError::InUse { .. })));
    first.remove_all_but(&of_first.name);
    assert_eq!(second.manifest(), Ok(manifest.clone()));
    assert!(second.path_of(&manifest.name).exists());
    // It is nobody's once that one has ended.
    drop(second);
    let anew = first.begin().unwrap();
    assert_eq!(first.manifest(), Ok(anew));
}

#[test]
fn a_manifest_that_is_not_ours_is_not_believed() {
    let place = tempfile::tempdir().unwrap();
    let directory = KeptDirectory::open(place.path()).unwrap();
    let manifest = directory.begin().unwrap();
    let path = place.path().join(MANIFEST);
    let write = |text: &str| fs::write(&path, text).unwrap();
    let whole = serde_json::to_string(&manifest).unwrap();
    for cut in 0..whole.len() {
        write(&whole[..cut]);
        assert_eq!(directory.manifest(), Err(WhyNot::NoManifest), "{cut}");
    }
    write(&serde_json::to_string(&Manifest { format: FORMAT + 1, ..manifest.clone() }).unwrap());
    assert_eq!(directory.manifest(), Err(WhyNot::OtherFormat));
    write(r#"{"format": 7, "name": ["of the", "future"]}"#);
    assert_eq!(directory.manifest(), Err(WhyNot::OtherFormat));
    write(&serde_json::to_string(&Manifest { analysis: "0.0.1 00".to_owned(), ..manifest.clone() }).unwrap());
    assert_eq!(directory.manifest(), Err(WhyNot::OtherFormat));
    write(&serde_json::to_string(&Manifest { name: "../../etc".to_owned(), ..manifest.clone() }).unwrap());
    assert_eq!(directory.manifest(), Err(WhyNot::NoManifest));
    write(&whole);
    assert_eq!(directory.manifest(), Ok(manifest));
}

#[test]
fn a_stamp_is_believed_of_its_own_index_and_store() {
    let stamp = Stamp { name: "one".to_owned(), position: u64::MAX - 7, data: 3, repeated: 1, tokens: 99 };
    let payload = stamp.encode();
    assert_eq!(Stamp::decode(Some(&payload), "one").as_ref(), Ok(&stamp));
    assert_eq!(Stamp::decode(None, "one"), Err(WhyNot::NotFull));
    assert!(matches!(Stamp::decode(Some(&payload), "another"), Err(WhyNot::Damaged(_))));
    for at in 0..payload.len() {
        let mut damaged = payload.clone().into_bytes();
        damaged[at] ^= 1;
        let damaged = String::from_utf8(damaged).unwrap();
        assert!(matches!(Stamp::decode(Some(&damaged), "one"), Err(WhyNot::Damaged(_))), "{damaged}");
    }
    assert_eq!(stamp.check(None), Err(WhyNot::OtherStore));
    assert_eq!(stamp.check(Some(Position(u64::MAX - 8))), Err(WhyNot::OlderStore));
    assert_eq!(stamp.check(Some(Position(u64::MAX - 7))), Ok(()));
    assert_eq!(stamp.check(Some(Position(u64::MAX))), Ok(()));
}

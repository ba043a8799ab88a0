//! An index that is kept over restarts: its directory, what makes it usable again, and why it may not be.
//!
//! | in the directory | |
//! | --- | --- |
//! | `multivac-index.lock` | which process uses the directory: its number; locked as long as that, as the directory itself is |
//! | `multivac-index.json` | the [`Manifest`]: which index is the present one, of what format, with which key |
//! | `index-NAME` | the files of that index; any other of such a name is left of one before, and removed |
//!
//! What is in a commit of the index goes with it, as its [`Stamp`]: both are there or neither is, whenever the process is
//! killed. A commit without a stamp is one of an index that was not full yet. Tantivy forces its
//! files to the disk; where a disk does not keep what it was given, the checksums tell.
//!
//! Before a stamp is committed, the store is told of its position ([`Store::mark_index`](crate::store::Store::mark_index)), so
//! that a store that does not know of it is another, or an older state.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tantivy::TantivyError;
use tantivy::directory::error::{LockError, OpenDirectoryError, OpenReadError};
use tracing::warn;
use uuid::Uuid;

use super::{Outline, term, words};
use crate::runtime::files::lock_holder;
use crate::runtime::for_owner;
use crate::store::Position;

const LOCK: &str = "multivac-index.lock";
const MANIFEST: &str = "multivac-index.json";
const DRAFT: &str = "multivac-index.json-new";
const INDEX_PREFIX: &str = "index-";

/// What a volume may have in it before anybody writes to it.
const OF_THE_SYSTEM: [&str; 1] = ["lost+found"];

/// Goes up whenever the files of an index, its manifest or its stamp change their meaning.
const FORMAT: u32 = 1;

/// Why a directory cannot be used for an index. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It is not there and cannot be made, or cannot be written.
    #[error("the index directory {path} cannot be made or written; check its owner and permissions: {source}")]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process uses it, also one that is suspended.
    #[error(
        "the index directory {path} is in use by {holder}; stop that one, or give this one a directory of its own: \
         replicas cannot share one"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Which process, where the lock file names it: "process 17".
        holder: String,
    },
    /// Something else is in it.
    #[error(
        "the index directory {path} holds {other}, which is not MultiVAC's; expected an empty directory or a new one"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What is in it.
        other: String,
    },
}

/// Why an index that is there is not used. It is begun anew then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WhyNot {
    #[error("there is none yet")]
    None,
    #[error("its manifest cannot be read")]
    NoManifest,
    #[error("it was written by another version of MultiVAC")]
    OtherFormat,
    #[error("its directory was removed, and what is there now may be another's")]
    NotHeld,
    #[error("it was not full yet when its process ended")]
    NotFull,
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It may be whole: nothing is begun in its place.
    #[error("the system did not let it be read: {0}")]
    Unreadable(String),
    #[error("it was made from other data: the store does not know it, or what was in the store has been dropped since")]
    OtherStore,
    #[error("the store is in an older state than the index, such as that of a backup")]
    OlderStore,
    /// It may be used: nothing is begun then.
    #[error("the process was stopped before all of it was read")]
    Stopped,
}

impl WhyNot {
    /// Whether the files are damaged, or the machine is not well: it has no open files or memory left, does not give access, or its
    /// disk fails.
    pub(super) fn of(error: &TantivyError) -> Self {
        let of_the_system = match error {
            TantivyError::IoError(error)
            | TantivyError::OpenDirectoryError(OpenDirectoryError::IoError { io_error: error, .. })
            | TantivyError::OpenReadError(OpenReadError::IoError { io_error: error, .. })
            | TantivyError::LockFailure(LockError::IoError(error), _) => is_of_the_system(error),
            _ => false,
        };
        if of_the_system { Self::Unreadable(error.to_string()) } else { Self::Damaged(error.to_string()) }
    }
}

/// Whether an error is one of the system that says nothing of what is in a file. What is not there, or is something else than a file, is
/// damage; so is what cannot be made sense of, of which no system speaks.
fn is_of_the_system(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    error.raw_os_error().is_some() && !matches!(error.kind(), NotFound | NotADirectory | IsADirectory)
}

/// What is to be known of an index before it is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    /// See [`analysis`].
    analysis: String,
    /// New for each index that is begun.
    pub(super) name: String,
    /// The secret key of the hashes by which passages are told apart.
    pub(super) key: [u64; 2],
}

impl Manifest {
    /// Of a new index.
    pub(super) fn new() -> Self {
        let name = Uuid::new_v4().to_string();
        let [(high, low), (other_high, other_low)] = [(); 2].map(|()| Uuid::new_v4().as_u64_pair());
        // Six bits of a UUID are always the same, and lie elsewhere in the other one.
        let key = [high ^ other_low.rotate_left(32), low ^ other_high.rotate_left(32)];
        Self { format: FORMAT, analysis: analysis(), name, key }
    }
}

/// What a commit holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// The index's name, so that no other's files are taken for its own.
    pub(super) name: String,
    /// All changes of the store up to here are in the commit.
    pub(super) position: u64,
    /// What the commit amounts to: by these, files that fit together by chance are found out as well.
    pub(super) data: u64,
    pub(super) repeated: u64,
    pub(super) tokens: u64,
}

impl Stamp {
    pub(super) fn position(&self) -> Position {
        Position(self.position)
    }

    /// With a digest, since tantivy keeps none of its list of segments, in which this lies.
    pub(super) fn encode(&self) -> String {
        let stamp = serde_json::to_string(self).expect("numbers and a text");
        format!("{} {stamp}", digest(stamp.as_bytes()))
    }

    /// Out of a commit of the index of this name.
    pub(super) fn decode(payload: Option<&str>, name: &str) -> Result<Self, WhyNot> {
        let unreadable = || WhyNot::Damaged("its last commit cannot be read".to_owned());
        let (found, stamp) = payload.ok_or(WhyNot::NotFull)?.split_once(' ').ok_or_else(unreadable)?;
        if found != digest(stamp.as_bytes()) {
            return Err(unreadable());
        }
        let stamp: Self = serde_json::from_str(stamp).map_err(|_| unreadable())?;
        if stamp.name == name { Ok(stamp) } else { Err(WhyNot::Damaged("it has the files of another".to_owned())) }
    }

    /// Whether the store that marked this position last is the one that the commit was made from, as it was then or later.
    pub(super) fn check(&self, marked: Option<Position>) -> Result<(), WhyNot> {
        match marked {
            None => Err(WhyNot::OtherStore),
            Some(marked) if marked < self.position() => Err(WhyNot::OlderStore),
            Some(_) => Ok(()),
        }
    }
}

/// What decides which words, terms and sentences a text has: the version, and for those between two versions what it makes of
/// a sample.
fn analysis() -> String {
    let sample = include_str!("sample.txt");
    let mut made = Vec::new();
    for line in sample.lines() {
        made.extend(Outline::of(line).encode());
        words(line).for_each(|(_, word)| made.extend([term(word).as_bytes(), &[0]].concat()));
    }
    format!("{} {}", env!("CARGO_PKG_VERSION"), digest(&made))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A directory that is given, locked until it is dropped.
///
/// It is locked itself, so it stays ours whichever of its files somebody removes. Whoever removes it all, or moves it away, leaves the
/// path to whoever comes next. So that is looked at again before anything is made, read or removed there.
pub(super) struct KeptDirectory {
    path: PathBuf,
    lock: Mutex<Lock>,
    is_left: AtomicBool,
}

/// What is locked.
struct Lock {
    /// `None` where directories cannot be locked: on Windows, and on NFS, which locks what is open for writing alone.
    directory: Option<File>,
    /// The lock file, which is all there is then.
    file: File,
}

impl KeptDirectory {
    /// Locks a directory, which is made if it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, DirectoryError> {
        Ok(Self { path: path.to_owned(), lock: Mutex::new(Self::lock(path)?), is_left: AtomicBool::new(false) })
    }

    fn lock(path: &Path) -> Result<Lock, DirectoryError> {
        let not_writable = |source| DirectoryError::NotWritable { path: path.to_owned(), source };
        for_owner::directory().create(path).map_err(not_writable)?;
        // Before anything is made in it: what is another's stays as it is.
        if let Some(other) = foreign(path).map_err(not_writable)? {
            return Err(DirectoryError::Foreign { path: path.to_owned(), other });
        }
        let lock_path = path.join(LOCK);
        let in_use = || {
            let holder = File::open(&lock_path).map_or_else(|_| "another process".to_owned(), lock_holder);
            DirectoryError::InUse { path: path.to_owned(), holder }
        };
        let directory = match File::open(path) {
            Ok(directory) => match directory.try_lock() {
                Ok(()) => Some(directory),
                Err(TryLockError::WouldBlock) => return Err(in_use()),
                Err(TryLockError::Error(_)) => None,
            },
            Err(_) if cfg!(not(unix)) => None,
            Err(source) => return Err(not_writable(source)),
        };
        let file = for_owner::file().create(true).truncate(false).read(true).write(true).open(&lock_path);
        let file = file.map_err(not_writable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use()),
            Err(TryLockError::Error(source)) => return Err(not_writable(source)),
        }
        let mut lock = Lock { directory, file };
        if !lock.is_of(path) {
            return Err(not_writable(io::Error::other("it was removed a moment ago")));
        }
        lock.file.set_len(0).and_then(|()| write!(lock.file, "{}", std::process::id())).map_err(not_writable)?;
        // Whether files can be made in it too.
        File::create(path.join(DRAFT)).and_then(|_| fs::remove_file(path.join(DRAFT))).map_err(not_writable)?;
        Ok(lock)
    }

    /// Whether nobody else can have locked it.
    pub(super) fn is_held(&self) -> bool {
        self.held().is_of(&self.path)
    }

    /// Leaves all that is in it as it is from now on.
    pub(super) fn leave(&self) {
        self.is_left.store(true, Ordering::Relaxed);
    }

    /// Whether it was [left](Self::leave).
    pub(super) fn is_left(&self) -> bool {
        self.is_left.load(Ordering::Relaxed)
    }

    fn held(&self) -> MutexGuard<'_, Lock> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the files of an index lie.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(format!("{INDEX_PREFIX}{name}"))
    }

    /// Which index is there.
    pub(super) fn manifest(&self) -> Result<Manifest, WhyNot> {
        let text = match fs::read(self.path.join(MANIFEST)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(WhyNot::None),
            Err(error) if is_of_the_system(&error) => return Err(WhyNot::Unreadable(error.to_string())),
            Err(_) => return Err(WhyNot::NoManifest),
        };
        if !self.is_held() {
            return Err(WhyNot::NotHeld);
        }
        // Of another format this may be all that can be read.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(&text).map_err(|_| WhyNot::NoManifest)?;
        if format != FORMAT {
            return Err(WhyNot::OtherFormat);
        }
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|_| WhyNot::NoManifest)?;
        // The name becomes that of a directory.
        if Uuid::parse_str(&manifest.name).is_err() {
            return Err(WhyNot::NoManifest);
        }
        if manifest.analysis == analysis() { Ok(manifest) } else { Err(WhyNot::OtherFormat) }
    }

    /// Begins another index in the place of the one that is there, whose files are removed: a process that has opened them
    /// can go on reading them.
    ///
    /// # Errors
    /// Also when somebody has removed it, and another process uses the one that is there now.
    pub(super) fn begin(&self) -> Result<Manifest, DirectoryError> {
        if !self.is_held() {
            let lock = Self::lock(&self.path)?;
            *self.held() = lock;
        }
        self.make_new().map_err(|source| DirectoryError::NotWritable { path: self.path.clone(), source })
    }

    fn make_new(&self) -> io::Result<Manifest> {
        let manifest = Manifest::new();
        for_owner::directory().create(self.path_of(&manifest.name))?;
        let draft = self.path.join(DRAFT);
        let mut file = for_owner::file().write(true).create(true).truncate(true).open(&draft)?;
        file.write_all(&serde_json::to_vec(&manifest)?)?;
        fs::rename(&draft, self.path.join(MANIFEST))?;
        self.remove_all_but(&manifest.name);
        Ok(manifest)
    }

    /// Removes what was left of other indexes. What cannot be removed now, since a merge of its segments is still under way say, is
    /// at the next start.
    pub(super) fn remove_all_but(&self, name: &str) {
        if !self.is_held() {
            return;
        }
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            if path != self.path_of(name)
                && is_an_index(&path)
                && let Err(error) = fs::remove_dir_all(&path)
            {
                warn!(path = %path.display(), %error, "an index that is not used any more cannot be removed");
            }
        }
    }
}

impl Lock {
    /// Whether it is the lock of what is there now.
    fn is_of(&self, path: &Path) -> bool {
        match &self.directory {
            Some(directory) => leads_to(path, directory),
            None => leads_to(&path.join(LOCK), &self.file),
        }
    }
}

/// Whether a path is still the one of an open file. Where the system does not say, it is: it was, and a passing fault is no reason
/// to load all again.
#[cfg(unix)]
fn leads_to(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    let which = |there: fs::Metadata| (there.dev(), there.ino());
    match (fs::metadata(path), file.metadata()) {
        (Ok(there), Ok(ours)) => which(there) == which(ours),
        (Err(error), _) => error.kind() != io::ErrorKind::NotFound,
        (Ok(_), Err(_)) => true,
    }
}

/// Elsewhere a file that is open is not removed.
#[cfg(not(unix))]
fn leads_to(_: &Path, _: &File) -> bool {
    true
}

/// Whether the path is the one of an index's files.
fn is_an_index(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_named = name.strip_prefix(INDEX_PREFIX).is_some_and(|name| Uuid::parse_str(name).is_ok());
    is_named && fs::symlink_metadata(path).is_ok_and(|there| there.is_dir())
}

/// What is in a directory and not ours.
fn foreign(path: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = [LOCK, MANIFEST, DRAFT].contains(&name.as_str()) || is_an_index(&entry.path());
        if !is_ours && !OF_THE_SYSTEM.contains(&name.as_str()) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

#[cfg(all(test, unix))]
#[path = "kept_tests.rs"]
mod tests;

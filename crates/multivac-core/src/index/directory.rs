//! The index's directory: made anew in the directory for temporary files, for its owner alone, and removed with the index; or in
//! one that is given, see [`kept`](super::kept).
//!
//! A process that is killed leaves its directory behind. So each is locked for as long as it is used, and whoever makes one
//! removes those of the same user that nobody has locked. The lock is one of flock(2) on the directory itself: the system
//! ends it with the process, however that ends, and systemd-tmpfiles leaves directories alone that are locked so.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tracing::{error, info, warn};

use super::kept::{DirectoryError, KeptDirectory, Manifest};

const PREFIX: &str = "multivac-index-";

/// A file that is in each of our directories from the moment on when it is locked. Without it, a directory may be another's,
/// or so new that its maker has not locked it yet.
const MARK: &str = "multivac-index";

/// Where the files of an index lie. A temporary one is removed when it is dropped, and unlocked after that.
pub(super) struct IndexDirectory {
    path: PathBuf,
    temporary: Option<(TempDir, Option<File>)>,
}

/// Where directories for indexes are made.
pub(super) enum Place {
    /// In the directory for temporary files.
    Temporary,
    /// In one that is given and kept.
    Kept(KeptDirectory),
}

impl Place {
    /// A new directory for an index, and the manifest that belongs to it. A temporary one also where the one that is given is left as
    /// it is, or has become another's: two replicas never share one.
    pub(super) fn begin(&self) -> io::Result<(IndexDirectory, Manifest)> {
        let Some(kept) = self.kept().filter(|kept| !kept.is_left()) else {
            return Ok((IndexDirectory::create()?, Manifest::new()));
        };
        match kept.begin() {
            Ok(manifest) => Ok((IndexDirectory::kept(kept.path_of(&manifest.name)), manifest)),
            Err(DirectoryError::NotWritable { source, .. }) => Err(source),
            Err(error @ (DirectoryError::InUse { .. } | DirectoryError::Foreign { .. })) => {
                error!(%error, "the index directory was removed and is another's now; the index goes on in a temporary one, and is not kept");
                Ok((IndexDirectory::create()?, Manifest::new()))
            }
        }
    }

    pub(super) fn kept(&self) -> Option<&KeptDirectory> {
        match self {
            Self::Temporary => None,
            Self::Kept(kept) => Some(kept),
        }
    }
}

impl IndexDirectory {
    /// Makes one, locked.
    pub(super) fn create() -> io::Result<Self> {
        let place = std::env::temp_dir();
        // It may have been cleaned away as well.
        fs::create_dir_all(&place)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let directory = builder.tempdir_in(place)?;
        // Where directories cannot be locked (Windows), there is no mark, so none is ever removed by another.
        let lock = lock(directory.path())?;
        if lock.is_some() {
            File::create_new(directory.path().join(MARK))?;
        }
        Ok(Self { path: directory.path().to_owned(), temporary: Some((directory, lock)) })
    }

    /// One that is in a directory that is kept.
    pub(super) fn kept(path: PathBuf) -> Self {
        Self { path, temporary: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_kept(&self) -> bool {
        self.temporary.is_none()
    }

    /// Removes the directories beside this one that processes of the same user have left behind.
    pub(super) fn remove_left_over(&self) {
        for path in self.left_over() {
            match fs::remove_dir_all(&path) {
                Ok(()) => info!(path = %path.display(), "removed an index that a killed process had left behind"),
                Err(error) => {
                    warn!(path = %path.display(), %error, "an index that a killed process has left cannot be removed")
                }
            }
        }
    }

    /// Which those are.
    pub(super) fn left_over(&self) -> Vec<PathBuf> {
        let entries = self.path().parent().and_then(|place| fs::read_dir(place).ok());
        let named = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
        named.map(|entry| entry.path()).filter(|path| self.is_left_over(path).unwrap_or(false)).collect()
    }

    /// Whether that is a directory (not a link to one) of the same user, with the mark, and locked by nobody. Once it is
    /// unlocked nobody locks it again, since each process makes its own.
    fn is_left_over(&self, path: &Path) -> io::Result<bool> {
        let there = fs::symlink_metadata(path)?;
        let has_mark = || fs::symlink_metadata(path.join(MARK)).is_ok_and(|mark| mark.is_file());
        Ok(there.is_dir() && owner(&there) == owner(&fs::metadata(self.path())?) && has_mark() && lock(path)?.is_some())
    }
}

/// Locks a directory; `None` where that is not possible, also since another has locked it.
fn lock(directory: &Path) -> io::Result<Option<File>> {
    match File::open(directory) {
        Ok(file) => Ok(file.try_lock().is_ok().then_some(file)),
        Err(_) if cfg!(not(unix)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn owner(metadata: &fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::uid(metadata)
}

#[cfg(not(unix))]
fn owner(_: &fs::Metadata) -> u32 {
    0
}

#[cfg(all(test, unix))]
#[path = "directory_tests.rs"]
mod tests;

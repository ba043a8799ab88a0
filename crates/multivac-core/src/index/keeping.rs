//! How an index is found again after a restart, and what is committed so that it can be.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tantivy::{IndexWriter, Opstamp};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::directory::Place;
use super::files::Files;
use super::kept::{DirectoryError, KeptDirectory, Stamp, WhyNot};
use super::{Index, IndexError};
use crate::store::{Position, StoreError};

/// Tells the store what is about to be committed; see [`Store::mark_index`](crate::store::Store::mark_index). Blocks.
pub(super) type Marker = Box<dyn Fn(&str, Position) -> Result<(), StoreError> + Send + Sync>;

/// How old the last stamp gets while the position moves on and nothing else changes. The store does not remember its changes for
/// ever.
const STAMP_AGE: Duration = Duration::from_secs(60);

/// What lay in the directory at the start.
#[derive(Debug, Default)]
pub(super) enum Found {
    /// It was not looked at yet.
    Unread,
    /// An index that is whole; nothing of it is visible yet.
    Whole(Stamp),
    /// Nothing that can be used; or nothing any more, since it was taken over or replaced.
    #[default]
    Nothing,
}

/// What the system said when an index that may be whole was to be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreadable(String);

/// Why an index cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// It cannot be made.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl Index {
    /// The index in a directory, in which it is kept. Only the directory is looked at here, and locked: whether there is an index
    /// that can be used takes reading all of it, which is left to a [follower](super::follow).
    ///
    /// # Errors
    /// When the directory cannot be used, also since another process uses it.
    pub fn kept_in(path: &Path) -> Result<Self, OpenError> {
        let directory = KeptDirectory::open(path)?;
        let (files, fields) = Files::stand_in(&directory)?;
        Ok(Self { found: Mutex::new(Found::Unread), ..Self::of(Place::Kept(directory), files, fields) })
    }

    /// Opens the index that lies in the directory, unless that was done already. Nothing of it is visible before it was compared with
    /// the store. Blocks for as long as reading all its files takes; stopped, it ends after the file that it is at, and all is as
    /// it was.
    ///
    /// # Errors
    /// What is wrong with the machine, so that it cannot be read at present; all is as it was.
    pub(super) fn open_found(&self, stop: &CancellationToken) -> Result<(), Unreadable> {
        // First, so that whoever comes meanwhile waits.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(directory) = self.place.kept().filter(|_| self.is_unread()) else { return Ok(()) };
        let (began, path) = (Instant::now(), directory.path().display());
        match Files::open(directory, stop) {
            Ok((files, stamp)) => {
                let duration_ms = began.elapsed().as_millis() as u64;
                info!(%path, data = stamp.data, duration_ms, "opened the index that was kept");
                // What a process left that was killed while it began another.
                directory.remove_all_but(&files.name);
                *writer = None;
                *self.files() = files;
                self.now_found(Found::Whole(stamp));
            }
            Err(WhyNot::Stopped) => {}
            Err(WhyNot::Unreadable(error)) => return Err(Unreadable(error)),
            Err(why_not) => {
                refused(directory.path(), &why_not);
                self.forget_found();
            }
        }
        Ok(())
    }

    /// Leaves what lies in the directory to a later start, and begins a temporary index.
    pub(super) fn leave_found(&self) -> Result<(), IndexError> {
        self.begin_in(&Place::Temporary)?;
        if let Some(directory) = self.place.kept() {
            directory.leave();
        }
        Ok(())
    }

    /// Whether what lies in the directory was not looked at yet.
    pub(super) fn is_unread(&self) -> bool {
        matches!(*self.found.lock().unwrap_or_else(PoisonError::into_inner), Found::Unread)
    }

    /// The stamp of the index that was found, as long as nothing of it is visible.
    pub(super) fn found(&self) -> Option<Stamp> {
        match &*self.found.lock().unwrap_or_else(PoisonError::into_inner) {
            Found::Whole(stamp) => Some(stamp.clone()),
            Found::Unread | Found::Nothing => None,
        }
    }

    /// Nothing is to be looked at any more that was found.
    pub(super) fn forget_found(&self) {
        self.now_found(Found::Nothing);
    }

    fn now_found(&self, found: Found) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// Begins another index in the place of the one that was found.
    pub(super) fn refuse_found(&self, why_not: &WhyNot) -> Result<(), IndexError> {
        if let Some(directory) = self.place.kept() {
            refused(directory.path(), why_not);
        }
        self.begin_anew()
    }

    /// Whether it is kept over restarts. Not any more where its directory has become another's.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.files().directory.is_kept()
    }

    /// Has the store told by this before anything is committed that is to be found again.
    pub(super) fn mark_by(&self, marker: Marker) {
        let _ = self.marker.set(marker);
    }

    /// Has the store note how far the index is about to be committed; whether it is to be committed with a stamp. The files must not
    /// be locked: it takes the runtime to call the store, and a thread of that may wait for them.
    pub(super) fn note(&self, position: Option<Position>) -> bool {
        let (Some(position), true, Some(mark)) = (position, self.is_kept(), self.marker.get()) else { return false };
        let name = self.files().name.clone();
        let noted = mark(&name, position);
        if let Err(StoreError::PositionLost) = noted {
            self.is_ahead.store(true, Ordering::Relaxed);
            return false;
        }
        let failed_before = self.failed_to_note.swap(noted.is_err(), Ordering::Relaxed);
        if let (Err(error), false) = (&noted, failed_before) {
            warn!(%error, "the store cannot note how far the index has come; it would not be found again after a restart");
        }
        noted.is_ok()
    }

    /// Whether the store was found to know nothing of how far the index had come: it is in an older state, and the index holds what
    /// the store has lost.
    pub(super) fn is_ahead(&self) -> bool {
        self.is_ahead.load(Ordering::Relaxed)
    }

    /// Whether the last stamp is so old that another is due, though nothing is to be moved.
    pub(super) fn stamp_is_due(&self) -> bool {
        let files = self.files();
        let is_old = files
            .stamped
            .is_none_or(|(at, position)| at.elapsed() >= STAMP_AGE && files.position.is_some_and(|now| now > position));
        files.directory.is_kept() && files.filling.is_none() && files.position.is_some() && is_old
    }

    /// Commits nothing but a stamp, unless something is in memory, which will come with one. Blocks.
    pub(super) fn stamp(&self) -> Result<(), IndexError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (index, stamp) = {
            let files = self.files();
            if files.oldest.is_some() || files.is_moving() {
                return Ok(());
            }
            (files.index.clone(), self.stamp_of(&files))
        };
        // What changes from here on is in memory, as long as the writer is locked.
        let position = stamp.as_ref().map(Stamp::position);
        if !self.note(position) {
            return Ok(());
        }
        let at = self.commit(&mut writer, &index, [].iter(), [].into_iter(), stamp)?;
        let mut files = self.files();
        files.committed(at);
        files.is_seen();
        files.stamped = position.map(|position| (Instant::now(), position));
        Ok(())
    }

    /// The stamp of a commit that holds all that the files do.
    pub(super) fn stamp_of(&self, files: &Files) -> Option<Stamp> {
        let data = self.in_files(files, super::PackedSet::len);
        files.stamp_at(files.position, data, (files.owners.repeated(), files.owners.tokens()))
    }
}

/// Commits, with a stamp if there is one.
pub(super) fn commit_with(writer: &mut IndexWriter, stamp: Option<Stamp>) -> tantivy::Result<Opstamp> {
    let mut prepared = writer.prepare_commit()?;
    if let Some(stamp) = stamp {
        prepared.set_payload(&stamp.encode());
    }
    prepared.commit()
}

/// Says why an index that was kept is not used.
fn refused(path: &Path, why_not: &WhyNot) {
    let path = path.display();
    match why_not {
        WhyNot::None => info!(%path, "the index is kept in this directory from now on"),
        _ => warn!(%path, reason = %why_not, "the index that was kept cannot be used; loading all again"),
    }
}

#[cfg(test)]
#[path = "keeping_tests.rs"]
mod tests;

//! How an index is found again after a restart, and what is committed so that it can be.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tantivy::{IndexWriter, Opstamp};
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
    /// The index in a directory, in which it is kept: the one that is there if it is whole, and an empty one otherwise. Nothing
    /// of it is visible before a [follower](super::follow) has compared it with the store. Blocks for as long as reading
    /// all its files takes.
    ///
    /// # Errors
    /// When the directory cannot be used, also since another process uses it.
    pub fn kept_in(path: &Path) -> Result<Self, OpenError> {
        let directory = KeptDirectory::open(path)?;
        let began = Instant::now();
        let found = Files::open(&directory);
        let place = Place::Kept(directory);
        match found {
            Ok((files, stamp)) => {
                let duration_ms = began.elapsed().as_millis() as u64;
                info!(path = %path.display(), data = stamp.data, duration_ms, "opened the index that was kept");
                // What a process left that was killed while it began another.
                if let Some(directory) = place.kept() {
                    directory.remove_all_but(&files.name);
                }
                let fields = files.fields;
                Ok(Self { found: Mutex::new(Some(stamp)), ..Self::of(place, files, fields) })
            }
            Err(why_not) => {
                refused(path, &why_not);
                let (files, fields) = Files::create(&place, Some(super::PackedSet::default()))?;
                Ok(Self::of(place, files, fields))
            }
        }
    }

    /// The stamp of the index that was found, as long as nothing of it is visible.
    pub(super) fn found(&self) -> Option<Stamp> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nothing is to be looked at any more that was found.
    pub(super) fn forget_found(&self) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Begins another index in the place of the one that was found.
    pub(super) fn refuse_found(&self, why_not: &WhyNot) -> Result<(), IndexError> {
        if let Some(directory) = self.place.kept() {
            refused(directory.path(), why_not);
        }
        self.begin_anew()
    }

    /// Whether it is kept over restarts.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.place.kept().is_some()
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
        let failed_before = self.failed_to_note.swap(noted.is_err(), Ordering::Relaxed);
        if let Err(error) = &noted
            && !failed_before
        {
            warn!(%error, "the store cannot note how far the index has come; it would not be found again after a restart");
        }
        noted.is_ok()
    }

    /// Whether the last stamp is so old that another is due, though nothing is to be moved.
    pub(super) fn stamp_is_due(&self) -> bool {
        let files = self.files();
        let is_old = files
            .stamped
            .is_none_or(|(at, position)| at.elapsed() >= STAMP_AGE && files.position.is_some_and(|now| now > position));
        self.is_kept() && files.filling.is_none() && files.position.is_some() && is_old
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

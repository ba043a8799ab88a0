//! What becomes of an index whose files somebody removes, and how one is begun anew and shown.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::directory::Place;
use super::files::Files;
use super::packed::PackedSet;
use super::{Index, IndexError, Lost};

/// How often it is checked whether the index's files are still there.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(2);

impl Index {
    /// Whether nothing of its files is visible yet.
    pub(super) fn is_filling(&self) -> bool {
        self.files().filling.is_some()
    }

    /// Whether nothing is in it that would have to be removed before it is loaded, but for what is visible of one before.
    pub(super) fn is_blank(&self) -> bool {
        self.is_empty() && self.files().hold_nothing()
    }

    /// Checks the files, unless that was done a moment ago: whether any was removed, and whether segments were merged since
    /// the last commit. Of those the snapshot lets go then, or they would keep their room on the disk until the next commit.
    pub(super) fn check(&self) -> Result<(), Lost> {
        let mut files = self.files();
        if files.checked.elapsed() < CHECK_INTERVAL {
            return Ok(());
        }
        files.checked = Instant::now();
        if self.are_lost(&files) {
            return Err(Lost);
        }
        // The next commit fails too, if this does.
        if files.filling.is_none() && !files.is_moving() && files.were_merged() && files.reload().is_ok() {
            let visible = self.visible.read().unwrap_or_else(PoisonError::into_inner);
            self.publish(&files, visible.len(), 0);
        }
        Ok(())
    }

    /// Whether files of the index are missing in its directory, so that nothing can be committed to it any more, or another may have the
    /// directory.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.are_lost(&self.files())
    }

    fn are_lost(&self, files: &Files) -> bool {
        let is_another_s = || files.directory.is_kept() && self.place.kept().is_some_and(|kept| !kept.is_held());
        files.are_lost() || is_another_s()
    }

    /// Begins an empty index in a new directory. What was visible stays so until that one is full. Blocks.
    ///
    /// # Errors
    /// When the directory cannot be made or written to; nothing has changed then.
    pub fn begin_anew(&self) -> Result<(), IndexError> {
        self.begin_in(&self.place)
    }

    pub(super) fn begin_in(&self, place: &Place) -> Result<(), IndexError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = self.files();
        (*files, _) = Files::create(place, Some(PackedSet::default()))?;
        *writer = None;
        self.is_ahead.store(false, Ordering::Relaxed);
        self.forget_found();
        Ok(())
    }

    /// Shows an index that was begun anew, now that all is in it.
    pub(super) fn finish(&self) {
        let mut files = self.files();
        let Some(filled) = files.filling.take() else { return };
        let mut visible = self.visible.write().unwrap_or_else(PoisonError::into_inner);
        // Of all that differs it is not known what came and what went.
        self.recent().forget(self.snapshot.load().generation + 1);
        self.publish(&files, filled.len(), 1);
        *visible = filled;
        self.forget_found();
    }
}

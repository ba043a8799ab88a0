//! Link 5: passages found by their words. The index is derived from the store and disposable: it lies in a temporary
//! directory and is filled anew at every start, which [`follow`] does, or in one in which it is [kept](Index::kept_in) over restarts.
//!
//! There is one writer and any number of readers: [`Index::apply`] makes changes visible all at once, and every
//! [`Snapshot`] stays as it was when it was taken.
//!
//! What comes in small batches is searched from memory at once (`fresh`), and [moved](Index::move_fresh) into tantivy's
//! segments by hundreds; what is removed from a segment is hidden until the next move. Large batches go into segments at
//! once. A question sees no difference.
//!
//! Somebody may remove the directory, or files in it, as systems do that clean their temporary directories. Questions are
//! still answered then, since the segments are mapped into memory, but nothing can be committed any more: the index
//! [is lost](Index::is_lost), and is [begun anew](Index::begin_anew) in another directory, beside the snapshot that answers.

mod announcer;
mod checksums;
mod directory;
pub mod fence;
mod files;
mod fill;
pub mod follow;
mod fresh;
mod keeping;
mod kept;
mod loading;
mod outline;
mod owners;
mod packed;
mod passage;
mod postings;
mod puller;
mod recent;
mod removals;
mod renewing;
mod schema;
mod search;
mod snapshot;
mod terms;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tantivy::{IndexWriter, Opstamp};
use tokio::sync::watch;

use crate::datum::DatumId;
use crate::runtime::files::{disk_of, size_of};
use crate::store::{Change, Disk, Position, StoredDatum};
use directory::Place;
use files::{Files, Moved};
use fresh::Document;
pub use keeping::OpenError;
use keeping::{Found, Marker};
pub use kept::DirectoryError;
use kept::Stamp;
pub use outline::{Outline, Part, Word};
use owners::{PassageHash, PlannedChanges};
use packed::PackedSet;
pub use passage::Hit;
use passage::Passage;
pub use postings::Indexed;
use recent::Recent;
pub use recent::{Change as RecentChange, Kind};
use schema::Fields;

pub use snapshot::Snapshot;
pub use terms::{lower, respelled, term, words};

/// The index could not be read or written: a full disk, or a fault.
#[derive(Debug, thiserror::Error)]
#[error("the index failed: {0}")]
pub struct IndexError(#[from] tantivy::TantivyError);

impl From<io::Error> for IndexError {
    fn from(error: io::Error) -> Self {
        Self(error.into())
    }
}

/// The indexes that killed processes of this user have left behind. The next one that is made removes them.
///
/// # Errors
/// No index can be made there.
pub fn left_over() -> io::Result<Vec<PathBuf>> {
    Ok(directory::IndexDirectory::create()?.left_over())
}

/// As many changes at once, or as many bytes of text, go into a segment at once: then a commit costs little beside what it holds.
const LARGE_BATCH: usize = 2_000;
const LARGE_SIZE: usize = 4 << 20;

/// What is in memory is moved into a segment when it is as many documents, as many bytes of text, or as old.
const MOVED_DOCUMENTS: usize = 4_000;
const MOVED_SIZE: usize = 8 << 20;
const MOVED_AGE: Duration = Duration::from_secs(2);

/// See the [module](self).
pub struct Index {
    fields: Fields,
    /// Where its files are made.
    place: Place,
    /// How the store is told what is about to be committed, where the index is kept.
    marker: OnceLock<Marker>,
    /// Whether the store could not note it the last time.
    failed_to_note: AtomicBool,
    /// See [`Self::is_ahead`].
    is_ahead: AtomicBool,
    /// What was found there at the start, before it is compared with the store.
    found: Mutex<Found>,
    /// Of whoever commits; taken before the files. `None` after a failure: tantivy's own rollback cannot be repeated when it
    /// fails, a new writer can be made.
    writer: Mutex<Option<IndexWriter>>,
    files: Mutex<Files>,
    snapshot: ArcSwap<Snapshot>,
    /// The data in the snapshot.
    visible: RwLock<PackedSet<DatumId>>,
    /// What came into the snapshot and went out of it.
    recent: Mutex<Recent>,
    /// The snapshot's generation, for those who wait for the next.
    generation: watch::Sender<u64>,
}

/// The last change of each datum in a batch, in the order of their ids, which is that of accepting: the datum, or `None`
/// where it is removed.
type LastChanges<'a> = BTreeMap<DatumId, Option<&'a StoredDatum>>;

fn last_changes(changes: &[Change]) -> LastChanges<'_> {
    let last = changes.iter().map(|change| match change {
        Change::Put(datum) => (datum.id, Some(&**datum)),
        Change::Removed(id) => (*id, None),
    });
    last.collect()
}

/// Enters the last changes of a batch into the data that are known.
fn enter(known: &mut PackedSet<DatumId>, last: &LastChanges<'_>) {
    for (id, put) in last {
        match put {
            Some(_) => known.insert(*id),
            None => known.remove(id),
        };
    }
}

impl Index {
    /// An empty index in a new temporary directory. Removes what processes have left there that were killed.
    ///
    /// # Errors
    /// When the directory cannot be made or written to.
    pub fn new() -> Result<Self, IndexError> {
        let (files, fields) = Files::create(&Place::Temporary, None)?;
        files.directory.remove_left_over();
        Ok(Self::of(Place::Temporary, files, fields))
    }

    /// With these files, of which nothing is visible yet.
    fn of(place: Place, files: Files, fields: Fields) -> Self {
        let snapshot = Snapshot {
            segments: Arc::clone(&files.segments),
            fresh: Vec::new(),
            hidden: Arc::default(),
            tokens: 0,
            generation: 0,
            learned: 0,
            distinct_passages: 0,
            passages: 0,
        };
        Self {
            fields,
            place,
            marker: OnceLock::new(),
            failed_to_note: AtomicBool::new(false),
            is_ahead: AtomicBool::new(false),
            found: Mutex::default(),
            writer: Mutex::default(),
            files: Mutex::new(files),
            snapshot: ArcSwap::from_pointee(snapshot),
            visible: RwLock::default(),
            recent: Mutex::default(),
            generation: watch::Sender::default(),
        }
    }

    /// How many bytes its files take, and the disk that they lie on, as far as the system tells. Blocks.
    #[must_use]
    pub fn room(&self) -> (Option<u64>, Option<Disk>) {
        let path = self.files.lock().unwrap_or_else(PoisonError::into_inner).directory.path().to_owned();
        // Of one that is kept and was not opened yet, that is the directory with all that lies there.
        (size_of(&path).ok(), disk_of(&path).ok())
    }

    /// Makes changes visible, all at once. Applying a change again changes nothing. Blocks.
    ///
    /// # Errors
    /// None of the changes is visible then, and they can be applied again.
    pub fn apply(&self, changes: &[Change]) -> Result<(), IndexError> {
        self.apply_up_to(changes, None)
    }

    /// As [`Self::apply`]. With these changes all are in it up to a position of the store, if that is given.
    ///
    /// # Errors
    /// None of the changes is visible then, and they can be applied again.
    pub fn apply_up_to(&self, changes: &[Change], position: Option<Position>) -> Result<(), IndexError> {
        let last = last_changes(changes);
        let is_large =
            changes.len() >= LARGE_BATCH || changes.iter().map(Change::text_bytes).sum::<usize>() >= LARGE_SIZE;
        if !is_large && self.apply_in_memory(&last, position)? {
            return Ok(());
        }
        self.apply_in_segments(&last, position)
    }

    /// Makes changes visible without a commit; `false` where nothing is to be visible before the files are full.
    fn apply_in_memory(&self, last: &LastChanges<'_>, position: Option<Position>) -> Result<bool, IndexError> {
        let mut files = self.files();
        if last.is_empty() {
            files.position = position;
            return Ok(true);
        }
        if files.filling.is_some() {
            return Ok(false);
        }
        let (mut plan, removed) = self.plan(&files, last)?;
        // Nothing can fail from here on.
        let generation = self.snapshot.load().generation + 1;
        files.hide(&removed, generation);
        files.add(std::mem::take(&mut plan.documents), generation);
        files.owners.apply(&plan);
        files.position = position;
        self.show(&files, last);
        Ok(true)
    }

    /// Makes changes visible with a commit, and moves with them what is in memory.
    fn apply_in_segments(&self, last: &LastChanges<'_>, position: Option<Position>) -> Result<(), IndexError> {
        let is_noted = self.note(position);
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = self.files();
        files.check_not_doubtful()?;
        let (plan, removed) = self.plan(&files, last)?;
        let deleted = files.hidden.iter().chain(removed.keys());
        let fresh: Vec<Document> = files.fresh.iter().flat_map(|fresh| fresh.documents()).collect();
        let fresh = fresh.iter().filter(|document| !removed.contains_key(&document.id)).map(Document::parts);
        let added = fresh.chain(plan.documents.iter().map(|(id, hash, passage)| (*id, *hash, passage.as_ref())));
        let index = files.index.clone();
        let data = self.in_files(&files, PackedSet::len) - removed.len() + last.values().flatten().count();
        let stamped = position.filter(|_| is_noted);
        let stamp = files.stamp_at(stamped, data, files.owners.planned(&plan));
        match self.commit(&mut writer, &index, deleted, added, stamp) {
            Ok(at) => files.committed(at),
            Err(error) => {
                files.failed_to_commit();
                return Err(error);
            }
        }
        files.reload()?;
        files.is_seen();
        files.clear_memory();
        files.owners.apply(&plan);
        files.position = position;
        files.stamped = stamped.map(|position| (Instant::now(), position));
        match &mut files.filling {
            Some(filling) => enter(filling, last),
            None => self.show(&files, last),
        }
        Ok(())
    }

    /// What changes make of the passages, and the data that they remove: whether each is in the segments.
    fn plan(
        &self,
        files: &Files,
        last: &LastChanges<'_>,
    ) -> Result<(PlannedChanges, HashMap<DatumId, bool>), IndexError> {
        let ids: HashSet<DatumId> =
            self.in_files(files, |known| last.keys().filter(|id| known.contains(id)).copied().collect());
        let mut plan = files.owners.plan(&ids);
        let mut removed = HashMap::with_capacity(ids.len());
        for id in &ids {
            let (indexed, in_segments) = files.indexed(*id)?;
            plan.remove(indexed, |passage| files.repeating(passage))?;
            removed.insert(*id, in_segments);
        }
        for datum in last.values().flatten() {
            plan.add(datum.id, &datum.passages);
        }
        Ok((plan.into_changes(), removed))
    }

    /// Commits documents to segments, after all of these data were removed from them.
    fn commit<'a>(
        &self,
        writer: &mut Option<IndexWriter>,
        index: &tantivy::Index,
        deleted: impl Iterator<Item = &'a DatumId>,
        added: impl Iterator<Item = (DatumId, Option<PassageHash>, Option<&'a Passage>)>,
        stamp: Option<Stamp>,
    ) -> Result<Opstamp, IndexError> {
        // Taken out of its slot, so that after a failure, a panic as well, the next call begins with a new writer.
        let mut used = match writer.take() {
            Some(writer) => writer,
            None => files::new_writer(index)?,
        };
        for id in deleted {
            used.delete_term(self.fields.id_term(*id));
        }
        for (id, hash, passage) in added {
            used.add_document(self.fields.document(id, hash, passage))?;
        }
        let at = keeping::commit_with(&mut used, stamp)?;
        *writer = Some(used);
        Ok(at)
    }

    /// Whether enough is in memory, or for long enough, to be [moved](Self::move_fresh).
    #[must_use]
    pub fn move_is_due(&self) -> bool {
        let files = self.files();
        files.is_over(MOVED_DOCUMENTS, MOVED_SIZE) || files.oldest.is_some_and(|oldest| oldest.elapsed() >= MOVED_AGE)
    }

    /// Whether the last move failed.
    fn has_failed_to_move(&self) -> bool {
        self.files().has_failed
    }

    /// Whether so much is in memory that a move has to end before more comes.
    fn is_crowded(&self) -> bool {
        self.files().is_over(4 * MOVED_DOCUMENTS, 4 * MOVED_SIZE)
    }

    /// Moves what is in memory into a segment, while changes go on being applied. Nobody sees a difference. Blocks.
    ///
    /// # Errors
    /// All is as it was, and it can be tried again.
    pub fn move_fresh(&self) -> Result<(), IndexError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.files().check_not_doubtful()?;
        match self.begin_move() {
            Some(moved) => self.finish_move(&mut writer, &moved),
            None => Ok(()),
        }
    }

    /// What is to be moved, if there is anything: nothing is added to it from now on.
    fn begin_move(&self) -> Option<Moved> {
        let mut files = self.files();
        let is_any = files.filling.is_none() && files.oldest.is_some();
        let stamp = self.stamp_of(&files);
        is_any.then(|| files.begin_move(stamp))
    }

    fn finish_move(&self, writer: &mut Option<IndexWriter>, moved: &Moved) -> Result<(), IndexError> {
        let added = moved.documents.iter().map(Document::parts);
        let stamp = moved.stamp.clone().filter(|stamp| self.note(Some(stamp.position())));
        let stamped = stamp.as_ref().map(|stamp| (Instant::now(), stamp.position()));
        let committed = self.commit(writer, &moved.index, moved.removed.iter(), added, stamp);
        let mut files = self.files();
        match committed {
            Ok(at) => files.committed(at),
            Err(error) => {
                files.failed_to_commit();
                files.abandon_move();
                return Err(error);
            }
        }
        files.finish_move()?;
        files.is_seen();
        files.stamped = stamped;
        let visible = self.visible.read().unwrap_or_else(PoisonError::into_inner);
        self.publish(&files, visible.len(), 0);
        Ok(())
    }

    /// Shows readers the files with the changes that were applied to them.
    fn show(&self, files: &Files, last: &LastChanges<'_>) {
        let mut visible = self.visible.write().unwrap_or_else(PoisonError::into_inner);
        let changed = last.iter().filter_map(|(id, put)| match put {
            Some(_) => Some(RecentChange { id: *id, kind: Kind::Learned }),
            None => visible.contains(id).then_some(RecentChange { id: *id, kind: Kind::Retracted }),
        });
        // Before the snapshot: who sees a generation can find out what made it.
        self.recent().note(self.snapshot.load().generation + 1, changed);
        enter(&mut visible, last);
        self.publish(files, visible.len(), 1);
    }

    /// Shows readers the files, which hold so many data, as a generation that is `newer` by so many.
    fn publish(&self, files: &Files, learned: usize, newer: u64) {
        let generation = self.snapshot.load().generation + newer;
        self.snapshot.store(Arc::new(Snapshot {
            segments: Arc::clone(&files.segments),
            fresh: files.fresh.clone(),
            hidden: Arc::clone(&files.hidden),
            generation,
            learned: learned as u64,
            distinct_passages: files.owners.distinct(),
            passages: files.owners.passages(),
            tokens: files.owners.tokens(),
        }));
        self.generation.send_if_modified(|last| std::mem::replace(last, generation) != generation);
    }

    /// What the index holds now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The [generation](Snapshot::generation) of the snapshot, now and later.
    #[must_use]
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// The data that came into the index or left it after the generation `after`, up to `up_to`, oldest first; `None` if
    /// that was too long ago, or too much, to be remembered.
    #[must_use]
    pub fn changes_between(&self, after: u64, up_to: u64) -> Option<Vec<RecentChange>> {
        self.recent().between(after, up_to)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a datum is visible.
    #[must_use]
    pub fn contains(&self, id: DatumId) -> bool {
        self.visible.read().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// Whether no datum is visible.
    fn is_empty(&self) -> bool {
        self.visible.read().unwrap_or_else(PoisonError::into_inner).len() == 0
    }

    /// The data that are in the index and not among `live`.
    fn present_but_not_in(&self, live: &HashSet<DatumId>) -> Vec<DatumId> {
        self.in_files(&self.files(), |known| known.iter().filter(|id| !live.contains(id)).collect())
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the data that the files hold.
    fn in_files<T>(&self, files: &Files, look: impl FnOnce(&PackedSet<DatumId>) -> T) -> T {
        match &files.filling {
            Some(filling) => look(filling),
            None => look(&self.visible.read().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

/// Files of the index were removed.
#[derive(Debug, Clone, Copy)]
struct Lost;

#[cfg(test)]
mod fresh_tests;
#[cfg(test)]
mod search_tests;
#[cfg(test)]
mod tests;

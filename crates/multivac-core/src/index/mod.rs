//! Link 5: passages found by their words. The index is derived from the store and disposable: it lies in a temporary
//! directory and is filled anew at every start, which [`follow`] does.
//!
//! There is one writer and any number of readers: [`Index::apply`] makes changes visible all at once, and every
//! [`Snapshot`] stays as it was when it was taken.
//!
//! Somebody may remove the directory, or files in it, as systems do that clean their temporary directories. Questions are
//! still answered then, since the segments are mapped into memory, but nothing can be committed any more: the index
//! [is lost](Index::is_lost), and is [begun anew](Index::begin_anew) in another directory, beside the snapshot that answers.

mod announcer;
mod directory;
pub mod fence;
mod files;
pub mod follow;
mod outline;
mod owners;
mod puller;
mod recent;
mod removals;
mod schema;
mod search;
mod snapshot;
mod terms;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tantivy::collector::DocSetCollector;
use tantivy::query::{Bm25StatisticsProvider, TermQuery};
use tantivy::schema::{IndexRecordOption, OwnedValue};
use tantivy::{IndexWriter, Searcher, TantivyDocument, Term};
use tokio::sync::watch;

use crate::datum::DatumId;
use crate::runtime::files::disk_of;
use crate::store::{Change, Disk, StoredDatum};
use files::Files;
pub use outline::{Outline, Part, Word};
use owners::PlannedChanges;
use recent::Recent;
pub use recent::{Change as RecentChange, Kind};
use schema::{Fields, Stored};
pub use search::Indexed;
pub use snapshot::{Hit, Snapshot};
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

/// How often it is checked whether the index's files are still there.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// See the [module](self).
pub struct Index {
    fields: Fields,
    files: Mutex<Files>,
    snapshot: ArcSwap<Snapshot>,
    /// The data in the snapshot.
    visible: RwLock<HashSet<DatumId>>,
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
fn enter(known: &mut HashSet<DatumId>, last: LastChanges<'_>) {
    for (id, put) in last {
        match put {
            Some(_) => known.insert(id),
            None => known.remove(&id),
        };
    }
}

impl Index {
    /// An empty index in a new temporary directory. Removes what processes have left there that were killed.
    ///
    /// # Errors
    /// When the directory cannot be made or written to.
    pub fn new() -> Result<Self, IndexError> {
        let (files, fields) = Files::create(None)?;
        files.directory.remove_left_over();
        let snapshot = Snapshot {
            fields,
            searcher: files.reader.searcher(),
            tokens: 0,
            generation: 0,
            learned: 0,
            distinct_passages: 0,
            passages: 0,
        };
        Ok(Self {
            fields,
            files: Mutex::new(files),
            snapshot: ArcSwap::from_pointee(snapshot),
            visible: RwLock::default(),
            recent: Mutex::default(),
            generation: watch::Sender::default(),
        })
    }

    /// How many bytes its files take, and the disk that they lie on, as far as the system tells. Blocks.
    #[must_use]
    pub fn room(&self) -> (Option<u64>, Option<Disk>) {
        let path = self.files.lock().unwrap_or_else(PoisonError::into_inner).directory.path().to_owned();
        let entries = fs::read_dir(&path).ok();
        let size = entries.map(|all| all.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len())).sum());
        (size, disk_of(&path).ok())
    }

    /// Makes changes visible, all at once. Applying a change again changes nothing. Blocks.
    ///
    /// # Errors
    /// None of the changes is visible then, and they can be applied again.
    pub fn apply(&self, changes: &[Change]) -> Result<(), IndexError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut files = self.files();
        let files = &mut *files;
        let last = last_changes(changes);
        let removed = self.in_files(files, |known| last.keys().filter(|id| known.contains(id)).copied().collect());
        // Taken out of its slot, so that after a failure, a panic as well, the next call begins with a new writer.
        let mut writer = match files.writer.take() {
            Some(writer) => writer,
            None => files.new_writer()?,
        };
        let owner_changes = self.write(files, &writer, &removed, &last)?;
        writer.commit()?;
        files.writer = Some(writer);
        files.reader.reload()?;
        files.owners.apply(owner_changes, &removed);
        if let Some(filling) = &mut files.filling {
            enter(filling, last);
            return Ok(());
        }
        // What can fail comes first: which data are visible must not change without the snapshot.
        let tokens = self.tokens(files)?;
        let mut visible = self.visible.write().unwrap_or_else(PoisonError::into_inner);
        let changed = last.iter().filter_map(|(id, put)| match put {
            Some(_) => Some(RecentChange { id: *id, kind: Kind::Learned }),
            None => visible.contains(id).then_some(RecentChange { id: *id, kind: Kind::Retracted }),
        });
        // Before the snapshot: who sees a generation can find out what made it.
        self.recent().note(self.snapshot.load().generation + 1, changed);
        enter(&mut visible, last);
        self.publish(files, tokens, &visible, 1);
        Ok(())
    }

    /// Writes what a batch of changes makes of the documents; nothing of it is visible yet.
    fn write(
        &self,
        files: &Files,
        writer: &IndexWriter,
        removed: &HashSet<DatumId>,
        last: &LastChanges<'_>,
    ) -> Result<PlannedChanges, IndexError> {
        let mut plan = files.owners.plan(removed);
        let now = files.reader.searcher();
        for id in removed {
            let passages = passages_of(&now, self.fields, *id)?;
            writer.delete_term(Term::from_field_text(self.fields.id, &id.to_string()));
            for passage in passages {
                if let Some(successor) = plan.remove(&passage) {
                    self.add(writer, successor, &passage)?;
                }
            }
        }
        for datum in last.values().flatten() {
            for passage in &datum.passages {
                if plan.add(datum.id, passage) {
                    self.add(writer, datum.id, passage)?;
                }
            }
        }
        Ok(plan.into_changes())
    }

    /// Shows readers what was committed, as a generation that is `newer` by so many.
    fn publish(&self, files: &Files, tokens: u64, visible: &HashSet<DatumId>, newer: u64) {
        let searcher = files.reader.searcher();
        let generation = self.snapshot.load().generation + newer;
        self.snapshot.store(Arc::new(Snapshot {
            fields: self.fields,
            generation,
            learned: visible.len() as u64,
            distinct_passages: searcher.num_docs(),
            passages: searcher.num_docs() + files.owners.repeated(),
            tokens,
            searcher,
        }));
        self.generation.send_if_modified(|last| std::mem::replace(last, generation) != generation);
    }

    /// How many words the passages have that were committed.
    fn tokens(&self, files: &Files) -> Result<u64, IndexError> {
        Ok(files.reader.searcher().total_num_tokens(self.fields.passage)?)
    }

    fn add(&self, writer: &IndexWriter, id: DatumId, passage: &str) -> Result<(), IndexError> {
        let mut document = TantivyDocument::new();
        document.add_text(self.fields.id, id.to_string());
        document.add_text(self.fields.passage, passage);
        document.add_bytes(self.fields.outline, &Outline::of(passage).encode());
        writer.add_document(document)?;
        Ok(())
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
        self.visible.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether it was begun anew and is not full yet.
    fn is_refilled(&self) -> bool {
        self.files().filling.is_some()
    }

    /// The data that are in the index and not among `live`.
    fn present_but_not_in(&self, live: &HashSet<DatumId>) -> Vec<DatumId> {
        self.in_files(&self.files(), |known| known.difference(live).copied().collect())
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the data that the files hold.
    fn in_files<T>(&self, files: &Files, look: impl FnOnce(&HashSet<DatumId>) -> T) -> T {
        match &files.filling {
            Some(filling) => look(filling),
            None => look(&self.visible.read().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Checks the files, unless that was done a moment ago: whether any was removed, and whether segments were merged since
    /// the last commit. Of those the snapshot lets go then, or they would keep their room on the disk until the next commit.
    fn check(&self) -> Result<(), Lost> {
        let mut files = self.files();
        if files.checked.elapsed() < CHECK_INTERVAL {
            return Ok(());
        }
        files.checked = Instant::now();
        if files.are_lost() {
            return Err(Lost);
        }
        // The next commit fails too, if this does.
        if files.filling.is_none()
            && files.were_merged()
            && files.reader.reload().is_ok()
            && let Ok(tokens) = self.tokens(&files)
        {
            let visible = self.visible.read().unwrap_or_else(PoisonError::into_inner);
            self.publish(&files, tokens, &visible, 0);
        }
        Ok(())
    }

    /// Whether files of the index are missing in its directory, so that nothing can be committed to it any more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.files().are_lost()
    }

    /// Begins an empty index in a new directory. What was visible stays so until that one is full. Blocks.
    ///
    /// # Errors
    /// When the directory cannot be made or written to; nothing has changed then.
    pub fn begin_anew(&self) -> Result<(), IndexError> {
        let mut files = self.files();
        (*files, _) = Files::create(Some(HashSet::new()))?;
        Ok(())
    }

    /// Shows an index that was begun anew, now that all is in it.
    ///
    /// # Errors
    /// When it cannot be read; what was visible stays so.
    fn finish(&self) -> Result<(), IndexError> {
        let mut files = self.files();
        let Some(filled) = &files.filling else { return Ok(()) };
        let tokens = self.tokens(&files)?;
        let mut visible = self.visible.write().unwrap_or_else(PoisonError::into_inner);
        // Of all that differs it is not known what came and what went.
        self.recent().forget(self.snapshot.load().generation + 1);
        self.publish(&files, tokens, filled, 1);
        *visible = files.filling.take().unwrap_or_default();
        Ok(())
    }
}

/// Files of the index were removed.
#[derive(Debug, Clone, Copy)]
struct Lost;

/// The passages that are indexed under a datum's id.
fn passages_of(searcher: &Searcher, fields: Fields, id: DatumId) -> Result<Vec<String>, IndexError> {
    let query = TermQuery::new(Term::from_field_text(fields.id, &id.to_string()), IndexRecordOption::Basic);
    let mut passages = Vec::new();
    for address in searcher.search(&query, &DocSetCollector)? {
        for (field, value) in searcher.doc::<Stored>(address)?.0 {
            match value {
                OwnedValue::Str(passage) if field == fields.passage => passages.push(passage),
                _ => {}
            }
        }
    }
    Ok(passages)
}

#[cfg(test)]
mod search_tests;
#[cfg(test)]
mod tests;

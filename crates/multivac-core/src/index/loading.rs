//! Loading an empty index: by several threads, without a commit before the end, and without looking for what is there already.

use std::sync::{Mutex, PoisonError};

use tantivy::IndexWriter;
use tantivy::indexer::NoMergePolicy;

use super::keeping::commit_with;
use super::owners::{Owners, PassageHash, PassageHasher};
use super::packed::PackedSet;
use super::passage::Passage;
use super::schema::Fields;
use super::{Index, IndexError};
use crate::datum::DatumId;
use crate::store::{Position, StoredDatum};

/// Threads that make segments, and what each holds in memory before it writes one: so large that few of them are merged later.
const THREADS: usize = 2;
const THREAD_MEMORY: usize = 48 << 20;

/// An index that is being loaded. What it leaves if it is dropped before it is [finished](Index::finish_loading), the next one removes.
pub(super) struct Loading {
    fields: Fields,
    hasher: PassageHasher,
    writer: IndexWriter,
    entered: Mutex<Entered>,
}

/// What is in it so far.
struct Entered {
    owners: Owners,
    data: PackedSet<DatumId>,
}

impl Loading {
    /// Adds data; those that are in it already are passed over. Called by several threads at once.
    pub(super) fn add(&self, data: &[StoredDatum]) -> Result<(), IndexError> {
        // What takes time is done outside of the lock, for which each batch waits twice.
        let hashes: Vec<Vec<PassageHash>> = data.iter().map(|datum| self.hashes(datum)).collect();
        let owned: Vec<Option<Vec<bool>>> = {
            let mut entered = self.entered();
            let all = data.iter().zip(&hashes);
            all.map(|(datum, hashes)| entered.enter(datum.id, hashes)).collect()
        };
        let mut tokens = 0;
        for ((datum, hashes), owned) in data.iter().zip(&hashes).zip(owned) {
            let Some(owned) = owned else { continue };
            if hashes.is_empty() {
                self.writer.add_document(self.fields.document(datum.id, None, None))?;
            }
            // As many passages as hashes, but that equal ones are left out.
            let mut passages = datum.passages.iter();
            for (hash, owned) in hashes.iter().zip(owned) {
                let passage = passages.find(|passage| self.hasher.hash(passage) == *hash).filter(|_| owned);
                let passage = passage.map(|text| Passage::new(text));
                tokens += passage.as_ref().map_or(0, |passage| passage.terms().count() as u64);
                self.writer.add_document(self.fields.document(datum.id, Some(*hash), passage.as_ref()))?;
            }
        }
        self.entered().owners.add_tokens(tokens);
        Ok(())
    }

    /// Of its passages, each once.
    fn hashes(&self, datum: &StoredDatum) -> Vec<PassageHash> {
        let mut hashes = Vec::with_capacity(datum.passages.len());
        for passage in &datum.passages {
            let hash = self.hasher.hash(passage);
            if !hashes.contains(&hash) {
                hashes.push(hash);
            }
        }
        hashes
    }

    fn entered(&self) -> std::sync::MutexGuard<'_, Entered> {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entered {
    /// Which of its passages a datum owns; `None` if the datum is in it already.
    fn enter(&mut self, id: DatumId, hashes: &[PassageHash]) -> Option<Vec<bool>> {
        if self.data.contains(&id) {
            return None;
        }
        self.data.insert(id);
        Some(hashes.iter().map(|hash| self.owners.enter(*hash)).collect())
    }
}

impl Index {
    /// Begins to load an index in which nothing is; nothing of it is visible before it is [finished](Self::finish_loading).
    pub(super) fn begin_loading(&self) -> Result<Loading, IndexError> {
        let can_be_loaded = {
            let mut files = self.files();
            files.can_be_loaded() && files.check_not_doubtful().is_ok()
        };
        if !can_be_loaded {
            // There are none yet, or an attempt before has left something, which is no part of what is visible.
            self.begin_anew()?;
        }
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = self.files();
        files.filling = Some(PackedSet::default());
        // There can be one at a time.
        *writer = None;
        let writer: IndexWriter = files.index.writer_with_num_threads(THREADS, THREADS * THREAD_MEMORY)?;
        // What a load that broke off has left.
        writer.garbage_collect_files().wait()?;
        writer.set_merge_policy(Box::new(NoMergePolicy));
        let (fields, hasher) = (files.fields, files.owners.hasher());
        let entered = Entered { owners: Owners::new(hasher), data: PackedSet::default() };
        Ok(Loading { fields, hasher, writer, entered: Mutex::new(entered) })
    }

    /// Shows what was loaded: all data of the store at a position. Blocks.
    pub(super) fn finish_loading(&self, loading: Loading, position: Position) -> Result<(), IndexError> {
        let Loading { mut writer, entered, .. } = loading;
        let Entered { owners, data } = entered.into_inner().unwrap_or_else(PoisonError::into_inner);
        let stamped = Some(position).filter(|_| self.note(Some(position)));
        let stamp = self.files().stamp_at(stamped, data.len(), (owners.repeated(), owners.tokens()));
        let committed = commit_with(&mut writer, stamp);
        drop(writer);
        let mut files = self.files();
        match committed {
            Ok(at) => files.committed(at),
            Err(error) => {
                files.failed_to_commit();
                return Err(error.into());
            }
        }
        files.reload()?;
        files.is_seen();
        (files.owners, files.position, files.filling) = (owners, Some(position), Some(data));
        files.stamped = stamped.map(|position| (std::time::Instant::now(), position));
        drop(files);
        self.finish();
        Ok(())
    }
}

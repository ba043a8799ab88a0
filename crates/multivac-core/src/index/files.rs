//! The index on the disk: its directory, its writer, and when its segments are merged.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tantivy::index::{SegmentId, SegmentMeta};
use tantivy::indexer::{LogMergePolicy, MergeCandidate, MergePolicy};
use tantivy::{IndexReader, IndexWriter, Opstamp, ReloadPolicy, TantivyError};
use tokio_util::sync::CancellationToken;

use super::checksums::{self, files_of};
use super::directory::{IndexDirectory, Place};
use super::fresh::{Document, Fresh};
use super::kept::{KeptDirectory, Manifest, Stamp, WhyNot};
use super::owners::{IndexedDatum, NewDocument, Owners, PassageHash, PassageHasher};
use super::packed::PackedSet;
use super::schema::Fields;
use super::snapshot::Segments;
use super::{IndexError, schema};
use crate::datum::DatumId;
use crate::store::Position;

/// Memory for documents that are not committed yet, in bytes.
const WRITER_MEMORY: usize = 64 << 20;

/// The index on the disk, what is not in a segment of it yet, and what is known of what is in it.
pub(super) struct Files {
    pub(super) index: tantivy::Index,
    pub(super) fields: Fields,
    reader: IndexReader,
    /// The segments of the last commit.
    pub(super) segments: Arc<Segments>,
    /// What is in no segment yet, oldest first; what comes goes into the last.
    pub(super) fresh: Vec<Arc<Fresh>>,
    /// While a move goes on, how many of those are being moved into a segment: nothing is added to them.
    moving: Option<usize>,
    /// The data that were removed since the last move began, while it goes on.
    removed_meanwhile: HashSet<DatumId>,
    /// Whether the last move failed.
    pub(super) has_failed: bool,
    /// Since when there is anything to be moved.
    pub(super) oldest: Option<Instant>,
    /// The data that were removed from the segments, but not from the disk.
    pub(super) hidden: Arc<HashSet<DatumId>>,
    pub(super) owners: Owners,
    /// Where it was begun anew and is not filled yet: the data in it. Nothing of it is visible until then.
    pub(super) filling: Option<PackedSet<DatumId>>,
    pub(super) checked: Instant,
    /// What tantivy counts commits by: that of the last.
    committed: Opstamp,
    /// Whether more may be committed than is known of.
    is_doubtful: bool,
    /// Whether a commit has failed, and it could not be looked at whether it was carried out nevertheless.
    is_unsure: bool,
    /// All changes up to here are in it, in memory or in segments.
    pub(super) position: Option<Position>,
    /// When the last commit was stamped, and with which position.
    pub(super) stamped: Option<(Instant, Position)>,
    /// What it is called where it is kept. Empty: it [stands in](Self::stand_in) for one that was not opened yet.
    pub(super) name: String,
    /// A temporary one is removed with the index, so it is dropped last.
    pub(super) directory: IndexDirectory,
}

/// What is moved into a segment at once.
pub(super) struct Moved {
    pub(super) index: tantivy::Index,
    /// The data whose documents are removed from the segments before.
    pub(super) removed: HashSet<DatumId>,
    pub(super) documents: Vec<Document>,
    /// What the segments hold with them; `None` where it is not known up to which position.
    pub(super) stamp: Option<Stamp>,
}

/// When segments are merged: a search looks into each of them, but a merge writes again all that it merges. A steady feed
/// makes some twelve small segments a second, and tantivy's own policy would write the last 10,000 passages again with
/// every eighth of them.
///
/// While a merge is under way, what it merges is on the disk twice. So the largest segments stay as they are: without that,
/// an index takes twice its room now and then.
#[derive(Debug)]
pub(super) struct Merging;

/// Segments with this share of all passages, or more, are not merged again, but for those with few.
const LARGEST_MERGED: usize = 16;
const SMALLEST_LEFT: usize = 100_000;

/// One merge makes a segment with this share at most: loading leaves many segments of a size, which would all be merged at once.
const LARGEST_MADE: usize = 4;

impl MergePolicy for Merging {
    fn compute_merge_candidates(&self, segments: &[SegmentMeta]) -> Vec<MergeCandidate> {
        let passages: usize = segments.iter().map(|segment| segment.num_docs() as usize).sum();
        let mut policy = LogMergePolicy::default();
        policy.set_min_layer_size(200);
        policy.set_min_num_segments(5);
        policy.set_max_docs_before_merge((passages / LARGEST_MERGED).max(SMALLEST_LEFT));
        let limit = (passages / LARGEST_MADE).max(5 * SMALLEST_LEFT);
        let size_of =
            |id: &SegmentId| segments.iter().find(|segment| segment.id() == *id).map_or(0, SegmentMeta::num_docs);
        let within = |MergeCandidate(mut merged): MergeCandidate| {
            merged.sort_by_key(size_of);
            let mut sum = 0;
            let fits = |id: &&SegmentId| {
                sum += size_of(id) as usize;
                sum <= limit
            };
            let count = merged.iter().take_while(fits).count();
            merged.truncate(count);
            (count > 1).then_some(MergeCandidate(merged))
        };
        policy.compute_merge_candidates(segments).into_iter().filter_map(within).collect()
    }
}

impl Files {
    /// An empty index in a new directory.
    pub(super) fn create(place: &Place, filling: Option<PackedSet<DatumId>>) -> Result<(Self, Fields), IndexError> {
        let (directory, manifest) = place.begin()?;
        let (schema, fields) = schema::schema();
        let index = tantivy::Index::builder().schema(schema).settings(schema::settings());
        let index = index.create_in_dir(directory.path())?;
        let files = Self { filling, ..Self::of(index, fields, directory, &manifest)? };
        Ok((files, fields))
    }

    /// Nothing, in memory, until the index in a directory was opened or another was begun there. Nothing is added to it.
    pub(super) fn stand_in(directory: &KeptDirectory) -> Result<(Self, Fields), IndexError> {
        let (schema, fields) = schema::schema();
        let index = tantivy::Index::builder().schema(schema).settings(schema::settings()).create_in_ram()?;
        let path = IndexDirectory::kept(directory.path().to_owned());
        let files = Self { name: String::new(), ..Self::of(index, fields, path, &Manifest::new())? };
        Ok((files, fields))
    }

    fn stands_in(&self) -> bool {
        self.name.is_empty()
    }

    /// The index that is kept in a directory, with the data in it as those that are not visible yet; and the stamp of its
    /// last commit.
    pub(super) fn open(directory: &KeptDirectory, stop: &CancellationToken) -> Result<(Self, Stamp), WhyNot> {
        let manifest = directory.manifest()?;
        let refused = |error: TantivyError| WhyNot::of(&error);
        let path = directory.path_of(&manifest.name);
        let index = tantivy::Index::open_in_dir(&path).map_err(refused)?;
        let (schema, fields) = schema::schema();
        if index.schema() != schema {
            return Err(WhyNot::OtherFormat);
        }
        let stamp = Stamp::decode(index.load_metas().map_err(refused)?.payload.as_deref(), &manifest.name)?;
        checksums::check(&index, stop)?;
        let path = IndexDirectory::kept(path);
        let mut files = Self::of(index, fields, path, &manifest).map_err(|IndexError(error)| refused(error))?;
        let (data, said) = files.segments.read(stop)?;
        if data.len() as u64 != stamp.data {
            return Err(WhyNot::Damaged("its segments do not fit its last commit".to_owned()));
        }
        files.owners = Owners::of(PassageHasher::new(manifest.key), said, stamp.repeated, stamp.tokens);
        files.position = Some(stamp.position());
        files.stamped = Some((Instant::now(), stamp.position()));
        files.filling = Some(data);
        Ok((files, stamp))
    }

    fn of(
        index: tantivy::Index,
        fields: Fields,
        directory: IndexDirectory,
        manifest: &Manifest,
    ) -> Result<Self, IndexError> {
        index.tokenizers().register(schema::ANALYSER, schema::Split::default());
        let reader: IndexReader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        Ok(Self {
            fields,
            segments: Arc::new(Segments::new(fields, reader.searcher())?),
            fresh: Vec::new(),
            moving: None,
            removed_meanwhile: HashSet::new(),
            has_failed: false,
            oldest: None,
            hidden: Arc::default(),
            owners: Owners::new(PassageHasher::new(manifest.key)),
            filling: None,
            checked: Instant::now(),
            committed: index.load_metas()?.opstamp,
            is_doubtful: false,
            is_unsure: false,
            index,
            reader,
            position: None,
            stamped: None,
            name: manifest.name.clone(),
            directory,
        })
    }

    /// The stamp of a commit that holds so many data, repeats and terms; `None` where it is not known up to which position.
    pub(super) fn stamp_at(
        &self,
        position: Option<Position>,
        data: usize,
        (repeated, tokens): (u64, u64),
    ) -> Option<Stamp> {
        let Position(position) = position?;
        Some(Stamp { name: self.name.clone(), position, data: data as u64, repeated, tokens })
    }

    /// What a datum is indexed as, and whether it is in the segments.
    pub(super) fn indexed(&self, id: DatumId) -> Result<(IndexedDatum, bool), IndexError> {
        let mut indexed = IndexedDatum::default();
        let in_segments = !self.hidden.contains(&id) && self.segments.add_to(&mut indexed, id)?;
        self.fresh.iter().for_each(|fresh| fresh.add_to(&mut indexed, id));
        Ok((indexed, in_segments))
    }

    /// The data that repeat a passage.
    pub(super) fn repeating(&self, hash: PassageHash) -> Result<Vec<DatumId>, IndexError> {
        let mut data = self.segments.repeating(hash)?;
        data.retain(|id| !self.hidden.contains(id));
        data.extend(self.fresh.iter().flat_map(|fresh| fresh.repeating(hash)));
        Ok(data)
    }

    /// Removes data from memory, as the generation `until` is to see it, and hides those that are in segments.
    pub(super) fn hide(&mut self, removed: &HashMap<DatumId, bool>, until: u64) {
        for (id, in_segments) in removed {
            self.fresh.iter().for_each(|fresh| fresh.remove(*id, until));
            if *in_segments {
                Arc::make_mut(&mut self.hidden).insert(*id);
                self.oldest.get_or_insert_with(Instant::now);
            }
            if self.is_moving() {
                self.removed_meanwhile.insert(*id);
            }
        }
    }

    /// Adds documents in memory, seen from a generation on.
    pub(super) fn add(&mut self, documents: Vec<NewDocument>, since: u64) {
        if documents.is_empty() {
            return;
        }
        if self.fresh.len() == self.moving.unwrap_or(0) {
            self.fresh.push(Arc::default());
        }
        self.oldest.get_or_insert_with(Instant::now);
        if let Some(last) = self.fresh.last() {
            last.add(documents, since);
        }
    }

    /// Whether so many documents are in memory or hidden, or so many bytes of text.
    pub(super) fn is_over(&self, documents: usize, size: usize) -> bool {
        let (held, held_size) =
            self.fresh.iter().fold((0, 0), |sum, fresh| (sum.0 + fresh.len(), sum.1 + fresh.size()));
        held + self.hidden.len() >= documents || held_size >= size
    }

    /// Fails where more may be committed than is known of: it would be committed once more. The index is lost then, unless it could not
    /// be looked at.
    pub(super) fn check_not_doubtful(&mut self) -> Result<(), IndexError> {
        if self.is_unsure {
            self.look_at_commit()?;
        }
        match self.is_doubtful {
            true => Err(TantivyError::SystemError("what was committed last cannot be opened".to_owned()).into()),
            false => Ok(()),
        }
    }

    /// Begins a move.
    pub(super) fn begin_move(&mut self, stamp: Option<Stamp>) -> Moved {
        self.moving = Some(self.fresh.len());
        // What a move that panicked has left there is hidden already.
        self.removed_meanwhile.clear();
        (self.oldest, self.has_failed) = (None, false);
        Moved {
            stamp,
            index: self.index.clone(),
            removed: HashSet::clone(&self.hidden),
            documents: self.fresh.iter().flat_map(|fresh| fresh.documents()).collect(),
        }
    }

    /// Whether a move goes on: more may be committed than is to be seen.
    pub(super) fn is_moving(&self) -> bool {
        self.moving.is_some()
    }

    /// Ends a move that was committed.
    pub(super) fn finish_move(&mut self) -> Result<(), IndexError> {
        self.reload()?;
        self.fresh.drain(..self.moving.take().unwrap_or(0));
        self.hidden = Arc::new(std::mem::take(&mut self.removed_meanwhile));
        // What was removed of what was moved is in the segments now.
        if !self.hidden.is_empty() {
            self.oldest.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// Ends a move that failed: it is to be begun again.
    pub(super) fn abandon_move(&mut self) {
        self.moving = None;
        self.removed_meanwhile.clear();
        self.oldest = Some(Instant::now());
        self.has_failed = true;
    }

    /// Nothing is in memory any more, and nothing is hidden: all is in the segments.
    pub(super) fn clear_memory(&mut self) {
        self.fresh.clear();
        (self.oldest, self.hidden) = (None, Arc::default());
    }

    /// Opens the segments of the last commit.
    pub(super) fn reload(&mut self) -> Result<(), IndexError> {
        self.reader.reload()?;
        self.segments = Arc::new(Segments::new(self.fields, self.reader.searcher())?);
        Ok(())
    }

    /// Notes that a commit has succeeded, of which all is to be seen from now on: if not, the index is lost.
    pub(super) fn committed(&mut self, at: Opstamp) {
        (self.committed, self.is_doubtful) = (at, true);
    }

    /// Notes that all is seen that was committed.
    pub(super) fn is_seen(&mut self) {
        self.is_doubtful = false;
    }

    /// Notes that a commit has failed. Had it been carried out nevertheless, the same would be added again.
    pub(super) fn failed_to_commit(&mut self) {
        self.is_unsure = self.look_at_commit().is_err();
    }

    fn look_at_commit(&mut self) -> Result<(), IndexError> {
        self.is_doubtful |= self.index.load_metas()?.opstamp != self.committed;
        self.is_unsure = false;
        Ok(())
    }

    /// Whether any file of the last commit is missing. Looked at twice, since a merge may end between reading the list and
    /// looking for what is on it.
    pub(super) fn are_lost(&self) -> bool {
        // Where the system does not say whether it is there, it is.
        let is_gone = |file: &Path| matches!(self.directory.path().join(file).try_exists(), Ok(false));
        let is_missing = |segment: &SegmentMeta| files_of(segment).any(|file| is_gone(&file));
        let lost = || {
            self.is_doubtful
                || is_gone(Path::new("meta.json"))
                || self.index.searchable_segment_metas().is_ok_and(|all| all.iter().any(is_missing))
        };
        !self.stands_in() && lost() && lost()
    }

    /// Whether nothing was ever added, or all is gone that was.
    pub(super) fn hold_nothing(&self) -> bool {
        self.segments.searcher.segment_readers().is_empty() && self.fresh.is_empty() && self.hidden.is_empty()
    }

    /// Whether nothing is in them, and all can be added.
    pub(super) fn can_be_loaded(&self) -> bool {
        self.hold_nothing() && !self.stands_in()
    }

    /// Whether the reader shows other segments than those of the last commit.
    pub(super) fn were_merged(&self) -> bool {
        let shown: HashSet<_> =
            self.reader.searcher().segment_readers().iter().map(|segment| segment.segment_id()).collect();
        self.index.searchable_segment_ids().is_ok_and(|now| shown != now.into_iter().collect())
    }
}

/// A writer that begins at the last commit, without what was left of changes that failed.
pub(super) fn new_writer(index: &tantivy::Index) -> Result<IndexWriter, IndexError> {
    let writer = index.writer_with_num_threads(1, WRITER_MEMORY)?;
    writer.set_merge_policy(Box::new(Merging));
    // On a full disk this may be the room that is missing.
    writer.garbage_collect_files().wait()?;
    Ok(writer)
}

//! The index on the disk: its directory, its writer, and when its segments are merged.

use std::collections::HashSet;
use std::time::Instant;

use tantivy::index::{SegmentComponent, SegmentMeta};
use tantivy::indexer::{LogMergePolicy, MergeCandidate, MergePolicy};
use tantivy::{IndexReader, IndexWriter, ReloadPolicy};

use super::directory::IndexDirectory;
use super::owners::Owners;
use super::schema::Fields;
use super::{IndexError, schema, terms};
use crate::datum::DatumId;

/// Memory for documents that are not committed yet, in bytes.
const WRITER_MEMORY: usize = 64 << 20;

/// The index on the disk, and what changes it.
pub(super) struct Files {
    pub(super) index: tantivy::Index,
    pub(super) reader: IndexReader,
    /// `None` after a failure: tantivy's own rollback cannot be repeated when it fails, a new writer can be made.
    pub(super) writer: Option<IndexWriter>,
    pub(super) owners: Owners,
    /// Where it was begun anew and is not filled yet: the data in it. Nothing of it is visible until then.
    pub(super) filling: Option<HashSet<DatumId>>,
    pub(super) checked: Instant,
    /// Removed with the index, so it is dropped last.
    pub(super) directory: IndexDirectory,
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

impl MergePolicy for Merging {
    fn compute_merge_candidates(&self, segments: &[SegmentMeta]) -> Vec<MergeCandidate> {
        let passages: usize = segments.iter().map(|segment| segment.num_docs() as usize).sum();
        let mut policy = LogMergePolicy::default();
        policy.set_min_layer_size(200);
        policy.set_min_num_segments(5);
        policy.set_max_docs_before_merge((passages / LARGEST_MERGED).max(SMALLEST_LEFT));
        policy.compute_merge_candidates(segments)
    }
}

impl Files {
    /// An empty index in a new directory.
    pub(super) fn create(filling: Option<HashSet<DatumId>>) -> Result<(Self, Fields), IndexError> {
        let directory = IndexDirectory::create()?;
        let (schema, fields) = schema::schema();
        let index = tantivy::Index::builder().schema(schema).settings(schema::settings());
        let index = index.create_in_dir(directory.path())?;
        index.tokenizers().register(schema::ANALYSER, terms::Terms::default());
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let (owners, checked) = (Owners::default(), Instant::now());
        Ok((Self { index, reader, writer: None, owners, filling, checked, directory }, fields))
    }

    /// A writer that begins at the last commit, without what was left of changes that failed.
    pub(super) fn new_writer(&self) -> Result<IndexWriter, IndexError> {
        let writer = self.index.writer_with_num_threads(1, WRITER_MEMORY)?;
        writer.set_merge_policy(Box::new(Merging));
        // On a full disk this may be the room that is missing.
        writer.garbage_collect_files().wait()?;
        Ok(writer)
    }

    /// Whether any file of the last commit is missing. Looked at twice, since a merge may end between reading the list and
    /// looking for what is on it.
    pub(super) fn are_lost(&self) -> bool {
        let is_missing = |segment: &SegmentMeta| {
            let deletes = segment.has_deletes().then_some(SegmentComponent::Delete);
            let always = [
                SegmentComponent::Terms,
                SegmentComponent::Postings,
                SegmentComponent::Positions,
                SegmentComponent::FieldNorms,
                SegmentComponent::FastFields,
                SegmentComponent::Store,
            ];
            always
                .into_iter()
                .chain(deletes)
                .any(|part| !self.directory.path().join(segment.relative_path(part)).exists())
        };
        let has_list = || self.directory.path().join("meta.json").exists();
        let lost = || !has_list() || self.index.searchable_segment_metas().is_ok_and(|all| all.iter().any(is_missing));
        lost() && lost()
    }

    /// Whether the reader shows other segments than those of the last commit.
    pub(super) fn were_merged(&self) -> bool {
        let shown: HashSet<_> =
            self.reader.searcher().segment_readers().iter().map(|segment| segment.segment_id()).collect();
        self.index.searchable_segment_ids().is_ok_and(|now| shown != now.into_iter().collect())
    }
}

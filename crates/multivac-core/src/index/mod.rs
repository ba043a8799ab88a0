//! Link 5: passages found by their words. The index is derived from the store and disposable: it lies in a temporary
//! directory and is filled anew at every start, which [`follow`] does.
//!
//! There is one writer and any number of readers: [`Index::apply`] makes changes visible all at once, and every
//! [`Snapshot`] stays as it was when it was taken.

mod announcer;
pub mod fence;
pub mod follow;
mod outline;
mod owners;
mod removals;
mod schema;
mod terms;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arc_swap::ArcSwap;
use tantivy::collector::{DocSetCollector, TopDocs};
use tantivy::merge_policy::LogMergePolicy;
use tantivy::query::{Bm25StatisticsProvider, BooleanQuery, Occur, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, OwnedValue};
use tantivy::{IndexReader, IndexWriter, ReloadPolicy, Searcher, TantivyDocument, Term};
use tempfile::TempDir;

use crate::datum::DatumId;
use crate::store::{Change, StoredDatum};
pub use outline::{Outline, Part, Word};
use owners::{Owners, PlannedChanges};
use schema::{Fields, Stored};
pub use terms::{term, words};

/// Memory for documents that are not committed yet, in bytes.
const WRITER_MEMORY: usize = 64 << 20;

/// The index could not be read or written: a full disk, or a fault.
#[derive(Debug, thiserror::Error)]
#[error("the index failed: {0}")]
pub struct IndexError(#[from] tantivy::TantivyError);

impl From<std::io::Error> for IndexError {
    fn from(error: std::io::Error) -> Self {
        Self(error.into())
    }
}

/// See the [module](self).
pub struct Index {
    fields: Fields,
    index: tantivy::Index,
    writer: Mutex<Writer>,
    reader: IndexReader,
    snapshot: ArcSwap<Snapshot>,
    known: RwLock<HashSet<DatumId>>,
    /// Removed with the index.
    _directory: TempDir,
}

struct Writer {
    /// `None` after a failure: tantivy's own rollback cannot be repeated when it fails, a new writer can be made.
    tantivy: Option<IndexWriter>,
    owners: Owners,
}

/// The index at one moment.
pub struct Snapshot {
    fields: Fields,
    searcher: Searcher,
    /// Words of all passages that are searched.
    tokens: u64,
    /// Goes up by one with every visible change.
    pub generation: u64,
    /// Data in the index.
    pub learned: u64,
    /// Passages of all data, each as often as it was said.
    pub passages: u64,
    /// Passages, equal ones counted once: what is searched.
    pub distinct_passages: u64,
}

/// A term as the index knows it.
#[derive(Debug, Clone)]
pub struct Indexed {
    term: Term,
    /// In how many passages it occurs; those that were removed a moment ago may be among them.
    pub frequency: u64,
}

/// A passage that a search came upon.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The datum it is out of.
    pub id: DatumId,
    /// Its text.
    pub passage: String,
    /// Where its words and sentences lie.
    pub outline: Outline,
    /// BM25.
    pub score: f32,
}

/// When segments are merged: a search looks into each of them, but a merge writes again all that it merges. A steady feed
/// makes some twelve small segments a second, and tantivy's own policy would write the last 10,000 passages again with
/// every eighth of them.
fn merge_policy() -> LogMergePolicy {
    let mut policy = LogMergePolicy::default();
    policy.set_min_layer_size(200);
    policy.set_min_num_segments(5);
    policy
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

impl Index {
    /// An empty index in a new temporary directory.
    ///
    /// # Errors
    /// When the directory cannot be made or written to.
    pub fn new() -> Result<Self, IndexError> {
        let directory = tempfile::Builder::new().prefix("multivac-index-").tempdir()?;
        let (schema, fields) = schema::schema();
        let index = tantivy::Index::builder().schema(schema).settings(schema::settings());
        let index = index.create_in_dir(directory.path())?;
        index.tokenizers().register(schema::ANALYSER, terms::Terms::default());
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let snapshot = Snapshot {
            fields,
            searcher: reader.searcher(),
            tokens: 0,
            generation: 0,
            learned: 0,
            distinct_passages: 0,
            passages: 0,
        };
        Ok(Self {
            fields,
            index,
            writer: Mutex::new(Writer { tantivy: None, owners: Owners::default() }),
            reader,
            snapshot: ArcSwap::from_pointee(snapshot),
            known: RwLock::default(),
            _directory: directory,
        })
    }

    /// Makes changes visible, all at once. Applying a change again changes nothing. Blocks.
    ///
    /// # Errors
    /// None of the changes is visible then, and they can be applied again.
    pub fn apply(&self, changes: &[Change]) -> Result<(), IndexError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Writer { tantivy: slot, owners } = &mut *writer;
        let last = last_changes(changes);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let removed: HashSet<DatumId> = last.keys().filter(|id| known.contains(id)).copied().collect();
        drop(known);
        // Taken out of its slot, so that after a failure, a panic as well, the next call begins with a new writer.
        let mut tantivy = match slot.take() {
            Some(tantivy) => tantivy,
            None => self.new_writer()?,
        };
        let owner_changes = self.write(&tantivy, owners, &removed, &last)?;
        tantivy.commit()?;
        *slot = Some(tantivy);
        self.reader.reload()?;
        owners.apply(owner_changes, &removed);
        self.publish(last, owners)
    }

    /// Writes what a batch of changes makes of the documents; nothing of it is visible yet.
    fn write(
        &self,
        tantivy: &IndexWriter,
        owners: &Owners,
        removed: &HashSet<DatumId>,
        last: &LastChanges<'_>,
    ) -> Result<PlannedChanges, IndexError> {
        let mut plan = owners.plan(removed);
        let now = self.snapshot();
        for id in removed {
            let passages = now.passages_of(*id)?;
            tantivy.delete_term(Term::from_field_text(self.fields.id, &id.to_string()));
            for passage in passages {
                if let Some(successor) = plan.remove(&passage) {
                    self.add(tantivy, successor, &passage)?;
                }
            }
        }
        for datum in last.values().flatten() {
            for passage in &datum.passages {
                if plan.add(datum.id, passage) {
                    self.add(tantivy, datum.id, passage)?;
                }
            }
        }
        Ok(plan.into_changes())
    }

    /// Shows readers what was committed.
    fn publish(&self, last: LastChanges<'_>, owners: &Owners) -> Result<(), IndexError> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for (id, put) in last {
            match put {
                Some(_) => known.insert(id),
                None => known.remove(&id),
            };
        }
        let searcher = self.reader.searcher();
        self.snapshot.store(Arc::new(Snapshot {
            fields: self.fields,
            generation: self.snapshot.load().generation + 1,
            learned: known.len() as u64,
            distinct_passages: searcher.num_docs(),
            passages: searcher.num_docs() + owners.repeated(),
            tokens: searcher.total_num_tokens(self.fields.passage)?,
            searcher,
        }));
        Ok(())
    }

    /// A writer that begins at the last commit, without what was left of changes that failed.
    fn new_writer(&self) -> Result<IndexWriter, IndexError> {
        let writer = self.index.writer_with_num_threads(1, WRITER_MEMORY)?;
        writer.set_merge_policy(Box::new(merge_policy()));
        // On a full disk this may be the room that is missing.
        writer.garbage_collect_files().wait()?;
        Ok(writer)
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

    /// Whether a datum is visible.
    #[must_use]
    pub fn contains(&self, id: DatumId) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// Whether no datum is visible.
    fn is_empty(&self) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The data that are visible and not among `live`.
    fn visible_but_not_in(&self, live: &HashSet<DatumId>) -> Vec<DatumId> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).difference(live).copied().collect()
    }
}

impl Snapshot {
    /// The passages that match best by BM25 over `terms`, best first, `max` at most.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn search(&self, terms: &[&Indexed], max: usize) -> Result<Vec<Hit>, IndexError> {
        let clauses = terms.iter().map(|term| {
            let query = TermQuery::new(term.term.clone(), IndexRecordOption::WithFreqs);
            (Occur::Should, Box::new(query) as Box<dyn Query>)
        });
        let query = BooleanQuery::new(clauses.collect());
        let best = TopDocs::with_limit(max).order_by_score();
        let statistics = Statistics { snapshot: self, terms };
        let found = self.searcher.search_with_statistics_provider(&query, &best, &statistics)?;
        let mut hits = Vec::with_capacity(found.len());
        for (score, address) in found {
            let (mut id, mut text, mut outline) = (None, None, Outline::default());
            for (field, value) in self.searcher.doc::<Stored>(address)?.0 {
                match value {
                    OwnedValue::Str(value) if field == self.fields.id => id = value.parse().ok(),
                    OwnedValue::Str(value) => text = Some(value),
                    OwnedValue::Bytes(value) => outline = Outline::decode(&value),
                    _ => {}
                }
            }
            if let (Some(id), Some(passage)) = (id, text) {
                hits.push(Hit { id, passage, outline, score });
            }
        }
        Ok(hits)
    }

    /// The passages that are indexed under a datum's id.
    fn passages_of(&self, id: DatumId) -> Result<Vec<String>, IndexError> {
        let query = TermQuery::new(Term::from_field_text(self.fields.id, &id.to_string()), IndexRecordOption::Basic);
        let mut passages = Vec::new();
        for address in self.searcher.search(&query, &DocSetCollector)? {
            for (field, value) in self.searcher.doc::<Stored>(address)?.0 {
                match value {
                    OwnedValue::Str(passage) if field == self.fields.passage => passages.push(passage),
                    _ => {}
                }
            }
        }
        Ok(passages)
    }

    /// Looks a term up.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn look_up(&self, term: &str) -> Result<Indexed, IndexError> {
        let term = Term::from_field_text(self.fields.passage, term);
        Ok(Indexed { frequency: self.searcher.doc_freq(&term)?, term })
    }
}

/// The statistics that BM25 needs of the terms of one search. They were looked up before, so they are not looked up again.
struct Statistics<'a> {
    snapshot: &'a Snapshot,
    terms: &'a [&'a Indexed],
}

impl Bm25StatisticsProvider for Statistics<'_> {
    fn total_num_tokens(&self, _: Field) -> tantivy::Result<u64> {
        Ok(self.snapshot.tokens)
    }

    fn total_num_docs(&self) -> tantivy::Result<u64> {
        self.snapshot.searcher.total_num_docs()
    }

    fn doc_freq(&self, term: &Term) -> tantivy::Result<u64> {
        let looked_up = self.terms.iter().find(|known| known.term == *term);
        looked_up.map_or_else(|| self.snapshot.searcher.doc_freq(term), |known| Ok(known.frequency))
    }
}

#[cfg(test)]
mod tests;

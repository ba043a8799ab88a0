//! The index at one moment, and how it is searched: its segments, and what is not in a segment yet, as if they were one.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tantivy::collector::{DocSetCollector, TopDocs};
use tantivy::query::{Bm25StatisticsProvider, Bm25Weight, BooleanQuery, Occur, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, OwnedValue};
use tantivy::{DocAddress, Searcher, Term};

use super::fresh::Fresh;
use super::owners::{Indexed as IndexedDatum, PassageHash};
use super::packed::PackedSet;
use super::passage::Hit;
use super::schema::{Columns, Fields, Stored};
use super::{IndexError, Outline};
use crate::datum::DatumId;

/// The index at one moment.
pub struct Snapshot {
    pub(super) segments: Arc<Segments>,
    /// What is not in a segment yet: what is being moved into one, and what came after that.
    pub(super) fresh: Vec<Arc<Fresh>>,
    /// The data whose documents in the segments do not count any more.
    pub(super) hidden: Arc<Hidden>,
    /// Words of all passages that are searched.
    pub(super) tokens: u64,
    /// Goes up by one with every visible change.
    pub generation: u64,
    /// Data in the index.
    pub learned: u64,
    /// Passages of all data, each as often as it was said.
    pub passages: u64,
    /// Passages, equal ones counted once: what is searched.
    pub distinct_passages: u64,
}

/// Data whose documents in the segments do not count any more.
#[derive(Debug, Clone, Default)]
pub(super) struct Hidden {
    pub(super) data: HashSet<DatumId>,
    /// How many passages they have in the segments.
    pub(super) passages: usize,
}

/// The segments of one commit.
pub(super) struct Segments {
    pub(super) fields: Fields,
    pub(super) searcher: Searcher,
    columns: Vec<Columns>,
}

/// A term as the index knows it.
#[derive(Debug, Clone)]
pub struct Indexed {
    term: String,
    /// In how many passages it occurs; those that were removed a moment ago may be among them.
    pub frequency: u64,
}

impl Snapshot {
    /// The passages that match best by BM25 over `terms`, best first, `max` at most.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn search(&self, terms: &[&Indexed], max: usize) -> Result<Vec<Hit>, IndexError> {
        if self.distinct_passages == 0 {
            return Ok(Vec::new());
        }
        let mut hits = self.segments.search(terms, self, max)?;
        if self.fresh.is_empty() {
            return Ok(hits);
        }
        let average_length = self.tokens as f32 / self.distinct_passages as f32;
        let weight = |term: &Indexed| {
            Bm25Weight::for_one_term_without_explain(term.frequency, self.distinct_passages, average_length)
        };
        let known = terms.iter().filter(|term| term.frequency > 0);
        let weights: Vec<_> = known.map(|term| (term.term.as_str(), weight(term))).collect();
        hits.extend(self.fresh.iter().flat_map(|fresh| fresh.search(&weights, self.generation, max)));
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        hits.truncate(max);
        Ok(hits)
    }

    /// Looks a term up.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn look_up(&self, term: &str) -> Result<Indexed, IndexError> {
        let in_segments = self.segments.searcher.doc_freq(&self.segments.term(term))?;
        let fresh: u64 = self.fresh.iter().map(|fresh| fresh.frequency(term, self.generation)).sum();
        // Of those that were removed too many are counted, and no term is in more passages than there are.
        Ok(Indexed { frequency: (in_segments + fresh).min(self.distinct_passages), term: term.to_owned() })
    }
}

impl Segments {
    pub(super) fn new(fields: Fields, searcher: Searcher) -> Result<Self, IndexError> {
        let columns = searcher.segment_readers().iter().map(Columns::open).collect::<Result<_, _>>()?;
        Ok(Self { fields, searcher, columns })
    }

    /// All data in them, and all passages. `None` where a segment is damaged.
    pub(super) fn read(&self) -> Option<(PackedSet<DatumId>, PackedSet<PassageHash>)> {
        let segments: Vec<_> = self.searcher.segment_readers().iter().zip(&self.columns).collect();
        let next = AtomicUsize::new(0);
        let read = || {
            let mut found = (Vec::new(), Vec::new());
            while let Some((segment, columns)) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (ids, hashes) = columns.read(segment)?;
                found.0.extend(ids);
                found.1.extend(hashes);
            }
            Some(found)
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(segments.len());
        let parts = thread::scope(|scope| {
            let readers: Vec<_> = (0..threads).map(|_| scope.spawn(read)).collect();
            readers.into_iter().map(|reader| reader.join().ok()?).collect::<Option<Vec<_>>>()
        })?;
        let (ids, hashes): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        // Each sorts by itself.
        thread::scope(|scope| {
            let hashes = scope.spawn(|| hashes.into_iter().flatten().collect());
            Some((ids.into_iter().flatten().collect(), hashes.join().ok()?))
        })
    }

    fn term(&self, term: &str) -> Term {
        Term::from_field_text(self.fields.terms, term)
    }

    /// Whose document it is.
    fn id(&self, address: DocAddress) -> Option<DatumId> {
        self.columns[address.segment_ord as usize].id(address.doc_id)
    }

    fn search(&self, terms: &[&Indexed], snapshot: &Snapshot, max: usize) -> Result<Vec<Hit>, IndexError> {
        let clauses = terms.iter().map(|term| {
            let query = TermQuery::new(self.term(&term.term), IndexRecordOption::WithFreqs);
            (Occur::Should, Box::new(query) as Box<dyn Query>)
        });
        let query = BooleanQuery::new(clauses.collect());
        let best = TopDocs::with_limit(max + snapshot.hidden.passages).order_by_score();
        let statistics = Statistics { snapshot, terms };
        let found = self.searcher.search_with_statistics_provider(&query, &best, &statistics)?;
        let mut hits = Vec::with_capacity(found.len());
        for (score, address) in found {
            if hits.len() == max {
                break;
            }
            let Some(id) = self.id(address).filter(|id| !snapshot.hidden.data.contains(id)) else { continue };
            let (mut text, mut outline) = (None, Outline::default());
            for (_, value) in self.searcher.doc::<Stored>(address)?.0 {
                match value {
                    OwnedValue::Str(value) => text = Some(value),
                    OwnedValue::Bytes(value) => outline = Outline::decode(&value),
                    _ => {}
                }
            }
            hits.extend(text.map(|passage| Hit { id, passage, outline, score }));
        }
        Ok(hits)
    }

    /// Adds what a datum is indexed as here; `false` if it is not.
    pub(super) fn add_to(&self, indexed: &mut IndexedDatum, id: DatumId) -> Result<bool, IndexError> {
        let documents = self.documents(self.fields.id_term(id))?;
        for address in &documents {
            let address = *address;
            let columns = &self.columns[address.segment_ord as usize];
            indexed.repeated.extend(columns.repeats(address.doc_id));
            let Some(hash) = columns.hash(address.doc_id) else { continue };
            let (mut text, mut tokens) = (String::new(), 0);
            for (_, value) in self.searcher.doc::<Stored>(address)?.0 {
                match value {
                    OwnedValue::Str(value) => text = value,
                    OwnedValue::Bytes(value) => tokens = Outline::decode(&value).words.len() as u64,
                    _ => {}
                }
            }
            indexed.owned.push((hash, text, tokens));
        }
        Ok(!documents.is_empty())
    }

    /// The data that repeat a passage.
    pub(super) fn repeating(&self, hash: PassageHash) -> Result<Vec<DatumId>, IndexError> {
        let documents = self.documents(self.fields.repeats_term(hash))?;
        Ok(documents.into_iter().filter_map(|address| self.id(address)).collect())
    }

    fn documents(&self, term: Term) -> Result<HashSet<DocAddress>, IndexError> {
        Ok(self.searcher.search(&TermQuery::new(term, IndexRecordOption::Basic), &DocSetCollector)?)
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
        Ok(self.snapshot.distinct_passages)
    }

    fn doc_freq(&self, term: &Term) -> tantivy::Result<u64> {
        let text = term.value();
        let known = text.as_str().and_then(|text| self.terms.iter().find(|known| known.term == text));
        known.map_or_else(
            || Ok(self.snapshot.segments.searcher.doc_freq(term)?.min(self.snapshot.distinct_passages)),
            |known| Ok(known.frequency),
        )
    }
}

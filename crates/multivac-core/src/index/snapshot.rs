//! The index at one moment, and how it is searched: its segments, and what is not in a segment yet, as if they were one.

use std::cmp::{Ordering, Reverse};
use std::collections::HashSet;
use std::sync::Arc;
use std::thread;

use tantivy::collector::DocSetCollector;
use tantivy::query::{Bm25Weight, TermQuery};
use tantivy::schema::{IndexRecordOption, OwnedValue};
use tantivy::{DocAddress, Searcher, Term};
use tokio_util::sync::CancellationToken;

use super::checksums::on_all_processors;
use super::fresh::Fresh;
use super::kept::WhyNot;
use super::owners::{IndexedDatum, PassageHash};
use super::packed::PackedSet;
use super::passage::Hit;
use super::postings::{Indexed, Scaled, Scoring, unscaled};
use super::schema::{Columns, Fields, Stored};
use super::search::{self, Limits, Wanted};
use super::{IndexError, Outline};
use crate::datum::DatumId;
use crate::observe::metrics;

/// The index at one moment.
pub struct Snapshot {
    pub(super) segments: Arc<Segments>,
    /// What is not in a segment yet: what is being moved into one, and what came after that.
    pub(super) fresh: Vec<Arc<Fresh>>,
    /// The data whose documents in the segments do not count any more.
    pub(super) hidden: Arc<HashSet<DatumId>>,
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

/// The segments of one commit.
pub(super) struct Segments {
    pub(super) fields: Fields,
    pub(super) searcher: Searcher,
    columns: Vec<Columns>,
    /// Documents that were removed from them and not merged away yet.
    removed: u64,
}

impl Snapshot {
    /// The passages that match best by BM25 over `terms`, best first, `max` at most.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn search(&self, terms: &[&Indexed], max: usize) -> Result<Vec<Hit>, IndexError> {
        self.best(&self.weights(terms), Wanted { scoring: Scoring::Bm25, above: 0, max })
    }

    /// The same, and after these what is not among them of the `covering` passages that have most of the terms, each term counted
    /// once by its weight; of those that have as much (the first of them, where they are hundreds), the best by BM25. BM25 alone would
    /// rather have many short passages with one of two rare terms than a long one with both.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn search_widely(&self, terms: &[&Indexed], max: usize, covering: usize) -> Result<Vec<Hit>, IndexError> {
        let terms = self.weights(terms);
        let mut hits = self.best(&terms, Wanted { scoring: Scoring::Bm25, above: 0, max })?;
        let mut covered: Vec<Scaled> = hits.iter().map(|hit| hit.coverage).collect();
        covered.sort_unstable_by_key(|coverage| Reverse(*coverage));
        // What has no more than so many of the best, and is not among these, is worse by BM25.
        let Some(above) = covering.checked_sub(1).and_then(|last| covered.get(last)).copied() else {
            return Ok(hits);
        };
        if above < Scoring::Coverage.all(&terms) {
            let others = self.best(&terms, Wanted { scoring: Scoring::Coverage, above, max: covering })?;
            let is_new = |other: &Hit| hits.iter().all(|hit| hit.id != other.id || hit.passage != other.passage);
            let others: Vec<Hit> = others.into_iter().filter(is_new).collect();
            hits.extend(others);
        }
        Ok(hits)
    }

    fn weights<'a>(&self, terms: &[&'a Indexed]) -> Vec<(&'a Indexed, Bm25Weight)> {
        let known = terms.iter().filter(|term| term.frequency > 0);
        known.map(|term| (*term, self.weight(term))).collect()
    }

    fn best(&self, terms: &[(&Indexed, Bm25Weight)], wanted: Wanted) -> Result<Vec<Hit>, IndexError> {
        if self.distinct_passages == 0 || wanted.max == 0 {
            return Ok(Vec::new());
        }
        let mut hits = self.segments.search(terms, &self.hidden, wanted)?;
        hits.extend(self.fresh.iter().flat_map(|fresh| fresh.search(terms, self.generation, wanted)));
        // Where a passage is makes no difference to its place.
        hits.sort_by(|a, b| {
            let by_coverage = match wanted.scoring {
                Scoring::Bm25 => Ordering::Equal,
                Scoring::Coverage => b.coverage.cmp(&a.coverage),
            };
            by_coverage.then_with(|| b.score.total_cmp(&a.score)).then_with(|| a.id.cmp(&b.id))
        });
        hits.truncate(wanted.max);
        Ok(hits)
    }

    /// What a term counts for. Segments count what was removed from them in how often a term occurs, until they are merged; so it
    /// counts among all passages here as well, or a term would seem to be in more of them than it is.
    pub(super) fn weight(&self, term: &Indexed) -> Bm25Weight {
        let mean_length = self.tokens as f32 / self.distinct_passages as f32;
        let passages = self.distinct_passages + self.segments.removed;
        Bm25Weight::for_one_term_without_explain(term.frequency.min(passages), passages, mean_length)
    }

    /// Looks a term up.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn look_up(&self, term: &str) -> Result<Indexed, IndexError> {
        let mut indexed = Indexed::look_up(&self.segments.searcher, self.segments.term(term))?;
        indexed.frequency += self.fresh.iter().map(|fresh| fresh.frequency(term, self.generation)).sum::<u64>();
        Ok(indexed)
    }
}

impl Segments {
    pub(super) fn new(fields: Fields, searcher: Searcher) -> Result<Self, IndexError> {
        let columns = searcher.segment_readers().iter().map(Columns::open).collect::<Result<_, _>>()?;
        let removed = searcher.segment_readers().iter().map(|segment| u64::from(segment.num_deleted_docs())).sum();
        Ok(Self { fields, searcher, columns, removed })
    }

    /// All data in them, and all passages. Stopped, it ends after the segment that it is at.
    pub(super) fn read(
        &self,
        stop: &CancellationToken,
    ) -> Result<(PackedSet<DatumId>, PackedSet<PassageHash>), WhyNot> {
        let segments: Vec<_> = self.searcher.segment_readers().iter().zip(&self.columns).collect();
        let damaged = || WhyNot::Damaged("a document of it cannot be read".to_owned());
        let parts = on_all_processors(&segments, stop, &|(segment, columns), found: &mut (Vec<_>, Vec<_>)| {
            let (ids, hashes) = columns.read(segment).ok_or_else(damaged)?;
            found.0.extend(ids);
            found.1.extend(hashes);
            Ok(())
        })?;
        let (ids, hashes): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        // Each sorts by itself.
        thread::scope(|scope| {
            let hashes = thread::Builder::new().spawn_scoped(scope, || hashes.into_iter().flatten().collect());
            let hashes = hashes.map_err(|error| WhyNot::Unreadable(error.to_string()))?;
            Ok((ids.into_iter().flatten().collect(), hashes.join().map_err(|_| damaged())?))
        })
    }

    fn term(&self, term: &str) -> Term {
        Term::from_field_text(self.fields.terms, term)
    }

    /// Whose document it is.
    fn id(&self, address: DocAddress) -> Option<DatumId> {
        self.columns[address.segment_ord as usize].id(address.doc_id)
    }

    fn search(
        &self,
        terms: &[(&Indexed, Bm25Weight)],
        hidden: &HashSet<DatumId>,
        wanted: Wanted,
    ) -> Result<Vec<Hit>, IndexError> {
        let is_hidden = |address| !hidden.is_empty() && self.id(address).is_none_or(|id| hidden.contains(&id));
        let (limits, other) = match wanted.scoring {
            Scoring::Bm25 => (Limits::USUAL, Scoring::Coverage),
            Scoring::Coverage => (Limits::SECOND, Scoring::Bm25),
        };
        let found = search::best_in_segments(&self.searcher, terms, &is_hidden, wanted, limits)?;
        if !found.exact && wanted.scoring == Scoring::Bm25 {
            metrics::SEARCHES_BOUNDED.inc();
        }
        let with_id = |(score, address)| Some((score, 0, self.id(address)?, address));
        let mut best: Vec<_> = found.best.into_iter().filter_map(with_id).collect();
        // Equal ones are not in the same order in every replica's segments.
        best.sort_unstable_by_key(|(score, _, id, address)| (Reverse(*score), *id, *address));
        if wanted.scoring == Scoring::Bm25 {
            best.truncate(wanted.max);
        }
        let addresses: Vec<DocAddress> = best.iter().map(|(.., address)| *address).collect();
        let others = search::scores_in_segments(&self.searcher, terms, other, &addresses)?;
        best.iter_mut().zip(others).for_each(|(best, score)| best.1 = score);
        if wanted.scoring == Scoring::Coverage {
            best.sort_by_key(|(coverage, bm25, ..)| Reverse((*coverage, *bm25)));
            best.truncate(wanted.max);
        }
        let mut hits = Vec::with_capacity(best.len());
        for (score, other, id, address) in best {
            let (score, coverage) = if wanted.scoring == Scoring::Bm25 { (score, other) } else { (other, score) };
            let (mut text, mut outline) = (None, Outline::default());
            for (_, value) in self.searcher.doc::<Stored>(address)?.0 {
                match value {
                    OwnedValue::Str(value) => text = Some(value),
                    OwnedValue::Bytes(value) => outline = Outline::decode(&value),
                    _ => {}
                }
            }
            hits.extend(text.map(|passage| Hit { id, passage, outline, score: unscaled(score), coverage }));
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

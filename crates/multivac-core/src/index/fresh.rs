//! Passages that are not in a segment yet, in memory: a commit of tantivy's takes 5 to 10 ms however little it holds (threads,
//! files, opening them again), and nobody should wait for that.
//!
//! A passage is seen from the generation in which it came up to the one in which it went, so each snapshot goes on seeing what
//! it saw, and all that a batch changes changes at once: with the snapshot of the next generation.
//!
//! The scores are those that the same passages have in a segment: the same formula, statistics over both, and lengths that
//! are rounded in the same way.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tantivy::fieldnorm::FieldNormReader;
use tantivy::query::Bm25Weight;

use super::Outline;
use super::owners::{IndexedDatum, NewDocument, PassageHash};
use super::passage::{Hit, Passage};
use super::postings::{Indexed, Scaled, Scoring, unscaled};
use super::search::Wanted;
use crate::datum::DatumId;

/// See the [module](self). One writer, any number of readers, which keep each other waiting for some microseconds.
#[derive(Default)]
pub(super) struct Fresh {
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    /// In the order of the generations that see them first.
    documents: Vec<Document>,
    /// The length of each, as segments keep it: rounded.
    lengths: Vec<u8>,
    /// Those that some generation does not see any more, in their order.
    removed: BTreeSet<u32>,
    /// For each term, the documents that have it, and how often, in their order.
    postings: foldhash::HashMap<Box<str>, Vec<(u32, u32)>>,
    of_datum: foldhash::HashMap<DatumId, Vec<u32>>,
    /// Who repeats a passage that another owns.
    repeats: HashMap<PassageHash, Vec<u32>>,
    /// Of text, in bytes.
    size: usize,
}

/// What one datum says: a passage, or that it repeats one that is indexed under another's id.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub(super) id: DatumId,
    /// None where the datum has no passage at all.
    pub(super) hash: Option<PassageHash>,
    /// None where it is a repeat.
    pub(super) passage: Option<Passage>,
    /// How many terms it has.
    length: u32,
    /// The generation that sees it first.
    since: u64,
    /// The first generation that does not see it any more.
    until: u64,
}

impl Document {
    /// What a segment is to keep of it.
    pub(super) fn parts(&self) -> (DatumId, Option<PassageHash>, Option<&Passage>) {
        (self.id, self.hash, self.passage.as_ref())
    }
}

impl Fresh {
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many documents it holds, whoever sees them.
    pub(super) fn len(&self) -> usize {
        self.read().documents.len()
    }

    /// How many bytes of text it holds.
    pub(super) fn size(&self) -> usize {
        self.read().size
    }

    /// Adds documents that are seen from a generation on.
    pub(super) fn add(&self, documents: Vec<NewDocument>, since: u64) {
        let mut inner = self.write();
        for (id, hash, passage) in documents {
            inner.add(Document { id, hash, passage, length: 0, since, until: u64::MAX });
        }
    }

    /// What a datum is indexed as here.
    pub(super) fn add_to(&self, indexed: &mut IndexedDatum, id: DatumId) {
        let inner = self.read();
        for document in inner.of_datum.get(&id).into_iter().flatten().map(|at| &inner.documents[*at as usize]) {
            match (document.hash, &document.passage) {
                (Some(hash), Some(passage)) => {
                    indexed.owned.push((hash, passage.text.to_string(), document.length.into()));
                }
                (Some(hash), None) => indexed.repeated.push(hash),
                (None, _) => {}
            }
        }
    }

    /// From this generation on, nothing of a datum is seen.
    pub(super) fn remove(&self, id: DatumId, until: u64) {
        let inner = &mut *self.write();
        for at in inner.of_datum.remove(&id).unwrap_or_default() {
            inner.documents[at as usize].until = until;
            inner.removed.insert(at);
        }
    }

    /// The data that repeat a passage.
    pub(super) fn repeating(&self, hash: PassageHash) -> Vec<DatumId> {
        let inner = self.read();
        let all = inner.repeats.get(&hash).into_iter().flatten().map(|at| &inner.documents[*at as usize]);
        all.filter(|document| document.until == u64::MAX).map(|document| document.id).collect()
    }

    /// All that is seen now.
    pub(super) fn documents(&self) -> Vec<Document> {
        self.read().documents.iter().filter(|document| document.until == u64::MAX).cloned().collect()
    }

    /// In how many passages a term occurs.
    pub(super) fn frequency(&self, term: &str, generation: u64) -> u64 {
        let inner = self.read();
        let Some(postings) = inner.postings.get(term) else { return 0 };
        let seen = inner.seen(postings, generation);
        if inner.removed.is_empty() {
            return seen.len() as u64;
        }
        seen.iter().filter(|(at, _)| inner.documents[*at as usize].until > generation).count() as u64
    }

    /// The passages that have the highest scores by the terms, best first.
    pub(super) fn search(&self, terms: &[(&Indexed, Bm25Weight)], generation: u64, wanted: Wanted) -> Vec<Hit> {
        let Wanted { scoring, above, max } = wanted;
        let inner = self.read();
        let mut scores: Vec<Scaled> = vec![0; inner.documents.len()];
        for (term, weight) in terms {
            let postings = inner.postings.get(term.text()).map_or(&[][..], Vec::as_slice);
            for (at, occurrences) in inner.seen(postings, generation) {
                scores[*at as usize] += scoring.score(weight, inner.lengths[*at as usize], *occurrences);
            }
        }
        for at in inner.removed.iter().filter(|at| inner.documents[**at as usize].until <= generation) {
            scores[*at as usize] = 0;
        }
        let found = (0..).zip(&scores).filter(|(_, score)| **score > above).map(|(at, score)| (Reverse(*score), at));
        let mut best: Vec<(Reverse<Scaled>, u32)> = found.collect();
        if best.len() > max {
            let (_, (last, _), _) = best.select_nth_unstable(max - 1);
            let last = *last;
            best.retain(|(score, _)| *score <= last);
        }
        // Equal ones did not come in the same order to every replica.
        let by_bm25 = |at| match scoring {
            Scoring::Bm25 => 0,
            Scoring::Coverage => inner.score(terms, Scoring::Bm25, at),
        };
        best.sort_by_cached_key(|(score, at)| (*score, Reverse(by_bm25(*at)), inner.documents[*at as usize].id, *at));
        best.truncate(max);
        let hit = |(_, at): (Reverse<Scaled>, u32)| {
            let [score, coverage] = [Scoring::Bm25, Scoring::Coverage].map(|scoring| inner.score(terms, scoring, at));
            let document = &inner.documents[at as usize];
            let passage = document.passage.as_ref()?;
            let (passage, outline) = (passage.text.to_string(), Outline::clone(&passage.outline));
            Some(Hit { id: document.id, passage, outline, score: unscaled(score), coverage })
        };
        best.into_iter().filter_map(hit).collect()
    }
}

impl Inner {
    /// Those of a term's documents that a generation sees, if they were not removed.
    fn seen<'a>(&self, postings: &'a [(u32, u32)], generation: u64) -> &'a [(u32, u32)] {
        &postings[..postings.partition_point(|(at, _)| self.documents[*at as usize].since <= generation)]
    }

    /// What the terms add to the score of one document.
    fn score(&self, terms: &[(&Indexed, Bm25Weight)], scoring: Scoring, at: u32) -> Scaled {
        let of = |(term, weight): &(&Indexed, Bm25Weight)| {
            let postings = self.postings.get(term.text())?;
            let place = postings.binary_search_by_key(&at, |(at, _)| *at).ok()?;
            Some(scoring.score(weight, self.lengths[at as usize], postings[place].1))
        };
        terms.iter().filter_map(of).sum()
    }

    fn add(&mut self, mut document: Document) {
        let at = u32::try_from(self.documents.len()).expect("it is moved into segments long before");
        if let Some(passage) = &document.passage {
            self.size += passage.text.len();
            let mut frequencies: foldhash::HashMap<&str, u32> = foldhash::HashMap::default();
            for term in passage.terms() {
                document.length += 1;
                *frequencies.entry(term).or_default() += 1;
            }
            for (term, frequency) in frequencies {
                match self.postings.get_mut(term) {
                    Some(postings) => postings.push((at, frequency)),
                    None => {
                        self.postings.insert(term.into(), vec![(at, frequency)]);
                    }
                }
            }
        } else if let Some(hash) = document.hash {
            self.repeats.entry(hash).or_default().push(at);
        }
        self.of_datum.entry(document.id).or_default().push(at);
        self.lengths.push(FieldNormReader::fieldnorm_to_id(document.length));
        self.documents.push(document);
    }
}

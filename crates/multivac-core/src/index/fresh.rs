//! Passages that are not in a segment yet, in memory: a commit of tantivy's takes 5 to 10 ms however little it holds (threads,
//! files, opening them again), and nobody should wait for that.
//!
//! A passage is seen from the generation in which it came up to the one in which it went, so each snapshot goes on seeing what
//! it saw, and all that a batch changes changes at once: with the snapshot of the next generation.
//!
//! The scores are those that the same passages have in a segment: the same formula, statistics over both, and lengths that
//! are rounded in the same way.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tantivy::Score;
use tantivy::fieldnorm::FieldNormReader;
use tantivy::query::Bm25Weight;

use super::Outline;
use super::owners::{Indexed, NewDocument, PassageHash};
use super::passage::{Hit, Passage};
use crate::datum::DatumId;

/// See the [module](self). One writer, any number of readers, which keep each other waiting for some microseconds.
#[derive(Default)]
pub(super) struct Fresh {
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    documents: Vec<Document>,
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
    fn is_seen_in(&self, generation: u64) -> bool {
        self.since <= generation && generation < self.until
    }

    /// What a segment is to keep of it.
    pub(super) fn parts(&self) -> (DatumId, Option<PassageHash>, Option<&Passage>) {
        (self.id, self.hash, self.passage.as_ref())
    }

    /// As segments keep it: rounded.
    fn length_id(&self) -> u8 {
        FieldNormReader::fieldnorm_to_id(self.length)
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
    pub(super) fn add_to(&self, indexed: &mut Indexed, id: DatumId) {
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
        postings.iter().filter(|(at, _)| inner.documents[*at as usize].is_seen_in(generation)).count() as u64
    }

    /// The passages that match best by BM25 over the terms, best first, `max` at most.
    pub(super) fn search(&self, terms: &[(&str, Bm25Weight)], generation: u64, max: usize) -> Vec<Hit> {
        let inner = self.read();
        let mut scores: foldhash::HashMap<u32, Score> = foldhash::HashMap::default();
        for (term, weight) in terms {
            for (at, frequency) in inner.postings.get(*term).into_iter().flatten() {
                let document = &inner.documents[*at as usize];
                if document.is_seen_in(generation) {
                    *scores.entry(*at).or_default() += weight.score(document.length_id(), *frequency);
                }
            }
        }
        let mut best: Vec<(u32, Score)> = scores.into_iter().collect();
        let order = |a: &(u32, Score), b: &(u32, Score)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if best.len() > max {
            best.select_nth_unstable_by(max, order);
            best.truncate(max);
        }
        best.sort_unstable_by(order);
        let hit = |(at, score): (u32, Score)| {
            let document = &inner.documents[at as usize];
            let passage = document.passage.as_ref()?;
            Some(Hit {
                id: document.id,
                passage: passage.text.to_string(),
                outline: Outline::clone(&passage.outline),
                score,
            })
        };
        best.into_iter().filter_map(hit).collect()
    }
}

impl Inner {
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
        self.documents.push(document);
    }
}

//! The index at one moment, and how it is searched.

use tantivy::query::Bm25Weight;
use tantivy::schema::OwnedValue;
use tantivy::{Searcher, Term};

use super::schema::{Fields, Stored};
use super::search::{self, Indexed, Limits, unscaled};
use super::{IndexError, Outline};
use crate::datum::DatumId;

/// The index at one moment.
pub struct Snapshot {
    pub(super) fields: Fields,
    pub(super) searcher: Searcher,
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

impl Snapshot {
    /// The passages that match best by BM25 over `terms`, best first, `max` at most.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn search(&self, terms: &[&Indexed], max: usize) -> Result<Vec<Hit>, IndexError> {
        let weights: Vec<_> = terms.iter().map(|term| (*term, self.weight(term))).collect();
        let found = search::best_in_segments(&self.searcher, &weights, &|_| false, max, Limits::USUAL)?.best;
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
                hits.push(Hit { id, passage, outline, score: unscaled(score) });
            }
        }
        // Which segment a passage is in makes no difference to its place.
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        Ok(hits)
    }

    /// What a term counts for. The statistics are those of all passages that are searched.
    pub(super) fn weight(&self, term: &Indexed) -> Bm25Weight {
        let passages = self.searcher.segment_readers().iter().map(|segment| u64::from(segment.max_doc())).sum::<u64>();
        let mean_length = self.tokens as f32 / passages.max(1) as f32;
        Bm25Weight::for_one_term_without_explain(term.frequency, passages, mean_length)
    }

    /// Looks a term up.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn look_up(&self, term: &str) -> Result<Indexed, IndexError> {
        let term = Term::from_field_text(self.fields.passage, term);
        Indexed::look_up(&self.searcher, term)
    }
}

//! The index at one moment, and how it is searched.

use tantivy::collector::TopDocs;
use tantivy::query::{Bm25StatisticsProvider, BooleanQuery, Occur, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, OwnedValue};
use tantivy::{Searcher, Term};

use super::schema::{Fields, Stored};
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

//! A question to its candidates: the sentences that may answer it, each with its features.

use std::ops::Range;

use super::coverage::Coverage;
use super::features::{self, Candidate};
use super::matching::{MatchCache, MatchedPassage};
use super::question::ParsedQuestion;
use crate::index::{Hit, IndexError, Snapshot};

/// Passages that are searched for one question. With 24, F1 was the same within 0.1 points, and a question took a tenth more time.
const MAX_PASSAGES: usize = 16;

/// Passages that have most of the question, which are searched as well: most often they are among those. With 4, one question of a
/// thousand that was answered rightly was not any more.
const COVERING_PASSAGES: usize = 2;

/// Sentences of them whose features are computed: those that, with their passage and neighbours, hold most of the question.
/// With 24, F1 was no better (the difference was within its noise), and a question took a tenth more time.
const MAX_SENTENCES: usize = 16;

/// The candidates for one question, and the passages that they are in.
pub(super) struct Candidates {
    /// The passages, best first by BM25, then those that have more of the question.
    pub(super) hits: Vec<Hit>,
    /// The sentences, those first that hold most of the question.
    pub(super) found: Vec<Candidate>,
    /// For each passage, where the words lie that met the question's terms.
    met_words: Vec<Vec<Range<usize>>>,
}

impl Candidates {
    pub(super) fn new(question: &ParsedQuestion, index: &Snapshot) -> Result<Self, IndexError> {
        let terms: Vec<_> = question.terms.iter().map(|term| &term.indexed).collect();
        let hits = index.search_widely(&terms, MAX_PASSAGES, COVERING_PASSAGES)?;
        let mut cache = MatchCache::new(question);
        let passages: Vec<MatchedPassage<'_>> = hits.iter().map(|hit| cache.match_passage(hit)).collect();
        let coverages: Vec<Coverage<'_>> = passages.iter().map(|passage| Coverage::new(&cache, passage)).collect();
        let mut sentences = Vec::new();
        for (at, passage) in passages.iter().enumerate() {
            // A sentence that is a question itself repeats the words of one, and answers none.
            let states = |part: &usize| passage.parts[*part].states;
            let scored = |part: usize| (coverages[at].selection_score(question, part), at, part);
            sentences.extend((0..passage.parts.len()).filter(states).map(scored));
        }
        sentences.sort_by(|a, b| b.0.total_cmp(&a.0));
        let best = sentences.iter().take(MAX_SENTENCES).map(|(_, passage, part)| (*passage, *part));
        let mut found = features::candidates(&cache, &hits, &passages, &coverages, best);
        features::compare(&mut found);
        let met_words = hits.iter().zip(&passages).map(|(hit, passage)| cache.met_words(hit, passage)).collect();
        drop(cache);
        Ok(Self { found, hits, met_words })
    }

    /// The words of a candidate's passage, as they stand in it, that met the question's terms.
    pub(super) fn matched(&self, candidate: &Candidate) -> Vec<String> {
        let passage = &self.hits[candidate.passage].passage;
        self.met_words[candidate.passage].iter().map(|bytes| passage[bytes.clone()].to_owned()).collect()
    }

    /// A candidate's text, word for word, with each run of white space replaced by one space.
    pub(super) fn text(&self, candidate: &Candidate) -> String {
        let hit = &self.hits[candidate.passage];
        let bytes = hit.outline.parts[candidate.part].bytes.clone();
        hit.passage[bytes].split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

//! A question to the sentences worth a look, each with what speaks for it.

use super::features::{self, Coverage, Features, asks};
use super::matching::{MatchCache, MatchedPassage};
use super::question::ParsedQuestion;
use crate::index::{Hit, IndexError, Snapshot};

/// Passages looked at for one question. With 30, one more question of 1,000 was answered right, at a seventh more time.
const PASSAGES: usize = 24;

/// Sentences of them that are weighed closely: those that, with their passage and neighbours, hold most of the question.
/// With more, the right one was among them for 1 of 100 questions more, and hardly ever chosen.
const CLOSELY: usize = 24;

/// The passages that match best by their words, read with the question in mind.
pub(super) struct Candidates {
    /// The passages, best first by BM25.
    pub(super) hits: Vec<Hit>,
    /// What was read in each.
    pub(super) readings: Vec<MatchedPassage>,
    /// The sentences that are worth it, those that hold most of the question first.
    pub(super) found: Vec<Candidate>,
}

/// One sentence, or a clause of a long one.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// Which of the passages.
    pub(super) passage: usize,
    /// Which part of it.
    pub(super) part: usize,
    pub(super) features: Features,
    /// Which terms are held, in each of the ways of [`expectations`](super::expected).
    pub(super) held: Vec<u8>,
}

impl Candidates {
    pub(super) fn new(asked: &ParsedQuestion, index: &Snapshot) -> Result<Self, IndexError> {
        let terms: Vec<_> = asked.terms.iter().map(|term| &term.indexed).collect();
        let hits = index.search(&terms, PASSAGES)?;
        let mut met = MatchCache::new(asked);
        let readings: Vec<MatchedPassage> = hits.iter().map(|hit| met.read(hit)).collect();
        let covers: Vec<Coverage> = readings.iter().map(|reading| Coverage::of(&met, reading)).collect();
        let mut parts = Vec::new();
        for (passage, (hit, reading)) in hits.iter().zip(&readings).enumerate() {
            // A sentence that asks repeats the words of a question, and answers none.
            let says = |part: &usize| !asks(&hit.passage[reading.parts[*part].bytes.clone()]);
            let holds = |part: usize| (covers[passage].holds(asked, part), passage, part);
            parts.extend((0..reading.parts.len()).filter(says).map(holds));
        }
        parts.sort_by(|a, b| b.0.total_cmp(&a.0));
        let closely = parts.iter().take(CLOSELY).map(|(_, passage, part)| (*passage, *part));
        let mut found = features::of(&met, &hits, &readings, &covers, closely);
        features::compare(&mut found);
        drop(met);
        Ok(Self { found, hits, readings })
    }

    /// A candidate's text, word for word with its spaces made single.
    pub(super) fn text(&self, candidate: &Candidate) -> String {
        let bytes = self.readings[candidate.passage].parts[candidate.part].bytes.clone();
        self.hits[candidate.passage].passage[bytes].split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

//! How much of the question a passage and each of its sentences hold.

use super::matching::{MatchCache, MatchedPassage, SIMILARITIES};
use super::question::ParsedQuestion;
use crate::index::Part;

/// From which similarity by spelling on a term counts as held, and from which by sense; see [`Coverage::held`].
const HELD_BY_SPELLING: f32 = 0.6;
const HELD_BY_SENSE: f32 = 0.35;

/// How similar the words of a passage, and of each part of it, come to each term of the question, from 0 to 1.
pub(super) struct Coverage<'a> {
    terms: usize,
    parts: &'a [Part],
    /// A row for the passage, then one for each part: all terms by the first of the [`SIMILARITIES`], then by the next.
    rows: Vec<f32>,
}

/// A row of [`Coverage`]: the similarity of each term to the most similar word.
#[derive(Clone, Copy)]
pub(super) struct CoverageRow<'a> {
    pub(super) exact: &'a [f32],
    pub(super) spelling: &'a [f32],
    pub(super) meaning: &'a [f32],
    pub(super) sense: &'a [f32],
}

impl<'a> Coverage<'a> {
    pub(super) fn new(cache: &MatchCache<'_>, passage: &MatchedPassage<'a>) -> Self {
        let terms = cache.question.terms.len();
        let mut rows = vec![0.0; SIMILARITIES * terms * (1 + passage.parts.len())];
        let words = std::iter::once(&passage.words[..])
            .chain(passage.parts.iter().map(|part| &passage.words[part.words.clone()]));
        for (row, words) in rows.chunks_exact_mut((SIMILARITIES * terms).max(1)).zip(words) {
            for word in words {
                for (best, similarity) in row.iter_mut().zip(cache.similarities(*word)) {
                    *best = if *similarity > *best { *similarity } else { *best };
                }
            }
        }
        let mut coverage = Self { terms, parts: passage.parts, rows };
        (0..passage.parts.len()).for_each(|part| coverage.read_with(part, antecedent(cache, passage, part)));
        coverage
    }

    /// Counts what another part holds as held by a part too.
    fn read_with(&mut self, part: usize, other: Option<usize>) {
        let Some(other) = other else { return };
        let width = SIMILARITIES * self.terms;
        for at in 0..width {
            let held = self.rows[(1 + other) * width + at];
            let own = &mut self.rows[(1 + part) * width + at];
            *own = own.max(held);
        }
    }

    fn row(&self, row: usize) -> CoverageRow<'_> {
        let by = |similarity: usize| &self.rows[(row * SIMILARITIES + similarity) * self.terms..][..self.terms];
        CoverageRow { exact: by(0), spelling: by(1), meaning: by(2), sense: by(3) }
    }

    pub(super) fn passage(&self) -> CoverageRow<'_> {
        self.row(0)
    }

    pub(super) fn part(&self, part: usize) -> CoverageRow<'_> {
        self.row(1 + part)
    }

    /// A part and what it is to be read with: its lead, and those beside it, unless it or they are records of their own.
    fn neighbours(&self, part: usize) -> impl Iterator<Item = CoverageRow<'_>> + Clone {
        let (parts, lead) = (self.parts, self.parts[part].lead);
        let beside = (part.saturating_sub(1)..parts.len().min(part + 2))
            .filter(move |&at| at == part || Some(at) != lead && !parts[part].line && !parts[at].line);
        beside.chain(lead).map(|part| self.part(part))
    }

    /// For each term, the best similarity by spelling in a part and those beside it.
    pub(super) fn around(&self, part: usize) -> impl Iterator<Item = f32> + Clone {
        let neighbours = self.neighbours(part);
        (0..self.terms).map(move |term| neighbours.clone().map(|row| row.spelling[term]).fold(0.0, f32::max))
    }

    /// For each term, the best similarity by meaning in a part and what it is to be read with.
    pub(super) fn meaning_around(&self, part: usize) -> impl Iterator<Item = f32> + Clone {
        let neighbours = self.neighbours(part);
        (0..self.terms).map(move |term| neighbours.clone().map(|row| row.meaning[term]).fold(0.0, f32::max))
    }

    /// For each term, whether a part or what it is to be read with holds the same term: 1 or 0.
    pub(super) fn exact_around(&self, part: usize) -> impl Iterator<Item = f32> + Clone {
        let neighbours = self.neighbours(part);
        (0..self.terms).map(move |term| neighbours.clone().map(|row| row.exact[term]).fold(0.0, f32::max))
    }

    /// How much of the question a part holds, with its passage and its neighbours: what candidates are selected by.
    pub(super) fn selection_score(&self, question: &ParsedQuestion, part: usize) -> f32 {
        let by_sense = |row: CoverageRow<'_>| share(question, row.sense.iter().copied());
        by_sense(self.part(part)) + by_sense(self.passage()) + share(question, self.around(part))
    }

    /// For each term a bit for each of the [`WAYS_TO_HOLD`](super::table::WAYS_TO_HOLD) in which a part holds it.
    pub(super) fn held(&self, part: usize) -> Vec<u8> {
        let (spelled, meant) = (|value: f32| value >= HELD_BY_SPELLING, |value: f32| value >= HELD_BY_SENSE);
        let (own, passage) = (self.part(part), self.passage());
        let held = |term: usize| {
            let ways = [
                spelled(own.spelling[term]),
                spelled(passage.spelling[term]),
                spelled(own.spelling[term]) || self.neighbours(part).any(|row| row.sense[term] >= HELD_BY_SPELLING),
                meant(own.sense[term]),
                meant(passage.sense[term]),
            ];
            ways.into_iter().rev().fold(0, |bits, way| bits << 1 | u8::from(way))
        };
        (0..self.terms).map(held).collect()
    }
}

/// The part that names what another is about: its lead (a heading, a table's head), or the sentence before one that begins with
/// a word that refers back ("It arrives at noon.").
fn antecedent(cache: &MatchCache<'_>, passage: &MatchedPassage<'_>, part: usize) -> Option<usize> {
    let own = &passage.parts[part];
    let first = passage.words[own.words.clone()].first();
    let refers_back =
        || !own.line && !own.cut && first.is_some_and(|word| cache.word(*word).lexeme.classes.points_back);
    own.lead.or_else(|| part.checked_sub(1).filter(|_| refers_back()))
}

impl CoverageRow<'_> {
    /// The share of the question that it and another hold together, by spelling.
    pub(super) fn share_with(self, other: Self, question: &ParsedQuestion) -> f32 {
        share(question, self.spelling.iter().zip(other.spelling).map(|(a, b)| a.max(*b)))
    }

    /// How many terms have no similar word.
    pub(super) fn missed(self) -> f32 {
        self.sense.iter().filter(|sense| **sense < 0.5).count() as f32
    }
}

/// The share of the question that is held, by weight; `held` has a value from 0 to 1 for each term.
pub(super) fn share(question: &ParsedQuestion, held: impl Iterator<Item = f32>) -> f32 {
    question.terms.iter().zip(held).map(|(term, held)| term.weight * held).sum::<f32>() / question.total
}

/// The share of the weightiest term that is not held.
pub(super) fn largest_gap(question: &ParsedQuestion, held: impl Iterator<Item = f32>) -> f32 {
    let missing = question.terms.iter().zip(held).map(|(term, held)| term.weight * (1.0 - held));
    missing.fold(0.0, f32::max) / question.total
}

/// The share of the second weightiest term that is not held.
pub(super) fn second_gap(question: &ParsedQuestion, held: impl Iterator<Item = f32>) -> f32 {
    let missing = question.terms.iter().zip(held).map(|(term, held)| term.weight * (1.0 - held));
    let (_, second) =
        missing.fold(
            (0.0_f32, 0.0_f32),
            |(first, second), gap| {
                if gap > first { (gap, first) } else { (first, second.max(gap)) }
            },
        );
    second / question.total
}

/// The share of some of the terms that is held, or -1 if there are none of them.
pub(super) fn share_of(question: &ParsedQuestion, held: &[f32], which: impl Fn(usize) -> bool) -> f32 {
    let (mut sum, mut all) = (0.0, 0.0);
    for (i, (term, held)) in question.terms.iter().zip(held).enumerate() {
        if which(i) {
            sum += term.weight * held;
            all += term.weight;
        }
    }
    if all > 0.0 { sum / all } else { -1.0 }
}

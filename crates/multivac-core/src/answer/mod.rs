//! Link 6: (question, index) to an [`Answer`], or to none.
//!
//! Candidates are found by their words, each sentence of them is weighed, and the best is given if it is likely enough
//! to be right. Nothing is stored: new, better and retracted data correct an answer by themselves.

mod candidates;
mod corroboration;
mod expected;
mod features;
mod lexicon;
mod matching;
mod model;
mod question;
mod standing;
mod vectors;

use std::collections::BTreeMap;

use serde::Serialize;

pub use corroboration::Stance;
pub use expected::TermFeatures;
pub use features::Features;
pub use model::{fitted_threshold, threshold_for};
pub use question::MAX_TERMS;
pub use standing::StandingAnswer;

use crate::datum::DatumId;
use crate::index::{IndexError, Snapshot};
use crate::question::Question;
use candidates::{Candidate, Candidates};
use corroboration::Statement;
use model::Choice;
use question::ParsedQuestion;

/// What is said when the data do not carry an answer.
pub const INSUFFICIENT_DATA: &str = "INSUFFICIENT DATA FOR MEANINGFUL ANSWER.";

/// Pieces of evidence shown at most.
const MAX_EVIDENCE: usize = 10;

/// Whether the data carry an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// They do.
    Answered,
    /// They do not.
    InsufficientData,
}

/// What MultiVAC replies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The question, as it was asked.
    pub question: String,
    /// Whether it could be answered.
    pub status: Status,
    /// A sentence out of the data, word for word (a clause, where the sentence is over 300 characters).
    pub answer: Option<String>,
    /// How likely the best sentence is to be right, from 0 to 1.
    pub confidence: f64,
    /// What it rests on, or what came nearest; best first, ten at most.
    pub evidence: Vec<Evidence>,
    /// Where there is no answer: the question's words that no datum holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<String>>,
    /// How many data were looked at.
    pub learned: u64,
}

/// A passage that speaks to the question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evidence {
    /// The datum it is out of.
    pub id: DatumId,
    /// The passage.
    pub passage: String,
    /// How likely its best sentence is to be right, from 0 to 1.
    pub score: f64,
    /// How it stands to the answer, where it speaks of the same and is another voice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stance: Option<Stance>,
    /// What the score rests on most; see [`Features`] for what each means.
    pub features: BTreeMap<&'static str, f32>,
}

impl Answer {
    /// The answer as text: the sentence, or [`INSUFFICIENT_DATA`].
    #[must_use]
    pub fn text(&self) -> &str {
        self.answer.as_deref().unwrap_or(INSUFFICIENT_DATA)
    }
}

/// Answers a question from the index, or abstains below `min_confidence`. Takes processor time, not I/O.
///
/// # Errors
/// When the index cannot be read.
pub fn answer(question: &Question, index: &Snapshot, min_confidence: f64) -> Result<Answer, IndexError> {
    let asked = ParsedQuestion::new(question, index)?;
    let candidates = Candidates::new(&asked, index)?;
    let found = &candidates.found;
    let sums = rank(found);
    // The best sentence of each passage.
    let mut best: Vec<Option<usize>> = vec![None; candidates.hits.len()];
    for (at, (passage, sum)) in sums.iter().enumerate() {
        let best = &mut best[*passage];
        if best.is_none_or(|other| *sum > sums[other].1) {
            *best = Some(at);
        }
    }
    let mut best: Vec<usize> = best.into_iter().flatten().collect();
    // Equal ones stay in the order of their words' weight, so the same index gives the same answer.
    best.sort_by(|a, b| sums[*b].1.total_cmp(&sums[*a].1));
    let mut stances = stances(&asked, &candidates, &best);
    show_contradictions(&mut best, &mut stances);
    let shown = best.iter().take(MAX_EVIDENCE);
    let scores = model::confidences(shown.map(|at| (&found[*at].features, Choice::new(*at, &sums))));
    let confidence = round(corroborated(found, &best, &stances, &scores));
    let answer = best.first().filter(|_| confidence >= min_confidence).map(|best| candidates.text(&found[*best]));
    // No piece of evidence counts for more than one before it.
    let mut most = confidence;
    let evidence = best.iter().zip(stances).zip(&scores).enumerate().map(|(place, ((at, stance), score))| {
        let features = &found[*at].features;
        if place > 0 {
            most = most.min(round(*score));
        }
        let hit = &candidates.hits[found[*at].passage];
        Evidence { id: hit.id, passage: hit.passage.clone(), score: most, stance, features: features.main() }
    });
    let absent = asked.terms.iter().filter(|term| term.absent);
    let missing = answer.is_none().then(|| absent.map(|term| term.lexeme.lower.clone()).collect());
    Ok(Answer {
        question: question.as_str().to_owned(),
        status: if answer.is_some() { Status::Answered } else { Status::InsufficientData },
        answer,
        confidence,
        evidence: evidence.collect(),
        missing,
        learned: index.learned,
    })
}

/// The rank sum of each candidate, beside its passage.
fn rank(found: &[Candidate]) -> Vec<(usize, f32)> {
    let sums = model::rank(found.iter().map(|candidate| &candidate.features));
    found.iter().map(|candidate| candidate.passage).zip(sums).collect()
}

/// How each of the best sentences stands to the first.
fn stances(asked: &ParsedQuestion, candidates: &Candidates, best: &[usize]) -> Vec<Option<Stance>> {
    let Some((first, others)) = best.split_first() else { return Vec::new() };
    let found = &candidates.found;
    let statement = |at: &usize| Statement::new(asked, &candidates.text(&found[*at]), &found[*at].features);
    let speaks = |at: &usize| corroboration::speaks_to(&found[*first].features, &found[*at].features);
    let others: Vec<Option<Statement>> = others.iter().map(|at| speaks(at).then(|| statement(at))).collect();
    if others.iter().all(Option::is_none) {
        return vec![None; best.len()];
    }
    let others = corroboration::stances(&statement(first), &others, asked.kind);
    std::iter::once(None).chain(others).collect()
}

/// How likely the first of the best sentences is to be right, beside what others say to it.
///
/// A sentence is trusted by how it stands out among the others. Those that say the same are no rivals: each is weighed
/// as if the others of them were not there, and the best of them speaks for all.
fn corroborated(found: &[Candidate], best: &[usize], stances: &[Option<Stance>], scores: &[f64]) -> f64 {
    let (Some(first), Some(score)) = (best.first(), scores.first()) else { return 0.0 };
    let of = |stance| best.iter().zip(stances).filter(move |(_, s)| **s == Some(stance)).map(|(at, _)| *at);
    let agreeing: Vec<usize> = of(Stance::Agrees).collect();
    let confidence = if agreeing.is_empty() {
        *score
    } else {
        let all: Vec<usize> = std::iter::once(*first).chain(agreeing.iter().copied()).collect();
        let least = |of: fn(&Features) -> f32| all.iter().map(|at| of(&found[*at].features)).fold(f32::MAX, f32::min);
        let (first_rank, share) = (least(|f| f.passage_rank), -least(|f| -f.passage_bm25_share));
        let alone = |at: &usize| {
            let own = found[*at].passage;
            let same = |passage: usize| passage != own && all.iter().any(|at| found[*at].passage == passage);
            let mut found: Vec<Candidate> = found.iter().filter(|other| !same(other.passage)).cloned().collect();
            for candidate in found.iter_mut().filter(|candidate| candidate.passage == own) {
                candidate.features.passage_rank = first_rank;
                candidate.features.passage_bm25_share = share;
            }
            features::compare(&mut found);
            let sums = rank(&found);
            let best = (0..found.len())
                .filter(|at| found[*at].passage == own)
                .max_by(|a, b| sums[*a].1.total_cmp(&sums[*b].1));
            let choice = best.map(|best| (&found[best].features, Choice::new(best, &sums)));
            model::confidences(choice.into_iter()).first().copied().unwrap_or(0.0)
        };
        all.iter().map(alone).fold(0.0, f64::max)
    };
    corroboration::corroborated(confidence, agreeing.len(), of(Stance::Contradicts).count())
}

/// What contradicts is shown, even where ten others are better evidence.
fn show_contradictions(best: &mut [usize], stances: &mut [Option<Stance>]) {
    let shown = best.len().min(MAX_EVIDENCE);
    let contradicts = |at: &usize| stances[*at] == Some(Stance::Contradicts);
    let hidden = (shown..best.len()).filter(contradicts);
    let places = (1..shown).rev().filter(|at| !contradicts(at));
    let swaps: Vec<(usize, usize)> = hidden.zip(places).collect();
    for (hidden, place) in swaps {
        best.swap(hidden, place);
        stances.swap(hidden, place);
    }
}

/// What `fit.py` learns from: a question's terms, and the sentences that were looked at closely.
pub struct Weighed {
    /// What is known of the question's terms.
    pub terms: Vec<TermFeatures>,
    /// The sentences.
    pub sentences: Vec<WeighedSentence>,
}

/// A sentence with what speaks for it.
pub struct WeighedSentence {
    /// The datum it is out of.
    pub id: DatumId,
    /// Its text.
    pub text: String,
    /// What speaks for it.
    pub features: Features,
    /// Which of the terms it holds, a bit for each way of holding one.
    pub held: Vec<u8>,
}

/// A question's terms and sentences, with all that speaks for them.
///
/// # Errors
/// When the index cannot be read.
pub fn weigh(question: &Question, index: &Snapshot) -> Result<Weighed, IndexError> {
    let asked = ParsedQuestion::new(question, index)?;
    let candidates = Candidates::new(&asked, index)?;
    let sentence = |found: &Candidate| WeighedSentence {
        id: candidates.hits[found.passage].id,
        text: candidates.text(found),
        features: found.features,
        held: found.held.clone(),
    };
    Ok(Weighed { terms: expected::terms(&asked), sentences: candidates.found.iter().map(sentence).collect() })
}

/// To four places: more would pretend.
fn round(confidence: f64) -> f64 {
    (confidence * 10_000.0).round() / 10_000.0
}

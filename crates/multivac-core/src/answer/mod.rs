//! Link 6: (question, index) to an [`Answer`], or to an abstention.
//!
//! Passages are found by their words, the features of each of their sentences are computed, and the best sentence is the
//! answer if it is likely enough to be right. Nothing is stored: data that are new, better or retracted change an answer by
//! themselves.
//!
//! In the order of reading: `question`, `candidates`, `matching`, `coverage`, `features`, `requirements`, `expected`, `model`,
//! `corroboration`; below them `table` (the features' names and values), `forest` (the trees), `lexicon` and `vectors` (what
//! is known of words). `standing` keeps the answer to one question, `watched` those that somebody follows, and
//! what changed them; `training` is what `fit.py` learns from. `calibration` is
//! what confidence means for an operator's own data, `recalibration` finds that out, by questions with `gold` answers.

mod calibration;
mod candidates;
mod corroboration;
mod coverage;
mod expected;
mod features;
mod forest;
mod gold;
mod language;
mod lexicon;
mod matching;
mod model;
mod question;
mod recalibration;
mod requirements;
mod standing;
mod table;
mod training;
mod vectors;
mod watched;

use std::collections::BTreeMap;

use serde::Serialize;

pub use calibration::{Calibration, CalibrationError};
pub use corroboration::Stance;
pub use gold::GoldAnswers;
pub use model::{fitted_threshold, threshold_for};
pub use question::MAX_TERMS;
pub use recalibration::{Judged, Recalibration, Reliability, Tenth, TooFew, Triggering, Way, recalibrate};
pub use standing::StandingAnswer;
pub use table::{Features, TermFeatures};
pub use training::{TrainingCandidate, TrainingQuestion, training_question};
pub use watched::{AnswerChange, ChangeId, TooManyWatched, WatchedAnswer, WatchedAnswers, Watcher};

use crate::datum::DatumId;
use crate::index::{IndexError, Snapshot};
use crate::question::Question;
use candidates::Candidates;
use corroboration::Statement;
use features::Candidate;
use model::Choice;
use question::ParsedQuestion;

/// What is said when the data do not contain an answer.
pub const INSUFFICIENT_DATA: &str = "INSUFFICIENT DATA FOR MEANINGFUL ANSWER.";

/// Pieces of evidence that are shown at most.
const MAX_EVIDENCE: usize = 10;

/// Whether the data contain an answer.
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
    /// A sentence from the data, word for word (a clause, where the sentence is over 300 characters).
    pub answer: Option<String>,
    /// The probability that the best sentence is right, from 0 to 1.
    pub confidence: f64,
    /// The confidence from which on there is an answer, from 0 to 1.
    pub threshold: f64,
    /// What the answer rests on, or what came nearest to one; best first, ten at most.
    pub evidence: Vec<Evidence>,
    /// Where there is no answer: the question's words that no datum contains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<String>>,
    /// How many data were searched.
    pub learned: u64,
}

/// A passage that is about the question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evidence {
    /// The datum it is from.
    pub id: DatumId,
    /// The passage.
    pub passage: String,
    /// Its words, as they stand in it, that met the question's terms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matched: Vec<String>,
    /// The probability that its best sentence is right, from 0 to 1.
    pub score: f64,
    /// How it relates to the answer, where it is on the same subject and independent of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stance: Option<Stance>,
    /// The main features behind the score; see [`Features`] for what each means.
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
    answer_calibrated(question, index, &min_confidence.into())
}

/// The same with a confidence that means what an operator's own questions have shown.
///
/// # Errors
/// When the index cannot be read.
pub fn answer_calibrated(
    question: &Question,
    index: &Snapshot,
    calibration: &Calibration,
) -> Result<Answer, IndexError> {
    let parsed = ParsedQuestion::new(question, index)?;
    let candidates = Candidates::new(&parsed, index)?;
    let found = &candidates.found;
    let ranked = rank(found);
    let mut best = best_of_each_passage(&ranked, candidates.hits.len());
    let mut stances = stances(&parsed, &candidates, &best);
    show_contradictions(&mut best, &mut stances);
    let shown = best.iter().take(MAX_EVIDENCE);
    let scores = model::confidences(shown.map(|at| (&found[*at].features, Choice::new(*at, &ranked))));
    let calibrated = |score: f64| round(calibration.confidence(score));
    // What was not found is not right, whatever the curve says of a low confidence.
    let confidence = match best.first() {
        // A veto stays one, however many data say the same.
        Some(best_one) => {
            let confidence = corroborated(found, &best, &stances, &scores);
            calibrated(requirements::left_of(confidence, &found[*best_one].features))
        }
        None => 0.0,
    };
    let answer =
        best.first().filter(|_| confidence >= calibration.min_confidence).map(|best| candidates.text(&found[*best]));
    // The score of the first is the confidence, and no other may be above one that is better ranked.
    let mut score = confidence;
    let evidence = best.iter().zip(stances).zip(&scores).enumerate().map(|(place, ((at, stance), own))| {
        let candidate = &found[*at];
        let features = &candidate.features;
        if place > 0 {
            score = score.min(calibrated(requirements::left_of(*own, features)));
        }
        let hit = &candidates.hits[candidate.passage];
        let matched = candidates.matched(candidate);
        Evidence { id: hit.id, passage: hit.passage.clone(), matched, score, stance, features: features.main() }
    });
    let absent = parsed.terms.iter().filter(|term| term.absent);
    let missing = answer.is_none().then(|| absent.map(|term| term.lexeme.lower.clone()).collect());
    Ok(Answer {
        question: question.as_str().to_owned(),
        status: if answer.is_some() { Status::Answered } else { Status::InsufficientData },
        answer,
        confidence,
        threshold: calibration.min_confidence,
        evidence: evidence.collect(),
        missing,
        learned: index.learned,
    })
}

/// The passage of each candidate, and its rank sum.
fn rank(found: &[Candidate]) -> Vec<(usize, f32)> {
    let sums = model::rank_sums(found.iter().map(|candidate| &candidate.features));
    found.iter().map(|candidate| candidate.passage).zip(sums).collect()
}

/// The candidate with the highest rank sum in each passage, highest first.
fn best_of_each_passage(ranked: &[(usize, f32)], passages: usize) -> Vec<usize> {
    let mut best: Vec<Option<usize>> = vec![None; passages];
    for (at, (passage, sum)) in ranked.iter().enumerate() {
        let best = &mut best[*passage];
        if best.is_none_or(|other| *sum > ranked[other].1) {
            *best = Some(at);
        }
    }
    let mut best: Vec<usize> = best.into_iter().flatten().collect();
    // The sort is stable: equal ones stay in the order of BM25, so the same index gives the same answer.
    best.sort_by(|a, b| ranked[*b].1.total_cmp(&ranked[*a].1));
    best
}

/// How each of the best candidates relates to the first.
fn stances(question: &ParsedQuestion, candidates: &Candidates, best: &[usize]) -> Vec<Option<Stance>> {
    let Some((first, others)) = best.split_first() else { return Vec::new() };
    let found = &candidates.found;
    let statement = |at: &usize| Statement::new(question, &candidates.text(&found[*at]), &found[*at].features);
    let related = |at: &usize| corroboration::same_subject(&found[*first].features, &found[*at].features);
    let others: Vec<Option<Statement>> = others.iter().map(|at| related(at).then(|| statement(at))).collect();
    if others.iter().all(Option::is_none) {
        return vec![None; best.len()];
    }
    let others = corroboration::stances(&statement(first), &others, question.kind);
    std::iter::once(None).chain(others).collect()
}

/// The confidence in the first of the best candidates, given what the others say about it.
///
/// A candidate's confidence depends on how far it is above the others. Those that agree with it are no rivals: confidence is
/// computed for each of them as if the rest of them did not exist, and the highest counts for all.
fn corroborated(found: &[Candidate], best: &[usize], stances: &[Option<Stance>], scores: &[f64]) -> f64 {
    let (Some(first), Some(score)) = (best.first(), scores.first()) else { return 0.0 };
    let of = |stance| best.iter().zip(stances).filter(move |(_, s)| **s == Some(stance)).map(|(at, _)| *at);
    let agreeing: Vec<usize> = of(Stance::Agrees).collect();
    let confidence = if agreeing.is_empty() {
        *score
    } else {
        let all: Vec<usize> = std::iter::once(*first).chain(agreeing.iter().copied()).collect();
        let least = |of: fn(&Features) -> f32| all.iter().map(|at| of(&found[*at].features)).fold(f32::MAX, f32::min);
        let (best_rank, best_share) = (least(|f| f.passage_rank), -least(|f| -f.passage_bm25_share));
        let alone = |at: &usize| {
            let own = found[*at].passage;
            let agrees = |passage: usize| passage != own && all.iter().any(|at| found[*at].passage == passage);
            let mut found: Vec<Candidate> = found.iter().filter(|other| !agrees(other.passage)).cloned().collect();
            for candidate in found.iter_mut().filter(|candidate| candidate.passage == own) {
                candidate.features.passage_rank = best_rank;
                candidate.features.passage_bm25_share = best_share;
            }
            features::compare(&mut found);
            let ranked = rank(&found);
            let best = (0..found.len())
                .filter(|at| found[*at].passage == own)
                .max_by(|a, b| ranked[*a].1.total_cmp(&ranked[*b].1));
            let choice = best.map(|best| (&found[best].features, Choice::new(best, &ranked)));
            model::confidences(choice.into_iter()).first().copied().unwrap_or(0.0)
        };
        all.iter().map(alone).fold(0.0, f64::max)
    };
    corroboration::corroborated(confidence, agreeing.len(), of(Stance::Contradicts).count())
}

/// Moves what contradicts among the evidence that is shown, even where ten others are better.
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

/// To four places: more would pretend to a precision that the curve does not have.
fn round(confidence: f64) -> f64 {
    (confidence * 10_000.0).round() / 10_000.0
}

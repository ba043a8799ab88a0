//! Link 6: (question, index) to an [`Answer`], or to none.
//!
//! Candidates are found by their words, each sentence of them is weighed, and the best is given if it is likely enough
//! to be right. Nothing is stored: new, better and retracted data correct an answer by themselves.

mod asked;
mod candidates;
mod features;
mod lexicon;
mod model;
mod reading;
mod standing;
mod vectors;

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::Serializer;

pub use features::Features;
pub use model::{fitted_threshold, threshold_for};
pub use standing::Standing;

use crate::datum::DatumId;
use crate::index::{IndexError, Snapshot};
use crate::question::Question;
use asked::Asked;
use candidates::{Candidate, Candidates};
use model::Choice;

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
    #[serde(serialize_with = "as_text")]
    pub id: DatumId,
    /// The passage.
    pub passage: String,
    /// How likely its best sentence is to be right, from 0 to 1.
    pub score: f64,
    /// What the score rests on most; see [`Features`] for what each means.
    pub features: BTreeMap<&'static str, f32>,
}

fn as_text<S: Serializer>(id: &DatumId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
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
    let asked = Asked::new(question, index)?;
    let candidates = Candidates::new(&asked, index)?;
    let found = &candidates.found;
    let sums = model::rank(found.iter().map(|found| &found.features));
    let sums: Vec<(usize, f32)> = found.iter().map(|found| found.passage).zip(sums).collect();
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
    let trust = |at: &usize| model::confidence(&found[*at].features, Choice::new(*at, &sums));
    let confidence = best.first().map_or(0.0, |best| round(trust(best)));
    let answer = best.first().filter(|_| confidence >= min_confidence).map(|best| candidates.text(&found[*best]));
    // No piece of evidence counts for more than one before it.
    let mut most = confidence;
    let evidence = best.iter().take(MAX_EVIDENCE).map(|at| {
        most = most.min(round(trust(at)));
        let hit = &candidates.hits[found[*at].passage];
        Evidence { id: hit.id, passage: hit.passage.clone(), score: most, features: found[*at].features.main() }
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

/// Every sentence that was looked at for a question, with what speaks for it: what `fit.py` learns from.
///
/// # Errors
/// When the index cannot be read.
pub fn weigh(question: &Question, index: &Snapshot) -> Result<Vec<(DatumId, String, Features)>, IndexError> {
    let asked = Asked::new(question, index)?;
    let candidates = Candidates::new(&asked, index)?;
    let id = |found: &Candidate| candidates.hits[found.passage].id;
    Ok(candidates.found.iter().map(|found| (id(found), candidates.text(found), found.features)).collect())
}

/// To four places: more would pretend.
fn round(confidence: f64) -> f64 {
    (confidence * 10_000.0).round() / 10_000.0
}

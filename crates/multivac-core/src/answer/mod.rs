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

use serde::Serialize;
use serde::ser::Serializer;

pub use features::Features;
pub use model::{fitted_threshold, threshold_for};
pub use standing::Standing;

use asked::Asked;
use candidates::{Candidate, Candidates};
use crate::datum::DatumId;
use crate::index::{IndexError, Snapshot};
use crate::question::Question;

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
    // The best sentence of each passage.
    let mut best: Vec<Option<(f32, &Candidate)>> = vec![None; candidates.hits.len()];
    for candidate in &candidates.found {
        let sum = model::sum(&candidate.features);
        let best = &mut best[candidate.passage];
        if best.is_none_or(|(other, _)| sum > other) {
            *best = Some((sum, candidate));
        }
    }
    let mut best: Vec<_> = best.into_iter().flatten().collect();
    // Equal ones stay in the order of their words' weight, so the same index gives the same answer.
    best.sort_by(|a, b| b.0.total_cmp(&a.0));
    let confidence = best.first().map_or(0.0, |(sum, _)| round(model::confidence(*sum)));
    let answer = best.first().filter(|_| confidence >= min_confidence).map(|(_, best)| candidates.text(best));
    let evidence = best.into_iter().take(MAX_EVIDENCE).map(|(sum, candidate)| {
        let hit = &candidates.hits[candidate.passage];
        Evidence { id: hit.id, passage: hit.passage.clone(), score: round(model::confidence(sum)) }
    });
    Ok(Answer {
        question: question.as_str().to_owned(),
        status: if answer.is_some() { Status::Answered } else { Status::InsufficientData },
        answer,
        confidence,
        evidence: evidence.collect(),
        learned: index.learned,
    })
}

/// Every sentence that was looked at for a question, with what speaks for it: what `fit.py` learns from.
///
/// # Errors
/// When the index cannot be read.
pub fn weigh(question: &Question, index: &Snapshot) -> Result<Vec<(String, Features)>, IndexError> {
    let asked = Asked::new(question, index)?;
    let candidates = Candidates::new(&asked, index)?;
    Ok(candidates.found.iter().map(|found| (candidates.text(found), found.features)).collect())
}

/// To four places: more would pretend.
fn round(confidence: f64) -> f64 {
    (confidence * 10_000.0).round() / 10_000.0
}

//! What `fit.py` learns from: a question's terms and candidates with their features.

use super::candidates::Candidates;
use super::features::Candidate;
use super::question::ParsedQuestion;
use super::table::{Features, TermFeatures};
use crate::datum::DatumId;
use crate::index::{IndexError, Snapshot};
use crate::question::Question;

/// A question's terms and candidates.
pub struct TrainingQuestion {
    /// The features of its terms.
    pub terms: Vec<TermFeatures>,
    /// Its candidates.
    pub candidates: Vec<TrainingCandidate>,
}

/// A sentence that may answer.
pub struct TrainingCandidate {
    /// The datum it is from.
    pub id: DatumId,
    /// Its text.
    pub text: String,
    /// Its features.
    pub features: Features,
    /// For each term a bit for each way in which the sentence can hold one: by a word spelled alike in the sentence, in its
    /// passage, or in the sentence and its neighbours; by a word of clearly like meaning in the sentence, or in its passage.
    pub held: Vec<u8>,
}

/// The terms and candidates of a question, as [`answer`](super::answer) sees them.
///
/// # Errors
/// When the index cannot be read.
pub fn training_question(question: &Question, index: &Snapshot) -> Result<TrainingQuestion, IndexError> {
    let parsed = ParsedQuestion::new(question, index)?;
    let candidates = Candidates::new(&parsed, index)?;
    let candidate = |found: &Candidate| TrainingCandidate {
        id: candidates.hits[found.passage].id,
        text: candidates.text(found),
        features: found.features,
        held: found.held.clone(),
    };
    let rows = candidates.found.iter().map(candidate).collect();
    Ok(TrainingQuestion { terms: parsed.term_features(), candidates: rows })
}

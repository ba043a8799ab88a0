//! Which of a question's terms the sentence that answers it can be expected to hold.
//!
//! A name in the question is mostly in the paragraph that answers, and often in another sentence of it; "year" in "In what
//! year" mostly nowhere. So a term's rarity alone is a poor measure of what its absence means. For each term two forests
//! estimate the probability that the right sentence holds it, and that a wrong one among the candidates does. The logarithm
//! of their ratio is what its presence or absence counts for (the weights of Robertson and Spärck Jones 1976, with
//! probabilities learned from the term instead of counted).

use super::model;
use super::table::{TermFeatures, WAYS_TO_HOLD};

/// What is expected of one term, for each of the [`WAYS_TO_HOLD`].
#[derive(Debug, Clone, Copy)]
pub(super) struct ExpectedTerm {
    /// The probability that the right sentence holds it.
    probability: [f32; WAYS_TO_HOLD],
    /// The log-odds that a sentence is right if it does not hold it, and if it does.
    log_odds: [[f32; 2]; WAYS_TO_HOLD],
}

/// What is expected of a question's terms.
pub(super) fn expected_terms(terms: &[TermFeatures]) -> Vec<ExpectedTerm> {
    let log_odds = |right: f32, wrong: f32| [((1.0 - right) / (1.0 - wrong)).ln(), (right / wrong).ln()];
    let expected = |probabilities: [(f32, f32); WAYS_TO_HOLD]| ExpectedTerm {
        probability: probabilities.map(|(right, _)| right),
        log_odds: probabilities.map(|(right, wrong)| log_odds(right, wrong)),
    };
    model::hold_probabilities(terms).into_iter().map(expected).collect()
}

/// What it counts for that these terms are held in one of the [`WAYS_TO_HOLD`]: the sum of log-odds, and the share of what
/// is expected that is held. `held` has a byte for each term, with a bit for each way.
pub(super) fn log_odds_and_share(terms: &[ExpectedTerm], held: &[u8], way: usize) -> (f32, f32) {
    let (mut log_odds, mut found, mut all) = (0.0, 0.0, 0.0);
    for (term, held) in terms.iter().zip(held) {
        let holds = held >> way & 1;
        log_odds += term.log_odds[way][usize::from(holds)];
        found += term.probability[way] * f32::from(holds);
        all += term.probability[way];
    }
    (log_odds, found / all.max(f32::MIN_POSITIVE))
}

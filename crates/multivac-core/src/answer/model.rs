//! Features to confidence: the one table of weights, and the threshold.

use std::collections::HashSet;

use super::candidates::Asked;
use super::features;
use crate::index::{Hit, terms};
use crate::process::answerable;

/// Below this confidence MultiVAC abstains, unless it is configured otherwise.
pub const MIN_CONFIDENCE: f64 = 0.5;

/// The weights of a logistic regression.
struct Weights {
    bias: f64,
    sentence_coverage: f64,
    passage_coverage: f64,
    asks: f64,
}

const WEIGHTS: Weights = Weights { bias: -3.8, sentence_coverage: 2.2, passage_coverage: 4.2, asks: -4.0 };

/// The sentence of a passage that answers best, word for word with its spaces made single, and its confidence.
pub(super) fn best_sentence(asked: &Asked, hit: &Hit) -> (String, f64) {
    let words: Vec<(usize, String)> = terms(&hit.passage).collect();
    let passage: HashSet<String> = words.iter().map(|(_, term)| term.clone()).collect();
    let passage_coverage = features::coverage(asked, &passage);
    let mut best = (0..0, f64::MIN);
    for range in answerable(&hit.passage) {
        let within = words.iter().filter(|(at, _)| range.contains(at)).map(|(_, term)| term.clone()).collect();
        let z = WEIGHTS.bias
            + WEIGHTS.sentence_coverage * features::coverage(asked, &within)
            + WEIGHTS.passage_coverage * passage_coverage
            + WEIGHTS.asks * features::asks(&hit.passage[range.clone()]);
        if z > best.1 {
            best = (range, z);
        }
    }
    let sentence = hit.passage[best.0].split_whitespace().collect::<Vec<_>>().join(" ");
    (sentence, 1.0 / (1.0 + (-best.1).exp()))
}

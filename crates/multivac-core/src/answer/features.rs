//! What speaks for a sentence: one function a feature, with its range and its reason.

use std::collections::HashSet;

use super::candidates::Asked;

/// From 0 to 1: how much of what is asked for is in a text, by the weight of the question's terms.
pub(super) fn coverage(asked: &Asked, terms: &HashSet<String>) -> f64 {
    if asked.total <= 0.0 {
        return 0.0;
    }
    let covered: f64 = asked.weights.iter().filter(|(term, _)| terms.contains(*term)).map(|(_, weight)| weight).sum();
    covered / asked.total
}

/// 0 or 1: whether a sentence asks instead of saying. A question repeats the words of a question and answers nothing.
pub(super) fn asks(sentence: &str) -> f64 {
    f64::from(u8::from(sentence.trim_end_matches(['"', '\'', '”', '’', ')', ' ']).ends_with(['?', '？', '؟'])))
}

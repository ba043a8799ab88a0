//! A question to the passages worth a look.

use std::collections::HashMap;

use crate::index::{Hit, IndexError, Snapshot, terms};
use crate::question::Question;

/// Passages looked at for one question.
const PASSAGES: usize = 30;

/// Words without a weight of their own: they say how things hang together, not what is asked for.
const STOP_WORDS: &[&str] = &[
    "a", "about", "after", "again", "all", "also", "an", "and", "any", "are", "as", "at", "be", "because", "been",
    "before", "being", "between", "both", "but", "by", "can", "could", "did", "do", "does", "doing", "done", "during",
    "each", "for", "from", "had", "has", "have", "having", "he", "her", "hers", "him", "his", "how", "i", "if", "in",
    "into", "is", "it", "its", "itself", "just", "may", "me", "might", "more", "most", "must", "my", "no", "nor",
    "not", "of", "off", "on", "once", "only", "or", "other", "our", "out", "over", "own", "same", "shall", "she",
    "should", "so", "some", "such", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this",
    "those", "through", "to", "too", "under", "up", "upon", "us", "very", "was", "we", "were", "what", "when", "where",
    "which", "while", "who", "whom", "whose", "why", "will", "with", "would", "you", "your",
];

/// A question as the index sees it: its terms with their weights.
pub(super) struct Asked {
    /// The weight (inverse document frequency) of each content term.
    pub(super) weights: HashMap<String, f64>,
    /// Their sum.
    pub(super) total: f64,
    terms: Vec<String>,
}

impl Asked {
    /// Takes a question apart, and weighs its terms by how rare they are in the index.
    pub(super) fn new(question: &Question, index: &Snapshot) -> Result<Self, IndexError> {
        let mut all = Vec::new();
        for (_, term) in terms(question.as_str()) {
            if !all.contains(&term) {
                all.push(term);
            }
        }
        let stems: Vec<String> = STOP_WORDS.iter().map(|word| crate::index::term(word)).collect();
        let content: Vec<String> = all.iter().filter(|term| !stems.contains(term)).cloned().collect();
        // "Who is it?" has no other words: then these count.
        let terms = if content.is_empty() { all } else { content };
        let mut weights = HashMap::new();
        for term in &terms {
            weights.insert(term.clone(), inverse_document_frequency(index.frequency(term)?, index.passages));
        }
        let total = weights.values().sum();
        Ok(Self { weights, total, terms })
    }

    /// The passages that match best, best first.
    pub(super) fn passages(&self, index: &Snapshot) -> Result<Vec<Hit>, IndexError> {
        index.search(&self.terms, PASSAGES)
    }
}

/// BM25's inverse document frequency (Robertson and Spärck Jones 1976, with the 1 that keeps it positive), with a
/// thousand imaginary passages beside the real ones, in three of which each term occurs: in a handful of passages,
/// counts alone say nothing about how rare a word is.
fn inverse_document_frequency(frequency: u64, passages: u64) -> f64 {
    let (n, df) = (passages as f64 + 1_000.0, frequency as f64 + 3.0);
    (1.0 + (n - df + 0.5) / (df + 0.5)).ln()
}

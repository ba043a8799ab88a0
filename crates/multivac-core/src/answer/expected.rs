//! Which of a question's terms a sentence that answers it can be expected to hold.
//!
//! A name in the question mostly stands in the paragraph that answers, and often in another sentence of it; "year" in
//! "In what year" mostly nowhere. So a term's rarity alone is a poor measure of what its absence means. For each term two
//! forests tell how likely the right sentence holds it, and how likely a wrong one among the candidates does; the
//! logarithm of their ratio is what its presence or absence says (the weights of Robertson and Spärck Jones 1976, with
//! probabilities learned from the term instead of counted).

use super::features::features;
use super::model;
use super::question::ParsedQuestion;

features! {
    /// What is known of one term of a question. Ranges are in the fields' words.
    TermFeatures:
    /// Its inverse document frequency.
    weight,
    /// How rare it is in English at large.
    rarity,
    /// 0 or 1: it is part of a name.
    name,
    /// 0 or 1: it is a number.
    number,
    /// Its place among the terms, from 0.
    place,
    /// 0 or 1: it says of what kind the answer is.
    focus,
    /// 0 or 1: it is the last term.
    last,
    /// The kind of question: see `Kind`.
    kind,
    /// The number of terms.
    terms,
    /// 0 or 1: it ends in -ed, as verbs of the past do.
    ed,
    /// 0 or 1: it ends in -ing.
    ing,
    /// 0 or 1: it ends in -s.
    s,
    /// Its length in bytes.
    letters,
    /// How many terms weigh more.
    heavier,
    /// 0 or 1: no passage holds it.
    absent,
    /// 0 or 1: the question begins with the word that asks.
    asks_first,
}

/// The ways in which a term can be held: by the sentence, the passage, or the sentence and its neighbours, written alike;
/// by the sentence or the passage in clearly like meaning.
pub(super) const WAYS: usize = 5;

/// What is expected of one term, in each of the [`WAYS`].
#[derive(Debug, Clone, Copy)]
pub(super) struct ExpectedTerm {
    /// How likely the right sentence holds it.
    likely: [f32; WAYS],
    /// What it says for a sentence that it is held, and that it is not: log-odds.
    says: [[f32; 2]; WAYS],
}

/// What is known of a question's terms.
pub(super) fn terms(asked: &ParsedQuestion) -> Vec<TermFeatures> {
    let flag = |is: bool| f32::from(u8::from(is));
    let features = |(at, term): (usize, &super::question::QuestionTerm)| {
        let word = &term.lexeme.lower;
        TermFeatures {
            weight: term.weight,
            rarity: term.lexeme.rarity,
            name: flag(term.name),
            number: flag(term.lexeme.classes.number),
            place: at as f32,
            focus: flag(asked.focus == Some(at)),
            last: flag(at + 1 == asked.terms.len()),
            kind: f32::from(asked.kind as u8),
            terms: asked.terms.len() as f32,
            ed: flag(word.ends_with("ed")),
            ing: flag(word.ends_with("ing")),
            s: flag(word.ends_with('s')),
            letters: word.len() as f32,
            heavier: asked.terms.iter().filter(|other| other.weight > term.weight).count() as f32,
            absent: flag(term.absent),
            asks_first: flag(asked.asks_first),
        }
    };
    asked.terms.iter().enumerate().map(features).collect()
}

/// What is expected of a question's terms.
pub(super) fn expectations(asked: &ParsedQuestion) -> Vec<ExpectedTerm> {
    let odds = |right: f32, wrong: f32| [((1.0 - right) / (1.0 - wrong)).ln(), (right / wrong).ln()];
    let expectation = |chances: [(f32, f32); WAYS]| ExpectedTerm {
        likely: chances.map(|(right, _)| right),
        says: chances.map(|(right, wrong)| odds(right, wrong)),
    };
    model::held(&terms(asked)).into_iter().map(expectation).collect()
}

/// What it says for a sentence that these terms are held: the sum of log-odds, and the share of what is expected.
///
/// `held` has a bit for each of the [`WAYS`].
pub(super) fn met(expectations: &[ExpectedTerm], held: &[u8], way: usize) -> (f32, f32) {
    let (mut odds, mut met, mut all) = (0.0, 0.0, 0.0);
    for (expectation, held) in expectations.iter().zip(held) {
        let holds = held >> way & 1;
        odds += expectation.says[way][usize::from(holds)];
        met += expectation.likely[way] * f32::from(holds);
        all += expectation.likely[way];
    }
    (odds, met / all.max(f32::MIN_POSITIVE))
}

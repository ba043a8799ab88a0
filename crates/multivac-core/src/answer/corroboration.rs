//! What other data say about an answer: the same, which makes it likelier, or something else, which makes it less likely.
//!
//! Only independent data count. A sentence of the same words, or one that quotes the other in full, is not independent.

use std::collections::BTreeSet;

use serde::Serialize;

use super::lexicon::lexeme;
use super::question::{Kind, ParsedQuestion};
use super::table::Features;
use crate::index::words;

/// The part of the doubt that is left when another datum says the same.
const DOUBT_AFTER_CONFIRMATION: f64 = 0.7;
/// Confirmations beyond these add nothing.
const MAX_CONFIRMATIONS: usize = 5;
/// The share of confidence that is lost when all other data contradict, in the limit of infinitely many.
const CONTRADICTION_LOSS: f64 = 0.5;

/// The share of the question that a sentence must hold to be compared with others.
const ON_SUBJECT: f32 = 0.6;
/// The share from which on another value is a contradiction.
const SAME_SUBJECT: f32 = 0.75;

/// How a piece of evidence relates to the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stance {
    /// It says the same in other words.
    Agrees,
    /// It gives another number, date or name, or denies the answer.
    Contradicts,
}

/// What a sentence says about a question, as far as words show it.
pub(super) struct Statement {
    /// All its words' terms.
    words: Vec<String>,
    /// Those that the question does not have, stop words aside.
    added: BTreeSet<String>,
    /// Of these, the ones of the kind that the question asks for: numbers, dates or names.
    values: BTreeSet<String>,
    /// The share of the question that it holds, by the same terms.
    exact: f32,
    /// Whether it negates and the question does not, or the reverse.
    negates: bool,
}

impl Statement {
    pub(super) fn new(question: &ParsedQuestion, text: &str, features: &Features) -> Self {
        let (mut all, mut added, mut values) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for (_, word) in words(text) {
            let lexeme = lexeme(word);
            all.push(lexeme.term.clone());
            let classes = lexeme.classes;
            if question.words.contains(&lexeme.term) || (classes.stop && !classes.number) {
                continue;
            }
            added.insert(lexeme.term.clone());
            let figure = word.contains(|c: char| c.is_ascii_digit());
            let name = word.starts_with(char::is_uppercase) && !classes.stop && !figure && !classes.date;
            let value = match question.kind {
                Kind::Date => classes.date,
                Kind::Number => classes.number,
                Kind::Person | Kind::Place => name,
                Kind::Thing => name || figure,
                Kind::Reason | Kind::Manner => false,
            };
            if value {
                values.insert(lexeme.term.clone());
            }
        }
        let Features { exact, negates, .. } = *features;
        Self { words: all, added, values, exact, negates: negates > 0.0 }
    }

    /// Whether one of the two contains the other, in the same words.
    fn repeats(&self, other: &Self) -> bool {
        let (short, long) = if self.words.len() <= other.words.len() {
            (&self.words, &other.words)
        } else {
            (&other.words, &self.words)
        };
        short.is_empty() || long.windows(short.len()).any(|words| words == short.as_slice())
    }

    /// How `other`, which is [on the same subject](same_subject), relates to this one; `None` where it says something
    /// unrelated, or is not independent.
    fn stance(&self, other: &Self, kind: Kind) -> Option<Stance> {
        if self.repeats(other) {
            return None;
        }
        let shared = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
            a.intersection(b).count() as f32 / a.len().min(b.len()).max(1) as f32
        };
        let (added, values) = (shared(&self.added, &other.added), shared(&self.values, &other.values));
        let valued = kind.has_values() && !self.values.is_empty() && !other.values.is_empty();
        // A sentence that holds as much of the question is about exactly the same.
        if other.exact >= 0.9 * self.exact && self.exact >= SAME_SUBJECT {
            let denies = added >= 0.5 && self.negates != other.negates;
            if denies || (valued && values == 0.0) {
                return Some(Stance::Contradicts);
            }
        }
        // Sentences on one subject have the same names anyway; figures are seldom the same by chance.
        let figures = valued && matches!(kind, Kind::Date | Kind::Number);
        let agrees = if figures { values >= 0.5 } else { added >= 0.5 };
        (agrees && self.negates == other.negates).then_some(Stance::Agrees)
    }
}

/// Whether a sentence is on the same subject as the first: two that hold little of the question neither confirm nor
/// contradict each other.
pub(super) fn same_subject(first: &Features, other: &Features) -> bool {
    first.exact >= ON_SUBJECT && other.exact >= ON_SUBJECT * first.exact && other.sense >= 0.7 * first.sense
}

/// How each of the others relates to the first; `None` stands for one that is not on the same subject. Of several that repeat
/// each other, only the first has a stance.
pub(super) fn stances(first: &Statement, others: &[Option<Statement>], kind: Kind) -> Vec<Option<Stance>> {
    let mut counted: Vec<&Statement> = Vec::new();
    let mut stances = Vec::with_capacity(others.len());
    for other in others {
        let independent = other.as_ref().and_then(|other| {
            let stance = first.stance(other, kind)?;
            (!counted.iter().any(|before| before.repeats(other))).then_some((other, stance))
        });
        counted.extend(independent.map(|(other, _)| other));
        stances.push(independent.map(|(_, stance)| stance));
    }
    stances
}

/// The confidence of an answer that so many independent data confirm and contradict: each that confirms removes a part of
/// the doubt; those that contradict remove confidence by their share of all.
pub(super) fn corroborated(confidence: f64, agree: usize, contradict: usize) -> f64 {
    let doubt = (1.0 - confidence) * DOUBT_AFTER_CONFIRMATION.powi(agree.min(MAX_CONFIRMATIONS) as i32);
    let share = contradict as f64 / (1 + agree + contradict) as f64;
    (1.0 - doubt) * (1.0 - CONTRADICTION_LOSS * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_agree_raise_confidence_and_those_that_contradict_lower_it() {
        let confidence = |agree, contradict| corroborated(0.6, agree, contradict);
        assert!((confidence(0, 0) - 0.6).abs() < 1e-12);
        assert!(confidence(1, 0) > confidence(0, 0) && confidence(2, 0) > confidence(1, 0) && confidence(100, 0) < 1.0);
        assert!(confidence(0, 1) < confidence(0, 0) && confidence(0, 2) < confidence(0, 1));
        assert!(confidence(1, 1) > confidence(0, 1) && confidence(1, 1) < confidence(1, 0));
        assert!((confidence(MAX_CONFIRMATIONS, 0) - confidence(MAX_CONFIRMATIONS + 1, 0)).abs() < 1e-12);
    }
}

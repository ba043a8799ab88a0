//! What other data say to an answer: the same, which makes it likelier, or something else, which makes it less so.
//!
//! Only independent voices count. A sentence of the same words, or one that quotes the other in full, is the same voice.

use std::collections::BTreeSet;

use super::features::Features;
use super::lexicon::lexeme;
use super::question::{Kind, ParsedQuestion};
use crate::index::words;
use serde::Serialize;

/// Part of the doubt that is left when another voice says the same.
const DOUBT_LEFT: f64 = 0.7;
/// Voices beyond these add nothing.
const MOST_VOICES: usize = 5;
/// The share of confidence that is lost where as many voices contradict as there are, in the limit.
const LOST: f64 = 0.5;

/// The share of the question that a sentence must hold for others to speak to it.
const ON_SUBJECT: f32 = 0.6;
/// The share from which on another value is a contradiction.
const SAME_SUBJECT: f32 = 0.75;

/// How a piece of evidence stands to the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stance {
    /// It says the same in other words.
    Agrees,
    /// It says another number, date or name, or that it is not so.
    Contradicts,
}

/// What a sentence says to a question, as far as words tell.
pub(super) struct Statement {
    /// All its words' terms.
    words: Vec<String>,
    /// What it says that the question does not, stop words aside.
    fresh: BTreeSet<String>,
    /// Of that, what is of the kind that the question asks for: numbers, dates or names.
    values: BTreeSet<String>,
    /// The share of the question that it holds, by the same terms.
    exact: f32,
    /// Whether it negates and the question does not, or the other way about.
    negates: bool,
}

impl Statement {
    pub(super) fn new(asked: &ParsedQuestion, text: &str, features: &Features) -> Self {
        let (mut all, mut fresh, mut values) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for (_, word) in words(text) {
            let lexeme = lexeme(word);
            all.push(lexeme.term.clone());
            let classes = lexeme.classes;
            if asked.words.contains(&lexeme.term) || (classes.stop && !classes.number) {
                continue;
            }
            fresh.insert(lexeme.term.clone());
            let figure = word.contains(|c: char| c.is_ascii_digit());
            let name = word.starts_with(char::is_uppercase) && !classes.stop && !figure && !classes.date;
            let value = match asked.kind {
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
        Self { words: all, fresh, values, exact, negates: negates > 0.0 }
    }

    /// Whether one of the two says all that the other says, in the same words.
    fn echoes(&self, other: &Self) -> bool {
        let (short, long) = if self.words.len() <= other.words.len() {
            (&self.words, &other.words)
        } else {
            (&other.words, &self.words)
        };
        short.is_empty() || long.windows(short.len()).any(|words| words == short.as_slice())
    }

    /// How `other`, which [speaks to](speaks_to) this one, stands to it; `None` where it says something else, or is no
    /// other voice.
    fn stance(&self, other: &Self, kind: Kind) -> Option<Stance> {
        if self.echoes(other) {
            return None;
        }
        let shared = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
            a.intersection(b).count() as f32 / a.len().min(b.len()).max(1) as f32
        };
        let (fresh, values) = (shared(&self.fresh, &other.fresh), shared(&self.values, &other.values));
        let valued = kind.has_values() && !self.values.is_empty() && !other.values.is_empty();
        // It holds as much of the question, so it speaks of the very same.
        if other.exact >= 0.9 * self.exact && self.exact >= SAME_SUBJECT {
            let denies = fresh >= 0.5 && self.negates != other.negates;
            if denies || (valued && values == 0.0) {
                return Some(Stance::Contradicts);
            }
        }
        // Sentences on one subject name the same names; figures are seldom the same by chance.
        let figures = valued && matches!(kind, Kind::Date | Kind::Number);
        let agrees = if figures { values >= 0.5 } else { fresh >= 0.5 };
        (agrees && self.negates == other.negates).then_some(Stance::Agrees)
    }
}

/// Whether a sentence speaks of the same as the first: two that hold little of the question have nothing to say to each
/// other about it.
pub(super) fn speaks_to(first: &Features, other: &Features) -> bool {
    first.exact >= ON_SUBJECT && other.exact >= ON_SUBJECT * first.exact && other.sense >= 0.7 * first.sense
}

/// How each of the others that speak to the first stands to it. Of several that are one voice, the first speaks.
pub(super) fn stances(first: &Statement, others: &[Option<Statement>], kind: Kind) -> Vec<Option<Stance>> {
    let mut heard: Vec<&Statement> = Vec::new();
    let mut stances = Vec::with_capacity(others.len());
    for other in others {
        let spoken = other.as_ref().and_then(|other| {
            let stance = first.stance(other, kind)?;
            (!heard.iter().any(|before| before.echoes(other))).then_some((other, stance))
        });
        heard.extend(spoken.map(|(other, _)| other));
        stances.push(spoken.map(|(_, stance)| stance));
    }
    stances
}

/// The confidence of an answer that so many other voices confirm and contradict: each that confirms takes a part of the
/// doubt away; those that contradict take away of the confidence by their share of all that speak.
pub(super) fn corroborated(confidence: f64, agree: usize, contradict: usize) -> f64 {
    let doubt = (1.0 - confidence) * DOUBT_LEFT.powi(agree.min(MOST_VOICES) as i32);
    let share = contradict as f64 / (1 + agree + contradict) as f64;
    (1.0 - doubt) * (1.0 - LOST * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voices_that_agree_raise_confidence_and_those_that_contradict_lower_it() {
        let told = |agree, contradict| corroborated(0.6, agree, contradict);
        assert!((told(0, 0) - 0.6).abs() < 1e-12);
        assert!(told(1, 0) > told(0, 0) && told(2, 0) > told(1, 0) && told(100, 0) < 1.0);
        assert!(told(0, 1) < told(0, 0) && told(0, 2) < told(0, 1));
        assert!(told(1, 1) > told(0, 1) && told(1, 1) < told(1, 0));
        assert!((told(MOST_VOICES, 0) - told(MOST_VOICES + 1, 0)).abs() < 1e-12);
    }
}

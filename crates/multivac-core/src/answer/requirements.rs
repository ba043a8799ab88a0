//! What a sentence must hold, whatever else speaks for it: the numbers, codes and signs that the question names, and its
//! negations. Flight LH 447 is not LH 441, E105 is not E107, "not open" is not "open".

use super::coverage::Coverage;
use super::matching::{MatchCache, MatchedPassage, PassageWord};
use super::question::{NEGATED_WITHIN, ParsedQuestion, QuestionTerm, is_negated};
use super::table::Features;

/// What is left of the confidence in a sentence that does not meet them: even the highest falls below the threshold.
const LEFT_BY_VETO: f64 = 0.25;

/// The confidence in a sentence, after a veto.
pub(super) fn left_of(confidence: f64, features: &Features) -> f64 {
    if features.vetoed > 0.0 { LEFT_BY_VETO * confidence } else { confidence }
}

/// How a sentence meets the requirements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Requirements {
    /// 0 to 1, or -1 where the question names none: the share of its codes that the sentence holds, by weight.
    pub(super) codes: f32,
    /// The same for the sentence and what it is to be read with.
    pub(super) codes_around: f32,
    /// The same for its passage.
    pub(super) codes_passage: f32,
    /// Whether the sentence has another code where the question has one of those that it lacks.
    pub(super) conflicts: bool,
    /// Whether the question negates a word that the sentence has without a negation.
    pub(super) affirms: bool,
    /// Whether the sentence negates a word that the question has without a negation.
    pub(super) denies: bool,
}

impl Requirements {
    /// How much speaks against the sentence, whatever speaks for it; see [`Features::vetoed`]. Half of it is for the ranking:
    /// a negation of the sentence's may be about something else, "not only A, but also B".
    pub(super) fn veto(&self) -> f32 {
        let is_vetoed = self.conflicts || self.affirms || (0.0..1.0).contains(&self.codes_around);
        if is_vetoed { 1.0 } else { 0.5 * f32::from(u8::from(self.denies)) }
    }

    /// Of the part at `at` of a passage.
    pub(super) fn new(
        cache: &MatchCache<'_>,
        passage: &MatchedPassage<'_>,
        at: usize,
        coverage: &Coverage<'_>,
    ) -> Self {
        let question = cache.question;
        let words = &passage.words[passage.parts[at].words.clone()];
        let (own, around, whole) = (coverage.part(at).exact, coverage.exact_around(at), coverage.passage().exact);
        let (mut all, mut held, mut held_around, mut held_whole) = (0.0, 0.0, 0.0, 0.0);
        let mut conflicts = false;
        for (i, (term, near)) in question.terms.iter().zip(around).enumerate() {
            if !term.code && !term.lexeme.classes.exact {
                continue;
            }
            let own = if is_joined(cache, question, words, i) { 1.0 } else { own[i] };
            conflicts |= own == 0.0 && has_another(cache, words, term);
            if term.code {
                all += term.weight;
                held += term.weight * own;
                held_around += term.weight * own.max(near);
                held_whole += term.weight * own.max(whole[i]);
            }
        }
        let share = |held: f32| if all > 0.0 { held / all } else { -1.0 };
        Self {
            codes: share(held),
            codes_around: share(held_around),
            codes_passage: share(held_whole),
            conflicts,
            affirms: differs(cache, question, words, true),
            denies: differs(cache, question, words, false),
        }
    }
}

/// Whether some words have a term of the question joined to the one before or after it: "LH447" for "LH 447".
fn is_joined(cache: &MatchCache<'_>, question: &ParsedQuestion, words: &[PassageWord], at: usize) -> bool {
    let lower = |at: usize| question.terms.get(at).map_or("", |term| term.lexeme.lower.as_str());
    let own = lower(at);
    let others = [at.checked_sub(1).map_or("", lower), lower(at + 1)];
    words.iter().map(|word| cache.word(*word).lexeme.lower.as_str()).any(|word| {
        let is = |before: &str, after: &str| {
            !before.is_empty() && !after.is_empty() && word.strip_prefix(before) == Some(after)
        };
        word.len() > own.len() && (is(others[0], own) || is(own, others[1]))
    })
}

/// Whether some words have another code in the place of a term: after the same word ("invoice 4711" for "invoice 4712"), or
/// of the same letters ("E107" for "E105").
fn has_another(cache: &MatchCache<'_>, words: &[PassageWord], term: &QuestionTerm) -> bool {
    let letters = |word: &str| word.chars().filter(|c| c.is_alphabetic()).collect::<String>();
    let own = letters(&term.lexeme.lower);
    (0..words.len()).any(|i| {
        let lexeme = &cache.word(words[i]).lexeme;
        // A single letter or a Roman numeral looks like any other word here.
        let is_short = lexeme.lower.len() <= 4 && words[i].capital && !lexeme.classes.stop;
        if lexeme.term == term.lexeme.term || !(lexeme.classes.exact || is_short && !term.lexeme.classes.exact) {
            return false;
        }
        let follows_the_same = i > 0 && term.after.as_ref() == Some(&cache.word(words[i - 1]).lexeme.term);
        follows_the_same
            || (term.lexeme.classes.code && lexeme.classes.code && !own.is_empty() && letters(&lexeme.lower) == own)
    })
}

/// Whether the question has a word that is negated there (or is not), and is everywhere not (or is) among these words. To "Is
/// it open?" it is an answer that it is not.
fn differs(cache: &MatchCache<'_>, question: &ParsedQuestion, words: &[PassageWord], negated: bool) -> bool {
    let in_sentence = |i: usize| {
        is_negated(words[i.saturating_sub(NEGATED_WITHIN)..i].iter().map(|word| cache.word(*word).lexeme.classes))
    };
    let terms = question.terms.iter().enumerate().filter(|(_, term)| !term.name && term.negated == negated);
    question.asks
        && terms.map(|(at, _)| at).any(|at| {
            let mut places = (0..words.len()).filter(|&i| cache.spelling(words[i], at) > 0.0).peekable();
            places.peek().is_some() && places.all(|i| in_sentence(i) != negated)
        })
}

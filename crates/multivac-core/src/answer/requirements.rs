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

/// Whether some words have another code in the place of a term: after the same word ("invoice 4711" for "invoice 4712") or before
/// the same one ("second quarter" for "third quarter"), or of the same letters ("E107" for "E105").
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
        let lexeme_at = |at: usize| words.get(at).map(|word| &cache.word(*word).lexeme);
        let follows = i > 0 && lexeme_at(i - 1).is_some_and(|before| term.beside[0].as_ref() == Some(&before.term));
        let precedes =
            lexeme_at(i + 1).is_some_and(|next| !next.classes.stop && term.beside[1].as_ref() == Some(&next.term));
        let alike =
            || term.lexeme.classes.code && lexeme.classes.code && !own.is_empty() && letters(&lexeme.lower) == own;
        follows || precedes || alike()
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

#[cfg(test)]
mod tests {
    use super::super::candidates::Candidates;
    use super::*;
    use crate::datum::{Datum, DatumId, Timestamp};
    use crate::index::Index;
    use crate::process::process;
    use crate::queue::Job;
    use crate::store::Change;

    /// The veto on each sentence of a text, by its text.
    fn vetoes(fed: &str, question: &str) -> Vec<(String, f32)> {
        let index = Index::new().expect("a new index");
        let (id, received_at) = (DatumId::generate(), Timestamp::now());
        let job = Job { id, datum: Datum::accepted_before(fed), received_at, trace: None };
        index.apply(&[Change::Put(Box::new(process(&job, received_at)))]).expect("a working index");
        let parsed =
            ParsedQuestion::new(&question.parse().expect("a question"), &index.snapshot()).expect("a working index");
        let candidates = Candidates::new(&parsed, &index.snapshot()).expect("a working index");
        let mut found: Vec<_> = candidates.found.iter().map(|at| (candidates.text(at), at.features.vetoed)).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    fn is_vetoed(fed: &str, question: &str) -> bool {
        vetoes(fed, question).iter().all(|(_, veto)| *veto > 0.0)
    }

    #[test]
    fn another_number_code_sign_or_day_is_a_veto() {
        for (fed, question) in [
            ("Invoice 4711 was paid by Petra Lind.", "Who paid invoice 4712?"),
            ("Flight LH 447 leaves at noon.", "When does flight LH 441 leave?"),
            ("Flight LH 447 leaves at noon.", "When does flight BA 447 leave?"),
            ("Error E105 is a clogged filter.", "What is error E107?"),
            ("C++ was created by Bjarne Stroustrup.", "Who created C#?"),
            ("It froze at 40 degrees.", "What froze at −40 degrees?"),
            ("In 1998 the mayor was Klara Voss.", "Who was the mayor in 1989?"),
            ("In June the lock is closed for repair.", "Why is the lock closed in July?"),
            ("The profit of the second quarter was high.", "What was the profit of the third quarter?"),
            ("Apple reported second quarter revenue of 5 billion.", "What was Apple's revenue in the third quarter?"),
            ("King Olaf VIII built the cathedral.", "What did king Olaf VII build?"),
            ("Vitamin D is made in the skin.", "How is vitamin C made?"),
        ] {
            assert!(is_vetoed(fed, question), "{question} {fed}");
        }
    }

    #[test]
    fn what_is_named_may_stand_beside_the_sentence_or_be_written_otherwise() {
        for (fed, question) in [
            ("Invoice 4712 was paid by Petra Lind.", "Who paid invoice 4712?"),
            ("Flight LH447 leaves at noon.", "When does flight LH 447 leave?"),
            ("Flight LH 447 leaves at ten. Its gate is B42.", "What gate has flight LH 447?"),
            ("The Rhine is 1,230 km long.", "Which river is 1230 km long?"),
            ("Error E105\n\nThe filter is clogged.", "What is error E105?"),
            ("The U.S. economy grew.", "Which economy grew in the US?"),
            ("The price of price-fixing was high.", "What was high about price fixing?"),
        ] {
            assert!(vetoes(fed, question).iter().any(|(_, veto)| *veto == 0.0), "{question} {fed}");
        }
    }

    #[test]
    fn what_another_record_names_is_not_this_ones() {
        let log = "10:05:01 INFO billing invoice 4711 paid by Petra Lind\n10:05:09 INFO billing invoice 4712 created for Omar Said\n\
                   10:06:00 INFO billing nightly report of all invoices sent";
        let vetoes = vetoes(log, "Who paid invoice 4712?");
        let veto = |holds: &str| vetoes.iter().find(|(text, _)| text.contains(holds)).map(|(_, veto)| *veto);
        assert_eq!((veto("4711"), veto("4712"), veto("nightly")), (Some(1.0), Some(0.0), Some(1.0)), "{vetoes:?}");
    }

    #[test]
    fn a_negation_on_one_side_alone_is_a_veto_unless_yes_or_no_is_asked_for() {
        for (fed, question, vetoed) in [
            ("The north gate is open.", "Which gate is not open?", true),
            ("The north gate is not open.", "Which gate is open?", true),
            ("The north gate isn't open.", "Which gate is not open?", false),
            ("The north gate is not open.", "Is the north gate open?", false),
            ("Members without a boat pay ten euros.", "What do members with a boat pay?", true),
            ("Das Nordtor ist nicht offen.", "Was ist offen?", true),
        ] {
            assert_eq!(is_vetoed(fed, question), vetoed, "{question} {fed}");
        }
    }

    #[test]
    fn a_veto_leaves_less_than_the_threshold_of_any_confidence() {
        let vetoed = Features { vetoed: 0.5, ..Features::default() };
        assert!(left_of(1.0, &vetoed) < super::super::fitted_threshold());
        assert_eq!(left_of(0.9, &Features::default()), 0.9);
    }
}

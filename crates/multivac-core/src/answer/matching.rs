//! A passage as the question meets it: its words, each with how near it comes to every term of the question.

use std::sync::Arc;

use super::lexicon::{Lexeme, lexeme};
use super::question::ParsedQuestion;
use super::vectors::cosine;
use crate::index::{Hit, Part};

/// How near words come that begin alike ("entropic", "entropy"), and words that are a slip of one another.
const SAME_BEGINNING: f32 = 0.6;
const MISSPELT: f32 = 0.8;

/// Up to here two words' meanings are not clearly near.
const UNCLEAR: f32 = 0.45;

/// How near one word comes to one term of the question, each from 0 to 1.
#[derive(Debug, Clone, Copy, Default)]
struct Nearness {
    /// 1 where it is the same term.
    exact: f32,
    /// By its letters.
    spelling: f32,
    /// By its letters or its meaning.
    meaning: f32,
    /// By its letters or its meaning, where that is clearly near: most pairs of words have a little in common.
    sense: f32,
}

/// How near words come to all terms: how exactly for each term, then by spelling, by meaning, and by sense.
pub(super) const WAYS: usize = 4;

/// Words that were met in this question's passages, so that each is compared once.
pub(super) struct MatchCache<'a> {
    pub(super) asked: &'a ParsedQuestion,
    /// Where the question says each of its terms, counted in words.
    places: foldhash::HashMap<&'a str, Vec<usize>>,
    numbers: foldhash::HashMap<&'a str, u32>,
    words: Vec<MatchedWord>,
    nearness: Vec<f32>,
}

/// A word, and what the question has to do with it.
pub(super) struct MatchedWord {
    pub(super) lexeme: Arc<Lexeme>,
    /// Whether the question says it.
    pub(super) said: bool,
    /// Whether it is no stop word, and the question does not say it.
    pub(super) fresh: bool,
    /// Where the question says it, counted in words.
    pub(super) places: Vec<usize>,
    /// Whether it comes near any term by its letters.
    pub(super) touches: bool,
    /// How near its meaning is to that of the question's focus, where both are known: -1 to 1.
    pub(super) to_focus: f32,
}

/// One word of a passage.
#[derive(Debug, Clone, Copy)]
pub(super) struct PassageWord {
    /// Its number in [`MatchCache`].
    pub(super) word: u32,
    /// Whether it begins with a capital letter.
    pub(super) capital: bool,
}

/// A passage that was read.
pub(super) struct MatchedPassage {
    pub(super) words: Vec<PassageWord>,
    /// Its sentences, or clauses of long ones.
    pub(super) parts: Vec<Part>,
}

impl<'a> MatchCache<'a> {
    pub(super) fn new(asked: &'a ParsedQuestion) -> Self {
        let mut places: foldhash::HashMap<&str, Vec<usize>> = foldhash::HashMap::default();
        for (at, term) in asked.words.iter().enumerate() {
            places.entry(term).or_default().push(at);
        }
        Self { asked, places, numbers: foldhash::HashMap::default(), words: Vec::new(), nearness: Vec::new() }
    }

    /// Reads a passage.
    pub(super) fn read(&mut self, hit: &'a Hit) -> MatchedPassage {
        let words = hit.outline.words.iter().filter_map(|word| {
            let text = hit.passage.get(word.bytes.clone())?;
            Some(PassageWord { word: self.number(text), capital: word.capital })
        });
        MatchedPassage { words: words.collect(), parts: hit.outline.parts.clone() }
    }

    pub(super) fn word(&self, seen: PassageWord) -> &MatchedWord {
        &self.words[seen.word as usize]
    }

    /// How near a word comes to the question's terms, in all [`WAYS`].
    pub(super) fn nearness(&self, seen: PassageWord) -> &[f32] {
        let all = WAYS * self.asked.terms.len();
        &self.nearness[seen.word as usize * all..][..all]
    }

    /// How near a word comes to one term by its letters.
    pub(super) fn spelling(&self, seen: PassageWord, term: usize) -> f32 {
        self.nearness(seen)[self.asked.terms.len() + term]
    }

    fn number(&mut self, word: &'a str) -> u32 {
        let next = self.words.len() as u32;
        let number = *self.numbers.entry(word).or_insert(next);
        if number == next {
            self.meet(lexeme(word));
        }
        number
    }

    fn meet(&mut self, lexeme: Arc<Lexeme>) {
        let (asked, start) = (self.asked, self.nearness.len());
        let terms = asked.terms.len();
        self.nearness.resize(start + WAYS * terms, 0.0);
        let places = self.places.get(lexeme.term.as_str());
        let said = places.is_some();
        let mut touches = false;
        for (at, term) in asked.terms.iter().enumerate() {
            let nearness = if said && term.lexeme.term == lexeme.term {
                Nearness { exact: 1.0, spelling: 1.0, meaning: 1.0, sense: 1.0 }
            } else if lexeme.classes.stop {
                Nearness::default()
            } else {
                nearness(&term.lexeme, &lexeme)
            };
            touches |= nearness.spelling > 0.0;
            let ways = [nearness.exact, nearness.spelling, nearness.meaning, nearness.sense];
            for (way, value) in ways.into_iter().enumerate() {
                self.nearness[start + way * terms + at] = value;
            }
        }
        let focus = asked.focus.and_then(|focus| asked.terms[focus].lexeme.vector.as_ref());
        let to_focus = focus.zip(lexeme.vector.as_ref()).map_or(-1.0, |(a, b)| cosine(a, b));
        let places = places.cloned().unwrap_or_default();
        let fresh = !said && !lexeme.classes.stop;
        self.words.push(MatchedWord { said, fresh, places, touches, to_focus, lexeme });
    }
}

/// Of two words that are not of one term.
fn nearness(asked: &Lexeme, met: &Lexeme) -> Nearness {
    let spelling = alike(&asked.lower, &met.lower);
    let meaning = match (&asked.vector, &met.vector) {
        (Some(a), Some(b)) => cosine(a, b).max(0.0),
        _ => 0.0,
    };
    let sense = (meaning - UNCLEAR).max(0.0) / (1.0 - UNCLEAR);
    Nearness { exact: 0.0, spelling, meaning: spelling.max(meaning), sense: spelling.max(sense) }
}

/// How alike two different words are written; numbers are never alike.
fn alike(a: &str, b: &str) -> f32 {
    let letters = |word: &str| word.len() >= 4 && word.bytes().all(|b| b.is_ascii_alphabetic());
    if a.as_bytes().first() != b.as_bytes().first() || !letters(a) || !letters(b) {
        return 0.0;
    }
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let prefix = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let longer = a.len().max(b.len());
    if a.len() >= 5 && b.len() >= 5 && one_slip(&a[prefix..], &b[prefix..]) {
        return MISSPELT;
    }
    if prefix >= 4 && prefix * 5 >= longer * 3 { SAME_BEGINNING } else { 0.0 }
}

/// Whether the rests of two words, after their common beginning, differ by one letter: added, left out, another, or two
/// swapped (Damerau 1964).
fn one_slip(a: &[u8], b: &[u8]) -> bool {
    match (a, b) {
        ([_, a @ ..], [_, b @ ..]) if a == b => true,
        ([_, a @ ..], b) | (b, [_, a @ ..]) if a == b => true,
        ([a1, a2, a @ ..], [b1, b2, b @ ..]) => a1 == b2 && a2 == b1 && a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_alike_by_their_beginning_or_by_a_slip() {
        assert_eq!(alike("entropic", "entropy"), SAME_BEGINNING);
        for (a, b) in [("einstein", "einstien"), ("einstein", "einsten"), ("lindsay", "lindsey"), ("riches", "richest")]
        {
            assert_eq!((alike(a, b), alike(b, a)), (MISSPELT, MISSPELT), "{a} {b}");
        }
        for (a, b) in
            [("star", "start"), ("1905", "1906"), ("universe", "university"), ("cat", "cats"), ("moon", "noon")]
        {
            assert!(alike(a, b) < MISSPELT, "{a} {b}");
        }
        assert_eq!(alike("moon", "noon"), 0.0);
    }
}

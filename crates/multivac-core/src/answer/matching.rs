//! The words of a passage, each compared with every term of the question.

use std::ops::Range;
use std::sync::Arc;

use super::lexicon::{Lexeme, lexeme};
use super::question::ParsedQuestion;
use crate::index::{Hit, Part};

/// The similarity by spelling of words with the same beginning ("entropic", "entropy"), and of words that differ by a slip.
const SAME_BEGINNING: f32 = 0.6;
const MISSPELT: f32 = 0.8;

/// The cosine up to which the meanings of two words are not clearly alike.
const UNCLEAR: f32 = 0.45;

/// The similarity in sense from which on a word is shown as one that met a term: its cosine is over 0.72 then.
const SAME_SENSE: f32 = 0.5;

/// How similar one word is to one term of the question, each from 0 to 1.
#[derive(Debug, Clone, Copy, Default)]
struct Similarity {
    /// 1 where it is the same term.
    exact: f32,
    /// By its letters.
    spelling: f32,
    /// By its letters or its meaning.
    meaning: f32,
    /// By its letters or its meaning, where that is clearly alike: most pairs of words have a little in common.
    sense: f32,
}

/// How many similarities there are: exact, by spelling, by meaning and by sense.
pub(super) const SIMILARITIES: usize = 4;

/// The words found in the passages for one question, so that each is compared with its terms only once.
pub(super) struct MatchCache<'a> {
    pub(super) question: &'a ParsedQuestion,
    /// At which of its words the question has each of its terms.
    places: foldhash::HashMap<&'a str, Vec<usize>>,
    numbers: foldhash::HashMap<&'a str, u32>,
    words: Vec<MatchedWord>,
    /// For each word, all terms by the first of the [`SIMILARITIES`], then by the next.
    similarities: Vec<f32>,
}

/// A word, and how it relates to the question.
pub(super) struct MatchedWord {
    pub(super) lexeme: Arc<Lexeme>,
    /// Whether the question has it.
    pub(super) in_question: bool,
    /// Whether it is no stop word, and the question does not have it.
    pub(super) added: bool,
    /// At which of its words the question has it.
    pub(super) places: Vec<usize>,
    /// Whether it is similar to any term by its letters.
    pub(super) matches: bool,
    /// Whether it met a term, by its letters or clearly by its meaning; it is shown, and counts for nothing.
    met: bool,
    /// The cosine of its vector and that of the question's focus, -1 to 1; -1 where one of them is not known.
    pub(super) focus_similarity: f32,
}

/// One word of a passage.
#[derive(Debug, Clone, Copy)]
pub(super) struct PassageWord {
    /// Its number in [`MatchCache`].
    number: u32,
    /// Whether it begins with a capital letter.
    pub(super) capital: bool,
}

/// A passage whose words have been compared with the question.
pub(super) struct MatchedPassage<'a> {
    pub(super) words: Vec<PassageWord>,
    /// Its sentences, or clauses of long ones.
    pub(super) parts: &'a [Part],
}

impl<'a> MatchCache<'a> {
    pub(super) fn new(question: &'a ParsedQuestion) -> Self {
        let mut places: foldhash::HashMap<&str, Vec<usize>> = foldhash::HashMap::default();
        for (at, term) in question.words.iter().enumerate() {
            places.entry(term).or_default().push(at);
        }
        Self { question, places, numbers: foldhash::HashMap::default(), words: Vec::new(), similarities: Vec::new() }
    }

    /// Compares the words of a passage with the question.
    pub(super) fn match_passage(&mut self, hit: &'a Hit) -> MatchedPassage<'a> {
        let words = hit.outline.words.iter().filter_map(|word| {
            let text = hit.passage.get(word.bytes.clone())?;
            Some(PassageWord { number: self.number(text), capital: word.capital })
        });
        MatchedPassage { words: words.collect(), parts: &hit.outline.parts }
    }

    /// The bytes of the words in a passage that met the question's terms; each word once, in the passage's order.
    pub(super) fn met_words(&self, hit: &Hit, passage: &MatchedPassage<'_>) -> Vec<Range<usize>> {
        let mut seen = Vec::new();
        let met = hit.outline.words.iter().zip(&passage.words).filter(|(_, word)| {
            let is_new = self.word(**word).met && !seen.contains(&word.number);
            if is_new {
                seen.push(word.number);
            }
            is_new
        });
        met.map(|(word, _)| word.bytes.clone()).collect()
    }

    pub(super) fn word(&self, word: PassageWord) -> &MatchedWord {
        &self.words[word.number as usize]
    }

    /// How similar a word is to the question's terms: all terms by the first of the [`SIMILARITIES`], then by the next.
    pub(super) fn similarities(&self, word: PassageWord) -> &[f32] {
        let all = SIMILARITIES * self.question.terms.len();
        &self.similarities[word.number as usize * all..][..all]
    }

    /// How similar a word is to one term by its letters.
    pub(super) fn spelling(&self, word: PassageWord, term: usize) -> f32 {
        self.similarities(word)[self.question.terms.len() + term]
    }

    /// The number of a word, which is compared with the question the first time.
    fn number(&mut self, word: &'a str) -> u32 {
        let next = self.words.len() as u32;
        let number = *self.numbers.entry(word).or_insert(next);
        if number == next {
            self.add(lexeme(word));
        }
        number
    }

    fn add(&mut self, lexeme: Arc<Lexeme>) {
        let (question, start) = (self.question, self.similarities.len());
        let terms = question.terms.len();
        self.similarities.resize(start + SIMILARITIES * terms, 0.0);
        let places = self.places.get(lexeme.term.as_str());
        let in_question = places.is_some();
        let (mut matches, mut met) = (false, false);
        for (at, term) in question.terms.iter().enumerate() {
            let similarity = if in_question && term.lexeme.term == lexeme.term {
                Similarity { exact: 1.0, spelling: 1.0, meaning: 1.0, sense: 1.0 }
            } else if lexeme.classes.stop {
                Similarity::default()
            } else {
                similarity(&term.lexeme, &lexeme)
            };
            matches |= similarity.spelling > 0.0;
            met |= similarity.spelling > 0.0 || similarity.sense >= SAME_SENSE;
            let Similarity { exact, spelling, meaning, sense } = similarity;
            for (by, value) in [exact, spelling, meaning, sense].into_iter().enumerate() {
                self.similarities[start + by * terms + at] = value;
            }
        }
        let focus = question.focus.and_then(|focus| question.terms[focus].lexeme.vector.as_ref());
        let focus_similarity = focus.zip(lexeme.vector.as_ref()).map_or(-1.0, |(a, b)| a.cosine(b));
        let places = places.cloned().unwrap_or_default();
        let added = !in_question && !lexeme.classes.stop;
        self.words.push(MatchedWord { in_question, added, places, matches, met, focus_similarity, lexeme });
    }
}

/// The similarity of two words that have not the same term.
fn similarity(a: &Lexeme, b: &Lexeme) -> Similarity {
    let spelling = spelling(&a.lower, &b.lower);
    let meaning = match (&a.vector, &b.vector) {
        (Some(a), Some(b)) => a.cosine(b).max(0.0),
        _ => 0.0,
    };
    let sense = (meaning - UNCLEAR).max(0.0) / (1.0 - UNCLEAR);
    Similarity { exact: 0.0, spelling, meaning: spelling.max(meaning), sense: spelling.max(sense) }
}

/// How similarly two different words are spelled; numbers are never similar.
fn spelling(a: &str, b: &str) -> f32 {
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

/// Whether what follows the common beginning of two words differs by one letter: added, left out, another, or two swapped
/// (Damerau 1964).
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
    fn words_are_similar_by_their_beginning_or_with_a_slip() {
        assert_eq!(spelling("entropic", "entropy"), SAME_BEGINNING);
        for (a, b) in [("einstein", "einstien"), ("einstein", "einsten"), ("lindsay", "lindsey"), ("riches", "richest")]
        {
            assert_eq!((spelling(a, b), spelling(b, a)), (MISSPELT, MISSPELT), "{a} {b}");
        }
        for (a, b) in
            [("star", "start"), ("1905", "1906"), ("universe", "university"), ("cat", "cats"), ("moon", "noon")]
        {
            assert!(spelling(a, b) < MISSPELT, "{a} {b}");
        }
        assert_eq!(spelling("moon", "noon"), 0.0);
    }
}

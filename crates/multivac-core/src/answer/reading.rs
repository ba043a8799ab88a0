//! A passage as the question meets it: its words, each with how near it comes to every term of the question.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use super::asked::Asked;
use super::lexicon::{Lexeme, lexeme};
use super::vectors::cosine;
use crate::index::words;
use crate::process::{answerable, sentences};

/// How near words come that begin alike ("entropic", "entropy"), and words that are a slip of one another.
const SAME_BEGINNING: f32 = 0.6;
const MISSPELT: f32 = 0.8;

/// Up to here two words' meanings are not clearly near.
const UNCLEAR: f32 = 0.45;

/// How near one word comes to one term of the question, each from 0 to 1.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Nearness {
    /// 1 where it is the same term.
    pub(super) exact: f32,
    /// By its letters.
    pub(super) spelling: f32,
    /// By its letters or its meaning.
    pub(super) meaning: f32,
    /// By its letters or its meaning, where that is clearly near: most pairs of words have a little in common.
    pub(super) sense: f32,
}

/// Words that were met in this question's passages, so that each is compared once.
pub(super) struct Met<'a> {
    pub(super) asked: &'a Asked,
    numbers: HashMap<*const Lexeme, u32>,
    lexemes: Vec<MetWord>,
    nearness: Vec<Nearness>,
}

/// A word, and what the question has to do with it.
pub(super) struct MetWord {
    pub(super) lexeme: Rc<Lexeme>,
    /// Whether the question says it.
    pub(super) said: bool,
    /// Where the question says it, counted in words.
    pub(super) places: Vec<usize>,
    /// Whether it comes near any term by its letters.
    pub(super) touches: bool,
}

/// One word of a passage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Where it begins, in bytes.
    pub(super) at: usize,
    /// Its number in [`Met`].
    pub(super) word: u32,
    /// Whether it begins with a capital letter.
    pub(super) capital: bool,
}

/// A passage that was read.
pub(super) struct Reading {
    pub(super) words: Vec<Seen>,
    /// Its sentences, or clauses of long ones: bytes, and words.
    pub(super) parts: Vec<Part>,
}

/// What can be an answer.
pub(super) struct Part {
    pub(super) bytes: Range<usize>,
    pub(super) words: Range<usize>,
    /// Whether it is a clause of a longer sentence.
    pub(super) cut: bool,
}

impl<'a> Met<'a> {
    pub(super) fn new(asked: &'a Asked) -> Self {
        Self { asked, numbers: HashMap::new(), lexemes: Vec::new(), nearness: Vec::new() }
    }

    /// Reads a passage.
    pub(super) fn read(&mut self, passage: &str) -> Reading {
        let mut seen = Vec::with_capacity(passage.len() / 5);
        for (at, word) in words(passage) {
            seen.push(Seen { at, word: self.number(word), capital: word.starts_with(char::is_uppercase) });
        }
        let within = |bytes: &Range<usize>| {
            seen.partition_point(|word| word.at < bytes.start)..seen.partition_point(|word| word.at < bytes.end)
        };
        let whole = sentences(passage);
        let parts = answerable(passage).into_iter().map(|bytes| Part {
            words: within(&bytes),
            cut: !whole.contains(&bytes),
            bytes,
        });
        Reading { parts: parts.collect(), words: seen }
    }

    pub(super) fn word(&self, seen: Seen) -> &MetWord {
        &self.lexemes[seen.word as usize]
    }

    /// How near a word comes to each of the question's terms.
    pub(super) fn nearness(&self, seen: Seen) -> &[Nearness] {
        let terms = self.asked.terms.len();
        &self.nearness[seen.word as usize * terms..][..terms]
    }

    fn number(&mut self, word: &str) -> u32 {
        let lexeme = lexeme(word);
        let next = self.lexemes.len() as u32;
        let number = *self.numbers.entry(Rc::as_ptr(&lexeme)).or_insert(next);
        if number == next {
            let mut touches = false;
            for term in &self.asked.terms {
                let nearness = nearness(&term.lexeme, &lexeme);
                touches |= nearness.spelling > 0.0;
                self.nearness.push(nearness);
            }
            // Kept alive, or another could come to lie at the same address.
            let places = self.asked.words.iter().enumerate().filter(|(_, term)| **term == lexeme.term);
            let places: Vec<usize> = places.map(|(at, _)| at).collect();
            self.lexemes.push(MetWord { said: !places.is_empty(), places, touches, lexeme });
        }
        number
    }
}

fn nearness(asked: &Lexeme, met: &Lexeme) -> Nearness {
    if asked.term == met.term {
        return Nearness { exact: 1.0, spelling: 1.0, meaning: 1.0, sense: 1.0 };
    }
    if met.classes.stop {
        return Nearness::default();
    }
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

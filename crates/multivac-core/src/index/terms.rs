//! From text to terms: the one analysis that indexing, searching and the features of candidates share.

use std::cell::RefCell;

use frostem::{Algorithm, Stemmer};
use tantivy::tokenizer::{Token, TokenStream, Tokenizer};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_segmentation::UnicodeSegmentation;

use crate::process::markup;

/// The longest word, in bytes; longer ones are encoded data and the like, and cannot be searched for. Words of Malayalam or
/// Tamil can have forty letters of three bytes.
const MAX_WORD_BYTES: usize = 120;

/// The stems that each thread caches: text repeats its words, and stemming is the most expensive step.
const STEM_CACHE_SIZE: usize = 20_000;

thread_local! {
    static STEMS: RefCell<foldhash::HashMap<String, String>> = RefCell::default();
}

/// The words of a text with the byte offset of each, by Unicode's rules (UAX 29), without those within HTML tags. Each
/// ideograph is a word by itself.
pub fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let markup = if text.contains(['<', '&']) { markup(text) } else { Vec::new() };
    let mut tags = markup.into_iter().peekable();
    text.unicode_word_indices().filter(move |(at, word)| {
        while tags.next_if(|tag| tag.end <= *at).is_some() {}
        word.len() <= MAX_WORD_BYTES && tags.peek().is_none_or(|tag| *at < tag.start)
    })
}

/// The terms of a text with the byte offset of each word.
fn terms(text: &str) -> impl Iterator<Item = (usize, String)> {
    words(text).map(|(at, word)| (at, term(word)))
}

/// The term of one word: lower-cased, accents removed, stemmed as English (Snowball).
#[must_use]
pub fn term(word: &str) -> String {
    STEMS.with_borrow_mut(|stems| {
        if let Some(stem) = stems.get(word) {
            return stem.clone();
        }
        if stems.len() >= STEM_CACHE_SIZE {
            stems.clear();
        }
        let stem = stem(word);
        stems.insert(word.to_owned(), stem.clone());
        stem
    })
}

fn stem(word: &str) -> String {
    let lower = if word.is_ascii() {
        word.to_ascii_lowercase()
    } else {
        word.nfkd().filter(|c| !is_combining_mark(*c)).collect::<String>().to_lowercase()
    };
    let lower = lower.replace('\u{2019}', "'");
    let bare = lower.strip_suffix("'s").unwrap_or(&lower);
    Stemmer::new(Algorithm::English).stem(bare).into_owned()
}

/// The analysis as tantivy's interface requires it.
#[derive(Clone, Default)]
pub(super) struct Terms {
    token: Token,
}

impl Tokenizer for Terms {
    type TokenStream<'a> = TermStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> TermStream<'a> {
        self.token.reset();
        TermStream { words: Box::new(terms(text)), token: &mut self.token }
    }
}

/// The terms of one text, for [`Terms`].
pub(super) struct TermStream<'a> {
    words: Box<dyn Iterator<Item = (usize, String)> + 'a>,
    token: &'a mut Token,
}

impl TokenStream for TermStream<'_> {
    fn advance(&mut self) -> bool {
        let Some((at, term)) = self.words.next() else { return false };
        self.token.position = self.token.position.wrapping_add(1);
        self.token.offset_from = at;
        self.token.offset_to = at;
        self.token.text = term;
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<String> {
        terms(text).map(|(_, term)| term).collect()
    }

    #[test]
    fn words_of_one_stem_are_one_term() {
        assert_eq!(all("reversed Reverses REVERSING"), ["revers", "revers", "revers"]);
    }

    #[test]
    fn accents_and_possessives_do_not_change_a_term() {
        assert_eq!(all("Beyoncé's Beyonce’s beyonce"), ["beyonc", "beyonc", "beyonc"]);
    }

    #[test]
    fn tags_and_entities_hold_no_words() {
        assert_eq!(all("<p class=\"big\">Stars&nbsp;shine</p> a<b"), ["star", "shine", "a", "b"]);
    }

    #[test]
    fn ideographs_are_found_one_by_one() {
        assert_eq!(all("宇宙"), ["宇", "宙"]);
    }
}

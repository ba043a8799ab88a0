//! From text to terms: the one analysis that indexing, searching and the features of candidates share. `words` says where
//! the words of a text are, `folding` brings each into the form in which it is compared.

mod folding;
mod words;

use std::cell::RefCell;

use frostem::{Algorithm, Stemmer};
use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

pub use folding::{lower, respelled};
pub use words::words;

/// The stems that each thread caches: text repeats its words, and stemming is the most expensive step.
const STEM_CACHE_SIZE: usize = 20_000;

thread_local! {
    static STEMS: RefCell<foldhash::HashMap<String, String>> = RefCell::default();
}

/// The terms of a text with the byte offset of each word.
fn terms(text: &str) -> impl Iterator<Item = (usize, String)> {
    words(text).map(|(at, word)| (at, term(word)))
}

/// The term of one word, as it was fed or as it is asked for: in the form that people type most simply, stemmed as English
/// (Snowball).
#[must_use]
pub fn term(word: &str) -> String {
    STEMS.with_borrow_mut(|stems| {
        if let Some(stem) = stems.get(word) {
            return stem.clone();
        }
        if stems.len() >= STEM_CACHE_SIZE {
            stems.clear();
        }
        let stem = Stemmer::new(Algorithm::English).stem(&folding::folded(word)).into_owned();
        stems.insert(word.to_owned(), stem.clone());
        stem
    })
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
#[path = "terms_tests.rs"]
mod tests;

//! From text to terms: the one analysis that indexing, searching and the features of candidates share. `words` says where
//! the words of a text are, `folding` brings each into the form in which it is compared.

mod folding;
mod words;

use std::cell::RefCell;

use frostem::{Algorithm, Stemmer};

pub use folding::{lower, respelled};
pub use words::words;

/// The stems that each thread caches: text repeats its words, and stemming is the most expensive step.
const STEM_CACHE_SIZE: usize = 20_000;

thread_local! {
    static STEMS: RefCell<foldhash::HashMap<String, String>> = RefCell::default();
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

#[cfg(test)]
#[path = "terms_tests.rs"]
mod tests;

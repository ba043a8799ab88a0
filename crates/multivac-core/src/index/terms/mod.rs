//! From text to terms: the one analysis that indexing, searching and the features of candidates share. `words` says where
//! the words of a text are, `folding` brings each into the form in which it is compared.

mod folding;
mod words;

use std::cell::RefCell;
use std::mem;

use frostem::{Algorithm, Stemmer};

pub use folding::{lower, respelled};
pub use words::words;

/// How many stems each thread caches at most, by half: text repeats its words, and stemming is the most expensive step.
const STEM_CACHE_SIZE: usize = 20_000;

thread_local! {
    static STEMS: RefCell<Stems> = RefCell::default();
}

/// The stems of the words that came lately. When the one half is full, the other is forgotten, so that the words that are
/// used all the time stay, however many rare ones come between them.
#[derive(Default)]
struct Stems {
    used: foldhash::HashMap<String, Box<str>>,
    before: foldhash::HashMap<String, Box<str>>,
}

/// The term of one word, as it was fed or as it is asked for: in the form that people type most simply, stemmed as English
/// (Snowball).
#[must_use]
pub fn term(word: &str) -> String {
    with_term(word, str::to_owned)
}

/// Hands over the [`term`] of a word, which need not be copied then.
pub(super) fn with_term<R>(word: &str, take: impl FnOnce(&str) -> R) -> R {
    // A number is its own term, and there is no end to them: they would only drive words out of the cache.
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        return take(word);
    }
    STEMS.with_borrow_mut(|stems| stems.with(word, take))
}

impl Stems {
    fn with<R>(&mut self, word: &str, take: impl FnOnce(&str) -> R) -> R {
        if let Some(stem) = self.used.get(word) {
            return take(stem);
        }
        let stem = self.before.remove(word).unwrap_or_else(|| stem(word));
        if self.used.len() >= STEM_CACHE_SIZE / 2 {
            self.before = mem::take(&mut self.used);
        }
        take(self.used.entry(word.to_owned()).or_insert(stem))
    }
}

fn stem(word: &str) -> Box<str> {
    Stemmer::new(Algorithm::English).stem(&folding::folded(word)).into()
}

#[cfg(test)]
#[path = "terms_tests.rs"]
mod tests;

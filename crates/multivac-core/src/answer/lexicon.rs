//! What is known of a word by itself: its term, its vector, and what kinds of words it belongs to.

use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use super::vectors::{Vector, vector};
use crate::index::{lower, term};
use crate::words::{self, WordList};

/// Words in one generation of the cache. There are two, some 40 MiB together: text repeats its words, and analysing one is
/// expensive.
const GENERATION_SIZE: usize = 65_536;

/// The rarity of words without a vector.
const UNKNOWN_RARITY: f32 = 10.0;

static CLASSES: LazyLock<foldhash::HashMap<&'static str, Classes>> = LazyLock::new(|| {
    let mut classes: foldhash::HashMap<&'static str, Classes> = foldhash::HashMap::default();
    let mut mark = |words: &WordList, set: fn(&mut Classes)| {
        for word in words {
            set(classes.entry(word).or_default());
        }
    };
    mark(&words::STOP_WORDS, |c| c.stop = true);
    mark(&words::NUMBERS, |c| c.number = true);
    mark(&words::DATES, |c| c.date = true);
    mark(&words::REASONS, |c| c.reason = true);
    mark(&words::MANNERS, |c| c.manner = true);
    mark(&words::PLACE_PREPOSITIONS, |c| c.leads_place = true);
    mark(&words::NEGATIONS, |c| c.negates = true);
    mark(&words::PRONOUNS, |c| c.points_back = true);
    classes
});

/// The kinds of words that a word belongs to; see `words/` for the lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Classes {
    pub(super) stop: bool,
    pub(super) number: bool,
    pub(super) date: bool,
    pub(super) reason: bool,
    pub(super) manner: bool,
    pub(super) leads_place: bool,
    pub(super) negates: bool,
    pub(super) points_back: bool,
}

/// A word by itself.
#[derive(Debug)]
pub(super) struct Lexeme {
    /// Its term in the index.
    pub(super) term: String,
    /// In lower case, without a possessive ending.
    pub(super) lower: String,
    /// The kinds of words it belongs to.
    pub(super) classes: Classes,
    /// Its vector, where it is known.
    pub(super) vector: Option<Vector>,
    /// How rare it is in English at large, from 0.7 to about 10.
    pub(super) rarity: f32,
}

/// The words that all threads have looked up, in two generations. When the recent one is full it becomes the older one, and
/// words that were not looked up since then are dropped: never all at once, which would make the next question slow.
#[derive(Default)]
struct Cache {
    recent: foldhash::HashMap<Box<str>, Arc<Lexeme>>,
    older: foldhash::HashMap<Box<str>, Arc<Lexeme>>,
}

static CACHE: LazyLock<RwLock<Cache>> = LazyLock::new(RwLock::default);

/// What is known of a word.
pub(super) fn lexeme(word: &str) -> Arc<Lexeme> {
    let cache = CACHE.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(lexeme) = cache.recent.get(word) {
        return Arc::clone(lexeme);
    }
    let lexeme = cache.older.get(word).map(Arc::clone);
    drop(cache);
    let lexeme = lexeme.unwrap_or_else(|| Arc::new(Lexeme::new(word)));
    let mut cache = CACHE.write().unwrap_or_else(PoisonError::into_inner);
    if cache.recent.len() >= GENERATION_SIZE {
        cache.older = std::mem::take(&mut cache.recent);
    }
    cache.recent.insert(word.into(), Arc::clone(&lexeme));
    lexeme
}

impl Lexeme {
    fn new(word: &str) -> Self {
        let lower = lower(word);
        let bare = lower.as_str();
        let mut classes = CLASSES.get(bare).copied().unwrap_or_default();
        classes.number |= bare.contains(|c: char| c.is_ascii_digit());
        classes.date |= is_year(bare);
        classes.negates |= bare.ends_with("n't") || bare.ends_with("n’t");
        let (vector, rarity) = vector(bare).map_or((None, UNKNOWN_RARITY), |(vector, rarity)| (Some(vector), rarity));
        Self { term: term(word), vector, rarity, classes, lower }
    }
}

/// Whether a word is a year or a decade from 1000 to 2199: "1066", "1990s".
fn is_year(word: &str) -> bool {
    let digits = word.strip_suffix('s').unwrap_or(word);
    digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()) && matches!(digits.parse::<u32>(), Ok(1000..=2199))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_and_decades_are_dates() {
        for word in ["1066", "1990s", "July"] {
            assert!(lexeme(word).classes.date, "{word}");
        }
        for word in ["10666", "3000", "soon"] {
            assert!(!lexeme(word).classes.date, "{word}");
        }
    }

    #[test]
    fn possessives_and_capitals_do_not_change_a_word() {
        assert_eq!(lexeme("Einstein's").lower, "einstein");
        assert!(lexeme("The").classes.stop);
        assert!(lexeme("isn't").classes.negates);
    }
}

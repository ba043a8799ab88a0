//! What is known of a word by itself: its term, its meaning, and what kind of thing it can name.

use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use super::vectors::{Vector, vector};
use crate::index::term;
use crate::words::{self, WordList};

/// Words remembered at most are twice as many, some 40 MiB: text repeats its words, and taking one apart is dear.
const REMEMBERED: usize = 65_536;

/// The rarity of words that the vectors do not know.
const UNKNOWN: f32 = 10.0;

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

/// Kinds that a word belongs to.
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
    /// As the index knows it.
    pub(super) term: String,
    /// In lower case.
    pub(super) lower: String,
    /// What kind of word it is.
    pub(super) classes: Classes,
    /// Its meaning, where it is known.
    pub(super) vector: Option<Vector>,
    /// How rare it is in English at large, from 0.7 to some 10.
    pub(super) rarity: f32,
}

/// The words that were met, by all threads. When there are too many, those are forgotten that were not met since the last
/// time: never all at once, which the next question would have to pay for.
#[derive(Default)]
struct Known {
    lately: foldhash::HashMap<Box<str>, Arc<Lexeme>>,
    before: foldhash::HashMap<Box<str>, Arc<Lexeme>>,
}

static KNOWN: LazyLock<RwLock<Known>> = LazyLock::new(RwLock::default);

/// What is known of a word.
pub(super) fn lexeme(word: &str) -> Arc<Lexeme> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(lexeme) = known.lately.get(word) {
        return Arc::clone(lexeme);
    }
    let lexeme = known.before.get(word).map(Arc::clone);
    drop(known);
    let lexeme = lexeme.unwrap_or_else(|| Arc::new(Lexeme::new(word)));
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    if known.lately.len() >= REMEMBERED {
        known.before = std::mem::take(&mut known.lately);
    }
    known.lately.insert(word.into(), Arc::clone(&lexeme));
    lexeme
}

impl Lexeme {
    fn new(word: &str) -> Self {
        let lower = word.to_lowercase();
        let bare = lower.strip_suffix("'s").or_else(|| lower.strip_suffix("’s")).unwrap_or(&lower);
        let mut classes = CLASSES.get(bare).copied().unwrap_or_default();
        classes.number |= bare.contains(|c: char| c.is_ascii_digit());
        classes.date |= is_year(bare);
        classes.negates |= bare.ends_with("n't") || bare.ends_with("n’t");
        let (vector, rarity) = vector(bare).map_or((None, UNKNOWN), |(vector, rarity)| (Some(vector), rarity));
        Self { term: term(word), vector, rarity, classes, lower: bare.to_owned() }
    }
}

/// 1066, 1990s.
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
    fn possessives_and_capitals_make_no_other_word() {
        assert_eq!(lexeme("Einstein's").lower, "einstein");
        assert!(lexeme("The").classes.stop);
        assert!(lexeme("isn't").classes.negates);
    }
}

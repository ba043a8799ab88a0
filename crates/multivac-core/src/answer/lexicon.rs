//! What is known of a word by itself: its term, its meaning, and what kind of thing it can name.

use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use super::vectors::{Vector, vector};
use crate::index::term;

/// Words remembered at most are twice as many, some 40 MiB: text repeats its words, and taking one apart is dear.
const REMEMBERED: usize = 65_536;

/// The rarity of words that the vectors do not know.
const UNKNOWN: f32 = 10.0;

/// Words without a weight of their own: they say how things hang together, not what is asked for.
const STOP_WORDS: &[&str] = &[
    "a", "about", "after", "again", "all", "also", "an", "and", "any", "are", "as", "at", "be", "because", "been",
    "before", "being", "between", "both", "but", "by", "can", "could", "did", "do", "does", "doing", "done", "during",
    "each", "for", "from", "had", "has", "have", "having", "he", "her", "hers", "him", "his", "how", "i", "if", "in",
    "into", "is", "it", "its", "itself", "just", "may", "me", "might", "more", "most", "must", "my", "no", "nor",
    "not", "of", "off", "on", "once", "only", "or", "other", "our", "out", "over", "own", "same", "shall", "she",
    "should", "so", "some", "such", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this",
    "those", "through", "to", "too", "under", "up", "upon", "us", "very", "was", "we", "were", "what", "when", "where",
    "which", "while", "who", "whom", "whose", "why", "will", "with", "would", "you", "your",
];

const NUMBER_WORDS: &[&str] = &[
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
    "thirty",
    "forty",
    "fifty",
    "sixty",
    "seventy",
    "eighty",
    "ninety",
    "hundred",
    "hundreds",
    "thousand",
    "thousands",
    "million",
    "millions",
    "billion",
    "billions",
    "trillion",
    "dozen",
    "dozens",
    "half",
    "third",
    "quarter",
    "twice",
    "percent",
    "couple",
    "several",
    "first",
    "second",
    "fourth",
    "fifth",
    "single",
    "double",
    "triple",
];

const DATE_WORDS: &[&str] = &[
    "january",
    "february",
    "march",
    "april",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "century",
    "centuries",
    "decade",
    "decades",
    "bc",
    "bce",
    "ad",
    "ce",
    "spring",
    "summer",
    "autumn",
    "winter",
    "today",
    "yesterday",
    "tomorrow",
];

const REASON_WORDS: &[&str] = &[
    "because",
    "due",
    "since",
    "cause",
    "causes",
    "caused",
    "causing",
    "reason",
    "reasons",
    "result",
    "resulted",
    "resulting",
    "therefore",
    "thus",
    "owing",
    "led",
    "leads",
    "order",
    "so",
    "allow",
    "allows",
    "prevent",
    "avoid",
    "fear",
    "hence",
    "believed",
    "wanted",
];

const MANNER_WORDS: &[&str] =
    &["by", "through", "via", "using", "with", "means", "method", "process", "into", "until", "when"];

/// Words after which a name is likely a place.
const PLACE_LEADS: &[&str] =
    &["in", "at", "from", "near", "to", "of", "into", "outside", "across", "around", "between", "throughout", "off"];

static CLASSES: LazyLock<foldhash::HashMap<&'static str, Classes>> = LazyLock::new(|| {
    let mut classes: foldhash::HashMap<&'static str, Classes> = foldhash::HashMap::default();
    let mut mark = |words: &[&'static str], set: fn(&mut Classes)| {
        for word in words {
            set(classes.entry(word).or_default());
        }
    };
    mark(STOP_WORDS, |c| c.stop = true);
    mark(NUMBER_WORDS, |c| c.number = true);
    mark(DATE_WORDS, |c| c.date = true);
    mark(REASON_WORDS, |c| c.reason = true);
    mark(MANNER_WORDS, |c| c.manner = true);
    mark(PLACE_LEADS, |c| c.leads_place = true);
    mark(&["not", "never", "no", "none", "neither", "nor", "without", "cannot"], |c| c.negates = true);
    mark(&["he", "she", "it", "they", "this", "these", "his", "her", "their", "its"], |c| c.points_back = true);
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

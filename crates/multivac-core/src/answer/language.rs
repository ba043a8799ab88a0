//! In which language a question is asked, as far as its small words show it: which of its words have no
//! content.

use std::sync::Arc;

use super::lexicon::Lexeme;
use crate::words::{LANGUAGES, Language};

/// The language of a question other than English: the one that has most of its words among those that carry grammar or ask.
/// `None` for English, and where it is not clear.
pub(super) fn language(words: &[(&str, Arc<Lexeme>)]) -> Option<&'static Language> {
    let english = words.iter().filter(|(_, lexeme)| lexeme.classes.stop).count();
    let known =
        |language: &Language| words.iter().filter(|(_, lexeme)| has_no_content(language, &lexeme.lower)).count();
    let mut best = (english, None);
    for language in LANGUAGES.iter() {
        let count = known(language);
        if count > best.0 {
            best = (count, Some(language));
        }
    }
    best.1
}

/// Whether a word carries grammar or asks, in a language.
pub(super) fn has_no_content(language: &Language, lower: &str) -> bool {
    // Of "qu'est" the second word counts.
    let word = lower.rsplit(['\'', '\u{2019}']).next().unwrap_or(lower);
    language.stop_words.contains(word) || language.question_words.contains_key(word)
}

//! A passage as it is indexed: what is found out about it once, for the memory and for the segments alike.

use std::str::SplitTerminator;
use std::sync::Arc;

use super::Outline;
use super::postings::Scaled;
use super::terms::with_term;
use crate::datum::DatumId;

/// What is between two terms: a control character, which no word has in it (the unit separator of ASCII).
const SEPARATOR: char = '\u{1f}';

/// A passage with its outline and its terms.
#[derive(Debug, Clone)]
pub(super) struct Passage {
    pub(super) text: Arc<str>,
    pub(super) outline: Arc<Outline>,
    /// Its terms in their order, as one text.
    terms: Box<str>,
}

impl Passage {
    pub(super) fn new(text: &str) -> Self {
        let outline = Outline::of(text);
        let mut terms = String::with_capacity(text.len());
        for word in &outline.words {
            with_term(&text[word.bytes.clone()], |term| terms.push_str(term));
            terms.push(SEPARATOR);
        }
        Self { text: text.into(), outline: Arc::new(outline), terms: terms.into() }
    }

    /// Its terms, as [`split`] takes them.
    pub(super) fn joined_terms(&self) -> &str {
        &self.terms
    }

    pub(super) fn terms(&self) -> impl Iterator<Item = &str> {
        split(&self.terms)
    }
}

/// A passage that a search came upon.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The datum it is out of.
    pub id: DatumId,
    /// Its text.
    pub passage: String,
    /// Where its words and sentences lie.
    pub outline: Outline,
    /// BM25.
    pub score: f32,
    /// Which of the terms it has, in what each could add to BM25 at most.
    pub(super) coverage: Scaled,
}

/// The terms in a text that holds a passage's.
pub(super) fn split(terms: &str) -> SplitTerminator<'_, char> {
    terms.split_terminator(SEPARATOR)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::{term, words};

    proptest! {
        #[test]
        fn its_terms_are_those_of_its_words(text in "(\\PC|[a-zA-Z .!?\n\u{1f}-]){0,300}") {
            let expected: Vec<String> = words(&text).map(|(_, word)| term(word)).collect();
            let passage = Passage::new(&text);
            prop_assert_eq!(passage.terms().collect::<Vec<_>>(), expected);
        }
    }
}

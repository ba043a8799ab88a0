//! Where a passage's words and its answerable parts lie: worked out once, when it is indexed, and kept beside its text, so
//! that a question need not split each passage that it comes upon.

use std::ops::Range;

use super::words;
use crate::process::{answerable, sentences};

/// The outline of one passage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// Its words, in their order.
    pub words: Vec<Word>,
    /// Its sentences, or clauses of long ones, in their order.
    pub parts: Vec<Part>,
}

/// A word of a passage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Where it lies.
    pub bytes: Range<usize>,
    /// Whether it begins with a capital letter.
    pub capital: bool,
}

/// What can be an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it lies.
    pub bytes: Range<usize>,
    /// Which of the passage's words begin in it.
    pub words: Range<usize>,
    /// Whether it is a clause of a longer sentence.
    pub cut: bool,
}

/// Marks the length of a word that begins with a capital letter; words are shorter than this.
const CAPITAL: u8 = 0x80;

impl Outline {
    /// The outline of a passage.
    #[must_use]
    pub fn of(passage: &str) -> Self {
        let words: Vec<Word> = words(passage)
            .map(|(at, word)| Word { bytes: at..at + word.len(), capital: word.starts_with(char::is_uppercase) })
            .collect();
        let whole = sentences(passage);
        let parts = answerable(passage).into_iter().map(|bytes| Part {
            words: within(&words, &bytes),
            cut: !whole.contains(&bytes),
            bytes,
        });
        Self { parts: parts.collect(), words }
    }

    /// As it is stored: gaps and lengths, some two bytes a word.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + 4 * self.parts.len() + 2 * self.words.len());
        put(&mut out, self.parts.len());
        let mut end = 0;
        for part in &self.parts {
            put(&mut out, part.bytes.start - end);
            put(&mut out, (part.bytes.len() << 1) | usize::from(part.cut));
            end = part.bytes.end;
        }
        end = 0;
        for word in &self.words {
            put(&mut out, word.bytes.start - end);
            let length = u8::try_from(word.bytes.len()).expect("words are short, or not words");
            out.push(length | if word.capital { CAPITAL } else { 0 });
            end = word.bytes.end;
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote; what is no outline has no words from there on.
    #[must_use]
    pub fn decode(mut stored: &[u8]) -> Self {
        let stored = &mut stored;
        let mut parts = Vec::new();
        let mut end = 0;
        for _ in 0..take(stored).unwrap_or(0) {
            let (Some(gap), Some(length)) = (take(stored), take(stored)) else { break };
            let start = end + gap;
            end = start + (length >> 1);
            parts.push(Part { bytes: start..end, words: 0..0, cut: length & 1 == 1 });
        }
        let mut words = Vec::with_capacity(stored.len() / 2);
        end = 0;
        while let Some(gap) = take(stored) {
            let Some((length, rest)) = stored.split_first() else { break };
            *stored = rest;
            let start = end + gap;
            end = start + usize::from(length & !CAPITAL);
            words.push(Word { bytes: start..end, capital: length & CAPITAL != 0 });
        }
        for part in &mut parts {
            part.words = within(&words, &part.bytes);
        }
        Self { words, parts }
    }
}

fn within(words: &[Word], bytes: &Range<usize>) -> Range<usize> {
    let before = |end: usize| words.partition_point(|word| word.bytes.start < end);
    before(bytes.start)..before(bytes.end)
}

/// Seven bits a byte, the lowest first; all but the last byte have the highest bit.
fn put(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(from: &mut &[u8]) -> Option<usize> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        number |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_outline_is_read_as_it_was_written(text in "(\\PC|[a-zA-Z .!?\n]){0,600}") {
            let outline = Outline::of(&text);
            prop_assert_eq!(Outline::decode(&outline.encode()), outline);
        }

        #[test]
        fn what_is_no_outline_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Outline::decode(&bytes);
        }
    }
}

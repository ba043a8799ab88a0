//! Where the words and sentences of a passage are: computed once, when it is indexed, and stored beside its text, so that a
//! question need not split each passage that it finds.

use std::ops::Range;

use integer_encoding::VarInt;

use super::words;
use crate::process::answerable;

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
    /// Its bytes in the passage.
    pub bytes: Range<usize>,
    /// Whether it begins with a capital letter.
    pub capital: bool,
}

/// A sentence, or a clause of a long one: what can be an answer; see [`Sentence`](crate::process::Sentence).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its bytes in the passage.
    pub bytes: Range<usize>,
    /// Which of the passage's words begin in it.
    pub words: Range<usize>,
    /// Whether it is a clause of a longer sentence.
    pub cut: bool,
    /// Whether it is a record of its own: those beside it are not its context.
    pub line: bool,
    /// Whether it states something, and so can be an answer.
    pub states: bool,
    /// Which of the passage's parts it is to be read with: the head of its table, the lead-in of its list, its heading.
    pub lead: Option<usize>,
}

impl Outline {
    /// The outline of a passage.
    #[must_use]
    pub fn of(passage: &str) -> Self {
        let words: Vec<Word> = words(passage)
            .map(|(at, word)| Word { bytes: at..at + word.len(), capital: word.starts_with(char::is_uppercase) })
            .collect();
        let parts = answerable(passage).into_iter().map(|sentence| Part {
            words: within(&words, &sentence.bytes),
            cut: sentence.cut,
            line: sentence.line,
            states: sentence.states,
            lead: sentence.lead,
            bytes: sentence.bytes,
        });
        Self { parts: parts.collect(), words }
    }

    /// The stored form: distances and lengths as LEB128, about two bytes a word. Words may lie within one another, so it is
    /// their beginnings that are in order.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + 4 * self.parts.len() + 2 * self.words.len());
        put(&mut out, self.parts.len());
        let mut end = 0;
        for (at, part) in self.parts.iter().enumerate() {
            put(&mut out, part.bytes.start - end);
            let flags = [part.cut, part.line, part.states].map(usize::from);
            put(&mut out, part.bytes.len() << 3 | flags[2] << 2 | flags[1] << 1 | flags[0]);
            // Leads are mostly near, and never the part itself.
            put(&mut out, part.lead.map_or(0, |lead| at.abs_diff(lead) << 1 | usize::from(lead > at)));
            end = part.bytes.end;
        }
        let mut start = 0;
        for word in &self.words {
            put(&mut out, word.bytes.start - start);
            put(&mut out, word.bytes.len() << 1 | usize::from(word.capital));
            start = word.bytes.start;
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote. What follows the first malformed byte is ignored.
    #[must_use]
    pub fn decode(mut stored: &[u8]) -> Self {
        let stored = &mut stored;
        let mut parts = Vec::new();
        let mut end = 0;
        for at in 0..take(stored).unwrap_or(0) {
            let (Some(gap), Some(length), Some(lead)) = (take(stored), take(stored), take(stored)) else { break };
            let Some((start, after)) = advance(end, gap, length >> 3) else { break };
            end = after;
            let flag = |bit: usize| length >> bit & 1 == 1;
            let (distance, after) = (lead >> 1, lead & 1 == 1);
            let lead = if after { at.checked_add(distance) } else { at.checked_sub(distance) };
            let lead = lead.filter(|_| distance > 0);
            parts.push(Part { bytes: start..end, words: 0..0, cut: flag(0), line: flag(1), states: flag(2), lead });
        }
        let count = parts.len();
        parts.iter_mut().for_each(|part| part.lead = part.lead.filter(|lead| *lead < count));
        let mut words = Vec::with_capacity(stored.len() / 2);
        let mut before = 0;
        while let (Some(gap), Some(length)) = (take(stored), take(stored)) {
            let Some((start, end)) = advance(before, gap, length >> 1) else { break };
            before = start;
            words.push(Word { bytes: start..end, capital: length & 1 == 1 });
        }
        for part in &mut parts {
            part.words = within(&words, &part.bytes);
        }
        Self { words, parts }
    }
}

/// Where a range begins and ends that is `gap` after `end`; `None` where a malformed number is too large.
fn advance(end: usize, gap: usize, length: usize) -> Option<(usize, usize)> {
    let start = end.checked_add(gap)?;
    Some((start, start.checked_add(length)?))
}

/// Which of the words begin in a range of bytes.
fn within(words: &[Word], bytes: &Range<usize>) -> Range<usize> {
    let before = |end: usize| words.partition_point(|word| word.bytes.start < end);
    before(bytes.start)..before(bytes.end)
}

fn put(out: &mut Vec<u8>, number: usize) {
    let mut bytes = [0; 10];
    let length = number.encode_var(&mut bytes);
    out.extend_from_slice(&bytes[..length]);
}

fn take(from: &mut &[u8]) -> Option<usize> {
    let (number, length) = usize::decode_var(from)?;
    *from = &from[length..];
    Some(number)
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
        fn malformed_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Outline::decode(&bytes);
        }
    }
}

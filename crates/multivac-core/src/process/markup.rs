//! Recognises HTML that was pasted as text. Words within tags are not searched for, and no answer begins or ends with a tag;
//! what is between the tags stays word for word what was fed.
//!
//! There is no parser: a tag is `<`, a tag name of HTML, and a `>` soon after. `a < b` and `Vec<u8>` are no tags.

use std::ops::Range;

use crate::words::{BLOCK_TAGS, ENTITIES, INLINE_TAGS};

/// The longest tag, in bytes. A longer one counts as text, so that the time to scan a text stays proportional to its length.
const MAX_TAG_BYTES: usize = 1_000;

/// The longest name of an entity, in bytes.
const MAX_ENTITY_BYTES: usize = 24;

/// What Windows-1252 has where Unicode has controls, from 0x80 to 0x9F; a space where it has nothing.
const WINDOWS_1252: &str = "€ ‚ƒ„…†‡ˆ‰Š‹Œ Ž  ‘’“”•–—˜™š›œ žŸ";

/// A tag at the beginning of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    /// Its length in bytes.
    pub(super) length: usize,
    /// Whether a sentence continues after it.
    pub(super) inline: bool,
    /// Whether a word does.
    pub(super) within_word: bool,
}

/// The tag at the beginning of a text; `None` where it does not begin with one.
pub(super) fn tag(text: &str) -> Option<Tag> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'<') {
        return None;
    }
    if bytes.starts_with(b"<!doctype") || bytes.starts_with(b"<!DOCTYPE") {
        return Some(Tag { length: close(bytes)?, inline: false, within_word: false });
    }
    let from = 1 + usize::from(bytes.get(1) == Some(&b'/'));
    let name = bytes[from..].iter().take(12).take_while(|b| b.is_ascii_alphanumeric()).count();
    let lower = text[from..from + name].to_ascii_lowercase();
    if !matches!(bytes.get(from + name), Some(b'>' | b'/' | b' ' | b'\t' | b'\n')) {
        return None;
    }
    let inline = INLINE_TAGS.contains(lower.as_str());
    (inline || BLOCK_TAGS.contains(lower.as_str())).then_some(())?;
    Some(Tag { length: close(bytes)?, inline, within_word: matches!(lower.as_str(), "wbr" | "sub") })
}

/// The length of a tag, up to its `>`; one within quotes does not close it. `None` where another `<` comes first.
fn close(bytes: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in bytes.iter().enumerate().take(MAX_TAG_BYTES).skip(1) {
        match (byte, quote) {
            (b'>', None) => return Some(at + 1),
            (b'<', None) => return None,
            (b'"' | b'\'', None) => quote = Some(byte),
            (_, Some(open)) if open == byte => quote = None,
            _ => {}
        }
    }
    None
}

/// The parts of a text that a browser does not show: scripts, styles and comments, each from its beginning to its end.
pub(super) fn hidden(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    // Where one of these is not closed in the rest of the text, it is not searched for again: this keeps the time linear.
    let mut open = [("<script", "</script>", true), ("<style", "</style>", true), ("<!--", "-->", true)];
    while let Some(begin) = text[at..].find('<').map(|i| at + i) {
        at = begin + 1;
        for (opening, closing, closes) in &mut open {
            if !*closes || !starts_with(&text[begin..], opening) {
                continue;
            }
            match find(&text[at..], closing) {
                Some(end) => {
                    at += end + closing.len();
                    found.push(begin..at);
                }
                None => *closes = false,
            }
            break;
        }
    }
    found
}

fn starts_with(text: &str, ascii: &str) -> bool {
    text.as_bytes().get(..ascii.len()).is_some_and(|start| start.eq_ignore_ascii_case(ascii.as_bytes()))
}

fn find(text: &str, ascii: &str) -> Option<usize> {
    text.match_indices(&ascii[..1]).map(|(at, _)| at).find(|at| starts_with(&text[*at..], ascii))
}

/// The tags and entities of a text, whose letters are no words.
#[must_use]
pub fn markup(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(begin) = text[at..].find(['<', '&']).map(|i| at + i) {
        let length = tag(&text[begin..]).map(|tag| tag.length).or_else(|| Some(entity(&text[begin..])?.0));
        at = begin + length.unwrap_or(1);
        if length.is_some() {
            found.push(begin..at);
        }
    }
    found
}

/// The entity at the beginning of a text: its length, and the character that it stands for. `&nbsp;`, `&#160;`, `&#xA0;`.
pub(super) fn entity(text: &str) -> Option<(usize, char)> {
    let body = text.strip_prefix('&')?;
    let length = body.bytes().take(MAX_ENTITY_BYTES).take_while(|b| b.is_ascii_alphanumeric() || *b == b'#').count();
    let (name, rest) = body.split_at(length);
    rest.starts_with(';').then_some(())?;
    let char = match name.strip_prefix('#') {
        None => *ENTITIES.get(name)?,
        Some(code) => {
            let code = match code.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => code.parse(),
            };
            // Those of controls were meant for Windows-1252, which browsers heed. What is no character shows as nothing.
            let code = code.ok()?;
            let windows = code.checked_sub(0x80).and_then(|at| WINDOWS_1252.chars().nth(at as usize));
            windows.or_else(|| char::from_u32(code)).unwrap_or('\0')
        }
    };
    Some((length + 2, char))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_are_distinguished_from_other_signs() {
        assert_eq!(tag("<b>x"), Some(Tag { length: 3, inline: true, within_word: false }));
        assert_eq!(tag("</P >x"), Some(Tag { length: 5, inline: false, within_word: false }));
        assert_eq!(tag("<a href=\"x>y\">z"), Some(Tag { length: 14, inline: true, within_word: false }));
        for text in ["<", "< b>", "<b", "<u8>", "<bold>", "<b <i>", "<3", "a<b>", "<ü>", "</", "<a\u{301}>"] {
            assert_eq!(tag(text), None, "{text}");
        }
    }

    #[test]
    fn scripts_styles_and_comments_are_hidden_where_they_are_closed() {
        let text = "a<script>if (b) { c }</script>d<STYLE>e</style>f<!-- g -->h<script>i";
        let hidden: Vec<_> = hidden(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(hidden, ["<script>if (b) { c }</script>", "<STYLE>e</style>", "<!-- g -->"]);
    }

    #[test]
    fn markup_is_tags_and_entities() {
        let text = "Tom&nbsp;&amp; <b>Jerry</b> & co; a<b && c";
        let markup: Vec<_> = markup(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(markup, ["&nbsp;", "&amp;", "<b>", "</b>"]);
    }

    proptest! {
        #[test]
        fn any_text_has_its_markup_in_order(text in "(<|>|&|;|/|-|!|script|b|p|\\PC){0,80}") {
            for ranges in [markup(&text), hidden(&text)] {
                let mut at = 0;
                for range in ranges {
                    prop_assert!(range.start >= at && text.get(range.clone()).is_some_and(|piece| !piece.is_empty()));
                    at = range.end;
                }
            }
        }
    }
}

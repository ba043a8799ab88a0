//! One spelling for each text, so that equal words are equal bytes.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Stands where characters were that are no text: white space that ends sentences, so that no answer runs over it.
pub(super) const GAP: char = '\u{b}';

/// Text in Unicode NFC, its lines ended by `\n`, and a gap in place of each control character.
///
/// Words are never changed, so that a sentence taken from the result is word for word what was fed.
#[must_use]
pub fn normalise(text: &str) -> String {
    let composed: Cow<'_, str> = match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => text.into(),
        _ => text.nfc().collect::<String>().into(),
    };
    let mut out = String::with_capacity(composed.len());
    let mut chars = composed.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                chars.next_if_eq(&'\n');
                out.push('\n');
            }
            '\u{85}' | '\u{2028}' => out.push('\n'),
            '\u{2029}' | '\u{c}' => out.push_str("\n\n"),
            '\n' | '\t' => out.push(c),
            // The byte order mark says nothing at the beginning of a text.
            '\u{feff}' if out.is_empty() => {}
            c if c.is_control() || c == '\u{feff}' => out.push(GAP),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accent_is_one_with_its_letter() {
        assert_eq!(normalise("cafe\u{301}"), "café");
    }

    #[test]
    fn every_line_end_is_one_newline() {
        assert_eq!(normalise("a\r\nb\rc\u{2028}d\ne"), "a\nb\nc\nd\ne");
    }

    #[test]
    fn control_characters_part_words_and_vanish() {
        assert_eq!(normalise("\u{feff}a\0b\u{1b}c"), "a\u{b}b\u{b}c");
    }
}
